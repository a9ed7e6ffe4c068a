"""Synthesis-guiding units (section 3.2): linear layers from the blur kernel to multipliers and shifts."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asnet.errors import InputError
from asnet.networks.configurations import SynthesisConfig
from asnet.networks.layers import initialise_he

#: Standard deviation of the initial weights that make multipliers and shifts: guidance starts close to none.
INITIAL_HEAD_DEVIATION = 0.01

#: L2 norm of a typical blur kernel (about 45 pixels of equal weight), for the scale of the first layer's
#: weights.
TYPICAL_KERNEL_NORM = 0.15


class Modulation(NamedTuple):
    """m(k) and b(k) of Eq. 1 for one convolution, each (N, C) or None where the guidance does without."""

    multiplier: Tensor | None
    shift: Tensor | None


#: No guidance: the convolution is left as it is.
NO_MODULATION = Modulation(None, None)


class GuidingUnit(nn.Module):
    """Maps a blur kernel to the modulation of one or more convolutions.

    Two hidden layers with ReLU, shared by the convolutions that the unit guides, and for each of them a
    linear map to the multipliers and one to the shifts.

    Parameters
    ----------
    config : SynthesisConfig
        Kernel grid, hidden width, guidance.
    channels : sequence of int
        Width of every guided convolution.
    """

    def __init__(self, config: SynthesisConfig, channels: Sequence[int]) -> None:
        super().__init__()
        self.input_scale = config.guide_input_scale
        self.hidden = nn.ModuleList(
            [
                nn.Linear(config.kernel_size**2, config.guide_hidden),
                nn.Linear(config.guide_hidden, config.guide_hidden),
            ]
        )
        self.multipliers = nn.ModuleList()
        self.shifts = nn.ModuleList()
        self.offsets = nn.ParameterList()
        for width in channels:
            if config.guidance in ("multiplicative", "both"):
                self.multipliers.append(nn.Linear(config.guide_hidden, width))
                if config.learned_multiplier_offset:
                    self.offsets.append(nn.Parameter(torch.ones(width)))
            if config.guidance in ("additive", "both"):
                self.shifts.append(nn.Linear(config.guide_hidden, width))
        self._initialise()

    def _initialise(self) -> None:
        first, second = self.hidden
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        # The kernel is no noise of unit variance: its norm, not its number of pixels, sets the size of the
        # response.
        nn.init.normal_(first.weight, std=math.sqrt(2) / (TYPICAL_KERNEL_NORM * self.input_scale))
        nn.init.zeros_(first.bias)
        initialise_he(second)
        for head in (*self.multipliers, *self.shifts):
            assert isinstance(head, nn.Linear)
            nn.init.normal_(head.weight, std=INITIAL_HEAD_DEVIATION)
            nn.init.zeros_(head.bias)

    def forward(self, kernel: Tensor) -> list[Modulation]:
        """Return the modulation of every guided convolution for blur kernels (N, K, K)."""
        hidden = kernel.flatten(1) * self.input_scale
        for layer in self.hidden:
            hidden = F.relu(layer(hidden))
        multipliers = [head(hidden) for head in self.multipliers]
        if self.offsets:
            # The operators add 1 themselves.
            multipliers = [m + (offset - 1) for m, offset in zip(multipliers, self.offsets, strict=True)]
        shifts = [head(hidden) for head in self.shifts]
        count = max(len(multipliers), len(shifts))
        return [
            Modulation(multipliers[index] if multipliers else None, shifts[index] if shifts else None)
            for index in range(count)
        ]


def fit_kernel_to_grid(kernel: Tensor, size: int) -> Tensor:
    """Return blur kernels (N, k, k), k odd and at most `size`, zero-padded about their centre to that grid.

    Raises
    ------
    InputError
        If the kernels are not square, even in size, or larger than the grid.
    """
    side = kernel.shape[-1]
    if kernel.dim() != 3 or kernel.shape[-2] != side or side % 2 == 0 or side > size:
        raise InputError(
            f"a blur kernel must have the shape (N, K, K) with K odd and at most {size}, "
            f"got {tuple(kernel.shape)}"
        )
    border = (size - side) // 2
    return F.pad(kernel, (border, border, border, border)) if border else kernel
