"""Blur kernels as files: exact values in .npy, otherwise an image whose largest value is white."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from asnet.errors import ImageFileError, InputError
from asnet.imaging.decoding import read_samples
from asnet.imaging.formats import check_suffix, write_atomically, write_picture

#: Suffixes that `write_kernel` supports; `read_kernel` also reads every format of photographs.
KERNEL_SUFFIXES = (".png", ".npy")

#: Largest side of a blur kernel: a larger image is a photograph given by mistake.
_LARGEST_SIDE = 4096

_SHEET_CELL = 96
_SHEET_GAP = 4


def read_kernel(path: str | Path) -> Tensor:
    """Read a blur kernel.

    Parameters
    ----------
    path : str or Path
        A .npy file with a two-dimensional array, or an image of any depth, bright where the camera dwelt
        (channels of a colour image are averaged).

    Returns
    -------
    Tensor
        (K, K) float32 of sum 1, see `fit_kernel`.

    Raises
    ------
    ImageFileError
        If the file is missing, unreadable or does not hold a blur kernel.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        values = torch.from_numpy(_read_array(path))
    else:
        samples = read_samples(path, str(path))
        array = samples.values.astype(numpy.float64)
        values = torch.from_numpy(array if array.ndim == 2 else array.mean(2))
    try:
        return fit_kernel(values)
    except InputError as error:
        raise ImageFileError(f"{path} holds no blur kernel: {error}") from None


def fit_kernel(values: Tensor) -> Tensor:
    """Return values (H, W) as a blur kernel: without empty margins, square, odd, of sum 1.

    Margins are removed, and zeros added to the shorter axis, equally on both sides, so that the centre stays;
    for an even length that is the pixel right of or below the middle.

    Returns
    -------
    Tensor
        (K, K) float32, K odd.

    Raises
    ------
    InputError
        If the shape is not two-dimensional, a value is negative or not finite, or all are zero.
    """
    if values.dim() != 2 or values.numel() == 0:
        raise InputError(f"a blur kernel must have the shape (K, K), got {tuple(values.shape)}")
    if max(values.shape) > _LARGEST_SIDE:
        raise InputError(
            f"a blur kernel may have up to {_LARGEST_SIDE} pixels a side, got {tuple(values.shape)}"
        )
    values = values.double()
    if not bool(values.isfinite().all()):
        raise InputError("a blur kernel must hold finite numbers, got infinite ones or NaN")
    if bool((values < 0).any()):
        raise InputError(f"a blur kernel must not be negative, got {float(values.min()):.4g}")
    if not bool((values > 0).any()):
        raise InputError("a blur kernel must have a value above 0, got only zeros")
    rows, columns = (length // 2 for length in values.shape)
    filled = values.nonzero()
    radius = int((filled - torch.tensor([rows, columns])).abs().max())
    size = 2 * radius + 1
    kernel = torch.zeros(size, size, dtype=torch.float64)
    kernel[filled[:, 0] - rows + radius, filled[:, 1] - columns + radius] = values[values > 0]
    return (kernel / kernel.sum()).float()


def write_kernel(path: str | Path, kernel: Tensor) -> None:
    """Write a blur kernel (K, K): .npy exactly, .png as 16-bit grey relative to its largest value.

    Raises
    ------
    ImageFileError
        If the suffix is another one or the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    check_suffix(path, KERNEL_SUFFIXES)
    kernel = kernel.detach().float().cpu()
    if path.suffix.lower() == ".npy":
        with write_atomically(path) as file:
            numpy.save(file, kernel.numpy(), allow_pickle=False)
    else:
        write_picture(path, kernel_picture(kernel, bits=16))


def kernel_picture(kernel: Tensor, *, bits: int = 8, side: int | None = None) -> Image.Image:
    """Return a blur kernel (K, K) as a grey picture whose largest value is white.

    Parameters
    ----------
    kernel : Tensor
        (K, K), not negative.
    bits : int
        8 or 16.
    side : int, optional
        Enlarge to a square of this many pixels, or less if K does not divide it; K itself by default.
    """
    relative = kernel.detach().float().cpu().clamp(min=0)
    relative = relative / relative.max().clamp(min=torch.finfo(torch.float32).tiny)
    if side is not None:
        factor = max(1, side // kernel.shape[-1])
        relative = relative.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    values = (relative.double() * (2**bits - 1)).round().numpy()
    return Image.fromarray(values.astype(numpy.uint16 if bits == 16 else numpy.uint8))


def kernel_sheet(kernels: Sequence[Tensor] | Tensor) -> Image.Image:
    """Return one picture of many blur kernels (N, K, K), row by row, as square as it can be."""
    count = len(kernels)
    columns = max(1, int(numpy.ceil(numpy.sqrt(count))))
    rows = max(1, -(-count // columns))
    cell = max([_SHEET_CELL, *(kernel.shape[-1] for kernel in kernels)])
    pitch = cell + _SHEET_GAP
    sheet = Image.new("L", (columns * pitch + _SHEET_GAP, rows * pitch + _SHEET_GAP), 64)
    for index, kernel in enumerate(kernels):
        picture = kernel_picture(kernel, side=cell)
        margin = (cell - picture.width) // 2
        left, top = (_SHEET_GAP + place * pitch + margin for place in (index % columns, index // columns))
        sheet.paste(picture, (left, top))
    return sheet


def _read_array(path: Path) -> NDArray[Any]:
    try:
        array = numpy.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ImageFileError(f"there is no file {path}") from None
    except OSError as error:
        if error.errno is not None:
            raise ImageFileError(f"cannot read {path}: {error.strerror}") from None
        raise ImageFileError(f"{path} is not a .npy file with a plain array of numbers") from None
    except Exception:
        # NumPy parses the header as Python text: a damaged one raises whatever Python's tokenizer raises.
        raise ImageFileError(f"{path} is not a .npy file with a plain array of numbers") from None
    if not isinstance(array, numpy.ndarray) or array.dtype.kind not in "fiu":
        raise ImageFileError(f"{path} must hold an array of real numbers")
    return array.astype(numpy.float64)
