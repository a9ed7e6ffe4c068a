"""Compiles ``asnet._C`` (CPU, always) and ``asnet._C_cuda`` (see `decide_cuda`) with ninja.

Objects stay in ``build/objects``: the next build, by pip or ``python setup.py build_ext --inplace``, compiles
what changed since: sources, headers (also torch's) and commands.

The libraries use no Python symbol, and of LibTorch only the stable ABI: torch is needed for its headers and
for linking and is never imported here, and one wheel works with every Python and with every torch from 2.11
on.

Environment
-----------
CXX : the C++ compiler, ``g++`` (or ``c++``) otherwise.
NVCC : the CUDA compiler; ``nvcc`` on PATH, or the one under CUDA_HOME or /usr/local/cuda otherwise.
ASNET_CUDA : ``1`` builds the CUDA library or fails, ``0`` leaves it out; unset: built where it can be used.
ASNET_CUDA_ARCHITECTURES : compute capabilities, ``80;90;100;120`` otherwise, as far as nvcc knows them; the
    last also becomes PTX for later ones.
MAX_JOBS : number of parallel compilers, the number of processors otherwise.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "build_backend"))
from asnet_build import TorchInstallation, find_torch  # noqa: E402

CSRC = Path("csrc")

#: Not setuptools' build_temp, which is another folder at every editable install.
OBJECTS = Path("build", "objects")

# A100; H100; B200; GeForce of the 50 series. Others of the same major version run the same code (8.6 and 8.9
# that of 8.0), later ones the PTX.
CUDA_ARCHITECTURES = ["80", "90", "100", "120"]

COMMON_FLAGS = ["-std=c++20", "-O3", "-DTORCH_TARGET_VERSION=0x020b000000000000"]
CXX_FLAGS = [
    "-fPIC",
    "-fvisibility=hidden",
    "-fvisibility-inlines-hidden",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-Wall",
    "-Wextra",
]

# Sources named *_kernels.cpp are compiled once for each of these; csrc/common/cpu/isa.h chooses among them at
# run time. The order matters: of several copies of an inline function the linker keeps the first, the
# portable one here.
ISA_FLAGS = {"baseline": ["-DASNET_VECTOR_BYTES=16"]}
if platform.machine().lower() in ("x86_64", "amd64"):
    AVX2 = ["-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2"]
    ISA_FLAGS["avx2"] = ["-DASNET_VECTOR_BYTES=32", *AVX2]
    AVX512 = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512"]
    ISA_FLAGS["avx512"] = ["-DASNET_VECTOR_BYTES=64", *AVX2, *AVX512]


def stop(sentence: str) -> SystemExit:
    """An exception that ends the build with one sentence and no traceback."""
    return SystemExit(f"asnet: {sentence}")


def succeeds(command: list[str], stdin: str = "") -> bool:
    return subprocess.run(command, input=stdin, text=True, capture_output=True).returncode == 0


def find_cxx() -> list[str]:
    """The C++ compiler as a command, checked to understand C++20."""
    command = shlex.split(os.environ.get("CXX", "")) or [shutil.which("g++") or shutil.which("c++") or "g++"]
    if shutil.which(command[0]) is None:
        raise stop(
            f"no C++ compiler: {command[0]!r} is not on PATH; install g++ 10 or later or name one in CXX."
        )
    if not succeeds([*command, "-std=c++20", "-x", "c++", "-fsyntax-only", "-"], "#include <concepts>\n"):
        raise stop(
            f"the C++ compiler {shlex.join(command)!r} cannot compile C++20; "
            "asnet needs g++ 10, clang 12 or later."
        )
    return command


def find_ninja() -> str:
    """The ninja of the Python package, which the build requires, or the one on PATH."""
    try:
        from ninja import BIN_DIR
    except ImportError:
        found = shutil.which("ninja")
    else:
        found = str(Path(BIN_DIR, "ninja"))
    if found is None:
        raise stop("no ninja: install it with pip install ninja, or put one on PATH.")
    return found


def find_nvcc() -> Path | None:
    named = os.environ.get("NVCC") or shutil.which("nvcc")
    if named:
        return Path(named)
    home = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin", "nvcc")
    return home if home.is_file() else None


def cuda_toolkit(nvcc: Path) -> Path:
    """The toolkit's folder as nvcc reports it: the nvcc on PATH may be a script that calls another."""
    command = [str(nvcc), "--dryrun", "-E", "-x", "cu", os.devnull]
    said = subprocess.run(command, text=True, capture_output=True).stderr
    top = re.search(r"^#\$ TOP=(.*)$", said, re.MULTILINE)
    return Path(top[1]).resolve() if top else nvcc.resolve().parents[1]


def cuda_version(nvcc: Path) -> str | None:
    """The toolkit's version, "13.0", or None where nvcc does not run."""
    try:
        said = subprocess.run([str(nvcc), "--version"], text=True, capture_output=True)
    except OSError:
        return None
    release = re.search(r"release (\d+\.\d+)", said.stdout)
    return release[1] if said.returncode == 0 and release else None


def cuda_architectures(nvcc: Path) -> list[str]:
    """The architectures asked for, or the usual ones as far as nvcc knows them."""
    named = os.environ.get("ASNET_CUDA_ARCHITECTURES")
    if named:
        architectures = named.split(";")
        for number in architectures:
            if not re.fullmatch(r"\d{2,3}[af]?", number):
                raise stop(
                    f"ASNET_CUDA_ARCHITECTURES is {named!r}; "
                    "expected compute capabilities such as 80;90 for 8.0 and 9.0."
                )
        return architectures
    known = subprocess.run([str(nvcc), "--list-gpu-code"], text=True, capture_output=True).stdout.split()
    return [number for number in CUDA_ARCHITECTURES if f"sm_{number}" in known] or CUDA_ARCHITECTURES[:1]


def compiler_jobs() -> int:
    """Number of parallel compilers."""
    named = os.environ.get("MAX_JOBS", "")
    if named and not (named.isdecimal() and int(named) > 0):
        raise stop(f"MAX_JOBS is {named!r}; expected a number of at least 1.")
    return int(named) if named else os.cpu_count() or 1


class CudaDecision(NamedTuple):
    """Whether ``_C_cuda`` is built, the reason in words, and the compiler (None when not built)."""

    reason: str
    nvcc: Path | None


def decide_cuda(torch: TorchInstallation, sources: list[str]) -> CudaDecision:
    """ASNET_CUDA=1: yes; 0: no; unset: yes if there are sources and nvcc matches torch's CUDA.

    The linked runtime may need a newer driver than a torch with an older CUDA, so the major versions must be
    equal. A torch without CUDA accepts any version: the library then runs with another torch.
    """
    wanted = os.environ.get("ASNET_CUDA", "")
    if wanted not in ("", "0", "1"):
        raise stop(f"ASNET_CUDA is {wanted!r}; expected 0, 1 or nothing.")
    if wanted == "0":
        return CudaDecision("not built: ASNET_CUDA=0", None)
    if not sources:
        return CudaDecision("not built: csrc holds no CUDA sources", None)
    if not wanted and torch.cuda is None:
        return CudaDecision(f"not built: the installed torch {torch.version} has no CUDA", None)
    nvcc = find_nvcc()
    problem = None
    if nvcc is None:
        problem = "no nvcc on PATH, in NVCC or under CUDA_HOME"
    elif (version := cuda_version(nvcc)) is None:
        problem = f"{nvcc} does not run"
    elif torch.cuda is not None and version.split(".")[0] != torch.cuda.split(".")[0]:
        problem = f"{nvcc} is of CUDA {version} and torch {torch.version} was built with CUDA {torch.cuda}"
    if problem is None:
        return CudaDecision(
            f"built with {nvcc}: " + ("ASNET_CUDA=1" if wanted else f"torch has CUDA {torch.cuda}"), nvcc
        )
    if wanted:
        raise stop(
            f"ASNET_CUDA=1 asks for the CUDA library, but {problem}; "
            "install the CUDA toolkit that torch was built with, name its nvcc in NVCC, or set ASNET_CUDA=0."
        )
    return CudaDecision(f"not built: {problem}", None)


def sources_in(folder: Path, pattern: str) -> list[str]:
    return sorted(str(path) for path in folder.glob(pattern))


def in_ninja(text: str) -> str:
    """A path escaped for ninja."""
    return re.sub(r"([$ :])", r"$\1", text)


class Step(NamedTuple):
    """A file to build: its sources and the command."""

    target: str
    sources: list[str]
    command: list[str]

    def lines(self, rule: str) -> list[str]:
        """The step in ninja's syntax."""
        sources = " ".join(map(in_ninja, self.sources))
        command = shlex.join(self.command).replace("$", "$$")
        return [f"build {in_ninja(self.target)}: {rule} {sources}", f"  line = {command}"]


# The library is written aside and moved: a running process may have the old one mapped.
RULES = """ninja_required_version = 1.5
rule compile
  command = $line -MD -MF $out.d
  depfile = $out.d
  deps = gcc
  description = compiling $out
rule link
  command = $line -o $out.unfinished && mv $out.unfinished $out
  description = linking $out
"""


class BuildLibraries(build_ext):
    """Compiles every source to an object and links the libraries."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"

    def build_extensions(self) -> None:
        torch = find_torch()
        if torch is None:
            raise stop(
                "no torch 2.11 or later to build against; "
                "install torch first or name its folder in ASNET_TORCH_DIR."
            )
        if platform.system() != "Linux":
            raise stop(f"asnet is built on Linux alone so far, this is {platform.system()}.")
        cxx = find_cxx()
        cuda_sources = sources_in(CSRC, "*/cuda/*.cu")
        cuda = decide_cuda(torch, cuda_sources)
        print(
            f"asnet: torch {torch.version}, compiler {shlex.join(cxx)}, "
            f"instruction sets {', '.join(ISA_FLAGS)}",
            flush=True,
        )
        print(f"asnet: CUDA library {cuda.reason}", flush=True)

        libraries = {"asnet._C": self.cpu_objects(cxx, torch, cuda)}
        if cuda.nvcc is not None:
            libraries["asnet._C_cuda"] = self.cuda_objects(cuda.nvcc, cuda_sources, torch)
        links = [
            self.link(name, cxx, [step.target for step in objects], torch, cuda.nvcc)
            for name, objects in libraries.items()
        ]
        # The slowest first: those of nvcc.
        self.run_ninja([step for objects in reversed(libraries.values()) for step in objects], links)
        self.extensions = [extension for extension in self.extensions if extension.name in libraries]

    def object_path(self, source: str, isa: str = "") -> str:
        return str(OBJECTS / (Path(source).name + (f".{isa}" if isa else "") + ".o"))

    def cpu_objects(self, cxx: list[str], torch: TorchInstallation, cuda: CudaDecision) -> list[Step]:
        """The steps that compile the objects, in the order of linking."""
        base = [*cxx, *COMMON_FLAGS, *CXX_FLAGS, f"-I{CSRC}", f"-isystem{torch.include}"]
        hosts = [*sources_in(CSRC, "*.cpp"), *sources_in(CSRC, "*/cpu/*.cpp")]
        kernels = [source for source in hosts if source.endswith("_kernels.cpp")]
        information = f"torch {torch.version}, {' '.join(cxx)}; CUDA library {cuda.reason}".translate(
            {34: None, 92: None}
        )
        steps = []
        for source in hosts:
            if source not in kernels:
                target = self.object_path(source)
                define = f'-DASNET_BUILD_INFORMATION="{information}"'
                steps.append(Step(target, [source], [*base, define, "-c", source, "-o", target]))
        for isa, flags in ISA_FLAGS.items():
            for source in kernels:
                target = self.object_path(source, isa)
                command = [*base, f"-DASNET_ISA={isa}", *flags, "-c", source, "-o", target]
                steps.append(Step(target, [source], command))
        return steps

    def cuda_objects(self, nvcc: Path, sources: list[str], torch: TorchInstallation) -> list[Step]:
        architectures = cuda_architectures(nvcc)
        generate = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in architectures]
        generate.append(f"-gencode=arch=compute_{architectures[-1]},code=compute_{architectures[-1]}")
        flags = [
            *COMMON_FLAGS,
            "-DUSE_CUDA",
            "-Xcompiler",
            "-fPIC,-fvisibility=hidden",
            f"-I{CSRC}",
            f"-I{torch.include}",
        ]
        targets = {self.object_path(source): source for source in sources}
        return [
            Step(target, [source], [str(nvcc), *generate, *flags, "-c", source, "-o", target])
            for target, source in targets.items()
        ]

    def link(
        self, name: str, cxx: list[str], objects: list[str], torch: TorchInstallation, nvcc: Path | None
    ) -> Step:
        command = [
            *cxx,
            "-shared",
            *objects,
            f"-L{torch.lib}",
            "-Wl,--no-as-needed",
            "-ltorch",
            "-ltorch_cpu",
        ]
        command += ["-Wl,--as-needed", "-Wl,--allow-shlib-undefined", "-Wl,--exclude-libs,ALL"]
        if name == "asnet._C_cuda" and nvcc is not None:
            toolkit = cuda_toolkit(nvcc)
            command += [f"-L{toolkit / folder}" for folder in ("lib64", "lib") if (toolkit / folder).is_dir()]
            command += ["-lcudart_static", "-ldl", "-lrt", "-lpthread"]
        return Step(self.get_ext_fullpath(name), objects, command)

    def run_ninja(self, objects: list[Step], libraries: list[Step]) -> None:
        """Build what is out of date, printing a line for each file."""
        OBJECTS.mkdir(parents=True, exist_ok=True)
        lines = [f"builddir = {OBJECTS}", RULES]
        for rule, steps in (("compile", objects), ("link", libraries)):
            for step in steps:
                lines += step.lines(rule)
        (OBJECTS / "build.ninja").write_text("\n".join(lines) + "\n")
        command = [find_ninja(), "-f", str(OBJECTS / "build.ninja"), "-j", str(compiler_jobs())]
        environment = {**os.environ, "NINJA_STATUS": "asnet: [%f/%t, %e s] "}
        if subprocess.run(command, env=environment).returncode != 0:
            raise stop("the operators could not be built (the messages of the compiler are above).")

    def get_outputs(self) -> list[str]:
        return [self.get_ext_fullpath(extension.name) for extension in self.extensions]


class PlatformWheel(bdist_wheel):
    """A wheel for every Python of this platform: the libraries hold no Python symbol."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[Extension("asnet._C", []), Extension("asnet._C_cuda", [], optional=True)],
    cmdclass={"build_ext": BuildLibraries, "bdist_wheel": PlatformWheel},
)
