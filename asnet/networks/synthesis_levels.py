"""Levels of the synthesis network's U-Net and their guided blocks (section 3.2)."""

import torch
from torch import Tensor, nn

from asnet.networks.config import SynthesisConfig
from asnet.networks.guidance import NO_MODULATION, GuidingUnit, Modulation
from asnet.networks.layers import Convolution, DownConvolution, UnpoolConvolution, UpConvolution, mix_channels
from asnet.ops import GuidedConv2d, conv2d, guided_pointwise_conv2d


class GuidedBlock(nn.Module):
    """Successive 3x3 convolutions, each followed by its modulation and ReLU.

    A residual block leaves out the last ReLU and adds its input.
    """

    def __init__(self, in_channels: int, channels: int, count: int, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.convolutions = nn.ModuleList(
            GuidedConv2d(
                in_channels if index == 0 else channels,
                channels,
                3,
                padding=1,
                activation=None if residual and index == count - 1 else "relu",
            )
            for index in range(count)
        )

    def forward(self, maps: list[Tensor], modulations: list[Modulation]) -> Tensor:
        """Apply the block to the one in `maps`, which is taken out: a caller would keep it in memory.

        `modulations` holds one entry for each guided convolution, from the first on.
        """
        features = maps.pop()
        added, last = (features, len(self.convolutions) - 1) if self.residual else (None, None)
        for index, convolution in enumerate(self.convolutions):
            multiplier, shift = modulations[index] if index < len(modulations) else NO_MODULATION
            features = convolution(features, multiplier, shift, onto=added if index == last else None)
        return features


class EncoderLevel(nn.Module):
    """A level on the way down: its block, and what leads to the next level."""

    def __init__(
        self, config: SynthesisConfig, in_channels: int, channels: int, next_channels: int | None
    ) -> None:
        super().__init__()
        guided = _guided_widths(config, channels, from_merge=False)
        self.guide = GuidingUnit(config, guided) if guided else None
        self.block = GuidedBlock(
            in_channels, channels, config.convolutions_per_block, residual=config.block == "residual"
        )
        self.down: nn.Module | None = None
        if next_channels is not None:
            if config.downsampling == "max_pool":
                self.down = nn.MaxPool2d(2)
            else:
                self.down = DownConvolution(channels, next_channels, config.downsampling_size)

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Return the features of this level; `kernel` (N, F) is what the guiding units read of it."""
        features: Tensor = self.block([x], self.guide(kernel) if self.guide is not None else [])
        return features


class DecoderLevel(nn.Module):
    """A level on the way up: the coarser level's features raised, joined with the skip connection, and its
    block."""

    def __init__(self, config: SynthesisConfig, coarse_channels: int, channels: int) -> None:
        super().__init__()
        self.guides_merge = config.guided_convolutions == "first"
        guided = _guided_widths(config, channels, from_merge=self.guides_merge)
        self.guide = GuidingUnit(config, guided) if guided else None
        # Residual blocks hold their ReLUs inside; what joins them stays linear.
        self.linear = config.block == "residual"
        raise_to = UnpoolConvolution if config.upsampling == "unpool_convolution" else UpConvolution
        self.up = raise_to(coarse_channels, channels, config.upsampling_size, relu=not self.linear)
        self.skip: Convolution | None = None
        if config.skip != "identity":
            self.skip = Convolution(channels, channels, 3, padding=1, relu=config.skip == "convolution_relu")
        self.merge = nn.Conv2d(2 * channels, channels, 1)
        self.block = GuidedBlock(channels, channels, config.convolutions_per_block, residual=self.linear)

    def forward(self, maps: list[Tensor], kernel: Tensor) -> Tensor:
        """Return the features of this level from the last two of `maps`, the skip connection and the coarser
        level's features, which are taken out."""
        modulations = self.guide(kernel) if self.guide is not None else []
        modulation = NO_MODULATION
        if self.guides_merge and modulations:
            modulation, modulations = modulations[0], modulations[1:]
        joined = [self._join(self.up(maps.pop()), maps.pop(), modulation)]
        features: Tensor = self.block(joined, modulations)
        return features

    def _join(self, raised: Tensor, skip: Tensor, modulation: Modulation) -> Tensor:
        """Return the 1x1 convolution of what came up and the skip connection."""
        weight, bias = self.merge.weight, self.merge.bias
        assert bias is not None
        linear = self.skip is not None and not self.skip.relu and modulation == NO_MODULATION
        if linear and not torch.is_grad_enabled():
            assert self.skip is not None
            assert self.skip.bias is not None
            # Both convolutions of the skip connection are linear: one 3x3 convolution does for them.
            of_raised, of_skip = weight.chunk(2, dim=1)
            joined = torch.einsum("om,mcyx->ocyx", of_skip[:, :, 0, 0], self.skip.weight)
            joined_bias = bias + of_skip[:, :, 0, 0] @ self.skip.bias
            mixed = mix_channels(raised, of_raised)
            del raised
            return conv2d(skip, joined, joined_bias, padding=(1, 1, 1, 1), relu=not self.linear, onto=mixed)
        if self.skip is not None:
            skip = self.skip(skip)
        multiplier, shift = modulation
        return guided_pointwise_conv2d(
            raised, skip, weight, bias, multiplier, shift, activation=None if self.linear else "relu"
        )


def _guided_widths(config: SynthesisConfig, channels: int, *, from_merge: bool) -> list[int]:
    """Widths of the operations that a level's guiding unit serves, in their order."""
    if config.guidance == "none":
        return []
    if config.guided_convolutions == "first" or from_merge:
        return [channels]
    return [channels] * config.convolutions_per_block
