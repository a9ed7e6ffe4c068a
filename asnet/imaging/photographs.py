"""Photographs as files: pixels upright, and everything else that the file carries kept for the result."""

from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps
from torch import Tensor

from asnet.errors import ImageFileError, InputError
from asnet.imaging.files import PHOTOGRAPH_SUFFIXES, check_suffix, opened_picture, write_picture
from asnet.imaging.pixels import picture_from_tensor, tensor_from_picture

#: Of a TIFF file's tags those that describe the photograph; the others describe how the file stores it.
_DESCRIPTIVE_TAGS = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
)

_BITS_PER_SAMPLE = 258

#: How each format is written. JPEG and WebP lose little at 95; 4:4:4 keeps the colours of edges. TIFF stays
#: uncompressed, because Pillow's compressed one cannot hold the camera's EXIF table.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "TIFF": {},
    "WEBP": {"quality": 95, "exact": True},
}


@dataclass(frozen=True)
class Photograph:
    """A decoded photograph and what its file carries besides.

    Parameters
    ----------
    pixels : Tensor
        (3, H, W), or (1, H, W) of a grey file; float32 in [0, 1], upright, in the file's own colour space.
    bits : int
        8 or 16 for each channel.
    alpha : ndarray, optional
        Opacity (H, W) uint8.
    icc_profile : bytes, optional
        Colour profile of the pixels.
    exif : bytes, optional
        EXIF block without an orientation, which is applied to the pixels.
    resolution : tuple of float, optional
        Pixels per inch, horizontal and vertical.
    notes : tuple of str
        What could not be kept of the file, one sentence each.
    """

    pixels: Tensor
    bits: int = 8
    alpha: NDArray[numpy.uint8] | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    resolution: tuple[float, float] | None = None
    notes: tuple[str, ...] = field(default=())

    def picture(self, *, bits: int | None = None, opaque: bool = False) -> Image.Image:
        """Return the photograph as a picture of mode L, LA, I;16, RGB or RGBA.

        Its `info` holds colour profile and EXIF block, from where Pillow's `save` takes them.

        Parameters
        ----------
        bits : int, optional
            8 or 16 instead of the photograph's own.
        opaque : bool
            Leave the transparency out.
        """
        picture = picture_from_tensor(self.pixels, self.bits if bits is None else bits)
        if self.alpha is not None and not opaque:
            picture.putalpha(Image.fromarray(self.alpha))
        for name, value in (("icc_profile", self.icc_profile), ("exif", self.exif)):
            if value is not None:
                picture.info[name] = value
        return picture


def read_photograph(path: str | Path) -> Photograph:
    """Read a JPEG, PNG, TIFF or WebP file.

    Of an animation or a file with several pages the first picture is taken, and Pillow reads only the upper
    8 bits of 16-bit colour: `Photograph.notes` then says so.

    Raises
    ------
    ImageFileError
        If the file is missing, not an image, truncated or damaged, or holds 32-bit or floating-point pixels.
    """
    path = Path(path)
    with opened_picture(path) as picture:
        try:
            return replace(photograph_from_picture(picture), notes=reading_notes(path, picture))
        except InputError as error:
            raise ImageFileError(f"cannot use {path}: {error}") from None


def reading_notes(path: Path, picture: Image.Image) -> tuple[str, ...]:
    """Return what reading a photograph loses of its file, by the file's opened picture, one sentence each."""
    notes = []
    # MPO is a JPEG followed by further pictures, as telephones write it; the first is the photograph.
    if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
        notes.append(f"{path} holds several pictures, only the first is taken")
    if not picture.mode.startswith("I") and _sample_bits(path, picture) == 16:
        notes.append(f"{path} has 16 bits a channel in colour, of which only the upper 8 can be read")
    return tuple(notes)


def photograph_from_picture(picture: Image.Image) -> Photograph:
    """Take a Pillow picture apart.

    The orientation tag is applied. Grey stays grey, with 8 or 16 bits; palettes become RGB, CMYK is converted
    to sRGB.

    Raises
    ------
    InputError
        If the picture has 32-bit or floating-point pixels.
    """
    exif = _kept_exif(picture)
    resolution = picture.info.get("dpi")
    profile = picture.info.get("icc_profile") or None
    upright, alpha = _split_alpha(ImageOps.exif_transpose(picture))
    upright, profile = _as_grey_or_rgb(upright, profile)
    return Photograph(
        pixels=tensor_from_picture(upright),
        bits=16 if upright.mode == "I;16" else 8,
        alpha=alpha,
        icc_profile=profile,
        exif=exif,
        resolution=(float(resolution[0]), float(resolution[1])) if resolution else None,
    )


def write_photograph(path: str | Path, photograph: Photograph) -> tuple[str, ...]:
    """Write a photograph in the format that the suffix names, in one step.

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
    file_format = PHOTOGRAPH_SUFFIXES[path.suffix.lower()]
    notes = []
    bits = photograph.bits
    if bits == 16 and file_format in ("JPEG", "WEBP"):
        bits = 8
        notes.append(f"{path} has 8 bits a channel instead of 16, more than {file_format} can hold")
    opaque = file_format == "JPEG"
    if opaque and photograph.alpha is not None:
        notes.append(f"{path} is opaque, because JPEG cannot hold transparency")
    options = dict(_SAVE_OPTIONS[file_format])
    # Not every format's writer looks for them in the picture itself.
    for name, value in (("icc_profile", photograph.icc_profile), ("exif", photograph.exif)):
        if value is not None:
            options[name] = value
    if photograph.resolution is not None and file_format != "WEBP":
        options["dpi"] = photograph.resolution
    write_picture(path, photograph.picture(bits=bits, opaque=opaque), **options)
    return tuple(notes)


def _sample_bits(path: Path, picture: Image.Image) -> int:
    """Bits of a channel in the file, which Pillow's mode does not tell for colour."""
    if picture.format == "TIFF":
        bits = picture.tag_v2.get(_BITS_PER_SAMPLE, 8)  # type: ignore[attr-defined]
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    if picture.format == "PNG":
        with path.open("rb") as file:
            # Signature, length and name of the header chunk, width, height, then the bit depth.
            return file.read(25)[24]
    return 8


def _kept_exif(picture: Image.Image) -> bytes | None:
    exif = picture.getexif()
    kept = Image.Exif()
    # The camera's and the position's tags are tables of their own, which Pillow reads on request.
    tables = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
    for tag, value in exif.items():
        if tag in _DESCRIPTIVE_TAGS or (
            picture.format != "TIFF" and tag not in (ExifTags.Base.Orientation, *tables)
        ):
            kept[tag] = value
    for table in tables:
        entries = exif.get_ifd(table)
        if entries:
            kept[table] = dict(entries)
    return kept.tobytes() if len(kept) else None


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
    alpha = numpy.asarray(picture.getchannel("A")).copy()
    return picture.convert("L" if picture.mode == "LA" else "RGB"), alpha


def _as_grey_or_rgb(picture: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """Return the picture in mode L, I;16 or RGB, and the profile that its values are then in."""
    if picture.mode in ("L", "RGB", "I;16"):
        return picture, profile
    if picture.mode == "1":
        return picture.convert("L"), profile
    if picture.mode.startswith("I;16"):
        return Image.fromarray(numpy.asarray(picture).astype(numpy.uint16)), profile
    if picture.mode == "CMYK":
        return _rgb_from_cmyk(picture, profile), None
    if picture.mode in ("YCbCr", "LAB", "HSV"):
        return picture.convert("RGB"), None if picture.mode == "LAB" else profile
    raise InputError(f"expected pixels of 8 bits a channel, or 16 in grey, got Pillow's mode {picture.mode}")


def _rgb_from_cmyk(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """sRGB by the file's own profile where it is usable, by Pillow's plain formula otherwise."""
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
