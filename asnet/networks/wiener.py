"""Wiener deconvolution with tapered edges: the linear non-blind deconvolution that `compact` builds on.

The frequency response is conj(K) / (|K|^2 + s (|D|^2 + e)), with K the transfer function of the blur kernel,
s the regularisation strength and |D|^2 the power response of the first differences, so that high frequencies,
where photographs hold little power, are regularised more. The small e regularises the mean a little as well.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.errors import InputError

#: Added to |D|^2 so that the mean of the image is regularised a little as well.
DIFFERENCE_FLOOR = 0.02


@lru_cache(maxsize=256)
def fast_fft_length(minimum: int) -> int:
    """Return the smallest even length >= `minimum` whose only prime factors are 2, 3 and 5."""
    length = minimum + minimum % 2
    while True:
        remainder = length
        for prime in (2, 3, 5):
            while remainder % prime == 0:
                remainder //= prime
        if remainder == 1:
            return length
        length += 2


def transfer_function(kernel: Tensor, height: int, width: int) -> Tensor:
    """Return the transfer function of centred blur kernels on a grid of `height` x `width`.

    Parameters
    ----------
    kernel : Tensor
        Blur kernels (N, K, K), K odd, float32 or float64.
    height, width : int
        Size of the periodic image, each at least K.

    Returns
    -------
    Tensor
        (N, height, width // 2 + 1), complex: the half spectrum as `torch.fft.rfft2` lays it out.
    """
    size = kernel.shape[-1]
    padded = F.pad(kernel, (0, width - size, 0, height - size))
    centred = torch.roll(padded, (-(size // 2), -(size // 2)), (-2, -1))
    return cast(Tensor, torch.fft.rfft2(centred))


def difference_power(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """|D|^2 of the first differences along both axes on the half spectrum, shape (height, width // 2 + 1)."""
    vertical = torch.fft.fftfreq(height, device=device, dtype=dtype)[:, None]
    horizontal = torch.fft.rfftfreq(width, device=device, dtype=dtype)[None]
    return 4 - 2 * torch.cos(2 * torch.pi * vertical) - 2 * torch.cos(2 * torch.pi * horizontal)


def edge_window(length: int, ramp: int, like: Tensor) -> Tensor:
    """Return a window (length,): raised cosines of `ramp` samples at both ends, one between.

    Its device and dtype are those of `like`.
    """
    phase = torch.arange(1, ramp + 1, device=like.device, dtype=like.dtype) / (ramp + 1)
    rise = 0.5 - 0.5 * torch.cos(torch.pi * phase)
    return torch.cat([rise, rise.new_ones(length - 2 * ramp), rise.flip(0)])


def _tapered(blurred: Tensor, response: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Continue the image (N, C, H, W) over its edges so that its periodic extension has no step.

    The border repeats the edge pixels and fades into the circularly blurred image, which is what a periodic
    scene would show there.
    """
    left, right, top, bottom = padding
    continued = F.pad(blurred, padding, mode="replicate")
    height, width = continued.shape[-2:]
    window = edge_window(height, min(top, bottom), blurred)[:, None] * edge_window(
        width, min(left, right), blurred
    )
    reblurred = torch.fft.irfft2(torch.fft.rfft2(continued) * response[:, None], s=(height, width))
    return torch.lerp(reblurred, continued, window)


def wiener_deconvolution(blurred: Tensor, kernel: Tensor, strengths: Sequence[float] | Tensor) -> Tensor:
    """Deconvolve images by their blur kernels, once for each regularisation strength.

    Parameters
    ----------
    blurred : Tensor
        Images (N, C, H, W), range [0, 1] or any other; computed in float32 (float64 stays).
    kernel : Tensor
        Blur kernels (N, K, K), K odd, each summing to 1.
    strengths : sequence of float or Tensor
        Regularisation strengths s > 0, (S,): about the noise variance over the variance of the image's
        differences. Small values sharpen more and amplify noise.

    Returns
    -------
    Tensor
        (N, S, C, H, W): the deconvolved images, in the dtype of the computation.

    Raises
    ------
    InputError
        If shapes do not fit each other.
    """
    if blurred.dim() != 4 or kernel.dim() != 3 or kernel.shape[0] != blurred.shape[0]:
        raise InputError(
            "wiener_deconvolution expects blurred (N, C, H, W) and kernel (N, K, K), "
            f"got {tuple(blurred.shape)} and {tuple(kernel.shape)}"
        )
    size = kernel.shape[-1]
    if kernel.shape[-2] != size or size % 2 == 0:
        raise InputError(
            f"wiener_deconvolution expects square kernels of odd size, got {tuple(kernel.shape)}"
        )
    dtype = torch.float64 if blurred.dtype == torch.float64 else torch.float32
    with torch.autocast(blurred.device.type, enabled=False):
        blurred, kernel = blurred.to(dtype), kernel.to(dtype)
        strength = torch.as_tensor(strengths, device=blurred.device, dtype=dtype)
        height, width = blurred.shape[-2:]
        extra_height = fast_fft_length(height + 2 * size) - height
        extra_width = fast_fft_length(width + 2 * size) - width
        top, left = extra_height // 2, extra_width // 2
        padding = (left, extra_width - left, top, extra_height - top)
        padded_height, padded_width = height + extra_height, width + extra_width

        response = transfer_function(kernel, padded_height, padded_width)
        spectrum = torch.fft.rfft2(_tapered(blurred, response, padding))
        power = response.real.square() + response.imag.square()
        prior = difference_power(padded_height, padded_width, blurred.device, dtype) + DIFFERENCE_FLOOR
        matched = (spectrum * response.conj()[:, None])[:, None]
        damping = power[:, None] + strength[:, None, None] * prior
        restored = torch.fft.irfft2(matched / damping[:, :, None], s=(padded_height, padded_width))
        return cast(Tensor, restored[..., top : top + height, left : left + width])
