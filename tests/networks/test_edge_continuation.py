"""Photographs continued beyond their edges: as the scene goes on, without a step, and unchanged within."""

import pytest
import torch
from test_wiener import mean_squared_error, smooth_image

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.data.degradation import blur
from asnet.networks.edge_continuation import continued
from asnet.networks.wiener import (
    DIFFERENCE_FLOOR,
    difference_power,
    fast_fft_length,
    kernel_spectra,
    transfer_function,
)


def continuation(photograph: torch.Tensor, kernel: torch.Tensor, pixels: int) -> torch.Tensor:
    """Continue photographs by at least twice `pixels`, which are split between their sides."""
    height, width = (fast_fft_length(side + 2 * pixels, 4) for side in photograph.shape[-2:])
    response = kernel_spectra(kernel, height, width)
    prior = difference_power(height, width, photograph.device, photograph.dtype) + DIFFERENCE_FLOOR
    result = continued(photograph, (height, width), response, response.square().sum(-3)[:, 0], prior)
    return result.roll((pixels, pixels), (-2, -1))


def deconvolved(padded: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Wiener deconvolution of a periodic image."""
    height, width = padded.shape[-2:]
    response = transfer_function(kernel, height, width)[:, None]
    down, across = (torch.zeros(1, 3, 3) for _ in range(2))
    down[:, 0, 1], across[:, 1, 0] = 1, 1
    for difference in (down, across):
        difference[:, 1, 1] = -1
    power = sum(transfer_function(difference, height, width).abs().square() for difference in (down, across))
    spectrum = torch.fft.rfft2(padded) * response.conj() / (response.abs().square() + 1e-3 * (power + 0.02))
    return torch.fft.irfft2(spectrum, s=(height, width))


@pytest.mark.parametrize("size", [9, 21, 41])
def test_deconvolution_of_what_was_continued_rings_less(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    kernel = sample_blur_kernels(1, BlurKernelConfig(canvas=size, minimum_size=size), generator=generator)
    sharp = smooth_image(100 + size, 120 + size, seed=size)
    photograph = blur(sharp, kernel)
    truth = sharp[..., size // 2 : -(size // 2), size // 2 : -(size // 2)]
    padded = continuation(photograph, kernel, size)
    after = tuple(long - short - size for long, short in zip(padded.shape, photograph.shape, strict=True))
    repeated = torch.nn.functional.pad(photograph, (size, after[3], size, after[2]), mode="replicate")
    own = (..., slice(size, -after[2]), slice(size, -after[3]))
    errors = [mean_squared_error(deconvolved(image, kernel)[own], truth) for image in (padded, repeated)]
    assert errors[0] < 0.5 * errors[1]


def test_photographs_themselves_are_not_changed() -> None:
    generator = torch.Generator().manual_seed(1)
    kernel = sample_blur_kernels(2, BlurKernelConfig(canvas=9), generator=generator)
    photograph = torch.rand(2, 3, 31, 18, generator=generator)
    result = continuation(photograph, kernel, 9)
    assert torch.equal(result[..., 9:40, 9:27], photograph)


def test_a_photograph_of_one_value_goes_on_with_it() -> None:
    kernel = torch.full((1, 7, 7), 1 / 49)
    for value in (0.0, 0.3, 1.0):
        result = continuation(torch.full((1, 1, 20, 17), value), kernel, 7)
        torch.testing.assert_close(result, torch.full_like(result, value))


def test_images_and_channels_are_continued_one_by_one() -> None:
    generator = torch.Generator().manual_seed(2)
    kernel = sample_blur_kernels(2, BlurKernelConfig(canvas=11), generator=generator)
    photograph = torch.rand(2, 3, 26, 33, generator=generator)
    together = continuation(photograph, kernel, 11)
    for image in range(2):
        for channel in range(3):
            part = photograph[image : image + 1, channel : channel + 1]
            alone = continuation(part, kernel[image : image + 1], 11)
            torch.testing.assert_close(together[image, channel], alone[0, 0], atol=1e-5, rtol=0)


def test_the_continuation_has_no_step_where_its_ends_meet() -> None:
    generator = torch.Generator().manual_seed(3)
    kernel = sample_blur_kernels(1, BlurKernelConfig(canvas=15, minimum_size=15), generator=generator)
    # Black at the left, white at the right.
    result = continuation(smooth_image(60, 90)[..., :60, :90], kernel, 15)
    largest = (result - result.roll(1, -1)).abs().amax()
    across = (result[..., 0] - result[..., -1]).abs().amax()
    assert across <= largest
    assert across < 0.2


def test_far_ends_of_a_photograph_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(4)
    kernel = sample_blur_kernels(1, BlurKernelConfig(canvas=9, minimum_size=9), generator=generator)
    photograph = smooth_image(40, 400, channels=1)
    changed = photograph.clone()
    # The mean stays.
    changed[..., 360:380] += 0.2
    changed[..., 380:400] -= 0.2
    first, second = (continuation(image, kernel, 48) for image in (photograph, changed))
    # Between the left edge and the middle, above and below.
    torch.testing.assert_close(first[..., 48:248], second[..., 48:248], atol=1e-4, rtol=0)
