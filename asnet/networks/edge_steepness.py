"""Steepness of the edges of an image, which distinguishes a sharp photograph from a blurred one."""

import torch
from torch import Tensor
from torch.nn import functional as F

#: Share of the largest differences along an axis that are examined, and their minimum number.
STEEPEST, FEWEST = 0.001, 20

#: Pixels on both sides of a difference over which its edge may rise.
REACH = 3

#: Smallest standard deviation of the noise, in the range [0, 1]: half a level of 8 bits.
SMALLEST_NOISE = 0.5 / 255

#: Number of standard deviations by which noise is expected to increase the largest differences.
NOISE_MARGIN = 2.0

#: The noise is estimated from one in this many pixels.
NOISE_STRIDE = 7

#: Edges steeper than this (`edge_steepness`) are those of a sharp photograph.
SHARP_STEEPNESS = 0.6


def edge_steepness(image: Tensor, usable: Tensor | None = None) -> Tensor:
    """Return the share of an edge's rise between two neighbouring pixels, for the strongest edges.

    An edge blurred along an axis rises over the length of the blur, for any contrast. Motion does not change
    edges parallel to it, so the axis with the flatter edges counts.

    Parameters
    ----------
    image : Tensor
        (N, 1, H, W) luma, range [0, 1], H and W at least 16.
    usable : Tensor, optional
        (N, 1, H, W) bool, True for pixels whose differences count; by default all.

    Returns
    -------
    Tensor
        (N,), 0 to 1: the median over the strongest differences of their share in the range of values within
        `REACH` pixels; 1 for steps from one pixel to the next, 0 without edges above the noise.
    """
    noise = noise_deviation(image).clamp(min=SMALLEST_NOISE)
    ratios = []
    known = torch.ones_like(image, dtype=torch.bool) if usable is None else usable
    for lines, counted in (
        (image[:, 0], known[:, 0]),
        (image[:, 0].transpose(1, 2), known[:, 0].transpose(1, 2)),
    ):
        both = counted[..., 1:] & counted[..., :-1]
        difference = (lines.diff(dim=2).abs() * both).flatten(1)
        strongest, places = difference.topk(max(FEWEST, round(STEEPEST * difference.shape[1])), dim=1)
        rise = _local_range(lines, places)
        above_noise = (strongest - NOISE_MARGIN * noise[:, None]).clamp(min=0)
        ratios.append((above_noise / rise.clamp(min=SMALLEST_NOISE)).median(dim=1).values)
    return torch.minimum(*ratios)


def noise_deviation(image: Tensor) -> Tensor:
    """Estimate the standard deviation (N,) of white noise in images (N, 1, H, W) (after Immerkaer 1996).

    The mask ignores planes and edges along the axes; the median ignores most other structure.
    """
    second = torch.tensor([1.0, -2.0, 1.0], device=image.device, dtype=image.dtype)
    response = F.conv2d(image, (second[:, None] * second)[None, None]).flatten(1)
    # The mask has the Euclidean norm 6; 0.6745 is the median of the absolute value of a normal variable.
    return response[:, ::NOISE_STRIDE].abs().median(dim=1).values / (6 * 0.6745)


def _local_range(lines: Tensor, places: Tensor) -> Tensor:
    """Range of the values around differences along the last axis, the smaller of the two pixels' windows.

    `places` (N, count) are those of the differences of lines (N, A, B), counted over (A, B - 1).
    """
    length = lines.shape[2]
    row, column = places // (length - 1), places % (length - 1)
    offsets = torch.arange(-REACH, REACH + 2, device=lines.device)
    columns = (column[..., None] + offsets).clamp(0, length - 1)
    around = lines.flatten(1).gather(1, (row[..., None] * length + columns).flatten(1)).view(columns.shape)
    windows = around[..., :-1], around[..., 1:]
    return torch.minimum(*(window.amax(-1) - window.amin(-1) for window in windows))
