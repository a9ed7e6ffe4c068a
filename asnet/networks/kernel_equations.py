"""The normal equations of the blur kernel, from cross-correlations of gradients.

With the gradients p of the latent image and q of the blurred one, summed over both directions, the kernel
that minimises |k * p - q|^2 + w |k|^2 solves

    (A + w I) k = b,    A(s, t) = sum p(x - s) p(x - t),    b(s) = sum p(x - s) q(x).

A depends only on s - t: it is the autocorrelation of p, and b is the correlation of p with q. The
cross-correlation layer (section 3.1) computes both at once; `asnet.ops.toeplitz_solve` finds k.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from asnet.ops import cross_correlation

#: Minimum number of gradients kept in every quarter of the directions, per pixel of the kernel's side.
GRADIENTS_PER_SIDE = 20

#: Upper limit of the gradient threshold, as a share of the largest gradient.
HIGHEST_THRESHOLD = 0.8


class Correlations(NamedTuple):
    """Correlations of gradients over lags, summed over both directions; s is the kernel's size."""

    predicted: Tensor  # (N, 2s-1, 2s-1): autocorrelation of the predicted gradients, A
    mixed: Tensor  # (N, s, s): correlation of predicted and blurred gradients, b
    blurred: Tensor  # (N, 2s-1, 2s-1): autocorrelation of the blurred gradients


def correlate_gradients(predicted: Tensor, blurred: Tensor, size: int) -> Correlations:
    """Correlate predicted and blurred gradients (N, 2, h, w) over the lags of a kernel of `size` pixels."""
    count = predicted.shape[0]
    maps = torch.stack([predicted, blurred], dim=2).flatten(0, 1)
    lags = cross_correlation(maps, size - 1)
    lags = lags.view(count, 2, *lags.shape[1:]).sum(1)
    reach = slice(size // 2, size // 2 + size)
    return Correlations(lags[:, 0], lags[:, 1, reach, reach], lags[:, 2])


def gradient_threshold(gradients: Tensor, size: int) -> Tensor:
    """Return the squared magnitude (N,) above which each quarter of the directions has enough gradients.

    Parameters
    ----------
    gradients : Tensor
        (N, 2, h, w), horizontal and vertical.
    size : int
        Side of the kernel: `GRADIENTS_PER_SIDE` times as many gradients are enough.
    """
    horizontal, vertical = gradients.flatten(2).unbind(1)
    magnitude = horizontal.square() + vertical.square()
    steep = vertical.abs() > horizontal.abs()
    rising = horizontal * vertical >= 0
    rank = min(max(GRADIENTS_PER_SIDE * size, 10), magnitude.shape[1])
    thresholds = [
        torch.where((steep == of_steep) & (rising == of_rising), magnitude, 0.0)
        .topk(rank, dim=1)
        .values[:, -1]
        for of_steep in (False, True)
        for of_rising in (False, True)
    ]
    return torch.stack(thresholds).amin(0)


def strong_gradients(gradients: Tensor, threshold: Tensor) -> Tensor:
    """Zero the gradients (N, 2, h, w) whose squared magnitude is below `threshold` (N,)."""
    magnitude = gradients.square().sum(1)
    threshold = torch.minimum(threshold, HIGHEST_THRESHOLD * magnitude.flatten(1).amax(1))
    return gradients * (magnitude >= threshold[:, None, None])[:, None]
