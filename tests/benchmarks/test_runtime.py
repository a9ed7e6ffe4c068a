"""The runtime benchmark: what it prints and what it stores."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asnet.networks import ASNetConfig, IteratedAnalysisConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import measure
import runtime


def test_every_row_and_the_sum_of_each_network_are_printed_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(runtime, "USUAL_CONFIGURATIONS", ("compact",))
    synthesis = replace(ASNetConfig.compact().synthesis, kernel_size=7, channels=(4, 6, 8))
    small = ASNetConfig(IteratedAnalysisConfig(kernel_size=7, refiner_channels=4), synthesis, "compact")
    monkeypatch.setattr(runtime, "preset", {"compact": small}.__getitem__)
    monkeypatch.setattr(runtime, "CHECKED_SIZE", (48, 64))
    monkeypatch.setattr(runtime, "TOLERANCES", {torch.float32: 1e-3})
    monkeypatch.setattr(sys, "argv", ["runtime.py", "--device", "cpu", "--width", "112", "--height", "80"])
    runtime.main()
    lines = capsys.readouterr().out.splitlines()
    (total,) = [line for line in lines if line.startswith("compact") and line.endswith(" s")]
    name = total.split(":")[0]
    assert sum(line.startswith(f"{name}: ") and "in one run" in line for line in lines) == 1
    rows = [line for line in lines if line.startswith(f"{name} ")]
    assert [line.split("asnet")[0].strip() for line in rows] == [
        f"{name} analysis",
        f"{name} synthesis",
    ]
    kept = json.loads((tmp_path / "runtime_cpu.json").read_text())
    assert kept["size"] == "112x80"
    assert [row["name"] for row in kept["results"]] == [f"{name} analysis", f"{name} synthesis"]
    assert "over_paper" not in kept["end_to_end"][0], "the paper reports another size"


@pytest.mark.parametrize(("seconds", "words"), [(0.3, ": met"), (0.9, "not met, 2.0 times as long")])
def test_the_sum_says_whether_the_paper_is_met(seconds: float, words: str) -> None:
    stage = {"configuration": "official", "dtype": "float32"}
    stages = [
        stage | {"contenders": {"asnet": {"median_ms": 1e3 * share * seconds}}} for share in (0.25, 0.75)
    ]
    said = runtime.sentence(runtime.end_to_end(stages, "1024x768"))
    assert said.startswith(f"official float32: {seconds:.3f} s; the paper's 0.45 s (GTX 1080 Ti)")
    assert said.endswith(words)
