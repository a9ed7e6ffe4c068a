"""sum f_i(y - t, x - s) f_j(y, x), both methods, forward and backward, against the formula in float64."""

import functools
import importlib
from collections.abc import Callable

import pytest
import torch
from accuracy import assert_as_accurate
from torch import Tensor

from asnet.errors import AsnetError, InputError
from asnet.ops import append_flipped_pairs, cross_correlation, reference

METHODS = ("direct", "spectral")
BOUNDARIES = ("zero", "circular")
# (N, C, H, W), max_lag: odd sizes around registers and tiles, single maps, pixels and lags, lags as large as
# the image and larger, channel counts around the blocks of pairs.
CASES = [
    ((1, 1, 1, 1), 0), ((2, 3, 1, 1), 2), ((2, 3, 5, 7), (2, 3)), ((1, 1, 16, 16), 0), ((3, 2, 17, 15), 1),
    ((1, 4, 33, 31), (0, 4)),
    ((1, 5, 20, 21), (3, 0)), ((2, 2, 9, 9), 8), ((1, 3, 6, 8), (9, 3)), ((1, 2, 5, 4), (3, 13)),
    ((1, 13, 12, 40), 2), ((1, 2, 40, 130), (2, 3)),
]  # fmt: skip


def whole_image(features: Tensor, lag: tuple[int, int], boundary: str) -> Tensor:
    """The same through one Fourier transform of the whole image: fast enough for larger cases."""
    H, W = features.shape[2:]
    size = (H, W) if boundary == "circular" else (H + lag[0], W + lag[1])
    i, j = torch.triu_indices(features.shape[1], features.shape[1], device=features.device)
    spectra = torch.fft.rfft2(features, s=size)
    correlation = torch.fft.irfft2(spectra[:, j] * spectra[:, i].conj(), s=size)
    rows, columns = (
        torch.arange(-r, r + 1, device=features.device) % n for r, n in zip(lag, size, strict=True)
    )
    return correlation[:, :, rows][:, :, :, columns]


def error(result: Tensor, exact: Tensor) -> float:
    return float((result.double() - exact).abs().max()) if exact.numel() else 0.0


def result_and_gradient(
    function: Callable[..., Tensor], features: Tensor, dtype: torch.dtype, computing: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Result and gradient of its weighted sum; features and weights are rounded to `dtype` first."""
    leaf = features.to(dtype).to(computing).requires_grad_()
    result = function(leaf)
    weights = torch.linspace(-1, 1, result.numel(), dtype=torch.float64, device=features.device)
    result.backward(weights.reshape(result.shape).sin().to(dtype).to(computing))
    assert leaf.grad is not None
    return result.detach(), leaf.grad


def random_features(shape: tuple[int, ...], device: torch.device) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(shape, dtype=torch.float64, device=device)


@functools.cache
def by_formula(
    device: torch.device,
    shape: tuple[int, ...],
    max_lag: int | tuple[int, int],
    boundary: str,
    dtype: torch.dtype,
    computing: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """`result_and_gradient` of the formula, shared by the tests of both methods."""
    formula = functools.partial(reference.cross_correlation, max_lag=max_lag, boundary=boundary)
    return result_and_gradient(formula, random_features(shape, device), dtype, computing)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "max_lag"), CASES)
@pytest.mark.usefixtures("poisoned")
def test_result_and_gradient_are_those_of_the_formula(device, shape, max_lag, dtype, method, boundary):
    operator = functools.partial(cross_correlation, max_lag=max_lag, boundary=boundary, method=method)
    ours = result_and_gradient(operator, random_features(shape, device), dtype, dtype)
    eager, exact = (
        by_formula(device, shape, max_lag, boundary, dtype, type_) for type_ in (dtype, torch.float64)
    )
    results, gradients = zip(ours, eager, exact, strict=True)
    lag_y, lag_x = (max_lag, max_lag) if isinstance(max_lag, int) else max_lag
    assert results[0].shape == (shape[0], shape[1] * (shape[1] + 1) // 2, 2 * lag_y + 1, 2 * lag_x + 1)
    assert results[0].dtype == gradients[0].dtype == dtype
    assert_as_accurate(*results)
    assert_as_accurate(*gradients)


# Sizes that take several strips of rows, several tiles of columns, last ones of odd size.
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(
    ("shape", "lag"),
    [((1, 7, 37, 300), (3, 11)), ((1, 3, 1100, 40), (6, 5)), ((2, 2, 2077, 66), (40, 9)),
     ((1, 3, 30, 3001), (8, 10)), ((1, 5, 40, 50), (39, 49))],
)  # fmt: skip
@pytest.mark.usefixtures("poisoned")
def test_strips_and_tiles_join_without_seams(device, shape, lag, boundary):
    torch.manual_seed(0)
    features = torch.randn(shape, device=device)
    leaves = [features.to(dtype).detach() for dtype in (torch.float32, torch.float32, torch.float64)]
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    results = [
        cross_correlation(leaves[0], lag, boundary=boundary, method="spectral"),
        whole_image(leaves[1], lag, boundary),
        whole_image(leaves[2], lag, boundary),
    ]
    weights = torch.randn(results[0].shape, device=device)
    for result in results:
        result.backward(weights.to(result.dtype))
    assert_as_accurate(*(result.detach() for result in results))
    assert_as_accurate(*(leaf.grad for leaf in leaves))


def test_groups_of_tiles_join_without_seams(device):
    """So wide that the spectra of all columns would exceed the memory limit; direct sums have no tiles."""
    torch.manual_seed(0)
    features = torch.randn(1, 2, 1000, 17000, device=device, requires_grad=True)
    outcomes = []
    for method in METHODS:
        result = cross_correlation(features, (2, 3), method=method)
        weights = torch.linspace(-1, 1, result.numel(), device=device).reshape(result.shape)
        outcomes.append((result.detach(), *torch.autograd.grad(result, features, weights)))
    for direct, spectral in zip(*outcomes, strict=True):
        assert error(spectral, direct.double()) < 1e-5 * float(direct.abs().max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_gradcheck(device, method, boundary):
    features = torch.randn(2, 3, 6, 7, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: cross_correlation(x, (2, 9), boundary=boundary, method=method), features, fast_mode=True
    )


@pytest.mark.parametrize(
    ("dtype", "method"),
    [
        (torch.float32, "auto"),
        (torch.bfloat16, "auto"),
        (torch.float32, "direct"),
        (torch.bfloat16, "spectral"),
    ],
)
def test_opcheck(device, dtype, method):
    """One full check of both operators; otherwise only schema and fake tensors, which take less time."""
    full = (dtype, method) == (torch.float32, "auto")
    options = {} if full else {"test_utils": ("test_schema", "test_faketensor")}
    operators = torch.ops.asnet
    features = torch.randn(2, 3, 9, 8, device=device).to(dtype)
    grad = torch.randn(2, 6, 7, 5, device=device).to(dtype)
    arguments = (grad, features.clone(), 3, 2, False, method)
    torch.library.opcheck(operators.cross_correlation_backward.default, arguments, **options)
    inputs = (features.requires_grad_(), 3, 2, True, method)
    torch.library.opcheck(operators.cross_correlation.default, inputs, **options)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
def test_low_precision_is_summed_in_float32(device, dtype, method):
    """The result is the float32 result of the rounded features, rounded once."""
    torch.manual_seed(0)
    features = torch.rand(2, 3, 40, 50, device=device).to(dtype)
    result = cross_correlation(features, 3, method=method)
    assert result.dtype == dtype
    exact = reference.cross_correlation(features.double(), 3)
    assert error(result, exact) <= torch.finfo(dtype).eps * float(exact.max())
    leaf = features.clone().requires_grad_()
    cross_correlation(leaf, 3, method=method).backward(torch.ones_like(result))
    assert leaf.grad is not None
    assert leaf.grad.dtype == dtype


def test_autocast_computes_in_float32(device):
    features = torch.rand(1, 2, 200, 200, device=device) * 10
    with torch.autocast(device.type, torch.float16):
        result = cross_correlation(features.half(), 2)
    assert result.dtype == torch.float32
    assert result.max() > torch.finfo(torch.float16).max


def test_strides_of_the_input_do_not_matter(device):
    features = torch.randn(2, 8, 20, 24, device=device)
    sliced = torch.randn(2, 8, 45, 30, device=device)[:, ::2, 1:41:2, 3:27]
    for strided in (
        features.to(memory_format=torch.channels_last),
        features.transpose(2, 3),
        sliced,
        features[:1].expand(3, -1, -1, -1),
    ):
        for method in METHODS:
            expected = cross_correlation(strided.contiguous(), (2, 3), method=method)
            assert torch.equal(cross_correlation(strided, (2, 3), method=method), expected)


@pytest.mark.parametrize("method", METHODS)
def test_bits_do_not_depend_on_the_number_of_threads(method):
    features = torch.randn(1, 5, 60, 70, requires_grad=True)
    threads = torch.get_num_threads()
    outcomes = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            result = cross_correlation(features, 4, method=method)
            (gradient,) = torch.autograd.grad(result.sin().sum(), features)
            outcomes.append((result, gradient))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, two) for one, two in zip(*outcomes, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_empty_batch(device, method):
    features = torch.empty(0, 3, 8, 9, device=device, requires_grad=True)
    result = cross_correlation(features, (2, 20), method=method)
    assert result.shape == (0, 6, 5, 41)
    result.sum().backward()
    assert features.grad is not None
    assert features.grad.shape == features.shape


def test_infinite_and_nan_pixels_are_not_hidden(device):
    for value in (float("nan"), float("inf")):
        features = torch.ones(1, 2, 8, 8, device=device)
        features[0, 0, 3, 3] = value
        for method in METHODS:
            result = cross_correlation(features, 1, method=method)
            assert not result[0, :2].isfinite().any()


def test_flipped_pairs_are_the_correlations_of_the_reversed_pairs():
    features = torch.randn(2, 4, 15, 17, dtype=torch.float64)
    both = append_flipped_pairs(cross_correlation(features, 3))
    reversed_maps = cross_correlation(features.flip(1), 3)
    i, j = torch.triu_indices(4, 4)
    position = {(int(a), int(b)): p for p, (a, b) in enumerate(zip(i, j, strict=True))}
    for (a, b), p in position.items():
        # Maps in reverse order: the pair (3 - b, 3 - a) there is the pair (b, a) here.
        assert torch.allclose(both[:, len(i) + p], reversed_maps[:, position[3 - b, 3 - a]], atol=1e-10)


def test_devices_without_a_kernel_get_the_same_result(monkeypatch):
    # As an attribute of the package, the name is that of the function.
    module = importlib.import_module("asnet.ops.cross_correlation")
    features = torch.randn(2, 3, 9, 11, dtype=torch.float64)
    for boundary in BOUNDARIES:
        expected = cross_correlation(features, (3, 12), boundary=boundary)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_DEVICES_WITH_KERNEL", frozenset())
            assert torch.allclose(
                cross_correlation(features, (3, 12), boundary=boundary), expected, atol=1e-10
            )


def test_second_derivative_is_refused_by_name():
    features = torch.randn(1, 2, 6, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(cross_correlation(features, 1).sum(), features, create_graph=True)
    with pytest.raises(AsnetError, match="cross_correlation has no double backward"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((torch.ones(3, 4, 5), 1), {}, r"got the shape \(3, 4, 5\)"),
        ((torch.ones(1, 0, 4, 5), 1), {}, r"at least 1, got the shape \(1, 0, 4, 5\)"),
        ((torch.ones(1, 1, 4, 5, dtype=torch.int32), 1), {}, r"got torch\.int32"),
        ((torch.ones(1, 1, 4, 5), -1), {}, "got -1"),
        ((torch.ones(1, 1, 4, 5), (1, 2, 3)), {}, r"got \(1, 2, 3\)"),
        ((torch.ones(1, 1, 4, 5), 1.5), {}, r"got 1\.5"),
        ((torch.ones(1, 1, 4, 5), 1), {"boundary": "mirror"}, "got 'mirror'"),
        ((torch.ones(1, 1, 4, 5), 1), {"method": "fast"}, "got 'fast'"),
    ],
)
def test_unusable_arguments_are_named(arguments, options, words):
    with pytest.raises(InputError, match=words):
        cross_correlation(*arguments, **options)


def test_the_operator_itself_prints_the_values_it_refuses():
    with pytest.raises(
        RuntimeError, match="largest lags are 4 and 1, expected less than the height 4 and the width 5"
    ):
        torch.ops.asnet.cross_correlation(torch.ones(1, 1, 4, 5), 4, 1, False, "auto")
