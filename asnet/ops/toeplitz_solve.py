"""The normal equations of blur kernels, solved by conjugate gradients."""

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.errors import InputError
from asnet.ops._extension import devices_with_kernel, refuse_backward

_DEVICES_WITH_KERNEL = devices_with_kernel("toeplitz_solve")


def toeplitz_solve(
    lags: Tensor, right: Tensor, weight: float, steps: int, support: Tensor | None = None
) -> Tensor:
    """Take steps of conjugate gradients towards the solution k of (A + weight I) k = right.

    k and the right side are images, and ``(A k)(t) = sum over s of a(t - s) k(s)``. The initial k is constant
    with sum 1. Use few steps if A is noisy: later steps mostly fit noise.

    Inference-only: there is no backward.

    Parameters
    ----------
    lags : Tensor
        a as (N, 2s-1, 2s-1), symmetric under a flip of both axes.
    right : Tensor
        (N, s, s), float32 or float64.
    weight : float
        Added to the diagonal of A, in the units of A, at least 0.
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
    if right.device.type not in _DEVICES_WITH_KERNEL:
        return _by_transforms(lags, right, weight, steps, support)
    solution: Tensor = torch.ops.asnet.toeplitz_solve(lags, right, support, weight, steps)
    return solution


def _by_transforms(lags: Tensor, right: Tensor, weight: float, steps: int, support: Tensor | None) -> Tensor:
    """Fallback by torch's Fourier transforms, for devices without a kernel: the matrix has s^4 entries."""
    size = right.shape[-1]
    # A circular product of size 2 s - 1 or more is exact.
    length = 1 << (2 * size - 2).bit_length()
    margin = length - 2 * size + 1
    spectrum = torch.fft.rfft2(F.pad(lags, (0, margin, 0, margin)).roll((1 - size, 1 - size), (1, 2)))
    inside = torch.ones_like(right) if support is None else support.to(right.dtype)

    def product(image: Tensor) -> Tensor:
        whole: Tensor = torch.fft.irfft2(
            torch.fft.rfft2(image, s=(length, length)) * spectrum, s=(length, length)
        )
        return inside * (whole[:, :size, :size] + weight * image)

    def dot(first: Tensor, second: Tensor) -> Tensor:
        return (first * second).sum((1, 2), keepdim=True)

    tiny = torch.finfo(right.dtype).tiny
    solution = inside / inside.sum((1, 2), keepdim=True).clamp(min=1)
    residual = inside * right - product(solution)
    direction, energy = residual, dot(residual, residual)
    for _ in range(steps):
        turned = product(direction)
        step = energy / dot(direction, turned).clamp(min=tiny)
        solution = solution + step * direction
        residual = residual - step * turned
        before, energy = energy, dot(residual, residual)
        direction = residual + energy / before.clamp(min=tiny) * direction
    return solution


def _fake(lags: Tensor, right: Tensor, support: Tensor | None, weight: float, steps: int) -> Tensor:
    return right.new_empty(right.shape)


torch.library.register_fake("asnet::toeplitz_solve", _fake)
refuse_backward("toeplitz_solve", instead="asnet.ops.reference.toeplitz_solve has a backward")
