"""Analysis by iteration: kernel and latent image improve each other from coarse to fine.

At every scale the image is resized so that its blur kernel fits a grid of 5, 7, ... K pixels, and each round
(`kernel_rounds`)

1. finds the latent image with few gradients that explains the blurred one (`latent_image`);
2. correlates its strong gradients with the blurred ones over a window of lags (the layer of section 3.1) and
   solves the normal equations of the kernel (`kernel_equations`);
3. drops small weights and small parts of the solution (`kernel_grids`).

The iteration can go wrong at the coarse scales, where it costs little: there it is run on several courses,
with other constants (`courses`). The course whose latent image needs the fewest gradients wins, and the
finest scales go on from its kernel (`fine_scales`).

Of next to no blur nothing is left at the coarse scales, and what they find is too large. So a small kernel
is also looked for at the finest scales alone, from a narrow bell on a small grid; again the fewest gradients
win.

Where lights left streaks, they show the kernel's path, which competes with what was found
(`estimate_by_streaks`).

A network on the kernel's grid, the learned part, refines the last solution where it is of a few pixels
(`kernel_refiner`).
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from asnet.networks.blurred_photographs import Photographs, photographs_of
from asnet.networks.config import IteratedAnalysisConfig
from asnet.networks.courses import COMPARED_SCALE, COURSES, FINE_STRENGTH, LESS_DAMPED, Course
from asnet.networks.edge_steepness import REACH, SHARP_STEEPNESS, edge_steepness
from asnet.networks.estimate_by_streaks import estimate_by_streaks
from asnet.networks.fine_scales import CourseEnd, finest_kernel
from asnet.networks.image_pyramid import ImagePyramid
from asnet.networks.kernel_grids import centred, fit_grid, rms_radius, similarity
from asnet.networks.kernel_refiner import KernelRefiner
from asnet.networks.kernel_rounds import Iteration, bell, clear_of_lights
from asnet.networks.latent_image import gradient_count, needed_gradients, share_of_pixels
from asnet.networks.rival_kernels import RestoreLuma
from asnet.ops.threads import side_by_side, threads_for

#: The scale from which a small kernel is looked for, the side of its grid at the finest, and its Tikhonov
#: weight, for on a small grid noise does less harm; and the rounds at each of these scales.
SMALL_SCALE, SMALL_GRID, SMALL_WEIGHT, SMALL_ROUNDS = 1, 17, LESS_DAMPED, 3

#: A kernel of smaller RMS radius in pixels than the first number is small. It may take the place of another
#: small one, or of one with which the latent image needs the second number times the gradients that it needs
#: without: that is often no kernel at all. Photographs of which a large blur leaves nothing but slopes need
#: up to 3.3 times as many; but what is found for these on a small grid fills it, and is not small. Where
#: lights are clipped, good kernels need up to twice as many, and only small ones are replaced.
SMALL_RADIUS, SENSELESS_SHARE = 4.0, 1.4

#: A small kernel takes the place of another if the latent image needs less than this share of its gradients;
#: beside one of smaller RMS radius than the first number, less than the second.
REPLACING_SHARE = 0.99
TINY, REPLACING_SHARE_OF_TINY = 2.5, 1.01

#: The refiner is applied to kernels of smaller RMS radius in pixels. There the similarity to the truth gains
#: 0.05 to 0.08; of larger kernels it takes faint tails away, which photographs show as ghosts.
REFINED_RADIUS = 2.0

#: Edges steeper than this are those of a photograph with next to no blur, if its latent image needs as many
#: gradients with the estimated kernel as without: of wrong estimates of kernels of 3 pixels it needed 1.01
#: and 1.05 times as many, of good estimates 0.8 to 0.97 times.
DOUBTFUL_STEEPNESS = 0.4

#: A small kernel with which the latent image needs more than this share of the gradients that it needs
#: without explains too little to be used: textures without edges give such estimates.
LARGEST_SHARE = 0.975

#: Courses that agree better than this are believed all the same.
DOUBTFUL_AGREEMENT = 0.8

#: A kernel of larger RMS radius in pixels is a blur, however steep some edges are: lights at night leave
#: steep edges along their traces. Of sharp Kodak photographs it is at most 4.4, of such nights 14 and more.
SHARP_RADIUS = 5.0

#: Mean similarity of the courses' kernels to that with the fewest gradients below which the estimate is
#: contradictory, but for a large kernel that explains much.
LEAST_AGREEMENT = 0.6

#: Share of one sum of squared gradients in another below which it is 0 but for rounding.
NO_ENERGY = 1e-6


class KernelEstimate(NamedTuple):
    """Blur kernels of N images, and what speaks against using them."""

    kernel: Tensor  # (N, K, K), not negative, each of sum 1
    sharp: Tensor  # (N,) bool: the edges of the image are too steep for any blur, and the kernel is small
    contradictory: Tensor  # (N,) bool: the courses do not agree, or there is nothing to see


class IteratedAnalysisNetwork(nn.Module):
    """Estimate the blur kernel of a photograph by coarse-to-fine iteration.

    Parameters
    ----------
    config : IteratedAnalysisConfig
        Sizes of its parts.

    Examples
    --------
    >>> config = IteratedAnalysisConfig(kernel_size=7, refiner_channels=4)
    >>> with torch.no_grad():
    ...     IteratedAnalysisNetwork(config)(torch.rand(1, 3, 48, 48)).shape
    torch.Size([1, 7, 7])
    """

    def __init__(self, config: IteratedAnalysisConfig) -> None:
        super().__init__()
        self.config = config
        self.refiner = KernelRefiner(config)

    def forward(self, image: Tensor, restore: RestoreLuma | None = None) -> Tensor:
        """Estimate blur kernels.

        Parameters
        ----------
        image : Tensor
            (N, 3, H, W) RGB or (N, 1, H, W) luma, range [0, 1], H and W at least 16.
        restore : callable, optional
            Restores luma (1, 1, H, W) by a blur kernel (1, K, K), to judge large kernels by the result;
            without it they are judged by the latent image alone.

        Returns
        -------
        Tensor
            Blur kernels (N, K, K), not negative, each summing to 1.
        """
        with torch.autocast(image.device.type, enabled=False):
            last, _ = self._iterate(photographs_of(image, None), restore)
            return self._refined(last)

    @torch.no_grad()
    def estimate(
        self, image: Tensor, usable: Tensor | None = None, restore: RestoreLuma | None = None
    ) -> KernelEstimate:
        """Estimate blur kernels and tell which of them had better not be used; see `forward`.

        Parameters
        ----------
        image : Tensor
            As in `forward`.
        usable : Tensor, optional
            (N, 1, H, W) bool, True for pixels that may take part in the kernel's equations; by default all.
            The others had better be filled smoothly: they still count as blurred by the kernel.
        restore : callable, optional
            As in `forward`.
        """
        with torch.autocast(image.device.type, enabled=False), threads_for(image[:, :1]):
            photographs = photographs_of(image, usable)
            last, agreement = self._iterate(photographs, restore)
            # Energies of the latent and the blurred gradients; the correlations are exact up to rounding.
            least, most = _evidence(last)[:, 3:].amax((-2, -1)).sort(dim=1).values.unbind(1)
            nothing_seen = least <= NO_ENERGY * most
            kernel = self._refined(last)
            small = rms_radius(kernel) < SHARP_RADIUS
            # Of large kernels the share says little: lights that are clipped need gradients all the same.
            needed = _needed_gradients(photographs, kernel)
            explained = _share_of_gradients(photographs, needed, photographs.usable)
            explains = explained <= LARGEST_SHARE
            return KernelEstimate(
                kernel,
                _looks_sharp(photographs, small, explained),
                nothing_seen
                | ((agreement < LEAST_AGREEMENT) & (small | ~explains))
                | ((agreement < DOUBTFUL_AGREEMENT) & small & ~explains),
            )

    @torch.no_grad()
    def last_iteration(self, image: Tensor) -> Iteration:
        """Return where the rounds end for images as in `forward`: what the refiner is given."""
        return self._iterate(photographs_of(image, None), None)[0]

    def _refined(self, last: Iteration) -> Tensor:
        if self.training:
            return fit_grid(self.refiner(last.kernel, _evidence(last)), self.config.kernel_size)
        kernel = last.kernel
        small = rms_radius(kernel) < REFINED_RADIUS
        # On a GPU the host does not wait for the answer.
        if kernel.is_cuda or bool(small.any()):
            kernel = torch.where(small[:, None, None], self.refiner(kernel, _evidence(last)), kernel)
        kernel = fit_grid(kernel, self.config.kernel_size)
        # One by one: transforms of a batch round differently, and a second estimate can make much of that.
        return torch.cat([centred(each) for each in torch.split(kernel, 1)])

    @torch.no_grad()
    def _iterate(self, photographs: Photographs, restore: RestoreLuma | None) -> tuple[Iteration, Tensor]:
        """Go through all scales; return where they end, and how well the courses agree (N,), 0 to 1."""
        # One by one, for lambda follows the noise of each.
        ends = [self._iterate_one(photograph, restore) for photograph in photographs.one_by_one()]
        last, agreement = zip(*ends, strict=True)
        return Iteration.joined(last, self.config.grid_size(0)), torch.cat(agreement)

    def _iterate_one(self, photograph: Photographs, restore: RestoreLuma | None) -> tuple[Iteration, Tensor]:
        """Go through all scales with a batch of one."""
        config = self.config
        last_scale = config.scale_count - 1
        compared = min(COMPARED_SCALE, last_scale // 2)
        extra = max(course.extra_scales for course in COURSES)
        pyramid = ImagePyramid(photograph, config, last_scale + extra + 1)
        device = photograph.luma.device

        def follow(course: Course) -> tuple[CourseEnd, Tensor]:
            """Return where a course ends, and how many gradients (1,) its latent image needs."""
            avoids = torch.full((1,), course.avoids_clipped, device=device)
            iteration = None
            scales = range(last_scale + course.extra_scales, compared - 1, -1)
            for number, scale in enumerate(scales):
                iteration = pyramid.run(scale, iteration, course.strengths(number), course.weight, avoids)
            assert iteration is not None
            # On the grid of the scale, so that enlarging the kernel cuts nothing off.
            end = Iteration.joined([iteration], config.grid_size(compared))
            return CourseEnd(end, avoids), _needed_gradients(pyramid.scales[compared], iteration.kernel)

        followed = side_by_side(follow, COURSES, pyramid.scales[compared].luma)
        order = torch.cat([needed for _, needed in followed]).argsort(stable=True)
        ends = [followed[index][0] for index in cast(list[int], order.tolist())]
        iteration = ends[0].iteration
        agreement = torch.stack([similarity(end.iteration.kernel, iteration.kernel) for end in ends]).mean(0)
        if compared > 0:
            found, gradients = finest_kernel(pyramid, compared, ends, restore)
        else:
            found, gradients = iteration, needed_gradients(photograph.luma, iteration.kernel)
        found = self._or_smaller(found, gradients, pyramid)
        by_streaks = estimate_by_streaks(found, photograph, config)
        if by_streaks is None:
            return found, agreement
        found, several = by_streaks
        # Streaks that agree are evidence enough, whatever the courses found.
        return found, torch.ones_like(agreement) if several else agreement

    def _or_smaller(self, found: Iteration, gradients: Tensor, pyramid: ImagePyramid) -> Iteration:
        """Return a small kernel if that explains the image better than the one found.

        `gradients` are the `needed_gradients` of the kernel that was found.
        """
        photographs = pyramid.photograph
        kernel = found.kernel
        clear = clear_of_lights(photographs, SMALL_GRID)
        radius = rms_radius(kernel)
        replaceable = radius < SMALL_RADIUS
        needed = share_of_pixels(gradients, clear)
        if photographs.clipped is None:
            replaceable |= _share_of_gradients(photographs, needed, clear) > SENSELESS_SHARE
        # On a GPU the host does not wait for the answer.
        if not (kernel.is_cuda or bool(replaceable.any())):
            return found
        course = Course(FINE_STRENGTH, rounds=SMALL_ROUNDS)
        iteration = bell(pyramid.scales[SMALL_SCALE])
        for scale in range(SMALL_SCALE, -1, -1):
            strengths = course.strengths(SMALL_SCALE - scale)
            iteration = pyramid.run(scale, iteration, strengths, SMALL_WEIGHT, largest=SMALL_GRID)
        needed_by_small = gradient_count(photographs.luma, iteration.kernel, clear)
        share = torch.where(radius < TINY, REPLACING_SHARE_OF_TINY, REPLACING_SHARE)
        smaller = replaceable & (needed_by_small < share * needed)
        smaller &= rms_radius(iteration.kernel) < SMALL_RADIUS
        return _chosen([found, iteration], smaller.long(), self.config.grid_size(0))


def _evidence(last: Iteration) -> Tensor:
    assert last.evidence is not None
    return last.evidence


def _looks_sharp(photographs: Photographs, small: Tensor, explained: Tensor) -> Tensor:
    """Return (N,) whether photographs show no blur: steep edges, and a small kernel that explains nothing."""
    # Light that is cut off at white ends in a step, however much it is blurred.
    # The smallest noise that it expects is that of luma as it is.
    steepness = edge_steepness(photographs.luma / photographs.gain, clear_of_lights(photographs, REACH))
    return small & ((steepness > SHARP_STEEPNESS) | ((steepness > DOUBTFUL_STEEPNESS) & (explained >= 1.0)))


def _share_of_gradients(photographs: Photographs, needed: Tensor, usable: Tensor | None) -> Tensor:
    """Return (N,) how many gradients the latent image needs with a kernel, divided by those without."""
    without_blur = share_of_pixels(photographs.gradients_without_blur, usable)
    return needed / without_blur.clamp(min=torch.finfo(needed.dtype).tiny)


def _needed_gradients(photographs: Photographs, kernel: Tensor) -> Tensor:
    return gradient_count(photographs.luma, kernel, photographs.usable)


def _chosen(iterations: list[Iteration], best: Tensor, size: int) -> Iteration:
    """Return the iteration of one image that `best` (1,) names, on a grid of `size` pixels."""
    joined = Iteration.joined(iterations, size)
    evidence = None if joined.evidence is None else joined.evidence[best]
    return Iteration(joined.kernel[best], joined.threshold[best], evidence)
