"""Runs every operator with CUDA kernels once, on small odd shapes, against its reference.

    compute-sanitizer --tool memcheck --error-exitcode 1 python benchmarks/gpu_exercise.py

Kernels run a hundred times slower under compute-sanitizer, so the operators' own tests would take an hour.
The sizes end within tiles, packs and warps, where invalid accesses are likely.
"""

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from asnet.ops import (
    cross_correlation,
    guided_conv2d,
    guided_modulation,
    guided_pointwise_conv2d,
    reference,
    sparse_latent,
    toeplitz_solve,
)

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
FORMATS = (torch.contiguous_format, torch.channels_last)

#: Relative to the largest value: sums of at most 1000 products of rounded inputs.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}

Outcome = tuple[str, torch.dtype, Tensor, Tensor]


def correlations(device: torch.device) -> Iterator[Outcome]:
    """Both methods and boundaries, forward and backward."""
    for dtype, method, boundary in itertools.product(DTYPES, ("direct", "spectral"), ("zero", "circular")):
        # Near the size at which the error of a sum of this many products reaches the tolerance.
        features = (torch.randn(2, 5, 33, 37, device=device) / 6).to(dtype)
        ours, exact = (features.to(to).requires_grad_() for to in (dtype, torch.float64))
        result = cross_correlation(ours, (3, 5), method=method, boundary=boundary)  # type: ignore[arg-type]
        expected = reference.cross_correlation(exact, (3, 5), boundary=boundary)
        name = f"cross_correlation {method} {boundary}"
        yield name, dtype, result.detach().flatten().double(), expected.detach().flatten()
        weights = torch.randn_like(expected)
        (gradient,) = torch.autograd.grad(result, ours, weights.to(dtype))
        (truth,) = torch.autograd.grad(expected, exact, weights.to(dtype).double())
        yield f"{name} backward", dtype, gradient.flatten().double(), truth.flatten()


def guided(device: torch.device) -> Iterator[Outcome]:
    """Modulation forward and backward, the two convolutions forward."""
    for dtype, layout in itertools.product(DTYPES, FORMATS):
        x, other = (
            torch.randn(2, 19, 9, 13, device=device).to(dtype).to(memory_format=layout) for _ in range(2)
        )
        multiplier, shift = (torch.randn(2, 19, device=device).to(dtype) for _ in range(2))
        bias = torch.randn(19, device=device).to(dtype)
        ours, exact = (x.detach().to(to).requires_grad_() for to in (dtype, torch.float64))
        result = guided_modulation(ours, multiplier, shift, conv_bias=bias)
        expected = reference.guided_modulation(
            exact, multiplier.double(), shift.double(), conv_bias=bias.double()
        )
        name = str(layout).removeprefix("torch.")
        yield f"guided_modulation {name}", dtype, result.detach().double(), expected.detach()
        weights = torch.randn_like(expected).to(dtype)
        (gradient,) = torch.autograd.grad(result, ours, weights)
        (truth,) = torch.autograd.grad(expected, exact, weights.double())
        # Where the sum before the ReLU is zero up to rounding, either result is right.
        decided = (expected.detach() > 0) == (result.detach() > 0)
        yield f"guided_modulation {name} backward", dtype, (gradient.double() * decided), truth * decided
        pointwise = (torch.randn(21, 38, device=device) / 6).to(dtype)
        square = (torch.randn(21, 19, 3, 3, device=device) / 13).to(dtype)
        guides = [torch.randn(*size, device=device).to(dtype) for size in ((21,), (2, 21), (2, 21))]
        doubles = [guide.double() for guide in guides]
        with torch.no_grad():
            yield (
                f"guided_pointwise_conv2d {name}",
                dtype,
                guided_pointwise_conv2d(x, other, pointwise, *guides).double(),
                reference.guided_pointwise_conv2d(x.double(), other.double(), pointwise.double(), *doubles),
            )
            yield (
                f"guided_conv2d {name}",
                dtype,
                guided_conv2d(x, square, *guides, padding=1).double(),
                reference.guided_conv2d(x.double(), square.double(), *doubles, padding=1),
            )


def latent_images(device: torch.device) -> Iterator[Outcome]:
    """One step, so that rounding does not decide whether a gradient is above the threshold."""
    cases = itertools.product((torch.float32, torch.float64), (False, True), (None, 0.7))
    for dtype, clips, ground in cases:
        padded = torch.rand(2, 1, 15, 135, device=device).to(dtype)
        kernel = torch.rand(2, 5, 5, device=device).to(dtype)
        kernel = kernel / kernel.sum((1, 2), keepdim=True)
        clipped = padded > 0.8 if clips else None

        options: dict[str, Any] = {"clipped": clipped, "brightest": 1.4, "ground": ground}

        def solve(
            function: Any, *tensors: Tensor, options: dict[str, Any] = options
        ) -> tuple[Tensor, Tensor]:
            found: tuple[Tensor, Tensor] = function(*tensors, 0.05, beta=0.5, growth=2.0, steps=1, **options)
            return found

        results = solve(sparse_latent, padded, kernel)
        expected = solve(reference.sparse_latent, padded.double(), kernel.double())
        for name, result, truth in zip(("latent", "observed"), results, expected, strict=True):
            yield f"sparse_latent {name}, clipped {clips}, ground {ground}", dtype, result.double(), truth


def systems(device: torch.device) -> Iterator[Outcome]:
    """Of one block, and of a launch for each step; few steps, which amplify no rounding."""
    for dtype, size in itertools.product((torch.float32, torch.float64), (13, 45)):
        signal = torch.randn(2, 40, 50, device=device, dtype=torch.float64)
        lengths = (40 + 2 * size, 50 + 2 * size)
        power = torch.fft.rfft2(signal, s=lengths).abs().square() / signal[0].numel()
        lags = torch.fft.irfft2(power, s=lengths).roll((size - 1, size - 1), (1, 2))
        lags = lags[:, : 2 * size - 1, : 2 * size - 1].to(dtype)
        right = torch.rand(2, size, size, device=device).to(dtype)
        for support in (None, torch.rand(2, size, size, device=device) < 0.7):
            result = toeplitz_solve(lags, right, 0.5, 2, support)
            expected = reference.toeplitz_solve(lags.double(), right.double(), 0.5, 2, support)
            name = f"toeplitz_solve {size}, support {support is not None}"
            yield name, dtype, result.double(), expected


def main() -> None:
    """Run everything; exit with 1 if a result is wrong."""
    if not torch.cuda.is_available():
        sys.exit("no CUDA device: torch.cuda.is_available() is False")
    # torch's float32 convolutions must be as exact as ours.
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    device, wrong, count = torch.device("cuda"), 0, 0
    for name, dtype, result, expected in itertools.chain(
        correlations(device), guided(device), latent_images(device), systems(device)
    ):
        off = float((result - expected).abs().max() / expected.abs().max())
        count += 1
        if not off <= TOLERANCES[dtype]:
            wrong += 1
            print(f"{name} {dtype}: off by {off:.2e} of the largest value, allowed {TOLERANCES[dtype]:.0e}")
    torch.cuda.synchronize()
    print(f"{count - wrong} of {count} results agree with their references")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
