"""Parts of a photograph: tiles for the synthesis of a large one, and the window with the most structure."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from asnet.deblurring.resampling import SMALLEST_SIDE
from asnet.imaging.pixels import network_input
from asnet.networks.config import SynthesisConfig
from asnet.networks.layers import round_up

#: Target memory of a tile. It is fixed, so that a photograph always gives the same result.
TILE_MEMORY = 512 * 2**20

#: Largest photograph that is deconvolved whole, and size of the blocks of a larger one, which itself takes
#: memory, in pixels; with tiles of `affordable_side`. A deconvolution takes about 110 bytes per pixel.
WHOLE_PIXELS, BLOCK_PIXELS = 9_000_000, 10_000_000

#: Pixels of a whole photograph that are processed at once.
STRIP_PIXELS = 2**20

#: Largest halo of a tile in pixels.
LARGEST_HALO = 512

#: Width in pixels over which neighbouring tiles fade into each other.
FADE = 32


def tile_margin(config: SynthesisConfig) -> int:
    """Distance in pixels over which the output of the synthesis network's U-Net depends on its input."""
    step, radius = config.space_to_depth, 2 * config.space_to_depth
    deepest = len(config.channels) - 1
    for level in range(len(config.channels)):
        block = config.convolutions_per_block
        if level < deepest:
            # Down and up again: two blocks, the skip connection, and the convolutions between the levels.
            block = 2 * block + 1 + (config.downsampling_size + config.upsampling_size + 1) // 2
        radius += block * step
        step *= 2
    return round_up(radius, config.size_multiple)


def deconvolution_halo(config: SynthesisConfig, kernel_size: int) -> int:
    """Pixels around a tile for its deconvolution, in addition to the U-Net's margin.

    The response never quite ends, especially at frequencies that the kernel removes. For kernels of 25 to 31
    pixels and a noise of 0.01, four hundred pixels leave an error of less than half a grey level of 255 (root
    mean square) in the least regularised deconvolution of a network that adapts to the noise. Larger kernels
    would need more than is worth the time, and leave up to five levels. It is even, so that all tiles are
    continued beyond their edges on the same coarser pixels.
    """
    return min(13 * kernel_size, LARGEST_HALO) // 2 * 2 if config.wiener_strengths else 0


def extend_span(begin: int, end: int, length: int, halo: int) -> tuple[int, int]:
    """Return how many pixels, up to `halo`, an axis of that length has before and after a span."""
    return min(halo, begin), min(halo, length - end)


def affordable_side(config: SynthesisConfig) -> int:
    """Side of a square tile for which the synthesis network's U-Net takes about TILE_MEMORY."""
    # At the finest level about six float32 feature maps exist at once, and the images being concatenated.
    maps = 6 * 4 * config.channels[0] / config.space_to_depth**2
    images = 2 * 3 * 4 * config.image_count
    side = int(math.sqrt(TILE_MEMORY / (maps + images)))
    return side // config.size_multiple * config.size_multiple


class Span(NamedTuple):
    """A tile along one axis: its begin and end, and the weights (end - begin,) of its pixels."""

    begin: int
    end: int
    weights: Tensor


def tile_spans(length: int, tile: int, margin: int, multiple: int) -> list[Span]:
    """Cut an axis into overlapping spans whose weights add up to 1 everywhere.

    Parameters
    ----------
    length : int
        Pixels of the axis.
    tile : int
        Largest span.
    margin : int
        Pixels at a cut end without weight.
    multiple : int
        Spans begin at multiples of this, so that all share one grid of down-sampling.

    Returns
    -------
    list of Span
        Weights are float32.
    """
    if length <= tile:
        return [Span(0, length, torch.ones(length))]
    overlap = 2 * margin + FADE
    stride = (tile - overlap) // multiple * multiple
    begins = list(range(0, length - overlap, stride))
    ramp = (torch.arange(FADE) + 0.5) / FADE
    spans = []
    for begin in begins:
        end = min(begin + tile, length) if begin == begins[-1] else begin + stride + overlap
        weights = torch.ones(end - begin)
        if begin != begins[0]:
            weights[:margin] = 0
            weights[margin : margin + FADE] = ramp
        if begin != begins[-1]:
            weights[-margin:] = 0
            weights[-margin - FADE : -margin] = 1 - ramp
        spans.append(Span(begin, end, weights))
    return spans


def blocks(
    rows: Sequence[Span], columns: Sequence[Span], halo: int, largest: int
) -> tuple[list[list[Span]], list[list[Span]]]:
    """Group tiles into blocks that are deconvolved at once.

    Parameters
    ----------
    rows, columns : sequence of Span
        The tiles along both axes.
    halo : int
        Additional pixels of the deconvolution of a block on every side, unless the photograph ends there.
    largest : int
        Limit of the pixels of a block with its halo; a block of a single tile may have more.

    Returns
    -------
    list of list of Span, list of list of Span
        The groups along both axes that minimise the total of deconvolved pixels.
    """

    def sides(spans: Sequence[Span], count: int) -> tuple[list[list[Span]], list[int]]:
        groups = [list(spans[index : index + count]) for index in range(0, len(spans), count)]
        extents = [(group[0].begin, group[-1].end) for group in groups]
        return groups, [e - b + sum(extend_span(b, e, spans[-1].end, halo)) for b, e in extents]

    best, fewest = (sides(rows, 1), sides(columns, 1)), math.inf
    for down in range(1, len(rows) + 1):
        for across in range(1, len(columns) + 1):
            both = sides(rows, down), sides(columns, across)
            total = sum(both[0][1]) * sum(both[1][1])
            if max(both[0][1]) * max(both[1][1]) <= largest and total < fewest:
                best, fewest = both, total
    return best[0][0], best[1][0]


def row_strips(height: int, width: int, multiple: int = 1) -> Iterator[slice]:
    """Cut the rows of an image into strips of about STRIP_PIXELS; all but the last are multiples."""
    count = max(1, STRIP_PIXELS // (width * multiple)) * multiple
    for begin in range(0, height, count):
        yield slice(begin, min(begin + count, height))


def most_structured_window(
    image: Tensor, pixels: int, usable: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return the window of about this many pixels, shaped like the image, with the most edges.

    And the same window of `usable`, or None.

    Parameters
    ----------
    image : Tensor
        (1, 1 or 3, H, W), uint8, uint16 or range [0, 1].
    pixels : int
        Area of the window; a smaller image is returned whole.
    usable : Tensor, optional
        (1, 1, H, W) bool, True for the pixels whose edges count; by default all.
    """
    height, width = image.shape[2:]
    if height * width <= pixels:
        return image, usable
    shrink = math.sqrt(pixels / (height * width))
    rows, columns = (max(SMALLEST_SIDE, int(side * shrink)) for side in (height, width))
    top, left = most_structured_place(image, rows, columns, usable)
    place = (..., slice(top, top + rows), slice(left, left + columns))
    return image[place].contiguous(), None if usable is None else usable[place].contiguous()


def most_structured_place(
    image: Tensor, rows: int, columns: int, usable: Tensor | None = None
) -> tuple[int, int]:
    """Return top and left of the window of that size with the most edges.

    Parameters
    ----------
    image : Tensor
        (1, 1 or 3, H, W), uint8, uint16 or range [0, 1]. Clipped pixels do not count, because there blur is
        not a convolution.
    rows, columns : int
        Size of the window in pixels, at most that of the image.
    usable : Tensor, optional
        (1, 1, H, W) bool, True for the pixels whose edges count; by default all.
    """
    height, width = image.shape[2:]
    # Sums over cells, then over windows of whole cells: nothing of the size of the image is summed twice.
    cell = max(1, min(rows, columns) // 8)
    energies = []
    for strip in row_strips(height - height % cell, width, cell):
        # The row above is needed for vertical differences.
        above = min(1, strip.start)
        part = network_input(image[..., strip.start - above : strip.stop, :])
        grey = part.mean(1, keepdim=True)
        energy = torch.zeros_like(grey)
        energy[..., :, 1:] += grey.diff(dim=-1).abs()
        energy[..., 1:, :] += grey.diff(dim=-2).abs()
        counted = ((part > 0.01) & (part < 0.99)).all(1, keepdim=True)[..., above:, :]
        if usable is not None:
            counted &= usable[..., strip, :]
        energies.append(functional.avg_pool2d(energy[..., above:, :] * counted, cell))
    cells = torch.cat(energies, dim=2)
    spans = [
        min(max(1, side // cell), count) for side, count in zip((rows, columns), cells.shape[2:], strict=True)
    ]
    sums = functional.avg_pool2d(cells, (spans[0], spans[1]), stride=1)
    row, column = divmod(int(sums.flatten().argmax()), sums.shape[3])
    return min(row * cell, height - rows), min(column * cell, width - columns)
