"""Benchmarks of operators against torch: they run, agree, and write what they measure."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import measure
from measure import Case, Contender

#: Benchmarks, and their constants with sizes.
BENCHMARKS = {
    "gather_images": "SIZES",
    "periodic_spectra": "SIZES",
    "shrunk_divergence": "SIZES",
    "sparse_latent": "SCALES",
    "toeplitz_solve": "SIDES",
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_smallest_size_is_measured_and_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = importlib.import_module(name)
    smallest = getattr(benchmark, BENCHMARKS[name])[:1]
    monkeypatch.setattr(benchmark, BENCHMARKS[name], smallest)
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--repeats", "3"])
    benchmark.main()
    content = json.loads((tmp_path / f"{name}.json").read_text())
    assert content["benchmark"] == name
    assert content["geometric_mean"] > 0
    for result in content["results"]:
        assert result["contenders"].keys() == {"asnet", "torch"}
    assert f"{content['geometric_mean']:.2f} times as long" in capsys.readouterr().out


@pytest.mark.parametrize("only", ["", "second"])
def test_contenders_that_disagree_are_not_timed_and_a_selection_is_not_written(
    only: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    options = measure.arguments("").parse_args(["--repeats", "3", "--only", only])
    one, two = (Contender("asnet", lambda: [torch.ones(3)]), Contender("torch", lambda: [torch.ones(3) * 2]))
    cases = [Case("first", [one, two]), Case("second", [one, Contender("torch", one.run)])]
    if only:
        measure.measure_against_torch("some", cases, options, goal="")
    else:
        with pytest.raises(
            SystemExit, match=r"first: torch deviates by 1\.00e\+00 from asnet; nothing was timed"
        ):
            measure.measure_against_torch("some", cases, options, goal="")
    assert not list(tmp_path.iterdir())
