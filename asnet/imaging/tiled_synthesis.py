"""The synthesis network on images of any size, in overlapping tiles where they are large."""

from collections.abc import Callable

import torch
from torch import Tensor

from asnet.errors import InputError
from asnet.imaging.tiles import FADE, affordable_side, extend_span, tile_margin, tile_spans, wiener_halo
from asnet.networks import SynthesisNetwork
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
        self._halo = wiener_halo(config)
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
        kernel = kernel[None]
        height, width = blurred.shape[2:]
        if max(height, width) <= self.tile_size:
            whole: Tensor = self.network(blurred, kernel, regularisation=regularisation)
            if progress is not None:
                progress(1.0)
            return whole
        mean = blurred.mean((2, 3))
        result = torch.zeros_like(blurred)
        rows = tile_spans(height, self.tile_size, self._margin, self._multiple)
        columns = tile_spans(width, self.tile_size, self._margin, self._multiple)
        done = 0
        for top, bottom, vertical in rows:
            above, below = extend_span(top, bottom, height, self._halo)
            for left, right, horizontal in columns:
                before, after = extend_span(left, right, width, self._halo)
                tile = blurred[..., top - above : bottom + below, left - before : right + after]
                sharp = self.network(
                    tile,
                    kernel,
                    mean=mean,
                    halo=(before, after, above, below),
                    regularisation=regularisation,
                )
                weight = vertical.to(sharp)[:, None] * horizontal.to(sharp)
                result[..., top:bottom, left:right].addcmul_(sharp, weight)
                done += 1
                if progress is not None:
                    progress(done / (len(rows) * len(columns)))
        return result
