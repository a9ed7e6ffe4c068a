"""Networks: analysis (image to blur kernel), synthesis (image and kernel to sharp image), their
pair, and the size classifier that chooses between pairs."""

from asnet.networks.analysis import AnalysisNetwork
from asnet.networks.config import AnalysisConfig, ASNetConfig, IteratedAnalysisConfig, SynthesisConfig, preset
from asnet.networks.iterated_analysis import IteratedAnalysisNetwork
from asnet.networks.pair import DeblurNetwork, DeblurResult, build_analysis
from asnet.networks.scale_optimised import ScaleOptimisedConfig, ScaleOptimisedNetworks
from asnet.networks.size_classifier import SizeClassifier, SizeClassifierConfig
from asnet.networks.synthesis import SynthesisNetwork
from asnet.networks.weights import (
    WeightsHeader,
    load_networks,
    load_weights_into,
    read_header,
    save_weights,
)

__all__ = [
    "ASNetConfig",
    "AnalysisConfig",
    "AnalysisNetwork",
    "DeblurNetwork",
    "DeblurResult",
    "IteratedAnalysisConfig",
    "IteratedAnalysisNetwork",
    "ScaleOptimisedConfig",
    "ScaleOptimisedNetworks",
    "SizeClassifier",
    "SizeClassifierConfig",
    "SynthesisConfig",
    "SynthesisNetwork",
    "WeightsHeader",
    "build_analysis",
    "load_networks",
    "load_weights_into",
    "preset",
    "read_header",
    "save_weights",
]
