"""Configuration of the synthesis network: every difference between paper, released code and `compact`."""

from dataclasses import dataclass
from typing import Literal

from asnet.errors import ConfigurationError
from asnet.networks.config.analysis import Upsampling
from asnet.networks.config.fields import check_choice, check_odd, check_positive, check_widths

Downsampling = Literal["max_pool", "strided_convolution"]
Skip = Literal["identity", "convolution", "convolution_relu"]
Guidance = Literal["none", "additive", "multiplicative", "both"]
GuidedConvolutions = Literal["first", "every"]
Residual = Literal["none", "blurred", "wiener"]
Block = Literal["plain", "residual"]
GuideInput = Literal["grid", "description"]

#: Side of the largest kernel that a description covers: the coarsest of its grids reaches 6 pixels of 8 from
#: the centre, with tents of twice that width.
LARGEST_DESCRIBED = 2 * (6 + 1) * 8 - 1


@dataclass(frozen=True)
class SynthesisConfig:
    """The synthesis network (section 3.2): a U-Net whose convolutions are guided by the blur kernel.

    Parameters
    ----------
    kernel_size : int
        Side K of the grid of the blur kernel in the guiding units, odd.
    channels : tuple of int
        Width of every level, finest first; each level after the first halves the resolution.
    convolutions_per_block : int
        3x3 convolutions of a block; each level has one block in the encoder and one in the decoder.
    downsampling, downsampling_size
        Max-pooling by 2, or a convolution of stride 2 and this side without activation.
    upsampling, upsampling_size
        Un-pooling followed by a convolution of this side, or a transposed convolution of stride 2; ReLU after
        both.
    skip : {"identity", "convolution", "convolution_relu"}
        Layers of the skip connections; the convolutions are 3x3.
    guidance : {"none", "additive", "multiplicative", "both"}
        Which terms of Eq. 1 the kernel supplies (Table 3).
    guided_convolutions : {"first", "every"}
        Guide the first operation of each level (paper: the first 3x3 convolution of the encoder, the 1x1
        convolution that joins skip and upsampled features in the decoder), or every convolution of every
        block (released code).
    guide_hidden : int
        Width of the two hidden layers of a guiding unit.
    learned_multiplier_offset : bool
        Learn the "1 +" of Eq. 1 for each channel, from 1 (released code).
    guide_input : {"grid", "description"}
        Input of the guiding units: the kernel on its grid (paper), or a description of fixed length
        (`asnet.networks.guidance`), whose cost does not grow with the grid.
    guide_input_scale : float
        Factor on the kernel where it enters a guiding unit; its weights are small numbers that sum to 1.
    image_scale : float
        Factor from the range [0, 1] to the network's own (255 in the released code).
    wiener_strengths : tuple of float
        Regularisation strengths of Wiener deconvolutions that are additional inputs; empty for none.
    adapts_to_noise : bool
        Measure the noise of each photograph and scale strengths and thresholds with it; `wiener_strengths`,
        `sparse_strengths` and `sparse_thresholds` are then for a noise of 0.01. Guiding units with a
        description also read the noise.
    distrusts_estimates : bool
        Tell the guiding units whether the kernel is known or an estimate, which may be wrong. Needs the
        guide input "description".
    sparse_strengths, sparse_thresholds : tuple of float
        Strengths and thresholds of the successive steps of a sparse deconvolution, which starts from the
        first Wiener deconvolution and is also an input; empty for none.
    block : {"plain", "residual"}
        A ReLU after every convolution, or blocks that add their input to the result of their convolutions,
        with linear layers between the blocks.
    residual : {"none", "blurred", "wiener"}
        Whether the output is the image, or is added to the blurred image or to a Wiener deconvolution.
    residual_strength : int
        Index of that deconvolution in `wiener_strengths`; it also continues the images beyond their edges for
        `consistency`.
    consistency : bool
        Make the result consistent with the photograph: a last deconvolution takes from the photograph what
        the blur leaves strong, and from the U-Net's result the rest. Its damping is a linear function of the
        guide input. Needs `wiener_strengths`.
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
    consistency: bool = False
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
        if (self.sparse_strengths or self.adapts_to_noise or self.consistency) and not self.wiener_strengths:
            raise ConfigurationError(
                "sparse_strengths, adapts_to_noise and consistency need wiener_strengths"
            )
        if self.distrusts_estimates and self.guide_input != "description":
            raise ConfigurationError("distrusts_estimates needs guide_input 'description'")
        uses_copy = self.residual == "wiener" or self.consistency
        if uses_copy and not 0 <= self.residual_strength < len(self.wiener_strengths):
            raise ConfigurationError(
                f"residual_strength must index one of {len(self.wiener_strengths)} wiener_strengths, "
                f"got {self.residual_strength}"
            )

    @property
    def image_count(self) -> int:
        """Number of input images of the U-Net: the blurred one and its deconvolutions."""
        return 1 + len(self.wiener_strengths) + bool(self.sparse_strengths)

    @property
    def size_multiple(self) -> int:
        """The image's sides are padded to a multiple of this, so that every level halves them exactly."""
        return self.space_to_depth * int(2 ** (len(self.channels) - 1))
