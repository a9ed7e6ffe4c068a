"""Decoding by Pillow, with a limit on the size of a picture."""

from threading import Lock
from typing import BinaryIO

from PIL import Image

from asnet.errors import ImageFileError

#: Default limit of the pixels of an image: above it Pillow assumes an attack.
MOST_PIXELS = 2 * 89_478_485

# Pillow's limit is a module variable. It is disabled within the lock: `check_size` has our own.
_limit_lock = Lock()


def open_picture(file: BinaryIO, formats: list[str]) -> Image.Image:
    """Read the header of a file in one of the formats, named as in Pillow."""
    with _limit_lock:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def decode_picture(file: BinaryIO, name: str, file_format: str, max_pixels: int) -> Image.Image:
    """Decode a file with Pillow, after checking its size."""
    picture = open_picture(file, [file_format])
    check_size(*picture.size, name, max_pixels)
    if file_format == "TIFF":
        # Pillow would also apply the orientation in XMP; other programs use only the tag.
        picture.info.pop("xmp", None)
    picture.load()
    return picture


def check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    """Raise `ImageFileError` if a picture has more than `max_pixels` pixels."""
    if width * height > max_pixels:
        raise ImageFileError(
            f"{name} has {width}x{height} pixels, more than the limit of {max_pixels}; --max-pixels raises it"
        )
