"""Conjugate gradients on Toeplitz matrices against the same steps with the whole matrix in float64."""

import functools
import sys

import pytest
import torch
from accuracy import assert_as_accurate
from torch import Tensor

from asnet.errors import AsnetError, InputError
from asnet.ops import reference, toeplitz_solve

# Sides around registers and pairs of them, odd and even; on CUDA the last takes a launch for each step.
SIDES = [1, 2, 3, 5, 8, 9, 15, 16, 17, 31, 33, 45]


def problem(count: int, side: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Autocorrelations, right sides and supports, of the sizes that they have for blur kernels."""
    random = torch.Generator().manual_seed(side)
    signal = torch.randn(count, 40, 45, generator=random, dtype=torch.float64)
    lengths = (40 + 2 * side, 45 + 2 * side)
    spectrum = torch.fft.rfft2(signal, s=lengths).abs().square()
    lags = torch.fft.irfft2(spectrum, s=lengths).roll((side - 1, side - 1), (1, 2))
    lags = lags[:, : 2 * side - 1, : 2 * side - 1]
    kernel = torch.rand(count, side, side, generator=random, dtype=torch.float64) ** 4
    right = kernel / kernel.sum((1, 2), keepdim=True) * lags[:, side - 1, side - 1, None, None]
    support = torch.rand(count, side, side, generator=random) < 0.7
    return lags.to(dtype), right.to(dtype), support


@functools.cache
def by_formula(
    device: torch.device, side: int, dtype: torch.dtype, supported: bool, computing: torch.dtype
) -> Tensor:
    """The systems of `problem` solved with the whole matrix, shared by the tests of both paths."""
    lags, right, support = (tensor.to(device) for tensor in problem(2, side, dtype))
    return reference.toeplitz_solve(
        lags.to(computing), right.to(computing), 50.0, 6, support if supported else None
    )


@pytest.fixture(params=["kernel", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The implementation: the kernel, or its replacement on devices that have none."""
    if request.param == "torch":
        module = sys.modules[toeplitz_solve.__module__]
        monkeypatch.setattr(module, "_DEVICES_WITH_KERNEL", frozenset())
    return request.param


@pytest.mark.parametrize("supported", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.usefixtures("poisoned", "path")
def test_result_is_that_of_the_formula(device, side, dtype, supported):
    lags, right, support = (tensor.to(device) for tensor in problem(2, side, dtype))
    given = support if supported else None
    result = toeplitz_solve(lags, right, 50.0, 6, given)
    assert result.dtype == dtype
    eager, exact = (by_formula(device, side, dtype, supported, type_) for type_ in (dtype, torch.float64))
    assert_as_accurate(result, eager, exact)
    if supported:
        assert (result[~support] == 0).all()


@pytest.mark.usefixtures("path")
def test_many_steps_solve_the_system():
    lags, right, _ = problem(1, 7)
    positions = torch.cartesian_prod(torch.arange(7), torch.arange(7))
    down, across = (positions[:, None] - positions[None] + 6).unbind(2)
    matrix = lags[0, down, across] + 20.0 * torch.eye(49, dtype=torch.float64)
    exact = torch.linalg.solve(matrix, right.flatten()).view(1, 7, 7)
    torch.testing.assert_close(toeplitz_solve(lags, right, 20.0, 200), exact)


@pytest.mark.usefixtures("path")
def test_nothing_to_solve_gives_zeros_and_no_nan():
    lags, right, support = problem(2, 5, torch.float32)
    nothing = torch.zeros_like(right)
    assert (toeplitz_solve(torch.zeros_like(lags), nothing, 1.0, 9) == 0).all()
    assert (toeplitz_solve(lags, right, 1.0, 9, torch.zeros_like(support)) == 0).all()


@pytest.mark.usefixtures("path")
def test_without_steps_it_is_the_constant_kernel():
    lags, right, support = problem(2, 5)
    expected = support / support.sum((1, 2), keepdim=True)
    torch.testing.assert_close(toeplitz_solve(lags, right, 1.0, 0, support), expected, check_dtype=False)


def test_strides_and_the_batch_make_no_difference():
    lags, right, support = problem(3, 9, torch.float32)
    expected = toeplitz_solve(lags, right, 2.0, 5, support)
    transposed = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (lags, right, support)]
    assert torch.equal(toeplitz_solve(*transposed[:2], 2.0, 5, transposed[2]), expected)
    single = toeplitz_solve(lags[1:2], right[1:2], 2.0, 5, support[1:2])
    assert torch.equal(single, expected[1:2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype):
    lags, right, support = problem(2, 5, dtype)
    for given in (support, None):
        torch.library.opcheck(
            torch.ops.asnet.toeplitz_solve.default,
            (lags, right, given, 2.0, 3),
            test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
        )


def test_empty_batch():
    assert toeplitz_solve(torch.empty(0, 5, 5), torch.empty(0, 3, 3), 1.0, 2).shape == (0, 3, 3)


def test_a_derivative_is_refused_by_name():
    lags, right, _ = problem(1, 3)
    with pytest.raises(AsnetError, match="asnet::toeplitz_solve is inference-only"):
        toeplitz_solve(lags, right.requires_grad_(), 1.0, 2).sum().backward()


@pytest.mark.parametrize(
    ("lags", "right", "weight", "steps", "words"),
    [
        ((1, 5, 5), (1, 3, 3), -1.0, 2, "weight must be at least 0, got -1.0"),
        ((1, 5, 5), (1, 3, 3), 1.0, -2, "steps must be at least 0, got -2"),
        ((1, 5, 5), (1, 3, 4), 1.0, 2, r"got \(1, 5, 5\) and \(1, 3, 4\)"),
        ((1, 6, 5), (1, 3, 3), 1.0, 2, r"got \(1, 6, 5\) and \(1, 3, 3\)"),
        ((2, 5, 5), (1, 3, 3), 1.0, 2, r"got \(2, 5, 5\) and \(1, 3, 3\)"),
    ],
)
def test_unusable_arguments_are_named(lags, right, weight, steps, words):
    with pytest.raises(InputError, match=words):
        toeplitz_solve(torch.ones(lags), torch.ones(right), weight, steps)


@pytest.mark.parametrize(
    ("lags", "right", "support", "steps", "words"),
    [
        (torch.ones(1, 5, 5), torch.ones(1, 3, 3).half(), None, 1, "expected float32 or float64"),
        (torch.ones(1, 5, 5).double(), torch.ones(1, 3, 3), None, 1, "the dtype of right"),
        (torch.ones(1, 5, 5), torch.ones(3, 3), None, 1, r"right must have the shape \(N, s, s\)"),
        (torch.ones(1, 5, 6), torch.ones(1, 3, 3), None, 1, r"the shape \(1, 5, 5\)"),
        (torch.ones(1, 5, 5), torch.ones(1, 3, 3), torch.ones(1, 3, 3), 1, "support must have dtype bool"),
        (torch.ones(1, 5, 5), torch.ones(1, 3, 3), None, -1, "steps is -1, expected at least 0"),
    ],
)
def test_the_operator_prints_what_it_refuses(lags, right, support, steps, words):
    with pytest.raises(RuntimeError, match=words):
        torch.ops.asnet.toeplitz_solve(lags, right, support, 1.0, steps)
