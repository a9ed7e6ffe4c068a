"""The analysis network in a single pass: blurred image to blur kernel (section 3.1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asnet.errors import InputError
from asnet.networks.config import AnalysisConfig
from asnet.networks.layers import (
    Convolution,
    DownConvolution,
    UnpoolConvolution,
    fill_normal,
    initialise_he,
    luma,
    normalise_maps,
    relu,
    round_up,
    standardise,
)
from asnet.ops import append_flipped_pairs, cross_correlation, empty_maps, reused_memory
from asnet.ops.padding import pad_symmetric
from asnet.ops.transform_conv2d import is_autocast

#: Side of the convolutions between the levels, for downsampling (pyramid "image") and upsampling.
LEVEL_CONVOLUTION_SIZE = 5

#: Added to the sum of the kernel map before dividing by it.
SUM_EPSILON = 1e-7

#: Initial bias of the kernel map, so that it is positive somewhere for any image.
INITIAL_KERNEL_BIAS = 0.1


class Projection(Convolution):
    """1x1 convolution and ReLU with contiguous output: planes, as the correlation reads them."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1, relu=True)

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() or input.device.type != "cpu":
            return super().forward(input).contiguous()
        assert self.bias is not None
        weight, bias = self.weight[:, :, 0, 0].to(input.dtype), self.bias[:, None].to(input.dtype)
        pixels = input.permute(0, 2, 3, 1).flatten(1, 2)
        maps = empty_maps(input, (input.shape[0], self.out_channels, *input.shape[2:]))
        # A product that writes planes takes half the time of transposing channels-last maps.
        for planes, columns in zip(maps.flatten(2), pixels.transpose(1, 2), strict=True):
            torch.addmm(bias, weight, columns, out=planes)
        return relu(maps)


class CorrelationLevel(nn.Module):
    """One level: features, their cross-correlation over a window of lags, and its reduction to few
    channels."""

    def __init__(self, config: AnalysisConfig, in_channels: int, max_lag: int) -> None:
        super().__init__()
        self.config = config
        self.max_lag = max_lag
        self.features = nn.ModuleList()
        for _ in range(config.feature_layers):
            self.features.append(
                Convolution(in_channels, config.feature_channels, config.feature_size, relu=True)
            )
            in_channels = config.feature_channels
        self.projection = Projection(in_channels, config.correlation_channels)
        maps = config.correlation_channels
        pairs = maps * (maps + 1) // 2
        self.reduction = nn.Conv2d(
            2 * pairs if config.append_flipped_pairs else pairs, config.reduced_channels, 1
        )

    def extract(self, x: Tensor) -> Tensor:
        """Return the level's features, `feature_layers` convolutions without padding deep."""
        for convolution in self.features:
            # One channel is in both memory formats at once, and torch may continue with the other.
            x = convolution(x).contiguous(memory_format=torch.channels_last)
        return x

    def correlate(self, maps: Tensor) -> Tensor:
        """Return the reduced correlation (N, reduced_channels, 2R+1, 2R+1) of a level's projected features,
        which are overwritten if no gradient is needed."""
        config = self.config
        if config.normalise_features:
            maps = normalise_maps(maps, out=None if torch.is_grad_enabled() else maps)
        correlation = cross_correlation(maps, self.max_lag, boundary=config.boundary)
        if not config.normalise_features:
            correlation = correlation / (maps.shape[2] * maps.shape[3])
        if config.lag_sign == "released":
            correlation = correlation.flip((2, 3))
        if config.append_flipped_pairs:
            correlation = append_flipped_pairs(correlation)
        return relu(self.reduction(correlation))


class Fusion(nn.Module):
    """Joins the correlation map of one level with that of the coarser levels."""

    def __init__(self, config: AnalysisConfig) -> None:
        super().__init__()
        channels = config.reduced_channels
        self.up: nn.Conv2d | nn.ConvTranspose2d
        if config.upsampling == "transposed_convolution":
            self.up = nn.ConvTranspose2d(channels, channels, LEVEL_CONVOLUTION_SIZE, stride=2)
            self.centre_border = LEVEL_CONVOLUTION_SIZE // 2
        else:
            self.up = UnpoolConvolution(channels, channels, LEVEL_CONVOLUTION_SIZE)
            self.centre_border = 0
        self.join = nn.Conv2d(2 * channels, channels, config.fusion_size, padding="same")

    def forward(self, finer: Tensor, coarse: Tensor) -> Tensor:
        """Return (N, C, 2R+1, 2R+1) from the finer map of that size and the coarse one of half of it."""
        raised = relu(self.up(coarse))
        # Lag zero, the centre of the coarse map, is at twice its index (plus the border) in the upsampled
        # map.
        start_vertical = coarse.shape[2] - 1 + self.centre_border - finer.shape[2] // 2
        start_horizontal = coarse.shape[3] - 1 + self.centre_border - finer.shape[3] // 2
        cropped = raised[
            :,
            :,
            start_vertical : start_vertical + finer.shape[2],
            start_horizontal : start_horizontal + finer.shape[3],
        ]
        return relu(self.join(torch.cat([finer, cropped], dim=1)))


class AnalysisNetwork(nn.Module):
    """Estimates the blur kernel of an image from the correlations of its features at several levels.

    Parameters
    ----------
    config : AnalysisConfig
        Topology; see its fields.

    Examples
    --------
    >>> config = AnalysisConfig(kernel_size=7, levels=2, feature_channels=4, correlation_channels=3)
    >>> with torch.no_grad():
    ...     AnalysisNetwork(config)(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 7, 7])
    """

    def __init__(self, config: AnalysisConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = nn.ModuleList()
        self.down = nn.ModuleList()
        in_channels = 1
        for level, max_lag in enumerate(config.max_lags):
            self.levels.append(CorrelationLevel(config, in_channels, max_lag))
            if level + 1 < config.levels and config.pyramid == "image":
                self.down.append(DownConvolution(1, 1, LEVEL_CONVOLUTION_SIZE))
            in_channels = 1 if config.pyramid == "image" else config.feature_channels
        self.fusions = nn.ModuleList(Fusion(config) for _ in range(config.levels - 1))
        self.head = nn.ModuleList()
        channels = config.reduced_channels
        for width in config.head_channels:
            self.head.append(nn.Conv2d(channels, width, 3, padding=1))
            channels = width
        self.head.append(nn.Conv2d(channels, 1, config.final_size, padding=config.final_size // 2))
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                initialise_he(module)
        for down in self.down:
            assert isinstance(down, DownConvolution)
            # With one channel there is no average over filters: start as the mean of 5x5 pixels, which
            # preserves the image.
            nn.init.constant_(down.weight, 1 / LEVEL_CONVOLUTION_SIZE**2)
        final = self.head[-1]
        assert isinstance(final, nn.Conv2d)
        assert final.bias is not None
        fill_normal(final.weight, INITIAL_KERNEL_BIAS * final.weight.numel() ** -0.5)
        nn.init.constant_(final.bias, INITIAL_KERNEL_BIAS)

    def forward(self, image: Tensor) -> Tensor:
        """Estimate blur kernels.

        Parameters
        ----------
        image : Tensor
            Blurred images: RGB (N, 3, H, W) or luma (N, 1, H, W), range [0, 1]. Images smaller than
            `config.minimum_size` are continued by mirroring.

        Returns
        -------
        Tensor
            Blur kernels (N, K, K), K = `config.kernel_size`, non-negative, sum 1, float32 (float64 for a
            float64 network). A map that is zero everywhere gives the uniform kernel.

        Raises
        ------
        InputError
            If the shape is not one of these.
        """
        config = self.config
        if image.dim() == 4 and min(image.shape) < 1:
            raise InputError(f"an image must hold at least one pixel, got the shape {tuple(image.shape)}")
        y = luma(image)
        height, width = (
            round_up(max(length, config.minimum_size), config.size_multiple) for length in y.shape[2:]
        )
        y = pad_symmetric(y, height, width)
        dtype = next(self.parameters()).dtype
        y = standardise(y.to(torch.promote_types(dtype, torch.float32))).to(dtype)
        with reused_memory(y):
            return _normalised_kernel(self._kernel_map(y))

    def _kernel_map(self, y: Tensor) -> Tensor:
        """Return the non-negative map (N, K, K) that becomes the kernel; y is the standardised luma."""
        reduced = []
        x = y.contiguous(memory_format=torch.channels_last)
        for index, level in enumerate(self.levels):
            assert isinstance(level, CorrelationLevel)
            features = level.extract(x)
            maps = _as_correlated(level.projection(features))
            if index + 1 < len(self.levels):
                x = self.down[index](x) if self.config.pyramid == "image" else F.max_pool2d(features, 2)
            del features
            reduced.append(level.correlate(maps))
        merged = reduced.pop()
        for fusion in reversed(self.fusions):
            merged = fusion(reduced.pop(), merged)
        for convolution in self.head:
            merged = relu(convolution(merged))
        return merged[:, 0]


def _as_correlated(maps: Tensor) -> Tensor:
    """Return maps in the dtype in which autocast correlates them, for inference on CPUs.

    Means of bfloat16 take several times as long as means of float32 there, and so does a copy to fresh
    memory.
    """
    if torch.is_grad_enabled() or maps.device.type != "cpu" or not is_autocast(maps):
        return maps
    return empty_maps(maps, maps.shape, torch.float32).copy_(maps)


def _normalised_kernel(kernel: Tensor) -> Tensor:
    """Divide non-negative maps (N, K, K) by their sum; a map that is 0 everywhere becomes uniform."""
    kernel = kernel.to(torch.promote_types(kernel.dtype, torch.float32))
    total = kernel.sum((1, 2), keepdim=True)
    uniform = 1 / (kernel.shape[1] * kernel.shape[2])
    return torch.where(total > 0, kernel / (total + SUM_EPSILON), uniform)
