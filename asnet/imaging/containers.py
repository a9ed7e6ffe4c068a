"""Structure of JPEG and PNG files without the pixels: JPEG's segments, PNG's chunks."""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

JPEG_START = b"\xff\xd8"
JPEG_END = b"\xff\xd9"
#: Most bytes in a segment of JPEG, not counting its length.
LARGEST_SEGMENT = 65533

_START_OF_SCAN = 0xDA

#: Fill bytes that copies and transmissions append to a file.
_FILL_BYTES = b"\0\xff\r\n"


@dataclass(frozen=True)
class Segment:
    """A segment of a JPEG file: the second byte of its marker, and the bytes after its length."""

    marker: int
    data: bytes

    def to_bytes(self) -> bytes:
        """Return the segment's bytes in a file."""
        return struct.pack(">BBH", 0xFF, self.marker, len(self.data) + 2) + self.data


@dataclass(frozen=True)
class Chunk:
    """A chunk of a PNG file: its four letters and its content."""

    name: bytes
    data: bytes

    def to_bytes(self) -> bytes:
        """Return the chunk's bytes in a file."""
        checksum = zlib.crc32(self.name + self.data)
        return struct.pack(">I", len(self.data)) + self.name + self.data + struct.pack(">I", checksum)

    @property
    def is_critical(self) -> bool:
        """Whether the pixels cannot be decoded without it."""
        return not self.name[:1].islower()


def split_jpeg(data: bytes) -> tuple[list[Segment], bytes] | None:
    """Return the segments before the first scan, and everything from there on; None if there is no scan."""
    segments: list[Segment] = []
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:
            # Fill bytes may precede a marker.
            place += 1
            continue
        if marker == _START_OF_SCAN:
            return segments, data[place:]
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if length < 2:
            return None
        segments.append(Segment(marker, data[place + 4 : place + 2 + length]))
        place += 2 + length
    return None


def behind_jpeg(scan: bytes) -> bytes:
    """Return the bytes after the end of a JPEG picture without fill bytes; `scan` is from `split_jpeg`."""
    place = scan.find(JPEG_END)
    return b"" if place < 0 else scan[place + len(JPEG_END) :].strip(_FILL_BYTES)


def joined_jpeg(segments: Iterable[Segment], scan: bytes) -> bytes:
    """Undo `split_jpeg`."""
    return JPEG_START + b"".join(segment.to_bytes() for segment in segments) + scan


def with_segments(data: bytes, added: Sequence[Segment]) -> bytes:
    """Return a JPEG file with further segments after those of its header (JFIF)."""
    if not added:
        return data
    place = 2
    while data[place + 1] == 0xE0:
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return data[:place] + b"".join(segment.to_bytes() for segment in added) + data[place:]


def split_png(data: bytes) -> tuple[list[Chunk], bool, bytes]:
    """Return the chunks of a PNG file up to its end, or to where it is truncated.

    Optional chunks whose checksum is wrong are left out. Critical ones are not checked here: decoders do.

    Returns
    -------
    list of Chunk, bool, bytes
        And whether an optional chunk was left out, and the bytes after the end without fill bytes.
    """
    chunks: list[Chunk] = []
    damaged, behind = False, b""
    place = len(PNG_SIGNATURE)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunk = Chunk(data[place + 4 : place + 8], data[place + 8 : place + 8 + length])
        checksum = data[place + 8 + length : place + 12 + length]
        if len(checksum) < 4:
            break
        if int.from_bytes(checksum, "big") == zlib.crc32(chunk.name + chunk.data):
            chunks.append(chunk)
        elif chunk.is_critical:
            raise ValueError(f"the chunk {chunk.name.decode('latin-1')} has a wrong checksum")
        else:
            damaged = True
        place += 12 + length
        if chunk.name == b"IEND":
            behind = data[place:].strip(_FILL_BYTES)
            break
    return chunks, damaged, behind


def joined_png(chunks: Iterable[Chunk]) -> bytes:
    """Undo `split_png`."""
    return PNG_SIGNATURE + b"".join(chunk.to_bytes() for chunk in chunks)


def with_chunks(data: bytes, added: Sequence[Chunk]) -> bytes:
    """Return a PNG file with further chunks after its header, where every optional chunk is allowed."""
    place = len(PNG_SIGNATURE) + 25
    return data[:place] + b"".join(chunk.to_bytes() for chunk in added) + data[place:]
