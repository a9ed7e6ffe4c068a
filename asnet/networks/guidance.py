"""Synthesis-guiding units (section 3.2): linear layers from the blur kernel to multipliers and shifts.

The units read either the kernel's pixels on a grid of fixed size or a description of fixed length: the kernel
around its centre at resolutions that halve from level to level, and the power of its transfer function,
pooled over cells of frequencies. The cost of a description depends on the kernel's own size.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asnet.errors import InputError
from asnet.networks.config import SynthesisConfig
from asnet.networks.layers import fill_normal, initialise_he
from asnet.networks.wiener import REFERENCE_NOISE, transfer_function

#: Standard deviation of the initial weights of multipliers and shifts: guidance is weak at first.
INITIAL_HEAD_DEVIATION = 0.01

#: L2 norm of a typical blur kernel (about 45 pixels of equal weight), for the scale of the first layer's
#: weights.
TYPICAL_KERNEL_NORM = 0.15

#: A description holds the kernel at this many resolutions, each on a grid of WINDOW x WINDOW.
RESOLUTIONS, WINDOW = 4, 13

#: Frequencies along an axis of the transfer function of a description, and along a cell of it.
FREQUENCIES, CELL = 128, 8

#: Powers far below this make no difference to a deconvolution.
POWER_FLOOR = 1e-3

#: Input of a guiding unit for an estimated kernel; 0 for a known one. Large, so that weights initialised to 0
#: soon have an effect.
ESTIMATE_INPUT = 5.0

#: Width of a description without the noise level.
DESCRIPTION_WIDTH = RESOLUTIONS * WINDOW**2 + (FREQUENCIES // CELL) * (FREQUENCIES // 2 // CELL)


class Modulation(NamedTuple):
    """m(k) and b(k) of Eq. 1 for one convolution, each (N, C), or None if the guidance lacks the term."""

    multiplier: Tensor | None
    shift: Tensor | None


#: No guidance: the convolution is unchanged.
NO_MODULATION = Modulation(None, None)


class GuidingUnit(nn.Module):
    """Maps a blur kernel to the modulation of one or more convolutions.

    Two hidden layers with ReLU, shared by the convolutions that the unit guides, and for each of them a
    linear map to the multipliers and one to the shifts.

    Parameters
    ----------
    config : SynthesisConfig
        Kernel grid or description, hidden width, guidance.
    channels : sequence of int
        Width of every guided convolution.
    """

    def __init__(self, config: SynthesisConfig, channels: Sequence[int]) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(
            [
                nn.Linear(guide_width(config), config.guide_hidden),
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
        self._initialise(config)

    def _initialise(self, config: SynthesisConfig) -> None:
        first, second = self.hidden
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        if config.guide_input == "grid":
            # The kernel is not noise of unit variance: its norm, not its number of pixels, determines the
            # size of the response.
            deviation = math.sqrt(2) / (TYPICAL_KERNEL_NORM * config.guide_input_scale)
            fill_normal(first.weight, deviation)
            nn.init.zeros_(first.bias)
        else:
            initialise_he(first)
        initialise_he(second)
        for head in (*self.multipliers, *self.shifts):
            assert isinstance(head, nn.Linear)
            fill_normal(head.weight, INITIAL_HEAD_DEVIATION)
            nn.init.zeros_(head.bias)

    def forward(self, inputs: Tensor) -> list[Modulation]:
        """Return the modulation of every guided convolution for the result of `guide_inputs`, (N, F)."""
        hidden = inputs
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


def check_kernel(kernel: Tensor, largest: int) -> None:
    """Raise `InputError` unless blur kernels are (N, K, K), K odd and at most `largest`."""
    side = kernel.shape[-1]
    if kernel.dim() != 3 or kernel.shape[-2] != side or side % 2 == 0 or side > largest:
        raise InputError(
            f"a blur kernel must have the shape (N, K, K) with K odd and at most {largest}, "
            f"got {tuple(kernel.shape)}"
        )


def fit_kernel_to_grid(kernel: Tensor, size: int) -> Tensor:
    """Return blur kernels (N, k, k), k odd and at most `size`, zero-padded about their centre to that grid.

    Raises
    ------
    InputError
        If the kernels are not square, even in size, or larger than the grid.
    """
    check_kernel(kernel, size)
    border = (size - kernel.shape[-1]) // 2
    return F.pad(kernel, (border, border, border, border)) if border else kernel


def crop_kernel(kernel: Tensor) -> Tensor:
    """Return blur kernels (N, K, K), K odd, without the border in which all of them are 0; K stays odd."""
    occupied = (kernel != 0).any(0)
    lines = occupied.any(0) | occupied.any(1)
    # Symmetrically, so that the centre stays.
    border = int((lines | lines.flip(0)).int().argmax())
    size = kernel.shape[-1]
    return kernel[:, border : size - border, border : size - border] if lines.any() else kernel


def guide_width(config: SynthesisConfig) -> int:
    """Return the number of values that the guiding units of a configuration read."""
    if config.guide_input == "grid":
        return config.kernel_size**2
    return DESCRIPTION_WIDTH + config.adapts_to_noise + config.distrusts_estimates


def guide_inputs(
    config: SynthesisConfig, kernel: Tensor, noise: Tensor | None, estimated: Tensor | None = None
) -> Tensor:
    """Return what the guiding units read, (N, F) float32.

    Parameters
    ----------
    config : SynthesisConfig
        Selects grid or description.
    kernel : Tensor
        Blur kernels (N, k, k) or (1, k, k), k odd and at most `config.kernel_size`.
    noise : Tensor or None
        Standard deviations (N,) of the noise, if the network adapts to it.
    estimated : Tensor or None
        (N,) bool, which kernels are estimates, if the network distrusts those; None if all are known.
    """
    parts = [kernel_inputs(config, kernel)]
    if config.guide_input == "grid":
        return parts[0]
    if config.adapts_to_noise:
        assert noise is not None
        # One kernel may serve images of different noise.
        parts = [part.expand(len(noise), -1) for part in parts]
        parts.append((noise.float() / REFERENCE_NOISE).log()[:, None])
    if config.distrusts_estimates:
        flags = kernel.new_zeros(1) if estimated is None else ESTIMATE_INPUT * estimated.float()
        count = max(len(parts[0]), len(flags))
        parts = [part.expand(count, -1) for part in (*parts, flags[:, None])]
    return torch.cat(parts, dim=1)


def kernel_inputs(config: SynthesisConfig, kernel: Tensor) -> Tensor:
    """Return the part of `guide_inputs` that depends on the blur kernels alone, and comes first."""
    if config.guide_input == "grid":
        return fit_kernel_to_grid(kernel, config.kernel_size).flatten(1) * config.guide_input_scale
    return torch.cat([config.guide_input_scale * describe_kernel(kernel), describe_spectrum(kernel)], dim=1)


def describe_kernel(kernel: Tensor) -> Tensor:
    """Return blur kernels (N, k, k), k odd, at RESOLUTIONS resolutions around the centre, (N, F) float32.

    A pixel of a coarser grid is the sum of the kernel under a tent of twice its own width, so that a kernel
    within the grid keeps its sum and its centroid.
    """
    kernel = kernel.float()
    # Integers would become the default type of torch when divided.
    size = kernel.shape[-1]
    position = torch.arange(size, dtype=kernel.dtype, device=kernel.device) - size // 2
    cell = torch.arange(WINDOW, dtype=kernel.dtype, device=kernel.device) - WINDOW // 2
    parts = []
    for level in range(RESOLUTIONS):
        tent = (1 - (position / 2**level - cell[:, None]).abs()).clamp_min(0)
        parts.append((tent @ kernel @ tent.T).flatten(1))
    return torch.cat(parts, dim=1)


def describe_spectrum(kernel: Tensor) -> Tensor:
    """Return the logarithm of |K|^2, averaged over cells of frequencies, (N, F) float32, about -1 to 1."""
    response = transfer_function(kernel.float(), FREQUENCIES, FREQUENCIES)
    power = response.real.square() + response.imag.square()
    # Vertical frequencies in ascending order, without the last of the horizontal ones, Nyquist's.
    power = power.roll(FREQUENCIES // 2, 1)[..., : FREQUENCIES // 2]
    pooled = F.avg_pool2d(power[:, None], CELL).flatten(1)
    return ((pooled + POWER_FLOOR).log10() + 1.5) / 1.5
