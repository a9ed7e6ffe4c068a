"""Between Pillow pictures or NumPy arrays and the tensors that networks take."""

from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from asnet.errors import InputError

_LARGEST_16_BIT = 65535


def tensor_from_array(array: NDArray[Any]) -> Tensor:
    """Return an image array as a tensor.

    Parameters
    ----------
    array : ndarray
        (H, W), (H, W, 1) or (H, W, 3); uint8, uint16, or floating point in [0, 1].

    Returns
    -------
    Tensor
        (1, H, W) or (3, H, W) float32 in [0, 1].

    Raises
    ------
    InputError
        If the shape or type is not one of these, or values are not finite.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise InputError(f"an image array must have the shape (H, W), (H, W, 1 or 3), got {array.shape}")
    if array.dtype == numpy.uint8:
        scaled = array.astype(numpy.float32) / 255
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        scaled = array.astype(numpy.float32) / _LARGEST_16_BIT
    elif array.dtype.kind == "f":
        scaled = array.astype(numpy.float32)
        if not numpy.isfinite(scaled).all():
            raise InputError("an image array must hold finite numbers, got infinite ones or NaN")
    else:
        raise InputError(f"an image array must be of type uint8, uint16 or float, got {array.dtype}")
    if scaled.ndim == 2:
        scaled = scaled[:, :, None]
    return torch.from_numpy(numpy.ascontiguousarray(scaled.transpose(2, 0, 1)))


def tensor_from_picture(picture: Image.Image) -> Tensor:
    """Return an upright picture of mode L, I;16 or RGB as a tensor (1 or 3, H, W) float32 in [0, 1]."""
    return tensor_from_array(numpy.asarray(picture))


def array_from_tensor(image: Tensor, dtype: Any) -> NDArray[Any]:
    """Return an image (1 or 3, H, W), range [0, 1], as an array (H, W) or (H, W, 3).

    Values outside the range are clipped; unsigned integers are rounded to.
    """
    array = image.detach().float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    if array.shape[2] == 1:
        array = array[:, :, 0]
    target = numpy.dtype(dtype)
    if target.kind == "u":
        array = numpy.rint(array * numpy.float32(numpy.iinfo(target).max))
    return numpy.ascontiguousarray(array.astype(target))


def picture_from_tensor(image: Tensor, bits: int = 8) -> Image.Image:
    """Return an image (1 or 3, H, W), range [0, 1], as a picture of mode L, I;16 (grey, 16 bits) or RGB."""
    wide = bits == 16 and image.shape[0] == 1
    return Image.fromarray(array_from_tensor(image, numpy.uint16 if wide else numpy.uint8))
