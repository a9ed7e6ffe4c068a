"""Error budgets of the operators, relative to PyTorch's own error."""

import torch
from torch import Tensor


def assert_as_accurate(result: Tensor, eager: Tensor, exact: Tensor, *, partial_sums: float = 0.0) -> None:
    """``|result - exact| <= 2 |eager - exact| + 4 roundings``, maxima over the tensor.

    `eager` is what PyTorch's own operations give in the dtype of `result`, `exact` the float64 truth for the
    same inputs. The roundings allow for tensors so small that PyTorch's own error happens to be zero; they
    are those of the largest element or, where terms of both signs are summed, of the size that
    `partial_sums` reach. For a float64 result there is no wider truth: it must agree to 12 digits.
    """
    assert result.shape == exact.shape
    if result.numel() == 0:
        return
    error = (result.double() - exact).abs().max().item()
    largest = exact.abs().max().item()
    if result.dtype == torch.float64:
        assert error <= 1e-12 * max(1.0, largest), f"error {error:.3g}, largest element {largest:.3g}"
        return
    eager_error = (eager.double() - exact).abs().max().item()
    rounding = torch.finfo(result.dtype).eps * max(largest, partial_sums)
    assert error <= 2 * eager_error + 4 * rounding, (
        f"error {error:.3g}, PyTorch's {eager_error:.3g}, rounding {rounding:.3g}"
    )
