"""Configurations of the networks: a field for every point in which paper, released code and `compact` differ.

`ASNetConfig.paper()` follows the text of Kaufman and Fattal (CVPR 2020), `ASNetConfig.official()` the
topology of the released weights, `ASNetConfig.compact()` is for machines without a GPU. All three are
instances of the same classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from asnet.errors import ConfigurationError
from asnet.networks.config.fields import (
    as_mapping,
    check_choice,
    check_known,
    check_odd,
    check_positive,
    check_widths,
    fields_from,
    plain_fields,
)
from asnet.networks.config.iterated_analysis import IteratedAnalysisConfig

Boundary = Literal["zero", "circular"]
LagSign = Literal["paper", "released"]
Pyramid = Literal["features", "image"]
Downsampling = Literal["max_pool", "strided_convolution"]
Upsampling = Literal["unpool_convolution", "transposed_convolution"]
Skip = Literal["identity", "convolution", "convolution_relu"]
Guidance = Literal["none", "additive", "multiplicative", "both"]
GuidedConvolutions = Literal["first", "every"]
Residual = Literal["none", "blurred", "wiener"]
Block = Literal["plain", "residual"]
GuideInput = Literal["grid", "description"]

#: Side of the largest kernel all of whose pixels enter a description: the coarsest of its grids reaches 6
#: pixels of 8 from the centre, and these are tents of twice that width.
LARGEST_DESCRIBED = 2 * (6 + 1) * 8 - 1


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
        What goes down a level: the features, max-pooled (paper), or the level's one-channel input through a
        learned 5x5 convolution of stride 2 (released code).
    feature_channels, feature_layers, feature_size : int
        Width, number and side of the convolutions that extract a level's features, all without padding.
    correlation_channels : int
        Feature maps C left by the 1x1 convolution before the correlation.
    normalise_features : bool
        Make every map zero-mean and divide it by its norm before the correlation (released code). Without it
        the correlation is divided by the number of pixels, so that it does not grow with the image.
    boundary : {"zero", "circular"}
        What lies outside the feature maps.
    lag_sign : {"paper", "released"}
        `"paper"` correlates as sum f_i(x - s) f_j(x), `"released"` as sum f_i(x + s) f_j(x).
    append_flipped_pairs : bool
        Give the next layer the pairs i > j too: C (C + 1) channels instead of half as many.
    reduced_channels : int
        Channels of the correlation maps after their reduction, and of everything up to the head.
    upsampling : {"unpool_convolution", "transposed_convolution"}
        How a coarse map reaches the finer grid, both with 5x5 kernels.
    fusion_size : int
        Side of the convolution that joins a finer map and the upsampled one.
    head_channels : tuple of int
        Widths of the 3x3 convolutions of the head before its last.
    final_size : int
        Side of the last convolution, which makes the kernel.
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
        """Image side at which every level just holds its range of lags; smaller images are padded to it."""
        border = self.feature_layers * (self.feature_size - 1)
        size = 0
        for lag in reversed(self.max_lags):
            if self.pyramid == "features":
                # Only the pooled remainder of the level above reaches this level.
                size = max(2 * size, 2 * lag + 1) + border
            else:
                size = max(2 * size, 2 * lag + 1 + border)
        return size


@dataclass(frozen=True)
class SynthesisConfig:
    """The synthesis network (section 3.2): a U-Net whose convolutions are guided by the blur kernel.

    Parameters
    ----------
    kernel_size : int
        Side K of the grid on which the guiding units see the blur kernel, odd.
    channels : tuple of int
        Width of every level, finest first; each level after the first halves the resolution.
    convolutions_per_block : int
        3x3 convolutions of a block; one block a level on the way down, and one a level on the way up.
    downsampling, downsampling_size
        Max-pooling by 2, or a convolution of stride 2 and this side without activation.
    upsampling, upsampling_size
        Un-pooling followed by a convolution of this side, or a transposed convolution of stride 2; ReLU after
        both.
    skip : {"identity", "convolution", "convolution_relu"}
        What the finer features pass on their way to the decoder; the convolutions are 3x3.
    guidance : {"none", "additive", "multiplicative", "both"}
        Which terms of Eq. 1 the kernel supplies (Table 3).
    guided_convolutions : {"first", "every"}
        Guide the first operation of each level (paper: the first 3x3 convolution on the way down, the 1x1
        convolution that joins skip and upsampled features on the way up), or every convolution of every block
        (released code).
    guide_hidden : int
        Width of the two hidden layers of a guiding unit.
    learned_multiplier_offset : bool
        Learn the "1 +" of Eq. 1 for each channel, from 1 (released code).
    guide_input : {"grid", "description"}
        What the guiding units read: the kernel on its grid (paper), or a description of fixed length
        (`asnet.networks.guidance`), whose cost does not grow with the grid.
    guide_input_scale : float
        Factor on the kernel where it enters a guiding unit; its weights are small numbers that sum to 1.
    image_scale : float
        Factor from the range [0, 1] to the network's own (255 in the released code).
    wiener_strengths : tuple of float
        Regularisation strengths of Wiener-deconvolved copies that join the blurred image as input; empty for
        none.
    adapts_to_noise : bool
        Measure the noise of each photograph and scale strengths and thresholds with it; `wiener_strengths`,
        `sparse_strengths` and `sparse_thresholds` are then those for a noise of 0.01. Guiding units that read
        a description read the noise too.
    distrusts_estimates : bool
        Tell the guiding units whether the kernel is known or an estimate, which may be wrong. Needs the
        guide input "description".
    sparse_strengths, sparse_thresholds : tuple of float
        Strengths and thresholds of the successive steps of a sparse deconvolution, which starts from the
        first of the Wiener copies and joins the input as well; empty for none.
    block : {"plain", "residual"}
        A ReLU after every convolution, or blocks that add their input to the result of their convolutions,
        with linear layers between the blocks.
    residual : {"none", "blurred", "wiener"}
        Whether the output is the image, or what is added to the blurred image or to a Wiener copy.
    residual_strength : int
        Index into `wiener_strengths` of that copy.
    space_to_depth : int
        Factor by which pixels move into channels before the first level and back after the last.

    Examples
    --------
    >>> SynthesisConfig(kernel_size=31, channels=(16, 32)).guidance
    'both'
    """

    kernel_size: int = 85
    channels: tuple[int, ...] = (128, 128, 128, 128, 128)
    convolutions_per_block: int = 3
    downsampling: Downsampling = "max_pool"
    downsampling_size: int = 3
    upsampling: Upsampling = "unpool_convolution"
    upsampling_size: int = 5
    skip: Skip = "convolution_relu"
    guidance: Guidance = "both"
    guided_convolutions: GuidedConvolutions = "first"
    guide_hidden: int = 128
    learned_multiplier_offset: bool = False
    guide_input: GuideInput = "grid"
    guide_input_scale: float = 1.0
    image_scale: float = 1.0
    wiener_strengths: tuple[float, ...] = ()
    adapts_to_noise: bool = False
    distrusts_estimates: bool = False
    sparse_strengths: tuple[float, ...] = ()
    sparse_thresholds: tuple[float, ...] = ()
    block: Block = "plain"
    residual: Residual = "none"
    residual_strength: int = 0
    space_to_depth: int = 1

    def __post_init__(self) -> None:
        check_odd("kernel_size", self.kernel_size, 3)
        check_widths("channels", self.channels)
        for name in ("convolutions_per_block", "downsampling_size", "guide_hidden", "space_to_depth"):
            check_positive(name, getattr(self, name))
        if self.upsampling == "unpool_convolution":
            check_odd("upsampling_size", self.upsampling_size)
        elif not isinstance(self.upsampling_size, int) or self.upsampling_size < 2:
            raise ConfigurationError(f"upsampling_size must be at least 2, got {self.upsampling_size!r}")
        check_choice("downsampling", self.downsampling, Downsampling)
        check_choice("upsampling", self.upsampling, Upsampling)
        check_choice("skip", self.skip, Skip)
        check_choice("guidance", self.guidance, Guidance)
        check_choice("guided_convolutions", self.guided_convolutions, GuidedConvolutions)
        check_choice("residual", self.residual, Residual)
        check_choice("block", self.block, Block)
        check_choice("guide_input", self.guide_input, GuideInput)
        if self.guide_input == "description" and self.kernel_size > LARGEST_DESCRIBED:
            raise ConfigurationError(
                f"guide_input 'description' takes kernels of at most {LARGEST_DESCRIBED} pixels, "
                f"got kernel_size {self.kernel_size}"
            )
        if self.block == "residual" and self.downsampling == "max_pool" and len(set(self.channels)) > 1:
            raise ConfigurationError(
                f"block 'residual' with downsampling 'max_pool' needs equal channels, got {self.channels}"
            )
        for name in ("guide_input_scale", "image_scale"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} must be positive, got {getattr(self, name)!r}")
        for name in ("wiener_strengths", "sparse_strengths", "sparse_thresholds"):
            values = getattr(self, name)
            if not all(isinstance(value, float | int) and value > 0 for value in values):
                raise ConfigurationError(f"every value of {name} must be positive, got {values}")
        if len(self.sparse_strengths) != len(self.sparse_thresholds):
            raise ConfigurationError(
                "sparse_strengths and sparse_thresholds must be equally many, "
                f"got {len(self.sparse_strengths)} and {len(self.sparse_thresholds)}"
            )
        if (self.sparse_strengths or self.adapts_to_noise) and not self.wiener_strengths:
            raise ConfigurationError("sparse_strengths and adapts_to_noise need wiener_strengths")
        if self.distrusts_estimates and self.guide_input != "description":
            raise ConfigurationError("distrusts_estimates needs guide_input 'description'")
        if self.residual == "wiener" and not 0 <= self.residual_strength < len(self.wiener_strengths):
            raise ConfigurationError(
                f"residual_strength must index one of {len(self.wiener_strengths)} wiener_strengths, "
                f"got {self.residual_strength}"
            )

    @property
    def image_count(self) -> int:
        """Number of images that the U-Net is given: the blurred one and its deconvolutions."""
        return 1 + len(self.wiener_strengths) + bool(self.sparse_strengths)

    @property
    def size_multiple(self) -> int:
        """What the image's sides are padded to a multiple of, so that every level halves them exactly."""
        return self.space_to_depth * int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class ASNetConfig:
    """The pair of networks under one name.

    Parameters
    ----------
    analysis : AnalysisConfig or IteratedAnalysisConfig
        Image to blur kernel.
    synthesis : SynthesisConfig
        Image and blur kernel to sharp image; takes kernels as large as the analysis finds, or larger.
    name : str
        What the configuration is called in weights files and messages.

    Examples
    --------
    >>> config = ASNetConfig.compact()
    >>> config.name, config.analysis.kernel_size
    ('compact', 101)
    >>> ASNetConfig.from_dict(config.to_dict()) == config
    True
    """

    analysis: AnalysisConfig | IteratedAnalysisConfig = field(default_factory=AnalysisConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    name: str = "custom"

    def __post_init__(self) -> None:
        if self.analysis.kernel_size > self.synthesis.kernel_size:
            raise ConfigurationError(
                "the synthesis must take every kernel that the analysis finds, got kernel_size "
                f"{self.analysis.kernel_size} and {self.synthesis.kernel_size}"
            )

    @classmethod
    def paper(cls) -> "ASNetConfig":
        """Return the pair as the text of the paper describes it.

        Where the text leaves a choice: "992 channels" is read as all ordered pairs of maps (with the
        autocorrelations, which the text explains, that is 1056); pooling is max-pooling and un-pooling
        repeats pixels, as in the U-Net it cites; the synthesis network has the depth of the released code.
        """
        return cls(AnalysisConfig(), SynthesisConfig(), "paper")

    @classmethod
    def official(cls) -> "ASNetConfig":
        """Return the pair in the topology of the released weights."""
        analysis = AnalysisConfig(
            levels=4,
            pyramid="image",
            normalise_features=True,
            boundary="circular",
            lag_sign="released",
            upsampling="transposed_convolution",
            fusion_size=3,
            final_size=5,
            size_multiple=16,
        )
        synthesis = SynthesisConfig(
            downsampling="strided_convolution",
            upsampling="transposed_convolution",
            skip="convolution",
            guided_convolutions="every",
            learned_multiplier_offset=True,
            image_scale=255.0,
        )
        return cls(analysis, synthesis, "official")

    @classmethod
    def compact(cls) -> "ASNetConfig":
        """Return the pair for machines without a GPU: iterated analysis, synthesis beside Wiener copies."""
        analysis = IteratedAnalysisConfig()
        synthesis = SynthesisConfig(
            kernel_size=101,
            channels=(48, 96, 128),
            convolutions_per_block=2,
            downsampling="strided_convolution",
            downsampling_size=2,
            upsampling="transposed_convolution",
            upsampling_size=2,
            skip="identity",
            guided_convolutions="every",
            guide_hidden=64,
            guide_input="description",
            guide_input_scale=10.0,
            wiener_strengths=(0.004, 0.016, 0.06, 0.24),
            adapts_to_noise=True,
            distrusts_estimates=True,
            sparse_strengths=(0.02, 0.12),
            sparse_thresholds=(0.06, 0.025),
            block="residual",
            residual="wiener",
            residual_strength=1,
            image_scale=4.0,
            space_to_depth=2,
        )
        return cls(analysis, synthesis, "compact")

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings, as JSON holds them."""
        kind = "single_pass" if isinstance(self.analysis, AnalysisConfig) else "iterated"
        return {
            "name": self.name,
            "analysis": {"kind": kind, **plain_fields(self.analysis)},
            "synthesis": plain_fields(self.synthesis),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ASNetConfig":
        """Make a configuration from what `to_dict` gave; fields left out take their defaults.

        Raises
        ------
        ConfigurationError
            If a field is unknown or its value unusable.
        """
        check_known(
            "the configuration", as_mapping("configuration", values), ("name", "analysis", "synthesis")
        )
        analysis = dict(as_mapping("analysis", values.get("analysis", {})))
        kinds = {"single_pass": AnalysisConfig, "iterated": IteratedAnalysisConfig}
        kind = analysis.pop("kind", "single_pass")
        if kind not in kinds:
            raise ConfigurationError(f"analysis.kind must be 'single_pass' or 'iterated', got {kind!r}")
        return cls(
            fields_from("analysis", kinds[kind], analysis),
            fields_from("synthesis", SynthesisConfig, as_mapping("synthesis", values.get("synthesis", {}))),
            str(values.get("name", "custom")),
        )


def preset(name: str) -> ASNetConfig:
    """Return the preset of that name: paper, official or compact.

    Raises
    ------
    ConfigurationError
        If there is no such preset.

    Examples
    --------
    >>> preset("paper").synthesis.kernel_size
    85
    """
    presets = {"paper": ASNetConfig.paper, "official": ASNetConfig.official, "compact": ASNetConfig.compact}
    if name not in presets:
        raise ConfigurationError(f"unknown configuration {name!r}, expected one of {', '.join(presets)}")
    return presets[name]()
