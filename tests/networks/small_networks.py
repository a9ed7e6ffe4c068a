"""Small networks of every kind for the tests of this folder."""

from dataclasses import replace

from asnet.networks import AnalysisConfig, ASNetConfig, IteratedAnalysisConfig, SynthesisConfig, preset

KERNEL_SIZE = 7


def small_analysis(name: str) -> AnalysisConfig:
    """The single-pass analysis of a preset with few channels."""
    config = preset(name).analysis
    assert isinstance(config, AnalysisConfig)
    return replace(
        config,
        kernel_size=KERNEL_SIZE,
        levels=2,
        feature_channels=4,
        feature_layers=2,
        feature_size=3,
        correlation_channels=3,
        reduced_channels=4,
        head_channels=(4,),
    )


def small_synthesis(name: str) -> SynthesisConfig:
    """The synthesis of a preset with few channels."""
    return replace(
        preset(name).synthesis,
        kernel_size=KERNEL_SIZE,
        channels=(4, 6, 8),
        convolutions_per_block=2,
        guide_hidden=5,
    )


def small_pair(name: str) -> ASNetConfig:
    """The pair of a preset with few channels."""
    if name == "compact":
        iterated = IteratedAnalysisConfig(kernel_size=KERNEL_SIZE, refiner_channels=4)
        return ASNetConfig(iterated, small_synthesis(name), name)
    return ASNetConfig(small_analysis(name), small_synthesis(name), name)
