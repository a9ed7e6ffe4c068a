"""The guided pointwise convolution's kernels on the CPU against the formula in float64.

Tiles are of 128 pixels and 64 or 128 output channels, steps of 64 bytes of channels: 32, 16 or 8.
"""

import itertools

import numpy as np
import pytest
from rounding import DTYPES, assert_rounded_once, decode, encode, poisoned

#: Roundings granted to the sum: it has up to 80 terms, in parts of 8 or 16. In float64 there are no
#: parts, and the formula rounds as well.
SUM_ROUNDINGS = {"float32": 4, "float64": 32, "bfloat16": 4, "float16": 4}


def make_case(shape, dtype, channels_last, guides="mbc", kernels=None, seed=0):
    """Arguments of the binding without the output."""
    N, C1, C2, C_out, pixels = shape
    random = np.random.default_rng(seed)
    table_type = np.float64 if dtype == "float64" else np.float32

    def maps(C):
        values = random.normal(size=(N, C, pixels))
        return encode(values.transpose(0, 2, 1) if channels_last else values, dtype)

    x1, x2, weight = maps(C1), maps(C2), encode(random.normal(size=(C_out, C1 + C2)), dtype)
    kernels = N if kernels is None else kernels
    multiplier = random.normal(size=(kernels, C_out)).astype(table_type) if "m" in guides else None
    shift = random.normal(size=(kernels, C_out)).astype(table_type) if "b" in guides else None
    bias = random.normal(size=C_out).astype(table_type) if "c" in guides else None
    return [x1, x2, weight, multiplier, shift, bias]


def formula(x1, x2, weight, multiplier, shift, bias, relu, channels_last, dtype):
    """act((W [x1; x2] + c) (1 + m) + b), and the same of absolute values."""
    axes = (0, 2, 1) if channels_last else (0, 1, 2)
    maps = np.concatenate([decode(x, dtype).transpose(axes) for x in (x1, x2)], axis=1)
    W = decode(weight, dtype)
    c = np.zeros(len(W)) if bias is None else bias
    s = np.ones((1, len(W))) if multiplier is None else 1.0 + multiplier.astype(np.float64)
    b = np.zeros((1, len(W))) if shift is None else shift

    def modulated(sums, c, s, b):
        return (sums + c[:, None]) * s[:, :, None] + b[:, :, None]

    exact = modulated(np.einsum("oc,ncp->nop", W, maps), c, s, b)
    magnitude = modulated(np.einsum("oc,ncp->nop", abs(W), abs(maps)), abs(c), abs(s), abs(b))
    if relu:
        exact = np.maximum(exact, 0)
    return exact.transpose(axes), magnitude.transpose(axes)


def check(kernels, case, dtype, channels_last, relu=True, multiprocessors=1):
    exact, magnitude = formula(*case, relu, channels_last, dtype)
    out = poisoned(exact.shape, dtype)
    kernels.guided_pointwise_conv2d(*case, relu, channels_last, multiprocessors, out)
    assert_rounded_once(out, dtype, exact, magnitude, SUM_ROUNDINGS[dtype])
    return decode(out, dtype)


#: N, C1, C2, C_out, pixels. Multiples of 8 along a line are copied 16 bytes at a time.
SHAPES = [
    (1, 1, 1, 1, 1),
    (2, 8, 16, 64, 128),
    (1, 40, 32, 136, 136),
    (1, 33, 7, 65, 129),
    (3, 5, 31, 3, 63),
    (2, 16, 0, 8, 8),
    (1, 0, 9, 63, 127),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula(kernels, shape, channels_last, dtype):
    check(kernels, make_case(shape, dtype, channels_last), dtype, channels_last)


@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_any_order_of_threads(kernels, thread_order, dtype, channels_last):
    check(kernels, make_case((1, 40, 48, 72, 136), dtype, channels_last), dtype, channels_last)


@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels-last"])
def test_width_of_tiles(kernels, channels_last):
    """Blocks of 128 output channels if all multiprocessors then have work, else of 64: the same bits."""
    case = make_case((1, 40, 32, 136, 136), "float16", channels_last)
    wide, narrow = (
        check(kernels, case, "float16", channels_last, multiprocessors=count) for count in (1, 100)
    )
    np.testing.assert_array_equal(wide, narrow)


@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_absent_parameters(kernels, dtype, channels_last):
    """Each of multiplier, shift and bias, none, and all for one blur kernel; with ReLU and without."""
    for guides, relu in zip(("", "m", "b", "c", "mbc"), itertools.cycle((True, False)), strict=False):
        case = make_case((2, 8, 8, 16, 24), dtype, channels_last, guides, kernels=1)
        check(kernels, case, dtype, channels_last, relu)


@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("argument", [0, 1, 2, "out"], ids=["x1", "x2", "weight", "out"])
def test_tensors_off_16_bytes(kernels, argument, channels_last):
    """Sizes are multiples of 16 bytes, and the address of one tensor is not."""
    case = make_case((1, 16, 8, 24, 40), "bfloat16", channels_last)

    def moved(array):
        copy = np.empty(array.size + 8, array.dtype)
        start = (1 - copy.ctypes.data // copy.itemsize) % 8
        copy = copy[start : start + array.size].reshape(array.shape)
        assert copy.ctypes.data % 16 == 2
        copy[...] = array
        return copy

    exact, magnitude = formula(*case, True, channels_last, "bfloat16")
    out = poisoned(exact.shape, "bfloat16")
    if argument == "out":
        out = moved(out)
    else:
        case[argument] = moved(case[argument])
    kernels.guided_pointwise_conv2d(*case, True, channels_last, 1, out)
    assert_rounded_once(out, "bfloat16", exact, magnitude, SUM_ROUNDINGS["bfloat16"])


def test_float32_is_as_accurate_as_float32(kernels):
    """Three products in TF32 lose no more than a sum in float32; one would lose a thousand times as much."""
    case = make_case((1, 128, 128, 64, 128), "float32", False, guides="")
    exact, magnitude = formula(*case, False, False, "float32")
    out = poisoned(exact.shape, "float32")
    kernels.guided_pointwise_conv2d(*case, False, False, 1, out)
    x1, x2, weight = case[:3]
    in_float32 = weight @ np.concatenate([x1, x2], axis=1)[0]

    def worst(result):
        return float(np.max(np.abs(result.astype(np.float64) - exact) / magnitude))

    assert worst(out) <= 2 * worst(in_float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_passes_the_relu(kernels, dtype):
    case = make_case((1, 8, 8, 8, 8), dtype, False)
    values = decode(case[0], dtype)
    values[0, 3, 5] = np.nan
    case[0] = encode(values, dtype)
    out = encode(np.zeros((1, 8, 8)), dtype)
    kernels.guided_pointwise_conv2d(*case, True, False, 1, out)
    np.testing.assert_array_equal(np.isnan(decode(out, dtype)).any(axis=1)[0], np.arange(8) == 5)
