"""The host entry of Toeplitz systems for CUDA, run on the CPU, against the operator for the CPU."""

import pytest
import torch
from host_entries import assert_like_cpu
from torch import Tensor

LIKE_CPU = pytest.mark.usefixtures("cuda_operators", "poisoned")
each_type = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
# The last takes a launch for each step.
SIDES = [1, 2, 7, 8, 9, 17, 43]


def problem(count: int, side: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Autocorrelations, right sides, supports."""
    random = torch.Generator().manual_seed(side)
    signal = torch.randn(count, 20, 25, generator=random, dtype=torch.float64)
    lengths = (20 + 2 * side, 25 + 2 * side)
    lags = torch.fft.irfft2(torch.fft.rfft2(signal, s=lengths).abs().square(), s=lengths)
    lags = lags.roll((side - 1, side - 1), (1, 2))[:, : 2 * side - 1, : 2 * side - 1]
    right = 400 * torch.rand(count, side, side, generator=random, dtype=torch.float64)
    support = torch.rand(count, side, side, generator=random) < 0.7
    return lags.to(dtype), right.to(dtype), support


@LIKE_CPU
@each_type
@pytest.mark.parametrize("supported", [False, True])
@pytest.mark.parametrize("side", SIDES)
def test_systems(side, dtype, supported) -> None:
    lags, right, support = problem(2, side, dtype)
    assert_like_cpu("toeplitz_solve", [lags, right, support if supported else None, 50.0, 3])


@LIKE_CPU
@each_type
@pytest.mark.parametrize("side", [9, 43])
def test_strides(side, dtype) -> None:
    lags, right, support = problem(2, side, dtype)
    transposed = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (lags, right, support)]
    assert_like_cpu("toeplitz_solve", [*transposed, 50.0, 3], same_strides=False)
    wide = [torch.zeros(2, 5, t.shape[1], 3 * t.shape[2], dtype=t.dtype) for t in (lags, right, support)]
    sliced = [t[:, 1, :, 1::3] for t in wide]
    for view, values in zip(sliced, (lags, right, support), strict=True):
        view.copy_(values)
    assert_like_cpu("toeplitz_solve", [*sliced, 50.0, 3], same_strides=False)
    every = [t[:1].expand(3, -1, -1) for t in (lags, right, support)]
    assert_like_cpu("toeplitz_solve", [*every, 50.0, 3], same_strides=False)


def test_the_result_is_contiguous(cuda_operators) -> None:
    lags, right, support = problem(2, 9, torch.float32)
    result = cuda_operators.toeplitz_solve(lags, right.transpose(1, 2), support, 50.0, 3)
    assert result.is_contiguous()


@LIKE_CPU
@each_type
def test_empty_batch(dtype) -> None:
    assert_like_cpu("toeplitz_solve", [*(t[:0] for t in problem(1, 5, dtype)), 50.0, 3])


def test_checks_are_the_same_as_on_the_cpu(cuda_operators) -> None:
    lags, right, support = problem(1, 5, torch.float32)
    with pytest.raises(RuntimeError, match="steps is -1"):
        cuda_operators.toeplitz_solve(lags, right, support, 1.0, -1)
    with pytest.raises(RuntimeError, match="lags must have the dtype"):
        cuda_operators.toeplitz_solve(lags.double(), right, support, 1.0, 1)
    with pytest.raises(RuntimeError, match=r"at most 1048576 systems of at most 4096 x 4096"):
        cuda_operators.toeplitz_solve(
            *(torch.zeros(1).expand(1, side, side) for side in (8193, 4097)), None, 1.0, 1
        )
