"""Messages of the command: one line each, whatever the names of files hold."""

import re

#: What would break a line or steer a terminal.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(message: str) -> str:
    """Return a message with its control characters spelled out."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), message)
