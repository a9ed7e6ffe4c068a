"""A photograph at all scales of the iterated analysis, and the rounds at each of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from asnet.networks.blurred_photographs import Photographs
from asnet.networks.config import IteratedAnalysisConfig
from asnet.networks.kernel_grids import SMALLEST_WEIGHT
from asnet.networks.kernel_rounds import Iteration, damping, run_rounds


class ImagePyramid:
    """The scales of one photograph, finest first.

    Parameters
    ----------
    photograph : Photographs
        A batch of one, at full size.
    config : IteratedAnalysisConfig
        Sizes of the analysis.
    count : int
        Number of scales.
    """

    def __init__(self, photograph: Photographs, config: IteratedAnalysisConfig, count: int) -> None:
        self.config = config
        self.scales = [photograph.downscaled(scale) for scale in range(count)]
        self._damping = damping(photograph)

    @property
    def photograph(self) -> Photographs:
        """The photograph at full size."""
        return self.scales[0]

    def run(
        self,
        scale: int,
        before: Iteration | None,
        strengths: Sequence[float],
        weight: float,
        avoids_clipped: Tensor | None = None,
        *,
        largest: int | None = None,
        smallest_weight: float = SMALLEST_WEIGHT,
        looks_beyond: bool = False,
        ground: float | None = None,
    ) -> Iteration:
        """Run the rounds of a scale; see `run_rounds`.

        Parameters
        ----------
        scale : int
            Number of the scale; the result of the finest, 0, includes its evidence.
        before, strengths, smallest_weight, looks_beyond, ground
            As in `run_rounds`.
        weight : float
            Tikhonov weight for large photographs; for smaller ones it is damped.
        avoids_clipped : Tensor, optional
            As in `run_rounds`; by default not.
        largest : int, optional
            Largest side of the kernel's grid, odd; by default as far as the scale's grid reaches.
        """
        photograph, grid = self.scales[scale], self.config.grid_size(scale)
        if avoids_clipped is None:
            avoids_clipped = torch.zeros(1, dtype=torch.bool, device=photograph.luma.device)
        return run_rounds(
            photograph,
            grid if largest is None else min(grid, largest),
            before,
            strengths,
            weight * self._damping,
            avoids_clipped,
            self.config.conjugate_gradient_steps,
            smallest_weight=smallest_weight,
            looks_beyond=looks_beyond,
            ground=ground,
            keeps_evidence=scale == 0,
        )
