"""Alignment of an estimate with its ground truth by each protocol; blind estimates have any shift."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from asnet.errors import InputError

# Sub-pixel alignment: maximum number of steps, the step in pixels at which they end, and the pixels by which
# an image is mirrored beyond its shift.
_GAUSS_NEWTON_STEPS = 8
_SMALLEST_STEP = 1e-3
_MIRRORED = 16


def luma(image: Tensor) -> Tensor:
    """Return 0.299 R + 0.587 G + 0.114 B of an image (3, H, W), as (H, W)."""
    return 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]


def align(estimate: Tensor, ground_truth: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift an estimate as the script of Köhler et al. (2012) does.

    The estimate z is multiplied by ``a = sum(x z) / sum(z z)`` over all pixels and channels of the ground
    truth x, then shifted by whole pixels with zeros filled in; x becomes zero in the same strips. The shift
    is the arg max of the circular cross-correlation of the channel means; components from ``size // 2`` on
    are negative.

    Parameters
    ----------
    estimate, ground_truth : Tensor
        (C, H, W) float64.

    Returns
    -------
    estimate, ground_truth : Tensor
        (C, H, W), neither clipped nor rounded.

    Raises
    ------
    InputError
        If the shapes differ or the estimate is zero everywhere.
    """
    if estimate.dim() != 3 or estimate.shape != ground_truth.shape:
        raise InputError(
            "images to align must have the same shape (C, H, W), "
            f"not {tuple(estimate.shape)} and {tuple(ground_truth.shape)}"
        )
    energy = float(estimate.square().sum())
    if energy == 0.0:
        raise InputError("an image to align must not be black everywhere")
    estimate = estimate * (float((ground_truth * estimate).sum()) / energy)
    height, width = estimate.shape[1:]
    spectrum = torch.fft.rfft2(ground_truth.mean(0)) * torch.fft.rfft2(estimate.mean(0)).conj()
    peak = int(torch.fft.irfft2(spectrum, s=(height, width)).argmax())
    down = _signed(peak // width, height)
    right = _signed(peak % width, width)
    return _shift(estimate, down, right), _keep_covered(ground_truth, down, right)


def _signed(index: int, size: int) -> int:
    return index - size if index >= size // 2 else index


def _shift(image: Tensor, down: int, right: int) -> Tensor:
    """Shift an image (C, H, W), filled with zeros."""
    shifted = torch.zeros_like(image)
    height, width = image.shape[1:]
    source = image[:, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    top, left = max(0, down), max(0, right)
    shifted[:, top : top + source.shape[1], left : left + source.shape[2]] = source
    return shifted


def _keep_covered(image: Tensor, down: int, right: int) -> Tensor:
    """Zero the pixels that an image with this shift does not cover."""
    height, width = image.shape[1:]
    kept = torch.zeros_like(image)
    rows = slice(max(0, down), height + min(0, down))
    columns = slice(max(0, right), width + min(0, right))
    kept[:, rows, columns] = image[:, rows, columns]
    return kept


def least_shifted_error(
    estimate: Tensor, ground_truth: Tensor, *, border: int, largest_shift: int, steps_per_pixel: int
) -> float:
    """Return the smallest sum of squared differences over sub-pixel shifts, as in Levin et al. (2009).

    The ground truth is cropped on all sides and the estimate shifted under it with bilinear interpolation, so
    that only pixels of the estimate are compared.

    Parameters
    ----------
    estimate, ground_truth : Tensor
        (H, W) float64.
    border : int
        Pixels, at least `largest_shift`.
    largest_shift : int
        Largest shift along each axis, both ways, in pixels.
    steps_per_pixel : int
        Shifts per pixel.

    Raises
    ------
    InputError
        If the shapes differ or nothing is left within the border.
    """
    if estimate.dim() != 2 or estimate.shape != ground_truth.shape or min(estimate.shape) <= 2 * border:
        raise InputError(
            f"images to compare within a border of {border} pixels must have the same larger shape (H, W), "
            f"not {tuple(estimate.shape)} and {tuple(ground_truth.shape)}"
        )
    height, width = (length - 2 * border for length in estimate.shape)
    truth = ground_truth[border : border + height, border : border + width]
    count = 2 * largest_shift * steps_per_pixel + 1
    shifts = [index / steps_per_pixel - largest_shift for index in range(count)]
    rows = torch.stack([_interpolated(estimate, 0, border + shift, height) for shift in shifts])
    least = float("inf")
    for shift in shifts:
        # (shifts, height, width): all vertical shifts for one horizontal shift.
        moved = _interpolated(rows, 2, border + shift, width)
        least = min(least, float((moved - truth).square_().sum(dim=(1, 2)).min()))
    return least


def _interpolated(image: Tensor, axis: int, begin: float, length: int) -> Tensor:
    """Return `length` samples along an axis from a fractional position on, linearly interpolated."""
    whole = int(begin // 1)
    fraction = begin - whole
    lower = image.narrow(axis, whole, length)
    if fraction == 0.0:
        return lower
    return torch.lerp(lower, image.narrow(axis, whole + 1, length), fraction)


def sub_pixel_shift(estimate: Tensor, ground_truth: Tensor, *, largest: int) -> tuple[float, float]:
    """Return the shift (down, right) in pixels that brings an estimate onto its ground truth.

    The initial value is the peak of the circular cross-correlation of the images' Laplacians, which emphasise
    edges; Gauss-Newton steps on the squared differences then refine it to fractions of a pixel.

    Parameters
    ----------
    estimate, ground_truth : Tensor
        (H, W), floating point.
    largest : int
        Largest initial shift along each axis, in pixels; the steps add at most one.

    Raises
    ------
    InputError
        If the shapes differ or the images are not larger than both shifts together.
    """
    if estimate.dim() != 2 or estimate.shape != ground_truth.shape or min(estimate.shape) <= 2 * largest + 2:
        raise InputError(
            f"images to align by up to {largest} pixels must have the same larger shape (H, W), "
            f"not {tuple(estimate.shape)} and {tuple(ground_truth.shape)}"
        )
    height, width = estimate.shape
    truth = ground_truth.double()
    spectrum = torch.fft.rfft2(_laplacian(estimate.double())).conj() * torch.fft.rfft2(_laplacian(truth))
    correlation = torch.roll(torch.fft.irfft2(spectrum, s=(height, width)), (largest, largest), (0, 1))
    peak = int(correlation[: 2 * largest + 1, : 2 * largest + 1].argmax())
    start = torch.tensor(divmod(peak, 2 * largest + 1), dtype=torch.float64) - largest
    shift = start
    border = largest + 2
    inside = (..., slice(border, height - border), slice(border, width - border))
    for _ in range(_GAUSS_NEWTON_STEPS):
        moved = fourier_shift(estimate.double(), float(shift[0]), float(shift[1]))
        # Moving an image by s changes it by -s times its gradient.
        gradient = torch.stack(torch.gradient(moved))[inside].flatten(1)
        difference = (truth - moved)[inside].flatten()
        normal = gradient @ gradient.T
        step = -torch.linalg.lstsq(normal, (gradient @ difference)[:, None]).solution[:, 0]
        shift = start + (shift + step - start).clamp(-1, 1)
        if float(step.abs().max()) < _SMALLEST_STEP:
            break
    return float(shift[0]), float(shift[1])


def fourier_shift(image: Tensor, down: float, right: float) -> Tensor:
    """Shift images (..., H, W) by fractions of a pixel: a factor of unit modulus for each frequency.

    The images are first mirrored beyond their borders, so that the opposite border does not wrap around.
    Pixels within the rounded-up shift of the border that they enter from are invalid.
    """
    height, width = image.shape[-2:]
    pad = min(_MIRRORED + math.ceil(max(abs(down), abs(right))), height - 1, width - 1)
    flat = image.reshape(1, -1, height, width)
    padded = functional.pad(flat, (pad, pad, pad, pad), mode="reflect")
    size = (padded.shape[-2], padded.shape[-1])
    vertical = torch.fft.fftfreq(size[0], dtype=image.dtype, device=image.device)[:, None] * down
    horizontal = torch.fft.rfftfreq(size[1], dtype=image.dtype, device=image.device) * right
    phase = torch.polar(torch.ones_like(vertical + horizontal), -2 * math.pi * (vertical + horizontal))
    shifted: Tensor = torch.fft.irfft2(torch.fft.rfft2(padded) * phase, s=size)
    return shifted[..., pad : pad + height, pad : pad + width].reshape(image.shape)


def _laplacian(image: Tensor) -> Tensor:
    """Sum of the four neighbours' differences, (H, W), borders repeated."""
    padded = functional.pad(image[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    rows, columns = padded[:, 1:-1], padded[1:-1]
    return rows[2:] + rows[:-2] + columns[:, 2:] + columns[:, :-2] - 4 * image


def least_error_position(estimate: Tensor, part: Tensor) -> tuple[int, int]:
    """Return the whole-pixel position (row, column) at which a part differs least from an estimate.

    The criterion is the sum of squared differences, over all positions at which the part is inside.

    Parameters
    ----------
    estimate : Tensor
        (H, W) float64.
    part : Tensor
        (h, w) float64, not larger.

    Raises
    ------
    InputError
        If the part is larger than the estimate.
    """
    height, width = estimate.shape
    part_height, part_width = part.shape
    if part_height > height or part_width > width:
        raise InputError(
            f"a ground truth of {part_width}x{part_height} pixels does not fit into an estimate of "
            f"{width}x{height}"
        )
    rows, columns = height - part_height + 1, width - part_width + 1
    # sum (e - t)^2 = sum e^2 - 2 sum e t + sum t^2; nothing wraps around at valid positions.
    spectrum = torch.fft.rfft2(estimate) * torch.fft.rfft2(part, s=(height, width)).conj()
    correlation = torch.fft.irfft2(spectrum, s=(height, width))[:rows, :columns]
    sums = functional.pad(estimate.square().cumsum(0).cumsum(1), (1, 0, 1, 0))
    energy = (
        sums[part_height:, part_width:]
        - sums[:rows, part_width:]
        - sums[part_height:, :columns]
        + sums[:rows, :columns]
    )
    top, left = divmod(int((energy - 2 * correlation).argmin()), columns)
    return top, left
