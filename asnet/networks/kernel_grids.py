"""Blur kernels on their grids: resampling, pruning, centring, extent.

All functions take batches (N, s, s), s odd, and read no value back to the host, so that on a GPU none of them
waits.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.networks.wiener import fast_fft_length

#: Keeps divisions finite; far below the smallest weight that matters.
EPSILON = 1e-6

#: Weights below this share of the largest are taken for noise.
SMALLEST_WEIGHT = 0.05

#: Connected parts of a kernel with less than this share of its sum are taken for noise.
SMALLEST_PART = 0.1

#: Weights that count for the extent, as a share of the largest.
EXTENT_WEIGHT = 0.02

#: Rounds of label propagation. Each joins neighbours and then follows the labels that they have, so labels
#: travel twice as far each round: enough for a winding path through a grid of 101 pixels.
LABEL_ROUNDS = 16


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


def fit_grid(kernel: Tensor, size: int) -> Tensor:
    """Crop or pad kernels (N, s, s) around their centre to (N, size, size)."""
    margin = (size - kernel.shape[-1]) // 2
    return F.pad(kernel, (margin,) * 4)


def label_parts(mask: Tensor) -> Tensor:
    """Label the 8-connected parts of masks.

    Parameters
    ----------
    mask : Tensor
        (N, s, s) bool.

    Returns
    -------
    Tensor
        (N, s, s) int64: 0 outside of the mask, else a number that is the same within a part and differs
        between parts (the largest index, from 1 on, among its pixels).
    """
    count, height, width = mask.shape
    index = torch.arange(1, height * width + 1, device=mask.device).view(1, height, width)
    labels = torch.where(mask, index, 0)
    for _ in range(LABEL_ROUNDS):
        for _ in range(2):
            # Indices up to 2^24 are exact in float32.
            spread = F.max_pool2d(labels[:, None].float(), 3, stride=1, padding=1)[:, 0].long()
            labels = torch.where(mask, spread, 0)
        # A pixel takes the label that the pixel has after which its own label is named.
        table = F.pad(labels.flatten(1), (1, 0))
        labels = table.gather(1, labels.flatten(1)).view(count, height, width)
    return labels


def prune(kernel: Tensor) -> Tensor:
    """Drop small weights and small connected parts of solved kernels (N, s, s); the sums become 1."""
    floor = SMALLEST_WEIGHT * kernel.amax((-2, -1), keepdim=True)
    kernel = normalised(torch.where(kernel > floor.clamp(min=0), kernel, 0.0))
    labels = label_parts(kernel > 0).flatten(1)
    weights = kernel.flatten(1)
    mass = weights.new_zeros(weights.shape[0], weights.shape[1] + 1).scatter_add_(1, labels, weights)
    share = mass.gather(1, labels)
    # The largest part stays, however small.
    kept = share >= torch.minimum(share.amax(1, keepdim=True), share.new_tensor(SMALLEST_PART))
    return normalised(torch.where(kept, weights, 0.0).view_as(kernel))


def shift_to_centre(kernel: Tensor) -> Tensor:
    """Return the whole pixels (N, 2), vertical and horizontal, that move centroids to the grid's centre."""
    size = kernel.shape[-1]
    weights = normalised(kernel)
    positions = torch.arange(size, device=kernel.device, dtype=kernel.dtype) - size // 2
    centroid = torch.stack([weights.sum(2) @ positions, weights.sum(1) @ positions], dim=1)
    return -centroid.round().long()


def shifted(kernel: Tensor, shift: Tensor) -> Tensor:
    """Move kernels (N, s, s) by whole pixels (N, 2), cyclically."""
    size = kernel.shape[-1]
    positions = torch.arange(size, device=kernel.device)
    rows = (positions - shift[:, :1]) % size
    columns = (positions - shift[:, 1:]) % size
    kernel = kernel.gather(1, rows[:, :, None].expand_as(kernel))
    return kernel.gather(2, columns[:, None, :].expand_as(kernel))


def moved(kernel: Tensor, shift: Tensor) -> Tensor:
    """Move kernels (N, s, s) by fractions of pixels (N, 2), vertical and horizontal, at most 1 in either direction.

    Bilinear: what lies between pixels is shared among them, and nothing becomes negative.
    """
    for dim in (1, 2):
        amount = shift[:, dim - 1, None, None]
        before, after = kernel.roll(-1, dim), kernel.roll(1, dim)
        neighbour = torch.where(amount > 0, after, before)
        kernel = torch.lerp(kernel, neighbour, amount.abs())
    return kernel


def extent(kernel: Tensor) -> Tensor:
    """Return the side (N,) of the smallest centred square that holds all weights that matter."""
    size = kernel.shape[-1]
    matters = kernel > EXTENT_WEIGHT * kernel.amax((-2, -1), keepdim=True)
    distance = (torch.arange(size, device=kernel.device) - size // 2).abs()
    farthest = torch.maximum(distance[:, None], distance[None])
    return 2 * (farthest * matters).flatten(1).amax(1) + 1


def centred_square(side: Tensor, size: int) -> Tensor:
    """Return masks (N, size, size) of the centred squares of `side` (N,) pixels."""
    distance = (torch.arange(size, device=side.device) - size // 2).abs()
    farthest = torch.maximum(distance[:, None], distance[None])
    return 2 * farthest[None] + 1 <= side[:, None, None]


def similarity(kernel: Tensor, other: Tensor) -> Tensor:
    """Return the largest cosine (N,) of two kernels (N, s, s) and (N, t, t) over all whole-pixel shifts."""
    length = fast_fft_length(kernel.shape[-1] + other.shape[-1])
    first, second = (torch.fft.rfft2(k, s=(length, length)) for k in (kernel, other))
    correlation: Tensor = torch.fft.irfft2(first * second.conj(), s=(length, length))
    norms = kernel.flatten(1).norm(dim=1) * other.flatten(1).norm(dim=1)
    cosine: Tensor = correlation.flatten(1).amax(1) / norms.clamp(min=EPSILON)
    return cosine
