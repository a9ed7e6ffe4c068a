"""Metadata of a photograph in each format, without what is no longer true of the result."""

import re
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from PIL import Image

from asnet.imaging.containers import Chunk, Segment
from asnet.imaging.exif import (
    ORIENTATION,
    PREFIX,
    RESOLUTION_UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Exif,
    parse_exif,
    read_exif,
)

_CENTIMETRES_PER_INCH = 2.54

#: What stands behind 36 bytes of every ICC profile.
_PROFILE_SIGNATURE = b"acsp"

# How JPEG tells its application segments apart.
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_LONG_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_SEVERAL_PICTURES = b"MPF\0"

#: XMP in PNG is international text of this keyword: flags, language and translation are empty.
_XMP_KEYWORD = b"XML:com.adobe.xmp"

#: Chunks of PNG that say what colours its numbers are, and texts.
COLOUR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
#: The gamma that sRGB files carry, in units of PNG.
_SRGB_GAMMA = range(45000, 46001)
#: Colour primaries and transfer of cICP that are those of sRGB.
_SRGB_CODES = b"\x01\x0d"

#: Texts larger than this when decompressed are not looked into.
_LARGEST_TEXT = 2**24

#: Said of what telephones put behind a photograph, or into the same container.
_FILM = "holds a film, of which only the photograph is taken"

#: Photoshop's resources that tell of the file as it was: resolution and thumbnails.
_STALE_RESOURCES = (1005, 1033, 1036)
_IPTC_RESOURCE = 1028

_TIFF_XMP, _TIFF_IPTC, _TIFF_PHOTOSHOP, _TIFF_PROFILE = 700, 33723, 34377, 34675


@dataclass(frozen=True)
class Metadata:
    """Metadata of a file.

    Parameters
    ----------
    exif : Exif, optional
        The EXIF block.
    xmp : bytes, optional
        The XMP packet.
    icc_profile : bytes, optional
        Colour profile of the pixels.
    photoshop : bytes, optional
        Photoshop's image resources, of which one holds IPTC.
    comments : tuple of bytes
        JPEG's comments.
    chunks : tuple of Chunk
        PNG's texts and what it says about colours.
    resolution : tuple of float, optional
        Pixels per inch, horizontal and vertical.
    problems : tuple of str
        What could not be kept of the file, one predicate each: "holds several pictures, ...".
    """

    exif: Exif | None = None
    xmp: bytes | None = None
    icc_profile: bytes | None = None
    photoshop: bytes | None = None
    comments: tuple[bytes, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    resolution: tuple[float, float] | None = None
    problems: tuple[str, ...] = ()

    @property
    def orientation(self) -> int:
        """EXIF's orientation, 1 to 8; 1 where there is none or it makes no sense."""
        found = None if self.exif is None else self.exif.number(ORIENTATION)
        return found if found is not None and 1 <= found <= 8 else 1

    def described(self, width: int, height: int) -> "Metadata":
        """Return what is still true of the upright picture of width x height pixels.

        Orientations are gone, sizes are those of the picture, and what tells how the file was stored is left
        out.
        """
        problems = self.problems
        if self.xmp is not None and b"MotionPhoto" in self.xmp and _FILM not in problems:
            problems += (_FILM,)
        resolution = self.resolution
        if resolution is not None and not all(0 < value < 1e9 for value in resolution):
            problems += ("has a resolution that cannot be used, which is left out",)
            resolution = None
        if resolution is not None and self.orientation > 4:
            resolution = (resolution[1], resolution[0])
        profile = self.icc_profile
        if profile is not None and profile[36:40] != _PROFILE_SIGNATURE:
            problems += ("has a damaged colour profile, which is left out",)
            profile = None
        exif = None if self.exif is None else self.exif.described(width, height)
        if exif is not None and exif.damaged:
            few = exif.damaged == 1
            tags = "a damaged EXIF tag, which is" if few else f"{exif.damaged} damaged EXIF tags, which are"
            problems += (f"has {tags} left out",)
        return replace(
            self,
            exif=None if exif is None or exif.is_empty else exif,
            xmp=None if self.xmp is None else _described_xmp(self.xmp, width, height),
            icc_profile=profile,
            resolution=resolution,
            problems=problems,
        )

    @property
    def colour_is_srgb(self) -> bool:
        """Whether PNG's chunks say nothing about colours that a file without them would not mean too."""
        for chunk in self.chunks:
            if chunk.name == b"cICP" and chunk.data[:2] != _SRGB_CODES:
                return False
            if chunk.name == b"gAMA" and self.icc_profile is None:
                gamma = int.from_bytes(chunk.data[:4], "big")
                if gamma not in _SRGB_GAMMA:
                    return False
        return True


def jpeg_metadata(segments: Iterable[Segment], behind: bytes) -> Metadata:
    """Return what the segments of a JPEG file carry, but for the profile, which Pillow reads.

    And what is lost of that which stands behind the picture.
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
                "holds further pictures, such as a gain map or a second view, and only the first is taken"
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
    """Return what the optional chunks of a PNG file carry, and what is lost of that behind the picture."""
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
                found, problems=(*found.problems, "holds several pictures, only the first is taken")
            )
        elif chunk.name in COLOUR_CHUNKS:
            kept.append(chunk)
        elif chunk.name in TEXT_CHUNKS:
            keyword, text = _text_of(chunk)
            if keyword == _XMP_KEYWORD and text:
                found = replace(found, xmp=text)
            elif keyword.startswith(b"Raw profile type "):
                # How programs stored blocks before PNG had chunks for them: a length and hexadecimal digits.
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
    """Return what the first directory of a TIFF file carries."""
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
    """Return what Pillow's `info` of a picture holds, and an EXIF block."""
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
    """Return what an opened Pillow picture carries, with the changes that its owner made to its EXIF."""
    try:
        block: bytes | None = picture.getexif().tobytes() if len(picture.getexif()) else None
    except Exception:
        # Pillow raises whatever its conversions of odd entries raise.
        block = picture.info.get("exif") or None
    return info_metadata(picture.info, block)


def xmp_segment(xmp: bytes) -> Segment:
    """Return an XMP packet as JPEG holds it."""
    return Segment(0xE1, _XMP + xmp)


def xmp_chunk(xmp: bytes) -> Chunk:
    """Return an XMP packet as PNG holds it."""
    return Chunk(b"iTXt", _XMP_KEYWORD + b"\0" * 5 + xmp)


def photoshop_segments(resources: bytes, size: int) -> list[Segment]:
    """Return image resources as JPEG holds them, cut into segments of up to `size` bytes."""
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
        # The numbers are but a ratio of sides.
        return None
    factor = _CENTIMETRES_PER_INCH if unit == 3 else 1.0
    horizontal, vertical = ((exif.ratio(tag) or 0.0) * factor for tag in (X_RESOLUTION, Y_RESOLUTION))
    return horizontal, vertical


def _lost_behind(data: bytes) -> list[str]:
    if b"ftyp" in data:
        return [_FILM]
    return [f"has {len(data)} bytes behind its picture, which are not kept"] if data else []


def _unreadable_exif(data: Any, block: Exif | None) -> list[str]:
    return ["has an EXIF block that cannot be read, which is left out"] if data and block is None else []


def _described_xmp(xmp: bytes, width: int, height: int) -> bytes:
    """Return a packet with the size and orientation of the result, and without references to lost parts."""
    true = {
        b"tiff:Orientation": 1,
        b"tiff:ImageWidth": width,
        b"tiff:ImageLength": height,
        b"exif:PixelXDimension": width,
        b"exif:PixelYDimension": height,
    }
    for name, value in true.items():
        number = str(value).encode()
        # As loosely as programs read them: what follows the number does not matter.
        xmp = re.sub(name + rb"(\s*=\s*[\"']|\s*>)\s*\d+", name + rb"\g<1>" + number, xmp)
    # Gain maps, films and further XMP stood behind the photograph or beside this packet.
    xmp = re.sub(rb"<Container:Directory\b.*?</Container:Directory>", b"", xmp, flags=re.DOTALL)
    return re.sub(
        rb"\s(?:hdrgm:\w+|GCamera:M\w+|Camera:M\w+|xmpNote:HasExtendedXMP)\s*=\s*(?:\"[^\"]*\"|'[^']*')",
        b"",
        xmp,
    )


def _resource(number: int, data: bytes) -> bytes:
    """Return one image resource without a name."""
    return struct.pack(">4sHHI", b"8BIM", number, 0, len(data)) + data + b"\0" * (len(data) % 2)


def _kept_resources(data: bytes) -> bytes | None:
    """Return image resources without those that tell of the file as it was; None if none is left."""
    kept = b""
    place = 0
    while place + 12 <= len(data) and data[place : place + 4] == b"8BIM":
        number = int.from_bytes(data[place + 4 : place + 6], "big")
        # A name, its length before it, filled up to an even number of bytes.
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
