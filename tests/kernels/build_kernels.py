"""Compiles CUDA kernels for the CPU into a Python module, with g++ and cuda_on_cpu.h.

Objects and modules are kept under the hash of all that goes into them (compiler and flags, the text after the
preprocessor), hence a second build takes no longer than the preprocessor.

Environment
-----------
CXX : the compiler, ``g++`` otherwise.
MAX_JOBS : number of compilers at work at the same time, the number of processors otherwise.
ASNET_TEST_CACHE : folder of objects and modules, otherwise ``asnet-kernel-tests-<user>`` among the temporary
    files.
ASNET_SANITIZE : ``address``, ``undefined``, ``thread`` or ``address,undefined``: builds with sanitizers.
"""

from __future__ import annotations

import getpass
import hashlib
import importlib.machinery
import importlib.util
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
HEADER = FOLDER / "cuda_on_cpu" / "cuda_on_cpu.h"

FLAGS = [
    "-std=c++20",
    "-g1",
    "-fPIC",
    "-fvisibility=hidden",
    # As nvcc has it.
    "-fno-strict-aliasing",
    "-ffp-contract=fast",
    "-march=native",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-Wno-sign-compare",
]


class BuildError(Exception):
    """There is no compiler, or it does not take a source."""


def sanitizers() -> str:
    """What ASNET_SANITIZE asks for; empty for none."""
    return os.environ.get("ASNET_SANITIZE", "")


def compiler() -> list[str]:
    """The C++ compiler as a command.

    Raises
    ------
    BuildError
        If there is none.
    """
    command = shlex.split(os.environ.get("CXX", "")) or ["g++"]
    if shutil.which(command[0]) is None:
        raise BuildError(f"no C++ compiler: {command[0]!r} is not on PATH; name one in CXX.")
    return command


def cache_folder() -> Path:
    """Where objects and modules are kept."""
    named = os.environ.get("ASNET_TEST_CACHE")
    folder = Path(named or Path(tempfile.gettempdir(), f"asnet-kernel-tests-{getpass.getuser()}"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def jobs() -> int:
    """Number of compilers at work at the same time."""
    return int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)


def run(command: Sequence[str], what: str) -> bytes:
    """The command's output; a BuildError with the compiler's messages if it fails."""
    result = subprocess.run(command, capture_output=True)
    if result.returncode != 0:
        raise BuildError(f"{what} failed:\n{shlex.join(command)}\n{result.stderr.decode(errors='replace')}")
    return result.stdout


def optimisation() -> list[str]:
    """Flags of the plain build, or of one with sanitizers that end the process at the first report."""
    if not sanitizers():
        return ["-O2"]
    return ["-O1", f"-fsanitize={sanitizers()}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


def compile_object(source: Path, flags: Sequence[str]) -> Path:
    """The object file of a source, from the cache if nothing that it is made of has changed."""
    command = [*compiler(), "-x", "c++", *FLAGS, *optimisation(), *flags]
    command += ["-include", str(HEADER), str(source)]
    text = run([*command, "-E"], f"the preprocessor on {source.name}")
    machine = run([*compiler(), "-march=native", "-dM", "-E", "-x", "c++", os.devnull], "the compiler")
    key = hashlib.sha256(b"\0".join([text, machine, "\0".join(command).encode()])).hexdigest()[:32]
    target = cache_folder() / f"{source.stem}-{key}.o"
    if not target.is_file():
        unfinished = target.with_suffix(f".{os.getpid()}")
        run([*command, "-c", "-o", str(unfinished)], f"compiling {source.name}")
        unfinished.replace(target)
    return target


def link(name: str, sources: Sequence[Path], flags: Sequence[str], libraries: Sequence[str] = ()) -> Path:
    """A shared object of sources that are compiled side by side."""
    with ThreadPoolExecutor(jobs()) as pool:
        objects = list(pool.map(lambda source: str(compile_object(source, flags)), sources))
    command = [*compiler(), "-shared", *optimisation(), *objects, *libraries]
    key = hashlib.sha256("\0".join(command).encode()).hexdigest()[:32]
    target = cache_folder() / key / f"{name}.so"
    if not target.is_file():
        target.parent.mkdir(exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}")
        run([*command, "-o", str(unfinished)], f"linking {name}")
        unfinished.replace(target)
    return target


def build_module(bindings: Sequence[Path] | None = None) -> Path:
    """The module `kernels` with the given bindings, all of tests/kernels/bindings otherwise.

    Raises
    ------
    BuildError
        If there is no compiler or no pybind11, or a source does not compile.
    """
    try:
        import pybind11
    except ImportError as error:
        raise BuildError("pybind11 is not installed; pip install 'asnet[test]' brings it.") from error
    folders = [ROOT / "csrc", FOLDER]
    system = [Path(pybind11.get_include()), Path(sysconfig.get_path("include"))]
    flags = [*(f"-I{folder}" for folder in folders), *(f"-isystem{folder}" for folder in system)]
    chosen = sorted((FOLDER / "bindings").glob("*.cpp")) if bindings is None else [*bindings]
    main = FOLDER / "bindings" / "module.cpp"
    return link("kernels", [main, *(source for source in chosen if source != main)], flags)


def build_operators() -> Path:
    """The host entries of csrc/cuda as a library of torch operators `asnet_cuda_on_cpu` for CPU tensors.

    Raises
    ------
    BuildError
        If there is no compiler, or a source does not compile.
    """
    import torch

    packages = Path(torch.__file__).parent
    flags = [
        "-DTORCH_TARGET_VERSION=0x020a000000000000",
        "-DASNET_LIBRARY=asnet_cuda_on_cpu",
        f"-I{ROOT / 'csrc'}",
        f"-isystem{packages / 'include'}",
    ]
    entries = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    sources = [ROOT / "csrc" / "schemas.cpp", HEADER.parent / "library.cpp", *entries]
    libraries = [f"-L{packages / 'lib'}", "-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu"]
    return link("asnet_cuda_on_cpu", sources, flags, libraries)


def load_module(path: Path) -> ModuleType:
    """Opens a module that `build_module` has made."""
    loader = importlib.machinery.ExtensionFileLoader("kernels", str(path))
    specification = importlib.util.spec_from_file_location("kernels", path, loader=loader)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    loader.exec_module(module)
    return module
