"""TIFF files: tifffile reads those that Pillow cannot represent, and writes all."""

import logging
import struct
from dataclasses import replace
from io import BytesIO
from typing import Any, BinaryIO

import numpy
from numpy.typing import NDArray

from asnet.errors import InputError
from asnet.imaging.exif import Entry, Exif
from asnet.imaging.metadata import Metadata
from asnet.imaging.samples import Samples, with_full_range

# They log what they repair or refuse; exceptions and notes of asnet say what matters.
for _name in ("tifffile", "imagecodecs"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

_BITS, _PHOTOMETRIC, _SUBFILE, _SUBDIRECTORIES, _SAMPLE_FORMAT, _DNG_VERSION = 258, 262, 254, 330, 339, 50706
_STRIP_OFFSETS, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS = 273, 278, 322, 323, 324
_SAMPLES, _PLANAR, _SEPARATE = 277, 284, 2
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_COLOUR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892
_REDUCED = 1
_UNSIGNED, _UNDEFINED = 1, 4
_ASSOCIATED, _UNASSOCIATED = 1, 2

#: Signature of BigTIFF in the byte order that Pillow does not read.
_BIG_ENDIAN_BIGTIFF = b"MM\0+"

#: Compressions that Pillow decodes: none, CCITT's, LZW, JPEG, Deflate, PackBits, LZMA and Zstandard.
_COMPRESSION = 259
_COMPRESSIONS_OF_PILLOW = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000})


def is_raw(exif: Exif | None) -> bool:
    """Whether a TIFF file is a camera raw file, whose first directory is at most a preview."""
    if exif is None:
        return False
    return (
        _DNG_VERSION in exif.main
        or exif.number(_PHOTOMETRIC) in (_COLOUR_FILTER_ARRAY, _LINEAR_RAW)
        or ((exif.number(_SUBFILE) or 0) & _REDUCED == _REDUCED and _SUBDIRECTORIES in exif.main)
    )


def has_all_parts(exif: Exif, width: int, height: int) -> bool:
    """Whether a TIFF file lists all strips or tiles of its size (decoders fill the others with black)."""
    offsets = exif.main.get(_STRIP_OFFSETS)
    sides = width, exif.number(_ROWS_PER_STRIP) or height
    if offsets is None:
        offsets = exif.main.get(_TILE_OFFSETS)
        sides = exif.number(_TILE_WIDTH) or width, exif.number(_TILE_HEIGHT) or height
    planes = (exif.number(_SAMPLES) or 1) if exif.number(_PLANAR) == _SEPARATE else 1
    needed = planes * -(-width // sides[0]) * -(-height // sides[1]) if all(sides) else 0
    return offsets is not None and offsets.count >= needed


def is_deep(exif: Exif | None) -> bool:
    """Whether a TIFF file has more than 8 bits per channel, or values other than unsigned integers."""
    if exif is None:
        return False
    return max(exif.numbers(_BITS), default=1) > 8 or any(
        kind not in (_UNSIGNED, _UNDEFINED) for kind in exif.numbers(_SAMPLE_FORMAT)
    )


def is_unknown_to_pillow(file: BinaryIO, exif: Exif | None) -> bool:
    """Whether Pillow rejects a sound TIFF file because of its byte order or compression."""
    file.seek(0)
    if file.read(4) == _BIG_ENDIAN_BIGTIFF:
        return True
    compression = 1 if exif is None else exif.number(_COMPRESSION)
    return compression is not None and compression not in _COMPRESSIONS_OF_PILLOW


def is_grey_or_rgb(exif: Exif | None) -> bool:
    """Whether `read_by_tifffile` can interpret the values of a TIFF file."""
    return exif is not None and exif.number(_PHOTOMETRIC) in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)


def count_pictures(file: BinaryIO) -> int:
    """Return the number of pictures in a TIFF file, not counting smaller copies and masks."""
    import tifffile

    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            return 1 + sum(1 for page in list(tiff.pages)[1:] if not _is_side_picture(page))
    except Exception:
        # Whatever follows the first picture is damaged and does not count.
        return 1


def read_by_tifffile(file: BinaryIO, metadata: Metadata) -> Samples:
    """Read grey or RGB of any depth, layout, byte order and compression.

    Raises
    ------
    InputError
        If the picture has no axes of height and width.
    """
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        _check_complete(page, file)
        array = page.asarray()
        axes, bits, photometric = page.axes, page.bitspersample, page.photometric
        extra = tuple(int(kind) for kind in page.extrasamples)
    for axis in reversed(range(len(axes))):
        if axes[axis] not in "YXS":
            array = array.take(0, axis)
            axes = axes[:axis] + axes[axis + 1 :]
    if "Y" not in axes or "X" not in axes:
        raise InputError(f"expected height and width, got the axes {axes!r}")
    array = numpy.moveaxis(array, axes.index("S"), -1) if "S" in axes else array[..., None]
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "b":
        array = array.astype(numpy.uint8)
    if array.dtype.kind == "u" and bits != array.dtype.itemsize * 8:
        array = with_full_range(array, bits)
    colours = 3 if photometric == _RGB and array.shape[2] >= 3 else 1
    values, others = array[..., :colours], array[..., colours:]
    alpha, unused = None, others.shape[2]
    for index, kind in enumerate(extra[: others.shape[2]]):
        if kind in (_ASSOCIATED, _UNASSOCIATED):
            alpha, unused = others[..., index], unused - 1
            if kind == _ASSOCIATED:
                values = _unassociated(values, alpha)
            break
    if photometric == _WHITE_IS_ZERO:
        values = _inverted(values)
    if unused:
        metadata = replace(metadata, problems=(*metadata.problems, further_channels(unused)))
    return Samples(values[..., 0] if colours == 1 else values, alpha, metadata, "TIFF")


def further_channels(count: int) -> str:
    """Return a note that channels beyond colours and opacity are lost."""
    channels = "a further channel, which is" if count == 1 else f"{count} further channels, which are"
    return f"has {channels} left out"


def tiff_bytes(
    values: NDArray[Any],
    alpha: NDArray[Any] | None,
    metadata: Metadata,
) -> bytes:
    """Return an uncompressed TIFF file.

    Parameters
    ----------
    values : ndarray
        (H, W) or (H, W, 3), uint8 or uint16.
    alpha : ndarray, optional
        Opacity (H, W) of the same type, not multiplied into the values.
    metadata : Metadata
        Profile, EXIF, XMP, image resources and resolution are written.
    """
    import tifffile

    exif = metadata.exif or Exif()
    # The positions of the camera's and the position's tables are known only after the rest is written, and
    # tifffile does not write pointers to them: adjacent tags reserve their places.
    _, places = exif.tables(0)
    entries = [(tag, entry) for tag, entry in exif.main.items() if tag + 1 not in places]
    entries += [(tag - 1, Entry(4, 1, b"\0\0\0\0")) for tag in places]
    if metadata.xmp is not None:
        entries.append((700, Entry(1, len(metadata.xmp), metadata.xmp)))
    if metadata.photoshop is not None:
        entries.append((34377, Entry(7, len(metadata.photoshop), metadata.photoshop)))
    samples = values if alpha is None else numpy.dstack([values, alpha])
    options: dict[str, Any] = {}
    if metadata.resolution is not None:
        options = {"resolution": metadata.resolution, "resolutionunit": "INCH"}
    buffer = BytesIO()
    tifffile.imwrite(
        buffer,
        samples,
        byteorder=exif.order,
        photometric="rgb" if values.ndim == 3 else "minisblack",
        planarconfig=None if samples.ndim == 2 else "contig",
        extrasamples=None if alpha is None else ["unassalpha"],
        iccprofile=metadata.icc_profile,
        metadata=None,
        software=False,
        extratags=[(tag, entry.type, entry.count, entry.data, True) for tag, entry in entries],
        **options,
    )
    if not places:
        return buffer.getvalue()
    end = buffer.seek(0, 2)
    buffer.write(b"\0" * (end % 2))
    tables, places = exif.tables(end + end % 2)
    buffer.write(tables)
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as tiff:
        offsets = {tag: tiff.pages.first.tags[tag - 1].offset for tag in places}
        for tag, place in places.items():
            buffer.seek(offsets[tag])
            buffer.write(struct.pack(f"{exif.order}HHII", tag, 4, 1, place))
    return buffer.getvalue()


def _is_side_picture(page: Any) -> bool:
    kind = int(getattr(page, "subfiletype", 0) or 0)
    return bool(kind & 0b101)


def _check_complete(page: Any, file: BinaryIO) -> None:
    """Raise `ValueError` if strips or tiles are missing, which tifffile would fill with zeros."""
    size = file.seek(0, 2)
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count == 0 or offset + count > size:
            raise ValueError("a part of its pixels is missing")


def _unassociated(values: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Divide colours by the opacity with which they are premultiplied."""
    largest = numpy.iinfo(values.dtype).max if values.dtype.kind == "u" else 1.0
    share = numpy.maximum(alpha.astype(numpy.float64), 1e-9)[..., None] / largest
    divided = (values / share).clip(0, largest)
    return (divided.round() if values.dtype.kind == "u" else divided).astype(values.dtype)


def _inverted(values: NDArray[Any]) -> NDArray[Any]:
    kind = values.dtype.kind
    # Signed numbers have no fixed black: it is the largest that occurs.
    black = 1.0 if kind == "f" else numpy.iinfo(values.dtype).max if kind == "u" else values.max()
    inverted: NDArray[Any] = numpy.subtract(black, values).astype(values.dtype)
    return inverted
