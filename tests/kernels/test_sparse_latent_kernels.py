"""Kernels of the latent image, all but its transforms, on the CPU against NumPy. Blocks are of 128 values."""

import numpy as np
import pytest

TOLERANCES = {"float32": 1e-6, "float64": 1e-14}
# N, H, W: one pixel, one row, one column, odd ones, rows of one block, of one and a value, of two.
SHAPES = [(1, 1, 1), (1, 1, 5), (2, 6, 1), (2, 3, 5), (1, 2, 128), (3, 3, 129), (1, 2, 200)]

each_type = pytest.mark.parametrize("dtype", TOLERANCES)
each_shape = pytest.mark.parametrize("shape", SHAPES)


def images(shape, dtype, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(dtype)


def spectra(shape, dtype, seed=0):
    """Complex numbers as pairs, and in double precision."""
    pairs = np.random.default_rng(seed).normal(size=(*shape[:2], shape[2] // 2 + 1, 2)).astype(dtype)
    return pairs, pairs[..., 0].astype(np.float64) + 1j * pairs[..., 1]


def assert_pairs(pairs, exact, dtype):
    np.testing.assert_allclose(pairs[..., 0] + 1j * pairs[..., 1], exact, rtol=0, atol=5 * TOLERANCES[dtype])


@each_type
@pytest.mark.parametrize(("shape", "size"), [((1, 1, 1), 1), ((2, 3, 5), 3), ((2, 9, 129), 7)])
def test_kernels_are_placed_at_the_origin(kernels, thread_order, shape, size, dtype):
    kernel = images((shape[0], size, size), dtype)
    result = np.full(shape, np.nan, dtype)
    kernels.latent_place_kernel(kernel, result)
    expected = np.zeros(shape, dtype)
    expected[:, :size, :size] = kernel
    np.testing.assert_array_equal(result, np.roll(expected, (-(size // 2), -(size // 2)), (1, 2)))


@each_type
@each_shape
@pytest.mark.parametrize("has_ground", [False, True])
def test_prior(kernels, thread_order, shape, dtype, has_ground):
    _, height, width = shape
    prior = np.full(height + width // 2 + 1, np.nan, dtype)
    kernels.latent_prior(np.empty(shape, dtype), has_ground, prior)
    frequencies = np.concatenate([np.arange(height) / height, np.arange(width // 2 + 1) / width])
    expected = 4 * np.sin(np.pi * frequencies) ** 2
    expected[:height] += has_ground
    np.testing.assert_allclose(prior, expected, rtol=1e-6, atol=1e-15)


@each_type
@each_shape
def test_match(kernels, thread_order, shape, dtype):
    transfer, of_kernel = spectra(shape, dtype, 1)
    spectrum, of_image = spectra(shape, dtype, 2)
    kernels.latent_match(np.empty(shape, dtype), transfer, spectrum)
    assert_pairs(spectrum, of_kernel.conj() * of_image, dtype)


@each_type
@each_shape
@pytest.mark.parametrize("ground", [None, 0.6])
def test_divergence(kernels, thread_order, shape, dtype, ground):
    image = images(shape, dtype)
    result = np.full(shape, np.nan, dtype)
    kernels.latent_divergence(image, 0.2, ground, result)
    exact = image.astype(np.float64)
    across, down = np.roll(exact, -1, 2) - exact, np.roll(exact, -1, 1) - exact
    kept = across**2 + down**2 >= 0.2
    assert shape[1] * shape[2] < 5 or 0 < kept.mean() < 1
    across, down = across * kept, down * kept
    expected = np.roll(across, 1, 2) - across + np.roll(down, 1, 1) - down
    if ground is not None:
        expected += np.where((exact - ground) ** 2 >= 0.2, exact, ground)
    np.testing.assert_allclose(result, expected, rtol=0, atol=5 * TOLERANCES[dtype])


@each_type
@each_shape
@pytest.mark.parametrize("predicts", [False, True])
def test_solve(kernels, thread_order, shape, dtype, predicts):
    _, height, width = shape
    transfer, of_kernel = spectra(shape, dtype, 1)
    matched, of_matched = spectra(shape, dtype, 2)
    spectrum, pull = spectra(shape, dtype, 3)
    prior = np.random.default_rng(4).uniform(0.5, 4, size=height + width // 2 + 1).astype(dtype)
    predicted = np.full_like(spectrum, np.nan) if predicts else None
    kernels.latent_solve(np.empty(shape, dtype), transfer, matched, prior, spectrum, predicted, 0.5, 0.25)
    damping = abs(of_kernel) ** 2 + 0.5 * (prior[:height, None].astype(np.float64) + prior[None, height:])
    exact = 0.25 * (0.5 * pull + of_matched) / damping
    assert_pairs(spectrum, exact, dtype)
    if predicts:
        assert_pairs(predicted, of_kernel * exact, dtype)


@each_type
@each_shape
def test_raise(kernels, thread_order, shape, dtype):
    predicted, padded = images(shape, dtype, 1), images(shape, dtype, 2)
    clipped = images(shape, dtype, 3) > 0.5
    result = np.full(shape, np.nan, dtype)
    kernels.latent_raise(predicted, padded, clipped, 0.75, result)
    raised = np.maximum(np.minimum(predicted, np.asarray(0.75, dtype)), padded)
    np.testing.assert_array_equal(result, np.where(clipped, raised, padded))
