"""What all image files have in common: suffixes, the errors of opening them, and writing in one step."""

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from asnet.errors import AsnetError, ImageFileError
from asnet.files import replaced_in_one_step

#: File name suffixes of photographs that are read and written, with Pillow's name of the format.
PHOTOGRAPH_SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}


@contextmanager
def opened_picture(path: Path, *, decode: bool = True) -> Iterator[Image.Image]:
    """Open the first picture of a file, and decode it unless only its header is asked for.

    Raises
    ------
    ImageFileError
        If the file is missing, unreadable, not an image, truncated, damaged or too large for Pillow; also for
        what Pillow raises inside the `with` block.
    """
    if path.is_dir():
        raise ImageFileError(f"{path} is a folder, not an image")
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 million pixels on and refuses from 179 million on.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=sorted(set(PHOTOGRAPH_SUFFIXES.values()))) as picture:
                if decode:
                    picture.load()
                yield picture
    except AsnetError:
        raise
    except FileNotFoundError:
        raise ImageFileError(f"there is no file {path}") from None
    except UnidentifiedImageError:
        raise ImageFileError(f"{path} is not a JPEG, PNG, TIFF or WebP image") from None
    except Image.DecompressionBombError as error:
        raise ImageFileError(f"{path} is too large to be decoded: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageFileError(f"cannot read {path}: {error.strerror}") from None
        raise ImageFileError(f"{path} is truncated or damaged: {error}") from None


@contextmanager
def write_in_one_step(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write to that takes the place of `path` at the end; a failure leaves nothing behind.

    Raises
    ------
    ImageFileError
        If the file cannot be written; the message names the cause.
    """
    with replaced_in_one_step(path, ImageFileError) as partial, partial.open("wb") as file:
        yield file


def write_picture(path: Path, picture: Image.Image, **options: Any) -> None:
    """Write a picture in the format that the suffix names, in one step.

    Raises
    ------
    ImageFileError
        If the suffix is not one of `PHOTOGRAPH_SUFFIXES` or the file cannot be written.
    """
    check_suffix(path, PHOTOGRAPH_SUFFIXES)
    with write_in_one_step(path) as file:
        try:
            picture.save(file, format=PHOTOGRAPH_SUFFIXES[path.suffix.lower()], **options)
        except (ValueError, struct.error) as error:
            raise ImageFileError(f"cannot write {path}: {error}") from None


def check_suffix(path: Path, suffixes: Sequence[str] | dict[str, str]) -> None:
    """Raise `ImageFileError` unless the file name ends with one of the suffixes, in any case."""
    if path.suffix.lower() not in suffixes:
        expected = ", ".join(suffixes)
        raise ImageFileError(f"cannot write {path}: its name must end with one of {expected}")
