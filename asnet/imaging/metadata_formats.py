"""Metadata as JPEG, PNG, TIFF and Pillow store them: reading, and the parts that are written."""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from PIL import Image

from asnet.imaging.containers import Chunk, Segment
from asnet.imaging.exif import (
    PREFIX,
    RESOLUTION_UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Exif,
    parse_exif,
    read_exif,
)
from asnet.imaging.metadata import VIDEO_LOST, Metadata

_CENTIMETRES_PER_INCH = 2.54

# Prefixes of JPEG's application segments.
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_LONG_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_SEVERAL_PICTURES = b"MPF\0"

#: XMP in PNG is international text with this keyword; flags, language and translation are empty.
_XMP_KEYWORD = b"XML:com.adobe.xmp"

#: PNG chunks about colours, and texts.
COLOUR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
#: Texts larger than this after decompression are ignored.
_LARGEST_TEXT = 2**24

#: Photoshop's resources about the original file: resolution and thumbnails.
_STALE_RESOURCES = (1005, 1033, 1036)
_IPTC_RESOURCE = 1028

_TIFF_XMP, _TIFF_IPTC, _TIFF_PHOTOSHOP, _TIFF_PROFILE = 700, 33723, 34377, 34675


def jpeg_metadata(segments: Iterable[Segment], behind: bytes) -> Metadata:
    """Return the metadata of a JPEG file's segments, except for the profile, which Pillow reads.

    And notes on lost data after the picture.
    """
    exif: bytes | None = None
    xmp: bytes | None = None
    photoshop = b""
    comments: list[bytes] = []
    problems: list[str] = []
    density: tuple[float, float] | None = None
    has_several = False
    for segment in segments:
        data = segment.data
        if segment.marker == 0xE0 and data.startswith(b"JFIF\0") and len(data) >= 12:
            unit, horizontal, vertical = struct.unpack_from(">BHH", data, 7)
            if unit in (1, 2) and (horizontal, vertical) != (0, 0):
                factor = 1.0 if unit == 1 else _CENTIMETRES_PER_INCH
                density = (horizontal * factor, vertical * factor)
        elif segment.marker == 0xE1 and data.startswith(PREFIX) and exif is None:
            exif = data
        elif segment.marker == 0xE1 and data.startswith(_XMP) and xmp is None:
            xmp = data[len(_XMP) :]
        elif segment.marker == 0xE1 and data.startswith(_LONG_XMP):
            problems.append("has further XMP outside of its packet, which is not kept")
        elif segment.marker == 0xE2 and data.startswith(_SEVERAL_PICTURES):
            has_several = True
            problems.append(
                "holds further pictures, such as a gain map or a second view; only the first is used"
            )
        elif segment.marker == 0xED and data.startswith(_PHOTOSHOP):
            photoshop += data[len(_PHOTOSHOP) :]
        elif segment.marker == 0xFE:
            comments.append(data)
    if not has_several:
        problems += _lost_behind(behind)
    block = None if exif is None else parse_exif(exif)
    return Metadata(
        exif=block,
        xmp=xmp,
        photoshop=_kept_resources(photoshop),
        comments=tuple(comments),
        resolution=density or _exif_resolution(block),
        problems=tuple(dict.fromkeys(problems + _unreadable_exif(exif, block))),
    )


def png_metadata(chunks: Sequence[Chunk], damaged: bool, behind: bytes) -> Metadata:
    """Return the metadata of a PNG file's optional chunks, and notes on lost data after the picture."""
    problems = ["has a damaged optional chunk, which is left out"] if damaged else []
    found = Metadata(problems=(*problems, *_lost_behind(behind)))
    kept: list[Chunk] = []
    for chunk in chunks:
        if chunk.name == b"eXIf":
            block = parse_exif(chunk.data)
            found = replace(
                found, exif=block, problems=(*found.problems, *_unreadable_exif(chunk.data, block))
            )
        elif chunk.name == b"iCCP":
            profile = _inflated(chunk.data.partition(b"\0")[2][1:])
            if profile:
                found = replace(found, icc_profile=profile)
            else:
                found = replace(
                    found, problems=(*found.problems, "has a damaged colour profile, which is left out")
                )
        elif chunk.name == b"pHYs" and len(chunk.data) == 9:
            horizontal, vertical, unit = struct.unpack(">IIB", chunk.data)
            if unit == 1:
                metres = _CENTIMETRES_PER_INCH / 100
                found = replace(found, resolution=(horizontal * metres, vertical * metres))
        elif chunk.name == b"acTL":
            found = replace(
                found, problems=(*found.problems, "holds several pictures; only the first is used")
            )
        elif chunk.name in COLOUR_CHUNKS:
            kept.append(chunk)
        elif chunk.name in TEXT_CHUNKS:
            keyword, text = _text_of(chunk)
            if keyword == _XMP_KEYWORD and text:
                found = replace(found, xmp=text)
            elif keyword.startswith(b"Raw profile type "):
                # Before PNG had chunks for such blocks, programs stored a length and hexadecimal digits.
                name = keyword.rpartition(b" ")[2].lower()
                content = _from_hexadecimal(text)
                if name in (b"exif", b"app1") and content.startswith(PREFIX) and found.exif is None:
                    found = replace(found, exif=parse_exif(content))
                elif name == b"iptc" and content:
                    found = replace(found, photoshop=_kept_resources(content))
                elif name == b"xmp" and content and found.xmp is None:
                    found = replace(found, xmp=content)
            else:
                kept.append(chunk)
    return replace(found, chunks=tuple(kept))


def tiff_metadata(file: BinaryIO) -> Metadata:
    """Return the metadata of a TIFF file's first directory."""
    block = read_exif(file)
    if block is None:
        return Metadata()
    entries = block.main
    photoshop = entries[_TIFF_PHOTOSHOP].data if _TIFF_PHOTOSHOP in entries else b""
    if not photoshop and _TIFF_IPTC in entries:
        photoshop = _resource(_IPTC_RESOURCE, entries[_TIFF_IPTC].data)
    return Metadata(
        exif=block,
        xmp=entries[_TIFF_XMP].data if _TIFF_XMP in entries else None,
        icc_profile=entries[_TIFF_PROFILE].data if _TIFF_PROFILE in entries else None,
        photoshop=_kept_resources(photoshop),
        resolution=_exif_resolution(block),
    )


def info_metadata(info: Mapping[Any, Any], exif: Any) -> Metadata:
    """Return the metadata in Pillow's `info` of a picture, and an EXIF block."""
    block = parse_exif(exif) if isinstance(exif, bytes) else None
    xmp = info.get("xmp")
    comment = info.get("comment")
    resolution = info.get("dpi")
    try:
        density = None if resolution is None else (float(resolution[0]), float(resolution[1]))
    except (TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError):
        density = (0.0, 0.0)
    return Metadata(
        exif=block,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        icc_profile=info.get("icc_profile") or None,
        comments=(comment,) if isinstance(comment, bytes) else (),
        resolution=density or _exif_resolution(block),
        problems=tuple(_unreadable_exif(exif, block)),
    )


def picture_metadata(picture: Image.Image) -> Metadata:
    """Return the metadata of an opened Pillow picture, with the changes that its owner made to its EXIF."""
    try:
        block: bytes | None = picture.getexif().tobytes() if len(picture.getexif()) else None
    except Exception:
        # Pillow raises whatever its conversions of odd entries raise.
        block = picture.info.get("exif") or None
    return info_metadata(picture.info, block)


def xmp_segment(xmp: bytes) -> Segment:
    """Return an XMP packet in the form of JPEG."""
    return Segment(0xE1, _XMP + xmp)


def xmp_chunk(xmp: bytes) -> Chunk:
    """Return an XMP packet in the form of PNG."""
    return Chunk(b"iTXt", _XMP_KEYWORD + b"\0" * 5 + xmp)


def photoshop_segments(resources: bytes, size: int) -> list[Segment]:
    """Return image resources in the form of JPEG, cut into segments of up to `size` bytes."""
    step = size - len(_PHOTOSHOP)
    return [
        Segment(0xED, _PHOTOSHOP + resources[begin : begin + step])
        for begin in range(0, len(resources), step)
    ]


def text_keyword(chunk: Chunk) -> str:
    """Return the keyword of one of PNG's texts."""
    return chunk.data.partition(b"\0")[0].decode("latin-1")


def _exif_resolution(exif: Exif | None) -> tuple[float, float] | None:
    if exif is None or not {X_RESOLUTION, Y_RESOLUTION} & set(exif.main):
        return None
    unit = 2 if RESOLUTION_UNIT not in exif.main else exif.number(RESOLUTION_UNIT)
    if unit == 1:
        # The numbers are only an aspect ratio.
        return None
    factor = _CENTIMETRES_PER_INCH if unit == 3 else 1.0
    horizontal, vertical = ((exif.ratio(tag) or 0.0) * factor for tag in (X_RESOLUTION, Y_RESOLUTION))
    return horizontal, vertical


def _lost_behind(data: bytes) -> list[str]:
    if b"ftyp" in data:
        return [VIDEO_LOST]
    return [f"has {len(data)} bytes after its picture, which are not kept"] if data else []


def _unreadable_exif(data: Any, block: Exif | None) -> list[str]:
    return ["has an EXIF block that cannot be read, which is left out"] if data and block is None else []


def _resource(number: int, data: bytes) -> bytes:
    """Return one image resource without a name."""
    return struct.pack(">4sHHI", b"8BIM", number, 0, len(data)) + data + b"\0" * (len(data) % 2)


def _kept_resources(data: bytes) -> bytes | None:
    """Return image resources without those about the original file; None if none is left."""
    kept = b""
    place = 0
    while place + 12 <= len(data) and data[place : place + 4] == b"8BIM":
        number = int.from_bytes(data[place + 4 : place + 6], "big")
        # A name with its length, padded to an even number of bytes.
        name = (data[place + 6] + 2) // 2 * 2
        begin = place + 6 + name + 4
        length = int.from_bytes(data[begin - 4 : begin], "big")
        end = begin + (length + 1) // 2 * 2
        if begin > len(data) or begin + length > len(data):
            break
        if number not in _STALE_RESOURCES:
            kept += data[place : begin + length] + b"\0" * (length % 2)
        place = end
    return kept or None


def _inflated(data: bytes) -> bytes:
    """Decompress, up to a limit; empty if the data is damaged or larger."""
    try:
        decompressor = zlib.decompressobj()
        text = decompressor.decompress(data, _LARGEST_TEXT)
    except zlib.error:
        return b""
    return text if decompressor.eof else b""


def _text_of(chunk: Chunk) -> tuple[bytes, bytes]:
    """Return the keyword of a text and, where it may be needed, the text."""
    keyword, _, rest = chunk.data.partition(b"\0")
    if keyword != _XMP_KEYWORD and not keyword.startswith(b"Raw profile type "):
        return keyword, b""
    if chunk.name == b"tEXt":
        return keyword, rest
    if chunk.name == b"zTXt":
        return keyword, _inflated(rest[1:])
    compressed = rest[:1] == b"\1"
    parts = rest[2:].split(b"\0", 2)
    text = parts[2] if len(parts) == 3 else b""
    return keyword, _inflated(text) if compressed else text


def _from_hexadecimal(text: bytes) -> bytes:
    """Return the bytes of a raw profile: its name, their number, then the digits on lines."""
    words = text.split(None, 2)
    try:
        return bytes.fromhex(words[2].decode("ascii")) if len(words) == 3 else b""
    except ValueError:
        return b""
