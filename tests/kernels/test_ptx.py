"""Kernels as nvcc emits them, run on the CPU: its PTX, translated to C++, in place of what g++ compiles.

It checks what CPU counterparts of inline assembly cannot: the order of its operands, and the code that nvcc
generates. The checks are those of the kernels' own tests; CHANGES are changes of the PTX that they must find.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
import test_cross_correlation_direct_kernels as direct
import test_guided_modulation_kernels as modulation
import test_guided_pointwise_conv2d_kernels as pointwise
import test_toeplitz_solve_kernels as toeplitz
from build_kernels import FOLDER, ROOT, BuildError, cache_folder, compiler, digest, jobs, make, one_at_a_time
from nvcc import emit_ptx
from ptx.translate import entries, translate
from ptxas import demangle

#: Instances that are run, by their names in C++: of every kernel that has inline assembly, and of those that
#: divide their shared memory themselves.
KERNELS = {
    "cross_correlation": [
        "asnet::cuda::direct::correlate_maps_kernel<float>",
        "asnet::cuda::direct::correlate_maps_kernel<asnet::cuda::bfloat16>",
        "asnet::cuda::direct::convolve_maps_kernel<float>",
        "asnet::cuda::direct::convolve_maps_kernel<asnet::cuda::float16>",
        "asnet::cuda::direct::prepare_fragments_kernel<float>",
        "asnet::cuda::direct::channels_last_kernel<asnet::cuda::bfloat16>",
        "asnet::cuda::direct::correlate_plain_kernel<double, 1>",
        "asnet::cuda::direct::convolve_plain_kernel<double, 1>",
    ],
    "guided_modulation": [
        "asnet::cuda::guided_modulation::modulate_pixels<asnet::cuda::bfloat16, 8>",
        "asnet::cuda::guided_modulation::modulate_planes<float, 4>",
        "asnet::cuda::guided_modulation::differentiate_planes<float, 4, true>",
        "asnet::cuda::guided_modulation::differentiate_pixels<asnet::cuda::bfloat16, 8, true>",
    ],
    "guided_pointwise_conv2d": [
        "asnet::cuda::guided_conv::guided_pointwise_conv2d_kernel<float, false, 64, true>",
        "asnet::cuda::guided_conv::guided_pointwise_conv2d_kernel<asnet::cuda::bfloat16, true, 128, true>",
    ],
    "toeplitz_solve": [
        "asnet::cuda::toeplitz_solve::detail::solve_in_block<float>",
        "asnet::cuda::toeplitz_solve::detail::solve_in_block<double>",
        "asnet::cuda::toeplitz_solve::detail::begin_in_launches<float>",
        "asnet::cuda::toeplitz_solve::detail::step_in_launches<float>",
    ],
}

WITHOUT_ASSEMBLY = {"toeplitz_solve"}


def kernels_in(text: str) -> dict[str, str]:
    """The kernels of a PTX text: the name by which launches find one, and its mangled name."""
    mangled = [name for name, _, _ in entries(text)]
    of_counterparts = {"__nv_bfloat16": "asnet::cuda::bfloat16", "__half": "asnet::cuda::float16"}
    names = {}
    for one, readable in zip(mangled, demangle(mangled), strict=True):
        for cuda, counterpart in of_counterparts.items():
            readable = readable.replace(cuda, counterpart)
        names[readable.removeprefix("void ")] = one
    return names


def build_translation(ptx: Path, text: str, wanted: list[str]) -> Path:
    """A library of the wanted kernels of a PTX text."""
    found = kernels_in(text)
    names = {found[name]: name for name in wanted}
    machine = (FOLDER / "ptx" / "machine.h").read_text()
    cpp = translate(ptx, text, names)
    # -O1 saves less time in the tests than it takes in compiling.
    flags = ["-std=c++20", "-O0", "-fPIC", "-shared", "-fno-strict-aliasing", "-march=native", f"-I{FOLDER}"]
    source = cache_folder() / f"{ptx.stem}-{digest(machine, cpp, *flags)}.cpp"
    source.write_text(cpp)
    make(source.with_suffix(".so"), [*compiler(), *flags, str(source)], f"compiling {source.name}")
    return source.with_suffix(".so")


@pytest.fixture(scope="module")
def emitted() -> dict[str, Path]:
    """The PTX of each host entry. Inline assembly is the same for all architectures."""
    try:
        compiler()
    except BuildError as error:
        pytest.skip(f"PTX is not run: {error}")
    sources = [ROOT / "csrc" / operator / "cuda" / f"{operator}.cu" for operator in KERNELS]
    with one_at_a_time("nvcc"), ThreadPoolExecutor(jobs()) as pool:
        return dict(zip(KERNELS, pool.map(emit_ptx, sources), strict=True))


@pytest.fixture(scope="module")
def translations(emitted: dict[str, Path]) -> dict[str, Path]:
    """The library of each host entry's kernels."""

    def build(operator: str) -> Path:
        return build_translation(emitted[operator], emitted[operator].read_text(), KERNELS[operator])

    with ThreadPoolExecutor(jobs()) as pool:
        return dict(zip(KERNELS, pool.map(build, KERNELS), strict=True))


@pytest.fixture
def translated(kernels: ModuleType, translations: dict[str, Path]) -> Iterator[ModuleType]:
    """The kernels; a translation that the test loads is dropped after it."""
    yield kernels
    kernels.use_translated("")


def run_direct(kernels: ModuleType) -> None:
    """Tensor cores in two types each way, and plain multiply-adds; around segments and groups of lags."""
    direct.check(kernels, (1, 23, 5, 35), (2, 4), False, "float32")
    direct.check(kernels, (1, 9, 3, 70), (1, 9), True, "bfloat16")
    direct.check(kernels, (1, 9, 3, 20), (1, 8), False, "float16")
    direct.check(kernels, (1, 1, 9, 35), (1, 2), False, "float64")


def run_modulation(kernels: ModuleType) -> None:
    """Planes and pixels, several blocks to a sum."""
    for shape, dtype, layout in (((1, 72, 150), "bfloat16", "pixels"), ((1, 3, 4104), "float32", "planes")):
        modulation.check_forward(kernels, modulation.make_case(shape, dtype, layout), dtype, layout)
    for shape, dtype, layout in (((1, 3, 4104), "float32", "planes"), ((1, 40, 301), "bfloat16", "pixels")):
        case = modulation.make_case(shape, dtype, layout)
        modulation.check_backward(kernels, case, dtype, layout, "input, ReLU")


def run_pointwise(kernels: ModuleType) -> None:
    """Both layouts, inputs that end within a step, output channels and pixels that end within a tile."""
    contiguous, last = (1, 40, 12, 68, 136), (1, 40, 32, 136, 130)
    for shape, dtype, channels_last in ((contiguous, "float32", False), (last, "bfloat16", True)):
        pointwise.check(kernels, pointwise.make_case(shape, dtype, channels_last), dtype, channels_last)


def run_toeplitz(kernels: ModuleType) -> None:
    """Several warps to a product, two sets of units; a launch for each step, of two blocks."""
    lags, right, support = toeplitz.problem(2, 17, "float32")
    toeplitz.check(kernels, (lags, right, support), "float32")
    lags, right, _ = toeplitz.problem(1, 19, "float64")
    toeplitz.check(kernels, (lags, right, toeplitz.square(1, 19, 8, 0, 9, 10)), "float64")
    lags, right, _ = toeplitz.problem(1, 43, "float32")
    toeplitz.check(kernels, (lags, right, toeplitz.square(1, 43, 3, 22, 18, 20)), "float32")


RUNS = {
    "cross_correlation": run_direct,
    "guided_modulation": run_modulation,
    "guided_pointwise_conv2d": run_pointwise,
    "toeplitz_solve": run_toeplitz,
}


@pytest.mark.parametrize("operator", KERNELS)
def test_every_kernel_with_our_assembly_is_run(emitted, operator):
    """Assembly of CUDA's headers, which only converts, does not count."""
    text = emitted[operator].read_text()
    ours = re.compile(r"begin inline asm\s[^/]*?(mma\.sync|ldmatrix|cp\.async|st\.global)")
    bodies = {name: body for name, _, body in entries(text)}
    found = {
        name.partition("<")[0] for name, mangled in kernels_in(text).items() if ours.search(bodies[mangled])
    }
    assert bool(found) == (operator not in WITHOUT_ASSEMBLY)
    assert found <= {name.partition("<")[0] for name in KERNELS[operator]}


@pytest.mark.parametrize("operator", KERNELS)
def test_what_nvcc_emits_computes_the_formula(translated, translations, thread_order, operator):
    translated.use_translated(str(translations[operator]))
    RUNS[operator](translated)
    launches = translated.translated_launches()
    assert sorted(launches) == sorted(KERNELS[operator])
    assert all(launches.values()), launches


#: Operator, index of its kernel above, pattern in the PTX, replacement, and index of the match.
CORRELATE, CONVOLVE, CONVOLVE_HALF = (("cross_correlation", number) for number in (1, 2, 3))
MODULATE, POINTWISE = ("guided_modulation", 0), ("guided_pointwise_conv2d", 1)
SOLVE, STEP = ("toeplitz_solve", 0), ("toeplitz_solve", 3)
STORE, FACTOR = r"st\.global\.v4\.b32 ", r"mma\.sync\S+ \{[^}]*\}, "
CHANGES = {
    "no barrier in the pipeline": (*CORRELATE, r"bar\.sync\s+0;", "", -1),
    "a stage too few waited for": (*CORRELATE, r"cp\.async\.wait_group 1;", "cp.async.wait_group 2;", 0),
    "matrices not transposed": (*CORRELATE, r"x4\.trans\.shared", "x4.shared", 0),
    "rows of a exchanged": (*CONVOLVE, rf"({FACTOR})\{{(%r\d+),(%r\d+),", r"\1{\3,\2,", 0),
    "halves of b exchanged": (
        *CONVOLVE_HALF,
        rf"({FACTOR}\{{[^}}]*\}}, )\{{(%r\d+),(%r\d+)\}}",
        r"\1{\3,\2}",
        0,
    ),
    "no barrier in the ring": (*CONVOLVE, r"bar\.sync\s+0;", "", -1),
    "words in another order": (*MODULATE, rf"({STORE}\S+ )\{{(%r\d+),(%r\d+),", r"\1{\3,\2,", 0),
    "a store off its size": (*MODULATE, rf"({STORE}\[%rd\d+)\]", r"\1+4]", 0),
    "copies of zeros": (*POINTWISE, r"(cp\.async\.cg[^;]*, 16), %r\d+;", r"\1, 0;", 0),
    "products of another type": (*POINTWISE, r"f32\.bf16\.bf16\.f32", "f32.f16.f16.f32", 0),
    "no barrier after the product": (*SOLVE, r"bar\.sync\s+0;", "", 2),
    "no barrier before the sum over warps": (*STEP, r"bar\.sync\s+0;", "", 0),
}


def change(text: str, kernel: str, pattern: str, replacement: str, which: int) -> str:
    """The text with one match in one kernel replaced."""
    mangled = kernels_in(text)[kernel]
    body = next(body for name, _, body in entries(text) if name == mangled)
    place = list(re.finditer(pattern, body))[which]
    changed = body[: place.start()] + place.expand(replacement) + body[place.end() :]
    return text.replace(body, changed, 1)


def run_in_every_order(kernels: ModuleType, operator: str) -> None:
    """The checks of an operator, with the threads of a block in ascending, descending and shuffled order."""
    for order in (0, -1, 1):
        before = kernels.set_thread_order(order)
        try:
            RUNS[operator](kernels)
        finally:
            kernels.set_thread_order(before)


@pytest.mark.parametrize("name", CHANGES)
def test_changes_of_the_ptx_are_found(translated, emitted, name):
    operator, number, *how = CHANGES[name]
    kernel = KERNELS[operator][number]
    text = change(emitted[operator].read_text(), kernel, *how)
    translated.use_translated(str(build_translation(emitted[operator], text, [kernel])))
    with pytest.raises((AssertionError, translated.KernelError)):
        run_in_every_order(translated, operator)
    assert translated.translated_launches()[kernel]
