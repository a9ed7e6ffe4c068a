"""The ablation: rows are trained, resumed, share runs, and are printed beside the paper's."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from random_pictures import write_pictures

from asnet.networks import DeblurNetwork, ScaleOptimisedNetworks, SizeClassifier, load_networks

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"

RECIPE = """
model = "paper"
epochs = 1
steps_per_epoch = 2
batch_size = 2
crop = 24
learning_rate = 1e-3

[network.analysis]
kernel_size = 7
levels = 2
feature_channels = 4
feature_layers = 1
feature_size = 3
correlation_channels = 3
reduced_channels = 4
head_channels = [4]

[network.synthesis]
kernel_size = 7
channels = [4, 6]
convolutions_per_block = 1
guide_hidden = 8

[synthesis]
epochs = 2
learning_rate = 2e-3
"""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of three random pictures, 40x36 pixels."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    write_pictures(folder, coarse=(6, 5), size=(40, 36))
    return folder


@pytest.fixture
def ablation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with a tiny recipe, writing its results to a folder of the test."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import ablation
    import measure

    (tmp_path / "tiny.toml").write_text(RECIPE)
    monkeypatch.setattr(ablation, "RECIPES", {"reduced": str(tmp_path / "tiny.toml")})
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results")
    return ablation


def run(ablation: ModuleType, photographs: Path, output: Path, *options: str) -> int:
    folders = ["--data", str(photographs), "--validation", str(photographs), "--output", str(output)]
    code: int = ablation.main([*folders, *options])
    return code


def results(tmp_path: Path) -> dict[str, Any]:
    content = json.loads((tmp_path / "results" / "ablation_reduced.json").read_text())
    return {row["name"]: row for row in content["results"]}


def test_every_row_is_trained_and_scored(ablation: ModuleType, photographs: Path, tmp_path: Path) -> None:
    output = tmp_path / "runs"
    assert run(ablation, photographs, output, "--rows", "both") == 0
    assert list(results(tmp_path)) == ["both"]
    both = output / "synthesis_both" / "last.safetensors"
    first = both.stat().st_mtime_ns

    assert run(ablation, photographs, output) == 0
    rows = results(tmp_path)
    assert list(rows) == [row.name for row in ablation.ROWS]
    assert both.stat().st_mtime_ns == first  # other rows share it
    # The same photographs, blur and noise for all rows.
    assert len({row["psnr_blurred"] for row in rows.values()}) == 1
    assert len({row["psnr"] for row in rows.values()}) == len(rows)
    assert all(len(row["photographs"]) == 3 for row in rows.values())
    assert rows["random"]["runs"]["joint_random"]["steps"] == 4 + 2
    assert set(rows["after"]["runs"]) == {"analysis", "synthesis_both", "joint"}
    assert {"classifier", "joint_class_1", "joint_class_3"} < set(rows["scale"]["runs"])
    guided = load_networks(both, DeblurNetwork).config.synthesis
    assert guided.guidance == "both"
    assert (
        load_networks(output / "synthesis_none" / "last.safetensors", DeblurNetwork).config.synthesis.guidance
        == "none"
    )

    text = (tmp_path / "results" / "ablation_reduced.md").read_text()
    for row in ablation.ROWS:
        line = next(line for line in text.splitlines() if line.startswith(f"| {row.label} |"))
        assert f"| {row.paper:.2f} | {rows[row.name]['psnr']:.2f} |" in line
    assert "-3.93" in text  # no guidance against both, as stated in the paper's text


def test_joint_training_starts_from_the_pretrained_networks(
    ablation: ModuleType, photographs: Path, tmp_path: Path
) -> None:
    recipe = ablation.read_recipe(ablation.RECIPES["reduced"])
    recipe |= {"data": str(photographs), "validation": str(photographs)}
    runs = ablation.Ablation(recipe, tmp_path, "cpu")
    config = runs.configuration("joint")
    assert config.init_analysis == str(tmp_path / "analysis" / "last.safetensors")
    assert config.init_synthesis == str(tmp_path / "synthesis_both" / "last.safetensors")
    assert config.kernel_loss_weight == 0
    pairs = [runs.configuration(f"joint_class_{index}") for index in (1, 2, 3)]
    assert [pair.kernels.odd_sizes for pair in pairs] == [(3, 3), (5, 5), (7, 7)]
    assert {pair.init_analysis for pair in pairs} == {config.init_analysis}
    assert runs.configuration("classifier").network.class_sizes == (3, 5, 7)
    random = runs.configuration("joint_random")
    assert (random.init, random.init_analysis, random.init_synthesis) == ("", "", "")
    assert random.learning_rate == 2e-3


def test_a_stopped_run_goes_on_to_the_same_weights(
    ablation: ModuleType, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert run(ablation, photographs, whole, "--rows", "none") == 0
    assert run(ablation, photographs, halves, "--rows", "none", "--hours", "1e-9") == 0
    assert "synthesis_none is not finished" in capsys.readouterr().err
    assert run(ablation, photographs, halves, "--rows", "none") == 0
    name = "synthesis_none/last.safetensors"
    ours, theirs = (
        load_networks(halves / name, DeblurNetwork).state_dict(),
        load_networks(whole / name, DeblurNetwork).state_dict(),
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_runs_of_another_recipe_are_refused(
    ablation: ModuleType, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(ablation, photographs, tmp_path / "runs", "--rows", "none") == 0
    (tmp_path / "tiny.toml").write_text(RECIPE.replace("learning_rate = 2e-3", "learning_rate = 3e-3"))
    assert run(ablation, photographs, tmp_path / "runs", "--rows", "none") == 1
    assert "synthesis_none holds a run of another recipe" in capsys.readouterr().err


def test_a_class_s_pair_gets_the_photographs_of_that_class(
    ablation: ModuleType, photographs: Path, tmp_path: Path
) -> None:
    recipe = ablation.read_recipe(ablation.RECIPES["reduced"])
    recipe |= {"data": str(photographs), "validation": str(photographs)}
    runs = ablation.Ablation(recipe, tmp_path, "cpu")
    classifier = SizeClassifier(runs.configuration("classifier").network)
    pairs = [DeblurNetwork(runs.configuration(f"joint_class_{index}").network) for index in (1, 2, 3)]
    networks = ScaleOptimisedNetworks.join(classifier, pairs)
    classes = [2, 0, 2]
    together = runs._validated_by_class(networks, classes)
    for index, (chosen, example) in enumerate(zip(classes, runs.examples, strict=True)):
        alone = runs._validated("joint", pairs[chosen], [example])
        assert together.names[index] == example.name
        assert together.measures["psnr"][index] == alone.measures["psnr"][0]


def test_no_time_and_no_row_are_said(
    ablation: ModuleType, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        run(ablation, photographs, tmp_path / "runs", "--hours", "-1")
    assert raised.value.code == 2
    assert "--hours must be above 0, got -1" in capsys.readouterr().err
    assert run(ablation, photographs, tmp_path / "runs", "--rows") == 0
    assert f"no row is finished in {tmp_path / 'runs'}" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_the_full_size_is_the_paper_s(ablation: ModuleType, photographs: Path) -> None:
    recipe = ablation.read_recipe("paper")
    runs = ablation.planned_runs(recipe | {"data": str(photographs)})
    classes = [runs[f"joint_class_{index}"].table["kernels"] for index in (1, 2, 3)]
    assert [(sizes["minimum_size"], sizes["maximum_size"]) for sizes in classes] == [
        (3, 31),
        (33, 61),
        (63, 85),
    ]
    assert runs["classifier"].table["network"]["class_sizes"] == [31, 61, 85]
    assert runs["classifier"].table["epochs"] == 10
    assert runs["joint_random"].table["epochs"] == 95 + 10
    assert runs["joint"].table["epochs"] == 10


def test_the_table_says_what_has_not_been_run(ablation: ModuleType) -> None:
    records = [
        {
            "name": name,
            "psnr": 20.0 + gain,
            "psnr_blurred": 19.0,
            "photographs": {"a": {"psnr": 20.0}, "b": {"psnr": 20.0 + 2 * gain}},
        }
        for name, gain in (("both", 0.0), ("none", -1.5))
    ]
    ablation.compare(records)
    lines = ablation.table(records, "# Heading").splitlines()
    assert lines[0] == "# Heading"
    assert "| no guidance | 24.80 | 18.50 | -0.50 | -3.93 | -1.50 ± 1.50 |" in lines
    assert "| additive | 28.58 | not run | | -0.15 | |" in lines
    assert "| additive and multiplicative | 28.73 | 20.00 | +1.00 |  |  |" in lines
