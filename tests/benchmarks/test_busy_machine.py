"""The benchmark of a busy machine measures both states, and refuses results that differ."""

import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def busy_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import busy_machine
    import measure

    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results")
    # The test's own process keeps its cores.
    monkeypatch.delattr("os.sched_setaffinity", raising=False)
    return busy_machine


def test_command_and_library_are_measured_in_both_states(
    busy_machine: ModuleType, small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--model", str(small_weights), "--turns", "1", "--width", "80", "--height", "64"]
    monkeypatch.setattr("sys.argv", ["busy_machine.py", *options])
    busy_machine.main()
    content = json.loads((tmp_path / "results" / "busy_machine.json").read_text())
    assert content["size"] == "80x64"
    assert [row["name"] for row in content["results"]] == ["command", "library"]
    for row in content["results"]:
        expected = row["deblurring_disturbed_s"] / row["deblurring_undisturbed_s"]
        assert row["deblurring_ratio"] == pytest.approx(expected, rel=0.2)


def test_results_that_differ_stop_it(busy_machine: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    class Fickle:
        name = "library"
        calls = 0

        def deblur(self) -> tuple[str, float, float]:
            self.calls += 1
            return f"hash{self.calls}", 1.0, 2.0

    with pytest.raises(SystemExit, match="the results differ: hash1, hash2"):
        busy_machine.measure([Fickle()], 1)
