"""File formats by suffix, and atomic writes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from asnet.errors import ImageFileError
from asnet.files import atomic_write

#: File name suffixes of photographs that are written and read, with Pillow's name of the format.
PHOTOGRAPH_SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}

#: Suffixes of photographs that are read, including those of cameras and telephones.
READABLE_SUFFIXES = (
    *PHOTOGRAPH_SUFFIXES,
    *(".jpe", ".jfif", ".mpo", ".heic", ".heif", ".hif", ".avif"),
)

#: Suffixes of camera raw files, which are not read.
RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".mrw"),
    *(".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)

#: Suffixes of other image formats that are not read.
OTHER_SUFFIXES = (
    *(".bmp", ".gif", ".jp2", ".j2k", ".jpx", ".jxl", ".jxr", ".psd", ".tga", ".exr", ".hdr", ".pbm", ".pgm"),
    *(".ppm", ".pnm", ".pcx", ".heics", ".xcf"),
)


@contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """Write a file atomically: yields a file in memory, whose content replaces `path` at the end.

    Encoders write into memory, which cannot fail halfway; a failure leaves nothing behind.

    Raises
    ------
    ImageFileError
        If the file cannot be written; the message names the cause.
    """
    buffer = BytesIO()
    yield buffer
    write_bytes(path, buffer.getbuffer())


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file atomically.

    Raises
    ------
    ImageFileError
        If the file cannot be written; the message names the cause.
    """
    with atomic_write(path, ImageFileError) as partial, partial.open("wb") as file:
        file.write(data)


def write_picture(path: Path, picture: Image.Image, **options: Any) -> None:
    """Write a picture atomically, in the format of the suffix.

    Raises
    ------
    ImageFileError
        If the suffix is not one of `PHOTOGRAPH_SUFFIXES` or the file cannot be written.
    """
    check_suffix(path, PHOTOGRAPH_SUFFIXES)
    with write_atomically(path) as file:
        try:
            picture.save(file, format=PHOTOGRAPH_SUFFIXES[path.suffix.lower()], **options)
        except (OSError, ValueError) as error:
            raise ImageFileError(f"cannot write {path}: {error}") from None


def check_suffix(path: Path, suffixes: Sequence[str] | dict[str, str]) -> None:
    """Raise `ImageFileError` unless the file name ends with one of the suffixes, in any case."""
    if path.suffix.lower() not in suffixes:
        expected = ", ".join(suffixes)
        raise ImageFileError(f"cannot write {path}: its name must end with one of {expected}")
