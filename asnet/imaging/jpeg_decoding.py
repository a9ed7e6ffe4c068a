"""Decoding of JPEG files, also of 12 bits, lossless ones and those without an end marker."""

import struct
from dataclasses import replace
from io import BytesIO

import numpy
from PIL import Image

from asnet.errors import ImageFileError
from asnet.imaging.containers import JPEG_END, Segment, behind_jpeg, joined_jpeg, split_jpeg
from asnet.imaging.metadata import Metadata
from asnet.imaging.metadata_formats import jpeg_metadata
from asnet.imaging.pillow_decoding import check_size, decode_picture
from asnet.imaging.samples import Samples, samples_of_picture, with_full_range

#: Markers of the segments with size and depth, and the one of lossless files.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS = 0xC3

#: Fewer zeros than this at the end of a scan may belong to its codes.
_FEW = 4

#: Paddings in place of data that may be missing from a scan: if they change the picture, data are missing.
_PADDINGS = (b"", b"\x55" * 1024, b"\xaa" * 1024)


def read_jpeg(data: bytes, name: str, max_pixels: int) -> Samples:
    """Decode a JPEG file of 8 bits, 12 bits or lossless, cut off before its end marker or not."""
    parts = split_jpeg(data)
    if parts is None:
        raise ImageFileError(f"{name} is truncated or damaged: it has no scan")
    segments, scan = parts
    # Pillow gets only what the pixels need.
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
        picture = decode_picture(BytesIO(plain), name, "JPEG", max_pixels)
    else:
        # The missing part of an interrupted copy may be zeros, which are valid codes.
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
    check_size(width, height, name, max_pixels)
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
    """Return the picture of a JPEG file that lacks only its end marker; else None."""
    pictures = []
    for padding in _PADDINGS:
        try:
            pictures.append(
                decode_picture(BytesIO(data.rstrip(b"\xff") + padding + JPEG_END), name, "JPEG", max_pixels)
            )
        except OSError:
            return None
    first = numpy.asarray(pictures[0])
    same = all(numpy.array_equal(first, numpy.asarray(picture)) for picture in pictures[1:])
    return pictures[0] if same else None
