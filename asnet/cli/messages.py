"""Messages of the command: one line each, whatever file names contain and decoders print."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TextIO

#: Characters that would break a line or control a terminal.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(message: str) -> str:
    """Return a message with its control characters spelled out."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), message)


_STANDARD_ERROR = 2
_decoding = Lock()
#: Python's own standard error, once separated.
_own: TextIO | None = None


def keep_messages_apart() -> None:
    """Give Python's messages a separate descriptor, so that `quiet_decoders` does not silence them.

    Does nothing if standard error is replaced or closed.
    """
    global _own
    stream = sys.__stderr__
    if stream is None or stream is not sys.stderr:
        return
    try:
        own = os.dup(_STANDARD_ERROR)
    except OSError:
        return
    stream.flush()
    sys.stderr = _own = os.fdopen(own, "w", buffering=1, encoding=stream.encoding, errors=stream.errors)


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Silence what C libraries print about a damaged file; the exception has the message.

    One thread at a time, because they share the descriptor.
    """
    if _own is None or sys.stderr is not _own:
        yield
        return
    with _decoding:
        kept = os.dup(_STANDARD_ERROR)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STANDARD_ERROR)
        try:
            yield
        finally:
            os.dup2(kept, _STANDARD_ERROR)
            os.close(kept)
            os.close(nowhere)
