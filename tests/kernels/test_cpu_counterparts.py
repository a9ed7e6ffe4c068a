"""CPU counterparts of device.cuh's functions do what it documents; threads are numbered as in CUDA."""

import numpy as np
import pytest
from bfloat16 import from_bfloat16, to_bfloat16

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("is_bfloat16", [True, False])
def test_products_of_16_bit_tiles(kernels, thread_order, is_bfloat16):
    exact = RANDOM.normal(size=(16, 16)), RANDOM.normal(size=(16, 8))
    a, b = (to_bfloat16(x) if is_bfloat16 else x.astype(np.float16) for x in exact)
    d = np.full((16, 8), np.nan, np.float32)
    kernels.multiply_tiles(a, b, d, is_bfloat16)
    first, second = (from_bfloat16(x) if is_bfloat16 else x.astype(np.float32) for x in (a, b))
    np.testing.assert_allclose(d, first @ second, rtol=0, atol=1e-5)


def test_products_of_tf32_tiles(kernels, thread_order):
    a, b = (RANDOM.normal(size=size).astype(np.float32) for size in ((16, 8), (8, 8)))
    d = np.full((16, 8), np.nan, np.float32)
    kernels.multiply_tiles_tf32(a, b, d)
    rounded = [
        np.array([kernels.to_tf32(float(x)) for x in matrix.ravel()], np.uint32).view(np.float32)
        for matrix in (a, b)
    ]
    exact = rounded[0].reshape(a.shape).astype(float) @ rounded[1].reshape(b.shape)
    np.testing.assert_allclose(d, exact, rtol=0, atol=1e-5)
    assert np.abs(d - a @ b).max() > 1e-5, "the inputs were not rounded"


def test_rounding_to_tf32(kernels):
    # 10 bits after the point: 1 + 2^-11 is a tie, rounded away from zero.
    for number, rounded in [
        (1 + 2**-11, 1 + 2**-10),
        (-1 - 2**-11, -1 - 2**-10),
        (1 + 2**-11 - 2**-20, 1.0),
        (np.inf, np.inf),
    ]:
        assert np.array(kernels.to_tf32(number), np.uint32).view(np.float32) == np.float32(rounded)


def read_as_tf32(bits: int) -> float:
    """The value that an mma reads from a register."""
    return float(np.array(bits & 0xFFFFE000, np.uint32).view(np.float32))


def test_a_float_is_the_sum_of_its_tf32_parts_but_for_its_last_bit(kernels):
    numbers = (RANDOM.normal(size=4000) * 2.0 ** RANDOM.integers(-90, 90, 4000)).astype(np.float32)
    # Where adding half of TF32's last bit carries into the exponent, and ties.
    corners = np.array([2 - 2**-23, 1 + 2**-11, 1 + 3 * 2**-11, 1 - 2**-24, 0, 1], np.float32)
    for number in (*numbers, *corners, *-corners):
        high, low = map(read_as_tf32, kernels.to_tf32_pair(number))
        assert abs(high + low - float(number)) <= np.spacing(abs(number)), number


@pytest.mark.parametrize("bits", [0x7F800000, 0xFF800000, 0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001])
def test_the_parts_of_infinity_and_nan_are_not_finite(kernels, bits):
    number = np.array(bits, np.uint32).view(np.float32)
    high, low = map(read_as_tf32, kernels.to_tf32_pair(number))
    assert np.isnan(high + low)


@pytest.mark.parametrize("transposed", [False, True])
def test_loading_matrices(kernels, thread_order, transposed):
    matrices = np.arange(4 * 64, dtype=np.uint16).reshape(4, 8, 8)
    result = np.zeros_like(matrices)
    kernels.exchange_matrices(matrices, result, transposed)
    np.testing.assert_array_equal(result, matrices.transpose(0, 2, 1) if transposed else matrices)


def test_every_half_and_bfloat16_widens_exactly(kernels):
    bits = np.arange(1 << 16, dtype=np.uint16)
    result = np.empty(bits.shape, np.float32)
    kernels.widen_elements(bits, result)
    np.testing.assert_array_equal(result, from_bfloat16(bits))
    halves = bits.view(np.float16)
    kernels.widen_elements(halves, result)
    np.testing.assert_array_equal(result, halves.astype(np.float32))


def test_rounding_to_16_bits_is_to_the_nearest_and_to_even(kernels):
    # Numbers of both types, the ties between them, neighbours of the ties, and numbers that overflow.
    bits = np.arange(0, 1 << 16, 37, dtype=np.uint16)
    numbers = np.concatenate([from_bfloat16(bits), bits.view(np.float16).astype(np.float32)])
    with np.errstate(all="ignore"):
        ties = numbers * np.float32(1 + 2.0**-9) * np.array([[1], [1 + 2.0**-23]], np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 65519.0, 65520.0, 3.4e38, 1e-45], np.float32)
    numbers = np.concatenate([numbers, ties.ravel(), special])
    numbers = np.resize(numbers, (len(numbers) + 63) // 64 * 64)

    rounded = np.empty(numbers.shape, np.uint16)
    kernels.round_elements(numbers, rounded)
    np.testing.assert_array_equal(from_bfloat16(rounded), from_bfloat16(to_bfloat16(numbers)))
    halves = np.empty(numbers.shape, np.float16)
    kernels.round_elements(numbers, halves)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(halves, numbers.astype(np.float16))


def test_warp_and_block_collectives(kernels, thread_order):
    result = np.full((10, 48), -1, np.int32)
    kernels.collectives(result)
    i = np.arange(48)
    lane, warp = i % 32, i // 32
    expected = [
        warp * 32 + 3,
        np.where(lane < 2, i, i - 2),
        np.where(i % 8 < 6, i + 2, i),
        i ^ 5,
        np.where(warp == 0, 0b01001001001001001001001001001001, 0b1001001001001001),
        np.full(48, 10),
        np.full(48, 1),
        np.full(48, 0),
        np.where(lane < 16, (i ^ 1) + (i ^ 2), i ^ 1),
        warp * 32 * 2 + 6 + 5,
    ]
    np.testing.assert_array_equal(result, expected)


def test_copies_arrive_at_their_wait(kernels, thread_order):
    numbers = RANDOM.normal(size=(3, 32)).astype(np.float32)
    result = np.zeros((4, 32), np.float32)
    kernels.copy_stages(numbers, result)
    np.testing.assert_array_equal(result[:2], numbers[:2])
    np.testing.assert_array_equal(result[2], 0)
    assert np.isnan(result[3]).all()


def test_atomic_sums(kernels, thread_order):
    integer, single, real = np.zeros(1, np.int32), np.zeros(1, np.float32), np.zeros(1)
    kernels.add_atomically(integer, single, real)
    assert (integer[0], single[0], real[0]) == (3 * 64 * 63 // 2, 96.0, 48.0)


def test_every_thread_of_a_grid_runs_once(kernels, thread_order):
    counts = np.zeros(3 * 2 * 2 * 5 * 3 * 4, np.int32)
    kernels.count_threads([3, 2, 2], [5, 3, 4], 0, counts)
    assert (counts == 1).all()


@pytest.mark.parametrize(
    ("grid", "block", "words"),
    [
        ([1, 1, 1], [1025, 1, 1], r"blocks of \(1025, 1, 1\) threads"),
        ([1, 1, 1], [1, 1, 65], r"blocks of \(1, 1, 65\) threads"),
        ([0, 1, 1], [32, 1, 1], r"a grid of \(0, 1, 1\) blocks"),
        ([1, 65536, 1], [32, 1, 1], r"a grid of \(1, 65536, 1\) blocks"),
    ],
)
def test_launches_that_a_gpu_refuses(kernels, grid, block, words):
    with pytest.raises(kernels.KernelError, match=words):
        kernels.count_threads(grid, block, 0, np.zeros(1, np.int32))


def test_arrays_are_never_converted(kernels):
    with pytest.raises(TypeError, match="float64; expected float32"):
        kernels.copy_stages(np.zeros((3, 32)), np.zeros((4, 32), np.float32))
    with pytest.raises(ValueError, match="not contiguous"):
        kernels.copy_stages(np.zeros((3, 64), np.float32)[:, ::2], np.zeros((4, 32), np.float32))
    read_only = np.zeros((4, 32), np.float32)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="not writeable"):
        kernels.copy_stages(np.zeros((3, 32), np.float32), read_only)
