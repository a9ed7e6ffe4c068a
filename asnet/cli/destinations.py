"""Input and output files of a subcommand, resolved and checked before any work is done."""

import argparse
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from asnet.cli.streams import STANDARD_INPUT, STANDARD_OUTPUT, is_standard
from asnet.errors import ImageFileError, InputError
from asnet.files import visible_files
from asnet.imaging import (
    KERNEL_SUFFIXES,
    OTHER_SUFFIXES,
    PHOTOGRAPH_SUFFIXES,
    RAW_SUFFIXES,
    READABLE_SUFFIXES,
)

#: Name of the standard streams on the command line; a file of that name is ./-
STREAM = "-"

#: Names of raw files that a note lists.
_LISTED = 3


def photograph_path(text: str) -> Path:
    """Parse an argument that names a photograph, a folder or standard input."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the name of a photograph must not be empty")
    return STANDARD_INPUT if text == STREAM else Path(text)


@dataclass(frozen=True)
class Destination:
    """The output as given by the user: a folder (it exists, or ends with a slash), a file, or a stream."""

    path: Path
    is_folder: bool

    @classmethod
    def parse(cls, text: str) -> "Destination":
        """Parse an option's value."""
        if not text.strip():
            raise argparse.ArgumentTypeError("the name of an output must not be empty")
        if text == STREAM:
            return cls(STANDARD_OUTPUT, is_folder=False)
        separators = tuple(filter(None, (os.sep, os.altsep)))
        return cls(Path(text), text.endswith(separators) or Path(text).is_dir())


@dataclass(frozen=True)
class Inputs:
    """The photographs of a command line.

    Parameters
    ----------
    photographs : list of Path
        In the order of processing.
    several : bool
        Whether results go to a folder; true even for a folder with a single photograph.
    roots : dict
        For photographs found in subfolders: the folder that was given.
    notes : tuple of str
        Notes on skipped files, one sentence each.
    """

    photographs: list[Path]
    several: bool
    roots: dict[Path, Path]
    notes: tuple[str, ...] = ()

    @classmethod
    def of_files(cls, paths: Sequence[Path]) -> "Inputs":
        """Return files as they are given."""
        return cls(list(paths), len(paths) > 1, {})

    @classmethod
    def find(
        cls, paths: Sequence[Path], *, recursive: bool = False, outputs: Iterable[Destination] = ()
    ) -> "Inputs":
        """Replace folders by the photographs in them, in the order of their names.

        Parameters
        ----------
        paths : sequence of Path
            Photographs and folders.
        recursive : bool
            Look into subfolders too.
        outputs : iterable of Destination
            Folders of results, which are skipped if they are among the subfolders.

        Raises
        ------
        InputError
            If a folder holds no photograph, or standard input is given with others.
        ImageFileError
            If a folder cannot be read.
        """
        if len(paths) > 1 and any(is_standard(path) for path in paths):
            raise InputError("standard input is one photograph: it cannot be combined with others")
        photographs: list[Path] = []
        roots: dict[Path, Path] = {}
        notes: list[str] = []
        without = {output.path.resolve() for output in outputs if not is_standard(output.path)}
        for path in paths:
            if is_standard(path) or not path.is_dir():
                photographs.append(path)
                continue
            try:
                found = visible_files(path, READABLE_SUFFIXES, recursive=recursive, without=without)
                passed_over = [
                    note(path, visible_files(path, suffixes, recursive=recursive, without=without))
                    for suffixes, note in ((RAW_SUFFIXES, _raw_note), (OTHER_SUFFIXES, _other_note))
                ]
            except OSError as error:
                place = error.filename or path
                raise ImageFileError(f"cannot read the folder {place}: {error.strerror}") from None
            new = [note for note in passed_over if note]
            notes += new
            if not found:
                where = "nor do its subfolders" if recursive else "--recursive looks into its subfolders"
                also = "".join(f"; {note}" for note in new) or f"; {where}"
                raise InputError(
                    f"the folder {path} holds no JPEG, PNG, TIFF, WebP, HEIC or AVIF photograph{also}"
                )
            photographs += found
            roots |= dict.fromkeys(found, path)
        several = len(photographs) > 1 or bool(roots)
        return cls(photographs, several, roots, tuple(notes))

    def outputs(self, destination: Destination, name: Callable[[Path, str], str]) -> list[Path]:
        """Return the output file of every photograph.

        Parameters
        ----------
        destination : Destination
            A file, or a folder, in which the subfolders of the photographs are mirrored.
        name : callable
            Returns the name of a photograph's output in a folder, from the photograph and its stem. The stem
            includes the suffix where two photographs of a folder would otherwise have the same name.

        Raises
        ------
        InputError
            If several photographs would be written to a file.
        """
        if not destination.is_folder and not self.several:
            return [destination.path]
        self._check_folder(destination)
        plain = [(photograph.parent, name(photograph, photograph.stem)) for photograph in self.photographs]
        taken = Counter(plain)
        result = []
        for photograph, proposal in zip(self.photographs, plain, strict=True):
            folder = destination.path
            if photograph in self.roots:
                folder = folder / photograph.parent.relative_to(self.roots[photograph])
            stem = f"{photograph.stem}-{photograph.suffix[1:]}"
            result.append(folder / (proposal[1] if taken[proposal] == 1 else name(photograph, stem)))
        return result

    def _check_folder(self, destination: Destination) -> None:
        path = destination.path
        if is_standard(path) or any(is_standard(photograph) for photograph in self.photographs):
            raise InputError("a stream is one photograph: it cannot be combined with a folder or several")
        if path.is_file():
            raise InputError(f"several photographs need an output folder, but {path} is a file")
        if not destination.is_folder and path.suffix.lower() in (*PHOTOGRAPH_SUFFIXES, *KERNEL_SUFFIXES):
            raise InputError(
                f"several photographs need an output folder, but {path} is named like a file; "
                f"{path}{os.sep} would be a folder"
            )


def check_outputs(inputs: Inputs, outputs: Iterable[Path]) -> None:
    """Refuse outputs that would overwrite an input or each other.

    Raises
    ------
    InputError
        If so; the message names the file.
    """
    files = [photograph for photograph in inputs.photographs if not is_standard(photograph)]
    own = {photograph.resolve() for photograph in files}
    taken: set[Path] = set()
    for output in outputs:
        if is_standard(output):
            continue
        resolved = output.resolve()
        if resolved in own or (output.exists() and any(_same_file(output, other) for other in files)):
            raise InputError(f"{output} is an input, and inputs are never overwritten; give another output")
        if resolved in taken:
            raise InputError(f"two results would both be written to {output}; give them separate folders")
        taken.add(resolved)


def check_absent(outputs: Iterable[Path], *, overwrite: bool) -> None:
    """Raise `ImageFileError` if an output exists and is not to be overwritten, or is a folder."""
    for output in outputs:
        if is_standard(output):
            continue
        if output.is_dir():
            raise ImageFileError(f"{output} is a folder; give the file to write")
        if output.exists() and not overwrite:
            raise ImageFileError(f"{output} exists; --overwrite replaces it")


def make_folder(folder: Path) -> None:
    """Make a folder for results, and its parents.

    Raises
    ------
    ImageFileError
        If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageFileError(f"cannot make the folder {folder}: {error.strerror}") from None


def _raw_note(folder: Path, raw: Sequence[Path]) -> str:
    """Return a note on the raw files in a folder; empty if none."""
    if not raw:
        return ""
    return (
        f"{folder} holds {_counted(raw, 'camera raw file')} ({_listed(raw)}), which asnet does not read: "
        "convert them to 16-bit TIFF or PNG with a raw converter"
    )


def _other_note(folder: Path, others: Sequence[Path]) -> str:
    """Return a note on unsupported pictures in a folder; empty if none."""
    if not others:
        return ""
    return (
        f"{folder} holds {_counted(others, 'image')} ({_listed(others)}) in formats that asnet does not "
        "read: convert them to PNG"
    )


def _counted(files: Sequence[Path], name: str) -> str:
    return f"1 {name}" if len(files) == 1 else f"{len(files)} {name}s"


def _listed(files: Sequence[Path]) -> str:
    return ", ".join(path.name for path in files[:_LISTED]) + (", ..." if len(files) > _LISTED else "")


def _same_file(first: Path, second: Path) -> bool:
    """Whether two names refer to the same file, through links or a file system that ignores case."""
    try:
        return first.samefile(second)
    except OSError:
        return False
