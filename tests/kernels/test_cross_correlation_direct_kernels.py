"""sum f_i(y - t, x - s) f_j(y, x) and its gradient by direct sums, against the formula in float64."""

import numpy as np
import pytest
from rounding import DTYPES, assert_rounded_once, decode, encode, poisoned

#: Roundings of a sum: 4 of products in TF32 parts, the others of the sums of threads, of mma and of parts.
SUM_ROUNDINGS = 16

MULTIPROCESSORS = 2

# (N, C, H, W), (lag_y, lag_x) for plain multiply-adds: a single pixel; no lags; sizes and lags around the
# tiles of 64 columns, of 32 rows and of 8 lags; one map, an odd number of them; lags as large as they may be.
FEW_MAPS = [
    ((1, 1, 1, 1), (0, 0)), ((2, 2, 5, 4), (0, 0)), ((2, 3, 5, 7), (4, 3)), ((1, 1, 33, 9), (1, 8)),
    ((1, 2, 34, 65), (2, 4)), ((3, 2, 9, 64), (8, 3)), ((1, 3, 12, 8), (0, 7)), ((1, 2, 3, 90), (1, 40)),
]  # fmt: skip

# For tensor cores, from 21 (float32) or 9 (16 bits) maps on: around blocks of 32 maps, segments of 32 or 64
# pixels, groups of 8 or 16 lags, tiles of 8 rows.
MANY_MAPS = [
    ((1, 21, 1, 1), (0, 0)), ((1, 32, 9, 3), (0, 1)), ((2, 23, 1, 33), (0, 9)), ((1, 24, 3, 65), (1, 0)),
    ((1, 33, 1, 5), (0, 1)), pytest.param((1, 42, 2, 8), (1, 0), marks=pytest.mark.slow),
]  # fmt: skip


def correlate(features, lag_y, lag_x, circular):
    """The formula, in the type of `features`."""
    first, second = np.triu_indices(features.shape[1])
    lags = [
        np.einsum("npyx,npyx->np", shifted(features, t, s, circular)[:, first], features[:, second])
        for t in range(-lag_y, lag_y + 1)
        for s in range(-lag_x, lag_x + 1)
    ]
    return np.stack(lags, axis=-1).reshape(*lags[0].shape, 2 * lag_y + 1, 2 * lag_x + 1)


def differentiate(gradient, features, circular):
    """The gradient of sum(gradient * correlation): a pair adds each of its maps to the other's."""
    lag_y, lag_x = (size // 2 for size in gradient.shape[2:])
    first, second = np.triu_indices(features.shape[1])
    result = np.zeros_like(features)
    for t in range(-lag_y, lag_y + 1):
        for s in range(-lag_x, lag_x + 1):
            factors = np.zeros((features.shape[0], features.shape[1], features.shape[1]), features.dtype)
            factors[:, first, second] = gradient[:, :, lag_y + t, lag_x + s]
            result += np.einsum("nij,niyx->njyx", factors, shifted(features, t, s, circular))
            result += np.einsum("nij,njyx->niyx", factors, shifted(features, -t, -s, circular))
    return result


def shifted(features, t, s, circular):
    """f(y - t, x - s)."""
    moved = np.roll(features, (t, s), (2, 3))
    if not circular:
        rows, columns = np.arange(moved.shape[2]) - t, np.arange(moved.shape[3]) - s
        rows_inside = (rows >= 0) & (rows < len(rows))
        moved = moved * (rows_inside[:, None] & (columns >= 0) & (columns < len(columns)))
    return moved


def random_features(shape, dtype, seed=0):
    return encode(np.random.default_rng(seed).normal(size=shape), dtype)


def random_gradient(features, lag_y, lag_x, dtype):
    """In 16 bits, numbers with exact sums of two: the kernels round G_aa(t, s) + G_aa(-t, -s)."""
    N, C = features.shape[:2]
    shape = N, C * (C + 1) // 2, 2 * lag_y + 1, 2 * lag_x + 1
    numbers = np.random.default_rng(1).normal(size=shape)
    return encode(np.clip(numbers * 8, -31, 31).round() / 8 if "16" in dtype else numbers, dtype)


def workspace(kernels, features, lags, circular, backward):
    """The requested bytes, all NaN, and a margin that must stay unchanged."""
    size = kernels.cross_correlation_direct_workspace(features, *lags, circular, backward, MULTIPROCESSORS)
    return np.full(size + 256, 255, np.uint8), size


def run_forward(kernels, features, lags, circular, dtype):
    N, C = features.shape[:2]
    out = poisoned((N, C * (C + 1) // 2, 2 * lags[0] + 1, 2 * lags[1] + 1), dtype)
    memory, size = workspace(kernels, features, lags, circular, False)
    kernels.cross_correlation_direct(features, out, memory, *lags, circular, MULTIPROCESSORS)
    assert (memory[size:] == 255).all()
    return out


def run_backward(kernels, gradient, features, lags, circular, dtype):
    result = poisoned(features.shape, dtype)
    memory, size = workspace(kernels, features, lags, circular, True)
    kernels.cross_correlation_direct_backward(
        gradient, features, result, memory, *lags, circular, MULTIPROCESSORS
    )
    assert (memory[size:] == 255).all()
    return result


def check(kernels, shape, lags, circular, dtype, features=None):
    features = random_features(shape, dtype) if features is None else features
    gradient = random_gradient(features, *lags, dtype)
    exact, numbers = decode(features, dtype), decode(gradient, dtype)
    assert_rounded_once(
        run_forward(kernels, features, lags, circular, dtype),
        dtype,
        correlate(exact, *lags, circular),
        correlate(abs(exact), *lags, circular),
        SUM_ROUNDINGS,
    )
    assert_rounded_once(
        run_backward(kernels, gradient, features, lags, circular, dtype),
        dtype,
        differentiate(numbers, exact, circular),
        differentiate(abs(numbers), abs(exact), circular),
        SUM_ROUNDINGS,
    )


@pytest.mark.parametrize("circular", [False, True], ids=["zero", "circular"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "lags"), FEW_MAPS)
def test_few_maps(kernels, shape, lags, dtype, circular):
    check(kernels, shape, lags, circular, dtype)


@pytest.mark.parametrize("circular", [False, True], ids=["zero", "circular"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("shape", "lags"), MANY_MAPS)
def test_many_maps(kernels, shape, lags, dtype, circular):
    check(kernels, shape, lags, circular, dtype)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_maps_at_the_change_of_method(kernels, dtype):
    for channels in (4, 5, 8, 9, 17):
        check(kernels, (1, channels, 4, 7), (1, 2), False, dtype)


@pytest.mark.parametrize(
    ("channels", "dtype"), [(2, "float32"), (2, "float64"), (3, "float16"), (21, "float32"), (9, "bfloat16")]
)
def test_thread_orders(kernels, thread_order, channels, dtype):
    check(kernels, (1, channels, 9, 35), (1, channels % 3), channels == 9, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "dtype"), [(2, "float32"), (21, "float32"), (9, "float16")])
def test_the_bits_do_not_depend_on_the_order_of_threads_and_blocks(kernels, channels, dtype):
    features = random_features((1, channels, 3, 33), dtype)
    gradient = random_gradient(features, 1, 1, dtype)
    results = []
    for order in (0, -1, 5):
        before = kernels.set_thread_order(order)
        try:
            out = run_forward(kernels, features, (1, 1), False, dtype)
            results.append((out, run_backward(kernels, gradient, features, (1, 1), False, dtype)))
        finally:
            kernels.set_thread_order(before)
    for out, grad_features in results[1:]:
        np.testing.assert_array_equal(out, results[0][0])
        np.testing.assert_array_equal(grad_features, results[0][1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [2, 24])
def test_features_at_any_address(kernels, channels, dtype):
    shape = (1, channels, 3, 8)
    memory = random_features((int(np.prod(shape)) + 1,), dtype)
    check(kernels, shape, (1, 1), True, dtype, memory[1:].reshape(shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [2, 24])
def test_empty_batch(kernels, channels, dtype):
    features = random_features((0, channels, 3, 4), dtype)
    gradient = random_gradient(features, 1, 1, dtype)
    # Nothing is launched: an empty grid would be an error.
    assert run_forward(kernels, features, (1, 1), False, dtype).shape == gradient.shape
    assert run_backward(kernels, gradient, features, (1, 1), False, dtype).shape == features.shape


# More tiles or segments than go into one sum: a part begins anew and adds to what it has.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1, 1, 20000, 1), "float32"), ((1, 21, 2100, 1), "float32"), ((1, 9, 2100, 1), "float16")],
)
def test_long_sums(kernels, shape, dtype):
    features = random_features(shape, dtype)
    exact = decode(features, dtype)
    assert_rounded_once(
        run_forward(kernels, features, (0, 0), False, dtype),
        dtype,
        correlate(exact, 0, 0, False),
        correlate(abs(exact), 0, 0, False),
        SUM_ROUNDINGS,
    )


def test_the_workspace_is_bounded(kernels):
    limit = 128 * 2**20
    for dtype in DTYPES:
        for channels, lag in ((2, 30), (32, 11)):
            for backward in (False, True):
                # Nothing is read: a view of one element stands for the batch.
                features = np.broadcast_to(encode(np.zeros(1), dtype), (1000, channels, 192, 256))
                size = kernels.cross_correlation_direct_workspace(features, lag, lag, False, backward, 132)
                assert 0 < size <= limit


@pytest.mark.parametrize("backward", [False, True])
def test_the_cost_counts_products_at_the_speed_of_their_units(kernels, backward):
    def cost(channels, lag, dtype):
        features = np.broadcast_to(encode(np.zeros(1), dtype), (2, channels, 192, 256))
        return kernels.cross_correlation_direct_cost(features, lag, lag, False, backward)

    products = 2 * 32**2 * 43**2 * 192 * 256 / (1 if backward else 2)
    for dtype, speed in (("float32", 495 / 67 / 3), ("float64", 0.5), ("bfloat16", 990 / 67)):
        assert products <= cost(32, 21, dtype) * speed <= 1.5 * products
    assert cost(2, 30, "float32") < cost(32, 30, "float32")
