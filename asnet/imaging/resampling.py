"""Other scales: images and blur kernels resized together, and how large a blur is."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from asnet.errors import InputError

#: Smallest side of an image that networks take.
SMALLEST_SIDE = 16

#: Share of its weight that a kernel's size leaves out on the whole.
NEGLIGIBLE_SHARE = 0.02

#: Pixels around a kernel that pictures of it show.
_SHOWN_BORDER = 2


def downscale(image: Tensor, factor: int) -> Tensor:
    """Downscale (1, 3, H, W) by an integer, averaging what falls into a pixel; sides are rounded up."""
    if factor == 1:
        return image
    size = [-(-side // factor) for side in image.shape[2:]]
    if min(size) < SMALLEST_SIDE:
        raise InputError(
            f"at scale {factor} an image must have at least {factor * SMALLEST_SIDE} pixels a side, "
            f"got {image.shape[3]}x{image.shape[2]}"
        )
    return functional.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)


def scale_kernel(kernel: Tensor, factor: float) -> Tensor:
    """Resample a blur kernel (K, K) about its centre as if its image were resized by `factor`.

    The new radius is that of the old one times the factor, rounded up; enlarging by an integer and reducing
    by the same gives a kernel on the grid that it started from. The sum stays 1.
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
    """Side of the smallest square, centred on the grid, that holds a kernel but for a negligible share."""
    radius = kernel.shape[-1] // 2
    for inner in range(radius):
        part = kernel[radius - inner : radius + inner + 1, radius - inner : radius + inner + 1]
        if float(part.sum() / kernel.sum()) >= 1 - NEGLIGIBLE_SHARE:
            return 2 * inner + 1
    return 2 * radius + 1


def shown_kernel(kernel: Tensor) -> Tensor:
    """Return the part of a blur kernel (K, K) that pictures show: its extent and a narrow border, centred.

    On a large grid a small kernel would hardly be seen.
    """
    border = max(0, (kernel.shape[-1] - kernel_extent(kernel)) // 2 - _SHOWN_BORDER)
    return kernel[border : kernel.shape[-1] - border, border : kernel.shape[-1] - border]
