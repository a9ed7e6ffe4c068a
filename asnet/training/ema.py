"""Exponential moving average (EMA) of the weights."""

import torch
from torch import nn


class ExponentialMovingAverage:
    """Keep `target` equal to the exponential moving average of `source`.

    Parameters
    ----------
    source, target : Module
        The trained module and a copy of it; the same module if no average is kept.
    decay : float
        Share of the old average that remains after a step; 0 keeps no average. Early steps use
        (1 + n) / (10 + n) if that is smaller, so that the initial weights are soon forgotten.
    """

    def __init__(self, source: nn.Module, target: nn.Module, decay: float) -> None:
        self.decay = decay
        target.requires_grad_(False) if decay else None
        self.averages = list(target.state_dict().values())
        self.weights = list(source.state_dict().values())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the weights after this many steps."""
        if not self.decay:
            return
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for average, weight in zip(self.averages, self.weights, strict=True):
            if average.is_floating_point():
                average.lerp_(weight, share)
            else:
                average.copy_(weight)
