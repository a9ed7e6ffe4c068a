"""Guided modulation's kernels on the CPU against the formula in float64.

Packs are of 16 bytes (2 to 8 elements), blocks of 256 threads. A plane of up to 128 packs belongs to a warp,
a longer one to a block. One multiprocessor is given 8 blocks before threads get more than two packs each in
the backward pass, so that a plane of more than 512 packs, or an image of more than two packs for each thread,
has several blocks.
"""

import itertools

import numpy as np
import pytest
from rounding import DTYPES, assert_rounded_once, decode, encode, poisoned

# N, C, pixels: one element; planes shorter than a pack, of the packs of some lanes, of a warp's four rounds
# and one element more, of a block and of several, one after the other and side by side.
PLANES = [(1, 1, 1), (2, 3, 7), (2, 9, 33), (1, 2, 1024), (1, 3, 1025), (1, 1, 4105), (2, 5, 4099)]
# Channels: one and odd ones, of a pack, of several packs in one tile and in several, the last of them
# narrower; more than a block walks along in the forward pass. Pixels around the rows of a block, and several
# blocks for an image.
PIXELS = [(3, 1, 1), (2, 3, 87), (1, 8, 600), (2, 24, 86), (1, 40, 131), (1, 72, 150), (2, 128, 66)]
PIXELS += [(1, 520, 3)]
LAYOUTS = {"planes": PLANES, "pixels": PIXELS}
SAVED = {"input, ReLU": "mbc", "input": "mbc", "output": "mb", "nothing": "mb"}


def make_case(shape, dtype, layout, guides="mbc", kernels=None, seed=0):
    """Maps, multiplier, shift and conv_bias, with no modulated element whose sign rounding could change."""
    N, C, pixels = shape
    random = np.random.default_rng(seed)
    table_type = np.float64 if dtype == "float64" else np.float32
    kernels = N if kernels is None else kernels
    m = random.normal(size=(kernels, C)).astype(table_type) if "m" in guides else None
    b = random.normal(size=(kernels, C)).astype(table_type) if "b" in guides else None
    c = random.normal(size=C).astype(table_type) if "c" in guides else None
    values = random.normal(size=(N, C, pixels))
    x = encode(values.transpose(0, 2, 1) if layout == "pixels" else values, dtype)
    for step in range(1, 100):
        z, magnitude = formula(x, m, b, c, False, layout, dtype)
        near = abs(z) <= 1e-4 * magnitude
        if not near.any():
            return x, m, b, c
        x = np.where(near, encode(np.full(x.shape, 0.37 * step), dtype), x)
    raise AssertionError("no such maps found")


def tables(m, b, c, C):
    """Scale, shift and conv_bias in float64, (N or 1, C) and (C,)."""
    s = np.ones((1, C)) if m is None else 1.0 + m.astype(np.float64)
    return s, np.zeros((1, C)) if b is None else b, np.zeros(C) if c is None else c


def as_maps(x, layout):
    """(N, C, pixels) of either layout, and back."""
    return x.transpose(0, 2, 1) if layout == "pixels" else x


def formula(x, m, b, c, relu, layout, dtype):
    """act((x + c) (1 + m) + b), and the same of absolute values."""
    maps = as_maps(decode(x, dtype), layout)
    s, b, c = tables(m, b, c, maps.shape[1])
    exact = (maps + c[:, None]) * s[:, :, None] + b[:, :, None]
    magnitude = (abs(maps) + abs(c)[:, None]) * abs(s)[:, :, None] + abs(b)[:, :, None]
    return as_maps(np.maximum(exact, 0) if relu else exact, layout), as_maps(magnitude, layout)


def check_forward(kernels, case, dtype, layout, relu=True, multiprocessors=1, out=None):
    exact, magnitude = formula(*case, relu, layout, dtype)
    out = poisoned(exact.shape, dtype) if out is None else out
    kernels.guided_modulation(*case, relu, layout == "pixels", multiprocessors, out)
    assert_rounded_once(out, dtype, exact, magnitude, 4)
    return out


def run_backward(kernels, grad, kept, tables, dtype, layout, saved, multiprocessors, grad_x):
    """Writes grad_x; returns grad_multiplier, grad_shift and the number of sums that blocks shared."""
    table_type = np.float64 if dtype == "float64" else np.float32
    sizes = as_maps(grad, layout).shape[:2]
    grad_m = np.full(sizes, np.nan, table_type) if saved.startswith("input") else None
    grad_b = np.full(sizes, np.nan, table_type)
    shared = kernels.guided_modulation_backward(
        grad, kept, *tables, saved in ("input, ReLU", "output"), saved.startswith("input"),
        layout == "pixels", multiprocessors, grad_x, grad_m, grad_b,
    )  # fmt: skip
    return grad_m, grad_b, shared


def check_backward(kernels, case, dtype, layout, saved, multiprocessors=1, place=lambda array: array):
    """Runs it on arrays moved by `place`; returns the number of sums that blocks shared."""
    x, m, b, c = case
    grad = encode(np.random.default_rng(9).normal(size=x.shape), dtype)
    output, _ = formula(*case, True, layout, dtype)
    kept = {"input, ReLU": x, "input": x, "output": encode(output, dtype), "nothing": None}[saved]
    grad_x = place(poisoned(x.shape, dtype))
    grad_m, grad_b, shared = run_backward(
        kernels, place(grad), None if kept is None else place(kept), case[1:],
        dtype, layout, saved, multiprocessors, grad_x,
    )  # fmt: skip

    g = as_maps(decode(grad, dtype), layout)
    if saved in ("input, ReLU", "output"):
        g = g * (as_maps(output, layout) > 0)
    s, b, c = tables(m, b, c, g.shape[1])
    scaled = as_maps(g * s[:, :, None], layout)
    assert_rounded_once(grad_x, dtype, scaled, abs(scaled), 4)
    sum_type = "float64" if dtype == "float64" else "float32"
    assert_rounded_once(grad_b, sum_type, g.sum(2), abs(g).sum(2), 16)
    if grad_m is not None:
        shifted = g * (as_maps(decode(x, dtype), layout) + c[:, None])
        assert_rounded_once(grad_m, sum_type, shifted.sum(2), abs(shifted).sum(2), 16)
    return shared


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_forward(kernels, layout, dtype):
    for i, shape in enumerate(LAYOUTS[layout]):
        check_forward(kernels, make_case(shape, dtype, layout), dtype, layout, relu=i % 2 == 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_backward(kernels, layout, dtype):
    shared = [
        check_backward(kernels, make_case(shape, dtype, layout, SAVED[saved]), dtype, layout, saved)
        for shape, saved in zip(LAYOUTS[layout], itertools.cycle(SAVED), strict=False)
    ]
    assert any(shared), "no sum of these sizes is shared by several blocks"
    assert not all(shared)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_absent_parameters(kernels, layout):
    shape = (2, 8, 70)
    for present in itertools.product((True, False), repeat=3):
        guides = "".join(itertools.compress("mbc", present))
        case = make_case(shape, "float32", layout, guides)
        for relu in (True, False):
            check_forward(kernels, case, "float32", layout, relu)
        for saved in SAVED:
            check_backward(kernels, case, "float32", layout, saved)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_blur_kernel_guides_the_batch(kernels, layout):
    case = make_case((3, 16, 20), "bfloat16", layout, kernels=1)
    check_forward(kernels, case, "bfloat16", layout)
    check_backward(kernels, case, "bfloat16", layout, "input, ReLU")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_place(kernels, layout):
    x, m, b, c = make_case(LAYOUTS[layout][-2], "bfloat16", layout)
    exact, magnitude = formula(x, m, b, c, True, layout, "bfloat16")
    kernels.guided_modulation(x, m, b, c, True, layout == "pixels", 1, x)
    assert_rounded_once(x, "bfloat16", exact, magnitude, 4)


class Buffers:
    """Copies arrays between NaNs, to addresses so many elements after a multiple of 16 bytes."""

    def __init__(self, dtype, offsets):
        self.dtype, self.offsets, self.rims = dtype, itertools.cycle(offsets), []

    def __call__(self, array):
        margin = 32
        buffer = poisoned((array.size + 3 * margin,), self.dtype)
        start = margin + next(self.offsets)
        start += -(buffer.ctypes.data // buffer.itemsize + margin) % (16 // buffer.itemsize)
        self.rims += [buffer[:start], buffer[start + array.size :]]
        view = buffer[start : start + array.size].reshape(array.shape)
        view[...] = array
        return view

    def check(self):
        assert all(np.isnan(decode(rim, self.dtype)).all() for rim in self.rims), (
            "written outside of the maps"
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("layout", "shape"),
    [("planes", (2, 3, 37)), ("planes", (1, 2, 2065)), ("pixels", (2, 16, 40)), ("pixels", (1, 3, 50))],
)
def test_unaligned_memory(kernels, layout, shape, dtype):
    """All arrays with the same offset from a multiple of 16 bytes, and with different ones."""
    case = make_case(shape, dtype, layout)
    for offsets in ([1], [16 // DTYPES[dtype]().itemsize - 1], [1, 0, 3]):
        place = Buffers(dtype, offsets)
        check_forward(
            kernels, (place(case[0]), *case[1:]), dtype, layout, out=place(poisoned(case[0].shape, dtype))
        )
        check_backward(kernels, case, dtype, layout, "input, ReLU", place=place)
        place.check()


@pytest.mark.parametrize(("layout", "shape"), [("planes", (2, 2, 8200)), ("pixels", (2, 16, 1100))])
def test_bits_do_not_depend_on_the_order_of_threads(kernels, thread_order, layout, shape):
    """The last block to finish adds the sums of all blocks, always in the same order."""
    case = make_case(shape, "float32", layout)
    grad = make_case(shape, "float32", layout, seed=1)[0]

    def run():
        grad_x = poisoned(grad.shape, "float32")
        *sums, shared = run_backward(
            kernels, grad, case[0], case[1:], "float32", layout, "input, ReLU", 4, grad_x
        )
        assert shared
        return grad_x, *sums

    results = run()
    before = kernels.set_thread_order(7)
    try:
        others = run()
    finally:
        kernels.set_thread_order(before)
    for result, other in zip(results, others, strict=True):
        np.testing.assert_array_equal(result, other)
    check_forward(kernels, case, "float32", layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("multiprocessors", [1, 3, 132])
def test_any_number_of_multiprocessors(kernels, layout, multiprocessors):
    shape = {"planes": (1, 3, 9000), "pixels": (1, 24, 1500)}[layout]
    case = make_case(shape, "bfloat16", layout)
    check_forward(kernels, case, "bfloat16", layout, multiprocessors=multiprocessors)
    check_backward(kernels, case, "bfloat16", layout, "input, ReLU", multiprocessors)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nan_and_infinity_pass(kernels, layout):
    values = np.array([np.nan, np.inf, -np.inf, -1.0, -0.0, 2.0] * 2, np.float32)
    x = values.reshape((1, 1, 12) if layout == "planes" else (1, 3, 4))
    for relu in (True, False):
        out = poisoned(x.shape, "float32")
        kernels.guided_modulation(x, None, None, None, relu, layout == "pixels", 1, out)
        np.testing.assert_array_equal(out, np.where(x <= 0, 0, x) if relu else x)
