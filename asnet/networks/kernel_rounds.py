"""Rounds of the iterated analysis at one scale: latent image, correlations, kernel, in turn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.networks.blurred_photographs import Photographs
from asnet.networks.kernel_equations import (
    Correlations,
    correlate_gradients,
    gradient_threshold,
    strong_gradients,
)
from asnet.networks.kernel_grids import (
    SMALLEST_WEIGHT,
    centred_square,
    centroid,
    enlarge,
    extent,
    fit_grid,
    normalised,
    prune,
    shifted,
)
from asnet.networks.latent_image import BlurredScale, image_gradients, sparse_latent
from asnet.ops import toeplitz_solve
from asnet.ops.threads import threads_for

#: Tikhonov weights of the solutions for the refiner.
REFINER_WEIGHTS = (2.0, 100.0)

#: The squared threshold of the gradients is divided by this before each round.
THRESHOLD_DECAY = 1.1

#: A grid is larger than the kernel of the previous scale by this factor and this many pixels.
GRID_FACTOR, GRID_MARGIN = 1.25, 4

#: Side of the kernel for which the iteration from a narrow Gaussian starts with enough gradients.
BELL_SIDE = 9

#: Clipped pixels are not avoided if that would leave less than this share of the gradients.
LEAST_UNCLIPPED = 0.4

#: Tikhonov weights are those of photographs of this many pixels or more; of fewer they are smaller in
#: proportion, as the sums of the normal equations are, down to this share.
FULLY_DAMPED_PIXELS, LEAST_DAMPING = 400_000, 0.16


@dataclass(frozen=True)
class Iteration:
    """State of an iteration after a scale; s is the size of its grid.

    Parameters
    ----------
    kernel : Tensor
        (N, s, s), pruned and centred, not negative, each of sum 1.
    threshold : Tensor
        (N,): squared magnitude below which gradients of the latent image do not count.
    evidence : Tensor or None
        (N, 5, s, s): the data from which the kernel was computed, shifted with it: solutions of the normal
        equations with little and with much damping, the correlation of latent and blurred gradients, and the
        autocorrelations of both. None except at the finest scale.
    """

    kernel: Tensor
    threshold: Tensor
    evidence: Tensor | None

    @classmethod
    def joined(cls, iterations: Sequence["Iteration"], size: int) -> "Iteration":
        """Return a batch of the images of all `iterations`, on a grid of `size` pixels."""
        evidence = [fit_grid(i.evidence, size) for i in iterations if i.evidence is not None]
        return cls(
            torch.cat([fit_grid(i.kernel, size) for i in iterations]),
            torch.cat([i.threshold for i in iterations]),
            torch.cat(evidence) if evidence else None,
        )


def bell(photographs: Photographs) -> Iteration:
    """Return the start of an iteration for small kernels: a narrow Gaussian, nearly a single pixel."""
    profile = photographs.luma.new_tensor([0.07, 0.86, 0.07])
    kernel = (profile[:, None] * profile).expand(len(photographs.luma), 3, 3)
    gradients = image_gradients(photographs.luma)
    return Iteration(kernel, gradient_threshold(gradients, BELL_SIDE), None)


def run_rounds(
    photographs: Photographs,
    largest: int,
    before: Iteration | None,
    strengths: Sequence[float],
    weight: float,
    avoids_clipped: Tensor,
    steps: int,
    *,
    smallest_weight: float = SMALLEST_WEIGHT,
    looks_beyond: bool = False,
    ground: float | None = None,
    keeps_evidence: bool,
) -> Iteration:
    """Run the rounds of one scale.

    Parameters
    ----------
    photographs : Photographs
        The photographs at this scale.
    largest : int
        Largest side of the kernel's grid, odd.
    before : Iteration or None
        Result of the next coarser scale; None at the coarsest.
    strengths : sequence of float
        lambda of the latent images, one for each round.
    weight : float
        Tikhonov weight of the normal equations, for intensities in [0, 1].
    avoids_clipped : Tensor
        (N,) bool: whether gradients near clipped pixels are left out instead of completed.
    steps : int
        Steps of conjugate gradients.
    smallest_weight : float
        Kernel weights below this share of the largest are dropped.
    looks_beyond : bool
        Whether the latent image beyond the photographs' edges, from where light is blurred into them, takes
        part in the kernel's equations.
    ground : float, optional
        Luma of an even ground, as of paper, from which few pixels of the latent images differ.
    keeps_evidence : bool
        Whether the result includes its evidence, which takes two more solutions.

    Returns
    -------
    Iteration
        Result of this scale.
    """
    luma = photographs.luma
    kernel, support = _starting_kernel(len(luma), largest, before, luma)
    size = kernel.shape[-1]
    border = size // 2 if looks_beyond else 0
    scale = BlurredScale.from_image(luma, size, may_be_brighter(photographs))
    threshold = gradient_threshold(image_gradients(luma), size) if before is None else before.threshold
    with threads_for(scale.padded):
        masks = taking_part(photographs, avoids_clipped, size, border)
        observed = None
        for strength in strengths:
            latent, observed = sparse_latent(scale, kernel, strength, observed, border=border, ground=ground)
            threshold = threshold / THRESHOLD_DECAY
            predicted = strong_gradients(image_gradients(latent), threshold)
            blurred = image_gradients(observed[..., : luma.shape[2], : luma.shape[3]])
            if masks is not None:
                blurred, predicted = blurred * masks[0], predicted * masks[1]
            blurred = F.pad(blurred, (border,) * 4)
            correlations = correlate_gradients(predicted, blurred, size)
            solution = toeplitz_solve(correlations.predicted, correlations.mixed, weight, steps, support)
            kernel = prune(solution, smallest_weight)
    shift = -centroid(kernel).round().long()
    return Iteration(
        shifted(kernel, shift),
        threshold,
        _evidence(correlations, steps, shift) if keeps_evidence else None,
    )


def damping(photographs: Photographs) -> float:
    """Return by how much Tikhonov weights are multiplied, at all scales of photographs at full size."""
    height, width = photographs.luma.shape[-2:]
    return min(1.0, max(LEAST_DAMPING, height * width / FULLY_DAMPED_PIXELS))


def _evidence(correlations: Correlations, steps: int, shift: Tensor) -> Tensor:
    size = correlations.mixed.shape[-1]
    middle = slice(size // 2, size // 2 + size)
    solutions = [
        toeplitz_solve(correlations.predicted, correlations.mixed, weight, steps)
        for weight in REFINER_WEIGHTS
    ]
    moved = [shifted(values, shift) for values in (*solutions, correlations.mixed)]
    still = [values[:, middle, middle] for values in (correlations.predicted, correlations.blurred)]
    return torch.stack([*moved, *still], dim=1)


def _starting_kernel(
    count: int, largest: int, before: Iteration | None, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Return initial kernels of a scale, and the support (N, s, s) to which they may grow."""
    if before is None:
        kernel = like.new_zeros(count, largest, largest)
        # Two pixels, not one: the latent image of a single pixel is the blurred image.
        kernel[:, largest // 2, largest // 2 - 1 : largest // 2 + 1] = 0.5
        return kernel, torch.ones_like(kernel, dtype=torch.bool)
    kernel = enlarge(before.kernel, math.sqrt(2))
    side = (GRID_FACTOR * extent(kernel) + GRID_MARGIN).ceil().clamp(max=largest)
    # On a GPU the host does not wait for the extent; only the support limits the kernel there.
    grid = largest if kernel.is_cuda else int(side.amax()) // 2 * 2 + 1
    grid = min(grid, largest)
    return normalised(fit_grid(kernel, grid)), centred_square(side, grid)


def taking_part(
    photographs: Photographs, avoids_clipped: Tensor, size: int, border: int
) -> tuple[Tensor, Tensor] | None:
    """Return the usable gradients of the blurred (N, 1, h, w) and of the latent image; None if all are.

    The latent image extends `border` pixels beyond the edges, where all of its gradients are.
    A gradient of the latent image spreads over the kernel: near lights, all of that area must be known.
    Callers fill unusable pixels smoothly, so that little spreads from there.
    """
    if photographs.clipped is None and photographs.usable is None:
        return None
    masks = [torch.ones_like(photographs.luma, dtype=torch.bool) for _ in range(2)]
    if photographs.clipped is not None:
        clear = [~grown(photographs.clipped, radius) for radius in (2, size // 2)]
        avoids = avoids_clipped & (clear[1].float().mean((1, 2, 3)) > LEAST_UNCLIPPED)
        masks = [mask | ~avoids[:, None, None, None] for mask in clear]
    if photographs.usable is not None:
        known = ~grown(~photographs.usable, 1)
        masks = [mask & known for mask in masks]
    return masks[0], F.pad(masks[1], (border,) * 4, value=True)


def may_be_brighter(photographs: Photographs) -> Tensor | None:
    """Return the pixels (N, 1, H, W) that a latent image completes: clipped ones and their neighbours."""
    return None if photographs.clipped is None else grown(photographs.clipped, 1)


def clear_of_lights(photographs: Photographs, distance: int) -> Tensor | None:
    """Return which pixels (N, 1, H, W) count, far enough from clipped ones; None for all."""
    if photographs.clipped is None:
        return photographs.usable
    clear = ~grown(photographs.clipped, distance)
    return clear if photographs.usable is None else clear & photographs.usable


def grown(mask: Tensor, radius: int) -> Tensor:
    """Dilate bool masks (N, 1, h, w) by a square of `radius` pixels."""
    for dim, padding in ((2, (0, 0, radius, radius)), (3, (radius, radius))):
        mask = F.pad(mask, padding)
        width = 1
        # Each pass at most doubles the width of the window.
        while width < 2 * radius + 1:
            step = min(width, 2 * radius + 1 - width)
            count = mask.shape[dim] - step
            mask = mask.narrow(dim, 0, count) | mask.narrow(dim, step, count)
            width += step
    return mask
