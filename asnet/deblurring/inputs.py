"""Checks of the inputs of `Deblurrer`: images of several types, opacity, scale."""

import operator
import reprlib
from numbers import Real
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from asnet.deblurring.kernel_search import Scale
from asnet.deblurring.resampling import SMALLEST_SIDE
from asnet.errors import InputError
from asnet.imaging import Photograph, check_range, photograph_from_picture, planes_from_array


def photograph_of(picture: Image.Image, alpha: Tensor | NDArray[Any] | None) -> Photograph:
    if alpha is not None:
        raise InputError("alpha is for tensors and arrays: a picture has its own transparency")
    return photograph_from_picture(picture)


def check_sides(pixels: Tensor, alpha: Tensor | NDArray[Any] | None) -> None:
    height, width = pixels.shape[1:]
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(
            f"an image must have at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, got {width}x{height}"
        )
    if alpha is None:
        return
    if not isinstance(alpha, Tensor | numpy.ndarray):
        raise InputError(f"alpha must be an array or a tensor, got {_shown(alpha)}")
    if tuple(alpha.shape) != (height, width):
        raise InputError(f"alpha must be {(height, width)} like its image, got {tuple(alpha.shape)}")
    if not (alpha.isfinite() if isinstance(alpha, Tensor) else numpy.isfinite(alpha)).all():
        raise InputError("alpha must hold finite numbers, got infinite ones or NaN")


def check_share(name: str, value: object) -> None:
    if not (isinstance(value, Real) and 0 <= float(value) <= 1):
        raise InputError(f"{name} must be from 0 to 1, got {value!r}")


def checked_scale(scale: Scale) -> Scale:
    """Return a scale as Python's own number, or "auto"."""
    if isinstance(scale, str) and scale == "auto":
        return "auto"
    try:
        whole = operator.index(scale)
    except TypeError:
        whole = 0
    if whole < 1 or isinstance(scale, bool):
        raise InputError(f"scale must be 'auto' or a whole number of at least 1, got {scale!r}")
    return whole


def planes_of(image: Tensor | NDArray[Any]) -> Tensor:
    """Return an image (1 or 3, H, W), uint8, uint16 or floating point in [0, 1], after checking it."""
    if isinstance(image, numpy.ndarray):
        return planes_from_array(image)
    if not isinstance(image, Tensor):
        raise InputError(
            f"an image must be a Pillow picture, an array or a tensor, got {_shown(image)}; "
            "asnet.imaging.read_photograph reads a file"
        )
    if image.dim() != 3 or image.shape[0] not in (1, 3):
        raise InputError(f"an image tensor must be (3, H, W) or (1, H, W), got {tuple(image.shape)}")
    if not image.is_floating_point() and image.dtype not in (torch.uint8, torch.uint16):
        raise InputError(
            f"an image tensor must be uint8, uint16 or floating point in [0, 1], got {image.dtype}"
        )
    if image.layout != torch.strided or image.is_meta:
        raise InputError(
            f"an image tensor must be dense and hold its values, got {image.layout} on {image.device}"
        )
    check_range(image)
    return image


def kernel_values(kernel: Tensor | NDArray[Any]) -> Tensor:
    """Return the numbers of a given blur kernel, on the CPU."""
    if isinstance(kernel, numpy.ndarray):
        # torch supports neither other byte orders nor negative strides.
        kernel = numpy.ascontiguousarray(kernel, kernel.dtype.newbyteorder("="))
    try:
        values = torch.as_tensor(kernel)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"a blur kernel must be an array or a tensor (K, K), got {_shown(kernel)}; "
            "asnet.imaging.read_kernel reads a file"
        ) from None
    if values.is_complex():
        raise InputError(f"a blur kernel must hold real numbers, got {values.dtype}")
    return values.cpu()


def _shown(value: object) -> str:
    """Describe a wrong argument on one line."""
    return f"{' '.join(reprlib.repr(value).split())} of type {type(value).__name__}"
