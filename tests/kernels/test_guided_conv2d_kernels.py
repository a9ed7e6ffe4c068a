"""The guided 3x3 convolution's kernels on the CPU against the formula in float64.

Tiles are of 16x16 or 8x16 output pixels (4x16 at stride 2) and 64 output channels, steps of 16 channels.
"""

import itertools

import numpy as np
import pytest
from rounding import assert_rounded_once, decode, encode, poisoned

#: Roundings of the sum that are granted: it has up to 500 terms, in parts of 16.
SUM_ROUNDINGS = 8


def make_case(shape, dtype, guides="mbc", kernels=None, seed=0):
    """Arguments of the binding up to the bias."""
    N, C, H, W, C_out = shape
    random = np.random.default_rng(seed)
    x, weight = (
        encode(random.normal(size=(N, H, W, C)), dtype),
        encode(random.normal(size=(C_out, 3, 3, C)), dtype),
    )
    kernels = N if kernels is None else kernels
    multiplier = random.normal(size=(kernels, C_out)).astype(np.float32) if "m" in guides else None
    shift = random.normal(size=(kernels, C_out)).astype(np.float32) if "b" in guides else None
    bias = random.normal(size=C_out).astype(np.float32) if "c" in guides else None
    return [x, weight, multiplier, shift, bias]


def formula(x, weight, multiplier, shift, bias, stride, relu, dtype):
    """act((x * W + c) (1 + m) + b), and the same of absolute values."""
    W = decode(weight, dtype)
    padded = np.pad(decode(x, dtype), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::stride, ::stride]
    c = np.zeros(len(W)) if bias is None else bias
    s = np.ones((1, len(W))) if multiplier is None else 1.0 + multiplier.astype(np.float64)
    b = np.zeros((1, len(W))) if shift is None else shift

    def modulated(windows, W, c, s, b):
        sums = np.tensordot(windows, W, ((3, 4, 5), (3, 1, 2)))
        return (sums + c) * s[:, None, None] + b[:, None, None]

    exact = modulated(windows, W, c, s, b)
    magnitude = modulated(abs(windows), abs(W), abs(c), abs(s), abs(b))
    return np.maximum(exact, 0) if relu else exact, magnitude


def check(kernels, case, dtype, stride=1, relu=True, multiprocessors=1):
    exact, magnitude = formula(*case, stride, relu, dtype)
    out = poisoned(exact.shape, dtype)
    kernels.guided_conv3x3(*case, stride, relu, multiprocessors, out)
    assert_rounded_once(out, dtype, exact, magnitude, SUM_ROUNDINGS)
    return decode(out, dtype)


#: N, C, H, W, C_out. Every pixel of the small ones is at a border.
SHAPES = [
    (1, 8, 1, 1, 1),
    (2, 16, 2, 3, 8),
    (1, 24, 8, 16, 64),
    (1, 40, 9, 17, 65),
    (2, 8, 16, 33, 13),
    (1, 56, 17, 15, 8),
]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula(kernels, shape, stride, dtype):
    check(kernels, make_case(shape, dtype), dtype, stride)


@pytest.mark.parametrize("stride", [1, 2])
def test_any_order_of_threads(kernels, thread_order, stride):
    check(kernels, make_case((1, 40, 10, 18, 24), "bfloat16"), "bfloat16", stride)


def test_height_of_tiles(kernels):
    """16 rows a block where that gives every multiprocessor two blocks, 8 otherwise: the same bits."""
    case = make_case((1, 24, 17, 17, 16), "float16")
    tall, short = (check(kernels, case, "float16", multiprocessors=count) for count in (1, 100))
    np.testing.assert_array_equal(tall, short)


def test_one_pixel_spreads_to_its_neighbours(kernels):
    """A single pixel set gives the kernel turned about, whole inside of the image and cut at its borders."""
    weight = encode(np.arange(1.0, 10.0).reshape(1, 3, 3, 1) * np.eye(8)[0], "float16")
    turned = np.pad(np.arange(9.0, 0.0, -1.0).reshape(3, 3), 20)
    for y, x in ((0, 0), (0, 16), (7, 15), (8, 16), (18, 0), (18, 19)):
        image = np.zeros((1, 19, 20, 8))
        image[0, y, x, 0] = 1
        out = poisoned((1, 19, 20, 1), "float16")
        kernels.guided_conv3x3(encode(image, "float16"), weight, None, None, None, 1, False, 1, out)
        np.testing.assert_array_equal(out[0, :, :, 0], turned[21 - y : 40 - y, 21 - x : 41 - x])


@pytest.mark.parametrize("stride", [1, 2])
def test_absent_parameters(kernels, stride):
    """Each of multiplier, shift and bias, none, and all for one blur kernel; with ReLU and without."""
    for guides, relu in zip(("", "m", "b", "c", "mbc"), itertools.cycle((True, False)), strict=False):
        check(kernels, make_case((2, 8, 3, 5, 16), "bfloat16", guides, kernels=1), "bfloat16", stride, relu)


def test_nothing_leaks_from_beyond_the_image(kernels):
    """Images of a batch and rows of an image lie side by side in memory, and NaN in one stays there."""
    image = np.ones((3, 6, 6, 8))
    image[1] = np.nan
    image[0, 2, 5] = np.nan
    weight = encode(np.ones((8, 3, 3, 8)), "bfloat16")
    out = poisoned((3, 6, 6, 8), "bfloat16")
    kernels.guided_conv3x3(encode(image, "bfloat16"), weight, None, None, None, 1, True, 1, out)
    reached = np.isnan(decode(out, "bfloat16")).any(axis=3)
    expected = np.zeros((3, 6, 6), bool)
    expected[1] = True
    expected[0, 1:4, 4:] = True
    np.testing.assert_array_equal(reached, expected)
