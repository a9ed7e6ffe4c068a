"""The kernels of the spectral cross-correlation: each against NumPy, then all with NumPy's transforms.

Groups of tiles lie at the edges of images, whole and cut off, with odd sizes; see the layouts in
csrc/cross_correlation/cuda/cross_correlation_spectral_layout.cuh.
"""

import itertools

import numpy as np
import pytest
from bfloat16 import from_bfloat16, to_bfloat16

REAL = {np.complex64: np.float32, np.complex128: np.float64}
COMPLEX = tuple(REAL)

# Channels, image, lags, boundary, transforms, margins, parts and the group's position.
WHOLE = dict(
    channels=3, height=37, width=33, lag_y=4, lag_x=2, circular=False, size_y=42, size_x=36,
    margin_y=0, margin_x=0, parts_y=1, parts=1, core_x=33, images=2, y=0, rows=37, x=0, tiles=1,
    first_column=0, columns=33,
)  # fmt: skip
# One strip, all tiles, the last of one column.
ROW_OF_TILES = WHOLE | dict(size_x=20, margin_x=2, parts=2, core_x=16, tiles=3)
# A strip in the middle, the second of two groups; its columns end with the image.
ZERO_CORNER = WHOLE | dict(
    size_y=24, size_x=14, margin_y=4, margin_x=2, parts_y=2, parts=2, core_x=9, images=1, y=22, rows=15,
    x=18, tiles=2, first_column=16, columns=17,
)  # fmt: skip
# The first of two groups of a circular image, then all columns of one.
CIRCULAR_CORNER = ZERO_CORNER | dict(circular=True, y=0, rows=15, x=0, tiles=2, first_column=-2, columns=22)
CIRCULAR_ROW = CIRCULAR_CORNER | dict(tiles=4, first_column=0, columns=33, images=2)
GROUPS = {
    "whole": WHOLE, "row": ROW_OF_TILES, "corner": ZERO_CORNER, "circular corner": CIRCULAR_CORNER,
    "circular row": CIRCULAR_ROW,
}  # fmt: skip


@pytest.fixture(params=GROUPS)
def values(request):
    return GROUPS[request.param]


def group_of(kernels, values):
    group = kernels.SpectralGroup()
    for name, value in values.items():
        setattr(group, name, value)
    return group


def pairs_of(channels):
    return list(itertools.combinations_with_replacement(range(channels), 2))


def random_complex(shape, type_=np.complex64, seed=0):
    generator = np.random.default_rng(seed)
    return (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(type_)


def assert_close(result, expected, roundings=8):
    """Within `roundings` roundings of the largest element; NaN fails."""
    limit = roundings * np.finfo(result.dtype).eps * max(np.abs(expected).max(), 1e-30)
    assert np.abs(result - expected).max() <= limit


def pixels(features, ys, xs, circular):
    """(..., rows, columns) of the images, zero or periodic outside."""
    height, width = features.shape[-2:]
    found = features[..., ys[:, None] % height, xs[None, :] % width]
    inside = ((ys >= 0) & (ys < height))[:, None] & ((xs >= 0) & (xs < width))[None, :]
    return found if circular else np.where(inside, found, 0)


def expected_columns(features, v):
    """[image, channel, part, column, size_y]."""
    rows = np.arange(v["size_y"])
    columns = v["first_column"] + np.arange(v["columns"])
    found = pixels(features, v["y"] - v["margin_y"] + rows, columns, v["circular"])
    parts = []
    for core in range(v["parts_y"]):
        begin = core * v["margin_y"]
        end = v["rows"] + (2 - core) * v["margin_y"]
        parts.append(np.where(((rows >= begin) & (rows < end))[:, None], found, 0))
    return np.stack(parts, axis=2).swapaxes(-1, -2)


def expected_tiles(columns, v, begin, count):
    """[frequency, image, tile, part, channel, size_x] from [image, channel, part, column, frequency]."""
    tiles = []
    for tile in range(v["tiles"]):
        start = v["x"] + tile * v["core_x"]
        core_width = min(v["core_x"], v["width"] - start)
        q = np.arange(v["size_x"])
        x = start - v["margin_x"] + q - v["first_column"]
        if v["circular"] and v["columns"] == v["width"]:
            x = x % v["width"]
        parts = []
        for core in range(v["parts"]):
            inside = (q >= core * v["margin_x"]) & (q < core_width + (2 - core) * v["margin_x"])
            inside &= (x >= 0) & (x < v["columns"])
            source = columns[:, :, v["parts_y"] - 1 if core else 0, :, begin : begin + count]
            parts.append(np.where(inside[:, None], source[:, :, np.where(inside, x, 0)], 0))
        tiles.append(np.stack(parts, axis=1))
    return np.moveaxis(np.stack(tiles, axis=1), -1, 0)


def angles(v, frequencies, lags):
    return 2 * np.pi * (np.outer(frequencies, lags) % v["size_y"]) / v["size_y"]


@pytest.mark.parametrize("type_", COMPLEX)
@pytest.mark.parametrize("inverse", [False, True])
def test_waves(kernels, thread_order, inverse, type_):
    v = WHOLE | dict(lag_y=19)
    group = group_of(kernels, v)
    waves = np.full((v["size_y"] // 2 + 1, kernels.row_of_waves(19)), np.nan, type_)
    kernels.fill_waves(group, inverse, 0.5, waves)
    assert waves.shape[1] == 32
    expected = 0.5 * np.exp(1j * angles(v, np.arange(22), np.arange(32)))
    expected[:, 20:] = 0
    if inverse:  # all but the first and the middle frequency also stand for their conjugates
        expected[1:21] *= 2
    assert_close(waves, expected, 6)


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_columns_are_gathered(kernels, thread_order, values, layout):
    v = values
    features = np.random.default_rng(0).normal(size=(v["images"], v["channels"], v["height"], v["width"]))
    features = features.astype(np.float32)
    expected = expected_columns(features, v).reshape(-1, v["columns"], v["size_y"])
    stored, order = (features, (0, 1, 2, 3))
    if layout == "channels last":
        stored, order = np.ascontiguousarray(features.transpose(0, 2, 3, 1)), (0, 3, 1, 2)
    strides = [stored.strides[axis] // stored.itemsize for axis in order]
    # In two pieces, as the host entry may do it.
    for first, last in ((0, len(expected) // 2), (len(expected) // 2, len(expected))):
        columns = np.full((last - first, *expected.shape[1:]), np.nan, np.float32)
        kernels.gather_columns(group_of(kernels, v), stored, strides, first, columns)
        np.testing.assert_array_equal(columns, expected[first:last])


@pytest.mark.parametrize("convert", [np.float64, np.float16, to_bfloat16])
def test_columns_of_every_type(kernels, convert):
    v = ROW_OF_TILES | dict(images=1)
    features = convert(np.random.default_rng(0).normal(size=(1, 3, 37, 33)))
    numbers = from_bfloat16(features) if features.dtype == np.uint16 else features
    computing = np.float64 if features.dtype == np.float64 else np.float32
    columns = np.full((3, 33, 42), np.nan, computing)
    kernels.gather_columns(group_of(kernels, v), features, [3 * 37 * 33, 37 * 33, 33, 1], 0, columns)
    np.testing.assert_array_equal(columns, expected_columns(numbers, v).reshape(columns.shape))

    gradient = np.full_like(features, np.nan if features.dtype != np.uint16 else 0x7FFF)
    kernels.scatter_columns(group_of(kernels, v), columns, 0, 0.5, gradient)
    numbers = from_bfloat16(gradient) if features.dtype == np.uint16 else gradient
    np.testing.assert_array_equal(numbers[0], columns[:, :, :37].swapaxes(1, 2) * 0.5)


def test_columns_are_scattered(kernels, thread_order, values):
    """Only the group's own pixels are written."""
    v = values | dict(parts_y=1, parts=1)
    sequences = v["images"] * v["channels"]
    columns = np.random.default_rng(0).normal(size=(sequences, v["columns"], v["size_y"])).astype(np.float32)
    gradient = np.full((sequences, v["height"], v["width"]), np.nan, np.float32)
    half = sequences // 2
    for first, last in ((0, half), (half, sequences)):
        kernels.scatter_columns(group_of(kernels, v), columns[first:last], first, 2.0, gradient)
    last_x = min(v["width"], v["x"] + v["tiles"] * v["core_x"])
    shift = v["x"] - v["first_column"]
    expected = np.full_like(gradient, np.nan)
    own = columns[:, shift : shift + last_x - v["x"], v["margin_y"] : v["margin_y"] + v["rows"]]
    expected[:, v["y"] : v["y"] + v["rows"], v["x"] : last_x] = 2 * own.swapaxes(1, 2)
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("type_", COMPLEX)
def test_tiles_are_gathered_and_scattered(kernels, thread_order, values, type_):
    v = values
    frequencies, begin, count = v["size_y"] // 2 + 1, 2, 7
    columns = random_complex((v["images"], v["channels"], v["parts_y"], v["columns"], frequencies), type_)
    expected = expected_tiles(columns, v, begin, count)
    tiles = np.full(expected.shape, np.nan, type_)
    flat = columns.reshape(-1, v["columns"], frequencies)
    half = (len(flat) + 1) // 2
    kernels.gather_tiles(group_of(kernels, v), begin, flat[:half], flat[half:], tiles)
    np.testing.assert_array_equal(tiles, expected)

    v = values | dict(parts_y=1, parts=1)
    tiles = random_complex((count, v["images"], v["tiles"], v["channels"], v["size_x"]), type_)
    flat = np.full((v["images"] * v["channels"], v["columns"], frequencies), np.nan, type_)
    expected = flat.copy().reshape(v["images"], v["channels"], v["columns"], frequencies)
    for tile in range(v["tiles"]):
        start = v["x"] + tile * v["core_x"]
        width = min(v["core_x"], v["width"] - start)
        core = tiles[:, :, tile, :, v["margin_x"] : v["margin_x"] + width]
        start -= v["first_column"]
        expected[:, :, start : start + width, begin : begin + count] = np.moveaxis(core, 0, -1)
    half = (len(flat) + 1) // 2
    first, second = flat[:half].copy(), flat[half:].copy()
    kernels.scatter_tiles(group_of(kernels, v), begin, tiles, first, second)
    np.testing.assert_array_equal(np.concatenate([first, second]), expected.reshape(flat.shape))


# Around the squares of pairs and the maps and tiles held in registers, and around a warp's frequencies.
@pytest.mark.parametrize("type_", COMPLEX)
@pytest.mark.parametrize(
    ("channels", "tiles", "parts", "size_x", "images"),
    [(1, 1, 1, 1, 3), (4, 2, 2, 32, 1), (5, 7, 2, 33, 2), (9, 3, 1, 6, 1), (3, 13, 2, 4, 1)],
)
def test_products(kernels, thread_order, channels, tiles, parts, size_x, images, type_):
    v = WHOLE | dict(channels=channels, tiles=tiles, parts=parts, size_x=size_x, images=images)
    spectra = random_complex((2, images, tiles, parts, channels, size_x), type_)
    i, j = np.triu_indices(channels)
    halo, core = spectra[:, :, :, 0], spectra[:, :, :, parts - 1]
    pairs = np.full((2, images, len(i), size_x), np.nan, type_)
    kernels.pair_products(group_of(kernels, v), spectra, pairs)
    assert_close(pairs, (core[..., j, :] * halo[..., i, :].conj()).sum(axis=2), 4 + tiles)

    v["parts"] = 1
    halo = np.ascontiguousarray(halo)
    filters = np.zeros((2, images, channels, channels, size_x), np.complex128)
    filters[:, :, j, i] += pairs  # K_ab for b < a
    filters[:, :, i, j] += pairs.conj()
    result = np.full(halo.shape, np.nan, type_)
    kernels.gradient_products(group_of(kernels, v), pairs, halo, result)
    assert_close(result, np.einsum("fnabx,fntbx->fntax", filters, halo), 4 + channels)


# Lags up to and beyond a block of them, more lags than columns (a circular image), blocks of frequencies.
LAG_CASES = [(0, 0, 2, 1), (15, 3, 12, 5), (16, 20, 42, 17), (5, 7, 8, 3)]


@pytest.mark.parametrize("type_", COMPLEX)
@pytest.mark.parametrize(("lag_y", "lag_x", "size_x", "count"), LAG_CASES)
def test_lags(kernels, thread_order, lag_y, lag_x, size_x, count, type_):
    v = WHOLE | dict(lag_y=lag_y, lag_x=lag_x, size_x=size_x, images=2)
    group, real = group_of(kernels, v), REAL[type_]
    begin, lags_y, lags_x = 4, 2 * lag_y + 1, 2 * lag_x + 1
    t, s = np.arange(-lag_y, lag_y + 1), np.arange(-lag_x, lag_x + 1)
    waves = np.full((22, kernels.row_of_waves(lag_y)), np.nan, type_)
    kernels.fill_waves(group, False, 1.0, waves)
    waves_of_lags = np.exp(1j * angles(v, begin + np.arange(count), t))

    pairs = random_complex((count, 2, 6, size_x), type_)
    expected = np.einsum("fnpx,ft->nptx", pairs, waves_of_lags).real[..., s % size_x]
    window = np.full((2, 6, lags_y, lags_x), np.nan, real)
    kernels.pairs_to_lags(group, begin, pairs, waves, True, window)
    assert_close(window, expected, 8 + count)
    kernels.pairs_to_lags(group, begin, pairs, waves, False, window)
    assert_close(window, 2 * expected, 8 + count)

    expected = np.zeros((count, 2, 6, size_x), np.complex128)
    for place, column in zip(
        s % size_x, np.einsum("npts,ft->sfnp", window, waves_of_lags.conj()), strict=True
    ):
        expected[..., place] += column
    pairs[:] = np.nan
    kernels.lags_to_pairs(group, begin, window, waves, pairs)
    assert_close(pairs, expected, 8 + lags_y)


@pytest.mark.parametrize("convert", [np.float16, to_bfloat16])
def test_lags_of_every_type(kernels, convert):
    v = WHOLE | dict(images=1)
    group = group_of(kernels, v)
    window = convert(np.random.default_rng(0).normal(size=(1, 6, 9, 5)))
    numbers = (from_bfloat16(window) if window.dtype == np.uint16 else window).astype(np.float32)
    waves = np.full((22, kernels.row_of_waves(4)), np.nan, np.complex64)
    kernels.fill_waves(group, False, 1.0, waves)
    results = [np.full((3, 1, 6, 36), np.nan, np.complex64) for _ in range(2)]
    for values, result in zip((window, numbers), results, strict=True):
        kernels.lags_to_pairs(group, 1, values, waves, result)
    np.testing.assert_array_equal(*results)


def correlation(features, lag_y, lag_x, circular):
    """The formula."""
    ys, xs = np.arange(features.shape[1]), np.arange(features.shape[2])
    result = np.empty((len(pairs_of(len(features))), 2 * lag_y + 1, 2 * lag_x + 1))
    for t, s in itertools.product(range(-lag_y, lag_y + 1), range(-lag_x, lag_x + 1)):
        moved = pixels(features, ys - t, xs - s, circular)
        for pair, (i, j) in enumerate(pairs_of(len(features))):
            result[pair, lag_y + t, lag_x + s] = (moved[i] * features[j]).sum()
    return result


@pytest.mark.parametrize("circular", [False, True])
def test_all_kernels_in_sequence_give_the_formula(kernels, circular):
    """Two strips, one group of tiles each, blocks of frequencies; the gradient is that of a weighted sum."""
    v = WHOLE | dict(
        channels=2, height=13, width=19, circular=circular, lag_y=3, lag_x=4, size_y=14, size_x=16,
        margin_y=3, margin_x=4, core_x=7, images=1, tiles=3, columns=19,
    )  # fmt: skip
    generator = np.random.default_rng(0)
    features = generator.normal(size=(2, 13, 19))
    weights = generator.normal(size=(3, 7, 9))
    scale = 1 / (14 * 16)
    window, gradient = np.full((3, 7, 9), np.nan), np.full((2, 13, 19), np.nan)
    waves = np.full((8, 16), np.nan, np.complex128)

    def transformed_columns():
        columns = np.full((2 * v["parts_y"], 19, 14), np.nan)
        kernels.gather_columns(group, features, [2 * 13 * 19, 13 * 19, 19, 1], 0, columns)
        return np.fft.rfft(columns)

    def transformed_tiles(columns, begin, count):
        tiles = np.full((count, 1, 3, v["parts"], 2, 16), np.nan, np.complex128)
        kernels.gather_tiles(group, begin, columns, columns, tiles)
        return np.fft.fft(tiles)

    for y, rows in ((0, 8), (8, 5)):
        v |= dict(y=y, rows=rows, parts_y=2, parts=2)
        group = group_of(kernels, v)
        kernels.fill_waves(group, True, scale, waves)
        columns = transformed_columns()
        for begin, count in ((0, 5), (5, 3)):
            pairs = np.full((count, 1, 3, 16), np.nan, np.complex128)
            kernels.pair_products(group, transformed_tiles(columns, begin, count), pairs)
            lags = np.fft.ifft(pairs, norm="forward")
            kernels.pairs_to_lags(group, begin, lags, waves, y == begin == 0, window)

        v |= dict(parts_y=1, parts=1)
        group = group_of(kernels, v)
        kernels.fill_waves(group, False, 1.0, waves)
        columns = transformed_columns()
        for begin, count in ((0, 5), (5, 3)):
            pairs = np.full((count, 1, 3, 16), np.nan, np.complex128)
            kernels.lags_to_pairs(group, begin, weights, waves, pairs)
            tiles = transformed_tiles(columns, begin, count)
            products = np.full_like(tiles, np.nan)
            kernels.gradient_products(group, np.fft.fft(pairs), tiles, products)
            kernels.scatter_tiles(group, begin, np.fft.ifft(products, norm="forward"), columns, columns)
        rows_of_gradient = np.fft.irfft(columns, 14, norm="forward")
        kernels.scatter_columns(group, rows_of_gradient, 0, scale, gradient)

    np.testing.assert_allclose(window, correlation(features, 3, 4, circular), rtol=0, atol=1e-11)
    # The correlation is quadratic, so its central difference is exact.
    direction = generator.normal(size=features.shape)
    plus, minus = (correlation(features + sign * direction, 3, 4, circular) for sign in (1, -1))
    np.testing.assert_allclose((gradient * direction).sum(), ((plus - minus) / 2 * weights).sum(), rtol=1e-12)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("circular", [False, True])
def test_the_plan_needs_little_memory_whatever_the_size_of_the_image(kernels, gradient, circular):
    for shape, lag in [
        ((1, 32, 768, 1024), 42), ((1, 32, 4000, 6000), 42), ((64, 32, 128, 128), 8), ((1, 1, 1, 1), 0),
        ((1, 2, 20000, 30000), 100), ((1, 32, 767, 1023), 42), ((2, 64, 2000, 3000), 20),
        ((1, 1, 100000, 3), 2),
    ]:  # fmt: skip
        height, width = shape[2:]
        lag_y, lag_x = min(lag, height - 1), min(lag, width - 1)
        plan = kernels.plan_spectral(shape, lag_y, lag_x, circular, gradient, 170e6)
        assert 0 < plan["peak_bytes"] <= 170e6
        assert 0 < plan["seconds"] < 60
        for size, core, whole, extent, lag_ in (
            (plan["size_y"], plan["core_y"], plan["whole_y"], height, lag_y),
            (plan["size_x"], plan["core_x"], plan["whole_x"], width, lag_x),
        ):
            needed = core + 2 * lag_ if not whole else core if circular else core + lag_
            assert size >= needed
            assert size % 2 == 0
            assert 1 <= core <= extent
            assert not whole or core == extent
            assert not (whole and circular) or size == extent
    # A tenth of what the spectra of all pairs of the whole image take.
    plan = kernels.plan_spectral((1, 32, 768, 1024), 42, 42, circular, gradient, 170e6)
    assert plan["peak_bytes"] < 0.1 * 528 * 768 * 513 * 8 * 1.03
