"""Restoration: each case is blurred as its name says, whichever other cases are chosen."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from benchmark_data import scene

from asnet.data import Example, Photographs, support_size
from asnet.errors import InputError
from asnet.imaging import picture_from_tensor

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def restoration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with three classes of tiny kernels and small pages, writing to a folder of the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import measure
    import restoration
    import restoration_cases

    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results")
    tiny = {"small": (3, 7), "medium": (9, 11), "large": (13, 15)}
    monkeypatch.setattr(restoration_cases, "CLASSES", tiny)
    monkeypatch.setattr(restoration, "CLASSES", tiny)
    monkeypatch.setattr(restoration_cases, "_PAGE", (240, 320))
    return restoration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sharp"
    folder.mkdir()
    for index in range(4):
        picture_from_tensor(scene(72, 80, seed=index)).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def photographs(folder: Path) -> Photographs:
    return Photographs(folder)


def examples(
    restoration: ModuleType, photographs: Photographs, kernel_class: str, condition: str, *names: str
) -> list[Example]:
    found: Iterator[Example] = restoration.RestorationCase(kernel_class, condition).examples(
        photographs, list(names), 1
    )
    return list(found)


def test_kernels_have_the_sizes_of_their_class(restoration: ModuleType, photographs: Photographs) -> None:
    for name, (smallest, largest) in restoration.CLASSES.items():
        for example in examples(restoration, photographs, name, "plain"):
            assert smallest <= int(support_size(example.kernel)) <= largest
            assert example.blurred.shape == example.sharp.shape


def test_an_example_is_the_same_alone_as_among_all(restoration: ModuleType, photographs: Photographs) -> None:
    for condition in restoration.CONDITIONS:
        chosen = "page5" if condition == "text" else "3"
        alone = examples(restoration, photographs, "small", condition, chosen)
        among = examples(restoration, photographs, "small", condition)
        assert len(among) == {"plain": 4, "text": 6}.get(condition, 2)
        (twin,) = [example for example in among if Path(example.name).stem == chosen]
        assert torch.equal(alone[0].blurred, twin.blurred)
        assert torch.equal(alone[0].kernel, twin.kernel)


def test_conditions_are_what_they_are_called(restoration: ModuleType, photographs: Photographs) -> None:
    found = {name: examples(restoration, photographs, "small", name, "0")[:1] for name in ("plain", "lights")}
    assert all((example.blurred <= 1.2).all() for (example,) in found.values())
    (lights,) = found["lights"]
    assert lights.sharp.max() == 1
    assert lights.sharp.median() < 0.5
    (jpeg,) = examples(restoration, photographs, "small", "jpeg", "0")
    torch.testing.assert_close(jpeg.blurred * 255, (jpeg.blurred * 255).round(), rtol=0, atol=1e-3)
    pages = examples(restoration, photographs, "small", "text")
    for page in pages:
        # Dark strokes on paper.
        assert page.sharp.median() > 0.7
        assert page.sharp.amin() < 0.35
        assert 0.02 < float((page.sharp.mean(1) < 0.5).float().mean()) < 0.3
    assert len({float(page.sharp.sum()) for page in pages}) == 6


def test_small_plain_are_the_examples_of_validation(
    restoration: ModuleType, photographs: Photographs, folder: Path
) -> None:
    """The published table uses the kernels and noise that training's validation draws from a seed."""
    from asnet.networks import ASNetConfig, IteratedAnalysisConfig
    from asnet.training import TrainingConfig, make_examples

    synthesis = replace(ASNetConfig.compact().synthesis, kernel_size=7)
    network = ASNetConfig(IteratedAnalysisConfig(kernel_size=7), synthesis, "small")
    table = {
        "data": str(folder),
        "validation": str(folder),
        "network": network.to_dict(),
        "validation_noise": 0.01,
        "validation_seed": 1,
    }
    expected = make_examples(TrainingConfig.from_table("joint", table))
    for ours, theirs in zip(examples(restoration, photographs, "small", "plain"), expected, strict=True):
        assert ours.name == theirs.name
        assert torch.equal(ours.blurred, theirs.blurred)
        assert torch.equal(ours.sharp, theirs.sharp)
        assert torch.equal(ours.kernel, theirs.kernel)


def run(restoration: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: str | Path) -> None:
    monkeypatch.setattr("sys.argv", ["restoration.py", *map(str, options)])
    restoration.main()


def test_every_case_is_measured_and_written(
    restoration: ModuleType,
    folder: Path,
    small_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("restoration_cases._PAGE", (96, 128))
    options = ["--photographs", folder, "--model", small_weights, "--classes", "small", "--conditions"]
    run(restoration, monkeypatch, *options, "plain", "text")
    content = json.loads((tmp_path / "results" / "restoration_small.json").read_text())
    assert [row["photograph"] for row in content["results"]] == [f"{index}.png" for index in range(4)]
    row, summary = content["results"][0], content["summary"]
    assert row["deblurred_aligned"] >= row["deblurred"]
    assert summary["blind_gain"] == pytest.approx(
        sum(row["blind"] - row["blurred"] for row in content["results"]) / 4
    )
    assert sum(summary["statuses"].values()) == 4
    text = json.loads((tmp_path / "results" / "restoration_small_small_text.json").read_text())
    assert len(text["results"]) == 6
    assert 0 < text["summary"]["ring_blurred"] < 1

    capsys.readouterr()
    (tmp_path / "results" / "restoration_small.json").unlink()
    run(restoration, monkeypatch, *options, "plain", "--", "2")
    assert "2.png" in capsys.readouterr().out
    assert not (tmp_path / "results" / "restoration_small.json").exists()


def test_what_is_found_sharp_counts_as_left_alone(
    restoration: ModuleType,
    photographs: Photographs,
    small_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from asnet.deblurring.deblurrer import Deblurred, Deblurrer
    from asnet.networks import DeblurNetwork, load_networks

    network = load_networks(small_weights, DeblurNetwork)
    (example,) = examples(restoration, photographs, "small", "plain", "1")
    own = Deblurrer.deblur

    def sharp(self: Deblurrer, image: torch.Tensor, *kernel: torch.Tensor, **options: Any) -> object:
        if kernel or options:
            return own(self, image, *kernel, **options)
        return Deblurred(image.clamp(0, 1), torch.ones(1, 1), 1, "sharp")

    monkeypatch.setattr(Deblurrer, "deblur", sharp)
    row = restoration.restore(Deblurrer(network), network, example)
    assert row["status"] == "sharp"
    assert row["deblurred"] == pytest.approx(row["blurred"])
    assert row["blind"] != pytest.approx(row["blurred"])
    assert row["ring_deblurred"] == pytest.approx(row["ring_blurred"], nan_ok=True)


def test_unknown_classes_and_conditions_are_named(restoration: ModuleType) -> None:
    with pytest.raises(InputError, match="unknown class 'huge', expected small, medium, large"):
        restoration.chosen_cases(["huge"], [])
    with pytest.raises(InputError, match="unknown condition 'rain'"):
        restoration.chosen_cases([], ["rain"])
    assert len(restoration.chosen_cases([], [])) == 18
    # Each case draws its own kernels; the oldest case uses the seed itself.
    seeds = {case.name: case.seed(1) for case in restoration.chosen_cases([], [])}
    assert seeds["small plain"] == 1
    assert len(set(seeds.values())) == 18
