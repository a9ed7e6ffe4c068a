"""Decoded pixels: from Pillow's many modes to upright grey or RGB with opacity."""

from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy
from numpy.typing import NDArray
from PIL import Image, ImageCms

from asnet.errors import InputError
from asnet.imaging.metadata import Metadata


@dataclass(frozen=True)
class Samples:
    """Pixels as stored in a file.

    Parameters
    ----------
    values : ndarray
        (H, W) or (H, W, 3), of any type of real numbers; large is bright.
    alpha : ndarray, optional
        Opacity (H, W), of the same type or uint8.
    metadata : Metadata
        The file's metadata.
    format : str
        JPEG, PNG, TIFF, WEBP, AVIF or HEIF.
    is_upright : bool
        Whether the decoder has already applied the orientation.
    """

    values: NDArray[Any]
    alpha: NDArray[Any] | None
    metadata: Metadata
    format: str = ""
    is_upright: bool = False


def upright_samples(samples: Samples) -> Samples:
    """Return samples rotated upright, with matching metadata."""
    orientation = 1 if samples.is_upright else samples.metadata.orientation
    values = upright(samples.values, orientation)
    height, width = values.shape[:2]
    return replace(
        samples,
        values=values,
        alpha=None if samples.alpha is None else upright(samples.alpha, orientation),
        metadata=samples.metadata.described(width, height),
        is_upright=True,
    )


def samples_of_picture(picture: Image.Image, metadata: Metadata, file_format: str = "") -> Samples:
    """Convert a Pillow picture. Palettes become RGB, CMYK is converted to sRGB; nothing is rotated yet.

    Raises
    ------
    InputError
        If the picture is of a mode that is neither grey nor colour.
    """
    opaque, alpha = _split_alpha(picture)
    values, keeps_profile = _as_grey_or_rgb(opaque, metadata.icc_profile)
    if not keeps_profile:
        metadata = replace(metadata, icc_profile=None)
    return Samples(numpy.asarray(values), alpha, metadata, file_format)


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and flip an array (H, W, ...) by EXIF's orientation, 1 to 8."""
    if orientation > 4:
        array = array.swapaxes(0, 1)
    # Axes that are then reversed.
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return numpy.ascontiguousarray(array)


def with_full_range(array: NDArray[Any], bits: int) -> NDArray[Any]:
    """Scale unsigned numbers with fewer bits than their type to its full range."""
    largest = numpy.iinfo(array.dtype).max
    scaled: NDArray[Any] = (array.astype(numpy.float64) * (largest / (2**bits - 1))).round()
    return scaled.astype(array.dtype)


def _split_alpha(picture: Image.Image) -> tuple[Image.Image, NDArray[numpy.uint8] | None]:
    """Return the picture without transparency, and its opacity if it has one."""
    transparent = "transparency" in picture.info
    if picture.mode in ("P", "PA"):
        has_alpha = transparent or picture.mode == "PA"
        picture = picture.convert("RGBA" if has_alpha else "RGB")
    elif picture.mode in ("La", "RGBa"):
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    elif transparent and picture.mode in ("1", "L", "RGB"):
        picture = picture.convert("RGBA" if picture.mode == "RGB" else "LA")
    if picture.mode not in ("LA", "RGBA"):
        return picture, None
    alpha = numpy.asarray(picture.getchannel("A"))
    return picture.convert("L" if picture.mode == "LA" else "RGB"), alpha


def _as_grey_or_rgb(picture: Image.Image, profile: bytes | None) -> tuple[Image.Image | NDArray[Any], bool]:
    """Return the picture as 8-bit or 16-bit grey, floats or RGB, and whether its profile still applies."""
    if picture.mode in ("L", "RGB", "I;16", "F", "I"):
        return picture, True
    if picture.mode == "1":
        return picture.convert("L"), True
    if picture.mode.startswith("I;16"):
        return numpy.asarray(picture).astype(numpy.uint16), True
    if picture.mode == "CMYK":
        return _rgb_from_cmyk(picture, profile), False
    if picture.mode in ("YCbCr", "LAB", "HSV", "RGBX"):
        return picture.convert("RGB"), picture.mode != "LAB"
    raise InputError(f"expected grey or colour, got Pillow's mode {picture.mode}")


def _rgb_from_cmyk(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to sRGB with the file's own profile if it is usable, else with Pillow's plain formula."""
    if profile is not None:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass
    return picture.convert("RGB")
