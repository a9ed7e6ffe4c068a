"""Blur kernels with the kinds of errors that estimates have, for training non-blind deblurring."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from asnet.data.kernel_warps import warped_kernels
from asnet.errors import InputError

# Probability of each error, independent of the others.
_SCALE_PROBABILITY, _LARGEST_LOG_SCALE = 0.4, 0.12
_BLUR_PROBABILITY, _LARGEST_DEVIATION = 0.4, 1.0
_SHARPEN_PROBABILITY, _LARGEST_EXPONENT = 0.3, 1.6
_DROP_PROBABILITY, _LARGEST_THRESHOLD = 0.5, 0.25
_GHOST_PROBABILITY, _LARGEST_GHOST = 0.4, 0.2

# Kernels of at most this side are sometimes replaced by another one of such a size: a photograph that is
# sharp, or nearly so, deblurred by a wrong kernel.
_SMALL_SIDE = 5
_MISTAKEN_PROBABILITY, _MISTAKEN_DEVIATION = 0.4, (0.4, 1.2)


def mistaken_kernels(kernels: Tensor, *, generator: torch.Generator) -> Tensor:
    """Return blur kernels with errors like those of estimates.

    A kernel may be rescaled, blurred or sharpened, lose its faint parts, and get a faint copy of itself
    elsewhere, independently of each other. The strengths are uniform. The centroid does not change, because
    only the shape of an estimate matters, not its position.

    Parameters
    ----------
    kernels
        (N, K, K), K odd, non-negative, each of sum 1.
    generator
        Source of every random number; on the CPU it gives the same errors on every device.

    Returns
    -------
    Tensor
        (N, K, K) float32, non-negative, each of sum 1.

    Raises
    ------
    InputError
        If the shape is another one.
    """
    if kernels.ndim != 3 or kernels.shape[-1] != kernels.shape[-2] or kernels.shape[-1] % 2 == 0:
        raise InputError(f"blur kernels must be (N, K, K) with K odd, got {tuple(kernels.shape)}")
    if not len(kernels):
        return kernels.clone()
    draws = torch.rand((len(kernels), 14), generator=generator, device=generator.device).to(kernels.device)
    chance, amount, place = draws[:, :6], draws[:, 6:12], draws[:, 12:]

    scale = (_chosen(chance[:, 0], _SCALE_PROBABILITY) * _LARGEST_LOG_SCALE * (2 * amount[:, 0] - 1)).exp()
    unit = torch.eye(2, device=kernels.device)
    wrong = warped_kernels(kernels.float(), scale[:, None, None] * unit, torch.zeros_like(place))
    wrong = _blurred(wrong, _chosen(chance[:, 1], _BLUR_PROBABILITY) * _LARGEST_DEVIATION * amount[:, 1])
    sharpened = _chosen(chance[:, 2], _SHARPEN_PROBABILITY) * (_LARGEST_EXPONENT - 1) * amount[:, 2]
    wrong = wrong ** (1 + sharpened)[:, None, None]
    wrong = wrong / wrong.sum((1, 2), keepdim=True)

    faint = _chosen(chance[:, 3], _DROP_PROBABILITY) * _LARGEST_THRESHOLD * amount[:, 3]
    wrong = wrong * (wrong >= faint[:, None, None] * wrong.amax((1, 2), keepdim=True))
    wrong = wrong / wrong.sum((1, 2), keepdim=True)

    # The copy stays within the kernel's own extent, and what leaves the grid is lost.
    distance = _radius(kernels)[:, None] * (2 * place - 1)
    ghost = warped_kernels(wrong, unit.expand(len(wrong), 2, 2), distance)
    share = _chosen(chance[:, 4], _GHOST_PROBABILITY) * _LARGEST_GHOST * amount[:, 4]
    wrong = wrong + share[:, None, None] * ghost

    mistaken = (chance[:, 5] < _MISTAKEN_PROBABILITY) & (2 * _radius(kernels) + 1 <= _SMALL_SIDE)
    low, high = _MISTAKEN_DEVIATION
    point = torch.zeros_like(wrong)
    point[:, kernels.shape[-1] // 2, kernels.shape[-1] // 2] = 1
    other = _blurred(point, low + (high - low) * amount[:, 5])
    wrong = torch.where(mistaken[:, None, None], other, wrong)
    wrong = wrong / wrong.sum((1, 2), keepdim=True)
    back = _centroid(kernels.float()) - _centroid(wrong)
    wrong = warped_kernels(wrong, unit.expand(len(wrong), 2, 2), back)
    return wrong / wrong.sum((1, 2), keepdim=True)


def _chosen(draw: Tensor, probability: float) -> Tensor:
    return (draw < probability).float()


def _centroid(kernels: Tensor) -> Tensor:
    """Return the centroid (N, 2) of kernels of sum 1 from the centre of the grid, x and y, in pixels."""
    offset = torch.arange(kernels.shape[-1], device=kernels.device) - kernels.shape[-1] // 2.0
    return torch.stack([(kernels.sum(axis) * offset).sum(1) for axis in (1, 2)], dim=1)


def _radius(kernels: Tensor) -> Tensor:
    """Largest distance (N,) of a non-zero value from the centre along either axis, in pixels."""
    distance = (torch.arange(kernels.shape[-1], device=kernels.device) - kernels.shape[-1] // 2).abs().float()
    farthest = torch.maximum(distance[:, None], distance[None])
    return torch.where(kernels != 0, farthest, 0.0).amax((1, 2))


def _blurred(kernels: Tensor, deviation: Tensor) -> Tensor:
    """Convolve kernels (N, K, K) with Gaussians of standard deviations (N,), at most 1.2 pixels."""
    reach = min(4, kernels.shape[-1] // 2)
    offset = torch.arange(-reach, reach + 1, device=kernels.device, dtype=torch.float32)
    scale = math.sqrt(2) * deviation.clamp_min(1e-3)[:, None]
    taps = torch.erf((offset + 0.5) / scale) - torch.erf((offset - 0.5) / scale)
    taps = taps / taps.sum(1, keepdim=True)
    blurred = kernels[None]
    count = len(kernels)
    blurred = functional.conv2d(blurred, taps[:, None, :, None], padding=(reach, 0), groups=count)
    blurred = functional.conv2d(blurred, taps[:, None, None, :], padding=(0, reach), groups=count)
    return blurred[0].clamp_min(0)
