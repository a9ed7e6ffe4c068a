"""Other scales: images and blur kernels resized together, and how large a blur is."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from asnet.errors import InputError
from asnet.imaging.pixels import unit_range

#: Smallest side of an image that networks accept.
SMALLEST_SIDE = 16

#: Share of its weight that may lie outside a kernel's stated size.
NEGLIGIBLE_SHARE = 0.02

#: Border around a kernel in pictures of it, in pixels.
_SHOWN_BORDER = 2


def downscale(image: Tensor, factor: int) -> Tensor:
    """Downscale (1, C, H, W) by an integer, averaging the pixels of each cell; sides are rounded up.

    The result is float32 in [0, 1] for other types; with the factor 1 it is the image itself.
    """
    if factor == 1:
        return image
    size = [-(-side // factor) for side in image.shape[2:]]
    if min(size) < SMALLEST_SIDE:
        raise InputError(
            f"at scale {factor} an image must have at least {factor * SMALLEST_SIDE} pixels a side, "
            f"got {image.shape[3]}x{image.shape[2]}"
        )
    # Channel by channel: one in floating point takes as much memory as four in 8 bits.
    channels = [
        functional.interpolate(
            unit_range(channel), size=size, mode="bilinear", antialias=True, align_corners=False
        )
        for channel in image.tensor_split(image.shape[1], dim=1)
    ]
    return torch.cat(channels, dim=1)


def resized_rows(
    image: Tensor, size: tuple[int, int], rows: slice, mode: Literal["bilinear", "bicubic"]
) -> Tensor:
    """Return some rows of an enlarged image, equal to those of `torch.nn.functional.interpolate`.

    Parameters
    ----------
    image : Tensor
        (N, C, h, w), floating point.
    size : tuple of int
        Height and width of the whole result.
    rows : slice
        The rows of that to compute.
    mode : {"bilinear", "bicubic"}
        Corners are not aligned.

    Returns
    -------
    Tensor
        (N, C, rows, width).
    """
    height = image.shape[2]
    place = (torch.arange(rows.start, rows.stop, dtype=torch.float64) + 0.5) * (height / size[0]) - 0.5
    if mode == "bilinear":
        place = place.clamp(min=0)
    first = place.floor()
    distance = place - first
    if mode == "bilinear":
        taps = {0: 1 - distance, 1: distance}
    else:
        taps = {offset: _cubic((distance - offset).abs()) for offset in (-1, 0, 1, 2)}
    lines = image.new_zeros(*image.shape[:2], len(place), image.shape[3])
    for offset, weight in taps.items():
        chosen = (first.long() + offset).clamp(0, height - 1).to(image.device)
        lines.addcmul_(image[:, :, chosen], weight.to(image)[:, None])
    return functional.interpolate(lines, size=(len(place), size[1]), mode=mode, align_corners=False)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic convolution at distances from 0 to 2, with the slope that torch uses."""
    slope = -0.75
    near = ((slope + 2) * distance - (slope + 3)) * distance.square() + 1
    far = slope * (((distance - 5) * distance + 8) * distance - 4)
    return torch.where(distance <= 1, near, far)


def scale_kernel(kernel: Tensor, factor: float) -> Tensor:
    """Resample a blur kernel (K, K) about its centre as if its image were resized by `factor`.

    The new radius is the old one times the factor, rounded up; enlarging by an integer and reducing by the
    same restores the grid. The sum stays 1.
    """
    if factor == 1:
        return kernel
    radius = kernel.shape[-1] // 2
    new_radius = math.ceil(radius * factor)
    old = torch.arange(-radius, radius + 1, device=kernel.device, dtype=kernel.dtype)
    new = torch.arange(-new_radius, new_radius + 1, device=kernel.device, dtype=kernel.dtype) / factor
    # Triangles: linear interpolation between old pixels, or as wide as a new pixel when reducing.
    tent = (1 - (new[:, None] - old).abs() / max(1.0, 1 / factor)).clamp(min=0)
    scaled = tent @ kernel @ tent.T
    return scaled / scaled.sum()


def kernel_extent(kernel: Tensor) -> int:
    """Side of the smallest centred square that contains a kernel except for a negligible share."""
    radius = kernel.shape[-1] // 2
    for inner in range(radius):
        part = kernel[radius - inner : radius + inner + 1, radius - inner : radius + inner + 1]
        if float(part.sum() / kernel.sum()) >= 1 - NEGLIGIBLE_SHARE:
            return 2 * inner + 1
    return 2 * radius + 1


def shown_kernel(kernel: Tensor) -> Tensor:
    """Crop a blur kernel (K, K) for display: its extent and a narrow border, centred.

    On a large grid a small kernel would hardly be visible.
    """
    border = max(0, (kernel.shape[-1] - kernel_extent(kernel)) // 2 - _SHOWN_BORDER)
    return kernel[border : kernel.shape[-1] - border, border : kernel.shape[-1] - border]
