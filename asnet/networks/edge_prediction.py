"""Prediction of sharp edges from a latent image: a shock filter, and a choice of the strongest gradients."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

#: Standard deviation in pixels of the Gaussian that decides where a shock filter sees an edge.
SHOCK_SMOOTHING = 1.0

#: Step of the shock filter; up to 0.5 the filter makes no new extrema.
SHOCK_STEP = 0.5

#: The choice of the strongest gradients looks at every so many pixels.
QUANTILE_STRIDE = 7


def image_gradients(image: Tensor) -> Tensor:
    """Return the horizontal and vertical forward differences (N, 2, H, W) of an image (N, 1, H, W).

    They are 0 at the far edge.
    """
    horizontal = F.pad(image[..., :, 1:] - image[..., :, :-1], (0, 1))
    vertical = F.pad(image[..., 1:, :] - image[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([horizontal, vertical], dim=1)


def gaussian_blur(image: Tensor, deviation: float) -> Tensor:
    """Blur an image (N, 1, H, W) by a Gaussian of `deviation` pixels; the border repeats the edge pixels."""
    radius = int(3 * deviation + 0.5)
    weights = [math.exp(-(offset**2) / (2 * deviation**2)) for offset in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    image = F.pad(image, (radius,) * 4, mode="replicate")
    # Shifted sums: a convolution of one channel takes libraries five to forty times as long.
    for axis in (3, 2):
        count = image.shape[axis] - 2 * radius
        blurred = image.narrow(axis, radius, count) * (weights[0] / total)
        for offset in range(1, radius + 1):
            before, after = (image.narrow(axis, radius + shift, count) for shift in (-offset, offset))
            blurred = blurred.add(before + after, alpha=weights[offset] / total)
        image = blurred
    return image


def shock_filter(image: Tensor, steps: int) -> Tensor:
    """Steepen the edges of an image (Osher and Rudin 1990).

    Every step moves pixels away from the inflection of the brightness along the gradient, found in a
    slightly smoothed image: x <- x - dt sign(g' H g) |x'|, with g the smoothed gradient, H the smoothed
    Hessian and |x'| the gradient magnitude from one-sided differences that agree in sign (minmod), so that
    nothing overshoots.

    Parameters
    ----------
    image : Tensor
        (N, 1, H, W).
    steps : int
        Number of steps.

    Returns
    -------
    Tensor
        (N, 1, H, W).
    """
    for _ in range(steps):
        smooth = F.pad(gaussian_blur(image, SHOCK_SMOOTHING), (1, 1, 1, 1), mode="replicate")
        centre = smooth[..., 1:-1, 1:-1]
        left, right = smooth[..., 1:-1, :-2], smooth[..., 1:-1, 2:]
        above, below = smooth[..., :-2, 1:-1], smooth[..., 2:, 1:-1]
        # Factors common to all terms leave the sign as it is.
        slope_x, slope_y = right - left, below - above
        curve_x, curve_y = right + left - 2 * centre, below + above - 2 * centre
        twist = smooth[..., 2:, 2:] + smooth[..., :-2, :-2] - smooth[..., :-2, 2:] - smooth[..., 2:, :-2]
        curvature = slope_x.square() * curve_x + slope_x * slope_y * twist / 2 + slope_y.square() * curve_y

        padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
        magnitude = torch.hypot(
            _minmod(padded[..., 1:-1, 2:] - image, image - padded[..., 1:-1, :-2]),
            _minmod(padded[..., 2:, 1:-1] - image, image - padded[..., :-2, 1:-1]),
        )
        image = image - SHOCK_STEP * torch.sign(curvature) * magnitude
    return image


def _minmod(forward: Tensor, backward: Tensor) -> Tensor:
    """Return the smaller magnitude where two differences agree in sign, else 0."""
    return torch.minimum(forward.abs(), backward.abs()) * (forward * backward > 0)


def strongest(gradients: Tensor, share: float) -> Tensor:
    """Zero all but the strongest vectors of gradients (N, 2, H, W), about `share` of each image's pixels."""
    magnitude = gradients.square().sum(1)
    sample = magnitude.flatten(1)[:, ::QUANTILE_STRIDE]
    rank = max(1, round((1 - share) * sample.shape[1]))
    threshold = sample.kthvalue(rank, dim=1).values
    return gradients * (magnitude > threshold[:, None, None])[:, None]
