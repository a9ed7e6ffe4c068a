"""What the tests of the command expect of its messages."""

import pytest


def one_sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was printed to standard error: one line from asnet, and no traceback."""
    error = capsys.readouterr().err.strip()
    assert error.startswith("asnet: ")
    assert "\n" not in error
    assert "Traceback" not in error
    return error
