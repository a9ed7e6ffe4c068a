"""Compiles CUDA kernels for the CPU into a Python module, with g++ and cuda_on_cpu.h.

Objects and modules are cached under the hash of compiler, flags and preprocessed text, so a second build only
runs the preprocessor, in any checkout and environment.

Environment
-----------
CXX : the compiler, by default ``g++``.
MAX_JOBS : number of parallel compilers, by default the number of processors.
ASNET_TEST_CACHE : folder of objects and modules, by default ``asnet-kernel-tests-<user>`` in the temporary
    folder.
ASNET_SANITIZE : ``address``, ``undefined``, ``thread`` or ``address,undefined``: builds with sanitizers.
"""

from __future__ import annotations

import fcntl
import functools
import getpass
import hashlib
import importlib.machinery
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
HEADER = FOLDER / "cuda_on_cpu" / "cuda_on_cpu.h"

FLAGS = [
    "-std=c++20",
    "-fPIC",
    "-fvisibility=hidden",
    # As nvcc compiles.
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
    """There is no compiler, or it rejects a source."""


def sanitizers() -> str:
    """The value of ASNET_SANITIZE; empty for none."""
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
    """The folder of objects and modules."""
    named = os.environ.get("ASNET_TEST_CACHE")
    folder = Path(named or Path(tempfile.gettempdir(), f"asnet-kernel-tests-{getpass.getuser()}"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Lock out other processes that build the same: the tests run in several."""
    lock = cache_folder() / f"{name}-{sanitizers().replace(',', '-') or 'plain'}.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def jobs() -> int:
    """Number of parallel compilers."""
    return int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)


def run(command: Sequence[str], what: str) -> bytes:
    """The command's output; a BuildError with the compiler's messages if it fails."""
    # With debug information the preprocessor names the folder in which it runs.
    result = subprocess.run(command, capture_output=True, cwd=ROOT)
    if result.returncode != 0:
        raise BuildError(f"{what} failed:\n{shlex.join(command)}\n{result.stderr.decode(errors='replace')}")
    return result.stdout


def optimisation() -> list[str]:
    """Flags of the plain build, or of one with sanitizers that end the process at the first report."""
    if not sanitizers():
        # -O2 saves less time in the tests than it takes in compiling.
        return ["-O1"]
    # The omitted checks cost time at every access and find faults that kernels cannot have.
    chosen = [
        # Reports name lines.
        "-g1",
        f"-fsanitize={sanitizers()}",
        "-fno-sanitize=vptr,null,object-size",
        "-fno-sanitize-recover=all",
    ]
    return ["-O1", "-fno-omit-frame-pointer", "-DASNET_SANITIZED", *chosen]


def compile_command(flags: Sequence[str], language: str = "c++") -> list[str]:
    """The compiler with its flags."""
    return [*compiler(), "-x", language, *FLAGS, *optimisation(), *flags]


def digest(*parts: str | bytes) -> str:
    """Hash of commands and texts, without the folders of this checkout and of Python's environment."""
    whole = b"\0".join(part.encode() if isinstance(part, str) else part for part in parts)
    for folder in (sys.prefix, str(ROOT)):
        whole = whole.replace(folder.encode(), b"")
    return hashlib.sha256(whole).hexdigest()[:32]


@functools.cache
def machine() -> bytes:
    """Macros of the compiler for this processor."""
    return run([*compiler(), "-march=native", "-dM", "-E", "-x", "c++", os.devnull], "the compiler")


def key_of(command: Sequence[str], source: Path) -> str:
    """Hash of what a command compiles: the processor, the flags, the preprocessed text."""
    text = run([*command, "-E", str(source)], f"the preprocessor on {source.name}")
    return digest(machine(), *command, text)


def make(target: Path, command: Sequence[str], what: str) -> None:
    """Run a command that writes `target` atomically, unless `target` exists."""
    if not target.is_file():
        target.parent.mkdir(exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}")
        run([*command, "-o", str(unfinished)], what)
        unfinished.replace(target)


def precompile(header: Path, flags: Sequence[str]) -> Path:
    """Precompile a header."""
    command = compile_command(flags, "c++-header")
    folder = cache_folder() / key_of(command, header)
    make(folder / f"{header.name}.gch", [*command, str(header)], f"precompiling {header.name}")
    return folder / header.name


def compile_object(source: Path, flags: Sequence[str], header: Path, included: Path) -> Path:
    """The object file of a source after a header, whose precompiled form is `included`."""
    command = compile_command(flags)
    target = cache_folder() / f"{source.stem}-{key_of([*command, '-include', str(header)], source)}.o"
    make(target, [*command, "-include", str(included), "-c", str(source)], f"compiling {source.name}")
    return target


def link(
    name: str,
    sources: Sequence[Path],
    flags: Sequence[str],
    prefix: Path,
    libraries: Sequence[str] = (),
) -> Path:
    """A shared object of sources, compiled in parallel, each after the precompiled `prefix`."""
    with one_at_a_time(name):
        included = precompile(prefix, flags)
        with ThreadPoolExecutor(jobs()) as pool:
            made = pool.map(lambda source: str(compile_object(source, flags, prefix, included)), sources)
            objects = list(made)
        command = [*compiler(), "-shared", *optimisation(), *objects, *libraries]
        target = cache_folder() / digest(*command) / f"{name}.so"
        make(target, command, f"linking {name}")
    return target


#: Small bindings, which change rarely.
SMALL = {"cpu_counterparts", "example", "faults", "module", "translated"}


def joined(sources: Sequence[Path]) -> Path:
    """A source that includes the given bindings: every further source costs seconds for pybind11."""
    text = "".join(f'#include "bindings/{source.name}"\n' for source in sources)
    target = cache_folder() / f"bindings-{digest(text)}.cpp"
    unfinished = target.with_suffix(f".{os.getpid()}")
    unfinished.write_text(text)
    unfinished.replace(target)
    return target


def build_module() -> Path:
    """The module `kernels` with all of tests/kernels/bindings.

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
    bindings = FOLDER / "bindings"
    sources = sorted(bindings.glob("*.cpp"))
    if sanitizers():
        # Sanitizers make pybind11 slow to compile.
        sources = [joined(sources[0::2]), joined(sources[1::2])]
    else:
        small = [source for source in sources if source.stem in SMALL]
        sources = [joined(small), *(source for source in sources if source not in small)]
    return link("kernels", sources, flags, bindings / "prefix.h")


def build_operators() -> Path:
    """The CUDA host entries of csrc as a library of torch operators `asnet_cuda_on_cpu` for CPU tensors.

    Raises
    ------
    BuildError
        If there is no compiler, or a source does not compile.
    """
    import torch

    packages = Path(torch.__file__).parent
    flags = [
        "-DTORCH_TARGET_VERSION=0x020b000000000000",
        "-DASNET_LIBRARY=asnet_cuda_on_cpu",
        f"-I{ROOT / 'csrc'}",
        f"-I{FOLDER}",
        f"-isystem{packages / 'include'}",
    ]
    entries = sorted((ROOT / "csrc").glob("*/cuda/*.cu"))
    sources = [ROOT / "csrc" / "schemas.cpp", HEADER.parent / "library.cpp", *entries]
    libraries = [f"-L{packages / 'lib'}", "-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu"]
    return link("asnet_cuda_on_cpu", sources, flags, HEADER.parent / "host_prefix.h", libraries)


def load_module(path: Path) -> ModuleType:
    """Load a module built by `build_module`."""
    loader = importlib.machinery.ExtensionFileLoader("kernels", str(path))
    specification = importlib.util.spec_from_file_location("kernels", path, loader=loader)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    loader.exec_module(module)
    return module
