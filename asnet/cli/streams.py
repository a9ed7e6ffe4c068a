"""Standard input and output instead of files."""

import sys
from io import BytesIO
from pathlib import Path

from asnet.cli.messages import quiet_decoders
from asnet.errors import ImageFileError
from asnet.imaging import Photograph, encoded_photograph, read_photograph

#: These objects represent the streams; a file of the same name is a different object.
STANDARD_INPUT = Path("standard input")
STANDARD_OUTPUT = Path("standard output")


def is_standard(path: Path) -> bool:
    """Whether a path represents one of the streams."""
    return path is STANDARD_INPUT or path is STANDARD_OUTPUT


def read_source(path: Path, max_pixels: int) -> tuple[Photograph, bytes | None]:
    """Read a photograph from a file or standard input; for standard input, also return the bytes."""
    data = sys.stdin.buffer.read() if path is STANDARD_INPUT else None
    with quiet_decoders():
        if data is None:
            return read_photograph(path, max_pixels=max_pixels), None
        return read_photograph(BytesIO(data), name=str(path), max_pixels=max_pixels), data


def write_stream(data: bytes | memoryview) -> None:
    """Write to standard output.

    Raises
    ------
    ImageFileError
        If it is closed.
    """
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise ImageFileError(f"cannot write {STANDARD_OUTPUT}: {error.strerror}") from None


def write_photograph_to_stream(photograph: Photograph) -> tuple[str, ...]:
    """Write a photograph to standard output; return notes on what its format cannot hold."""
    data, notes = encoded_photograph(photograph, photograph.own_format)
    write_stream(data)
    return tuple(f"{STANDARD_OUTPUT} {note}" for note in notes)
