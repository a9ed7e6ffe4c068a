"""Choice between rival estimates of a large kernel, by what the synthesis restores with each.

Which kernel lets the latent image explain a photograph with the fewest gradients is a close call between
large kernels. Two things tell more: the gradients that a latent image needs that explains nearly everything,
noise included; and how many strong edges the synthesis restores. With a kernel that is wrong it restores
few, for it was trained not to trust kernels blindly.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from asnet.networks.blurred_photographs import Photographs
from asnet.networks.kernel_grids import fit_grid
from asnet.networks.kernel_rounds import clear_of_lights, may_be_brighter
from asnet.networks.latent_image import CALLS_FOR_LIGHTS, image_gradients, needed_gradients, share_of_pixels

#: Restores luma (1, 1, H, W), range [0, 1], by a blur kernel (1, K, K).
RestoreLuma = Callable[[Tensor, Tensor], Tensor]

#: lambda of the latent images whose gradients are counted.
FAITHFUL_STRENGTH = 2e-4

#: Strong edges are gradients of luma above this; their share counts to this power. With a rival, the
#: synthesis must restore at least this share of those that it restores with the first kernel; with one that
#: rests on a doubtful supposition, such as paper, the last share.
STRONG_EDGE, EDGE_POWER, LEAST_EDGES, LEAST_EDGES_OF_DOUBTFUL = 0.1, 0.075, 0.4, 0.8

#: Share of edges that is taken for none.
NO_EDGES = 1e-5

#: Share of its grid's side from lights beyond which gradients count: nearer ones belong to the light.
DISTANCE_FROM_LIGHTS = 0.25

#: A rival takes the place of the first kernel if it costs less than this share.
WINNING_COST = 0.98


def best_kernel(
    photograph: Photographs,
    kernels: Sequence[Tensor],
    doubtful: Sequence[bool],
    size: int,
    restore: RestoreLuma,
) -> int:
    """Return the index of the kernel that serves best; the first is preferred.

    Parameters
    ----------
    photograph : Photographs
        A batch of one, at the scale of the kernels.
    kernels : sequence of Tensor
        (1, s, s) each, not negative, of sum 1; sizes may differ.
    doubtful : sequence of bool
        Which of them rest on a supposition about the photograph.
    size : int
        Side of the grid that `restore` takes.
    restore : callable
        Restores luma by a kernel.
    """
    reach = max(kernel.shape[-1] for kernel in kernels)
    clear = clear_of_lights(photograph, int(DISTANCE_FROM_LIGHTS * reach))
    clipped = may_be_brighter(photograph)
    calls = 1 if clipped is None else CALLS_FOR_LIGHTS
    seen = photograph.luma / photograph.gain

    def judged(kernel: Tensor) -> tuple[float, float]:
        """Return the share of strong edges that a kernel restores, and what it costs."""
        needed = needed_gradients(photograph.luma, kernel, clipped, strength=FAITHFUL_STRENGTH, calls=calls)
        gradients = image_gradients(restore(seen, fit_grid(kernel, size)))
        strong = gradients.square().sum(1, keepdim=True) > STRONG_EDGE**2
        edges = max(NO_EDGES, float(share_of_pixels(strong, photograph.usable)))
        return edges, float(share_of_pixels(needed, clear)) / edges**EDGE_POWER

    best = 0
    edges_of_first, least = judged(kernels[0])
    least *= WINNING_COST
    for index, kernel in enumerate(kernels[1:], 1):
        edges, cost = judged(kernel)
        share = LEAST_EDGES_OF_DOUBTFUL if doubtful[index] else LEAST_EDGES
        if cost < least and edges >= share * edges_of_first:
            best, least = index, cost
    return best
