"""The checks find the faults they are for: kernels of faults_kernels.cuh fail, and pass once fixed."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sanitize import CannotRun, SanitizedPython

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "faults_kernels.cuh"

POISON = -1


def arrays(kernel: str) -> list[np.ndarray]:
    """Arguments of a kernel: its output, poisoned, and its input where it has one."""
    size = 128 if kernel == "blocks_overlap" else 64
    result = np.full(size, POISON, np.int32)
    with_input = {
        "read_past_array",
        "misaligned_pack",
        "misaligned_pointer",
        "missing_wait",
        "copies_outlive_thread",
        "target_still_read",
    }
    return [result, np.arange(64, dtype=np.int32)] if kernel in with_input else [result]


def line_of(kernel: str, text: str, occurrence: int = 0) -> int:
    """Line number in faults_kernels.cuh, from 1, of a text in a kernel."""
    lines = SOURCE.read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if f"void {kernel}(" in line)
    return [i + 1 for i, line in enumerate(lines) if i > begin and text in line][occurrence]


def lines_named(message: str) -> set[int]:
    return {int(number) for number in re.findall(rf"{SOURCE.name}:(\d+)", message)}


def lines_behind(report: str) -> set[int]:
    """Return the lines that a sanitizer's report names, or whose addresses it gives.

    GCC's sanitizers do not find the lines of all instances of a template, which the debug information has.
    """
    module = re.search(r"(/\S+/kernels\.so)\+0x", report)
    if module is None:
        return lines_named(report)
    addresses = re.findall(r"kernels\.so\+(0x[0-9a-f]+)\)", report)
    command = ["addr2line", "-e", module[1], *addresses]
    return lines_named(report + subprocess.run(command, capture_output=True, text=True, check=True).stdout)


EXCEPTIONS = {
    "misaligned_pack": r"load_pack or store_pack of 16 bytes at an address that is no multiple",
    "divergent_barrier": r"threads of one block meet at different barriers",
    "barrier_after_return": r"barrier is not reached .* waits for thread \(5, 0, 0\).* which has returned",
    "missing_lane": r"lanes of a warp collective are missing: .* waits for thread \(7, 0, 0\) .*__sync",
    "copies_outlive_thread": r"returns while copies that it began are not waited for",
}


@pytest.mark.parametrize("kernel", EXCEPTIONS)
def test_exceptions_tell_what_is_wrong(kernels, thread_order, kernel):
    with pytest.raises(kernels.KernelError, match=EXCEPTIONS[kernel]):
        getattr(kernels, kernel)(False, *arrays(kernel))


def test_a_divergent_barrier_is_named_by_both_lines(kernels):
    with pytest.raises(kernels.KernelError) as raised:
        kernels.divergent_barrier(False, *arrays("divergent_barrier"))
    expected = {line_of("divergent_barrier", "__syncthreads();", occurrence) for occurrence in (0, 1)}
    assert lines_named(str(raised.value)) == expected


@pytest.mark.parametrize("kernel", ["unwritten_output", "unwritten_shared_memory", "missing_wait"])
def test_poison_reaches_the_result(kernels, thread_order, kernel):
    result, *inputs = arrays(kernel)
    getattr(kernels, kernel)(False, result, *inputs)
    assert (result != np.arange(64)).any()


@pytest.mark.parametrize("kernel", ["missing_barrier", "target_still_read"])
def test_some_order_of_threads_shows_a_missing_barrier(kernels, kernel):
    wrong = []
    for order in (0, -1, 1):
        before = kernels.set_thread_order(order)
        result, *inputs = arrays(kernel)
        getattr(kernels, kernel)(False, result, *inputs)
        wrong.append((result != np.arange(64)).any())
        kernels.set_thread_order(before)
    assert any(wrong)


KERNELS = re.findall(r"__global__ void (\w+)\(", SOURCE.read_text())


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_fixed_kernel_passes(kernels, thread_order, kernel):
    result, *inputs = arrays(kernel)
    getattr(kernels, kernel)(True, result, *inputs)
    np.testing.assert_array_equal(result, np.arange(len(result)))


# Kernel: words of the report, and texts of the lines that it must name.
SANITIZED = {
    "address,undefined": {
        "read_past_shared_memory": ("AddressSanitizer: heap-buffer-overflow", ["= from[threadIdx.x"]),
        "read_past_array": ("AddressSanitizer: heap-buffer-overflow", ["= indices[threadIdx.x"]),
        "misaligned_pointer": ("load of misaligned address", ["= reinterpret_cast<const int*>"]),
    },
    "thread": {
        "missing_barrier": ("data race", ["reversed[faults_block", "- reversed[threadIdx.x]"]),
        "missing_warp_barrier": ("data race", ["exchanged[threadIdx.x ^ 1] =", "= exchanged[threadIdx.x]"]),
        "target_still_read": ("data race", ["= stage[threadIdx.x ^ 1]"]),
        "last_block": ("data race", ["partial[blockIdx.x] =", "+ partial[block]"]),
        "blocks_overlap": ("data race", ["result[begin +"]),
    },
}

PROGRAM = """
import os, sys
from pathlib import Path
folder, mended, *names = sys.argv[1:]
sys.path.insert(0, folder)
from build_kernels import load_module
from test_faults import arrays
kernels = load_module(Path(os.environ["ASNET_KERNELS_MODULE"]))
for name in names:
    getattr(kernels, name)(mended == "mended", *arrays(name))
"""


@pytest.fixture(scope="module", params=SANITIZED)
def sanitized(request: pytest.FixtureRequest, kernels: object) -> tuple[str, SanitizedPython]:
    """Sanitizers, and a Python with the faulty kernels built under them."""
    try:
        return request.param, SanitizedPython(request.param)
    except CannotRun as error:
        pytest.skip(f"no faults are looked for under {request.param}: {error}")


def test_sanitizers_find_the_fault_and_name_its_lines(sanitized):
    sanitizers, python = sanitized
    for kernel, (words, texts) in SANITIZED[sanitizers].items():
        result = python.run(["-c", PROGRAM, str(FOLDER), "faulty", kernel], capture=True)
        assert result.returncode != 0, kernel
        assert words in result.stderr, result.stderr
        assert {line_of(kernel, text) for text in texts} <= lines_behind(result.stderr), result.stderr


def test_sanitizers_report_nothing_of_the_fixed_kernels(sanitized):
    _, python = sanitized
    result = python.run(["-c", PROGRAM, str(FOLDER), "mended", *KERNELS], capture=True)
    assert result.returncode == 0, result.stderr
