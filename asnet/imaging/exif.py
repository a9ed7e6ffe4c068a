"""EXIF blocks, entry by entry: entries about the photograph are kept, entries about its file are dropped.

An EXIF block has the layout of a TIFF file's directories. Entries are kept as raw bytes in the block's own
byte order and interpreted only where necessary, so odd entries do no harm.
"""

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import BinaryIO, Literal

PREFIX = b"Exif\0\0"

ORIENTATION = 274
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
EXIF_TABLE, GPS_TABLE, INTEROPERABILITY_TABLE = 34665, 34853, 40965
_PIXEL_WIDTH, _PIXEL_HEIGHT = 40962, 40963

SHORT, LONG, RATIONAL = 3, 4, 5

#: Tags of the main directory about the storage of pixels, or stored elsewhere in the file.
_STRUCTURAL = frozenset(
    [
        *range(254, 267),
        *range(273, 285),
        *range(288, 294),
        *(296, 297, 301, 317),
        *range(320, 333),
        *range(338, 348),
        *range(512, 533),
        *(559, 700),
        *range(32995, 32999),
        *(33421, 33422, 33723),
        *range(34016, 34037),
        *(34377, 34675, EXIF_TABLE, GPS_TABLE, 37724, INTEROPERABILITY_TABLE),
        *range(50706, 51200),
        *(50838, 50839, 59932),
    ]
)

_DESCRIPTION = 270
#: Axes of arrays, as scientific programs write them into the description.
_ARRAY_DESCRIPTION = re.compile(rb'\{"shape":|ImageJ=|<\?xml[^>]*>\s*(<!--.*?-->\s*)?<OME', re.DOTALL)

#: Tags of the camera's table that are dropped: sizes, which are rewritten; the JPEG file; padding.
_STRUCTURAL_OF_CAMERA = frozenset([37122, _PIXEL_WIDTH, _PIXEL_HEIGHT, INTEROPERABILITY_TABLE, 59932])

#: Bytes of a value of each of TIFF's types, and of BigTIFF's from 16 on.
_TYPE_SIZES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), start=1)) | {16: 8, 17: 8, 18: 8}

#: An entry that claims more bytes is damaged.
_LARGEST_ENTRY = 2**24
_MOST_ENTRIES = 4096


@dataclass(frozen=True)
class Entry:
    """One entry of a directory: TIFF's number of its type, the number of values, and their bytes."""

    type: int
    count: int
    data: bytes


Directory = dict[int, Entry]
ByteOrder = Literal["<", ">"]


@dataclass(frozen=True)
class Exif:
    """The directories of an EXIF block.

    Parameters
    ----------
    order : str
        Byte order of all numbers, "<" or ">".
    main, camera, position, interoperability : dict
        Tag number to entry, without the pointers from one directory to another.
    damaged : int
        Entries that could not be read.
    """

    order: ByteOrder = "<"
    main: Directory = field(default_factory=dict)
    camera: Directory = field(default_factory=dict)
    position: Directory = field(default_factory=dict)
    interoperability: Directory = field(default_factory=dict)
    damaged: int = 0

    def number(self, tag: int) -> int | None:
        """Return the first value of an entry of whole numbers in the main directory."""
        return next(iter(self.numbers(tag)), None)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return the values of an entry of whole numbers in the main directory; none if it has others."""
        entry = self.main.get(tag)
        if entry is None or entry.type not in (SHORT, LONG):
            return ()
        return struct.unpack(f"{self.order}{entry.count}{'H' if entry.type == SHORT else 'I'}", entry.data)

    def ratio(self, tag: int) -> float | None:
        """Return the first value of an entry of ratios or whole numbers; None for a division by 0."""
        entry = self.main.get(tag)
        if entry is None or entry.type != RATIONAL:
            whole = self.number(tag)
            return None if whole is None else float(whole)
        numerator, denominator = struct.unpack_from(f"{self.order}II", entry.data)
        return numerator / denominator if denominator else None

    def described(self, width: int, height: int) -> "Exif":
        """Return the entries about the photograph, with the size of the upright picture."""
        main = {tag: entry for tag, entry in self.main.items() if tag not in _STRUCTURAL}
        if _ARRAY_DESCRIPTION.match(main.get(_DESCRIPTION, Entry(2, 1, b"\0")).data):
            del main[_DESCRIPTION]
        camera = {tag: entry for tag, entry in self.camera.items() if tag not in _STRUCTURAL_OF_CAMERA}
        for tag, side in ((_PIXEL_WIDTH, width), (_PIXEL_HEIGHT, height)):
            if tag in self.camera:
                camera[tag] = Entry(LONG, 1, struct.pack(f"{self.order}I", side))
        return replace(self, main=main, camera=camera)

    def with_resolution(self, resolution: tuple[float, float]) -> "Exif":
        """Return the block with this many pixels per inch, horizontally and vertically."""
        horizontal, vertical = (
            Entry(RATIONAL, 1, struct.pack(f"{self.order}II", *as_ratio(value))) for value in resolution
        )
        unit = Entry(SHORT, 1, struct.pack(f"{self.order}H", 2))
        entries = {X_RESOLUTION: horizontal, Y_RESOLUTION: vertical, RESOLUTION_UNIT: unit}
        return replace(self, main={**self.main, **entries})

    def within(self, size: int) -> tuple["Exif", tuple[int, ...]]:
        """Return the block without its largest entries if it takes more bytes than `size`, and their tags."""
        left_out: list[int] = []
        block = self
        while len(block.to_bytes()) > size:
            names = ("main", "camera", "position", "interoperability")
            entries = [
                (len(entry.data), name, tag) for name in names for tag, entry in getattr(block, name).items()
            ]
            _, name, tag = max(entries)
            directory = {other: entry for other, entry in getattr(block, name).items() if other != tag}
            block = replace(block, **{name: directory})  # type: ignore[arg-type]
            left_out.append(tag)
        return block, tuple(left_out)

    @property
    def is_empty(self) -> bool:
        """Whether no entry is left."""
        return not (self.main or self.camera or self.position or self.interoperability)

    def tables(self, offset: int) -> tuple[bytes, dict[int, int]]:
        """Lay out the camera's and the position's directory for a place in a file.

        Parameters
        ----------
        offset : int
            Position of the bytes, even.

        Returns
        -------
        bytes, dict
            The bytes, and the offset of each directory by the tag that points to it.
        """
        data, pointers = b"", {}
        camera = self.camera
        if self.interoperability:
            inner = _laid_out(self.interoperability, self.order, offset)
            camera = {**camera, INTEROPERABILITY_TABLE: self._pointer(offset)}
            data += inner
        for tag, directory in ((EXIF_TABLE, camera), (GPS_TABLE, self.position)):
            if directory:
                pointers[tag] = offset + len(data)
                data += _laid_out(directory, self.order, offset + len(data))
        return data, pointers

    def to_bytes(self) -> bytes:
        """Return the block, from its byte order mark on."""
        header = {"<": b"II", ">": b"MM"}[self.order] + struct.pack(f"{self.order}HI", 42, 8)
        _, places = self.tables(0)
        blank = {**self.main, **{tag: self._pointer(0) for tag in places}}
        tables, pointers = self.tables(8 + len(_laid_out(blank, self.order, 8)))
        main = {**self.main, **{tag: self._pointer(place) for tag, place in pointers.items()}}
        return header + _laid_out(main, self.order, 8) + tables

    def _pointer(self, offset: int) -> Entry:
        return Entry(LONG, 1, struct.pack(f"{self.order}I", offset))


def parse_exif(block: bytes) -> Exif | None:
    """Read an EXIF block, with or without its prefix; None if it is none."""
    return read_exif(BytesIO(block.removeprefix(PREFIX)))


def read_exif(file: BinaryIO) -> Exif | None:
    """Read the directories of a TIFF file or EXIF block; None if it is neither.

    Unreadable entries are dropped and counted.
    """
    file.seek(0)
    header = file.read(16)
    if header[:2] not in (b"II", b"MM") or len(header) < 8:
        return None
    order: ByteOrder = "<" if header[:2] == b"II" else ">"
    version = struct.unpack_from(f"{order}H", header, 2)[0]
    if version == 43 and len(header) == 16:
        first, wide = struct.unpack_from(f"{order}Q", header, 8)[0], True
    elif version == 42:
        first, wide = struct.unpack_from(f"{order}I", header, 4)[0], False
    else:
        return None
    main, damaged = _read_directory(file, first, order, wide)
    directories: list[Directory] = []
    sources = [main, main]
    for tag in (EXIF_TABLE, GPS_TABLE, INTEROPERABILITY_TABLE):
        source = sources.pop() if sources else directories[0]
        pointer = source.pop(tag, None)
        directory: Directory = {}
        if pointer is not None:
            form = {4: "I", 13: "I", 16: "Q", 18: "Q"}.get(pointer.type)
            if form is None or pointer.count != 1:
                damaged += 1
            else:
                place = struct.unpack(order + form, pointer.data)[0]
                directory, more = _read_directory(file, place, order, wide)
                damaged += more
        directories.append(directory)
    camera, position, interoperability = directories
    return Exif(order, main, camera, position, interoperability, damaged)


def as_ratio(value: float) -> tuple[int, int]:
    """Return a positive number below 2^32 as numerator and denominator of 32 bits each."""
    denominator = 1
    largest = min(10**4, (2**32 - 1) / value)
    while 10 * denominator <= largest and value * denominator != round(value * denominator):
        denominator *= 10
    return round(value * denominator), denominator


def _read_directory(file: BinaryIO, offset: int, order: str, wide: bool) -> tuple[Directory, int]:
    """Return the entries of the directory at an offset, and how many are damaged."""
    count_form, entry_form, inline = ("Q", "HHQ8s", 8) if wide else ("H", "HHI4s", 4)
    size = struct.calcsize(order + entry_form)
    found: Directory = {}
    damaged = 0
    try:
        file.seek(offset)
        count = struct.unpack(order + count_form, file.read(struct.calcsize(order + count_form)))[0]
    except (OSError, OverflowError, ValueError, struct.error):
        return found, 1
    table = file.read(min(count, _MOST_ENTRIES) * size)
    damaged += count - len(table) // size
    for raw in struct.iter_unpack(order + entry_form, table[: len(table) // size * size]):
        tag, kind, values, data = raw
        length = _TYPE_SIZES.get(kind, _LARGEST_ENTRY) * values
        if values == 0 or length > _LARGEST_ENTRY:
            damaged += 1
            continue
        if length > inline:
            try:
                file.seek(struct.unpack(order + ("Q" if wide else "I"), data)[0])
                data = file.read(length)
            except (OSError, OverflowError, ValueError):
                data = b""
        if len(data) < length:
            damaged += 1
        else:
            found[tag] = Entry(kind, values, data[:length])
    return found, damaged


def _laid_out(directory: Directory, order: str, offset: int) -> bytes:
    """Return a directory's bytes for a position in a file, of even length, its values after its entries."""
    entries = b""
    values = b""
    place = offset + 2 + 12 * len(directory) + 4
    for tag, entry in sorted(directory.items()):
        data = entry.data
        if len(data) > 4:
            pointer = struct.pack(f"{order}I", place + len(values))
            values += data + b"\0" * (len(data) % 2)
            data = pointer
        entries += struct.pack(f"{order}HHI", tag, entry.type, entry.count) + data.ljust(4, b"\0")
    return struct.pack(f"{order}H", len(directory)) + entries + b"\0\0\0\0" + values


def tags_in_words(tags: Iterable[int]) -> str:
    """Return tag numbers as a message names them."""
    return ", ".join(map(str, sorted(tags)))
