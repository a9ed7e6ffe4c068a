"""Another estimate where lights left streaks (`light_streaks`).

The finest scales are gone through again without the streaks, from the kernel whose path they show. What that
finds, the path itself and the estimate before compete: the latent image should need few gradients, and the
streaks should resemble the kernel. A lone streak may be any narrow bright thing, so that its path itself does
not compete. In a sharp photograph there are no streaks.
"""

import math
from dataclasses import replace

from torch import Tensor

from asnet.networks.blurred_photographs import Photographs, without
from asnet.networks.config import IteratedAnalysisConfig
from asnet.networks.courses import COMPARED_SCALE, DAMPED, fine_schedules
from asnet.networks.edge_steepness import REACH, SHARP_STEEPNESS, edge_steepness, noise_deviation
from asnet.networks.image_pyramid import ImagePyramid
from asnet.networks.kernel_equations import gradient_threshold
from asnet.networks.kernel_grids import centred, enlarge, extent, fit_grid, prune, reduced
from asnet.networks.kernel_rounds import Iteration, clear_of_lights, may_be_brighter
from asnet.networks.latent_image import CALLS_FOR_LIGHTS, image_gradients, needed_gradients, share_of_pixels
from asnet.networks.light_streaks import find_streaks, resemblance, streak_kernel, without_streaks

#: The path of the streaks is at half the size, which is this scale.
STREAK_SCALE = 2

#: Gradients count more for kernels that the streaks resemble less than this, in proportion to what lacks.
RESEMBLING = 0.98

#: How much gradients count for what was found from the path of several streaks, which is preferred; from that
#: of a lone one; and for the path itself, which is too wide.
FOLLOWED, FOLLOWED_LONE, ROUGH = 0.985, 1.04, 1.05

#: A kernel that streaks resemble less, or that needs more times the gradients of the estimate so far, is no
#: kernel of theirs.
LEAST_RESEMBLANCE, LARGEST_INCREASE = 0.85, 1.15

#: Share of pixels that is added to the gradients: of a dark photograph nothing but its streaks may be left.
LEAST_NEEDED = 1e-3

#: Streaks that resemble a light without blur more than this are no streaks.
ROUND = 0.88


def estimate_by_streaks(
    found: Iteration, photograph: Photographs, config: IteratedAnalysisConfig
) -> tuple[Iteration, bool] | None:
    """Return a better estimate of one photograph's kernel by the streaks in it; None if there is none.

    The second result is whether several streaks agree, which is evidence of its own. The evidence of the
    iteration is that of the estimate before if the kernel is the path itself.

    Parameters
    ----------
    found : Iteration
        The estimate so far, of full size and with evidence.
    photograph : Photographs
        A batch of one, at full size.
    config : IteratedAnalysisConfig
        Sizes of the analysis.
    """
    if photograph.brightness is None or config.scale_count <= STREAK_SCALE:
        return None
    streaks = find_streaks(photograph.brightness, config.kernel_size, photograph.usable)
    no_blur = found.kernel.new_ones(1, 1, 1)
    if streaks is None or resemblance(streaks, no_blur) > ROUND:
        return None
    filled, marks = without_streaks(photograph.luma / photograph.gain, streaks.marks)
    rest = without(photograph, marks, filled)
    if bool(edge_steepness(filled, clear_of_lights(rest, REACH)) > SHARP_STEEPNESS):
        return None
    several = streaks.alike > 1
    factor = FOLLOWED if several else FOLLOWED_LONE
    pyramid, usable = ImagePyramid(rest, config, 2), photograph.downscaled(1).usable
    contenders = [(_followed(prune(streaks.path), pyramid), factor)]
    if several:
        path = fit_grid(centred(enlarge(_roomy(streak_kernel(streaks)), 2.0)), config.grid_size(0))
        contenders.append((replace(found, kernel=path), ROUGH))

    def judged(kernel: Tensor, factor: float) -> tuple[float, float, float]:
        """Return the gradients that a kernel needs, how much streaks resemble it, and what both cost."""
        needed, alike = _needed(pyramid.scales[1], kernel, usable), resemblance(streaks, kernel)
        return needed, alike, factor * needed * (1 + max(0.0, RESEMBLING - alike))

    needed_before, _, least = judged(found.kernel, 1.0)
    best = None
    for contender, factor in contenders:
        needed, alike, cost = judged(contender.kernel, factor)
        if alike >= LEAST_RESEMBLANCE and needed <= LARGEST_INCREASE * needed_before and cost < least:
            best, least = contender, cost
    return None if best is None else (best, several)


def _roomy(path: Tensor) -> Tensor:
    """Return a path (1, s, s) on a grid in which it can be centred without leaving it on the other side."""
    return fit_grid(path, 2 * path.shape[-1] + 1)


def _followed(path: Tensor, pyramid: ImagePyramid) -> Iteration:
    """Go through the finest scales of a photograph, from a path at half the size."""
    kernel = centred(_roomy(path))
    side = int(extent(enlarge(kernel, math.sqrt(2))))
    iteration = Iteration(kernel, gradient_threshold(image_gradients(pyramid.scales[1].luma), side), None)
    noise = float(noise_deviation(pyramid.photograph.luma))
    schedule = fine_schedules(noise, COMPARED_SCALE, pyramid.config.finest_rounds)[0]
    for scale in (1, 0):
        iteration = pyramid.run(
            scale,
            iteration,
            schedule.strengths[scale],
            DAMPED,
            smallest_weight=schedule.smallest_weight,
            looks_beyond=True,
        )
    return iteration


def _needed(photograph: Photographs, kernel: Tensor, usable: Tensor | None) -> float:
    """Return the share of usable pixels, where streaks were as well, that need a gradient."""
    smaller = reduced(kernel, math.sqrt(0.5))
    mask = needed_gradients(photograph.luma, smaller, may_be_brighter(photograph), calls=CALLS_FOR_LIGHTS)
    return LEAST_NEEDED + float(share_of_pixels(mask, usable))
