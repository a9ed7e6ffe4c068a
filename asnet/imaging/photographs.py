"""Photographs as files: upright pixels, and the rest of the file's content for the result."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from asnet.errors import ImageFileError, InputError
from asnet.imaging.decoding import read_samples, reading_errors
from asnet.imaging.encoding import as_bits, check_sides, encode
from asnet.imaging.exif import PREFIX
from asnet.imaging.formats import PHOTOGRAPH_SUFFIXES, check_suffix, write_bytes
from asnet.imaging.metadata import Metadata
from asnet.imaging.metadata_formats import picture_metadata
from asnet.imaging.pillow_decoding import MOST_PIXELS
from asnet.imaging.pixels import array_from_tensor, picture_from_tensor, planes_from_array
from asnet.imaging.samples import Samples, samples_of_picture, upright_samples


@dataclass(frozen=True)
class Photograph:
    """A decoded photograph and the rest of its file's content.

    Parameters
    ----------
    pixels : Tensor
        (3, H, W), or (1, H, W) of a grey file; uint8, uint16 or float32 in [0, 1], upright, in the file's own
        colour space. `asnet.imaging.unit_range` makes float32 of any of them.
    alpha : ndarray, optional
        Opacity (H, W), uint8 or uint16.
    metadata : Metadata
        Metadata for the result.
    format : str
        Format of its file: JPEG, PNG, TIFF, WEBP, AVIF or HEIF; empty if it has none.
    notes : tuple of str
        What could not be kept from the file, one sentence each.
    """

    pixels: Tensor
    alpha: NDArray[Any] | None = None
    metadata: Metadata = field(default_factory=Metadata)
    format: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def bits(self) -> int:
        """Bits per channel of the written photograph: 8, or 16 if it came with more."""
        from_float = self.pixels.is_floating_point() and self.format == "TIFF"
        return 16 if self.pixels.dtype == torch.uint16 or from_float else 8

    @property
    def own_format(self) -> str:
        """Format to write if no name decides: that of its file if asnet writes it, else JPEG."""
        return self.format if self.format in PHOTOGRAPH_SUFFIXES.values() else "JPEG"

    def picture(self) -> Image.Image:
        """Return the photograph as a picture of mode L, LA, I;16, RGB or RGBA.

        Its `info` has colour profile and EXIF block, which Pillow's `save` writes.
        """
        picture = picture_from_tensor(self.pixels, self.bits if self.alpha is None else 8)
        if self.alpha is not None:
            picture.putalpha(Image.fromarray(as_bits(self.alpha, 8)))
        if self.metadata.icc_profile is not None:
            picture.info["icc_profile"] = self.metadata.icc_profile
        if self.metadata.exif is not None:
            picture.info["exif"] = PREFIX + self.metadata.exif.to_bytes()
        return picture


def read_photograph(
    source: str | Path | BinaryIO, *, name: str | None = None, max_pixels: int = MOST_PIXELS
) -> Photograph:
    """Read a JPEG, PNG, TIFF, WebP, AVIF or (with pillow-heif) HEIC file.

    From an animation or a file with several pages, the first picture is read. `Photograph.notes` lists this
    and everything else that is lost.

    Parameters
    ----------
    source : str, Path or binary file
        The file; an open one must be seekable.
    name : str, optional
        Its name in messages; the path by default.
    max_pixels : int
        Larger pictures are refused, because a small file can claim a size that fills the memory.

    Raises
    ------
    ImageFileError
        If the file is missing, not an image, truncated or damaged, too large, a camera raw file, or its
        values are not colours: 32-bit integers, or floating point outside [0, 1].
    """
    if isinstance(source, str):
        source = Path(source)
    name = name or str(source)
    samples = read_samples(source, name, max_pixels=max_pixels)
    with reading_errors(name):
        try:
            return _photograph(samples, name)
        except InputError as error:
            raise ImageFileError(f"cannot use {name}: {error}") from None


def photograph_from_picture(picture: Image.Image) -> Photograph:
    """Convert a Pillow picture.

    The orientation tag is applied. Grey stays grey, with 8 or 16 bits; palettes become RGB, CMYK is converted
    to sRGB.

    Raises
    ------
    InputError
        If the picture has 32-bit integers or floating-point pixels outside of [0, 1].
    """
    # Pillow rotates TIFF pictures when it loads them, and removes the tag.
    picture.load()
    samples = samples_of_picture(picture, picture_metadata(picture))
    return _photograph(upright_samples(samples), "the picture")


def write_photograph(path: str | Path, photograph: Photograph) -> tuple[str, ...]:
    """Write a photograph atomically, in the format of the suffix.

    Returns
    -------
    tuple of str
        What the format cannot hold of this photograph, one sentence each.

    Raises
    ------
    ImageFileError
        If the suffix is unknown or the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    check_suffix(path, PHOTOGRAPH_SUFFIXES)
    try:
        data, notes = encoded_photograph(photograph, PHOTOGRAPH_SUFFIXES[path.suffix.lower()])
    except ImageFileError as error:
        raise ImageFileError(f"cannot write {path}: {error}") from None
    write_bytes(path, data)
    return tuple(f"{path} {note}" for note in notes)


def encoded_photograph(photograph: Photograph, file_format: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a photograph as the bytes of a file, and what they lack, one predicate each.

    Parameters
    ----------
    photograph : Photograph
        The photograph.
    file_format : str
        JPEG, PNG, TIFF or WEBP.

    Raises
    ------
    ImageFileError
        If the format cannot hold it.
    """
    bits = photograph.bits
    values = array_from_tensor(photograph.pixels, numpy.uint16 if bits == 16 else numpy.uint8)
    alpha = None if photograph.alpha is None else as_bits(photograph.alpha, bits)
    return encode(file_format, values, alpha, photograph.metadata)


def check_fits(path: Path, photograph: Photograph) -> None:
    """Raise `ImageFileError` if the format that the suffix names cannot hold so large a picture."""
    check_suffix(path, PHOTOGRAPH_SUFFIXES)
    height, width = photograph.pixels.shape[1:]
    try:
        check_sides(PHOTOGRAPH_SUFFIXES[path.suffix.lower()], width, height)
    except ImageFileError as error:
        raise ImageFileError(f"cannot write {path}: {error}") from None


def _photograph(samples: Samples, name: str) -> Photograph:
    """Return decoded samples as a photograph, if they are colours."""
    alpha = samples.alpha
    if alpha is not None and alpha.dtype.kind == "f":
        alpha = numpy.rint(alpha.clip(0, 1) * 65535).astype(numpy.uint16)
    problems = samples.metadata.problems
    if samples.values.dtype.kind == "f":
        problems += ("is in floating point: the result has 16 bits",)
    return Photograph(
        pixels=planes_from_array(samples.values),
        alpha=alpha,
        metadata=samples.metadata,
        format=samples.format,
        notes=tuple(f"{name} {problem}" for problem in problems),
    )
