"""A large kernel estimated again, from what the synthesis restores by the first estimate.

The analysis imagines a latent image with few gradients. The synthesis, which has seen photographs, restores
more of the true one even by a kernel that is a little wrong. The normal equations of the kernel
(`kernel_equations`) with its strong gradients give another kernel, and the mean of both is better than
either: their errors differ. Its centroid, to which it is moved, is also nearer to the true one.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.networks.blurred_photographs import Photographs
from asnet.networks.kernel_equations import correlate_gradients, gradient_threshold, strong_gradients
from asnet.networks.kernel_grids import centred, extent, fit_grid, prune
from asnet.networks.kernel_rounds import damping, taking_part
from asnet.networks.latent_image import gradient_count, image_gradients
from asnet.ops import toeplitz_solve

#: Kernels of smaller extent in pixels are not estimated again: they are right, and the second estimate of
#: real photographs is no better.
SMALLEST_EXTENT = 33

#: The grid is larger than the first estimate by this many pixels, and a photograph's shorter side must be at
#: least this many times as long as the grid's.
MARGIN, LEAST_SIDES = 4, 3

#: Tikhonov weight of the normal equations, for intensities in [0, 1], and their steps of conjugate gradients.
TIKHONOV_WEIGHT, STEPS = 300.0, 30

#: Share of the squared `gradient_threshold` from which on gradients of the restored image count.
THRESHOLD_SHARE = 0.25

#: Weights of the solution and of the mean below this share of the largest are dropped: a little fewer than of
#: most first estimates.
SMALLEST_OF_MEAN = 0.04

#: The first estimate is kept if the latent image needs more than this many times its gradients with the mean.
LARGEST_SHARE = 1.08


def grid_of_second_estimate(kernel: Tensor, height: int, width: int) -> int | None:
    """Return the side of the grid on which to estimate a kernel (1, K, K) again; None to keep the first.

    Parameters
    ----------
    kernel : Tensor
        The first estimate.
    height, width : int
        Size of the photograph in pixels.
    """
    side = int(extent(kernel)[0])
    grid = min(side + MARGIN, kernel.shape[-1])
    return grid if side >= SMALLEST_EXTENT and min(height, width) >= LEAST_SIDES * grid else None


def second_estimate(photograph: Photographs, kernel: Tensor, restored: Tensor, grid: int) -> Tensor:
    """Estimate a kernel again.

    Parameters
    ----------
    photograph : Photographs
        A batch of one, at full size.
    kernel : Tensor
        The first estimate (1, K, K), not negative, of sum 1.
    restored : Tensor
        (1, 1, H, W): luma of the image that was restored by it, times the gain of the photograph.
    grid : int
        From `grid_of_second_estimate`.

    Returns
    -------
    Tensor
        (1, K, K): mean of both estimates, or the first one if the mean explains the photograph much worse.
    """
    first = fit_grid(kernel, grid)
    border = grid // 2
    predicted, blurred = image_gradients(restored), image_gradients(photograph.luma)
    predicted = strong_gradients(predicted, THRESHOLD_SHARE * gradient_threshold(predicted, grid))
    # Near the edges, light comes from beyond them.
    inside = F.pad(torch.ones_like(blurred[:, :1, border:-border, border:-border]), (border,) * 4)
    masks = taking_part(photograph, torch.ones(1, dtype=torch.bool, device=kernel.device), grid, 0)
    seen, used = (inside, inside) if masks is None else (inside * masks[0], inside * masks[1])
    correlations = correlate_gradients(predicted * used, blurred * seen, grid)
    weight = TIKHONOV_WEIGHT * damping(photograph)
    solution = toeplitz_solve(correlations.predicted, correlations.mixed, weight, STEPS)
    mean = prune((prune(solution, SMALLEST_OF_MEAN) + first) / 2, SMALLEST_OF_MEAN)
    needed, needed_before = (
        gradient_count(photograph.luma, each, photograph.usable) for each in (mean, first)
    )
    nothing_seen = solution.amax((1, 2)) <= 0
    if nothing_seen | (needed > LARGEST_SHARE * needed_before):
        return kernel
    return centred(fit_grid(mean, kernel.shape[-1]))
