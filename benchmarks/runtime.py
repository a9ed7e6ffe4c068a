"""Time of a whole deblurring of 1024x768 pixels, compared with the 0.45 s that the paper reports.

    python benchmarks/runtime.py
    python benchmarks/runtime.py --plain --only "official float32"

On the CUDA device if there is one, else on the CPU, the released and the shipped topology are timed, each in
the type that is faster there. The networks are initialised at random (the time does not depend on the
weights). Their results are first compared, on a smaller image, with those of plain torch operations:
correlation by FFTs of the whole image, torch's convolutions, modulation and ReLU as separate operations,
concatenation before the 1x1 convolution, torch's transposed convolutions and un-pooling. ``--plain`` also
times these, at the full size and in turn with ours.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from measure import (
    Case,
    Contender,
    arguments,
    check,
    convolutions,
    measure,
    print_table,
    save,
    seconds_of,
)
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from asnet.networks import DeblurNetwork, analysis, layers, preset
from asnet.networks.guidance import Modulation
from asnet.networks.layers import Convolution, UnpoolConvolution, UpConvolution
from asnet.networks.synthesis_levels import DecoderLevel
from asnet.ops import modules
from asnet.ops.transform_conv2d import torch_conv2d

CONFIGURATIONS = ("paper", "official", "compact")
#: The released topology and the shipped one.
USUAL_CONFIGURATIONS = ("official", "compact")

#: On a GTX 1080 Ti, section 4.
PAPER_SECONDS, PAPER_SIZE = 0.45, "1024x768"

#: Height and width of the image for comparing results: large enough for the lags of the coarsest level.
CHECKED_SIZE = (288, 384)

#: Tolerances for plain torch; in bfloat16 both round at every layer, but differently.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.15}


def plain_cross_correlation(
    features: Tensor, max_lag: int | tuple[int, int], *, boundary: str = "zero", method: str = "auto"
) -> Tensor:
    """The released algorithm: FFTs of whole maps, all products, inverse FFTs, crop; boundary "zero" pads."""
    vertical, horizontal = (max_lag, max_lag) if isinstance(max_lag, int) else max_lag
    height, width = features.shape[2:]
    size = (height, width) if boundary == "circular" else (height + vertical, width + horizontal)
    spectra = torch.fft.rfft2(features.float(), s=size)
    first, second = torch.triu_indices(features.shape[1], features.shape[1], device=features.device)
    lags: Tensor = torch.fft.irfft2(spectra[:, first].conj() * spectra[:, second], s=size)
    rows = torch.arange(-vertical, vertical + 1, device=features.device) % size[0]
    columns = torch.arange(-horizontal, horizontal + 1, device=features.device) % size[1]
    window: Tensor = lags[:, :, rows][:, :, :, columns].to(features.dtype)
    return window


def plain_modulation(
    x: Tensor, multiplier: Tensor | None, shift: Tensor | None, activation: str | None
) -> Tensor:
    """Eq. 1 and the ReLU as separate operations."""
    if multiplier is not None:
        x = x * (1 + multiplier)[:, :, None, None]
    if shift is not None:
        x = x + shift[:, :, None, None]
    return F.relu(x) if activation == "relu" else x


def plain_guided_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    multiplier: Tensor | None,
    shift: Tensor | None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    activation: str | None = "relu",
    onto: Tensor | None = None,
) -> Tensor:
    """Convolution, modulation and addition as separate operations."""
    convolved = F.conv2d(x, weight, bias, stride, padding)
    if onto is None:
        return plain_modulation(convolved, multiplier, shift, activation)
    out = plain_modulation(convolved, multiplier, shift, None) + onto
    return F.relu(out) if activation == "relu" else out


def plain_guided_pointwise_conv2d(
    x1: Tensor,
    x2: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    multiplier: Tensor | None,
    shift: Tensor | None,
    *,
    activation: str | None = "relu",
) -> Tensor:
    """Concatenation, convolution and modulation as separate operations."""
    return plain_guided_conv2d(
        torch.cat([x1, x2], dim=1), weight, bias, multiplier, shift, activation=activation
    )


def plain_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    *,
    relu: bool = False,
) -> Tensor:
    """The convolution of torch, and a ReLU."""
    out = torch_conv2d(x, weight, bias, (stride, stride), padding)
    return F.relu(out) if relu else out


def plain_join(level: DecoderLevel, raised: Tensor, skip: Tensor, modulation: Modulation) -> Tensor:
    """The skip connection's convolution, concatenation, and the convolution of 1x1."""
    if level.skip is not None:
        skip = level.skip(skip)
    activation = None if level.linear else "relu"
    return plain_guided_pointwise_conv2d(
        raised, skip, level.merge.weight, level.merge.bias, *modulation, activation=activation
    )


def plain_up_convolution(layer: UpConvolution, x: Tensor) -> Tensor:
    """The transposed convolution of torch, its surplus row and column cut off."""
    raised = F.conv_transpose2d(
        x, layer.weight, layer.bias, stride=2, padding=(layer.weight.shape[-1] - 2) // 2
    )
    raised = raised[:, :, : 2 * x.shape[2], : 2 * x.shape[3]]
    return F.relu(raised) if layer.relu else raised


def plain_unpool_convolution(layer: UnpoolConvolution, x: Tensor) -> Tensor:
    """Un-pooling and a convolution at the finer resolution."""
    raised = F.conv2d(F.interpolate(x, scale_factor=2), layer.weight, layer.bias, padding="same")
    return F.relu(raised) if layer.relu else raised


@contextmanager
def plain_torch() -> Iterator[None]:
    """A context in which the networks use plain torch operations."""
    replaced: list[tuple[Any, str, Callable[..., Tensor]]] = [
        (analysis, "cross_correlation", plain_cross_correlation),
        # Not in the iterated analysis, which amplifies rounding: another order of sums gives another kernel.
        (modules, "guided_conv2d", plain_guided_conv2d),
        (layers, "conv2d", plain_conv2d),
        (DecoderLevel, "_join", plain_join),
        (analysis.Projection, "forward", Convolution.forward),
        (UpConvolution, "forward", plain_up_convolution),
        (UnpoolConvolution, "forward", plain_unpool_convolution),
    ]
    with ExitStack() as stack:
        for owner, name, plain in replaced:
            stack.enter_context(mock.patch.object(owner, name, plain))
        yield


def blurred_image(height: int, width: int, device: torch.device) -> Tensor:
    """A smooth random picture (1, 3, height, width)."""
    coarse = torch.rand(1, 3, -(-height // 8), -(-width // 8), generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1).to(device)


def blur_kernel(size: int, device: torch.device) -> Tensor:
    """A diagonal line (1, size, size)."""
    return torch.eye(size, device=device)[None] / size


def random_network(configuration: str, device: torch.device) -> DeblurNetwork:
    """A pair with a preset's topology, the same at every call."""
    torch.manual_seed(0)
    network = DeblurNetwork(preset(configuration)).eval().to(device)
    for parameter in network.parameters():
        # Layers that start at zero would hide errors of those before them.
        if parameter.dim() > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.01)
    return network


def cases(
    configuration: str, network: DeblurNetwork, dtype: torch.dtype, blurred: Tensor, *, plain: bool
) -> list[Case]:
    """Both stages of one configuration, bfloat16 as autocast; `plain`: with plain torch as a contender."""
    kernel = blur_kernel(network.config.synthesis.kernel_size, blurred.device)

    def run(stage: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
        with torch.autocast(blurred.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            return [stage(*inputs)]

    def run_plain(stage: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
        with plain_torch():
            return run(stage, *inputs)

    found = []
    stages: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
        "analysis": (network.analysis, (blurred,)),
        "synthesis": (network.synthesis, (blurred, kernel)),
    }
    for name, (stage, inputs) in stages.items():
        contenders = [Contender("asnet", partial(run, stage, *inputs))]
        if plain:
            contenders.append(Contender("plain torch", partial(run_plain, stage, *inputs), TOLERANCES[dtype]))
        facts = {"configuration": configuration, "dtype": str(dtype).removeprefix("torch."), "stage": name}
        found.append(Case(" ".join(facts.values()), contenders, facts))
    return found


def faster_type(configuration: str, network: DeblurNetwork, blurred: Tensor) -> torch.dtype:
    """The type in which both stages together take less time, in one run of each after a smaller one.

    Prints a line for each type.
    """
    small = blurred[..., : CHECKED_SIZE[0], : CHECKED_SIZE[1]]
    seconds = {}
    for dtype in TOLERANCES:
        for image in (small, blurred):
            stages = cases(configuration, network, dtype, image, plain=False)
            seconds[dtype] = sum(seconds_of(case.contenders[0].run) for case in stages)
        name = str(dtype).removeprefix("torch.")
        print(f"{configuration} {name}: {seconds[dtype]:.2f} s in one run, to choose the type", flush=True)
    return min(seconds, key=seconds.__getitem__)


def operator_shares(run: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Each operator's own share of the time of one run, from 1 % on, largest first."""
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with profile(activities=activities) as profiled:
        run()
    times = {
        event.key: event.self_device_time_total if on_cuda else event.self_cpu_time_total
        for event in profiled.key_averages()
    }
    total = sum(times.values())
    shares = {name: round(time / total, 3) for name, time in times.items() if time >= 0.01 * total}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def end_to_end(stages: list[dict[str, Any]], size: str) -> dict[str, Any]:
    """Sum of both stages' medians, in seconds, and for the paper's size the ratio to its time."""
    seconds = {
        contender: sum(stage["contenders"][contender]["median_ms"] for stage in stages) / 1e3
        for contender in stages[0]["contenders"]
    }
    total = {
        "configuration": stages[0]["configuration"],
        "dtype": stages[0]["dtype"],
        "seconds": seconds,
    }
    if size == PAPER_SIZE:
        total["over_paper"] = seconds["asnet"] / PAPER_SECONDS
    if "plain torch" in seconds:
        total["ratio"] = seconds["plain torch"] / seconds["asnet"]
    return total


def sentence(total: dict[str, Any]) -> str:
    """Summary of one configuration in a sentence."""
    words = f"{total['configuration']} {total['dtype']}: {total['seconds']['asnet']:.3f} s"
    if "over_paper" in total:
        over = total["over_paper"]
        met = "met" if over <= 1 else f"not met, {over:.1f} times as long"
        words += f"; the paper's {PAPER_SECONDS} s (GTX 1080 Ti): {met}"
    if "ratio" in total:
        words += f"; plain torch {total['seconds']['plain torch']:.3f} s, {total['ratio']:.2f} times ours"
    return words


def selected(only: str, blurred: Tensor) -> Iterator[tuple[str, DeblurNetwork, torch.dtype]]:
    """Configurations and types: the usual ones, or all that have a stage whose name contains `only`."""
    for configuration in CONFIGURATIONS if only else USUAL_CONFIGURATIONS:
        network = random_network(configuration, blurred.device)
        if not only:
            yield configuration, network, faster_type(configuration, network, blurred)
            continue
        for dtype in TOLERANCES:
            if any(only in case.name for case in cases(configuration, network, dtype, blurred, plain=False)):
                yield configuration, network, dtype


def main() -> None:
    """Measure, print a line for each row and a sentence for each network, write the results."""
    parser = arguments(str(__doc__).splitlines()[0])
    parser.set_defaults(repeats=3)
    parser.add_argument("--device", default="", help="cpu, cuda or cuda:N; otherwise CUDA where there is one")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--height", type=int, default=768)
    parser.add_argument(
        "--plain", action="store_true", help="also time the networks in plain torch operations"
    )
    parser.add_argument("--operators", action="store_true", help="also show the share of every operator")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    blurred = blurred_image(options.height, options.width, device)
    checked = blurred_image(*CHECKED_SIZE, device)
    # A selection has a file of its own.
    file = "_".join([f"runtime_{device.type}", *options.only.split()])
    facts: dict[str, Any] = {
        "size": f"{options.width}x{options.height}",
        "paper_seconds": PAPER_SECONDS,
        **convolutions(),
    }
    results: list[dict[str, Any]] = []
    totals: list[dict[str, Any]] = []
    print(f"{facts['size']} pixels on {device}, {torch.get_num_threads()} threads of the CPU", flush=True)
    print("; ".join(f"{name}: {words}" for name, words in convolutions().items()), flush=True)
    with torch.inference_mode():
        for configuration, network, dtype in selected(options.only, blurred):
            for case in cases(configuration, network, dtype, checked, plain=True):
                check(case)
            stages = []
            for case in cases(configuration, network, dtype, blurred, plain=options.plain):
                if options.only not in case.name:
                    continue
                result = measure(case, repeats=options.repeats, budget=options.budget)
                print_table([result], heads=not results)
                if options.operators:
                    shares = operator_shares(case.contenders[0].run, device)
                    print("  ".join(f"{name} {share:.0%}" for name, share in shares.items()), flush=True)
                    result["operator_shares"] = shares
                results.append(result)
                stages.append(result)
            if len(stages) == 2:
                totals.append(end_to_end(stages, facts["size"]))
                print(sentence(totals[-1]), flush=True)
            save(file, results, **facts, end_to_end=totals)
    print("written to", f"{file}.json")


if __name__ == "__main__":
    main()
