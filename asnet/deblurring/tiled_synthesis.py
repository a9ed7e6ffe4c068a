"""The synthesis network on images of any size, in overlapping tiles if they are large.

The deconvolution reaches much farther than the U-Net after it. Blocks of tiles are therefore deconvolved at
once, with a halo, and the U-Net then processes the tiles of a block one by one. Overlapping tiles are
blended, across blocks too.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asnet.deblurring.tiles import (
    BLOCK_PIXELS,
    FADE,
    WHOLE_PIXELS,
    Span,
    affordable_side,
    blocks,
    deconvolution_halo,
    extend_span,
    row_strips,
    tile_margin,
    tile_spans,
)
from asnet.errors import InputError
from asnet.imaging.pixels import network_input
from asnet.networks import SynthesisNetwork
from asnet.networks.guidance import crop_kernel
from asnet.networks.layers import round_up
from asnet.networks.synthesis import NOISE_SIDE, PhotographStatistics, PreparedImages


class Part(NamedTuple):
    """A finished part of a result: its rows and columns, and its pixels (1, 3, h, w)."""

    rows: slice
    columns: slice
    pixels: Tensor


def joined(parts: Iterable[Part]) -> Tensor:
    """Return the whole image (1, 3, H, W) that parts cover."""
    found = list(parts)
    height, width = max(part.rows.stop for part in found), max(part.columns.stop for part in found)
    result = found[0].pixels.new_empty(1, 3, height, width)
    while found:
        rows, columns, pixels = found.pop()
        result[..., rows, columns] = pixels
    return result


class _Weights(NamedTuple):
    """Weights along an axis of a block."""

    inner: list[Tensor]  # of each span, summing to 1 within the block
    outer: Tensor  # of the block among the others


def _split_weights(spans: Sequence[Span], reach: int) -> _Weights:
    """Split the weights of a block's spans, which fall to 0 within `reach` pixels of its cut ends."""
    inner = [span.weights.clone() for span in spans]
    outer = torch.ones(spans[-1].end - spans[0].begin)
    # An end of the photograph is not cut, and its span may end within the overlap with the one before.
    if inner[0][0] == 0:
        outer[:reach] = inner[0][:reach]
        inner[0][:reach] = 1
    if inner[-1][-1] == 0:
        outer[-reach:] = inner[-1][-reach:]
        inner[-1][-reach:] = 1
    return _Weights(inner, outer)


class TiledSynthesis:
    """A synthesis network that processes one tile of an image at a time.

    Parameters
    ----------
    network : SynthesisNetwork
        On the device and in the dtype of the computation.
    tile_size : int, optional
        Largest side of a tile in pixels; by default one for which the U-Net takes about 512 MiB, or more if
        its receptive field requires larger tiles. Smaller tiles also make smaller blocks.

    Raises
    ------
    InputError
        If the tile size is too small for the network.
    """

    def __init__(self, network: SynthesisNetwork, tile_size: int | None = None) -> None:
        config = network.config
        self.network = network
        self._margin = tile_margin(config)
        self._multiple = config.size_multiple
        smallest = self.smallest_tile
        if tile_size is not None and tile_size < smallest:
            raise InputError(f"tile_size must be at least {smallest} for this network, got {tile_size}")
        usual = max(smallest, affordable_side(config))
        self.tile_size = usual if tile_size is None else tile_size
        self._share = min(1.0, self.tile_size / usual) ** 2

    @property
    def smallest_tile(self) -> int:
        """Smallest `tile_size`: both margins and as much again between them."""
        return round_up(4 * (self._margin + FADE), self._multiple)

    def __call__(self, blurred: Tensor, kernel: Tensor, *, estimated: bool = False) -> Tensor:
        """Deblur an image and return all of it, (1, 3, H, W) float32; see `parts`."""
        return joined(self.parts(blurred, kernel, estimated=estimated))

    def parts(
        self,
        blurred: Tensor,
        kernel: Tensor,
        *,
        regularisation: float = 1.0,
        estimated: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[Part]:
        """Deblur an image and yield the parts of the result, which cover it, as they are finished.

        Parameters
        ----------
        blurred : Tensor
            (1, 1 or 3, H, W), uint8, uint16 or range [0, 1], on any device.
        kernel : Tensor
            (K, K), K odd and at most the network's grid.
        regularisation, estimated
            See `SynthesisNetwork.forward`.
        progress : callable, optional
            Called after every tile with the finished share; an exception ends the work.
        """
        kernel = crop_kernel(kernel[None])
        height, width = blurred.shape[2:]
        if max(height, width) <= self.tile_size:
            restored = self.network(
                network_input(blurred, self._device),
                kernel,
                regularisation=regularisation,
                estimated=estimated,
            )
            if progress is not None:
                progress(1.0)
            yield Part(slice(0, height), slice(0, width), restored)
            return
        statistics = self._statistics(blurred, kernel)
        halo = deconvolution_halo(self.network.config, kernel.shape[-1])
        rows = tile_spans(height, self.tile_size, self._margin, self._multiple)
        columns = tile_spans(width, self.tile_size, self._margin, self._multiple)
        count, done = len(rows) * len(columns), 0

        def tile_done() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done / count)

        def prepare(pixels: Tensor, halo: tuple[int, int, int, int]) -> PreparedImages:
            return self.network.prepare(
                network_input(pixels, self._device),
                kernel,
                statistics=statistics,
                halo=halo,
                regularisation=regularisation,
                estimated=estimated,
            )

        def restore(down: Sequence[Span], across: Sequence[Span]) -> Tensor:
            return self._block(blurred, halo, down, across, prepare, tile_done)

        is_whole = height * width <= WHOLE_PIXELS * self._share
        largest = height * width if is_whole else round(BLOCK_PIXELS * self._share)
        yield from self._faded(*blocks(rows, columns, halo, largest), restore)

    @property
    def _device(self) -> torch.device:
        return self.network.output.weight.device

    def _statistics(self, blurred: Tensor, kernel: Tensor) -> PhotographStatistics:
        """Measure the noise in the middle of the photograph, and its mean colour strip by strip."""
        height, width = blurred.shape[2:]
        top, left = (max(0, (length - NOISE_SIDE) // 2) for length in (height, width))
        middle = blurred[..., top : top + NOISE_SIDE, left : left + NOISE_SIDE]
        total = torch.zeros(1, 3, dtype=torch.float64, device=self._device)
        for strip in row_strips(height, width):
            pixels = network_input(blurred[..., strip, :], self._device)
            total += pixels.mean((2, 3)) * (strip.stop - strip.start)
        statistics = self.network.statistics(network_input(middle, self._device), kernel)
        return statistics._replace(mean=(total / height).float())

    def _block(
        self,
        blurred: Tensor,
        halo: int,
        rows: Sequence[Span],
        columns: Sequence[Span],
        prepare: Callable[[Tensor, tuple[int, int, int, int]], PreparedImages],
        tile_done: Callable[[], None],
    ) -> Tensor:
        """Return the sum of a block's weighted tiles, from the begin of its first to the end of its last."""
        height, width = blurred.shape[2:]
        top, bottom, left, right = rows[0].begin, rows[-1].end, columns[0].begin, columns[-1].end
        above, below = extend_span(top, bottom, height, halo)
        before, after = extend_span(left, right, width, halo)
        seen = blurred[..., top - above : bottom + below, left - before : right + after]
        prepared = prepare(seen, (before, after, above, below))
        # The blurred image itself is already in memory.
        prepared = prepared._replace(images=(blurred[..., top:bottom, left:right], *prepared.images[1:]))
        block = torch.zeros(1, 3, bottom - top, right - left, device=self._device)
        down_weights, across_weights = (
            _split_weights(spans, self._margin + FADE) for spans in (rows, columns)
        )
        for row, weights in zip(rows, down_weights.inner, strict=True):
            down = slice(row.begin - top, row.end - top)
            for column, others in zip(columns, across_weights.inner, strict=True):
                across = slice(column.begin - left, column.end - left)
                weight = weights.to(block)[:, None] * others.to(block)
                tile = prepared.window(down, across)
                tile = tile._replace(images=(network_input(tile.images[0], self._device), *tile.images[1:]))
                block[..., down, across].addcmul_(self.network.restore(tile), weight)
                tile_done()
        # Whole up to its ends, which the last deconvolution sees. The U-Net's inputs leave memory for it.
        prepared = prepared._replace(images=())
        block = self.network.finish(prepared, block)
        return block.mul_(down_weights.outer.to(block)[:, None]).mul_(across_weights.outer.to(block))

    def _faded(
        self,
        rows: Sequence[Sequence[Span]],
        columns: Sequence[Sequence[Span]],
        restore: Callable[[Sequence[Span], Sequence[Span]], Tensor],
    ) -> Iterator[Part]:
        """Add up the overlap of blocks, FADE pixels, and yield the finished part of each."""
        margin, width = self._margin, columns[-1][-1].end
        below = torch.zeros(1, 3, FADE, width, device=self._device)
        for down in rows:
            first_row, last_row = down is rows[0], down is rows[-1]
            beside = below[..., :0]
            for across in columns:
                first_column, last_column = across is columns[0], across is columns[-1]
                # Margins at cut ends have no weight.
                top = down[0].begin + (0 if first_row else margin)
                bottom = down[-1].end - (0 if last_row else margin)
                left = across[0].begin + (0 if first_column else margin)
                right = across[-1].end - (0 if last_column else margin)
                block = restore(down, across)[
                    ...,
                    top - down[0].begin : bottom - down[0].begin,
                    left - across[0].begin : right - across[0].begin,
                ]
                if not first_row:
                    block[..., :FADE, :] += below[..., left:right]
                    below[..., left:right] = 0
                if not first_column:
                    block[..., :FADE] += beside
                end_row = bottom - (0 if last_row else FADE)
                end_column = right - (0 if last_column else FADE)
                beside = block[..., end_column - left :].clone()
                if not last_row:
                    below[..., left:end_column] += block[..., end_row - top :, : end_column - left]
                yield Part(
                    slice(top, end_row),
                    slice(left, end_column),
                    block[..., : end_row - top, : end_column - left],
                )
                # Free it before the next block is made.
                del block
