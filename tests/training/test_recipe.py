import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import asnet
from asnet.errors import ConfigurationError
from asnet.networks import ASNetConfig, ScaleOptimisedConfig, SizeClassifierConfig
from asnet.training.recipe import STAGES, Stage, TrainingConfig, stage_table
from asnet.training.recipe_tables import read_toml

RECIPES = sorted((Path(asnet.__file__).parent / "recipes").glob("*.toml"))
CLASSIFIER_RECIPES = [recipe for recipe in RECIPES if recipe.stem == "size-classifier"]


def test_the_defaults_are_the_schedule_of_the_paper() -> None:
    config = TrainingConfig.from_table("analysis", {"data": "photographs"})
    assert config.network == ASNetConfig.paper()
    assert (config.learning_rate, config.schedule, config.patience, config.factor) == (
        1e-4,
        "plateau",
        5,
        0.8,
    )
    assert (config.batch_size, config.crop) == (4, 512)
    assert (config.kernel_loss, config.image_loss, config.kernel_loss_weight) == ("l1", "l2", 0.0)
    assert config.degradation.noise == (0.02, 0.02)
    assert config.kernels.canvas == 85
    assert config.total_steps == pytest.approx(1e6, rel=0.01)
    joint = TrainingConfig.from_table("joint", {"data": "photographs"})
    assert joint.total_steps == pytest.approx(1e5, rel=0.06)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_project_are_valid(recipe: Path) -> None:
    stages: tuple[Stage, ...] = ("classifier",) if recipe in CLASSIFIER_RECIPES else STAGES
    for stage in stages:
        table = stage_table(read_toml(recipe) | {"data": "photographs"}, stage)
        config = TrainingConfig.from_table(stage, table)
        assert config.network.name == table.get("network", {}).get("name", table["model"])


def test_the_recipes_of_the_classes_fit_together() -> None:
    """Their networks can be joined, and together they cover every kernel size once."""
    table = stage_table(read_toml(CLASSIFIER_RECIPES[0]) | {"data": "photographs"}, "classifier")
    classifier = TrainingConfig.from_table("classifier", table)
    assert isinstance(classifier.network, SizeClassifierConfig)
    pairs = []
    for recipe in (recipe for recipe in RECIPES if recipe.stem.startswith("scale-")):
        pairs.append(TrainingConfig.from_table("joint", read_toml(recipe) | {"data": "photographs"}))
    networks = tuple(pair.network for pair in pairs if isinstance(pair.network, ASNetConfig))
    ScaleOptimisedConfig(classifier.network, networks)
    assert tuple(pair.kernels.odd_sizes for pair in pairs) == classifier.kernels.odd_sizes_of_classes
    assert [pair.total_steps for pair in pairs] == [
        TrainingConfig.from_table("joint", {"data": "a"}).total_steps
    ] * 3


def test_the_recipe_of_the_paper_is_the_defaults() -> None:
    recipe = next(path for path in RECIPES if path.stem == "paper")
    for stage in STAGES:
        written = TrainingConfig.from_table(
            stage, stage_table(read_toml(recipe) | {"data": "photographs"}, stage)
        )
        assert written == TrainingConfig.from_table(stage, {"data": "photographs"})


def test_a_configuration_survives_json(table: dict[str, Any]) -> None:
    table["degradation"] = {"noise": [0, 0.01], "poisson": [100, 1000]}
    config = TrainingConfig.from_table("joint", table)
    assert TrainingConfig.from_table("joint", json.loads(json.dumps(config.to_table()))) == config


def test_a_stage_has_its_own_values(table: dict[str, Any]) -> None:
    recipe = table | {"joint": {"learning_rate": 1e-5, "kernels": {"maximum_size": 5}}}
    assert TrainingConfig.from_table("analysis", stage_table(recipe, "analysis")).learning_rate == 1e-3
    joint = TrainingConfig.from_table("joint", stage_table(recipe, "joint"))
    assert (joint.learning_rate, joint.kernels.maximum_size) == (1e-5, 5)


def test_an_analysis_of_the_other_kind_can_be_asked_for() -> None:
    table = {
        "data": "photographs",
        "model": "compact",
        "network": {"analysis": {"kind": "single_pass", "levels": 2}},
    }
    config = TrainingConfig.from_table("analysis", table)
    assert config.network.analysis.kernel_size == ASNetConfig.compact().analysis.kernel_size
    assert config.network.to_dict()["analysis"]["kind"] == "single_pass"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"speed": 1}, "training option 'speed' is unknown"),
        ({"crop": 0}, "crop must be at least 1, got 0"),
        ({"crop": "big"}, "crop must be a whole number, got 'big'"),
        ({"learning_rate": 0}, "learning_rate must be positive, got 0.0"),
        ({"factor": 1.5}, "factor must be above 0 and at most 1, got 1.5"),
        ({"ema_decay": 1.0}, "ema_decay must be at least 0 and below 1, got 1.0"),
        ({"gradient_clip": -1}, "gradient_clip must not be negative, got -1.0"),
        ({"image_loss": "l3"}, "image_loss must be one of l2, l1, charbonnier, log_l2, got 'l3'"),
        ({"data": ""}, "data must name a folder of sharp photographs"),
        ({"model": "large"}, "large"),
        ({"kernels": {"canvas": 9}}, "kernels.canvas must be the grid of 7 pixels of what is trained, got 9"),
        ({"kernels": {"size": 9}}, "kernels.size is unknown; kernels has canvas, minimum_size, maximum_size"),
        ({"kernels": 9}, "kernels must be a table, got 9"),
        ({"network": {"synthesis": {"colours": 3}}}, "colours"),
    ],
)
def test_what_is_wrong_is_said(table: dict[str, Any], change: dict[str, Any], sentence: str) -> None:
    for name, value in change.items():
        table[name] = table.get(name, {}) | value if isinstance(value, dict) else value
    with pytest.raises(ConfigurationError) as caught:
        TrainingConfig.from_table("analysis", table)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stage_that_is_no_table_is_named() -> None:
    with pytest.raises(ConfigurationError, match="joint must be a table, got 3"):
        stage_table({"joint": 3}, "analysis")


def test_a_classifier_is_the_finest_scale_of_the_analysis_network() -> None:
    config = TrainingConfig.from_table("classifier", {"data": "photographs", "model": "official"})
    assert isinstance(config.network, SizeClassifierConfig)
    assert config.network.analysis == replace(ASNetConfig.official().analysis, levels=1)
    assert (config.kernels.canvas, config.kernels.class_sizes) == (85, (31, 61, 85))
    assert TrainingConfig.from_table("classifier", json.loads(json.dumps(config.to_table()))) == config


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"network": {"synthesis": {}}}, "unknown field 'synthesis' in the size classifier"),
        ({"network": {"analysis": {"levels": 3}}}, "analysis.levels must be 1, got 3"),
        ({"network": {"class_sizes": [31]}}, "class_sizes must hold at least two sizes, got (31,)"),
        ({"network": {"class_sizes": [31, 21]}}, "class_sizes must ascend, got (31, 21)"),
        ({"network": {"class_sizes": [31, 60]}}, "every value of class_sizes must be odd"),
        ({"kernels": {"maximum_size": 31}}, "must reach all its classes, (31, 61, 85), got sizes of 3 to 31"),
        ({"kernels": {"class_sizes": [31, 61]}}, "must reach all its classes"),
        ({"init_synthesis": "a.safetensors"}, "init_analysis and init_synthesis are for pairs"),
        ({"model": "large"}, "large"),
    ],
)
def test_what_is_wrong_with_a_classifier_is_said(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TrainingConfig.from_table("classifier", {"data": "photographs", **change})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
