"""Parts of a photograph: tiles for the synthesis of a large one, the window that tells most of its blur."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from asnet.imaging.resampling import SMALLEST_SIDE
from asnet.networks.configurations import SynthesisConfig
from asnet.networks.layers import round_up

#: Aimed at by the size of tiles. It is fixed, so that a photograph gives the same result on every day.
TILE_MEMORY = 2 * 2**30

#: Bytes that the deconvolution of a photograph takes for each of its pixels: its copies, their spectra and
#: what is in between.
DECONVOLUTION_MEMORY = 160

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
    """Pixels around a tile that its deconvolution is given beside the U-Net's margin.

    The response never quite ends, least of all next to frequencies that the kernel removes. For kernels of 25
    to 31 pixels and a noise of 0.01 four hundred pixels leave less than half a grey level of 255 (root mean
    square) in the weakest of the copies that a network adapts to the noise; larger kernels need more than is
    worth its time, and leave up to five.
    """
    return min(13 * kernel_size, LARGEST_HALO) if config.wiener_strengths else 0


def is_deconvolved_whole(height: int, width: int) -> bool:
    """Tell whether the deconvolution of a whole photograph takes at most about TILE_MEMORY."""
    return height * width * DECONVOLUTION_MEMORY <= TILE_MEMORY


def extend_span(begin: int, end: int, length: int, halo: int) -> tuple[int, int]:
    """Return how many pixels, up to `halo`, an axis of that length has before and after a span."""
    return min(halo, begin), min(halo, length - end)


def affordable_side(config: SynthesisConfig) -> int:
    """Side of a square tile for which the synthesis network takes about TILE_MEMORY."""
    # At the finest level about six feature maps of float32 live at once; an image's deconvolutions and their
    # spectra, three times as large as the images themselves.
    maps = 6 * 4 * config.channels[0] / config.space_to_depth**2
    images = 3 * 4 * 3 * (1 + config.image_count)
    side = int(math.sqrt(TILE_MEMORY / (maps + images)))
    return side // config.size_multiple * config.size_multiple


def tile_spans(length: int, tile: int, margin: int, multiple: int) -> list[tuple[int, int, Tensor]]:
    """Cut an axis into overlapping spans whose weights add up to 1 everywhere.

    Parameters
    ----------
    length : int
        Pixels of the axis.
    tile : int
        Largest span.
    margin : int
        Pixels at a cut end that get no weight.
    multiple : int
        Spans begin at multiples of this, so that every one meets the same grid of down-sampling.

    Returns
    -------
    list of (int, int, Tensor)
        Begin, end and weights (end - begin,) float32 of every span.
    """
    if length <= tile:
        return [(0, length, torch.ones(length))]
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
        spans.append((begin, end, weights))
    return spans


def most_structured_window(
    image: Tensor, pixels: int, usable: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return the window of about so many pixels, shaped like the image, that holds the most edges.

    And of `usable` the same window, None without it.

    Parameters
    ----------
    image : Tensor
        (1, C, H, W), range [0, 1].
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
    """Return top and left of the window of that size which holds the most edges.

    Parameters
    ----------
    image : Tensor
        (1, C, H, W), range [0, 1]. Clipped pixels do not count: blur there is no convolution.
    rows, columns : int
        Size of the window in pixels, at most that of the image.
    usable : Tensor, optional
        (1, 1, H, W) bool, True for the pixels whose edges count; by default all.
    """
    height, width = image.shape[2:]
    grey = image.mean(1, keepdim=True)
    energy = torch.zeros_like(grey)
    energy[..., :, 1:] += grey.diff(dim=-1).abs()
    energy[..., 1:, :] += grey.diff(dim=-2).abs()
    counted = ((image > 0.01) & (image < 0.99)).all(1, keepdim=True)
    if usable is not None:
        counted &= usable
    # Sums over cells, then over windows of whole cells: nothing as large as the image is summed twice.
    cell = max(1, min(rows, columns) // 8)
    cells = functional.avg_pool2d(energy * counted, cell)
    spans = [
        min(max(1, side // cell), count) for side, count in zip((rows, columns), cells.shape[2:], strict=True)
    ]
    sums = functional.avg_pool2d(cells, (spans[0], spans[1]), stride=1)
    row, column = divmod(int(sums.flatten().argmax()), sums.shape[3])
    return min(row * cell, height - rows), min(column * cell, width - columns)
