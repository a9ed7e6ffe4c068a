"""Blur kernels on their grids: resampling, pruning, centring, extent.

All functions take batches (N, s, s), s odd, and read no value back to the host, so none of them synchronises
with a GPU.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.ops import label_parts

#: Keeps divisions finite; far below the smallest weight that matters.
EPSILON = 1e-6

#: Weights below this share of the largest are considered noise.
SMALLEST_WEIGHT = 0.05

#: Connected parts of a kernel with less than this share of its sum are considered noise.
SMALLEST_PART = 0.1

#: Weights that count for the extent, as a share of the largest.
EXTENT_WEIGHT = 0.02

#: After a Fourier shift, weights below this share of the largest are considered ripples.
SMALLEST_RIPPLE = 0.03


def normalised(kernel: Tensor) -> Tensor:
    """Return non-negative kernels (N, s, s) divided by their sums."""
    return kernel / kernel.sum((-2, -1), keepdim=True).clamp(min=EPSILON)


def enlarge(kernel: Tensor, factor: float) -> Tensor:
    """Resample kernels (N, s, s) to finer pixels, `factor` >= 1 times as many to a side.

    Parameters
    ----------
    kernel : Tensor
        (N, s, s), s odd.
    factor : float
        How many times smaller the new pixels are, exactly.

    Returns
    -------
    Tensor
        (N, t, t), t the smallest odd number >= factor s, with the same centre and of sum 1.
    """
    count, size, _ = kernel.shape
    larger = math.ceil((factor * size - 1) / 2) * 2 + 1
    ratio = larger / (factor * size)
    transform = kernel.new_tensor([[ratio, 0, 0], [0, ratio, 0]]).expand(count, 2, 3)
    grid = F.affine_grid(transform, [count, 1, larger, larger], align_corners=False)
    return normalised(F.grid_sample(kernel[:, None], grid, align_corners=False)[:, 0])


def reduced(kernel: Tensor, factor: float) -> Tensor:
    """Resample kernels (N, s, s) to coarser pixels, exactly `factor` < 1 times as many to a side.

    Parameters
    ----------
    kernel : Tensor
        (N, s, s), s odd.
    factor : float
        Side of the old pixels, in new ones.

    Returns
    -------
    Tensor
        (N, t, t), t odd and about factor s, of sum 1; the centre moves by less than half a pixel.
    """
    side = kernel.shape[-1]
    while math.floor(factor * side) % 2 == 0:
        side += 2
    smaller = F.interpolate(
        fit_grid(kernel, side)[:, None],
        scale_factor=factor,
        mode="bilinear",
        antialias=True,
        recompute_scale_factor=False,
    )
    return normalised(smaller[:, 0])


def fit_grid(kernel: Tensor, size: int) -> Tensor:
    """Crop or pad kernels (..., s, s) around their centre to (..., size, size)."""
    margin = (size - kernel.shape[-1]) // 2
    return F.pad(kernel, (margin,) * 4)


def prune(kernel: Tensor, smallest_weight: float = SMALLEST_WEIGHT) -> Tensor:
    """Drop small weights and small connected parts of solved kernels (N, s, s); the sums become 1.

    Parameters
    ----------
    kernel : Tensor
        (N, s, s), may be negative.
    smallest_weight : float
        Weights below this share of the largest are dropped.
    """
    floor = smallest_weight * kernel.amax((-2, -1), keepdim=True)
    kernel = normalised(torch.where(kernel > floor.clamp(min=0), kernel, 0.0))
    labels = label_parts(kernel > 0).flatten(1)
    weights = kernel.flatten(1)
    mass = weights.new_zeros(weights.shape[0], weights.shape[1] + 1).scatter_add_(1, labels, weights)
    share = mass.gather(1, labels)
    # The largest part is kept at any size.
    kept = share >= torch.minimum(share.amax(1, keepdim=True), share.new_tensor(SMALLEST_PART))
    pruned = torch.where(kept, weights, 0.0).view_as(kernel)
    # An empty kernel becomes a single pixel: no blur.
    centre = centred_square(mass.new_ones(len(kernel)), kernel.shape[-1])
    return normalised(torch.where(pruned.sum((1, 2), keepdim=True) > 0, pruned, centre.to(pruned)))


def centroid(kernel: Tensor) -> Tensor:
    """Return the centroids (N, 2) of kernels (N, s, s), vertical and horizontal, from the grid's centre."""
    size = kernel.shape[-1]
    weights = normalised(kernel)
    positions = torch.arange(size, device=kernel.device, dtype=kernel.dtype) - size // 2
    return torch.stack([weights.sum(2) @ positions, weights.sum(1) @ positions], dim=1)


def centred(kernel: Tensor) -> Tensor:
    """Move the centroids of kernels (N, s, s) to the grid's centre with sub-pixel accuracy.

    A Fourier shift does not thicken thin paths; its small ripples are cut off.
    """
    size = kernel.shape[-1]
    kernel = shifted(kernel, -centroid(kernel).round().long())
    vertical = torch.fft.fftfreq(size, device=kernel.device, dtype=kernel.dtype)[:, None]
    horizontal = torch.fft.rfftfreq(size, device=kernel.device, dtype=kernel.dtype)
    # Cutting moves the centroid a little, so shift once more.
    for _ in range(2):
        down, right = centroid(kernel)[:, :, None, None].unbind(1)
        turns = 2 * torch.pi * (down * vertical + right * horizontal)
        phase = torch.polar(torch.ones_like(turns), turns)
        moved = torch.fft.irfft2(torch.fft.rfft2(kernel) * phase, s=(size, size))
        ripple = SMALLEST_RIPPLE * moved.amax((-2, -1), keepdim=True)
        kernel = normalised(torch.where(moved > ripple, moved, 0.0))
    return kernel


def shifted(kernel: Tensor, shift: Tensor) -> Tensor:
    """Move kernels (N, s, s) by whole pixels (N, 2), cyclically."""
    size = kernel.shape[-1]
    positions = torch.arange(size, device=kernel.device)
    rows = (positions - shift[:, :1]) % size
    columns = (positions - shift[:, 1:]) % size
    kernel = kernel.gather(1, rows[:, :, None].expand_as(kernel))
    return kernel.gather(2, columns[:, None, :].expand_as(kernel))


def extent(kernel: Tensor) -> Tensor:
    """Return the side (N,) of the smallest centred square that contains all significant weights."""
    size = kernel.shape[-1]
    matters = kernel > EXTENT_WEIGHT * kernel.amax((-2, -1), keepdim=True)
    distance = (torch.arange(size, device=kernel.device) - size // 2).abs()
    farthest = torch.maximum(distance[:, None], distance[None])
    return 2 * (farthest * matters).flatten(1).amax(1) + 1


def rms_radius(kernel: Tensor) -> Tensor:
    """Return the root mean square distance (N,) in pixels of kernels' weights from the grid's centre."""
    size = kernel.shape[-1]
    squared = (torch.arange(size, device=kernel.device, dtype=kernel.dtype) - size // 2).square()
    return (normalised(kernel) * (squared[:, None] + squared)).sum((-2, -1)).sqrt()


def centred_square(side: Tensor, size: int) -> Tensor:
    """Return masks (N, size, size) of the centred squares of `side` (N,) pixels."""
    distance = (torch.arange(size, device=side.device) - size // 2).abs()
    farthest = torch.maximum(distance[:, None], distance[None])
    return 2 * farthest[None] + 1 <= side[:, None, None]


def similarity(kernel: Tensor, other: Tensor) -> Tensor:
    """Return the largest cosine (N,) of two kernels (N, s, s) and (N, t, t) over all whole-pixel shifts.

    0 where either is zero everywhere.
    """
    shape = [first + second - 1 for first, second in zip(kernel.shape[-2:], other.shape[-2:], strict=True)]
    spectrum = torch.fft.rfft2(kernel, s=shape).conj() * torch.fft.rfft2(other, s=shape)
    peak: Tensor = torch.fft.irfft2(spectrum, s=shape).amax(dim=(1, 2))
    norms = kernel.flatten(1).norm(dim=1) * other.flatten(1).norm(dim=1)
    return torch.where(norms > 0.0, peak / norms, 0.0)
