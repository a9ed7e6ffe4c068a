"""Wiener deconvolution: inverts a known blur, keeps shapes, and does not ring at the image's border."""

from collections.abc import Callable

import pytest
import torch

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.data.degradation import blur
from asnet.errors import InputError
from asnet.networks.wiener import (
    Deconvolution,
    fast_fft_length,
    transfer_function,
    wiener_deconvolution,
)


def smooth_image(height: int, width: int, *, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Random structure of a few pixels' size, range [0, 1], with a slope so that opposite borders differ."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, channels, height // 4 + 2, width // 4 + 2, generator=generator)
    image = torch.nn.functional.interpolate(noise, size=(height, width), mode="bicubic").clamp(0, 1)
    return 0.5 * image + 0.5 * torch.linspace(0, 1, width)


def mean_squared_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean())


def test_a_delta_kernel_and_a_vanishing_strength_return_the_image() -> None:
    image = smooth_image(37, 50)
    kernel = torch.zeros(1, 7, 7)
    kernel[:, 3, 3] = 1
    restored = wiener_deconvolution(image, kernel, (1e-7,))
    torch.testing.assert_close(restored[:, 0], image, atol=1e-4, rtol=0)


def test_deconvolution_undoes_most_of_a_blur_up_to_the_border() -> None:
    generator = torch.Generator().manual_seed(3)
    kernel = sample_blur_kernels(1, BlurKernelConfig(canvas=15, minimum_size=11), generator=generator)
    sharp = smooth_image(110, 130)
    blurred = blur(sharp, kernel)
    truth = sharp[..., 7:-7, 7:-7]
    restored = wiener_deconvolution(blurred, kernel, (1e-3,))[:, 0]
    assert mean_squared_error(restored, truth) < 0.35 * mean_squared_error(blurred, truth)
    inner = (..., slice(20, -20), slice(20, -20))
    assert mean_squared_error(restored[inner], truth[inner]) < 0.1 * mean_squared_error(
        blurred[inner], truth[inner]
    )


def test_the_kernel_is_convolved_not_correlated() -> None:
    kernel = torch.zeros(1, 5, 5)
    kernel[0, 2, 2], kernel[0, 2, 3], kernel[0, 1, 2] = 0.5, 0.3, 0.2
    sharp = smooth_image(60, 60)
    blurred = blur(sharp, kernel)
    truth = sharp[..., 2:-2, 2:-2]
    right = wiener_deconvolution(blurred, kernel, (1e-4,))[:, 0]
    wrong = wiener_deconvolution(blurred, kernel.flip(-1, -2), (1e-4,))[:, 0]
    assert mean_squared_error(right, truth) < 0.1 * mean_squared_error(wrong, truth)


def test_every_image_meets_its_own_kernel_and_every_strength_its_own_result() -> None:
    generator = torch.Generator().manual_seed(5)
    kernels = sample_blur_kernels(2, BlurKernelConfig(canvas=9), generator=generator)
    images = torch.cat([smooth_image(33, 47, seed=1), smooth_image(33, 47, seed=2)])
    together = wiener_deconvolution(images, kernels, (0.01, 0.1))
    assert together.shape == (2, 2, 3, 33, 47)
    for index in range(2):
        for position, strength in enumerate((0.01, 0.1)):
            alone = wiener_deconvolution(images[index : index + 1], kernels[index : index + 1], (strength,))
            torch.testing.assert_close(together[index, position], alone[0, 0], atol=1e-5, rtol=0)


def test_a_larger_strength_leaves_less_noise() -> None:
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    kernel = torch.full((1, 3, 3), 1 / 9)
    weak, strong = wiener_deconvolution(noise, kernel, (0.001, 0.1))[0, :, 0]
    assert strong.std() < 0.5 * weak.std()


def test_gradients_reach_image_kernel_and_strengths() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 6, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    kernel = torch.rand(1, 3, 3, dtype=torch.float64, generator=generator)
    kernel = (kernel / kernel.sum()).requires_grad_()
    strengths = torch.tensor([0.01, 0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(wiener_deconvolution, (image, kernel, strengths))


def test_half_precision_images_are_computed_in_single_precision() -> None:
    image = smooth_image(20, 20)
    kernel = torch.full((1, 3, 3), 1 / 9)
    restored = wiener_deconvolution(image.bfloat16(), kernel, (0.01,))
    assert restored.dtype == torch.float32
    torch.testing.assert_close(restored, wiener_deconvolution(image.bfloat16().float(), kernel, (0.01,)))


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 3, 5), (2, 3, 3), (3, 3)])
def test_kernels_that_do_not_fit_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="a deconvolution needs"):
        wiener_deconvolution(torch.rand(1, 3, 16, 16), torch.rand(shape), (0.01,))


@pytest.mark.parametrize("size", [5, 15, 31])
@pytest.mark.parametrize("noise", [0.005, 0.02, 0.05])
def test_noise_is_measured_where_the_blur_leaves_nothing(size: int, noise: float) -> None:
    generator = torch.Generator().manual_seed(size)
    config = BlurKernelConfig(canvas=size, minimum_size=size)
    kernel = sample_blur_kernels(1, config, generator=generator)
    clean = blur(smooth_image(150, 170), kernel)
    blurred = clean + noise * torch.randn(clean.shape, generator=generator)
    measured = Deconvolution(blurred, kernel).noise_level()
    assert measured.shape == (1,)
    assert float(measured) == pytest.approx(noise, rel=0.2, abs=0.0025)


def test_a_wrong_kernel_makes_structure_count_as_noise() -> None:
    generator = torch.Generator().manual_seed(8)
    kernel = sample_blur_kernels(1, BlurKernelConfig(canvas=9, minimum_size=9), generator=generator)
    sharp = torch.rand(1, 3, 100, 100, generator=generator)
    right = Deconvolution(blur(sharp, kernel), kernel).noise_level()
    wrong = Deconvolution(sharp, kernel).noise_level()
    assert wrong > 5 * right


def test_sparse_deconvolution_restores_flat_areas_better() -> None:
    generator = torch.Generator().manual_seed(9)
    kernel = sample_blur_kernels(1, BlurKernelConfig(canvas=7, minimum_size=7), generator=generator)
    blocks = torch.rand(1, 3, 5, 5, generator=generator).repeat_interleave(24, 2).repeat_interleave(24, 3)
    clean = blur(blocks, kernel)
    deconvolution = Deconvolution(clean + 0.01 * torch.randn(clean.shape, generator=generator), kernel)
    inner = (..., slice(15, -15), slice(15, -15))
    truth = blocks[..., 3:-3, 3:-3][inner]
    (wiener,) = deconvolution.wiener(deconvolution.for_each_image((0.004,)))
    sparse = deconvolution.sparse(wiener, torch.tensor([0.02]), torch.tensor([0.1]))
    errors = [mean_squared_error(deconvolution.crop(image)[inner], truth) for image in (wiener, sparse)]
    assert errors[1] < 0.8 * errors[0]


def test_a_sparse_step_without_a_threshold_keeps_an_image_that_explains_the_photograph() -> None:
    generator = torch.Generator().manual_seed(10)
    kernel = sample_blur_kernels(2, BlurKernelConfig(canvas=7), generator=generator).double()
    deconvolution = Deconvolution(torch.rand(2, 3, 20, 26, generator=generator).double(), kernel)
    # With almost no regularisation, blurring the result gives the photograph.
    (exact,) = deconvolution.wiener(deconvolution.for_each_image((1e-12,)))
    nothing = torch.zeros(2, dtype=torch.float64)
    again = deconvolution.sparse(exact, nothing + 0.1, nothing)
    torch.testing.assert_close(again, exact, atol=1e-3, rtol=1e-3)


def test_a_consistent_image_solves_its_equation() -> None:
    generator = torch.Generator().manual_seed(11)
    kernel = sample_blur_kernels(2, BlurKernelConfig(canvas=3, minimum_size=3), generator=generator).double()
    blurred = torch.rand(2, 1, 9, 13, generator=generator).double()
    deconvolution = Deconvolution(blurred, kernel)
    (padded,) = deconvolution.wiener(deconvolution.for_each_image((0.01,)))
    image = torch.rand(2, 1, 5, 6, generator=generator).double()
    part = slice(2, 7), slice(6, 12)
    a, b = damping = torch.tensor([0.3, 0.7], dtype=torch.float64)
    result = deconvolution.consistent(image, part, padded, damping.expand(2, -1))
    # The image in its place within the continuation.
    target = padded.clone()
    deconvolution.crop(target)[..., part[0], part[1]] = image

    def blurred_by(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Periodic convolution, term by term."""
        terms = [
            weights[:, None, i : i + 1, j : j + 1] * x.roll((i - 1, j - 1), (-2, -1))
            for i in range(3)
            for j in range(3)
        ]
        return torch.stack(terms).sum(0)

    def left_side(x: torch.Tensor) -> torch.Tensor:
        """The normal equations: K'K x + a x + b D'D x."""
        laplacian = 4 * x - x.roll(1, -1) - x.roll(-1, -1) - x.roll(1, -2) - x.roll(-1, -2)
        return blurred_by(blurred_by(x, kernel), kernel.flip(-1, -2)) + a * x + b * laplacian

    # With hardly any damping the wiener result is the photograph's exact deconvolution, so K'y is K'K of it.
    (exact,) = deconvolution.wiener(deconvolution.for_each_image((1e-13,)))
    right_side = left_side(target) - blurred_by(blurred_by(target - exact, kernel), kernel.flip(-1, -2))
    whole = conjugate_gradient(left_side, right_side)
    torch.testing.assert_close(result, deconvolution.crop(whole)[..., part[0], part[1]], atol=1e-5, rtol=1e-5)


def conjugate_gradient(apply: Callable[[torch.Tensor], torch.Tensor], right: torch.Tensor) -> torch.Tensor:
    x = torch.zeros_like(right)
    residual = direction = right
    for _ in range(60):
        step = residual.square().sum() / (direction * apply(direction)).sum()
        x = x + step * direction
        rest = residual - step * apply(direction)
        direction = rest + rest.square().sum() / residual.square().sum() * direction
        residual = rest
    return x


def test_damping_chooses_between_image_and_photograph() -> None:
    blurred = smooth_image(30, 41)
    kernel = torch.zeros(1, 5, 5)
    kernel[:, 2, 2] = 1
    deconvolution = Deconvolution(blurred, kernel)
    (padded,) = deconvolution.wiener(deconvolution.for_each_image((0.1,)))
    image, whole = torch.rand(1, 3, 30, 41), (slice(0, 30), slice(0, 41))
    for damping, expected in ((1e-6, blurred), (1e6, image)):
        result = deconvolution.consistent(image, whole, padded, torch.full((1, 2), damping))
        torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)


def test_an_error_of_low_frequency_is_undone_at_a_damping_that_keeps_detail() -> None:
    generator = torch.Generator().manual_seed(12)
    kernel = sample_blur_kernels(1, BlurKernelConfig(canvas=9, minimum_size=9), generator=generator)
    sharp = smooth_image(108, 128)
    deconvolution = Deconvolution(blur(sharp, kernel), kernel)
    truth = sharp[..., 4:-4, 4:-4]
    (padded,) = deconvolution.wiener(deconvolution.for_each_image((1e-3,)))
    whole = slice(0, 100), slice(0, 120)
    noise = 0.02 * torch.randn(truth.shape, generator=generator)
    for error, share in ((torch.full_like(truth, 0.05), 0.2), (noise, 0.95)):
        result = deconvolution.consistent(truth + error, whole, padded, torch.tensor([[0.01, 0.1]]))
        left = (result - truth)[..., 20:-20, 20:-20].square().mean()
        assert left < share * error.square().mean()


def test_fast_lengths_have_small_factors_and_are_the_next_ones() -> None:
    assert [fast_fft_length(length) for length in (1, 2, 7, 31, 97, 241)] == [2, 2, 8, 32, 100, 250]
    assert [fast_fft_length(length, 4) for length in (1, 4, 9, 49, 241)] == [4, 4, 12, 60, 256]


def test_transfer_function_of_a_centred_delta_is_one() -> None:
    kernel = torch.zeros(1, 5, 5)
    kernel[0, 2, 2] = 1
    torch.testing.assert_close(transfer_function(kernel, 12, 9), torch.ones(1, 12, 5, dtype=torch.complex64))
