"""Conversion between Pillow pictures or NumPy arrays and the tensors of networks."""

from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from asnet.errors import InputError

#: Tolerance of floating-point values outside [0, 1], for rounding and resampling in float16.
OVERSHOOT = 1e-3

_LARGEST = {torch.uint8: 255, torch.uint16: 65535}


def planes_from_array(array: NDArray[Any]) -> Tensor:
    """Return an image array with its channels first, without copying if possible.

    Parameters
    ----------
    array : ndarray
        (H, W), (H, W, 1) or (H, W, 3); uint8, uint16, or floating point in [0, 1].

    Returns
    -------
    Tensor
        (1, H, W) or (3, H, W) of type uint8, uint16 or float32; see `unit_range`.

    Raises
    ------
    InputError
        If the shape or type is not one of these, or floating-point values are not finite or not in [0, 1].
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise InputError(f"an image array must have the shape (H, W), (H, W, 1 or 3), got {array.shape}")
    if array.dtype.kind == "f":
        array = array.astype(numpy.float32, copy=False)
        if not numpy.isfinite(array).all():
            raise InputError("an image array must hold finite numbers, got infinite ones or NaN")
    elif array.dtype.newbyteorder("=") not in (numpy.uint8, numpy.uint16):
        raise InputError(f"an image array must be of type uint8, uint16 or float, got {array.dtype}")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        # torch supports neither.
        array = array.copy()
    planes = torch.from_numpy(array[:, :, None] if array.ndim == 2 else array).permute(2, 0, 1)
    check_range(planes)
    return planes


def check_range(image: Tensor) -> None:
    """Raise `InputError` if an image in floating point leaves [0, 1] by more than rounding explains."""
    if not image.is_floating_point() or image.numel() == 0:
        return
    lowest, highest = float(image.min()), float(image.max())
    # NaN fails every comparison.
    if not (lowest >= -OVERSHOOT and highest <= 1 + OVERSHOOT):
        raise InputError(
            f"an image in floating point must lie in the range [0, 1], got {lowest:.4g} to {highest:.4g}"
        )


def unit_range(image: Tensor) -> Tensor:
    """Return an image of type uint8 or uint16 as float32 in [0, 1]; one in floating point as float32."""
    largest = _LARGEST.get(image.dtype)
    # Contiguous, so that sums do not depend on the image's file.
    values = image.contiguous().to(torch.float32)
    return values if largest is None else values.div_(largest)


def network_input(image: Tensor, device: torch.device | None = None) -> Tensor:
    """Convert images (N, 1 or 3, H, W) of any type to (N, 3, H, W) float32 in [0, 1] for networks.

    Photographs keep their own type in memory; only parts of them are converted.
    """
    return unit_range(image.to(device or image.device)).expand(-1, 3, -1, -1).contiguous()


def quantised(image: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert an image in floating point, range [0, 1], to another type; values outside are clipped.

    Parameters
    ----------
    image : Tensor
        Of any shape.
    dtype : torch.dtype
        uint8 or uint16, to which values are rounded, or a floating-point type.
    """
    return stored(image.clamp(0, 1), dtype)


def stored(image: Tensor, dtype: torch.dtype) -> Tensor:
    """Undo `unit_range`: return an image in another type, unsigned integers rounded to.

    Parameters
    ----------
    image : Tensor
        Of any shape, floating point, for integers in [0, 1]; it may be overwritten.
    dtype : torch.dtype
        uint8, uint16 or a floating-point type.
    """
    largest = _LARGEST.get(dtype)
    return image.to(dtype) if largest is None else image.mul_(largest).round_().to(dtype)


def tensor_from_array(array: NDArray[Any]) -> Tensor:
    """Return an image array as a tensor (1 or 3, H, W) float32 in [0, 1]; see `planes_from_array`."""
    return unit_range(planes_from_array(array)).contiguous()


def tensor_from_picture(picture: Image.Image) -> Tensor:
    """Return an upright picture of mode L, I;16 or RGB as a tensor (1 or 3, H, W) float32 in [0, 1]."""
    return tensor_from_array(numpy.asarray(picture))


def array_from_tensor(image: Tensor, dtype: Any) -> NDArray[Any]:
    """Return an image (1 or 3, H, W) as an array (H, W) or (H, W, 3).

    Parameters
    ----------
    image : Tensor
        uint8, uint16 or floating point in [0, 1], where values outside are clipped.
    dtype : dtype
        Of the array; unsigned integers are rounded to.
    """
    target = numpy.dtype(dtype)
    channels_last = image.detach().cpu().permute(1, 2, 0)
    if channels_last.shape[2] == 1:
        channels_last = channels_last[:, :, 0]
    array: NDArray[Any]
    if not image.is_floating_point() and channels_last.numpy().dtype == target:
        array = channels_last.numpy()
    elif target.kind == "u":
        wanted = torch.uint8 if target.itemsize == 1 else torch.uint16
        array = quantised(unit_range(channels_last), wanted).numpy()
    else:
        array = unit_range(channels_last).clamp(0, 1).numpy()
    return numpy.ascontiguousarray(array.astype(target, copy=False))


def picture_from_tensor(image: Tensor, bits: int = 8) -> Image.Image:
    """Return an image (1 or 3, H, W) as a picture of mode L, I;16 (grey, 16 bits) or RGB."""
    wide = bits == 16 and image.shape[0] == 1
    return Image.fromarray(array_from_tensor(image, numpy.uint16 if wide else numpy.uint8))
