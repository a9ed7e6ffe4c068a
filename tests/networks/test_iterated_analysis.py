"""The iterated analysis: its parts do what their formulas say, and its losses teach every parameter."""

import pytest
import torch

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.data.degradation import blur
from asnet.errors import ConfigurationError
from asnet.evaluation.metrics import kernel_similarity
from asnet.networks.iterated_analysis import (
    IteratedAnalysisNetwork,
    resize_kernel,
    solve_kernel,
)
from asnet.networks.iterated_analysis_configuration import IteratedAnalysisConfig

SMALL = IteratedAnalysisConfig(kernel_size=9, rounds=2, finest_rounds=1, refiner_channels=4, refiner_size=3)


def random_image(seed: int, height: int = 40, width: int = 44, channels: int = 3) -> torch.Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(seed))


def perturbed(network: IteratedAnalysisNetwork) -> IteratedAnalysisNetwork:
    """Leave the initial state, in which the last layers are zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (64, 48)])
def test_kernels_are_positive_and_sum_to_one_for_any_image_size(height: int, width: int) -> None:
    network = perturbed(IteratedAnalysisNetwork(SMALL))
    kernel = network(random_image(1, height, width))
    assert kernel.shape == (2, 9, 9)
    assert (kernel > 0).all()
    torch.testing.assert_close(kernel.sum((1, 2)), torch.ones(2))


def test_images_of_a_batch_do_not_mix() -> None:
    network = perturbed(IteratedAnalysisNetwork(SMALL))
    images = random_image(2)
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), alone, atol=1e-5, rtol=1e-3)


def test_brightness_and_contrast_do_not_change_the_estimate() -> None:
    network = perturbed(IteratedAnalysisNetwork(SMALL))
    images = random_image(3)
    torch.testing.assert_close(network(0.4 * images + 0.3), network(images), atol=1e-5, rtol=1e-2)


def test_the_normal_equations_recover_a_kernel_from_its_correlations() -> None:
    generator = torch.Generator().manual_seed(4)
    kernel = sample_blur_kernels(1, BlurKernelConfig(canvas=9, minimum_size=7), generator=generator).double()
    sharp = torch.randn(1, 1, 80, 80, dtype=torch.float64, generator=generator)
    observed = blur(sharp, kernel)[0, 0]
    sharp = sharp[0, 0, 4:-4, 4:-4]
    inner = sharp[8:-8, 8:-8]

    def correlate(values: torch.Tensor, reach: int) -> torch.Tensor:
        """Sum of inner(x) values(x + lag) over the lags within `reach`, as the formula reads."""
        height, width = inner.shape
        return torch.stack(
            [
                torch.stack(
                    [
                        (inner * values[8 + t : 8 + t + height, 8 + s : 8 + s + width]).sum()
                        for s in range(-reach, reach + 1)
                    ]
                )
                for t in range(-reach, reach + 1)
            ]
        )[None]

    autocorrelation = correlate(sharp, 8)
    autocorrelation = (autocorrelation + autocorrelation.flip(1, 2)) / 2
    solution = solve_kernel(autocorrelation, correlate(observed, 4), 1e-6, 60)
    assert (solution - kernel).norm() < 0.1 * kernel.norm()


def test_solve_kernel_solves_the_damped_system() -> None:
    generator = torch.Generator().manual_seed(5)
    signal = torch.randn(12, 12, dtype=torch.float64, generator=generator)
    size = 5
    spectrum = torch.fft.fft2(signal, s=(24, 24)).abs().square()
    lags = torch.roll(torch.fft.ifft2(spectrum).real, (size - 1, size - 1), (0, 1))[
        : 2 * size - 1, : 2 * size - 1
    ]
    right = torch.randn(1, size, size, dtype=torch.float64, generator=generator)
    damping = 0.1
    positions = [(y, x) for y in range(size) for x in range(size)]
    matrix = torch.tensor(
        [[lags[y - v + size - 1, x - u + size - 1].item() for v, u in positions] for y, x in positions],
        dtype=torch.float64,
    )
    peak = lags[size - 1, size - 1]
    expected = torch.linalg.solve(
        matrix + damping * peak * torch.eye(size * size, dtype=torch.float64), right.flatten()
    )
    solution = solve_kernel(lags[None], right, damping, 40)
    # The steps end where the residual reaches the square of the floor that keeps divisions finite.
    assert (solution.flatten() - expected).norm() < 1e-4 * expected.norm()


def test_resized_kernels_keep_sum_and_centre() -> None:
    generator = torch.Generator().manual_seed(6)
    kernels = sample_blur_kernels(4, BlurKernelConfig(canvas=31, minimum_size=15), generator=generator)
    for size in (7, 15, 31, 43):
        resized = resize_kernel(kernels, size)
        torch.testing.assert_close(resized.sum((1, 2)), torch.ones(4))
        positions = torch.arange(size) - size // 2
        for axis in (1, 2):
            centroid = (resized.sum(axis) * positions).sum(1)
            assert (centroid.abs() < 0.1).all()


def test_a_loss_on_the_kernel_reaches_every_parameter() -> None:
    network = perturbed(IteratedAnalysisNetwork(SMALL))
    network(random_image(8)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_an_asymmetric_blur_is_told_from_its_flip_without_any_training() -> None:
    torch.manual_seed(0)
    network = IteratedAnalysisNetwork(IteratedAnalysisConfig(kernel_size=15))
    generator = torch.Generator().manual_seed(3)
    kernel = torch.zeros(1, 15, 15)
    kernel[0, 7, 3:9] = 1
    kernel[0, 3:8, 9] = 2
    kernel /= kernel.sum()
    # Patches of constant brightness: what a photograph's edges are made of.
    patches = torch.rand(1, 1, 24, 24, generator=generator)
    sharp = torch.nn.functional.interpolate(patches, scale_factor=12, mode="nearest")
    estimate = network(blur(sharp, kernel))
    assert kernel_similarity(estimate, kernel) > 0.7
    assert kernel_similarity(estimate, kernel) > kernel_similarity(estimate.flip(1, 2), kernel) + 0.1


def test_an_estimate_says_what_speaks_against_it() -> None:
    torch.manual_seed(0)
    network = IteratedAnalysisNetwork(IteratedAnalysisConfig(kernel_size=15))
    patches = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(3))
    sharp = torch.nn.functional.interpolate(patches, scale_factor=12, mode="nearest")
    line = torch.zeros(1, 15, 15)
    line[0, torch.arange(3, 12), torch.arange(3, 12)] = 1 / 9
    blurred = blur(sharp, line)
    both = network.estimate(torch.cat([sharp[..., 7:-7, 7:-7], blurred]))
    torch.testing.assert_close(both.kernel[1:], network(blurred), atol=1e-5, rtol=1e-3)
    assert both.sharp.tolist() == [True, False]
    assert both.contradictory.tolist() == [False, False]
    # A refiner that answers with a corner, whatever was solved.
    last = network.refiner.layers[-1]
    with torch.no_grad():
        last.weight.normal_(std=30)
    assert network.estimate(blurred).contradictory.tolist() == [True]


def test_what_is_not_usable_takes_no_part() -> None:
    torch.manual_seed(0)
    network = IteratedAnalysisNetwork(IteratedAnalysisConfig(kernel_size=15))
    patches = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(3))
    sharp = torch.nn.functional.interpolate(patches, scale_factor=12, mode="nearest")
    line = torch.zeros(1, 15, 15)
    line[0, torch.arange(3, 12), torch.arange(3, 12)] = 1 / 9
    blurred = blur(sharp, line)
    usable = torch.ones_like(blurred, dtype=torch.bool)
    # A hole in the photograph, with edges that no blur softened.
    usable[..., 80:180, 90:200] = False
    pierced = torch.where(usable, blurred, 0.0)
    estimate, misled = network.estimate(pierced, usable), network.estimate(pierced)
    assert not estimate.sharp
    assert misled.sharp
    assert kernel_similarity(estimate.kernel, line) > 2 * kernel_similarity(misled.kernel, line)
    nothing = network.estimate(pierced, torch.zeros_like(usable))
    assert nothing.contradictory
    assert nothing.kernel.isfinite().all()


def test_scales_grow_by_about_the_square_root_of_two() -> None:
    assert IteratedAnalysisConfig(kernel_size=31).scale_sizes == (5, 7, 11, 15, 21, 31)


@pytest.mark.parametrize(
    "values", [{"kernel_size": 8}, {"kernel_size": 3}, {"rounds": 0}, {"refiner_layers": 1}]
)
def test_unusable_sizes_are_named(values: dict[str, int]) -> None:
    name, value = next(iter(values.items()))
    with pytest.raises(ConfigurationError, match=f"{name}.*{value}"):
        IteratedAnalysisConfig(**values)
