"""Time of the normal equations of a blur kernel against the same steps by torch's transforms and operations.

python benchmarks/toeplitz_solve.py [--device cuda] [--threads 1] [--repeats 9]
"""

from collections.abc import Iterator
from typing import cast

import torch
from measure import Case, Contender, arguments, measure_against_torch, with_device
from torch import Tensor
from torch.nn import functional as F

from asnet.networks.wiener import fast_fft_length
from asnet.ops import toeplitz_solve

#: Sides of the analysis's kernels, from its coarsest scale to its finest, and the largest there are.
SIDES = [5, 9, 13, 19, 27, 37, 45, 101]
WEIGHT, STEPS = 100.0, 20
GOAL = "faster than torch at every size"


def by_torch(lags: Tensor, right: Tensor) -> Tensor:
    """Do the same steps."""
    size = right.shape[-1]
    length = fast_fft_length(2 * size - 1)
    padded = F.pad(lags, (0, length - 2 * size + 1, 0, length - 2 * size + 1))
    spectrum = torch.fft.rfft2(torch.roll(padded, (1 - size, 1 - size), (-2, -1)))

    def apply(kernel: Tensor) -> Tensor:
        product = torch.fft.rfft2(kernel, s=(length, length)) * spectrum
        return (
            cast(Tensor, torch.fft.irfft2(product, s=(length, length)))[..., :size, :size] + WEIGHT * kernel
        )

    def energy_of(values: Tensor) -> Tensor:
        return values.square().sum((-2, -1), keepdim=True)

    solution = torch.full_like(right, 1 / size**2)
    residual = right - apply(solution)
    direction, energy = residual, energy_of(residual)
    tiny = torch.finfo(energy.dtype).tiny
    for _ in range(STEPS):
        product = apply(direction)
        step = energy / (direction * product).sum((-2, -1), keepdim=True).clamp(min=tiny)
        solution = solution + step * direction
        residual = residual - step * product
        left = energy_of(residual)
        direction = residual + left / energy.clamp(min=tiny) * direction
        energy = left
    return solution


def problem(side: int, device: str) -> tuple[Tensor, Tensor]:
    """Return the autocorrelation of a signal and its correlation with the blurred signal."""
    random = torch.Generator().manual_seed(side)
    signal = torch.randn(1, 300, 400, generator=random)
    kernel = torch.rand(1, side, side, generator=random) ** 8
    size = (fast_fft_length(300 + 2 * side), fast_fft_length(400 + 2 * side))
    power = torch.fft.rfft2(signal, s=size).abs().square()
    blurred = power * torch.fft.rfft2(kernel / kernel.sum(), s=size)
    lags = torch.fft.irfft2(power, s=size).roll((side - 1, side - 1), (1, 2))
    right = torch.fft.irfft2(blurred, s=size)
    cropped = (lags[:, : 2 * side - 1, : 2 * side - 1], right[:, :side, :side])
    return cropped[0].contiguous().to(device), cropped[1].contiguous().to(device)


def cases(device: str) -> Iterator[Case]:
    """Every case, built on demand."""
    for side in SIDES:
        lags, right = problem(side, device)

        def by_asnet(lags: Tensor = lags, right: Tensor = right) -> list[Tensor]:
            return [toeplitz_solve(lags, right, WEIGHT, STEPS)]

        def of_torch(lags: Tensor = lags, right: Tensor = right) -> list[Tensor]:
            return [by_torch(lags, right)]

        yield Case(f"kernel of {side}x{side}", [Contender("asnet", by_asnet), Contender("torch", of_torch)])


def main() -> None:
    """Measure the cases, print a table and a summary, write the results."""
    parser = arguments("The normal equations of a blur kernel against torch's operations.")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    options = parser.parse_args()
    name = with_device("toeplitz_solve", options.device)
    measure_against_torch(name, cases(options.device), options, goal=GOAL)


if __name__ == "__main__":
    main()
