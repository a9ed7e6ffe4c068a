"""The learned part of the iterated analysis: a small network that refines a solved kernel on its grid."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asnet.networks.iterated_analysis_configuration import IteratedAnalysisConfig
from asnet.networks.kernel_equations import Correlations, solve_kernel
from asnet.networks.kernel_grids import EPSILON
from asnet.networks.layers import initialise_he

#: Tikhonov weights of the solutions that the network sees, for intensities in [0, 1].
WEIGHTS = (2.0, 20.0)

#: What stands for a weight of 0 in the logarithm, relative to the largest.
LOGIT_FLOOR = 3e-3

#: Refined weights below this share of the largest are dropped, except in training, where they must learn.
SMALLEST_REFINED = 0.04

#: Dilations of the inner layers.
DILATIONS = (1, 1, 2, 4, 2, 1)


class KernelRefiner(nn.Module):
    """Refine solved kernels, seen beside the correlations that they solve.

    At first it gives the solution as it is.

    Parameters
    ----------
    config : IteratedAnalysisConfig
        Its width.
    """

    def __init__(self, config: IteratedAnalysisConfig) -> None:
        super().__init__()
        width = config.refiner_channels
        self.first = nn.Conv2d(6, width, 5, padding=2)
        self.inner = nn.ModuleList(nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in DILATIONS)
        self.last = nn.Conv2d(width, 1, 3, padding=1)
        for layer in (self.first, *self.inner):
            assert isinstance(layer, nn.Conv2d)
            initialise_he(layer)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, kernel: Tensor, correlations: Correlations, steps: int) -> Tensor:
        """Return refined kernels.

        Parameters
        ----------
        kernel : Tensor
            (N, s, s), the pruned kernels to refine, each of sum 1.
        correlations : Correlations
            What they were solved from.
        steps : int
            Steps of conjugate gradients in which it solves them anew, with little and with much damping.

        Returns
        -------
        Tensor
            (N, s, s), not negative, each of sum 1.
        """
        size = kernel.shape[-1]
        middle = slice(size // 2, size // 2 + size)
        damped = [
            solve_kernel(correlations.predicted, correlations.mixed, weight, steps) for weight in WEIGHTS
        ]
        maps = torch.stack(
            [
                kernel,
                *damped,
                correlations.mixed,
                correlations.predicted[:, middle, middle],
                correlations.blurred[:, middle, middle],
            ],
            dim=1,
        )
        features = F.relu(self.first(maps / maps.amax((-2, -1), keepdim=True).clamp(min=EPSILON)))
        for layer in self.inner:
            features = features + F.relu(layer(features))
        relative = kernel / kernel.amax((-2, -1), keepdim=True).clamp(min=EPSILON)
        logits = torch.log(relative + LOGIT_FLOOR) + self.last(features)[:, 0]
        if not self.training:
            lowest = logits.amax((-2, -1), keepdim=True) + math.log(SMALLEST_REFINED)
            logits = logits.masked_fill(logits < lowest, -torch.inf)
        return torch.softmax(logits.flatten(1), dim=1).view_as(logits)
