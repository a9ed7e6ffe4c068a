"""Files that are written in one step: what stands under a name is the old file or the whole new one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from asnet.errors import AsnetError

# Characters that a temporary name takes of the file's: at four bytes each well below the 255 of a name.
_CHARACTERS_OF_NAME = 50


@contextmanager
def replaced_in_one_step(path: Path, error: type[AsnetError]) -> Iterator[Path]:
    """Give an empty file to fill, which takes the place of `path` when the block ends.

    A block that raises, be it `KeyboardInterrupt`, leaves `path` as it was and no other file behind.
    What the block has written reaches the device before it takes the place of `path`, so that a power
    failure leaves no half file either. Permissions are those of any newly made file.

    Parameters
    ----------
    path : Path
        The file to make or replace; its folder exists.
    error : type[AsnetError]
        What to raise where the file cannot be written.

    Yields
    ------
    Path
        The file to fill, in the folder of `path`.

    Raises
    ------
    AsnetError
        Of the type `error`, if `path` is a folder or the operating system refuses something here or in
        the block (`OSError`); the message names `path` and the cause.
    """
    if path.is_dir():
        raise error(f"cannot write {path}: there is a folder of that name")
    partial = None
    try:
        # In the same folder, so that replacing is one step of the file system.
        prefix = f".{path.name[:_CHARACTERS_OF_NAME]}."
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".partial", dir=path.parent)
        partial = Path(name)
        os.close(descriptor)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner may read.
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except OSError as failure:
        raise error(f"cannot write {path}: {failure.strerror or failure}") from None
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


_umask_lock = Lock()


def _umask() -> int:
    """What new files are not permitted; it can only be read by setting it, which all threads share."""
    with _umask_lock:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask
