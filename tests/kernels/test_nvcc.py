"""The kernels compiled by nvcc for every architecture: they stay within the limits written above them."""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from build_kernels import ROOT, cache_folder, jobs, one_at_a_time
from nvcc import OLDEST, emit_ptx, find_nvcc, key_of, setup_script
from ptxas import CUDA, Limits, Usage, all_limits, limits_in, oversized, usages_in, violations


def test_every_kernel_has_limits():
    assert not [kernel for kernel, limit in all_limits().items() if limit is None]


def test_limits_are_found_above_templates_and_launch_bounds():
    source = """
// Text.
// ptxas limits: registers 40, shared 512
__global__ void plain(int* x) {}

// ptxas limits: registers 64, shared 16384, stack 8
template <typename T,
          int count>
__global__ void __launch_bounds__(threads(4), 2)
    wide_kernel(const T* x) {}

template <typename T>
__global__ void bare(T* x) {}

// ptxas limits: registers 64, shared 0

int other();
static __global__ void far(int* x) {}
"""
    assert limits_in(source) == {
        "plain": Limits(40, 512, 0),
        "wide_kernel": Limits(64, 16384, 8),
        "bare": None,
        "far": None,
    }


OUTPUT = """ptxas info    : 28 bytes gmem
ptxas info    : Compiling entry function '_ZN5asnet4cuda12scale_kernelIfLi4EEEvPKT_' for 'sm_90'
ptxas info    : Function properties for _ZN5asnet4cuda12scale_kernelIfLi4EEEvPKT_
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 72 registers, used 1 barriers, 16 bytes cumulative stack size, 1536 bytes smem
ptxas info    : Compile time = 3.105 ms
ptxas info    : Compiling entry function '_ZN5asnet4cuda9shift_allEPf' for 'sm_120'
ptxas info    : Function properties for _ZN5asnet4cuda9shift_allEPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, used 0 barriers
"""


def test_every_excess_is_found():
    scale, shift = usages_in(OUTPUT)
    assert scale == Usage("scale_kernel", "asnet::cuda::scale_kernel<float, 4>", "sm_90", 72, 1536, 16, 20)
    assert (shift.kernel, shift.architecture, shift.registers, shift.shared, shift.spills) == (
        "shift_all",
        "sm_120",
        12,
        0,
        0,
    )

    within = {"scale_kernel": Limits(72, 1536, 16), "shift_all": Limits(12, 0, 0)}
    assert violations([scale._replace(spills=0), shift], within) == []
    assert [
        sentence.split("> on ")[1] for sentence in violations([scale], {"scale_kernel": Limits(71, 0, 0)})
    ] == [
        "sm_90 spills 20 bytes",
        "sm_90 uses registers 72, the limit is 71",
        "sm_90 uses shared 1536, the limit is 0",
        "sm_90 uses stack 16, the limit is 0",
    ]
    assert "has no line with ptxas limits" in violations([shift], {})[0]


def test_launches_leave_room_for_two_blocks():
    limits = {"small": Limits(128, 16384, 0), "large": Limits(129, 50000, 0)}
    assert oversized({"small": (256, 16384), "large": (240, 50000), "foreign": (1024, 99000)}, limits) == []
    assert [sentence.split(" ")[0] for sentence in oversized({"small": (256, 16388)}, limits)] == ["small"]
    assert "two blocks of 256 threads" in oversized({"large": (256, 50000)}, limits)[0]
    assert len(oversized({"small": (800, 0)}, {"small": Limits(32, 0, 0)})) == 1
    assert len(oversized({"small": (32, 0)}, {"small": Limits(32, 50177, 0)})) == 1


def report_of(command: list[str], target: Path) -> str:
    """What ptxas reports of a command of nvcc that writes `target`; both are cached."""
    report = target.with_suffix(".ptxas")
    if not report.is_file():
        result = subprocess.run(
            [*command, "-Xptxas", "-v", "-o", str(target)], capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        report.write_text(result.stdout + result.stderr)
    return report.read_text()


def assemble(source: Path, architecture: str) -> str:
    """What ptxas reports for an architecture, from the PTX for the oldest one."""
    ptx = emit_ptx(source)
    command = [str(find_nvcc()), "-O3", f"-arch=sm_{architecture}", "-cubin", str(ptx)]
    return report_of(command, ptx.with_name(f"{ptx.stem}-sm_{architecture}.cubin"))


def compile_object(step: Any) -> tuple[Path, str]:
    """The object file of a step of setup.py, and what ptxas reports."""
    command = [*step.command[: step.command.index("-o")], "-I", str(ROOT / "csrc")]
    source = Path(step.sources[0])
    target = cache_folder() / f"{source.stem}-{key_of(command, source)}.cuda.o"
    return target, report_of(command, target)


@pytest.fixture(scope="module")
def cuda_library(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """``_C_cuda`` as setup.py builds it for the newest architecture, and the reports of ptxas for all.

    The others are assembled from PTX for the oldest one: emitting PTX for each takes minutes, and csrc has
    no code that depends on the architecture.
    """
    setup, nvcc = setup_script(), find_nvcc()

    from setuptools import Distribution

    builder = setup.BuildLibraries(Distribution({"name": "asnet"}))
    builder.initialize_options()
    folder = tmp_path_factory.mktemp("cuda")
    builder.build_lib = str(folder)
    builder.inplace = False
    torch = setup.find_torch()
    sources = sorted(CUDA.rglob("*.cu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ASNET_CUDA_ARCHITECTURES", raising=False)
        *others, newest = setup.cuda_architectures(nvcc)
        patch.setenv("ASNET_CUDA_ARCHITECTURES", newest)
        steps = builder.cuda_objects(nvcc, [str(path) for path in sources], torch)
    assert others[0] == OLDEST
    with one_at_a_time("nvcc"), ThreadPoolExecutor(jobs()) as pool:
        objects = pool.map(compile_object, steps)
        # One after the other for a source, whose PTX is emitted once.
        assembled = pool.map(lambda source: [assemble(source, number) for number in others], sources)
        reports = dict(objects)
        usages = [usages_in(text) for texts in (*assembled, reports.values()) for text in texts]
    link = builder.link("asnet._C_cuda", setup.find_cxx(), [str(path) for path in reports], torch, nvcc)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "OBJECTS", folder / "objects")
        builder.run_ninja([], [link])
    return SimpleNamespace(
        path=Path(builder.get_ext_fullpath("asnet._C_cuda")),
        usages=[usage for found in usages for usage in found],
        torch=torch,
        architectures=[*others, newest],
    )


def test_no_code_depends_on_the_architecture():
    """Else PTX for the oldest one would not stand for the others."""
    sources = [*CUDA.rglob("*.cu"), *CUDA.rglob("*.cuh"), *CUDA.rglob("*.h")]
    assert not [path.name for path in sources if "__CUDA_ARCH" in path.read_text()]


def test_kernels_stay_within_their_limits(cuda_library):
    usages = cuda_library.usages
    assert {usage.architecture for usage in usages} == {
        f"sm_{number}" for number in cuda_library.architectures
    }
    limits = all_limits()
    assert {usage.kernel for usage in usages} == set(limits), "a kernel has no instance"
    found = violations(usages, limits)
    assert not found, "\n".join(found)


def symbols(path: Path, kind: str) -> set[str]:
    """The dynamic symbols that a library has, `kind` "defined" or "undefined"."""
    command = ["nm", "-D", f"--{kind}-only", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True)
    return {line.split()[-1].split("@")[0] for line in output.stdout.splitlines()}


def test_the_cuda_library_links_and_uses_only_stable_functions_of_torch(cuda_library):
    undefined = symbols(cuda_library.path, "undefined")
    unstable = ("Py", "cuda", "_ZN2at", "_ZN3c10", "_ZN5torch")
    assert not {name for name in undefined if name.startswith(unstable)}
    of_torch = {name for name in undefined if name.startswith(("aoti_torch_", "torch_"))}
    assert of_torch
    missing = of_torch - symbols(cuda_library.torch.lib / "libtorch_cpu.so", "defined")
    # Only a torch with CUDA has it.
    assert missing <= {"aoti_torch_get_current_cuda_stream"}


def test_without_a_device_one_sentence_says_so(tmp_path):
    """The number of multiprocessors, which is divided by, must not stay zero."""
    setup, nvcc = setup_script(), find_nvcc()
    source, program = tmp_path / "question.cu", tmp_path / "question"
    source.write_text(
        '#include <cstdio>\n#include "common/cuda/host.h"\n'
        "int main() try { return asnet::cuda::multiprocessors(); }\n"
        "catch (const std::exception& error) { std::puts(error.what()); return 3; }\n"
    )
    folders = [f"-I{ROOT / 'csrc'}", f"-I{setup.find_torch().include}"]
    command = [nvcc, *setup.COMMON_FLAGS, "-DUSE_CUDA", *folders, source, "-o", program]
    subprocess.run(command, check=True)
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    asked = subprocess.run([program], capture_output=True, text=True, env=hidden)
    assert asked.returncode == 3
    assert re.fullmatch(
        r'asnet: CUDA says ".+" to the question which device is current '
        r"\(asnet was built with CUDA \d+\.\d+\)\n",
        asked.stdout,
    )
