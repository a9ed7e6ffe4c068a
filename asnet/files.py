"""Atomic writes, and the visible files of a folder."""

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from asnet.errors import AsnetError

# Characters of the file's name in the temporary name: at four bytes each, well below the limit of 255 bytes.
_CHARACTERS_OF_NAME = 50


@contextmanager
def atomic_write(path: Path, error: type[AsnetError]) -> Iterator[Path]:
    """Write a file atomically: yields a temporary file, which replaces `path` when the block ends.

    A block that raises, even `KeyboardInterrupt`, leaves `path` unchanged and no other file behind. The
    content is flushed to the device before it replaces `path`, so a power failure does not leave half a
    file either. Permissions are those of any new file. A symbolic link is followed and kept.

    Parameters
    ----------
    path : Path
        The file to make or replace; its folder exists.
    error : type[AsnetError]
        What to raise if the file cannot be written.

    Yields
    ------
    Path
        The file to fill, in the folder of `path`.

    Raises
    ------
    AsnetError
        Of the type `error`, if `path` is a folder or a device, or the operating system refuses something
        here or in the block (`OSError`); the message names `path` and the cause.
    """
    if path.is_dir():
        raise error(f"cannot write {path}: it is a folder")
    if path.exists() and not path.is_file():
        raise error(f"cannot write {path}: it is a device or a pipe, not a file")
    try:
        target = path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError) as failure:
        # RuntimeError: a loop of links, before Python 3.13.
        raise error(f"cannot write {path}: {failure}") from None
    partial = None
    try:
        # In the same folder, so that replacing is atomic.
        prefix = f".{target.name[:_CHARACTERS_OF_NAME]}."
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".partial", dir=target.parent)
        partial = Path(name)
        os.close(descriptor)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read.
        partial.chmod(0o666 & ~_umask())
        partial.replace(target)
    except OSError as failure:
        raise error(f"cannot write {path}: {failure.strerror or failure}") from None
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def visible_files(
    folder: Path, suffixes: Collection[str], *, recursive: bool = False, without: Collection[Path] = ()
) -> list[Path]:
    """Return the files of a folder with one of the suffixes, in any case, sorted by their names.

    Files and folders whose names begin with a dot are skipped, among them the "._" files of macOS,
    which have the suffixes of photographs. Broken links are returned: reading them reports the error.

    Parameters
    ----------
    folder : Path
        Where to look.
    suffixes : collection of str
        In lower case, with their dots.
    recursive : bool
        Look into its folders too, after its files.
    without : collection of Path
        Folders to skip, resolved.

    Raises
    ------
    OSError
        If a folder cannot be read.
    """
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    named = [entry for entry in entries if entry.suffix.lower() in suffixes]
    found = [entry for entry in named if entry.is_file() or (entry.is_symlink() and not entry.exists())]
    if recursive:
        for entry in entries:
            # A link may lead back to a parent folder.
            if entry.is_dir() and not entry.is_symlink() and entry.resolve() not in without:
                found += visible_files(entry, suffixes, recursive=True, without=without)
    return found


_umask_lock = Lock()


def _umask() -> int:
    """The umask, which can only be read by setting it, for all threads."""
    with _umask_lock:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask
