"""The benchmark of a busy machine measures both states, and refuses results that differ."""

import argparse
import io
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


class Fake:
    """A contender that takes one second longer at every call and whose result may change."""

    fickle = False
    environments: dict[str, dict[str, str]]

    def __init__(self, name: str, options: argparse.Namespace, environment: dict[str, str]) -> None:
        self.name = name
        self.calls = 0
        self.environments[name] = environment

    def deblur(self) -> tuple[str, float, float]:
        self.calls += 1
        return f"hash{self.calls if self.fickle else ''}", float(self.calls), 2.0 * self.calls

    def close(self) -> None:
        self.calls = -1


@pytest.fixture
def fakes(busy_machine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    monkeypatch.setattr(busy_machine, "Contender", Fake)
    monkeypatch.setattr(Fake, "environments", {}, raising=False)
    monkeypatch.setattr("sys.argv", ["busy_machine.py", "--turns", "1", "--width", "80", "--height", "64"])
    return Fake


def test_command_and_library_are_measured_in_both_states(
    busy_machine: ModuleType, fakes: type[Fake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    busy_machine.main()
    content = json.loads((tmp_path / "results" / "busy_machine.json").read_text())
    assert content["size"] == "80x64"
    assert [row["name"] for row in content["results"]] == ["command", "library"]
    # The first call warms up; the second is undisturbed, the third disturbed.
    for row in content["results"]:
        assert (row["deblurring_undisturbed_s"], row["deblurring_disturbed_s"]) == (4.0, 6.0)
        assert row["deblurring_ratio"] == 1.5
    assert fakes.environments["command"]["OMP_WAIT_POLICY"] == "PASSIVE"
    # With a wait policy of the user's, both would wait in the same way.
    assert not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(fakes.environments["library"])


def test_results_that_differ_stop_it(
    busy_machine: ModuleType, fakes: type[Fake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakes, "fickle", True)
    with pytest.raises(SystemExit, match="the results differ: hash1, hash2, hash3"):
        busy_machine.main()
    assert not (tmp_path / "results").exists()


def test_a_process_deblurs_once_for_each_line(
    busy_machine: ModuleType,
    small_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--serve", "--model", str(small_weights), "--width", "80", "--height", "64"]
    monkeypatch.setattr("sys.argv", ["busy_machine.py", *options])
    monkeypatch.setattr("sys.stdin", io.StringIO("again\nagain\n"))
    busy_machine.main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2
    assert lines[0][0] == lines[1][0]
    assert all(float(seconds) > 0 for line in lines for seconds in line[1:])
