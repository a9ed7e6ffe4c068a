"""Configurations: presets, the way to JSON and back, and what contradicts itself."""

import json
from dataclasses import replace
from typing import Any

import pytest

from asnet.errors import ConfigurationError
from asnet.networks import AnalysisConfig, ASNetConfig, SynthesisConfig, preset


@pytest.mark.parametrize("name", ["paper", "official", "compact"])
def test_presets_survive_json(name: str) -> None:
    config = preset(name)
    assert config.name == name
    assert ASNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_lags_of_the_released_network() -> None:
    assert ASNetConfig.official().analysis.max_lags == (42, 21, 11, 6)


def test_fields_left_out_take_their_defaults() -> None:
    assert ASNetConfig.from_dict({"analysis": {"levels": 2}}).analysis == AnalysisConfig(levels=2)
    assert ASNetConfig.from_dict({"synthesis": {"image_scale": 255}}).synthesis == SynthesisConfig(
        image_scale=255.0
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"synthesis": {"chanels": [8]}}, "unknown field 'chanels' in synthesis"),
        ({"analysis": {"kind": "iterated", "levels": 3}}, "unknown field 'levels' in analysis"),
        ({"sythesis": {}}, "unknown field 'sythesis'"),
        ({"analysis": {"kind": "double"}}, "analysis.kind must be"),
        ({"analysis": {"levels": "3"}}, "analysis.levels must be a whole number, got '3'"),
        (
            {"synthesis": {"channels": ["a", 8]}},
            "synthesis.channels must be a list, each a whole number, got",
        ),
        ({"synthesis": {"channels": [0, 8]}}, "every value of channels must be a positive integer, got 0"),
        ({"synthesis": {"wiener_strengths": ["a"]}}, "wiener_strengths must be a list, each a number, got"),
        ({"synthesis": {"wiener_strengths": [0]}}, "every value of wiener_strengths must be positive, got"),
        ({"synthesis": {"guidance": "some"}}, "guidance must be one of none, additive, multiplicative, both"),
        ({"synthesis": {"channels": "8,8"}}, "synthesis.channels must be a list, each a whole number, got"),
        ({"synthesis": []}, "synthesis must be a table"),
    ],
)
def test_unusable_fields_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ASNetConfig.from_dict(values)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kernel_size", 30),
        ("channels", ()),
        ("channels", (8, 0)),
        ("guidance", "all"),
        ("downsampling", "stride"),
        ("upsampling_size", 4),
        ("image_scale", 0.0),
        ("wiener_strengths", (0.0,)),
        ("residual", "wiener"),
    ],
)
def test_unusable_values_are_named(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=field if field != "residual" else "residual_strength"):
        replace(SynthesisConfig(), **{field: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guide_input": "description", "kernel_size": 113}, "at most 111 pixels, got kernel_size 113"),
        ({"guide_input": "pixels"}, "guide_input must be one of 'grid', 'description'"),
        (
            {"wiener_strengths": (0.1,), "sparse_strengths": (0.1, 0.2), "sparse_thresholds": (0.1,)},
            "2 and 1",
        ),
        ({"wiener_strengths": (0.1,), "sparse_thresholds": (-0.1,)}, "sparse_thresholds must be positive"),
        ({"adapts_to_noise": True}, "need wiener_strengths"),
        ({"distrusts_estimates": True}, "needs guide_input 'description'"),
        ({"consistency": True}, "need wiener_strengths"),
    ],
)
def test_fields_of_the_deconvolution_fit_each_other(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        replace(SynthesisConfig(), **changes)


def test_a_transposed_convolution_needs_two_taps() -> None:
    with pytest.raises(ConfigurationError, match="upsampling_size must be at least 2, got 1"):
        SynthesisConfig(upsampling="transposed_convolution", upsampling_size=1)


def test_the_synthesis_takes_every_kernel_that_the_analysis_finds() -> None:
    with pytest.raises(ConfigurationError, match="85 and 31"):
        ASNetConfig(AnalysisConfig(), SynthesisConfig(kernel_size=31))
    ASNetConfig(AnalysisConfig(kernel_size=31), SynthesisConfig())


def test_unknown_preset_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'small'"):
        preset("small")
