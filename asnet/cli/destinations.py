"""Which files a subcommand reads and writes, decided and checked before any work is done."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from asnet.errors import ImageFileError, InputError
from asnet.imaging import PHOTOGRAPH_SUFFIXES


@dataclass(frozen=True)
class Destination:
    """Where results go, as the user gave it: a folder (it exists, or ends with a slash) or a file."""

    path: Path
    is_folder: bool

    @classmethod
    def parse(cls, text: str) -> "Destination":
        """Take an option's value."""
        separators = tuple(filter(None, (os.sep, os.altsep)))
        return cls(Path(text), text.endswith(separators) or Path(text).is_dir())


@dataclass(frozen=True)
class Inputs:
    """The photographs of a command line; `several` also of a folder with a single one."""

    photographs: list[Path]
    several: bool

    @classmethod
    def find(cls, paths: Sequence[Path]) -> "Inputs":
        """Replace folders by the photographs directly in them, in the order of their names.

        Raises
        ------
        InputError
            If a folder holds no photograph.
        ImageFileError
            If a folder cannot be read.
        """
        photographs: list[Path] = []
        for path in paths:
            if not path.is_dir():
                photographs.append(path)
                continue
            try:
                entries = sorted(path.iterdir())
            except OSError as error:
                raise ImageFileError(f"cannot read the folder {path}: {error.strerror}") from None
            found = [
                entry for entry in entries if entry.suffix.lower() in PHOTOGRAPH_SUFFIXES and entry.is_file()
            ]
            if not found:
                raise InputError(f"the folder {path} holds no JPEG, PNG, TIFF or WebP photograph")
            photographs += found
        return cls(photographs, len(photographs) > 1 or any(path.is_dir() for path in paths))

    def outputs(self, destination: Destination, name: Callable[[Path], str]) -> list[Path]:
        """Return the output file of every photograph, in a folder under the name that `name` gives.

        Raises
        ------
        InputError
            If several photographs are to go into what is a file.
        """
        if destination.is_folder or self.several:
            if destination.path.is_file():
                raise InputError(
                    f"several photographs need a folder to go to, but {destination.path} is a file"
                )
            return [destination.path / name(photograph) for photograph in self.photographs]
        return [destination.path]


def check_outputs(inputs: Inputs, outputs: Iterable[Path]) -> None:
    """Refuse outputs that would overwrite an input or each other.

    Raises
    ------
    InputError
        If so; the message names the file.
    """
    own = {photograph.resolve() for photograph in inputs.photographs}
    taken: set[Path] = set()
    for output in outputs:
        resolved = output.resolve()
        if resolved in own or any(_same_file(output, photograph) for photograph in inputs.photographs):
            raise InputError(f"{output} is an input, and inputs are never overwritten; give another output")
        if resolved in taken:
            raise InputError(f"two results would both be written to {output}; give them separate folders")
        taken.add(resolved)


def check_absent(outputs: Iterable[Path], *, overwrite: bool) -> None:
    """Raise `ImageFileError` if an output exists and is not to be overwritten, or is a folder."""
    for output in outputs:
        if output.is_dir():
            raise ImageFileError(f"{output} is a folder; give the file to write")
        if output.exists() and not overwrite:
            raise ImageFileError(f"{output} exists already; --overwrite replaces it")


def make_folder(folder: Path) -> None:
    """Make a folder for results, with those above it.

    Raises
    ------
    ImageFileError
        If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageFileError(f"cannot make the folder {folder}: {error.strerror}") from None


def _same_file(first: Path, second: Path) -> bool:
    """Whether two names lead to one file, through links or a file system that ignores case."""
    try:
        return first.samefile(second)
    except OSError:
        return False
