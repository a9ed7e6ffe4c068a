"""Estimation of a photograph's blur kernel: choice of the part, the scale and the pair of networks.

An estimate uses the most structured window of the photographed area, at the smallest scale at which the blur
fits the networks' grid. A given kernel is resampled to that grid.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from asnet.deblurring.photographed_area import PhotographedArea, photographed_area
from asnet.deblurring.regions import region_slices
from asnet.deblurring.resampling import SMALLEST_SIDE, downscale, kernel_extent, scale_kernel
from asnet.deblurring.tiled_synthesis import TiledSynthesis
from asnet.deblurring.tiles import most_structured_window
from asnet.errors import InputError
from asnet.imaging.pixels import network_input
from asnet.networks import DeblurNetwork, ScaleOptimisedNetworks
from asnet.networks.iterated_analysis import IteratedAnalysisNetwork

#: Downscaling factors that "auto" tries in turn.
SCALES = (1, 2, 4)

#: The blur kernel of a larger photograph is estimated from its most structured window of this many pixels.
ESTIMATION_PIXELS = 1536 * 1024

#: How far a blur must exceed the grid for half the resolution to be the better choice. On 24 photographs and
#: a grid of 31, 1 of 48 kernels of up to 31 pixels was judged larger, and 21 of 24 from 41 to 61 pixels.
EXCESS = 1.25

#: Share of the grid's side that the estimate of a larger blur fills: 17 of 20 with 41 to 61 pixels.
FILLED = 0.6

#: Share of a downscaled pixel that must be photographed for it to be used.
FULLY = 0.999

Scale = int | Literal["auto"]

#: Result of the analysis: a blur, no blur, or no reliable estimate.
Status = Literal["blurred", "sharp", "unclear"]


class PlacedKernel(NamedTuple):
    """A blur kernel (K, K) on a pair's grid, the pair's index, their scale, and the status."""

    kernel: Tensor
    pair: int
    scale: int
    status: Status = "blurred"


class KernelSearch:
    """Estimates blur kernels with the analysis networks, and places kernels on the grids of the pairs.

    Parameters
    ----------
    network : DeblurNetwork or ScaleOptimisedNetworks
        On the device on which to compute.
    tile_size : int, optional
        Of the synthesis; see `TiledSynthesis`.
    """

    def __init__(self, network: DeblurNetwork | ScaleOptimisedNetworks, tile_size: int | None = None) -> None:
        self._network = network
        if isinstance(network, DeblurNetwork):
            self.pairs = [network]
            self._largest_sizes: tuple[int, ...] = (network.config.analysis.kernel_size,)
        else:
            self.pairs = [network.pair(index) for index in range(len(network.pairs))]
            self._largest_sizes = network.config.classifier.class_sizes
        self.syntheses = [TiledSynthesis(pair.synthesis, tile_size) for pair in self.pairs]
        # Given kernels may be larger than any that the analysis finds.
        self._given_sizes = (*self._largest_sizes[:-1], self.pairs[-1].config.synthesis.kernel_size)

    @property
    def kernel_size(self) -> int:
        """Side of the largest grid on which kernels are estimated."""
        return self._largest_sizes[-1]

    def estimate_in(
        self,
        pixels: Tensor,
        alpha: Tensor | NDArray[Any] | None,
        region: tuple[int, int, int, int] | None,
        scale: Scale,
    ) -> PlacedKernel:
        """Estimate the kernel from the photographed area of (1 or 3, H, W), or of a region of it."""
        if region is not None:
            rows, columns = region_slices(region, pixels, 1 if scale == "auto" else scale)
            pixels = pixels[:, rows, columns]
            alpha = None if alpha is None else alpha[rows, columns]
        return self.estimate(photographed_area(pixels, alpha), scale)

    @torch.no_grad()
    def estimate(self, area: PhotographedArea, scale: Scale) -> PlacedKernel:
        """Estimate the kernel at the smallest scale at which it fits the largest grid.

        The estimate of a blur larger than the grid shows a part of it, which fills much of the grid, as does
        a blur that just fits. The blur is then also estimated at half the size, and that estimate is used if
        it clearly exceeds the grid at the larger size. With a size classifier, only the largest class can be
        larger still.
        """
        blurred, usable = area.pixels[None], area.usable
        if scale != "auto":
            return self._estimate_at(blurred, scale, usable)._replace(status="blurred")
        estimate = self._estimate_at(blurred, SCALES[0], usable)
        for larger in SCALES[1:]:
            may_exceed = kernel_extent(estimate.kernel) >= FILLED * self.kernel_size
            if estimate.status == "sharp" or estimate.pair != len(self.pairs) - 1 or not may_exceed:
                break
            if min(blurred.shape[2:]) // larger < 4 * self.kernel_size:
                break
            candidate = self._estimate_at(blurred, larger, usable)
            if kernel_extent(candidate.kernel) * larger <= EXCESS * self.kernel_size * estimate.scale:
                break
            estimate = candidate
        return estimate

    def _estimate_at(self, blurred: Tensor, factor: int, usable: Tensor | None) -> PlacedKernel:
        if usable is not None and factor != 1:
            usable = downscale(usable.float(), factor) > FULLY
        window, usable = most_structured_window(downscale(blurred, factor), ESTIMATION_PIXELS, usable)
        device = next(self._network.parameters()).device
        window, usable = network_input(window, device), None if usable is None else usable.to(device)
        pair = 0 if isinstance(self._network, DeblurNetwork) else self._network.classify(window)
        networks = self.pairs[pair]
        if not isinstance(networks.analysis, IteratedAnalysisNetwork):
            return PlacedKernel(networks.analysis(window)[0].float(), pair, factor)

        def restore(blurred: Tensor, kernel: Tensor, *, estimated: Tensor) -> Tensor:
            return self.syntheses[pair](blurred, kernel[0], estimated=bool(estimated))

        estimate = networks.estimate(window, usable, restore)
        kernel, sharp, contradictory = (values[0] for values in estimate)
        # Downscaling makes edges steep.
        status: Status = "sharp" if factor == 1 and sharp else "unclear" if contradictory else "blurred"
        return PlacedKernel(kernel.float(), pair, factor, status)

    def fit_to_grid(self, kernel: Tensor, size: Sequence[int], scale: Scale) -> PlacedKernel:
        """Find the scale at which a given kernel fits the largest grid, and the pair for its size there.

        An image of this height and width must be large enough at that scale.
        """
        factor = 1 if scale == "auto" else scale
        while True:
            fitted = scale_kernel(kernel, 1 / factor)
            for pair, largest in enumerate(self._given_sizes):
                if fitted.shape[-1] <= largest:
                    return PlacedKernel(fitted, pair, factor)
            if scale != "auto":
                raise InputError(
                    f"a blur kernel of {kernel.shape[-1]} pixels does not fit the grid of "
                    f"{self._given_sizes[-1]} at scale {scale}"
                )
            factor *= 2
            if min(size) // factor < SMALLEST_SIDE:
                raise InputError(
                    f"a blur kernel of {kernel.shape[-1]} pixels is too large for an image of "
                    f"{size[1]}x{size[0]}"
                )
