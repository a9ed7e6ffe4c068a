"""Time of a whole deblurring, stage by stage, for every configuration, with peak memory.

    python benchmarks/runtime.py [--device cuda] [--configurations compact] [--types float32]

An image of 1024x768 is deblurred by randomly initialised networks (the time does not depend on the weights),
once with the operators of asnet and once, with the same weights, as plain torch operations: correlation by
FFTs of the whole image, convolutions and their modulation as separate operations, concatenation before the
1x1 convolution, transposed convolutions and un-pooling as torch has them. The two run in turn. Nothing is
timed whose result differs from that of plain torch by more than its dtype explains.

Results of other configurations and types in the output file are kept, so that a slow machine can measure them
one at a time. The paper reports 0.45 s for this size on a GTX 1080 Ti.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from measure import environment, summary, write_results
from torch import Tensor
from torch.nn import functional as F

from asnet.networks import DeblurNetwork, analysis, iterated_analysis, preset, synthesis
from asnet.networks.layers import UnpoolConvolution, UpConvolution

#: 1024x768 on a GTX 1080 Ti, section 4.
PAPER_SECONDS = 0.45

#: Largest error over largest value, against plain torch in float32.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.15}

STAGES = ("analysis", "synthesis", "total")


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
    stride: int = 1,
    padding: int = 0,
    activation: str | None = "relu",
) -> Tensor:
    """Convolution and modulation as separate operations."""
    return plain_modulation(F.conv2d(x, weight, bias, stride, padding), multiplier, shift, activation)


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


def plain_up_convolution(layer: UpConvolution, x: Tensor) -> Tensor:
    """The transposed convolution of torch, its surplus row and column cut off."""
    raised = F.conv_transpose2d(
        x, layer.weight, layer.bias, stride=2, padding=(layer.weight.shape[-1] - 2) // 2
    )
    return raised[:, :, : 2 * x.shape[2], : 2 * x.shape[3]]


def plain_unpool_convolution(layer: UnpoolConvolution, x: Tensor) -> Tensor:
    """Un-pooling and a convolution at the finer resolution."""
    return F.conv2d(F.interpolate(x, scale_factor=2), layer.weight, layer.bias, padding="same")


@contextmanager
def plain_torch() -> Iterator[None]:
    """Within it the networks compute by plain torch operations."""
    replaced: list[tuple[Any, str, Callable[..., Tensor]]] = [
        (analysis, "cross_correlation", plain_cross_correlation),
        (iterated_analysis, "cross_correlation", plain_cross_correlation),
        (iterated_analysis, "guided_conv2d", plain_guided_conv2d),
        (synthesis, "guided_conv2d", plain_guided_conv2d),
        (synthesis, "guided_pointwise_conv2d", plain_guided_pointwise_conv2d),
        (UpConvolution, "forward", plain_up_convolution),
        (UnpoolConvolution, "forward", plain_unpool_convolution),
    ]
    with ExitStack() as stack:
        for owner, name, plain in replaced:
            stack.enter_context(mock.patch.object(owner, name, plain))
        yield


@contextmanager
def own_operators() -> Iterator[None]:
    """The networks as they are."""
    yield


VARIANTS = {"asnet": own_operators, "plain torch": plain_torch}


class PeakMemory:
    """Largest memory in use within a `with` block beyond that at its beginning, in megabytes.

    On a CUDA device what torch allocated; otherwise resident memory of the process, looked up every few
    milliseconds (Linux only, elsewhere None).
    """

    INTERVAL_SECONDS = 0.005

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.megabytes: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._start = self._peak = 0.0

    def __enter__(self) -> "PeakMemory":
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._start = torch.cuda.memory_allocated(self.device)
        elif sys.platform == "linux":
            self._start = self._peak = self._resident()
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.device.type == "cuda":
            self._peak = torch.cuda.max_memory_allocated(self.device)
        elif sys.platform == "linux":
            self._stop.set()
            self._thread.join()
        else:
            return
        self.megabytes = round((self._peak - self._start) / 1e6, 1)

    def _watch(self) -> None:
        while not self._stop.wait(self.INTERVAL_SECONDS):
            self._peak = max(self._peak, self._resident())

    @staticmethod
    def _resident() -> float:
        pages = Path("/proc/self/statm").read_text().split()[1]
        return float(pages) * os.sysconf("SC_PAGE_SIZE")


def timed(device: torch.device, function: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Run a function and return its result and its wall time in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - start


def run_once(
    network: DeblurNetwork, blurred: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Return image, kernel and the seconds of each stage; bfloat16 means autocast."""
    device = blurred.device
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        kernel, analysis_seconds = timed(device, lambda: network.analysis(blurred))
        image, synthesis_seconds = timed(device, lambda: network.synthesis(blurred, kernel))
    total = analysis_seconds + synthesis_seconds
    return image, kernel, dict(zip(STAGES, (analysis_seconds, synthesis_seconds, total), strict=True))


def check_against_plain_torch(network: DeblurNetwork, blurred: Tensor, dtype: torch.dtype) -> None:
    """End the benchmark if kernel or image differ from those of plain torch in float32."""
    with plain_torch():
        expected_image, expected_kernel, _ = run_once(network, blurred, torch.float32)
    image, kernel, _ = run_once(network, blurred, dtype)
    for what, result, expected in (("kernel", kernel, expected_kernel), ("image", image, expected_image)):
        error = float((result - expected).abs().max() / expected.abs().max())
        if not error < TOLERANCES[dtype]:
            sys.exit(f"{network.config.name} {what} in {dtype}: wrong by {error:.2g} of its largest value")


def measure_configuration(
    name: str, dtype: torch.dtype, device: torch.device, size: tuple[int, int], repetitions: int
) -> dict[str, Any]:
    """Time both variants of one configuration in turn, after checking that they compute the same."""
    torch.manual_seed(0)
    network = DeblurNetwork(preset(name)).eval().to(device)
    coarse = torch.rand(1, 3, -(-size[0] // 8), -(-size[1] // 8), device=device)
    blurred = F.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    check_against_plain_torch(network, blurred[:, :, :256, :256], dtype)
    seconds: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    peaks: dict[str, float | None] = {}
    for _ in range(repetitions):
        for variant, context in VARIANTS.items():
            with context(), PeakMemory(device) as peak:
                seconds[variant].append(run_once(network, blurred, dtype)[2])
            peaks[variant] = peak.megabytes
    rows: dict[str, Any] = {
        variant: {
            "seconds": {stage: summary([run[stage] for run in runs]) for stage in STAGES},
            "peak_memory_megabytes": peaks[variant],
        }
        for variant, runs in seconds.items()
    }
    medians = {variant: rows[variant]["seconds"]["total"]["median"] for variant in VARIANTS}
    return {
        **rows,
        "speed_up": medians["plain torch"] / medians["asnet"],
        "seconds_over_paper": medians["asnet"] / PAPER_SECONDS,
    }


def print_rows(label: str, rows: dict[str, Any]) -> None:
    """Print one line for each variant."""
    for variant in VARIANTS:
        seconds = rows[variant]["seconds"]
        stages = "".join(f"{stage} {seconds[stage]['median']:8.3f} s  " for stage in STAGES)
        print(f"{label:20s}{variant:13s}{stages}peak {rows[variant]['peak_memory_megabytes']} MB", flush=True)


def main() -> None:
    """Parse the options, measure, print a table and write the results."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--configurations", nargs="+", default=["paper", "official", "compact"])
    parser.add_argument(
        "--types", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"]
    )
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--height", type=int, default=768)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--output", type=Path, help="default: results/runtime_DEVICE.json beside this file")
    options = parser.parse_args()
    device = torch.device(options.device)
    output = options.output or Path(__file__).parent / "results" / f"runtime_{device.type}.json"
    results = json.loads(output.read_text())["results"] if output.is_file() else {}
    size = f"{options.width}x{options.height}"
    with torch.inference_mode():
        for name in options.configurations:
            for type_name in options.types:
                dtype = getattr(torch, type_name)
                rows = measure_configuration(
                    name, dtype, device, (options.height, options.width), options.repetitions
                )
                print_rows(f"{name} {type_name}", rows)
                results[f"{name} {type_name} {size}"] = rows
                report = {"environment": environment(), "paper_seconds": PAPER_SECONDS, "results": results}
                write_results(output, report)


if __name__ == "__main__":
    main()
