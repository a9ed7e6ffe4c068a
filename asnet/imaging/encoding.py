"""Encoding of image files: pixels, metadata in each format, and notes on what a format cannot hold."""

import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray
from PIL import Image

from asnet.errors import ImageFileError
from asnet.imaging.containers import LARGEST_SEGMENT, Chunk, Segment, with_chunks, with_segments
from asnet.imaging.exif import PREFIX, Exif, tags_in_words
from asnet.imaging.metadata import Metadata
from asnet.imaging.metadata_formats import (
    COLOUR_CHUNKS,
    photoshop_segments,
    text_keyword,
    xmp_chunk,
    xmp_segment,
)
from asnet.imaging.tiff_files import tiff_bytes

#: Largest side of a format's files.
LARGEST_SIDES = {"JPEG": 65500, "WEBP": 16383}

#: JPEG and WebP lose little at this quality.
_QUALITY = 95
#: Resolutions that JPEG and PNG hold: pixels per inch, and per metre.
_LARGEST_DENSITY = 65535
_LARGEST_PER_METRE = 2**32 - 1
_INCH = 0.0254


class Encoded(NamedTuple):
    """A file's bytes, and what they lack of the photograph, one predicate each."""

    data: bytes
    notes: tuple[str, ...]


def encode(file_format: str, values: NDArray[Any], alpha: NDArray[Any] | None, metadata: Metadata) -> Encoded:
    """Return a photograph as a file's bytes.

    Parameters
    ----------
    file_format : str
        JPEG, PNG, TIFF or WEBP.
    values : ndarray
        (H, W) or (H, W, 3), uint8 or uint16.
    alpha : ndarray, optional
        Opacity (H, W) of the same type.
    metadata : Metadata
        Its metadata.

    Raises
    ------
    ImageFileError
        If the format cannot hold so large a picture.
    """
    check_sides(file_format, values.shape[1], values.shape[0])
    encoder: Callable[[NDArray[Any], NDArray[Any] | None, Metadata], Encoded] = {
        "JPEG": _jpeg,
        "PNG": _png,
        "TIFF": _tiff,
        "WEBP": _webp,
    }[file_format]
    encoded = encoder(values, alpha, metadata)
    return encoded._replace(notes=(*encoded.notes, *_lost(file_format, metadata)))


def check_sides(file_format: str, width: int, height: int) -> None:
    """Raise `ImageFileError` if a format cannot hold a picture of this size."""
    largest = LARGEST_SIDES.get(file_format, 2**31 - 1)
    if max(width, height) > largest:
        raise ImageFileError(
            f"{file_format} holds pictures of up to {largest} pixels a side, got {width}x{height}"
        )


def as_bits(array: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return uint8 or uint16 values with 8 or 16 bits, rounded if bits are lost."""
    if array.dtype == numpy.uint8 and bits == 16:
        widened: NDArray[Any] = numpy.multiply(array, 257, dtype=numpy.uint16)
        return widened
    if array.dtype == numpy.uint16 and bits == 8:
        return ((array.astype(numpy.uint32) + 128) // 257).astype(numpy.uint8)
    return array


def _jpeg(values: NDArray[Any], alpha: NDArray[Any] | None, metadata: Metadata) -> Encoded:
    notes = _without_depth(values, "JPEG")
    if alpha is not None and (alpha < numpy.iinfo(alpha.dtype).max).any():
        notes += ("is opaque, because JPEG cannot hold transparency",)
    segments: list[Segment] = []
    if metadata.exif is not None:
        # The limit includes the segment's prefix.
        exif, left_out = metadata.exif.within(LARGEST_SEGMENT - len(PREFIX))
        if left_out:
            notes += (f"lacks the EXIF tags {tags_in_words(left_out)}, which are too large for JPEG",)
        segments.append(Segment(0xE1, PREFIX + exif.to_bytes()))
    if metadata.xmp is not None:
        segment = xmp_segment(metadata.xmp)
        if len(segment.data) > LARGEST_SEGMENT:
            notes += ("lacks the XMP packet, which is too large for JPEG",)
        else:
            segments.append(segment)
    if metadata.photoshop is not None:
        segments += photoshop_segments(metadata.photoshop, LARGEST_SEGMENT)
    segments += [Segment(0xFE, comment) for comment in metadata.comments]
    options: dict[str, Any] = {}
    if metadata.resolution is not None:
        density = tuple(round(value) for value in metadata.resolution)
        if all(1 <= value <= _LARGEST_DENSITY for value in density):
            options["dpi"] = density
        else:
            notes += ("lacks the resolution, which JPEG cannot hold",)
    if metadata.icc_profile is not None:
        options["icc_profile"] = metadata.icc_profile
    # 4:4:4 keeps the colours of edges.
    data = _by_pillow(as_bits(values, 8), "JPEG", quality=_QUALITY, subsampling=0, **options)
    return Encoded(with_segments(data, segments), notes)


def _png(values: NDArray[Any], alpha: NDArray[Any] | None, metadata: Metadata) -> Encoded:
    notes: tuple[str, ...] = ()
    chunks = [chunk for chunk in metadata.chunks if chunk.name in COLOUR_CHUNKS]
    if metadata.icc_profile is not None:
        # A file has either a profile or a chunk that says that it needs none.
        chunks = [chunk for chunk in chunks if chunk.name != b"sRGB"]
        chunks.append(_compressed(b"iCCP", b"profile", metadata.icc_profile))
    if metadata.resolution is not None:
        metres = [round(value / _INCH) for value in metadata.resolution]
        if all(1 <= value <= _LARGEST_PER_METRE for value in metres):
            chunks.append(Chunk(b"pHYs", b"".join(value.to_bytes(4, "big") for value in metres) + b"\1"))
        else:
            notes += ("lacks the resolution, which PNG cannot hold",)
    if metadata.exif is not None:
        chunks.append(Chunk(b"eXIf", metadata.exif.to_bytes()))
    if metadata.xmp is not None:
        chunks.append(xmp_chunk(metadata.xmp))
    chunks += [chunk for chunk in metadata.chunks if chunk.name not in COLOUR_CHUNKS]
    comments = [comment for comment in metadata.comments if b"\0" not in comment]
    chunks += [Chunk(b"tEXt", b"Comment\0" + comment) for comment in comments]
    samples = values if alpha is None else numpy.dstack([values, alpha])
    if samples.dtype == numpy.uint16 and samples.ndim == 3:
        import imagecodecs

        data = bytes(imagecodecs.png_encode(numpy.ascontiguousarray(samples)))
    else:
        data = _by_pillow(samples, "PNG")
    return Encoded(with_chunks(data, chunks), notes)


def _tiff(values: NDArray[Any], alpha: NDArray[Any] | None, metadata: Metadata) -> Encoded:
    return Encoded(tiff_bytes(values, alpha, metadata), ())


def _webp(values: NDArray[Any], alpha: NDArray[Any] | None, metadata: Metadata) -> Encoded:
    notes = _without_depth(values, "WebP")
    options: dict[str, Any] = {}
    exif = metadata.exif
    if metadata.resolution is not None:
        exif = (exif or Exif()).with_resolution(metadata.resolution)
    if exif is not None:
        options["exif"] = exif.to_bytes()
    if metadata.xmp is not None:
        options["xmp"] = metadata.xmp
    if metadata.icc_profile is not None:
        options["icc_profile"] = metadata.icc_profile
    samples = as_bits(values, 8)
    if alpha is not None:
        if samples.ndim == 2:
            samples = numpy.dstack([samples] * 3)
        samples = numpy.dstack([samples, as_bits(alpha, 8)])
    return Encoded(_by_pillow(samples, "WEBP", quality=_QUALITY, exact=True, **options), notes)


def _without_depth(values: NDArray[Any], name: str) -> tuple[str, ...]:
    if values.dtype == numpy.uint16:
        return (f"has 8 bits a channel instead of 16, more than {name} can hold",)
    return ()


def _lost(file_format: str, metadata: Metadata) -> tuple[str, ...]:
    """Return the notes on metadata that the format cannot hold."""
    lost = []
    if file_format != "PNG":
        texts = [text_keyword(chunk) for chunk in metadata.chunks if chunk.name not in COLOUR_CHUNKS]
        if texts:
            lost.append("the texts " + ", ".join(map(repr, texts)))
        if not metadata.colour_is_srgb:
            lost.append("the colour chunks of the PNG file (gAMA or cICP)")
    if file_format in ("PNG", "WEBP") and metadata.photoshop is not None:
        lost.append("IPTC and other Photoshop resources")
    if file_format in ("TIFF", "WEBP") and metadata.comments:
        lost.append("the comment")
    return (f"lacks {'; '.join(lost)}: {file_format} has no place for it",) if lost else ()


def _by_pillow(samples: NDArray[Any], file_format: str, **options: Any) -> bytes:
    picture = Image.fromarray(numpy.ascontiguousarray(samples))
    buffer = BytesIO()
    try:
        picture.save(buffer, format=file_format, **options)
    except (OSError, ValueError) as error:
        size = f"{picture.width}x{picture.height}"
        raise ImageFileError(f"a picture of {size} pixels cannot be {file_format}: {error}") from None
    return buffer.getvalue()


def _compressed(name: bytes, keyword: bytes, content: bytes) -> Chunk:
    return Chunk(name, keyword + b"\0\0" + zlib.compress(content))
