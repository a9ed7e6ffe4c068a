"""Helpers for the tests with nvcc: setup.py, which finds it, and the PTX of a source."""

import functools
import importlib.util
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest
from build_kernels import ROOT, cache_folder, digest, make

#: The oldest architecture that the kernels are for.
OLDEST = "80"

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


@functools.cache
def find_nvcc() -> Path:
    """nvcc; skips the test where there is none."""
    nvcc: Path | None = setup_script().find_nvcc()
    if nvcc is None:
        pytest.skip("nothing is compiled for GPUs: no nvcc on PATH, in NVCC or under CUDA_HOME")
    return nvcc


def key_of(command: list[str], source: Path) -> str:
    """Hash of what nvcc compiles: the command, the source with all it includes, nvcc and torch."""
    version = subprocess.run([find_nvcc(), "--version"], capture_output=True, text=True, check=True).stdout
    texts = [path.read_bytes() for path in sorted(included(source))]
    return digest(version, setup_script().find_torch().version, *command, *texts)


def emit_ptx(source: Path) -> Path:
    """The PTX of a host entry's kernels for the oldest architecture, cached."""
    setup = setup_script()
    folders = [f"-I{ROOT / 'csrc'}", f"-I{setup.find_torch().include}"]
    flags = [f"-arch=compute_{OLDEST}", *setup.COMMON_FLAGS, "-DUSE_CUDA", *folders]
    command = [str(find_nvcc()), *flags, "-ptx"]
    target = cache_folder() / f"{source.stem}-{key_of(command, source)}.ptx"
    make(target, [*command, str(source)], f"nvcc on {source.name}")
    return target
