"""Helpers for the tests with nvcc: setup.py, which finds it, and the files that a source includes."""

import functools
import importlib.util
import re
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest
from build_kernels import ROOT

_LOADING = threading.Lock()


def setup_script() -> ModuleType:
    """setup.py as a module that builds nothing; safe to call from several threads."""
    with _LOADING:
        return _setup_script()


@functools.cache
def _setup_script() -> ModuleType:
    sys.path.insert(0, str(ROOT / "build_backend"))
    specification = importlib.util.spec_from_file_location("asnet_setup", ROOT / "setup.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("setuptools.setup", lambda **_: None)
        specification.loader.exec_module(module)
    sys.path.remove(str(ROOT / "build_backend"))
    return module


def included(path: Path) -> set[Path]:
    """A source of csrc and all that it includes from there."""
    found, open_paths = set(), [path]
    while open_paths:
        current = open_paths.pop()
        found.add(current)
        names = re.findall(r'^#include "([^"]+)"', current.read_text(), re.MULTILINE)
        open_paths += [ROOT / "csrc" / name for name in names if ROOT / "csrc" / name not in found]
    return found
