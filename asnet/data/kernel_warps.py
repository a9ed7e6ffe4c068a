"""Affine warps of blur kernels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# A warp that leaves less than this share of a kernel on its grid is not made.
_LEAST_SHARE = 1e-3


def warped_kernels(kernels: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """Move each point p of blur kernels, measured from the centre of the grid, to ``matrix @ p + shift``.

    Parameters
    ----------
    kernels
        (N, K, K) float32, K odd.
    matrix
        (N, 2, 2), invertible, for points (x, y).
    shift
        (N, 2), x and y, in pixels.

    Returns
    -------
    Tensor
        (N, K, K), interpolated bilinearly and not normalised. What leaves the grid is lost; a kernel of which
        nothing would be left, such as a single pixel between two samples of a smaller copy, stays as it is.
    """
    size = kernels.shape[-1]
    inverse = torch.linalg.inv(matrix)
    offset = -(inverse @ shift[:, :, None]) * (2 / size)
    theta = torch.cat([inverse, offset], dim=2)
    grid = functional.affine_grid(theta, [len(kernels), 1, size, size], align_corners=False)
    warped = functional.grid_sample(kernels[:, None], grid, align_corners=False)[:, 0]
    empty = warped.sum((1, 2), keepdim=True) < _LEAST_SHARE
    return torch.where(empty, kernels, warped)
