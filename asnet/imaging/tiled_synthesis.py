"""The synthesis network on images of any size, in overlapping tiles where they are large."""

from collections.abc import Callable

import torch
from torch import Tensor

from asnet.errors import InputError
from asnet.imaging.tiles import (
    FADE,
    affordable_side,
    deconvolution_halo,
    extend_span,
    is_deconvolved_whole,
    tile_margin,
    tile_spans,
)
from asnet.networks import SynthesisNetwork
from asnet.networks.guidance import crop_kernel
from asnet.networks.layers import round_up


class TiledSynthesis:
    """A synthesis network that is given no more than a tile of an image at once.

    Parameters
    ----------
    network : SynthesisNetwork
        On the device and in the dtype in which it is to compute.
    tile_size : int, optional
        Largest side of a tile in pixels; by default one for which the U-Net takes about 2 GiB, or more if its
        receptive field asks for larger tiles.

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
        self.tile_size = max(smallest, affordable_side(config)) if tile_size is None else tile_size

    @property
    def smallest_tile(self) -> int:
        """Smallest `tile_size`: both margins and as much again between them."""
        return round_up(4 * (self._margin + FADE), self._multiple)

    def __call__(
        self,
        blurred: Tensor,
        kernel: Tensor,
        *,
        regularisation: float = 1.0,
        progress: Callable[[float], None] | None = None,
    ) -> Tensor:
        """Deblur an image.

        Parameters
        ----------
        blurred : Tensor
            (1, 3, H, W), range [0, 1].
        kernel : Tensor
            (K, K), K odd and at most the network's grid.
        regularisation : float
            See `SynthesisNetwork.forward`.
        progress : callable, optional
            Told after every tile which share of them is done; what it raises ends the work.
        """
        kernel = crop_kernel(kernel[None])
        height, width = blurred.shape[2:]
        if max(height, width) <= self.tile_size:
            restored: Tensor = self.network(blurred, kernel, regularisation=regularisation)
            if progress is not None:
                progress(1.0)
            return restored
        network = self.network
        whole = statistics = None
        if is_deconvolved_whole(height, width):
            whole = network.prepare(blurred, kernel, regularisation=regularisation)
        else:
            statistics = network.statistics(blurred, kernel)
        halo = deconvolution_halo(network.config, kernel.shape[-1])
        result = torch.zeros_like(blurred)
        rows = tile_spans(height, self.tile_size, self._margin, self._multiple)
        columns = tile_spans(width, self.tile_size, self._margin, self._multiple)
        done = 0
        for top, bottom, vertical in rows:
            above, below = extend_span(top, bottom, height, halo)
            for left, right, horizontal in columns:
                if whole is not None:
                    prepared = whole.window(slice(top, bottom), slice(left, right))
                else:
                    before, after = extend_span(left, right, width, halo)
                    tile = blurred[..., top - above : bottom + below, left - before : right + after]
                    prepared = network.prepare(
                        tile,
                        kernel,
                        statistics=statistics,
                        halo=(before, after, above, below),
                        regularisation=regularisation,
                    )
                weight = vertical.to(blurred)[:, None] * horizontal.to(blurred)
                result[..., top:bottom, left:right].addcmul_(network.restore(prepared), weight)
                done += 1
                if progress is not None:
                    progress(done / (len(rows) * len(columns)))
        return result
