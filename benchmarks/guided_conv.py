"""Time of the guided convolutions against the same arithmetic as separate torch operations.

    python benchmarks/guided_conv.py [--device cuda] [--threads 1] [--repeats 9] [--only epilogue]

Contiguous and channels-last, in float32 and bfloat16, forward, and forward with backward to every argument:

- the epilogue, ``relu((x + c) * (1 + m) + b)``, against four torch operations; for comparison, forward,
  ``clone``, the minimum cost of an operation that reads its input once and writes a new output;
- `guided_conv2d`, 3x3, one blur kernel (without gradients it folds), against convolution, multiplication,
  addition, ReLU;
- `guided_pointwise_conv2d` against concatenation, convolution, multiplication, addition, ReLU.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from measure import Case, Contender, arguments, geometric_mean, measure, print_table, save, with_device
from torch import Tensor
from torch.nn import functional as F

from asnet.ops import guided_conv2d, guided_modulation, guided_pointwise_conv2d

#: N, C, H, W: levels of the compact and the released topology, and of a crop of training.
SHAPES = [(1, 32, 384, 512), (1, 128, 192, 256), (1, 128, 96, 128), (4, 32, 128, 128), (4, 128, 32, 32)]
FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
#: The finest level of the released topology, only on CUDA.
FINEST = (1, 128, 768, 1024)
#: In bfloat16 each separate operation rounds: their summed gradients are off by up to a tenth of the largest.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.25}
GOAL = "the epilogue: a ratio of 2, forward and backward"

Function = Callable[..., Tensor]


def eager_modulation(x: Tensor, multiplier: Tensor, shift: Tensor) -> Tensor:
    """The epilogue of a convolution with bias, as separate operations."""
    return torch.relu(x * (1 + multiplier)[:, :, None, None] + shift[:, :, None, None])


def random_like(x: Tensor, *shape: int) -> Tensor:
    """Normal numbers on the device of x."""
    return torch.randn(shape, device=x.device)


def epilogue(x: Tensor) -> tuple[Function, Function, Sequence[Tensor]]:
    """Ours, the separate operations, their arguments."""
    N, C = x.shape[:2]

    def ours(x: Tensor, multiplier: Tensor, shift: Tensor, bias: Tensor) -> Tensor:
        return guided_modulation(x, multiplier, shift, conv_bias=bias)

    def eager(x: Tensor, multiplier: Tensor, shift: Tensor, bias: Tensor) -> Tensor:
        return eager_modulation(x + bias[:, None, None], multiplier, shift)

    return ours, eager, (x, random_like(x, N, C), random_like(x, N, C), random_like(x, C))


def convolution(x: Tensor) -> tuple[Function, Function, Sequence[Tensor]]:
    """A 3x3 convolution to as many maps, guided by one blur kernel."""
    C = x.shape[1]

    def ours(x: Tensor, weight: Tensor, bias: Tensor, multiplier: Tensor, shift: Tensor) -> Tensor:
        return guided_conv2d(x, weight, bias, multiplier, shift, padding=1)

    def eager(x: Tensor, weight: Tensor, bias: Tensor, multiplier: Tensor, shift: Tensor) -> Tensor:
        return eager_modulation(F.conv2d(x, weight, bias, padding=1), multiplier, shift)

    weight = random_like(x, C, C, 3, 3) / (3 * C**0.5)
    return ours, eager, (x, weight, random_like(x, C), random_like(x, 1, C), random_like(x, 1, C))


def pointwise(x: Tensor) -> tuple[Function, Function, Sequence[Tensor]]:
    """A 1x1 convolution of two inputs to as many maps as one of them has."""
    N, C = x.shape[:2]

    def eager(
        x1: Tensor, x2: Tensor, weight: Tensor, bias: Tensor, multiplier: Tensor, shift: Tensor
    ) -> Tensor:
        return eager_modulation(F.conv2d(torch.cat([x1, x2], dim=1), weight, bias), multiplier, shift)

    weight = random_like(x, C, 2 * C, 1, 1) / (2 * C) ** 0.5
    guides = (random_like(x, C), random_like(x, N, C), random_like(x, N, C))
    return guided_pointwise_conv2d, eager, (x, torch.randn_like(x), weight, *guides)


def forward(function: Function, values: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    """The function without gradients."""

    def run() -> list[Tensor]:
        with torch.no_grad():
            return [function(*values)]

    return run


def with_backward(
    function: Function, values: Sequence[Tensor], upstream: Tensor
) -> Callable[[], list[Tensor]]:
    """The function and its backward pass to all arguments.

    In bfloat16 the gradients of feature maps are not compared: where a sum is close to zero, rounding decides
    whether the ReLU lets an element through.
    """

    def run() -> list[Tensor]:
        gradients = torch.autograd.grad(function(*values), values, upstream)
        return [g for g in gradients if g.dtype == torch.float32 or g.shape != values[0].shape]

    return run


def cases(device: torch.device) -> Iterator[Case]:
    """Every case, built on demand."""
    shapes = (*SHAPES, FINEST) if device.type == "cuda" else SHAPES
    for build, shape, dtype, layout in itertools.product(
        (epilogue, convolution, pointwise), shapes, TOLERANCES, FORMATS
    ):
        torch.manual_seed(0)
        ours, eager, values = build(torch.randn(shape, device=device).to(memory_format=FORMATS[layout]))
        values = [value.to(dtype).requires_grad_() for value in values]
        precision, tolerance = str(dtype).removeprefix("torch."), TOLERANCES[dtype]
        facts = {"operator": build.__name__, "shape": list(shape), "dtype": precision, "layout": layout}
        name = f"{build.__name__} {'x'.join(map(str, shape))} {precision} {layout}"
        contenders = [
            Contender("asnet", forward(ours, values)),
            Contender("separate operations", forward(eager, values), tolerance),
        ]
        if build is epilogue:
            contenders.append(Contender("clone", forward(torch.clone, values[:1]), float("inf")))
        yield Case(f"{name} forward", contenders, facts | {"backward": False})
        upstream = torch.randn_like(ours(*values))
        yield Case(
            f"{name} with backward",
            [
                Contender("asnet", with_backward(ours, values, upstream)),
                Contender("separate operations", with_backward(eager, values, upstream), tolerance),
            ],
            facts | {"backward": True},
        )


def main() -> None:
    """Measure the cases, print a table and a summary, write the results."""
    parser = arguments("Guided convolutions against separate torch operations.")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    # cuDNN's default for float32 is TF32, which is less accurate than ours and not comparable with it.
    torch.backends.cudnn.allow_tf32 = False
    results = []
    for case in cases(device):
        if options.only in case.name:
            results.append(measure(case, repeats=options.repeats, budget=options.budget))
            print_table(results[-1:])
    ratios: dict[str, list[float]] = {}
    for result in results:
        what = f"{result['operator']} {'with backward' if result['backward'] else 'forward'}"
        for name, row in result["contenders"].items():
            if name == "separate operations":
                ratios.setdefault(what, []).append(row["ratio"])
            elif name not in ("asnet", "clone"):
                ratios.setdefault(f"{what}, {name}", []).append(row["ratio"])
    summary = {}
    for what, values in ratios.items():
        mean = geometric_mean(values)
        summary[what] = {"least_ratio": min(values), "mean_ratio": round(mean, 2), "cases": len(values)}
        print(f"{what:45s} {mean:.2f} times the time of asnet on average")
    # Selections, and GPUs, have separate files.
    name = "_".join([with_device("guided_conv", device), *options.only.split()])
    print("written to", save(name, results, goal=GOAL, summary=summary).name)


if __name__ == "__main__":
    main()
