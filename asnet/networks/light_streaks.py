"""Streaks of lights: what a point light leaves in a blurred photograph has the shape of the blur kernel.

Lights of a night are often clipped, so a streak shows where the kernel has weights, but not how large they
are; it is as wide as the light and the kernel's path together. And lights disturb an estimate: their
gradients are the strongest, and unknown where they are clipped. So streaks serve twice. Without them the
rest of the photograph determines a kernel better, and of several kernels the one that they resemble is
likelier (Hu, Cho, Wang and Yang 2014 estimate by streaks alone).

A streak is a part of the photograph that is narrow, brighter than what surrounds it, clipped somewhere, and
no larger than a kernel can be. Of the streaks that are found, the largest group of similar ones counts. All
of that happens at half the photograph's size.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.networks.blurred_photographs import WHITE
from asnet.networks.kernel_grids import fit_grid, normalised, prune, reduced, similarity
from asnet.networks.kernel_rounds import grown
from asnet.ops import label_parts

#: Streaks are narrower than 2 r + 1 pixels of half the size, r being this.
LARGEST_RADIUS = 5

#: Share of what the surroundings leave below white from which on a pixel belongs to a streak, and what they
#: must leave.
BRIGHTER, LEAST_ROOM = 0.2, 0.35

#: Smallest side of a streak, and what lies between it and the photograph's edges, in pixels of half the size.
SMALLEST_SIDE, EDGE = 4, 2

#: At most so many streaks are compared, the largest ones.
MOST_STREAKS = 24

#: Similarity from which on two streaks have one shape. Shares of white above this are alike: they may have
#: been clipped.
LIKENESS, FULL = 0.8, 0.6

#: Steps of deconvolving a streak by the disc of its light.
DISC_STEPS = 30

#: Radii of lights, in pixels of half the size, and multiples of white under which a kernel is compared.
RADII, EXPOSURES = (0.0, 1.0, 2.0, 3.0), (1.0, 2.0, 4.0, 8.0, 16.0)

#: Pixels by which streaks are grown before they are taken out, for lights have halos. What takes their place
#: comes from the photograph reduced so many times, in windows of so many pixels, and is smoothed so often.
HALO, REDUCTION, WINDOW, SMOOTHING_STEPS = 6, 4, 17, 30


class LightStreaks(NamedTuple):
    """The streaks of one photograph."""

    path: Tensor  # (1, s, s) at half the size, s odd: the mean of those that resemble each other, of sum 1
    alike: int  # how many these are
    marks: Tensor  # (1, 1, H, W) bool: the pixels of all streaks


def find_streaks(brightness: Tensor, largest: int, usable: Tensor | None = None) -> LightStreaks | None:
    """Return the streaks in a photograph, if there are any.

    Parameters
    ----------
    brightness : Tensor
        (1, 1, H, W), range [0, 1]: the brightest channel of each pixel.
    largest : int
        Side K of the largest kernel.
    usable : Tensor, optional
        (1, 1, H, W) bool: pixels that may be those of a streak; by default all.
    """
    half = _resized(brightness, 0.5)
    surroundings = _opened(half, LARGEST_RADIUS)
    room = 1 - surroundings
    excess = (half - surroundings) / room.clamp(min=LEAST_ROOM)
    labels = label_parts(((excess > BRIGHTER) & (room > LEAST_ROOM))[:, 0])[0]
    if usable is not None:
        unusable = _resized((~usable).to(half), 0.5)[0, 0] > 0
        labels = labels * ~torch.isin(labels, labels[unusable])
    clipped = _resized((brightness >= WHITE).to(half), 0.5)[0, 0] > 0.5
    grid = largest // 4 * 2 + 1
    boxes = _boxes(labels, clipped, grid)
    sides = boxes[:, 3:] - boxes[:, 1:3] + 1
    inside = (sides.amax(1) >= SMALLEST_SIDE) & (boxes[:, 1] >= EDGE) & (boxes[:, 3] < labels.shape[0] - EDGE)
    inside &= (boxes[:, 2] >= EDGE) & (boxes[:, 4] < labels.shape[1] - EDGE)
    compared = boxes[inside][:MOST_STREAKS]
    if not len(compared):
        return None
    patches = []
    for label, top, left, bottom, right in compared.tolist():
        place = (slice(top, bottom + 1), slice(left, right + 1))
        patch = torch.where(labels[place] == label, excess[0, 0][place], 0.0)
        above, before = ((grid - side) // 2 for side in patch.shape)
        rest = (grid - patch.shape[1] - before, grid - patch.shape[0] - above)
        patches.append(F.pad(patch, (before, rest[0], above, rest[1])))
    marks = torch.isin(labels, boxes[:, 0])[None, None]
    marks = F.interpolate(marks.to(half), size=brightness.shape[2:], mode="nearest") > 0
    return LightStreaks(*_common_shape(torch.stack(patches)), marks)


def streak_kernel(streaks: LightStreaks) -> Tensor:
    """Return the blur kernel (1, s, s), at half the size, whose path the streaks show.

    They are deconvolved (Richardson 1972, Lucy 1974) by a disc as wide as they are.
    """
    wide = streaks.path[None]
    mask = (wide > 0.3 * wide.amax()).to(wide)
    area, radius = float(mask.sum()), 0
    # Erosion leaves next to nothing of a path once it is as deep as the path is wide.
    # Nothing is known beyond the grid, which therefore erodes from its edges as well.
    while float((mask := -F.max_pool2d(F.pad(-mask, (1,) * 4), 3, 1)).sum()) >= 0.05 * area:
        radius += 1
    disc = _disc(float(radius), wide)
    margin = disc.shape[-1] // 2
    path = wide
    for _ in range(DISC_STEPS):
        seen = F.conv2d(path, disc, padding=margin).clamp(min=1e-6)
        path = path * F.conv2d(wide / seen, disc, padding=margin)
    return prune(path[0])


def resemblance(streaks: LightStreaks, kernel: Tensor) -> float:
    """Return how similar streaks are to what a light would leave under a kernel (1, K, K): 0 to 1.

    The light's radius and brightness are chosen so that they are most similar.
    """
    path = fit_grid(reduced(kernel, 0.5), streaks.path.shape[-1])[None]
    seen = _cut(streaks.path / streaks.path.amax(), 1.0)
    best = 0.0
    for radius in RADII:
        disc = _disc(radius, path)
        light = F.conv2d(path, disc, padding=disc.shape[-1] // 2)[0]
        light = light / light.amax()
        best = max(best, *(float(similarity(_cut(light, exposure), seen)) for exposure in EXPOSURES))
    return best


def without_streaks(luma: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
    """Return luma (1, 1, H, W) with the surroundings in place of streaks, and where they were, with halos.

    Where nothing is known nearby, the mean of the photograph takes their place.
    """
    marks = grown(marks, HALO)
    known = _resized((~marks).to(luma), 1 / REDUCTION)
    values = _resized(luma * ~marks, 1 / REDUCTION)
    total, share = (F.avg_pool2d(part, WINDOW, 1, WINDOW // 2) for part in (values, known))
    mean = values.sum() / known.sum().clamp(min=1e-6)
    around = torch.where(share > 1e-3, total / share.clamp(min=1e-3), mean)
    filling = F.interpolate(around, size=luma.shape[2:], mode="bilinear")
    filled = torch.where(marks, filling, luma)
    for _ in range(SMOOTHING_STEPS):
        smooth = F.avg_pool2d(F.pad(filled, (1,) * 4, mode="replicate"), 3, 1)
        filled = torch.where(marks, smooth, filled)
    return filled, marks


def _resized(image: Tensor, factor: float) -> Tensor:
    size = [max(1, round(side * factor)) for side in image.shape[-2:]]
    return F.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)


def _opened(image: Tensor, radius: int) -> Tensor:
    """Take everything out of an image (1, 1, h, w) that is brighter and narrower than 2 radius + 1 pixels."""
    for sign in (-1, 1):
        image = sign * image
        for border in ((0, 0, radius, radius), (radius, radius, 0, 0)):
            window = (1 + border[2] + border[3], 1 + border[0] + border[1])
            image = F.max_pool2d(F.pad(image, border, mode="replicate"), window, 1)
        image = sign * image
    return image


def _boxes(labels: Tensor, clipped: Tensor, grid: int) -> Tensor:
    """Return label, top, left, bottom and right (n, 5) of parts that may be streaks, the largest first."""
    names, parts, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    height, width = labels.shape
    rows = torch.arange(height, device=labels.device)[:, None].expand(height, width).flatten()
    columns = torch.arange(width, device=labels.device).expand(height, width).flatten()
    parts = parts.flatten()

    def extremes(positions: Tensor, kind: str) -> Tensor:
        found: Tensor = torch.zeros_like(names).scatter_reduce_(0, parts, positions, kind, include_self=False)
        return found

    top, bottom = extremes(rows, "amin"), extremes(rows, "amax")
    left, right = extremes(columns, "amin"), extremes(columns, "amax")
    side = torch.maximum(bottom - top, right - left) + 1
    shines = torch.isin(names, labels[clipped])
    chosen = (names > 0) & shines & (side <= grid)
    boxes = torch.stack([names, top, left, bottom, right], dim=1)[chosen]
    return boxes[counts[chosen].argsort(descending=True, stable=True)]


def _common_shape(patches: Tensor) -> tuple[Tensor, int]:
    """Return the mean (1, s, s) of the largest group of similar patches (n, s, s), and their number.

    They resemble one of them, onto which they are moved. A patch that is like no other is a group as well.
    """
    count, size, _ = patches.shape
    flat = patches.clamp(max=FULL)
    spectra = torch.fft.rfft2(flat, s=(2 * size, 2 * size))
    products = torch.fft.irfft2(spectra[:, None] * spectra.conj(), s=(2 * size, 2 * size)).flatten(2)
    norms = flat.square().sum((1, 2)).sqrt()
    peaks, places = products.max(2)
    likeness = peaks / (norms[:, None] * norms)
    alike = likeness > LIKENESS
    # Of equally many, those that are more alike.
    best = int((alike.sum(1) + (likeness * alike).sum(1) / (count + 1)).argmax())
    total = torch.zeros_like(patches[0])
    for other in alike[best].nonzero()[:, 0].tolist():
        shift = divmod(int(places[best, other]), 2 * size)
        moved = F.pad(patches[other], (0, size, 0, size)).roll(shift, (0, 1))
        total += moved[:size, :size]
    return normalised(total[None]), int(alike[best].sum())


def _disc(radius: float, like: Tensor) -> Tensor:
    """Return a disc (1, 1, n, n) of sum 1, with soft edges; a single pixel for a radius of 0."""
    side = torch.arange(-int(radius), int(radius) + 1, device=like.device, dtype=like.dtype)
    disc = (radius + 0.5 - torch.hypot(side[:, None], side)).clamp(0, 1)
    return (disc / disc.sum())[None, None]


def _cut(shape: Tensor, exposure: float) -> Tensor:
    return (exposure * shape).clamp(max=FULL)
