"""Configurations of the networks: checked dataclasses, and their conversion to and from JSON."""

from asnet.networks.config.analysis import AnalysisConfig, Boundary
from asnet.networks.config.iterated_analysis import IteratedAnalysisConfig
from asnet.networks.config.pair import ASNetConfig, preset
from asnet.networks.config.synthesis import LARGEST_DESCRIBED, SynthesisConfig

__all__ = [
    "LARGEST_DESCRIBED",
    "ASNetConfig",
    "AnalysisConfig",
    "Boundary",
    "IteratedAnalysisConfig",
    "SynthesisConfig",
    "preset",
]
