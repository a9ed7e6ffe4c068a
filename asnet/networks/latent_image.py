"""Latent images with few gradients: an estimate of the photograph without blur.

Given a kernel k, the latent image x of a photograph y minimises

    |k * x - y|^2 + lambda |grad x|_0

(Xu, Zheng and Jia 2013; Pan et al. 2014), by half-quadratic splitting: an auxiliary gradient field g that is
either 0 or grad x, pulled towards grad x by a weight beta that doubles from step to step,

    g = grad x where |grad x|^2 >= lambda / beta, else 0
    X = (conj(K) Y + beta conj(D) G) / (|K|^2 + beta |D|^2)

with capital letters for Fourier transforms and D for first differences. Weak edges and noise vanish and
strong edges become steps; this distinguishes a kernel from its 180 degree flip.

Where the photograph is clipped, y is only a lower limit: there it is raised to k * x after every step. Beyond
the photograph's edges nothing is known but that light is not negative: there the lower limit is 0.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet import ops
from asnet.networks.wiener import fast_fft_length

#: The weight beta of the splitting: its first value, in units of lambda, its growth, and its last value.
FIRST_BETA, BETA_GROWTH, LAST_BETA = 2.0, 2.0, 100.0

#: Upper limits of the brightness of clipped lights, before and after the blur.
BRIGHTEST = 8.0


#: How often a latent image is computed whose gradients are counted, where lights are clipped: they become
#: points step by step.
CALLS_FOR_LIGHTS = 3

#: lambda of the latent images whose gradients are counted, unless it is given.
COUNTED_STRENGTH = 2e-3


def image_gradients(image: Tensor) -> Tensor:
    """Return the horizontal and vertical forward differences (N, 2, H, W) of an image (N, 1, H, W).

    They are 0 at the far edges.
    """
    horizontal = F.pad(image.diff(dim=3), (0, 1))
    vertical = F.pad(image.diff(dim=2), (0, 0, 0, 1))
    return torch.cat([horizontal, vertical], dim=1)


def needed_gradients(
    image: Tensor,
    kernel: Tensor,
    clipped: Tensor | None = None,
    *,
    strength: float = COUNTED_STRENGTH,
    calls: int = 1,
) -> Tensor:
    """Return at which pixels (N, 1, h, w) the latent image needs a gradient to explain the blurred one.

    Parameters
    ----------
    image : Tensor
        (N, 1, h, w), blurred, not negative.
    kernel : Tensor
        (N, s, s), each of sum 1.
    clipped : Tensor, optional
        (N, 1, h, w) bool: pixels that may be brighter; by default none.
    strength : float
        lambda of the latent image: the less, the more it explains.
    calls : int
        How often the latent image is computed, each time with what it predicts of the clipped pixels.
    """
    scale = BlurredScale.from_image(image, kernel.shape[-1], clipped)
    observed = None
    for _ in range(calls):
        latent, observed = sparse_latent(scale, kernel, strength, observed)
    return image_gradients(latent).square().sum(1, keepdim=True) > 2 * strength / LAST_BETA


def share_of_pixels(mask: Tensor, usable: Tensor | None = None) -> Tensor:
    """Return the share (N,) of the pixels, or of the usable ones, that masks (N, 1, h, w) contain."""
    if usable is None:
        return mask.float().mean((1, 2, 3))
    return (mask & usable).float().sum((1, 2, 3)) / usable.float().sum((1, 2, 3)).clamp(min=1)


def gradient_count(image: Tensor, kernel: Tensor, usable: Tensor | None = None) -> Tensor:
    """Return the share (N,) of pixels at which the latent image needs a gradient to explain the blurred one.

    The true kernel needs fewer than others.

    Parameters
    ----------
    image, kernel : Tensor
        As in `needed_gradients`.
    usable : Tensor, optional
        (N, 1, h, w) bool: pixels that count; by default all.
    """
    return share_of_pixels(needed_gradients(image, kernel), usable)


@dataclass
class BlurredScale:
    """A batch of blurred images at one scale, continued periodically.

    Parameters
    ----------
    image : Tensor
        (N, 1, h, w), the blurred images.
    limit : Tensor
        (N, 1, H, W), the same in a periodic frame at least a kernel's size larger; 0 beyond the right and
        lower edges.
    unknown : Tensor
        (N, 1, H, W) bool, where `limit` is only a lower limit: beyond the edges and where it is clipped.
    padded : Tensor
        (N, 1, H, W), where the iteration starts: like `limit`, but beyond the edges the values fade into
        those of the opposite edges.
    """

    image: Tensor
    limit: Tensor
    unknown: Tensor
    padded: Tensor

    @classmethod
    def from_image(cls, image: Tensor, size: int, clipped: Tensor | None = None) -> "BlurredScale":
        """Pad images (N, 1, h, w), and the masks of clipped pixels, for kernels of `size` pixels."""
        height, width = image.shape[-2:]
        frame = fast_fft_length(height + size - 1), fast_fft_length(width + size - 1)
        beyond = (0, frame[1] - width, 0, frame[0] - height)
        if clipped is None:
            clipped = torch.zeros_like(image, dtype=torch.bool)
        unknown = F.pad(clipped, beyond, value=True)
        return cls(image, F.pad(image, beyond), unknown, _bridged(image, *frame))


def _bridged(image: Tensor, height: int, width: int) -> Tensor:
    """Extend images (N, 1, h, w) to the right and below, linearly from each edge to the opposite one."""
    for dim, length in ((3, width), (2, height)):
        count = length - image.shape[dim]
        shape = [1, 1, 1, 1]
        shape[dim] = count
        phase = (torch.arange(1, count + 1, device=image.device, dtype=image.dtype) / (count + 1)).view(shape)
        last, first = image.narrow(dim, image.shape[dim] - 1, 1), image.narrow(dim, 0, 1)
        image = torch.cat([image, torch.lerp(last, first, phase)], dim=dim)
    return image


def latent_steps(largest_lambda: float) -> int:
    """Return the number of steps of the splitting for lambda up to `largest_lambda`."""
    return max(1, math.ceil(math.log(LAST_BETA / (FIRST_BETA * largest_lambda), BETA_GROWTH)))


def sparse_latent(
    scale: BlurredScale,
    kernel: Tensor,
    strength: float,
    observed: Tensor | None = None,
    *,
    border: int = 0,
    ground: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the latent images of a scale for given kernels.

    Parameters
    ----------
    scale : BlurredScale
        The blurred images, not negative.
    kernel : Tensor
        Blur kernels (N, s, s), s odd, each of sum 1.
    strength : float
        lambda > 0: the cost of a gradient that is not 0, for intensities in [0, 1].
    observed : Tensor, optional
        The observed images that the last call returned, to continue from.
    border : int
        Pixels beyond the edges that the latent images extend, at most half of the size that the scale is
        padded for.
    ground : float, optional
        Intensity of an even ground from which few pixels of the latent images differ; none by default.

    Returns
    -------
    latent : Tensor
        (N, 1, h + 2 border, w + 2 border).
    observed : Tensor
        (N, 1, H, W): the padded blurred images, with unknown pixels raised to what latent image and kernel
        predict.
    """
    latent, observed = ops.sparse_latent(
        scale.limit,
        kernel,
        strength,
        beta=FIRST_BETA * strength,
        growth=BETA_GROWTH,
        steps=latent_steps(strength),
        observed=scale.padded if observed is None else observed,
        clipped=scale.unknown,
        brightest=BRIGHTEST,
        ground=ground,
    )
    height, width = scale.image.shape[-2:]
    if border:
        latent = latent.roll((border, border), (2, 3))
    return latent[..., : height + 2 * border, : width + 2 * border], observed
