"""The kernel's normal equations against the sums and matrices that they stand for."""

import torch

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.data.degradation import blur
from asnet.networks.kernel_equations import (
    correlate_gradients,
    gradient_threshold,
    strong_gradients,
)
from asnet.ops import toeplitz_solve


def test_correlations_are_the_sums_of_the_formula() -> None:
    generator = torch.Generator().manual_seed(2)
    predicted, blurred = (torch.randn(2, 2, 9, 8, dtype=torch.float64, generator=generator) for _ in range(2))
    size = 5
    result = correlate_gradients(predicted, blurred, size)

    def lag(first: torch.Tensor, second: torch.Tensor, t: int, s: int) -> torch.Tensor:
        """Sum of first(y - t, x - s) second(y, x), zero outside."""
        moved = torch.zeros_like(first)
        height, width = first.shape[2:]
        ys, xs = slice(max(t, 0), height + min(t, 0)), slice(max(s, 0), width + min(s, 0))
        ym, xm = slice(max(-t, 0), height + min(-t, 0)), slice(max(-s, 0), width + min(-s, 0))
        moved[:, :, ys, xs] = first[:, :, ym, xm]
        return (moved * second).sum((1, 2, 3))

    for t in range(-4, 5):
        for s in range(-4, 5):
            torch.testing.assert_close(result.predicted[:, 4 + t, 4 + s], lag(predicted, predicted, t, s))
            torch.testing.assert_close(result.blurred[:, 4 + t, 4 + s], lag(blurred, blurred, t, s))
            if max(abs(t), abs(s)) <= 2:
                torch.testing.assert_close(result.mixed[:, 2 + t, 2 + s], lag(predicted, blurred, t, s))


def test_true_gradients_give_the_true_kernel() -> None:
    generator = torch.Generator().manual_seed(4)
    kernel = sample_blur_kernels(1, BlurKernelConfig(canvas=9, minimum_size=7), generator=generator).double()
    sharp = torch.randn(1, 2, 160, 160, dtype=torch.float64, generator=generator)
    observed = torch.cat([blur(channel, kernel) for channel in sharp.split(1, dim=1)], dim=1)
    correlations = correlate_gradients(sharp[..., 4:-4, 4:-4], observed, 9)
    solution = toeplitz_solve(correlations.predicted, correlations.mixed, 1e-3, 60)
    assert (solution - kernel).norm() < 0.1 * kernel.norm()


def test_every_quarter_of_the_directions_keeps_its_gradients() -> None:
    generator = torch.Generator().manual_seed(3)
    angle = 2 * torch.pi * torch.rand(1, 50, 60, generator=generator)
    strength = torch.rand(1, 50, 60, generator=generator) * torch.where(angle.sin().abs() > 0.7, 1.0, 0.2)
    gradients = torch.stack([strength * angle.cos(), strength * angle.sin()], dim=1)
    threshold = gradient_threshold(gradients, 3)
    kept = strong_gradients(gradients, threshold)
    horizontal, vertical = kept[0].flatten(1)
    for steep in (False, True):
        for rising in (False, True):
            quarter = (vertical.abs() > horizontal.abs()) == steep
            quarter &= (horizontal * vertical >= 0) == rising
            assert int((quarter & (horizontal != 0)).sum()) >= 60
    assert int((kept.square().sum(1) > 0).sum()) < 3000


def test_a_threshold_above_all_gradients_keeps_the_strongest() -> None:
    gradients = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    kept = strong_gradients(gradients, torch.full((2,), 1e6))
    assert (kept.square().sum(1).flatten(1).amax(1) == gradients.square().sum(1).flatten(1).amax(1)).all()
