"""Time of the latent images of one scale against the same steps by torch's transforms and operations.

    python benchmarks/sparse_latent.py [--threads 1] [--repeats 9] [--only clipped]

The scales are those of the analysis of `compact` at 1024x768. Results are compared in float64: in float32, a
gradient at the threshold may fall on either side, which changes the pixels around it.
"""

import sys
from collections.abc import Callable, Iterator

import torch
from measure import Case, Contender, arguments, deviation, measure_against_torch, with_device
from torch import Tensor
from torch.nn import functional as F

from asnet.networks.latent_image import BRIGHTEST, FIRST_BETA, BlurredScale, latent_steps
from asnet.networks.wiener import transfer_function
from asnet.ops import sparse_latent

#: Height, width and side of the kernel.
SCALES = [(48, 64, 5), (96, 128, 13), (192, 256, 27), (384, 512, 45), (768, 1024, 45)]
STRENGTH = 3e-3
GOAL = "faster than torch at every scale"

Solve = Callable[[BlurredScale, Tensor], tuple[Tensor, Tensor]]


def by_asnet(scale: BlurredScale, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Solve by the operator that the analysis calls."""
    return sparse_latent(
        scale.limit,
        kernel,
        STRENGTH,
        beta=FIRST_BETA * STRENGTH,
        growth=2.0,
        steps=latent_steps(STRENGTH),
        observed=scale.padded,
        clipped=scale.unknown,
        brightest=BRIGHTEST,
    )


def by_torch(scale: BlurredScale, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Do the same steps, each of which reads and writes every value of an image many times."""
    observed = scale.padded
    size = (observed.shape[2], observed.shape[3])
    prior = _difference_power(observed)
    transfer = transfer_function(kernel, *size)[:, None]
    adjoint = transfer.conj()
    power = transfer.real.square() + transfer.imag.square()
    matched = adjoint * torch.fft.rfft2(observed)
    latent, beta = observed, FIRST_BETA * STRENGTH
    for _ in range(latent_steps(STRENGTH)):
        pull = torch.fft.rfft2(_sparse_divergence(latent, STRENGTH / beta))
        spectrum = pull.mul_(beta).add_(matched).div_(torch.add(power, prior, alpha=beta))
        latent = torch.fft.irfft2(spectrum, s=size)
        predicted = torch.fft.irfft2(transfer * spectrum, s=size).clamp_(max=BRIGHTEST)
        observed = torch.where(scale.unknown, torch.maximum(predicted, scale.limit), scale.limit)
        matched = adjoint * torch.fft.rfft2(observed)
        beta *= 2
    return latent, observed


def _difference_power(image: Tensor) -> Tensor:
    """Return |D|^2 of the first differences, like a spectrum of `torch.fft.rfft2`."""
    height, width = image.shape[2:]
    down = torch.fft.fftfreq(height, device=image.device, dtype=image.dtype)[:, None]
    across = torch.fft.rfftfreq(width, device=image.device, dtype=image.dtype)
    return 4 - 2 * torch.cos(2 * torch.pi * down) - 2 * torch.cos(2 * torch.pi * across)


def _sparse_divergence(image: Tensor, threshold: float) -> Tensor:
    horizontal = torch.roll(image, -1, 3).sub_(image)
    vertical = torch.roll(image, -1, 2).sub_(image)
    kept = torch.addcmul(horizontal.square(), vertical, vertical) >= threshold
    horizontal.mul_(kept)
    vertical.mul_(kept)
    divergence = torch.roll(horizontal, 1, 3).sub_(horizontal)
    return divergence.add_(torch.roll(vertical, 1, 2)).sub_(vertical)


def problem(
    height: int, width: int, size: int, clips: bool, dtype: torch.dtype, device: str
) -> tuple[BlurredScale, Tensor]:
    """Return a smooth image with some noise, and a kernel of a few strong weights."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 1, height // 8, width // 8, generator=random, dtype=torch.float64)
    image = F.interpolate(coarse, size=(height, width), mode="bilinear")
    image += 0.02 * torch.randn(image.shape, generator=random, dtype=torch.float64)
    kernel = torch.rand(1, size, size, generator=random, dtype=torch.float64) ** 8
    image, kernel = image.to(device), kernel.to(device)
    scale = BlurredScale.from_image(image.to(dtype), size, image > 0.9 if clips else None)
    return scale, (kernel / kernel.sum()).to(dtype)


def check(name: str, height: int, width: int, size: int, clips: bool, device: str) -> None:
    """Exit with a sentence if the results differ in float64."""
    scale, kernel = problem(height, width, size, clips, torch.float64, device)
    off = deviation(*([*solve(scale, kernel)] for solve in (by_torch, by_asnet)))
    if not off < 1e-9:
        sys.exit(f"{name}: asnet and torch deviate by {off:.2e} in float64; nothing was timed.")


def cases(device: str) -> Iterator[Case]:
    """Every case, built on demand."""
    for clips in (False, True):
        for height, width, size in SCALES:
            name = f"{width}x{height}, kernel {size}{', clipped' if clips else ''}"
            scale, kernel = problem(height, width, size, clips, torch.float32, device)

            def contender(
                label: str, solve: Solve, scale: BlurredScale = scale, kernel: Tensor = kernel
            ) -> Contender:
                return Contender(label, lambda: [*solve(scale, kernel)], tolerance=1.0)

            case = Case(name, [contender("asnet", by_asnet), contender("torch", by_torch)])
            check(name, height, width, size, clips, device)
            yield case


def main() -> None:
    """Measure the cases, print a table and a summary, write the results."""
    parser = arguments("Latent images of one scale against torch's operations.")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    options = parser.parse_args()
    name = with_device("sparse_latent", options.device)
    measure_against_torch(name, cases(options.device), options, goal=GOAL)


if __name__ == "__main__":
    main()
