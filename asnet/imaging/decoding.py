"""Decoding of image files: recognises the format, decodes it, and reports errors in one sentence."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy
from PIL import UnidentifiedImageError, features

from asnet.errors import AsnetError, ImageFileError
from asnet.imaging.containers import JPEG_START, PNG_SIGNATURE, Chunk, joined_png, split_png
from asnet.imaging.exif import ORIENTATION, read_exif
from asnet.imaging.formats import RAW_SUFFIXES
from asnet.imaging.jpeg_decoding import read_jpeg
from asnet.imaging.metadata import Metadata
from asnet.imaging.metadata_formats import info_metadata, png_metadata, tiff_metadata
from asnet.imaging.pillow_decoding import MOST_PIXELS, check_size, decode_picture, open_picture
from asnet.imaging.samples import Samples, samples_of_picture, upright_samples
from asnet.imaging.tiff_files import (
    count_pictures,
    further_channels,
    has_all_parts,
    is_deep,
    is_grey_or_rgb,
    is_raw,
    is_unknown_to_pillow,
    read_by_tifffile,
)

_FORMATS = "JPEG, PNG, TIFF, WebP, HEIC or AVIF"
_SEVERAL = "holds several pictures; only the first is used"
_EIGHT_BITS = "has more than 8 bits a channel, only the upper 8 of which can be read"

_RAW_ADVICE = (
    "is a camera raw file, which asnet does not read: develop it with a raw converter and use the 16-bit "
    "TIFF or PNG"
)

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_RAW_STARTS = (b"II*\0\x10\0\0\0CR", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILM", b"\0MRM", b"FOVb")
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

#: Samples of a pixel by PNG's colour type, and an upper limit of its compression ratio.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_LARGEST_RATIO = 1100


def read_samples(source: Path | BinaryIO, name: str, *, max_pixels: int = MOST_PIXELS) -> Samples:
    """Decode the first picture of a file, upright, with the file's metadata.

    Parameters
    ----------
    source : Path or binary file
        The file; an open one must be seekable.
    name : str
        Its name in messages.
    max_pixels : int
        Larger pictures are refused.

    Raises
    ------
    ImageFileError
        If the file is missing, no image of a known format, truncated, damaged, or larger than allowed.
    """
    with reading_errors(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(source, Path):
            if source.is_dir():
                raise ImageFileError(f"{name} is a folder, not an image")
            if source.exists() and not source.is_file():
                raise ImageFileError(f"{name} is a device or a pipe, not a file; - reads standard input")
            with source.open("rb") as file:
                samples = _read(file, name, source.suffix.lower(), max_pixels)
        else:
            samples = _read(source, name, "", max_pixels)
        return upright_samples(samples)


def read_size(path: Path) -> tuple[int, int, tuple[str, ...]]:
    """Return width and height of a file's first picture, upright, and notes on losses, without decoding.

    Raises
    ------
    ImageFileError
        If the file is missing, no image of a known format, or its header is damaged.
    """
    name = str(path)
    with reading_errors(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.is_dir():
            raise ImageFileError(f"{name} is a folder, not an image")
        with path.open("rb") as file:
            start = file.read(16)
            if start.startswith(_TIFF_STARTS):
                exif = read_exif(file)
                sides = () if exif is None else (exif.number(256), exif.number(257))
                if exif is None or None in sides:
                    raise ImageFileError(f"{name} is truncated or damaged: its header gives no size")
                width, height = exif.number(256) or 0, exif.number(257) or 0
                orientation, several = exif.number(ORIENTATION), count_pictures(file) > 1
            elif start.startswith((JPEG_START, PNG_SIGNATURE)) or start[8:12] == b"WEBP":
                file.seek(0)
                picture = open_picture(file, ["JPEG", "PNG", "WEBP"])
                width, height = picture.size
                # MPO is a JPEG followed by further pictures; a PNG would be decoded to find its EXIF.
                several = picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1
                orientation = 1 if picture.format == "PNG" else picture.getexif().get(ORIENTATION, 1)
            else:
                raise ImageFileError(f"{name} is not a {_FORMATS} image")
    if isinstance(orientation, int) and 5 <= orientation <= 8:
        width, height = height, width
    return width, height, (f"{name} {_SEVERAL}",) if several else ()


@contextmanager
def reading_errors(name: str) -> Iterator[None]:
    """Convert whatever decoders raise to an `ImageFileError` of one sentence, except for lack of memory."""
    try:
        yield
    except (AsnetError, MemoryError):
        raise
    except FileNotFoundError:
        raise ImageFileError(f"there is no file {name}") from None
    except UnidentifiedImageError:
        raise ImageFileError(f"{name} is truncated or damaged: its header is invalid") from None
    except OSError as error:
        if error.errno is not None:
            raise ImageFileError(f"cannot read {name}: {error.strerror}") from None
        # Decoders' own messages ("cannot load this image") do not help.
        raise ImageFileError(f"{name} is truncated or damaged: its pixels cannot be decoded") from None
    except Exception as error:
        # Decoders of damaged files raise TypeError, AttributeError, KeyError and others.
        raise ImageFileError(f"{name} is truncated or damaged: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _read(file: BinaryIO, name: str, suffix: str, max_pixels: int) -> Samples:
    start = file.read(64)
    if not start:
        raise ImageFileError(f"{name} is empty")
    brands = {start[8:12], *(start[place : place + 4] for place in range(16, len(start) - 3, 4))}
    if suffix in RAW_SUFFIXES or start.startswith(_RAW_STARTS) or start[4:12] == b"ftypcrx ":
        raise ImageFileError(f"{name} {_RAW_ADVICE}")
    if start.startswith(b"\xff\xd8\xff"):
        return read_jpeg(_whole(file), name, max_pixels)
    if start.startswith(PNG_SIGNATURE):
        return _read_png(_whole(file), name, max_pixels)
    if start.startswith(_TIFF_STARTS):
        return _read_tiff(file, name, max_pixels)
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return _read_other(file, name, "WEBP", max_pixels)
    if start[4:8] == b"ftyp" and brands & set(_AVIF_BRANDS):
        if not features.check("avif"):
            raise ImageFileError(f"{name} is AVIF, which this installation of Pillow cannot decode")
        return _read_other(file, name, "AVIF", max_pixels)
    if start[4:8] == b"ftyp" and brands & set(_HEIF_BRANDS):
        return _read_heif(file, name, max_pixels)
    raise ImageFileError(f"{name} is not a {_FORMATS} image")


def _whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _read_png(data: bytes, name: str, max_pixels: int) -> Samples:
    chunks, damaged, behind = split_png(data)
    if chunks and chunks[0].name == b"CgBI":
        raise ImageFileError(f"{name} is a PNG in Apple's format for apps, which asnet does not read")
    if not chunks or chunks[0].name != b"IHDR" or len(chunks[0].data) != 13:
        raise ImageFileError(f"{name} is truncated or damaged: it has no header")
    metadata = png_metadata(chunks, damaged, behind)
    needed = [chunk for chunk in chunks if chunk.is_critical or chunk.name == b"tRNS"]
    if needed[-1].name != b"IEND":
        needed.append(Chunk(b"IEND", b""))
    plain = joined_png(needed)
    header = chunks[0].data
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    check_size(width, height, name, max_pixels)
    compressed = sum(len(chunk.data) for chunk in needed if chunk.name == b"IDAT")
    if compressed * _LARGEST_RATIO < width * height * header[8] * _PNG_CHANNELS.get(header[9], 1) // 8:
        raise ImageFileError(f"{name} is truncated or damaged: it holds fewer pixels than it says")
    if header[8] < 16:
        return samples_of_picture(decode_picture(BytesIO(plain), name, "PNG", max_pixels), metadata, "PNG")
    import imagecodecs

    values = imagecodecs.png_decode(plain)
    alpha = None
    if values.ndim == 3 and values.shape[2] in (2, 4):
        values, alpha = values[..., :-1], values[..., -1]
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    return Samples(values, alpha, metadata, "PNG")


def _read_tiff(file: BinaryIO, name: str, max_pixels: int) -> Samples:
    exif = read_exif(file)
    if is_raw(exif):
        raise ImageFileError(f"{name} {_RAW_ADVICE}")
    metadata = tiff_metadata(file)
    if exif is not None:
        width, height = exif.number(256), exif.number(257)
        if width is None or height is None:
            raise ImageFileError(f"{name} is truncated or damaged: its header gives no size")
        check_size(width, height, name, max_pixels)
        if not has_all_parts(exif, width, height):
            raise ImageFileError(f"{name} is truncated or damaged: it holds fewer pixels than it says")
    deep, unknown = is_deep(exif), is_unknown_to_pillow(file, exif)
    if (deep or unknown) and is_grey_or_rgb(exif):
        samples = read_by_tifffile(file, metadata)
    elif unknown:
        raise ImageFileError(
            f"{name} is neither grey nor RGB, which asnet does not read with this byte order or compression"
        )
    else:
        file.seek(0)
        try:
            picture = decode_picture(file, name, "TIFF", max_pixels)
        except UnidentifiedImageError:
            raise ImageFileError(
                f"{name} is damaged, or a kind of TIFF that asnet does not read: neither grey nor RGB"
            ) from None
        if deep:
            metadata = _with_problem(metadata, _EIGHT_BITS)
        unused = 0 if exif is None else (exif.number(277) or 0) - len(picture.getbands())
        if unused > 0:
            metadata = _with_problem(metadata, further_channels(unused))
        # Pillow rotates only TIFF pictures itself.
        samples = replace(samples_of_picture(picture, metadata, "TIFF"), is_upright=True)
    if count_pictures(file) > 1:
        samples = replace(samples, metadata=_with_problem(samples.metadata, _SEVERAL))
    return samples


def _read_other(file: BinaryIO, name: str, file_format: str, max_pixels: int) -> Samples:
    """WebP and AVIF, which Pillow describes completely."""
    start = _whole(file)[:65536]
    file.seek(0)
    picture = decode_picture(file, name, file_format, max_pixels)
    metadata = info_metadata(picture.info, picture.info.get("exif"))
    if getattr(picture, "n_frames", 1) > 1:
        metadata = _with_problem(metadata, _SEVERAL)
    place = start.find(b"av1C")
    # After the name: version, profile and level, then the flag of more than 8 bits.
    if file_format == "AVIF" and 0 <= place < len(start) - 6 and start[place + 6] & 0x40:
        metadata = _with_problem(metadata, _EIGHT_BITS)
    return samples_of_picture(picture, metadata, file_format)


def _read_heif(file: BinaryIO, name: str, max_pixels: int) -> Samples:
    try:
        import pillow_heif
    except ImportError:
        raise ImageFileError(f"{name} is HEIC, which needs pillow-heif: pip install 'asnet[heif]'") from None
    file.seek(0)
    container = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
    picture = container[container.primary_index]
    check_size(*picture.size, name, max_pixels)
    # The decoder applies the file's own rotation; the orientation in EXIF must be ignored.
    metadata = info_metadata(picture.info, picture.info.get("exif"))
    if metadata.exif is not None:
        metadata.exif.main.pop(274, None)
    if len(container) > 1:
        metadata = _with_problem(metadata, _SEVERAL)
    if picture.info.get("depth_images") or picture.info.get("aux"):
        metadata = _with_problem(
            metadata, "holds further pictures, such as a gain map or depths, which are not kept"
        )
    # A copy: older versions of pillow-heif free the pixels with the container.
    array = numpy.array(picture)
    channels = 1 if array.ndim == 2 else array.shape[2]
    alpha = array[..., -1] if channels in (2, 4) else None
    values = array if channels == 1 and array.ndim == 2 else array[..., : 1 if channels < 3 else 3]
    return Samples(values[..., 0] if values.ndim == 3 and channels < 3 else values, alpha, metadata, "HEIF")


def _with_problem(metadata: Metadata, problem: str) -> Metadata:
    return replace(metadata, problems=(*metadata.problems, problem))
