"""Files of an evaluation, found and checked before anything runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from asnet.errors import ImageFileError, InputError
from asnet.imaging import PHOTOGRAPH_SUFFIXES
from asnet.imaging.decoding import read_size

#: Data sets are lossless.
DATA_SUFFIXES = (".png",)

#: Formats of other methods' results.
RESULT_SUFFIXES = tuple(PHOTOGRAPH_SUFFIXES)

#: Blur kernels are images or arrays.
KERNEL_FILE_SUFFIXES = (".npy", *RESULT_SUFFIXES)


class Inventory:
    """Collects the required files; `check` reports all missing and wrong ones at once."""

    def __init__(self) -> None:
        self._files: dict[Path, dict[str, list[Path]]] = {}
        self._used: set[Path] = set()
        self._missing: list[Path] = []
        self._ambiguous: list[str] = []
        self._unreadable: list[str] = []
        self._wrong: list[str] = []
        self._notes: list[str] = []
        self._sizes: dict[Path, tuple[int, int] | None] = {}

    def find(self, folder: Path, stem: str, suffixes: Sequence[str] = DATA_SUFFIXES) -> Path:
        """Return the file of a folder by its name without suffix, or note that it is missing."""
        return self._only(folder, stem, self._listing(folder).get(stem, []), suffixes)

    def find_like(self, folder: Path, name: str, pattern: str, suffixes: Sequence[str]) -> Path:
        """Return the file of a folder whose name without suffix matches a regular expression entirely.

        `name` is its name in messages when it is missing.
        """
        alike = [
            path
            for stem, paths in self._listing(folder).items()
            if re.fullmatch(pattern, stem)
            for path in paths
        ]
        return self._only(folder, name, alike, suffixes)

    def stems(self, folder: Path) -> list[str]:
        """Return the names without suffix of a folder's images, sorted."""
        return sorted(
            stem
            for stem, paths in self._listing(folder).items()
            if any(path.suffix.lower() in RESULT_SUFFIXES for path in paths)
        )

    def expect_size(self, path: Path, like: Path, *, smaller_by: Sequence[int] = (0,)) -> None:
        """Note a picture whose width and height are not those of another minus one of the allowed numbers."""
        size, expected = self._size(path), self._size(like)
        if size is None or expected is None:
            return
        allowed = [(expected[0] - less, expected[1] - less) for less in smaller_by]
        if size not in allowed:
            wanted = " or ".join(f"{width}x{height}" for width, height in allowed)
            self._wrong.append(f"{path.name} has {size[0]}x{size[1]} pixels instead of {wanted}")

    def pixels(self, path: Path) -> int:
        """Return the number of pixels of a picture that was found."""
        width, height = self._size(path) or (0, 0)
        return width * height

    def check(self, what: str) -> list[str]:
        """Raise one error for everything that was noted.

        Parameters
        ----------
        what : str
            Name of the data set in messages.

        Returns
        -------
        list of str
            Notes on what is lost in reading the pictures, one sentence for each picture with losses.

        Raises
        ------
        InputError
            If a file is missing, exists in several formats, is not an image, or has the wrong size.
        """
        # Reading the sizes of all other files checks that they are images.
        for path in self._used:
            if path.suffix.lower() in RESULT_SUFFIXES:
                self._size(path)
        parts = []
        if self._missing and not self._used:
            parts.append(f"none of its {len(self._missing)} files is there, such as {self._missing[0]}")
        elif self._missing:
            parts.append(f"{len(self._missing)} missing: {', '.join(_listed(self._missing))}")
        if self._missing:
            # A misnamed file is missing under one name and present under another.
            folders = {path.parent for path in self._missing}
            unknown = sorted(
                path
                for folder in folders
                for paths in self._listing(folder).values()
                for path in paths
                if path not in self._used and path.suffix.lower() in KERNEL_FILE_SUFFIXES
            )
            if unknown:
                parts.append(f"not expected under their names: {', '.join(_listed(unknown))}")
        if self._ambiguous:
            parts.append(f"several for one name: {', '.join(self._ambiguous)}")
        if self._unreadable:
            parts.append(f"unreadable: {', '.join(sorted(self._unreadable))}")
        if self._wrong:
            parts.append(f"of the wrong size: {', '.join(self._wrong)}")
        if parts:
            raise InputError(f"{what} cannot be evaluated; {'; '.join(parts)}")
        return sorted(self._notes)

    def _listing(self, folder: Path) -> dict[str, list[Path]]:
        """The files of a folder by their names without suffix; none of a folder that does not exist."""
        if folder not in self._files:
            listing: dict[str, list[Path]] = {}
            try:
                entries = sorted(folder.iterdir()) if folder.is_dir() else []
            except OSError as error:
                raise ImageFileError(f"cannot read the folder {folder}: {error.strerror}") from None
            for entry in entries:
                # Some systems create "._name.png" next to "name.png", which is not an image.
                if entry.name.startswith(".") or not entry.is_file():
                    continue
                listing.setdefault(entry.stem, []).append(entry)
            self._files[folder] = listing
        return self._files[folder]

    def _only(self, folder: Path, name: str, paths: Sequence[Path], suffixes: Sequence[str]) -> Path:
        found = [path for path in paths if path.suffix.lower() in suffixes]
        if len(found) > 1:
            self._ambiguous += _listed(found)
        if found:
            self._used.add(found[0])
            return found[0]
        path = folder / f"{name}{suffixes[0] if len(suffixes) == 1 else ''}"
        self._missing.append(path)
        return path

    def _size(self, path: Path) -> tuple[int, int] | None:
        """Width and height of a picture, None if it is missing or unreadable, which is noted."""
        if path not in self._sizes:
            self._sizes[path] = None
            if path in self._used:
                try:
                    self._sizes[path], notes = _size_and_notes(path)
                    self._notes += notes
                except ImageFileError as error:
                    self._unreadable.append(str(error))
        return self._sizes[path]


def _size_and_notes(path: Path) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Width and height of a picture after its orientation tag is applied, and what reading it loses."""
    width, height, notes = read_size(path)
    return (width, height), notes


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises
    ------
    ImageFileError
        If the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError as error:
        raise ImageFileError(f"cannot read {path}: {error.strerror}") from None
    return digest.hexdigest()


def fingerprint(data: Iterable[Path], given: Iterable[Path] = ()) -> str:
    """Return a hash of files: of the names and sizes of a data set's, of the names and contents of others.

    A data set may be many gigabytes.

    Raises
    ------
    ImageFileError
        If a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in data:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
    for path in given:
        digest.update(f"{path.name}\0{file_hash(path)}\0".encode())
    return digest.hexdigest()


def _listed(paths: Sequence[Path]) -> list[str]:
    """Names of files in the order given, runs of consecutive last numbers as `first to last`."""
    runs: list[list[Path]] = []
    for path in paths:
        if runs and _follows(runs[-1][-1], path):
            runs[-1].append(path)
        else:
            runs.append([path])
    texts = []
    for run in runs:
        names = [str(Path(path.parent.name) / path.name) for path in run]
        texts += names if len(run) < 3 else [f"{names[0]} to {run[-1].name}"]
    return texts


def _follows(first: Path, second: Path) -> bool:
    """Whether two names differ in their last number alone, which is one larger in the second."""
    one, two = (re.fullmatch(r"(.*?)(\d+)(\D*)", path.name) for path in (first, second))
    return (
        one is not None
        and two is not None
        and first.parent == second.parent
        and (one[1], one[3]) == (two[1], two[3])
        and int(two[2]) == int(one[2]) + 1
    )
