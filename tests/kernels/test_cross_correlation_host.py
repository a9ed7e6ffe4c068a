"""The host entries of the CUDA cross-correlation, run on the CPU, against the formula."""

import functools

import pytest
import torch
from accuracy import assert_as_accurate
from torch import Tensor

from asnet.ops import reference

METHODS = ("direct", "spectral")
BOUNDARIES = ("zero", "circular")
# (N, C, H, W), (R_y, R_x): odd sizes, single maps, pixels and lags, the largest lags that the entries take,
# channel counts around the blocks of pairs, several tiles.
CASES = [
    ((1, 1, 1, 1), (0, 0)), ((2, 3, 5, 7), (2, 3)), ((3, 2, 17, 15), (1, 1)), ((1, 4, 33, 31), (0, 4)),
    ((1, 5, 20, 21), (3, 0)), ((2, 2, 9, 9), (8, 8)), ((1, 9, 12, 20), (2, 2)), ((1, 2, 40, 70), (2, 3)),
]  # fmt: skip


def weights_of(result: Tensor) -> Tensor:
    return torch.linspace(-1, 1, result.numel(), dtype=torch.float64).reshape(result.shape).sin()


def by_formula(features: Tensor, lag, boundary) -> tuple[Tensor, Tensor]:
    """Result and gradient of its weighted sum."""
    leaf = features.detach().requires_grad_()
    result = reference.cross_correlation(leaf, lag, boundary=boundary)
    result.backward(weights_of(result).to(result.dtype))
    assert leaf.grad is not None
    return result.detach(), leaf.grad


@pytest.fixture
def correlate(cuda_operators):
    """Result and gradient by the operators."""

    def run(features, lag, boundary="zero", method="auto"):
        options = (*lag, boundary == "circular", method)
        result = cuda_operators.cross_correlation(features, *options)
        weights = weights_of(result).to(features.dtype)
        return result, cuda_operators.cross_correlation_backward(weights, features, *options)

    return run


@functools.cache
def expected(shape, lag, boundary, dtype) -> list[tuple[Tensor, Tensor]]:
    """By the formula in `dtype` and in float64, shared by the tests of all methods."""
    torch.manual_seed(0)
    features = torch.randn(shape).to(dtype)
    return [by_formula(features, lag, boundary), by_formula(features.double(), lag, boundary)]


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "lag"), CASES)
@pytest.mark.usefixtures("poisoned")
def test_result_and_gradient_are_those_of_the_formula(correlate, shape, lag, dtype, method, boundary):
    torch.manual_seed(0)
    features = torch.randn(shape).to(dtype)
    computed = correlate(features, lag, boundary, method)
    eager, exact = expected(shape, lag, boundary, dtype)
    for result, in_dtype, truth in zip(computed, eager, exact, strict=True):
        assert result.dtype == dtype
        assert_as_accurate(result, in_dtype, truth)


# Groups of tiles with columns in two pieces, several strips, groups of images; blocks of frequencies.
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(
    ("shape", "lag"), [((1, 2, 150, 121), (9, 4)), ((1, 3, 37, 151), (3, 11)), ((25, 1, 9, 10), (1, 2))]
)
@pytest.mark.usefixtures("poisoned")
def test_groups_and_blocks_join_without_seams(kernels, correlate, shape, lag, boundary):
    for gradient in (False, True):
        limit = kernels.most_spectral_bytes
        plan = kernels.plan_spectral(shape, *lag, boundary == "circular", gradient, limit)
        assert plan["peak_bytes"] <= limit
        if shape[0] == 1:
            assert plan["tiles"] * plan["core_x"] < shape[3] or plan["core_y"] < shape[2]
            assert plan["frequencies"] < plan["size_y"] // 2 + 1
        else:
            assert 1 < plan["images"] < shape[0]
    torch.manual_seed(0)
    features = torch.randn(shape)
    computed = correlate(features, lag, boundary, "spectral")
    in_dtype, exact = by_formula(features, lag, boundary), by_formula(features.double(), lag, boundary)
    for result, eager, truth in zip(computed, in_dtype, exact, strict=True):
        assert_as_accurate(result, eager, truth)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
def test_low_precision_is_summed_in_float32(correlate, dtype, method):
    """The result is the float32 result of the rounded features, rounded once."""
    torch.manual_seed(0)
    features = torch.rand(2, 3, 30, 41).to(dtype)
    exact = by_formula(features.double(), (3, 2), "zero")
    for result, truth in zip(correlate(features, (3, 2), method=method), exact, strict=True):
        assert result.dtype == dtype
        # The gradient's weights are rounded too.
        error = (result.double() - truth).abs().max()
        assert error <= 2 * torch.finfo(dtype).eps * truth.abs().max()


@pytest.mark.parametrize("method", METHODS)
def test_strides_of_the_input_do_not_matter(correlate, method):
    torch.manual_seed(0)
    features = torch.randn(2, 4, 12, 15)
    sliced = torch.randn(2, 8, 29, 30)[:, ::2, 1:25:2, 3:27]
    for strided in (
        features.to(memory_format=torch.channels_last), features.transpose(2, 3), sliced,
        features[:1].expand(3, -1, -1, -1),
    ):  # fmt: skip
        expected = correlate(strided.contiguous(), (2, 3), method=method)
        for result, same in zip(correlate(strided, (2, 3), method=method), expected, strict=True):
            assert torch.equal(result, same)


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_of_any_strides_and_dtype(cuda_operators, method):
    features = torch.randn(1, 3, 9, 8)
    weights = torch.randn(1, 6, 5, 7).double()
    options = (2, 3, False, method)
    expected = cuda_operators.cross_correlation_backward(weights.float(), features, *options)
    expanded = weights.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(cuda_operators.cross_correlation_backward(expanded, features, *options), expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_repetition_gives_the_same_bits(correlate, method, dtype):
    features = torch.randn(2, 5, 40, 33).to(dtype)
    first, second = (correlate(features, (4, 5), method=method) for _ in range(2))
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def test_the_automatic_method_sums_directly_over_few_lags_and_by_transforms_over_many(correlate):
    features = torch.randn(1, 8, 64, 64)
    for lag, method in (((1, 1), "direct"), ((50, 50), "spectral")):
        expected = correlate(features, lag, "circular", method)
        for result, same in zip(correlate(features, lag, "circular"), expected, strict=True):
            assert torch.equal(result, same)


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_empty_batch(correlate, method):
    features = torch.empty(0, 3, 8, 9)
    result, gradient = correlate(features, (2, 8), method=method)
    assert result.shape == (0, 6, 5, 17)
    assert gradient.shape == features.shape


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_infinite_and_missing_pixels_are_not_hidden(correlate, method, value):
    features = torch.ones(1, 2, 8, 8)
    features[0, 0, 3, 3] = value
    result, _ = correlate(features, (1, 1), method=method)
    assert not result[0, :2].isfinite().any()


@pytest.mark.parametrize(
    ("features", "options", "words"),
    [
        (torch.ones(3, 4, 5), (1, 1), "features has 3 dimensions, expected 4"),
        (torch.ones(1, 1, 4, 5, dtype=torch.int32), (1, 1), "features has dtype Int"),
        (torch.ones(1, 0, 4, 5), (1, 1), "features has 0 maps of 4 x 5"),
        (torch.ones(1, 1, 4, 5), (-1, 1), "largest lags are -1 and 1, expected 0 or more"),
        (torch.ones(1, 1, 4, 5), (4, 1), "4 and 1, expected less than the height 4 and the width 5"),
        (torch.ones(1, 1, 4, 5), (1, 1, False, "fast"), "method is 'fast', expected auto"),
    ],
)  # fmt: skip
def test_refused_values_are_printed(cuda_operators, features, options, words):
    options = (*options, False, "auto") if len(options) == 2 else options
    with pytest.raises(RuntimeError, match=words):
        cuda_operators.cross_correlation(features, *options)


def test_a_gradient_of_another_shape_is_refused(cuda_operators):
    with pytest.raises(RuntimeError, match=r"shape of the correlation, \(1, 3, 5, 7\)"):
        cuda_operators.cross_correlation_backward(
            torch.ones(1, 3, 5, 5), torch.ones(1, 2, 9, 9), 2, 3, False, "auto"
        )
