"""Configuration of a pair of networks, and the presets paper, official and compact.

`ASNetConfig.paper()` follows the text of Kaufman and Fattal (CVPR 2020), `ASNetConfig.official()` the
topology of the released weights, `ASNetConfig.compact()` is for machines without a GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asnet.errors import ConfigurationError
from asnet.networks.config.analysis import AnalysisConfig
from asnet.networks.config.fields import as_mapping, check_known, fields_from, plain_fields
from asnet.networks.config.iterated_analysis import IteratedAnalysisConfig
from asnet.networks.config.synthesis import SynthesisConfig


@dataclass(frozen=True)
class ASNetConfig:
    """The pair of networks under one name.

    Parameters
    ----------
    analysis : AnalysisConfig or IteratedAnalysisConfig
        Image to blur kernel.
    synthesis : SynthesisConfig
        Image and blur kernel to sharp image; its kernels are at least as large as those of the analysis.
    name : str
        Name of the configuration in weights files and messages.

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
        """Return the pair as described in the text of the paper.

        Where the text leaves a choice: "992 channels" means all ordered pairs of maps (with the
        autocorrelations, which the text discusses, that is 1056); pooling is max-pooling and un-pooling
        repeats pixels, as in the U-Net it cites; the synthesis network has the depth of the released code.
        """
        return cls(AnalysisConfig(), SynthesisConfig(), "paper")

    @classmethod
    def official(cls) -> "ASNetConfig":
        """Return the pair with the topology of the released weights."""
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
        """Return the pair for machines without a GPU: iterated analysis, synthesis with Wiener inputs."""
        analysis = IteratedAnalysisConfig()
        synthesis = SynthesisConfig(
            kernel_size=101,
            channels=(48, 96, 128, 192),
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
            consistency=True,
            image_scale=4.0,
            space_to_depth=2,
        )
        return cls(analysis, synthesis, "compact")

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings, for JSON."""
        kind = "single_pass" if isinstance(self.analysis, AnalysisConfig) else "iterated"
        return {
            "name": self.name,
            "analysis": {"kind": kind, **plain_fields(self.analysis)},
            "synthesis": plain_fields(self.synthesis),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ASNetConfig":
        """Build a configuration from the result of `to_dict`; missing fields have their defaults.

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
