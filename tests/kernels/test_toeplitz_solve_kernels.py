"""Conjugate gradients on Toeplitz systems, on the CPU, against the same steps with the whole matrix in NumPy.

A thread computes 8 outputs of a column, a warp 32 times as many.
"""

import numpy as np
import pytest

#: Relative to the largest value, after a few steps.
TOLERANCES = {"float32": 2e-5, "float64": 1e-12}

each_type = pytest.mark.parametrize("dtype", TOLERANCES)
# The largest that one block solves, and the smallest that takes a launch for each step.
LARGEST_OF_BLOCK = {"float32": 42, "float64": 25}


def problem(count, size, dtype, seed=0):
    """Autocorrelations, their products with kernels, and random supports."""
    random = np.random.default_rng(seed)
    lengths = (30 + 2 * size, 35 + 2 * size)
    spectrum = np.abs(np.fft.rfft2(random.normal(size=(count, 30, 35)), s=lengths)) ** 2
    lags = np.roll(np.fft.irfft2(spectrum, s=lengths), (size - 1, size - 1), (1, 2))
    lags = lags[:, : 2 * size - 1, : 2 * size - 1] / 1000
    right = random.uniform(size=(count, size, size))
    support = random.uniform(size=(count, size, size)) < 0.7
    support[:, size // 2, size // 2] = True
    return np.ascontiguousarray(lags, dtype), right.astype(dtype), support


def square(count, size, top, left, rows, columns):
    """Supports that are a rectangle, with a hole in it where it is large enough for one."""
    support = np.zeros((count, size, size), bool)
    support[:, top : top + rows, left : left + columns] = True
    support[:, top + 1 : top + rows - 1, left + columns // 2] = False
    return support


def solution(lags, right, support, weight, steps):
    """Conjugate gradients in float64."""
    count, size, _ = right.shape
    down, across = (index.ravel() for index in np.indices((size, size)))
    place = (down[:, None] - down + size - 1, across[:, None] - across + size - 1)
    results = []
    for n in range(count):
        inside = np.ones(size**2) if support is None else support[n].ravel().astype(np.float64)
        matrix = lags[n].astype(np.float64)[place] + weight * np.eye(size**2)
        matrix *= inside[:, None] * inside
        k = inside / max(inside.sum(), 1)
        residual = inside * right[n].ravel() - matrix @ k
        direction, energy = residual, residual @ residual
        for _ in range(steps):
            product = matrix @ direction
            length = energy / max(direction @ product, np.finfo(np.float64).tiny)
            k = k + length * direction
            residual = residual - length * product
            before, energy = energy, residual @ residual
            direction = residual + energy / max(before, np.finfo(np.float64).tiny) * direction
        results.append(k.reshape(size, size))
    return np.stack(results)


def solve(kernels, lags, right, support, weight, steps):
    result = np.full_like(right, np.nan)
    kernels.toeplitz_solve(lags, right, support, weight, steps, result)
    return result


def check(kernels, tensors, dtype, weight=0.5, steps=2):
    exact = solution(*tensors, weight, steps)
    result = solve(kernels, *tensors, weight, steps)
    np.testing.assert_allclose(result, exact, rtol=0, atol=TOLERANCES[dtype] * np.abs(exact).max())
    if tensors[2] is not None:
        assert (result[~tensors[2]] == 0).all()


@each_type
@pytest.mark.parametrize("supported", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5, 7, 8, 9, 15, 16, 17, 25])
def test_systems_of_one_block(kernels, size, dtype, supported):
    lags, right, support = problem(2, size, dtype)
    check(kernels, (lags, right, support if supported else None), dtype)


@each_type
@pytest.mark.parametrize("more", [0, 1])
def test_systems_around_the_limit_of_a_block(kernels, dtype, more):
    size = LARGEST_OF_BLOCK[dtype] + more
    assert kernels.toeplitz_fits_block(size, dtype == "float64") == (more == 0)
    lags, right, support = problem(2, size, dtype)
    check(kernels, (lags, right, None), dtype)
    check(kernels, (lags, right, support), dtype)


# Size of the system; rows and columns of its support, and where they begin.
BOXES = [(19, 1, 1, 18, 18), (19, 8, 9, 0, 10), (19, 9, 8, 10, 0), (19, 17, 3, 2, 5), (43, 18, 20, 3, 22)]


@each_type
@pytest.mark.parametrize(("size", "rows", "columns", "top", "left"), BOXES)
def test_boxes(kernels, thread_order, size, rows, columns, top, left, dtype):
    lags, right, _ = problem(1, size, dtype)
    check(kernels, (lags, right, square(1, size, top, left, rows, columns)), dtype, steps=1)


@pytest.mark.parametrize("size", [17, 43])
def test_values_beyond_the_support_do_not_matter(kernels, size):
    lags, right, _ = problem(1, size, "float32")
    support = square(1, size, 2, 3, 9, 11)
    expected = solve(kernels, lags, right, support, 0.5, 3)
    right[~support] = np.nan
    np.testing.assert_array_equal(solve(kernels, lags, right, support, 0.5, 3), expected)


@each_type
@pytest.mark.parametrize("size", [9, 43])
def test_the_bytes_depend_on_neither_the_order_of_threads_nor_the_batch(kernels, size, dtype):
    lags, right, support = problem(3, size, dtype)
    support &= square(3, size, 0, 0, 9, min(40, size))
    results = []
    for order in (0, -1, 1):
        before = kernels.set_thread_order(order)
        results.append(solve(kernels, lags, right, support, 0.5, 2).tobytes())
        kernels.set_thread_order(before)
    assert len(set(results)) == 1
    alone = [solve(kernels, lags[n:][:1], right[n:][:1], support[n:][:1], 0.5, 2) for n in range(3)]
    assert np.concatenate(alone).tobytes() == results[0]


@each_type
@pytest.mark.parametrize("size", [5, 43])
def test_nothing_to_solve_gives_zeros_and_no_nan(kernels, size, dtype):
    lags, right, _ = problem(2, size, dtype)
    support = square(2, size, 1, 1, 4, 4)
    nothing = np.zeros_like
    assert (solve(kernels, nothing(lags), nothing(right), support, 1.0, 5) == 0).all()
    expected = solve(kernels, lags, right, support, 1.0, 4)
    without = support & [[[False]], [[True]]]
    result = solve(kernels, lags, right, without, 1.0, 4)
    assert (result[0] == 0).all()
    np.testing.assert_array_equal(result[1], expected[1])
    # More steps than change anything.
    tiny = np.full_like(right, 1e-30)
    assert np.isfinite(solve(kernels, lags, tiny, support, 1.0, 40)).all()


@pytest.mark.parametrize("size", [6, 43])
def test_without_steps_it_is_the_constant_kernel(kernels, size):
    lags, right, support = problem(2, size, "float64")
    expected = support / support.sum((1, 2), keepdims=True)
    np.testing.assert_allclose(solve(kernels, lags, right, support, 1.0, 0), expected, rtol=1e-15)
