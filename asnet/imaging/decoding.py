"""Image files decoded: which format it is, who decodes it, and one sentence for whatever goes wrong."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy
from PIL import Image, UnidentifiedImageError, features

from asnet.errors import AsnetError, ImageFileError
from asnet.imaging.containers import (
    JPEG_END,
    JPEG_START,
    PNG_SIGNATURE,
    Chunk,
    Segment,
    behind_jpeg,
    joined_jpeg,
    joined_png,
    split_jpeg,
    split_png,
)
from asnet.imaging.exif import ORIENTATION, read_exif
from asnet.imaging.formats import RAW_SUFFIXES
from asnet.imaging.metadata import (
    Metadata,
    info_metadata,
    jpeg_metadata,
    png_metadata,
    tiff_metadata,
)
from asnet.imaging.samples import Samples, samples_of_picture, upright_samples, with_full_range
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

#: Pixels of the largest image that is decoded unless more are allowed: what Pillow takes for an attack.
MOST_PIXELS = 2 * 89_478_485

_FORMATS = "JPEG, PNG, TIFF, WebP, HEIC or AVIF"
_SEVERAL = "holds several pictures, only the first is taken"
_EIGHT_BITS = "has more than 8 bits a channel, of which only the upper 8 can be read"

_RAW_ADVICE = (
    "is a camera's raw file, which asnet does not read: develop it with a raw converter and give the 16-bit "
    "TIFF or PNG"
)

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_RAW_STARTS = (b"II*\0\x10\0\0\0CR", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILM", b"\0MRM", b"FOVb")
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

#: Markers of JPEG's segments that tell size and depth, and which of them is that of lossless files.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS = 0xC3

#: Samples of a pixel by PNG's colour types, and what its compression gains at most, with some room.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_LARGEST_RATIO = 1100

#: So few zeros at the end of a JPEG scan may belong to its codes.
_FEW = 4

#: Paddings that stand in for what may be missing of a JPEG scan: another picture shows that it is missing.
_PADDINGS = (b"", b"\x55" * 1024, b"\xaa" * 1024)


def read_samples(source: Path | BinaryIO, name: str, *, max_pixels: int = MOST_PIXELS) -> Samples:
    """Decode the first picture of a file, upright, with what the file carries besides.

    Parameters
    ----------
    source : Path or binary file
        The file; an open one can be read at any place.
    name : str
        What messages call it.
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
    """Return width and height of a file's first picture, upright, and what is lost of it, without decoding.

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
                    raise ImageFileError(f"{name} is truncated or damaged: it does not say how large it is")
                width, height = exif.number(256) or 0, exif.number(257) or 0
                orientation, several = exif.number(ORIENTATION), count_pictures(file) > 1
            elif start.startswith((JPEG_START, PNG_SIGNATURE)) or start[8:12] == b"WEBP":
                file.seek(0)
                picture = _opened(file, ["JPEG", "PNG", "WEBP"])
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
    """Turn whatever decoders raise into an `ImageFileError` of one sentence; too little memory passes."""
    try:
        yield
    except (AsnetError, MemoryError):
        raise
    except FileNotFoundError:
        raise ImageFileError(f"there is no file {name}") from None
    except UnidentifiedImageError:
        raise ImageFileError(f"{name} is truncated or damaged: its header makes no sense") from None
    except OSError as error:
        if error.errno is not None:
            raise ImageFileError(f"cannot read {name}: {error.strerror}") from None
        # Decoders' own words ("cannot load this image") tell nothing.
        raise ImageFileError(f"{name} is truncated or damaged: its pixels cannot be decoded") from None
    except Exception as error:
        # Decoders of damaged files raise TypeError, AttributeError, KeyError and what else comes.
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
        return _read_jpeg(_whole(file), name, max_pixels)
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


def _read_jpeg(data: bytes, name: str, max_pixels: int) -> Samples:
    parts = split_jpeg(data)
    if parts is None:
        raise ImageFileError(f"{name} is truncated or damaged: it has no scan")
    segments, scan = parts
    # Pillow gets what the pixels need; the rest is parsed elsewhere.
    needed = [
        segment
        for segment in segments
        if segment.marker not in (0xE1, 0xED, 0xFE) and not segment.data.startswith(b"MPF\0")
    ]
    plain = joined_jpeg(needed, scan)
    found = jpeg_metadata(segments, behind_jpeg(scan))
    frame = next((segment for segment in segments if segment.marker in _FRAMES), None)
    if frame is not None and len(frame.data) >= 5 and (frame.data[0] != 8 or frame.marker == _LOSSLESS):
        return _read_deep_jpeg(plain, frame, found, name, max_pixels)
    if JPEG_END in scan:
        picture = _decoded(BytesIO(plain), name, "JPEG", max_pixels)
    else:
        # What an interrupted copy did not write may be zeros, which are as good codes as any.
        written = plain.rstrip(b"\0")
        whole = _without_end(written, name, max_pixels)
        if whole is None and len(plain) - len(written) < _FEW:
            whole = _without_end(plain, name, max_pixels)
        if whole is None:
            raise ImageFileError(f"{name} is truncated or damaged: its last part is missing")
        picture = whole
    metadata = replace(found, icc_profile=picture.info.get("icc_profile") or None)
    return samples_of_picture(picture, metadata, "JPEG")


def _read_deep_jpeg(data: bytes, frame: Segment, metadata: Metadata, name: str, max_pixels: int) -> Samples:
    """JPEG of 12 bits, and lossless JPEG of up to 16, which scanners and medical devices write."""
    import imagecodecs

    bits, height, width = struct.unpack_from(">BHH", frame.data)
    _check_size(width, height, name, max_pixels)
    if JPEG_END not in data:
        raise ImageFileError(f"{name} is truncated or damaged: its last part is missing")
    values = imagecodecs.jpeg_decode(data)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.shape[:2] != (height, width) or (values.ndim == 3 and values.shape[2] != 3):
        kind = "lossless JPEG" if frame.marker == _LOSSLESS else f"JPEG of {bits} bits a channel"
        raise ImageFileError(f"{name} is {kind} and neither grey nor RGB, which asnet does not read")
    if bits < 8 * values.dtype.itemsize:
        values = with_full_range(values, bits)
    return Samples(values, None, metadata, "JPEG")


def _without_end(data: bytes, name: str, max_pixels: int) -> Image.Image | None:
    """Return the picture of a JPEG file that lacks nothing but its end marker; else None."""
    pictures = []
    for padding in _PADDINGS:
        try:
            pictures.append(
                _decoded(BytesIO(data.rstrip(b"\xff") + padding + JPEG_END), name, "JPEG", max_pixels)
            )
        except OSError:
            return None
    first = numpy.asarray(pictures[0])
    same = all(numpy.array_equal(first, numpy.asarray(picture)) for picture in pictures[1:])
    return pictures[0] if same else None


def _read_png(data: bytes, name: str, max_pixels: int) -> Samples:
    chunks, damaged, behind = split_png(data)
    if chunks and chunks[0].name == b"CgBI":
        raise ImageFileError(f"{name} is PNG as Apple's tools pack it into apps, which asnet does not read")
    if not chunks or chunks[0].name != b"IHDR" or len(chunks[0].data) != 13:
        raise ImageFileError(f"{name} is truncated or damaged: it has no header")
    metadata = png_metadata(chunks, damaged, behind)
    needed = [chunk for chunk in chunks if chunk.is_critical or chunk.name == b"tRNS"]
    if needed[-1].name != b"IEND":
        needed.append(Chunk(b"IEND", b""))
    plain = joined_png(needed)
    header = chunks[0].data
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    _check_size(width, height, name, max_pixels)
    compressed = sum(len(chunk.data) for chunk in needed if chunk.name == b"IDAT")
    if compressed * _LARGEST_RATIO < width * height * header[8] * _PNG_CHANNELS.get(header[9], 1) // 8:
        raise ImageFileError(f"{name} is truncated or damaged: it holds fewer pixels than it says")
    if header[8] < 16:
        return samples_of_picture(_decoded(BytesIO(plain), name, "PNG", max_pixels), metadata, "PNG")
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
            raise ImageFileError(f"{name} is truncated or damaged: it does not say how large it is")
        _check_size(width, height, name, max_pixels)
        if not has_all_parts(exif, width, height):
            raise ImageFileError(f"{name} is truncated or damaged: it holds fewer pixels than it says")
    deep, unknown = is_deep(exif), is_unknown_to_pillow(file, exif)
    if (deep or unknown) and is_grey_or_rgb(exif):
        samples = read_by_tifffile(file, metadata)
    elif unknown:
        raise ImageFileError(
            f"{name} is neither grey nor RGB, and in its byte order or compression asnet reads no other TIFF"
        )
    else:
        file.seek(0)
        try:
            picture = _decoded(file, name, "TIFF", max_pixels)
        except UnidentifiedImageError:
            raise ImageFileError(
                f"{name} is damaged, or TIFF of a kind that asnet does not read: neither grey nor RGB"
            ) from None
        if deep:
            metadata = _with_problem(metadata, _EIGHT_BITS)
        unused = 0 if exif is None else (exif.number(277) or 0) - len(picture.getbands())
        if unused > 0:
            metadata = _with_problem(metadata, further_channels(unused))
        # Of TIFF alone Pillow turns the pixels itself.
        samples = replace(samples_of_picture(picture, metadata, "TIFF"), is_upright=True)
    if count_pictures(file) > 1:
        samples = replace(samples, metadata=_with_problem(samples.metadata, _SEVERAL))
    return samples


def _read_other(file: BinaryIO, name: str, file_format: str, max_pixels: int) -> Samples:
    """WebP and AVIF, which Pillow describes completely."""
    start = _whole(file)[:65536]
    file.seek(0)
    picture = _decoded(file, name, file_format, max_pixels)
    metadata = info_metadata(picture.info, picture.info.get("exif"))
    if getattr(picture, "n_frames", 1) > 1:
        metadata = _with_problem(metadata, _SEVERAL)
    place = start.find(b"av1C")
    # Behind the name: version, profile and level, then the flag of more than 8 bits.
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
    _check_size(*picture.size, name, max_pixels)
    # The file's own turns are applied by the decoder, and its EXIF's orientation does not count.
    metadata = info_metadata(picture.info, picture.info.get("exif"))
    if metadata.exif is not None:
        metadata.exif.main.pop(274, None)
    if len(container) > 1:
        metadata = _with_problem(metadata, _SEVERAL)
    if picture.info.get("depth_images") or picture.info.get("aux"):
        metadata = _with_problem(
            metadata, "holds further pictures, such as a gain map or depths, which are not kept"
        )
    # A copy: with older versions of pillow-heif the pixels go with the container.
    array = numpy.array(picture)
    channels = 1 if array.ndim == 2 else array.shape[2]
    alpha = array[..., -1] if channels in (2, 4) else None
    values = array if channels == 1 and array.ndim == 2 else array[..., : 1 if channels < 3 else 3]
    return Samples(values[..., 0] if values.ndim == 3 and channels < 3 else values, alpha, metadata, "HEIF")


# Pillow's limit is a variable of its module: within the lock it does not apply, since ours does.
_limit_lock = Lock()


def _opened(file: BinaryIO, formats: list[str]) -> Image.Image:
    with _limit_lock:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decoded(file: BinaryIO, name: str, file_format: str, max_pixels: int) -> Image.Image:
    picture = _opened(file, [file_format])
    _check_size(*picture.size, name, max_pixels)
    if file_format == "TIFF":
        # Pillow would turn the pixels by what XMP says too, which other programs leave to the tag.
        picture.info.pop("xmp", None)
    picture.load()
    return picture


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageFileError(
            f"{name} has {width}x{height} pixels, more than the limit of {max_pixels}; --max-pixels raises it"
        )


def _with_problem(metadata: Metadata, problem: str) -> Metadata:
    return replace(metadata, problems=(*metadata.problems, problem))
