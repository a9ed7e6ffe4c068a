"""Estimates on a folder of photographs: each is scored against its reference, and sheets show them."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from benchmark_data import blur, crooked_kernel, scene
from PIL import Image

from asnet.imaging import picture_from_tensor, write_kernel

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, writing its results to a folder of the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import measure
    import real_photographs

    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results")
    return real_photographs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five photographs with reference kernels, one of them grey and one with its suffix in capitals."""
    folder = tmp_path / "photographs"
    (folder / "estimates").mkdir(parents=True)
    for index, name in enumerate(["b.PNG", "a.blurred.jpg", "grey.png", "d.png", "e.png"]):
        sharp = scene(60 + index, 72, channels=1 if name == "grey.png" else 3, seed=index)
        picture_from_tensor(blur(sharp, crooked_kernel(index))).save(folder / name)
        write_kernel(folder / "estimates" / f"{Path(name).stem}_kernel.png", crooked_kernel(index))
    (folder / "sizes.csv").write_text("photograph,size\n")
    return folder


def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: str | Path) -> None:
    monkeypatch.setattr("sys.argv", ["real_photographs.py", *map(str, options)])
    script.main()


def test_every_photograph_is_scored_and_shown(
    script: ModuleType, folder: Path, small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets = tmp_path / "sheets"
    run(script, monkeypatch, "--photographs", folder, "--model", small_weights, "--output", sheets)
    content = json.loads((tmp_path / "results" / "real_photographs_small.json").read_text())
    rows = content["results"]
    assert [row["name"] for row in rows] == ["a.blurred", "b", "d", "e", "grey"]
    assert all(0 < row["similarity"] <= 1 and row["reference_size"] == 5 for row in rows)
    good = sum(row["similarity"] >= 0.9 for row in rows)
    assert (content["summary"]["photographs"], content["summary"]["good"]) == (5, good)
    assert sum(content["summary"]["statuses"].values()) == 5
    first, second = (Image.open(sheets / f"sheet{number}.png") for number in (1, 2))
    assert first.width == second.width
    assert first.height > 3 * second.height
    assert sorted(path.name for path in sheets.iterdir()) == ["sheet1.png", "sheet2.png"]


def test_chosen_photographs_leave_the_results_of_all_alone(
    script: ModuleType,
    folder: Path,
    small_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(script, monkeypatch, "--photographs", folder, "--model", small_weights, "--no-sheet", "b", "grey")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["b", "grey"]
    assert "photographs: 2" in lines
    assert not (tmp_path / "results").exists()


def test_a_true_kernel_is_similar_and_a_flipped_one_is_not(
    script: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exact:
        def estimate_kernel(self, image: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.pad(crooked_kernel(0), (4, 2, 3, 3))

        def deblur(self, image: torch.Tensor) -> object:
            from asnet.deblurring.deblurrer import Deblurred

            return Deblurred(image, torch.ones(1, 1), 1, "sharp")

    photograph, reference = script.pairs_in(folder, ["b"])["b"]
    scored = script.score(Exact(), "b", photograph, reference)
    # For a photograph left unchanged, the estimate is scored and not the one-pixel kernel.
    assert scored.row["similarity"] > 0.999
    write_kernel(reference, crooked_kernel(0).flip(0, 1))
    assert script.score(Exact(), "b", photograph, reference).row["similarity"] < 0.95


def test_what_is_missing_is_reported_in_a_sentence(
    script: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, words in [
        ([folder, "--no-sheet", "nothing"], "'nothing'"),
        ([tmp_path, "--no-sheet"], "holds no photograph with a reference kernel"),
        ([tmp_path / "absent", "--no-sheet"], "there is no folder"),
        ([folder, "--no-sheet", "--model", "absent"], "unknown model 'absent'"),
    ]:
        with pytest.raises(SystemExit, match=words):
            run(script, monkeypatch, "--photographs", *options)
    with pytest.raises(SystemExit) as exit_:
        run(script, monkeypatch, "--photographs", folder)
    assert exit_.value.code == 2
