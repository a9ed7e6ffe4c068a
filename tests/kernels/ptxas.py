"""Registers and memory that kernels use, and the limits written above the kernels.

A limit is the line directly above a kernel or its ``template <...>``::

    // ptxas limits: registers 64, shared 16384
    template <typename T>
    __global__ void __launch_bounds__(256) scale_kernel(...)

`registers` per thread and `shared` bytes per block, static and dynamic, hold for every instance of the kernel
on every architecture. ``, stack 64`` after them allows a stack frame of this many bytes; registers are never
spilled.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

CUDA = Path(__file__).resolve().parents[2] / "csrc"

LIMIT_LINE = re.compile(r"// ptxas limits: registers (\d+), shared (\d+)(?:, stack (\d+))?")
LAUNCH_BOUNDS = re.compile(r"__launch_bounds__\((?:[^()]|\([^()]*\))*\)")


class Limits(NamedTuple):
    """Registers per thread, bytes of shared memory per block, bytes of stack per thread."""

    registers: int
    shared: int
    stack: int


class Usage(NamedTuple):
    """Resources of one instance of a kernel on one architecture; `shared` is the static part."""

    kernel: str
    instance: str
    architecture: str
    registers: int
    shared: int
    stack: int
    spills: int


def limits_in(source: str) -> dict[str, Limits | None]:
    """Every kernel that a source defines, with its limits or None."""
    text = LAUNCH_BOUNDS.sub("", source)
    found: dict[str, Limits | None] = {}
    for kernel in re.finditer(r"^[^\S\n]*(?:static\s+)?__global__\s[^;{(]*?(\w+)\s*\(", text, re.MULTILINE):
        before = text[: kernel.start()].rstrip()
        template = re.search(r"template\s*<[^{};]*>\Z", before)
        if template is not None:
            # Where only types separate several templates, the search finds the first one.
            begin = before.rindex("template", template.start())
            before = before[:begin].rstrip()
        line = LIMIT_LINE.fullmatch(before.rsplit("\n", 1)[-1].strip())
        found[kernel[1]] = Limits(*(int(group or 0) for group in line.groups())) if line else None
    return found


def all_limits() -> dict[str, Limits | None]:
    """Every CUDA kernel of csrc."""
    sources = sorted([*CUDA.rglob("*.cuh"), *CUDA.rglob("*.cu")])
    return {kernel: limit for path in sources for kernel, limit in limits_in(path.read_text()).items()}


def oversized(launches: dict[str, tuple[int, int]], limits: dict[str, Limits | None]) -> list[str]:
    """A sentence for every kernel whose launches do not leave room for two blocks on a multiprocessor.

    `launches` has the most threads and bytes of shared memory, dynamic memory included, that a kernel was
    launched with. A multiprocessor has 65536 registers and, on sm_86, sm_89 and sm_120, 1536 threads and
    100 KiB of shared memory, of which each block takes 1 KiB more than it asks for.
    """
    sentences = []
    for kernel, (threads, shared) in sorted(launches.items()):
        limit = limits.get(kernel)
        if limit is None:
            continue
        if shared > limit.shared:
            sentences.append(f"{kernel} is launched with shared {shared}, the limit is {limit.shared}")
        registers = threads * ((limit.registers + 7) // 8 * 8)
        if 2 * registers > 65536 or 2 * threads > 1536 or 2 * (limit.shared + 1024) > 102400:
            sentences.append(
                f"{kernel}: two blocks of {threads} threads with {limit.registers} registers each and "
                f"{limit.shared} bytes of shared memory do not fit a multiprocessor"
            )
    return sentences


def demangle(names: list[str]) -> list[str]:
    """Demangled C++ names."""
    if not names:
        return []
    command = ["c++filt", "--no-params"]
    output = subprocess.run(command, input="\n".join(names), capture_output=True, text=True, check=True)
    return output.stdout.splitlines()


def kernel_name(instance: str) -> str:
    """``void asnet::cuda::scale_kernel<float, 4>`` -> ``scale_kernel``."""
    return re.split(r"[<(]", instance.replace("(anonymous namespace)::", ""))[0].split("::")[-1].split()[-1]


def usages_in(output: str) -> list[Usage]:
    """Parses the output of ``nvcc -Xptxas -v``.

    A function that was not inlined is reported between its kernel's lines; its stack and spills count as the
    kernel's.
    """
    entries = re.split(r"Compiling entry function '(\w+)' for '(sm_\w+)'", output)[1:]
    mangled, architectures, reports = entries[0::3], entries[1::3], entries[2::3]
    usages = []
    for name, architecture, report in zip(demangle(mangled), architectures, reports, strict=True):
        frames = re.findall(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report
        )
        registers = re.search(r"Used (\d+) registers", report)
        if not frames or registers is None:
            raise ValueError(f"ptxas says nothing of {name} for {architecture}: {report}")
        shared = re.search(r"(\d+) bytes smem", report)
        usages.append(
            Usage(
                kernel=kernel_name(name),
                instance=name,
                architecture=architecture,
                registers=int(registers[1]),
                shared=int(shared[1]) if shared else 0,
                stack=max(int(stack) for stack, _, _ in frames),
                spills=sum(int(stores) + int(loads) for _, stores, loads in frames),
            )
        )
    return usages


def violations(usages: list[Usage], limits: dict[str, Limits | None]) -> list[str]:
    """A sentence for every instance that spills, is above its limits or has none."""
    sentences = []
    for usage in usages:
        where = f"{usage.instance} on {usage.architecture}"
        limit = limits.get(usage.kernel)
        if usage.spills > 0:
            sentences.append(f"{where} spills {usage.spills} bytes")
        if limit is None:
            sentences.append(f"{where} has no line with ptxas limits above it")
            continue
        for name in ("registers", "shared", "stack"):
            used, allowed = getattr(usage, name), getattr(limit, name)
            if used > allowed:
                sentences.append(f"{where} uses {name} {used}, the limit is {allowed}")
    return sentences
