"""The photographed area of a picture: without bars, frames and transparent pixels.

Bars, frames and cut-outs are added after a photograph was blurred, so their edges are steep for any blur: an
analysis would consider the photograph sharp, and a deconvolution rings at them. An edge within the
photograph, such as that of a clipped sky, is softened by the blur across it. Only what ends in a step
therefore counts as a bar. Little is lost if a step was photographed after all, because no blur crosses it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from asnet.deblurring.resampling import SMALLEST_SIDE, resized_rows
from asnet.deblurring.tiles import row_strips
from asnet.imaging.pixels import stored, unit_range
from asnet.networks.layers import luma

#: Largest deviation of a border's line from the border's brightness: on average, and of the mean of any SPAN
#: pixels.
#: JPEG's ringing at a step keeps the latter small; the tip of a tower does not.
QUIET, QUIET_SPAN = 8 / 255, 24 / 255
SPAN = 8

#: The same farther from the step than a chroma block of JPEG.
FAR, FAR_SPAN = 16, 6 / 255

#: A border's lines deviate from its colour by less than this share of the deviation beyond the step.
QUIET_SHARE = 0.25

#: A thin line within a frame has the noise of the steps on both sides: the limits grow by this factor.
INNER_FACTOR = 2.5

#: A step rises within two lines to this share of the mean deviation over the next LEVEL_LINES lines. A blur
#: of 4 pixels across the edge stays below.
STEP_SHARE, LEVEL_LINES = 0.75, 8

#: If bars and photograph were enlarged together, the step is wider. Up to this share, its lines are mixtures
#: of the bar's brightness and the photograph's first line. So are those of a blurred level horizon; such bars
#: therefore count only in pairs.
WIDEST_STEP, MIXTURE_REMAINDER = 6, 0.2

#: Smallest deviation beyond the step that counts as an edge.
SMALLEST_STEP = 4 / 255

#: A frame has at most this many colours on a side.
MOST_COLOURS = 4

#: Lines examined at once.
CHUNK = 64

#: The trust in a pixel is this power of its opacity: drop shadows, and colours that fade into black or white
#: at an outline, have little weight and cause no step.
TRUST_POWER = 4

#: Share of the visible pixels that are at least as opaque as the threshold of opacity.
OPAQUE_SHARE = 0.1

#: Smallest trust of a pixel that is used in an estimate.
USABLE_TRUST = 0.9

#: The threshold of opacity is determined from about this many pixels.
OPACITY_SAMPLE = 2**18


@dataclass(frozen=True)
class Trust:
    """Trust in the pixels of a picture, from 0 to 1, computed for the requested part.

    Parameters
    ----------
    alpha : Tensor
        Opacity (H, W), of any type.
    opaque : float
        The opacity from which pixels are fully trusted.
    """

    alpha: Tensor
    opaque: float

    def __getitem__(self, place: tuple[slice, slice]) -> Tensor:
        """Return (h, w) float32 of some rows and columns."""
        opacity: Tensor = self.alpha[place].to(torch.float32) / self.opaque
        return opacity.clamp_(0, 1) ** TRUST_POWER

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.alpha.shape[0], self.alpha.shape[1]

    def within(self, place: tuple[slice, slice]) -> "Trust":
        """Return the trust of some rows and columns."""
        return replace(self, alpha=self.alpha[place])

    @property
    def is_full(self) -> bool:
        """Whether every pixel is fully trusted."""
        return all(bool((strip == 1).all()) for strip in self.strips())

    @property
    def usable(self) -> Tensor:
        """(H, W) bool, True for pixels usable in an estimate."""
        return torch.cat([strip >= USABLE_TRUST for strip in self.strips()])

    def strips(self) -> Iterator[Tensor]:
        """Yield strips of rows, from top to bottom."""
        return (self[rows, :] for rows in row_strips(*self.shape))


@dataclass(frozen=True)
class PhotographedArea:
    """The part of a picture that is photographed.

    Parameters
    ----------
    rectangle : tuple of slice
        Rows and columns of the picture, the smallest rectangle that holds all of it.
    pixels : Tensor
        (C, h, w), the rectangle's pixels; transparent pixels are filled smoothly from their surroundings, and
        pictures of 8 bits then have 16.
    trust : Trust, optional
        (h, w), 0 where nothing is photographed to 1; None if everything within the rectangle is.
    """

    rectangle: tuple[slice, slice]
    pixels: Tensor
    trust: Trust | None

    @property
    def usable(self) -> Tensor | None:
        """(1, 1, h, w) bool, True for pixels usable in an estimate; None if all are."""
        return None if self.trust is None else self.trust.usable[None, None]


def photographed_area(pixels: Tensor, alpha: Tensor | NDArray[Any] | None = None) -> PhotographedArea:
    """Find the photographed area of a picture.

    Parameters
    ----------
    pixels : Tensor
        (C, H, W), uint8, uint16 or range [0, 1], H and W at least 16.
    alpha : Tensor or ndarray, optional
        Opacity (H, W), of any range that begins at 0.

    Returns
    -------
    PhotographedArea
        Without constant borders on any side; its sides have at least 16 pixels. A picture that is transparent
        all over has no trusted pixel.

    Examples
    --------
    >>> picture = torch.zeros(3, 40, 60)
    >>> picture[:, :, 10:50] = torch.rand(3, 40, 40)
    >>> photographed_area(picture).rectangle[1]
    slice(10, 50, None)
    """
    trust = None if alpha is None else _trust(alpha, pixels.device)
    rectangle = slice(0, pixels.shape[1]), slice(0, pixels.shape[2])
    if trust is not None:
        visible = [strip > 0 for strip in trust.strips()]
        columns = torch.stack([strip.any(0) for strip in visible]).any(0)
        rectangle = _span(torch.cat([strip.any(1) for strip in visible])), _span(columns)
        trust = trust.within(rectangle)
        trust = None if trust.is_full else trust
    inner = _without_borders(pixels[:, rectangle[0], rectangle[1]], trust)
    rectangle = _part_of(rectangle[0], inner[0]), _part_of(rectangle[1], inner[1])
    within = pixels[:, rectangle[0], rectangle[1]]
    trust = None if trust is None else trust.within(inner)
    if trust is None or trust.is_full:
        return PhotographedArea(rectangle, within, None)
    return PhotographedArea(rectangle, fill_smoothly(within, trust), trust)


def fill_smoothly(image: Tensor, weight: Tensor | Trust) -> Tensor:
    """Fill pixels without weight from their surroundings, without a step at their outline.

    Averages of the known pixels over larger and larger cells fill what smaller cells left empty (a pyramid of
    normalised convolutions); smoothing at each level removes the steps between cells.

    Parameters
    ----------
    image : Tensor
        (C, H, W), uint8, uint16 or floating point.
    weight : Tensor or Trust
        (H, W), from 0 for unknown pixels to 1 for those that stay unchanged. The fill uses those of at least
        USABLE_TRUST.

    Returns
    -------
    Tensor
        (C, H, W), uint16 or floating point; the image itself if nothing is known or nothing is to be filled.
    """
    height, width = image.shape[1:]
    coarse, known = [], []
    some = whole = False
    # The finest level, which is as large as the image, is processed in strips.
    for rows in row_strips(height, width, 2):
        mask = weight[rows, :] >= USABLE_TRUST
        some, whole = some or bool(mask.any()), (whole or rows.start == 0) and bool(mask.all())
        halves = _halved(unit_range(image[:, rows])[None], mask.to(torch.float32)[None, None])
        coarse.append(halves[0])
        known.append(halves[1])
    if whole or not some:
        return image
    filled = _filled(torch.cat(coarse, 2), torch.cat(known, 2))
    dtype = image.dtype if image.is_floating_point() else torch.uint16
    result = torch.empty_like(image, dtype=dtype)
    for rows in row_strips(height, width):
        around = slice(max(0, rows.start - 1), min(height, rows.stop + 1))
        part, trusted = unit_range(image[:, around])[None], weight[around, :].to(torch.float32)[None, None]
        result[:, rows] = stored(_risen(filled, part, trusted, rows, height)[0], dtype)
    return result


def _halved(image: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Average the known pixels of (N, C, h, w) over cells of four, by weights (N, 1, h, w)."""
    mass = functional.avg_pool2d(weight, 2, ceil_mode=True)
    image = functional.avg_pool2d(image * weight, 2, ceil_mode=True) / mass.clamp(min=1e-6)
    # One known pixel of four is enough for the next level.
    return image, (4 * mass).clamp(max=1)


def _filled(image: Tensor, weight: Tensor) -> Tensor:
    """Fill (N, C, h, w) where its weight (N, 1, h, w) is below 1."""
    height, width = image.shape[2:]
    if max(height, width) == 1 or bool((weight == 1).all()):
        return image
    return _risen(_filled(*_halved(image, weight)), image, weight, slice(0, height), height)


def _risen(filled: Tensor, image: Tensor, weight: Tensor, rows: slice, height: int) -> Tensor:
    """Return some rows of a level of that height from the next coarser, filled level.

    `image` and `weight` cover the rows and one more above and below, if they exist.
    """
    above, below = min(1, rows.start), min(1, height - rows.stop)
    around = slice(rows.start - above, rows.stop + below)
    level = resized_rows(filled, (height, image.shape[3]), around, "bilinear")
    level = torch.lerp(level, image, weight)
    padded = functional.pad(level, (1, 1, 1 - above, 1 - below), mode="replicate")
    inner = (..., slice(above, above + rows.stop - rows.start), slice(None))
    return torch.lerp(functional.avg_pool2d(padded, 3, stride=1), image[inner], weight[inner])


def _trust(alpha: Tensor | NDArray[Any], device: torch.device) -> Trust:
    """Trust in the pixels of an opacity (H, W): 1 where it reaches the usual opacity of the picture."""
    opacity = (alpha if isinstance(alpha, Tensor) else torch.from_numpy(numpy.array(alpha))).to(device)
    parts = (opacity[rows] for rows in row_strips(*opacity.shape))
    visible = torch.cat([part[part.to(torch.float32) > 0] for part in parts])
    if visible.numel() == 0:
        return Trust(opacity, math.inf)
    sample = visible[:: -(-visible.numel() // OPACITY_SAMPLE)].to(torch.float32)
    opaque = sample.kthvalue(max(1, round((1 - OPAQUE_SHARE) * sample.numel()))).values
    return Trust(opacity, float(opaque))


def _part_of(outer: slice, inner: slice) -> slice:
    """Convert the slice `inner` to coordinates relative to `outer`."""
    return slice(outer.start + inner.start, outer.start + inner.stop)


def _span(marked: Tensor) -> slice:
    """From the first to the last True of (L,), at least as long as networks require; all if there is none."""
    places = marked.nonzero()
    if len(places) == 0:
        return slice(0, len(marked))
    begin, end = int(places[0]), int(places[-1]) + 1
    missing = max(0, SMALLEST_SIDE - (end - begin))
    begin = max(0, min(begin - missing // 2, len(marked) - SMALLEST_SIDE))
    return slice(begin, max(end, begin + SMALLEST_SIDE))


def _without_borders(pixels: Tensor, trust: Trust | None) -> tuple[slice, slice]:
    """Rows and columns within the constant borders of (C, H, W), from its opaque pixels."""
    known = None if trust is None else trust.usable[None]
    spans = [[0, side] for side in pixels.shape[1:]]
    # A line between frame and photograph, or a frame within a frame, is found once the outer one is removed.
    for number in range(MOST_COLOURS):
        before = [list(span) for span in spans]
        factor = INNER_FACTOR if number else 1.0
        for axis, span in enumerate(spans):
            rows, columns = (slice(*edges) for edges in spans)
            part = pixels[:, rows, columns]
            known_part = None if known is None else known[:, rows, columns]
            ends = [_Lines(part, known_part, axis, from_end=from_end) for from_end in (False, True)]
            depths = [_border_depth(end, factor, widest_step=1) for end in ends]
            if depths == [0, 0]:
                depths = [_border_depth(end, factor, widest_step=WIDEST_STEP) for end in ends]
                if 0 in depths:
                    continue
            if len(ends[0]) - sum(depths) >= SMALLEST_SIDE:
                span[0] += depths[0]
                span[1] -= depths[1]
        if spans == before:
            break
    return slice(*spans[0]), slice(*spans[1])


class _Lines:
    """Brightness of an image's rows or columns, computed on demand, counted from either end.

    JPEG smears colour across a step, but little brightness. Pixels where `known` (1, H, W) is False are
    ignored.
    """

    def __init__(self, pixels: Tensor, known: Tensor | None, axis: int, *, from_end: bool) -> None:
        self._pixels = pixels.movedim(1 + axis, 1)
        self._known = None if known is None else known.movedim(1 + axis, 1)
        self._from_end = from_end
        brightness, opaque = self._read(0, 1)
        self._colour = (brightness if opaque is None else brightness[opaque]).median()

    def __len__(self) -> int:
        return self._pixels.shape[1]

    def differences(self, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """Differences (L, W) of the lines from `begin` until before `end` from the first line's median.

        And each line's mean deviation (L,), infinite where less than half of the line is known.
        """
        brightness, known = self._read(begin, end)
        signed = brightness - self._colour
        if known is None:
            return signed, signed.abs().mean(1)
        signed = signed * known
        share = known.float().mean(1)
        return signed, torch.where(share >= 0.5, signed.abs().mean(1) / share, torch.inf)

    def _read(self, begin: int, end: int) -> tuple[Tensor, Tensor | None]:
        place = slice(len(self) - end, len(self) - begin) if self._from_end else slice(begin, end)
        order = (0,) if self._from_end else ()
        brightness = luma(unit_range(self._pixels[None, :, place]))[0, 0].flip(order)
        return brightness, None if self._known is None else self._known[0, place].flip(order)


def _border_depth(lines: _Lines, factor: float, *, widest_step: int) -> int:
    """Count the constant lines at one end up to a step; 0 without a step."""
    length = len(lines)

    def deviations(begin: int, end: int) -> tuple[Tensor, Tensor]:
        """Mean deviation of each line from the border's colour, and the largest mean over a span."""
        signed, mean = lines.differences(begin, end)
        spans = functional.avg_pool1d(signed[:, None], SPAN, stride=SPAN // 2)
        return mean.cpu(), spans.abs().amax((1, 2)).cpu()

    mean, span = deviations(0, 1)
    if not bool((mean <= factor * QUIET) & (span <= factor * QUIET_SPAN)):
        return 0
    quiet = 1
    while len(mean) < length and quiet + WIDEST_STEP + LEVEL_LINES + 2 > len(mean):
        more = deviations(len(mean), min(length, len(mean) + CHUNK))
        mean, span = torch.cat([mean, more[0]]), torch.cat([span, more[1]])
        loud = ((mean > factor * QUIET) | (span > factor * QUIET_SPAN)).nonzero()
        quiet = int(loud[0]) if len(loud) else len(mean)
    # Mean deviation of the lines that follow each.
    level = mean.unfold(0, LEVEL_LINES, 1).mean(1) if len(mean) > LEVEL_LINES else mean[:0]
    largest, largest_span = mean.cummax(0).values, span.cummax(0).values
    for width in range(1, widest_step + 1):
        depths = torch.arange(1, 1 + max(0, min(quiet, length - SMALLEST_SIDE, len(level) - width - 2)))
        beyond = level[depths + width + 1]
        step = (beyond >= SMALLEST_STEP) & beyond.isfinite() & (mean[depths + width] >= STEP_SHARE * beyond)
        step &= largest[depths - 1] <= QUIET_SHARE * beyond
        step &= (depths <= FAR) | (largest_span[(depths - 1 - FAR).clamp(min=0)] <= FAR_SPAN)
        for depth in map(int, depths[step]):
            if width == 1:
                return depth if mean[depth] >= STEP_SHARE * level[depth + 2] else depth + 1
            if _is_a_mixture(lines.differences(depth, depth + width + 1)[0]):
                return depth + width
    return 0


def _is_a_mixture(lines: Tensor) -> bool:
    """Whether lines (L, W) are all multiples of the last one."""
    shares = (lines @ lines[-1]) / lines[-1].square().sum()
    remainder = lines - shares[:, None] * lines[-1]
    return bool(remainder.abs().sum() <= MIXTURE_REMAINDER * lines[:-1].abs().sum())
