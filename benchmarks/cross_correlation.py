"""asnet.ops.cross_correlation against three other implementations, at the levels of the released topology.

(a) the algorithm of the released code in torch operations: circular transforms of the whole image, all
    products, inverse transforms, crop; compared with ``boundary="circular"``;
(b) the same with zero padding;
(c) conv2d with the maps themselves as kernels, where that takes seconds rather than minutes.

``--crossing`` instead measures where the direct and the spectral method cross, and what "auto" chooses.
``--device cuda`` measures the CUDA kernels; its results have separate files.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measure import Case, Contender, arguments, measure, print_table, save, seconds_of, with_device
from torch import Tensor
from torch.nn import functional as F

from asnet.ops import cross_correlation

LEVELS = {
    "level 0": (768, 1024, 42),
    "level 1": (384, 512, 21),
    "level 2": (192, 256, 11),
    "level 3": (96, 128, 6),
}
CHANNELS = 32
# conv2d is omitted above this many multiply-adds: minutes on two cores.
MOST_FOR_CONV2D = 2e11


def whole_image(features: Tensor, lag: int, size: tuple[int, int]) -> Tensor:
    """One transform per map, all products at once, one inverse transform per pair, crop."""
    i, j = torch.triu_indices(features.shape[1], features.shape[1], device=features.device)
    spectra = torch.fft.rfft2(features, s=size)
    correlation = torch.fft.irfft2(spectra[:, j] * spectra[:, i].conj(), s=size)
    shifted = torch.roll(correlation, (lag, lag), (2, 3))
    return shifted[:, :, : 2 * lag + 1, : 2 * lag + 1]


def zero_padded(features: Tensor, lag: int) -> Tensor:
    """(b): padding by the largest lag keeps the ends of the image apart."""
    return whole_image(features, lag, (features.shape[2] + lag, features.shape[3] + lag))


def by_conv2d(features: Tensor, lag: int) -> Tensor:
    """(c): f_i, padded, is the image and f_j the kernel; conv2d correlates, which flips the lag's sign."""
    i, j = torch.triu_indices(features.shape[1], features.shape[1], device=features.device)
    padded = F.pad(features, (lag, lag, lag, lag))
    correlation = F.conv2d(padded.transpose(0, 1), features.transpose(0, 1))
    return correlation[i, j][None].flip(-2, -1)


def forward(function: Callable[[Tensor], Tensor], features: Tensor) -> list[Tensor]:
    return [function(features)]


def forward_backward(function: Callable[[Tensor], Tensor], features: Tensor, weights: Tensor) -> list[Tensor]:
    leaf = features.detach().requires_grad_()
    result = function(leaf)
    return [result, *torch.autograd.grad(result, leaf, weights)]


def level_cases(name: str, x: Tensor, lag: int) -> list[Case]:
    """Circular against (a), zero-padded against (b) and (c), forward and backward against (b)."""
    channels, height, width = x.shape[1:]
    weights = torch.randn(1, channels * (channels + 1) // 2, 2 * lag + 1, 2 * lag + 1, device=x.device)
    ours = partial(cross_correlation, max_lag=lag)
    circular = partial(cross_correlation, max_lag=lag, boundary="circular")
    released = partial(whole_image, lag=lag, size=(height, width))
    padded = partial(zero_padded, lag=lag)
    zero = [
        Contender("asnet", partial(forward, ours, x)),
        Contender("(b) zero-padded whole image", partial(forward, padded, x)),
    ]
    if channels**2 * (2 * lag + 1) ** 2 * height * width < MOST_FOR_CONV2D:
        zero.append(Contender("(c) conv2d", partial(forward, partial(by_conv2d, lag=lag), x)))
    both = {
        "asnet": partial(forward_backward, ours, x, weights),
        "(b) zero-padded, autograd": partial(forward_backward, padded, x, weights),
    }
    facts = {"maps": channels, "height": height, "width": width, "max_lag": lag}
    against_released = [
        Contender("asnet", partial(forward, circular, x)),
        Contender("(a) released", partial(forward, released, x)),
    ]
    return [
        Case(f"{name} circular", against_released, facts),
        Case(f"{name} zero", zero, facts),
        Case(f"{name} zero, forward + backward", [Contender(*item) for item in both.items()], facts),
    ]


def crossing(device: torch.device) -> list[dict[str, Any]]:
    """Best of four runs, in ms, of the direct, the spectral and the automatic method for increasing lags."""
    # On CUDA, the direct sums of 16-bit maps run on other units than those of float32; on the CPU, on the
    # same.
    dtypes = [torch.float32, torch.bfloat16] if device.type == "cuda" else [torch.float32]
    lags = (0, 1, 2, 3, 4, 6, 8, 12) + ((16, 21, 32, 42) if device.type == "cuda" else ())
    rows = []
    for shape in ((1, 32, 96, 128), (1, 32, 384, 512), (1, 2, 768, 1024), (8, 2, 256, 256)):
        for dtype in dtypes:
            x = torch.randn(shape, device=device).to(dtype)
            for lag in lags:
                row: dict[str, Any] = {"shape": list(shape), "dtype": str(dtype), "max_lag": lag}
                for method in ("direct", "spectral", "auto"):
                    run = partial(cross_correlation, x, lag, method=method)
                    row[f"{method}_ms"] = round(1e3 * min(seconds_of(run) for _ in range(4)), 3)
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
                rows.append(row)
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--channels", type=int, default=CHANNELS)
    parser.add_argument("--crossing", action="store_true", help="only the crossing point of the two methods")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    # (c) must be as exact as the others.
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    file = with_device("cross_correlation", device)
    if options.crossing:
        save(f"{file}_crossing", crossing(device))
        return
    results = []
    for level, (height, width, lag) in LEVELS.items():
        x = torch.randn(1, options.channels, height, width, device=device)
        for case in level_cases(level, x, lag):
            if options.only in case.name:
                results.append(measure(case, repeats=options.repeats, budget=options.budget))
                print_table(results[-1:])
    if not options.only:
        save(file, results)


if __name__ == "__main__":
    main()
