"""Configuration of the analysis network of a single pass: paper and released code."""

from dataclasses import dataclass
from typing import Literal

from asnet.networks.config.fields import check_choice, check_odd, check_positive, check_widths

Boundary = Literal["zero", "circular"]
LagSign = Literal["paper", "released"]
Pyramid = Literal["features", "image"]
Upsampling = Literal["unpool_convolution", "transposed_convolution"]


@dataclass(frozen=True)
class AnalysisConfig:
    """The analysis network in a single pass (section 3.1): image to blur kernel.

    Parameters
    ----------
    kernel_size : int
        Side m of the blur kernel grid, odd. Level 0 correlates over lags of -m // 2 to m // 2, each further
        level over half of that, rounded up.
    levels : int
        Number of levels, each at half the resolution of the one before.
    pyramid : {"features", "image"}
        Input of the next level: the max-pooled features (paper), or the level's one-channel input after a
        learned 5x5 convolution of stride 2 (released code).
    feature_channels, feature_layers, feature_size : int
        Width, number and side of the convolutions that extract a level's features, all without padding.
    correlation_channels : int
        Feature maps C left by the 1x1 convolution before the correlation.
    normalise_features : bool
        Make every map zero-mean and divide it by its norm before the correlation (released code). Without it
        the correlation is divided by the number of pixels, so that it does not grow with the image.
    boundary : {"zero", "circular"}
        Values outside the feature maps.
    lag_sign : {"paper", "released"}
        `"paper"` correlates as sum f_i(x - s) f_j(x), `"released"` as sum f_i(x + s) f_j(x).
    append_flipped_pairs : bool
        Also pass the pairs i > j to the next layer: C (C + 1) channels instead of half as many.
    reduced_channels : int
        Channels of the correlation maps after their reduction, and of everything up to the head.
    upsampling : {"unpool_convolution", "transposed_convolution"}
        How a coarse map is upsampled, both with 5x5 kernels.
    fusion_size : int
        Side of the convolution that joins a finer map and the upsampled one.
    head_channels : tuple of int
        Widths of the 3x3 convolutions of the head before its last.
    final_size : int
        Side of the last convolution, which outputs the kernel.
    size_multiple : int
        The image is padded symmetrically to a multiple of this.

    Examples
    --------
    >>> AnalysisConfig(kernel_size=31, levels=3).boundary
    'zero'
    """

    kernel_size: int = 85
    levels: int = 3
    pyramid: Pyramid = "features"
    feature_channels: int = 64
    feature_layers: int = 3
    feature_size: int = 7
    correlation_channels: int = 32
    normalise_features: bool = False
    boundary: Boundary = "zero"
    lag_sign: LagSign = "paper"
    append_flipped_pairs: bool = True
    reduced_channels: int = 32
    upsampling: Upsampling = "unpool_convolution"
    fusion_size: int = 1
    head_channels: tuple[int, ...] = (24, 16, 8)
    final_size: int = 3
    size_multiple: int = 1

    def __post_init__(self) -> None:
        check_odd("kernel_size", self.kernel_size, 3)
        counts = ("levels", "feature_channels", "feature_layers", "correlation_channels", "reduced_channels")
        for name in (*counts, "size_multiple"):
            check_positive(name, getattr(self, name))
        for name in ("feature_size", "fusion_size", "final_size"):
            check_odd(name, getattr(self, name))
        check_widths("head_channels", self.head_channels)
        check_choice("pyramid", self.pyramid, Pyramid)
        check_choice("boundary", self.boundary, Boundary)
        check_choice("lag_sign", self.lag_sign, LagSign)
        check_choice("upsampling", self.upsampling, Upsampling)

    @property
    def max_lags(self) -> tuple[int, ...]:
        """Largest lag of every level, finest first: R_0 = m // 2, R_{l+1} = ceil(R_l / 2)."""
        lags = [self.kernel_size // 2]
        while len(lags) < self.levels:
            lags.append((lags[-1] + 1) // 2)
        return tuple(lags)

    @property
    def minimum_size(self) -> int:
        """Smallest image side for the range of lags of every level; smaller images are padded to it."""
        border = self.feature_layers * (self.feature_size - 1)
        size = 0
        for lag in reversed(self.max_lags):
            if self.pyramid == "features":
                # Only the pooled remainder of the finer level reaches this level.
                size = max(2 * size, 2 * lag + 1) + border
            else:
                size = max(2 * size, 2 * lag + 1 + border)
        return size
