"""The multi-scale SSIM of the Köhler benchmark's script; not the MS-SSIM of the metric libraries.

It differs from theirs in the low-pass filter between the scales, the symmetric border, the separate means of
contrast and structure, and the exponents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asnet.errors import InputError

#: Side and standard deviation in pixels of the Gaussian window.
WINDOW = 11
WINDOW_DEVIATION = 1.5

#: Exponents of the contrast and the structure term at each scale, finest first.
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

#: Exponent of the luminance term, which counts only at the coarsest scale.
LUMINANCE_EXPONENT = 0.1333

#: Rows that are filtered at a time.
_STRIP = 32

_DATA_RANGE = 255.0
_LUMINANCE_FLOOR = (0.01 * _DATA_RANGE) ** 2
_CONTRAST_FLOOR = (0.03 * _DATA_RANGE) ** 2

#: First half and middle of the nine taps of the script's low-pass filter.
_LOW_PASS = (
    0.037828455507260,
    -0.023849465019560,
    -0.110624404418440,
    0.377402855612830,
    0.852698679008890,
)


def multiscale_ssim(estimate: Tensor, ground_truth: Tensor) -> float:
    """Return the multi-scale SSIM of a luma image.

    ``M^0.1333 * prod_j V_j^b_j * prod_j R_j^b_j`` over five scales j: M the mean of the luminance term at the
    coarsest scale, V_j and R_j the means of the contrast and of the structure term, b_j `EXPONENTS`. The
    windows are Gaussian and lie inside the image. A negative mean of a structure term counts as 0.

    Parameters
    ----------
    estimate, ground_truth : Tensor
        (H, W) float64, range [0, 255], which values of the estimate may leave; H and W at least 161.

    Returns
    -------
    float
        1 for equal images.

    Raises
    ------
    InputError
        If the shapes differ or the coarsest scale is smaller than the window.
    """
    if estimate.dim() != 2 or estimate.shape != ground_truth.shape:
        raise InputError(
            "multi-scale SSIM compares luma images of the same shape (H, W), "
            f"not {tuple(estimate.shape)} and {tuple(ground_truth.shape)}"
        )
    halvings = len(EXPONENTS) - 1
    smallest = ((WINDOW - 1) << halvings) + 1
    if min(estimate.shape) < smallest:
        height, width = estimate.shape
        raise InputError(
            f"multi-scale SSIM needs images of at least {smallest}x{smallest} pixels, got {width}x{height}"
        )
    pair = torch.stack((estimate, ground_truth))
    product = 1.0
    for scale, exponent in enumerate(EXPONENTS):
        if scale > 0:
            pair = _halve(pair)
        luminance, contrast, structure = _terms(pair)
        product *= contrast**exponent * max(structure, 0.0) ** exponent
    return float(product * luminance**LUMINANCE_EXPONENT)


def _terms(pair: Tensor) -> tuple[float, float, float]:
    """Means of the luminance, the contrast and the structure term of a pair (2, H, W)."""
    offset = torch.arange(WINDOW, dtype=pair.dtype) - WINDOW // 2
    window = torch.exp(-0.5 * (offset / WINDOW_DEVIATION).square())
    taps = (window / window.sum()).tolist()
    rows, columns = (length - WINDOW + 1 for length in pair.shape[1:])
    sums = torch.zeros(3, dtype=pair.dtype)
    # In strips, so that the moments stay in the cache.
    for top in range(0, rows, _STRIP):
        strip = pair[:, top : min(top + _STRIP, rows) + WINDOW - 1]
        sums += _sums_of_terms(strip, taps)
    luminance, contrast, structure = (sums / (rows * columns)).tolist()
    return luminance, contrast, structure


def _sums_of_terms(pair: Tensor, taps: list[float]) -> Tensor:
    """Sums (3,) of the luminance, the contrast and the structure term of a pair (2, H, W)."""
    x, y = pair
    moments = _filter(torch.stack((x, y, x * x, y * y, x * y)), taps)
    mean_x, mean_y, square_x, square_y, product = moments
    # Rounding can make the variance of constant windows negative.
    variance_x = (square_x - mean_x.square()).clamp_(min=0)
    variance_y = (square_y - mean_y.square()).clamp_(min=0)
    covariance = product - mean_x * mean_y
    deviations = (variance_x * variance_y).sqrt()
    luminance = (2 * mean_x * mean_y + _LUMINANCE_FLOOR) / (
        mean_x.square() + mean_y.square() + _LUMINANCE_FLOOR
    )
    contrast = (2 * deviations + _CONTRAST_FLOOR) / (variance_x + variance_y + _CONTRAST_FLOOR)
    structure = (covariance + _CONTRAST_FLOOR / 2) / (deviations + _CONTRAST_FLOOR / 2)
    return torch.stack((luminance.sum(), contrast.sum(), structure.sum()))


def _halve(images: Tensor) -> Tensor:
    """Low-pass filter images (N, H, W), continued symmetrically, and keep every second pixel."""
    taps = [*_LOW_PASS, *_LOW_PASS[-2::-1]]
    total = sum(taps)
    border = len(taps) // 2
    for axis in (1, 2):
        length = images.shape[axis]
        before = images.narrow(axis, 0, border).flip(axis)
        after = images.narrow(axis, length - border, border).flip(axis)
        images = torch.cat((before, images, after), dim=axis)
    return _filter(images, [tap / total for tap in taps])[:, ::2, ::2]


def _filter(images: Tensor, taps: list[float]) -> Tensor:
    """Correlate images (N, H, W) with symmetric taps along both axes, valid part only."""
    half = len(taps) // 2
    for axis in (1, 2):
        length = images.shape[axis] - 2 * half
        # Slices that share a tap are added first: half the multiplications, and no unfolded copy.
        filtered = images.narrow(axis, half, length) * taps[half]
        for index in range(half):
            ends = images.narrow(axis, index, length) + images.narrow(axis, 2 * half - index, length)
            filtered.add_(ends, alpha=taps[index])
        images = filtered
    return images
