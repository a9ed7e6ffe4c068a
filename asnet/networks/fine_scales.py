"""The finest scales of the iterated analysis: from where the courses end to a kernel at full size.

If the kernel is large or the photograph small, they are gone through on three schedules, of which the fewest
gradients win. If the photograph may show a page of text (`paper`), there is a schedule more, on which the
latent image has few pixels that differ from the paper. Where there is a synthesis and the kernel is large,
the second schedule and that of a page are gone through from other courses as well, if these found something
else, and the synthesis helps to choose between the winner and what these schedules found (`rival_kernels`).
At the finest scale of all, noise can spoil a large kernel: if the latent image then needs more gradients,
the kernel of the scale before is kept.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from asnet.networks.blurred_photographs import Photographs
from asnet.networks.courses import DAMPED, FineSchedule, fine_schedules
from asnet.networks.edge_steepness import noise_deviation
from asnet.networks.image_pyramid import ImagePyramid
from asnet.networks.kernel_grids import enlarge, extent, fit_grid, prune, similarity
from asnet.networks.kernel_rounds import Iteration
from asnet.networks.latent_image import gradient_count, needed_gradients, share_of_pixels
from asnet.networks.paper import paper_luma
from asnet.networks.rival_kernels import RestoreLuma, best_kernel
from asnet.ops.threads import side_by_side

#: All schedules of the finest scales, and not only the first, are gone through if the kernel of the compared
#: scale, enlarged to full size, has the first number of pixels or more in extent, or the photograph fewer
#: than the second: with smaller kernels the others never won on larger ones. The first wins unless the latent
#: image needs less than this share of its gradients with another.
LARGE_EXTENT, FEW_PIXELS, WINNING_SHARE = 60, 2**17, 0.98

#: From how many other courses than the best the finest scales are gone through, and the similarity of their
#: kernels to the best one's below which they found something else.
RIVALS, ANOTHER = 2, 0.95

#: The finest scale's kernel is kept if the latent image needs at most this many times the gradients that it
#: needs with the kernel of the scale before.
LARGEST_INCREASE = 1.05


class CourseEnd(NamedTuple):
    """Where a course ends: at the scale at which courses are compared."""

    iteration: Iteration
    avoids_clipped: Tensor  # (1,) bool: whether gradients near clipped pixels were left out


class Branch(NamedTuple):
    """How far a schedule has gone from the end of a course."""

    iteration: Iteration
    avoids_clipped: Tensor  # of the course
    schedule: FineSchedule


def finest_kernel(
    pyramid: ImagePyramid, compared: int, ends: Sequence[CourseEnd], restore: RestoreLuma | None
) -> tuple[Iteration, Tensor]:
    """Go through the finest scales; return the result and the `needed_gradients` of its kernel.

    Parameters
    ----------
    pyramid : ImagePyramid
        The photograph.
    compared : int
        Scale at which the courses end, not 0.
    ends : sequence of CourseEnd
        Of all courses, the best first.
    restore : callable, optional
        Restores luma (1, 1, H, W) by a kernel.
    """
    photograph = pyramid.photograph
    noise = float(noise_deviation(photograph.luma))
    schedules = fine_schedules(noise, compared, pyramid.config.finest_rounds)
    is_large = float(extent(ends[0].iteration.kernel)) * 2 ** (compared / 2) >= LARGE_EXTENT
    if not is_large:
        restore = None
        if photograph.luma.numel() >= FEW_PIXELS:
            schedules = schedules[:1]
    paper = paper_luma(photograph, large_blur=is_large)
    of_page = [] if paper is None else [schedules[0]._replace(ground=paper)]

    def run(scale: int, branch: Branch) -> Iteration:
        return pyramid.run(
            scale,
            branch.iteration,
            branch.schedule.strengths[scale],
            DAMPED,
            branch.avoids_clipped,
            smallest_weight=branch.schedule.smallest_weight,
            looks_beyond=True,
            ground=branch.schedule.ground,
        )

    def refine(branch: Branch) -> Branch:
        for scale in range(compared - 1, 0, -1):
            branch = branch._replace(iteration=run(scale, branch))
        return branch

    starts = [Branch(*ends[0], schedule) for schedule in schedules]
    rivals = [Branch(*ends[0], schedule) for schedule in of_page]
    if restore is not None:
        rivals += [Branch(*end, schedule) for end in _others(ends) for schedule in [schedules[1], *of_page]]
    refined = side_by_side(refine, starts + rivals, pyramid.scales[1].luma)
    refined, rivals = refined[: len(starts)], refined[len(starts) :]
    if restore is None:
        chosen = _best(pyramid.scales[1], refined + rivals)
    else:
        chosen = _best(pyramid.scales[1], refined)
        # The second schedule may win even with more gradients.
        contenders = [chosen, *(each for each in [refined[1], *rivals] if each is not chosen)]
        kernels = [each.iteration.kernel for each in contenders]
        doubtful = [each.schedule.ground is not None for each in contenders]
        best = best_kernel(pyramid.scales[1], kernels, doubtful, pyramid.config.kernel_size, restore)
        chosen = contenders[best]
    return _unless_spoiled(photograph, chosen.iteration, run(0, chosen))


def _others(ends: Sequence[CourseEnd]) -> list[CourseEnd]:
    """Return the best of the ends that found something else than the first."""
    best = ends[0].iteration.kernel
    others = (end for end in ends[1:] if float(similarity(end.iteration.kernel, best)) < ANOTHER)
    return list(islice(others, RIVALS))


def _best(photograph: Photographs, refined: list[Branch]) -> Branch:
    """Return the result of the schedule with the fewest gradients; the first is preferred."""
    if len(refined) == 1:
        return refined[0]
    kernels = [each.iteration.kernel for each in refined]
    needed = torch.stack([gradient_count(photograph.luma, kernel, photograph.usable) for kernel in kernels])
    needed[0] *= WINNING_SHARE
    return refined[int(needed.argmin())]


def _unless_spoiled(
    photographs: Photographs, before: Iteration, found: Iteration
) -> tuple[Iteration, Tensor]:
    """Return for each image the result of the finest scale, or of the scale before if that is better.

    The second result is the `needed_gradients` of the kernel.
    """
    coarse = fit_grid(prune(enlarge(before.kernel, math.sqrt(2))), found.kernel.shape[-1])
    gradients, gradients_before = (
        needed_gradients(photographs.luma, kernel) for kernel in (found.kernel, coarse)
    )
    needed, needed_before = (
        share_of_pixels(mask, photographs.usable) for mask in (gradients, gradients_before)
    )
    spoiled = (needed > LARGEST_INCREASE * needed_before)[:, None, None]
    return (
        replace(found, kernel=torch.where(spoiled, coarse, found.kernel)),
        torch.where(spoiled[:, None], gradients_before, gradients),
    )
