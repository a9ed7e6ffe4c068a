"""The normal equations of blur kernels, solved by conjugate gradients."""

import torch
from torch import Tensor

from asnet.errors import InputError
from asnet.ops._extension import load, refuse_derivative

load()


def toeplitz_solve(
    lags: Tensor, right: Tensor, weight: float, steps: int, support: Tensor | None = None
) -> Tensor:
    """Take steps of conjugate gradients towards the solution k of (A + weight I) k = right.

    k and the right side are images, and ``(A k)(t) = sum over s of a(t - s) k(s)``. The first k is constant
    with sum 1.

    It is for inference and has no derivative.

    Parameters
    ----------
    lags : Tensor
        a as (N, 2s-1, 2s-1), the same under a flip of both axes. CPU.
    right : Tensor
        (N, s, s), float32 or float64.
    weight : float
        What is added to the diagonal of A, in the units of A, at least 0.
    steps : int
        Number of steps, at least 0.
    support : Tensor, optional
        (N, s, s) bool: where k may differ from 0; by default everywhere.

    Returns
    -------
    Tensor
        k (N, s, s).

    Raises
    ------
    InputError
        A number is out of its range, or the shapes do not fit each other.

    Examples
    --------
    >>> autocorrelation = torch.zeros(1, 5, 5)
    >>> autocorrelation[0, 2, 2] = 1  # A is the identity
    >>> right = torch.rand(1, 3, 3)
    >>> bool(torch.allclose(toeplitz_solve(autocorrelation, right, 1.0, 5), right / 2))
    True
    """
    if not weight >= 0:
        raise InputError(f"weight must be at least 0, got {weight}")
    if steps < 0:
        raise InputError(f"steps must be at least 0, got {steps}")
    count, size = right.shape[0], right.shape[-1]
    side = 2 * size - 1
    if right.shape != (count, size, size) or size < 1 or lags.shape != (count, side, side):
        raise InputError(
            "a Toeplitz system needs lags (N, 2s-1, 2s-1) and right (N, s, s), "
            f"got {tuple(lags.shape)} and {tuple(right.shape)}"
        )
    solution: Tensor = torch.ops.asnet.toeplitz_solve(lags, right, support, weight, steps)
    return solution


def _fake(lags: Tensor, right: Tensor, support: Tensor | None, weight: float, steps: int) -> Tensor:
    return right.new_empty(right.shape)


torch.library.register_fake("asnet::toeplitz_solve", _fake)
refuse_derivative("toeplitz_solve", instead="asnet.ops.reference.toeplitz_solve has")
