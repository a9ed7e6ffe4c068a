"""What of a picture is photographed: not the bars or frame around it, nor what is transparent.

Bars, frames and cut-outs are made after a photograph was blurred, so their edges are steep whatever the blur:
an analysis would call the photograph sharp, and a deconvolution rings at them. An edge within the photograph,
that of a clipped sky say, is softened by the blur that crosses it. So only what ends in a step is taken for a
bar, and little is lost where a step was photographed after all: no blur carried anything across it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from asnet.imaging.resampling import SMALLEST_SIDE
from asnet.networks.layers import luma

#: Largest deviation of a border's line from the border's brightness: on average, and of the mean of any SPAN
#: pixels.
#: JPEG's ringing at a step leaves the latter small; the tip of a tower does not.
QUIET, QUIET_SPAN = 8 / 255, 24 / 255
SPAN = 8

#: The same farther from the step than a block of JPEG's chroma reaches.
FAR, FAR_SPAN = 16, 6 / 255

#: A border's lines deviate from its colour by less than this share of what is beyond the step.
QUIET_SHARE = 0.25

#: A thin line within a frame is all noise of the steps to both sides: the limits grow by this factor.
INNER_FACTOR = 2.5

#: A step rises within two lines to this share of the mean deviation over the LEVEL_LINES lines that follow. A
#: blur of 4 pixels across the edge stays below.
STEP_SHARE, LEVEL_LINES = 0.75, 8

#: Where bars and photograph were enlarged together, the step is wider. Its lines are then mixtures of the
#: bar's brightness and the photograph's first line, but for this share. So are those of a blurred level
#: horizon, so such bars count only in pairs.
WIDEST_STEP, MIXTURE_REMAINDER = 6, 0.2

#: Least deviation beyond the step: a smaller one is no edge worth speaking of.
SMALLEST_STEP = 4 / 255

#: A frame has at most so many colours on a side.
MOST_COLOURS = 4

#: Lines that are looked at in one go.
CHUNK = 64

#: Pixels are trusted by this power of their opacity: drop shadows, and colours that fade into black or white
#: at an outline, count for little, and no step arises.
TRUST_POWER = 4

#: Share of the visible pixels that are at least as opaque as what counts as opaque.
OPAQUE_SHARE = 0.1

#: Least trust of a pixel that takes part in an estimate.
USABLE_TRUST = 0.9

#: What counts as opaque is found from about so many pixels.
OPACITY_SAMPLE = 2**18


@dataclass(frozen=True)
class PhotographedArea:
    """The part of a picture that is photographed.

    Parameters
    ----------
    rectangle : tuple of slice
        Rows and columns of the picture, the smallest rectangle that holds all of it.
    pixels : Tensor
        (C, h, w), the rectangle's pixels; what is transparent continues its surroundings smoothly.
    trust : Tensor, optional
        (h, w), 0 where nothing is photographed to 1; None if everything within the rectangle is.
    """

    rectangle: tuple[slice, slice]
    pixels: Tensor
    trust: Tensor | None

    @property
    def usable(self) -> Tensor | None:
        """(1, 1, h, w) bool, True for pixels that can tell of the blur; None if all can."""
        if self.trust is None:
            return None
        return (self.trust >= USABLE_TRUST)[None, None]

    def known_pixels(self, values: Tensor) -> Tensor:
        """Of values (C, h, w) those of usable pixels, (C, ...)."""
        return values if self.usable is None else values[:, self.usable[0, 0].to(values.device)]

    def put_back(self, picture: Tensor, result: Tensor) -> Tensor:
        """Return the picture (C, H, W) with a result (C, h, w) where it is photographed, else as it is."""
        if self.trust is not None:
            original = picture[:, self.rectangle[0], self.rectangle[1]]
            result = torch.lerp(original, result, self.trust.to(result))
        if result.shape == picture.shape:
            return result
        whole = picture.clone()
        whole[:, self.rectangle[0], self.rectangle[1]] = result
        return whole


def photographed_area(pixels: Tensor, alpha: Tensor | NDArray[Any] | None = None) -> PhotographedArea:
    """Find what of a picture is photographed.

    Parameters
    ----------
    pixels : Tensor
        (C, H, W), range [0, 1], H and W at least 16.
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
    trust = None if alpha is None else _trust(alpha).to(pixels.device)
    rectangle = slice(0, pixels.shape[1]), slice(0, pixels.shape[2])
    if trust is not None:
        visible = trust > 0
        rectangle = _span(visible.any(1)), _span(visible.any(0))
        trust = None if bool((trust[rectangle] == 1).all()) else trust[rectangle]
    inner = _without_borders(pixels[:, rectangle[0], rectangle[1]], trust)
    rectangle = _part_of(rectangle[0], inner[0]), _part_of(rectangle[1], inner[1])
    within = pixels[:, rectangle[0], rectangle[1]]
    if trust is None or bool((trust[inner] == 1).all()):
        return PhotographedArea(rectangle, within, None)
    return PhotographedArea(rectangle, fill_smoothly(within, trust[inner]), trust[inner])


def fill_smoothly(image: Tensor, weight: Tensor) -> Tensor:
    """Continue an image over pixels without weight, without a step at their outline.

    Averages of the known pixels over ever larger cells fill what the smaller ones left empty (a pyramid of
    normalised convolutions); smoothing at each level takes away the steps between them.

    Parameters
    ----------
    image : Tensor
        (C, H, W).
    weight : Tensor
        (H, W), 0 for unknown pixels to 1 for those that stay as they are. The fill goes by those of at least
        USABLE_TRUST.

    Returns
    -------
    Tensor
        (C, H, W); the image itself if there is nothing to go by.
    """
    if not bool((weight >= USABLE_TRUST).any()):
        return image
    image, weight = image[None], weight[None, None].to(image)
    levels = [(image, weight)]
    weight = (weight >= USABLE_TRUST).to(image)
    while max(image.shape[2:]) > 1 and bool((weight < 1).any()):
        mass = functional.avg_pool2d(weight, 2, ceil_mode=True)
        image = functional.avg_pool2d(image * weight, 2, ceil_mode=True) / mass.clamp(min=1e-6)
        # One known pixel of four is enough to go by at the next level.
        weight = (4 * mass).clamp(max=1)
        levels.append((image, weight))
    filled = levels.pop()[0]
    for image, weight in reversed(levels):
        filled = functional.interpolate(filled, size=image.shape[2:], mode="bilinear", align_corners=False)
        filled = torch.lerp(filled, image, weight)
        padded = functional.pad(filled, (1, 1, 1, 1), mode="replicate")
        filled = torch.lerp(functional.avg_pool2d(padded, 3, stride=1), image, weight)
    return filled[0]


def _trust(alpha: Tensor | NDArray[Any]) -> Tensor:
    """How far to trust the pixels of an opacity (H, W): 1 where it reaches what is common in the picture."""
    opacity = (alpha if isinstance(alpha, Tensor) else torch.tensor(alpha)).to(torch.float32)
    visible = opacity[opacity > 0]
    if visible.numel() == 0:
        return torch.zeros_like(opacity)
    sample = visible[:: -(-visible.numel() // OPACITY_SAMPLE)]
    opaque = sample.kthvalue(max(1, round((1 - OPAQUE_SHARE) * sample.numel()))).values
    return (opacity / opaque).clamp(0, 1) ** TRUST_POWER


def _part_of(outer: slice, inner: slice) -> slice:
    """The slice of an axis that `inner` is of `outer`'s part of it."""
    return slice(outer.start + inner.start, outer.start + inner.stop)


def _span(marked: Tensor) -> slice:
    """From the first to the last True of (L,), at least as long as networks ask; all without any."""
    places = marked.nonzero()
    if len(places) == 0:
        return slice(0, len(marked))
    begin, end = int(places[0]), int(places[-1]) + 1
    missing = max(0, SMALLEST_SIDE - (end - begin))
    begin = max(0, min(begin - missing // 2, len(marked) - SMALLEST_SIDE))
    return slice(begin, max(end, begin + SMALLEST_SIDE))


def _without_borders(pixels: Tensor, trust: Tensor | None) -> tuple[slice, slice]:
    """Rows and columns within the constant borders of (C, H, W), by what is opaque of it."""
    known = None if trust is None else (trust >= USABLE_TRUST)[None]
    spans = [[0, side] for side in pixels.shape[1:]]
    # A line between frame and photograph, or a frame within a frame, is found once the outer one is gone.
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
    """Brightness of an image's rows or columns, computed where it is asked for, counted from either end.

    JPEG carries colour over a step, but little brightness. Where `known` (1, H, W) is False nothing counts.
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
        brightness = luma(self._pixels[None, :, place])[0, 0].flip(order)
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
