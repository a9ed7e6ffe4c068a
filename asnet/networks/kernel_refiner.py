"""The learned part of the iterated analysis: a small network that refines a solved kernel on its grid."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asnet.networks.config import IteratedAnalysisConfig
from asnet.networks.kernel_grids import EPSILON
from asnet.networks.layers import initialise_he

#: Replaces a weight of 0 in the logarithm, relative to the largest.
LOGIT_FLOOR = 3e-3

#: Refined weights below this share of the largest are dropped, except in training, which needs their
#: gradient.
SMALLEST_REFINED = 0.04

#: Dilations of the inner layers.
DILATIONS = (1, 1, 2, 4, 2, 1)


class KernelRefiner(nn.Module):
    """Refine solved kernels, given the data from which they were computed.

    Untrained, it returns the solution unchanged.

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

    def forward(self, kernel: Tensor, evidence: Tensor) -> Tensor:
        """Return refined kernels.

        Parameters
        ----------
        kernel : Tensor
            (N, s, s), the kernels to refine, each of sum 1.
        evidence : Tensor
            (N, 5, s, s), see `Iteration`.

        Returns
        -------
        Tensor
            (N, s, s), not negative, each of sum 1.
        """
        maps = torch.cat([kernel[:, None], evidence], dim=1)
        features = F.relu(self.first(maps / maps.amax((-2, -1), keepdim=True).clamp(min=EPSILON)))
        for layer in self.inner:
            features = features + F.relu(layer(features))
        relative = kernel / kernel.amax((-2, -1), keepdim=True).clamp(min=EPSILON)
        logits = torch.log(relative + LOGIT_FLOOR) + self.last(features)[:, 0]
        if not self.training:
            lowest = logits.amax((-2, -1), keepdim=True) + math.log(SMALLEST_REFINED)
            logits = logits.masked_fill(logits < lowest, -torch.inf)
        return torch.softmax(logits.flatten(1), dim=1).view_as(logits)
