"""`asnet train` as a person uses it: options, interruption, several processes."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from asnet.cli import train
from asnet.cli.main import main
from asnet.data import Batch, BatchSource, Photographs
from asnet.errors import ConfigurationError, InputError
from asnet.networks import DeblurNetwork
from asnet.networks.weights import load_networks
from asnet.training import Trainer, TrainingConfig
from asnet.training.checkpoint import load_checkpoint
from asnet.training.trainer import BEST, CHECKPOINT, LAST


def parsed(*arguments: str | Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train.configure(parser)
    return parser.parse_args([*map(str, arguments)])


def run(*arguments: str | Path) -> int:
    return train.run(parsed(*arguments))


@pytest.fixture
def recipe(table: dict[str, Any], tmp_path: Path) -> Path:
    """The tiny table as a TOML file; JSON's strings, numbers and lists are TOML's too."""
    path = tmp_path / "recipe.toml"
    network = table.pop("network")
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    for part, values in network.items():
        lines += [f"[network.{part}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    lines += ["[joint]", "learning_rate = 1e-4"]
    path.write_text("\n".join(lines))
    return path


def test_all_stages_in_one_command(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("all", "--config", recipe, "--output", tmp_path / "run", "--epochs", "1") == 0
    messages = capsys.readouterr().err
    for stage in ("analysis", "synthesis", "joint"):
        assert f"{stage} stage done: weights in {tmp_path / 'run' / stage / BEST}" in messages
        assert load_checkpoint(tmp_path / "run" / stage / CHECKPOINT)[1]["step"] == 2
    joint = load_checkpoint(tmp_path / "run" / "joint" / CHECKPOINT)[1]["configuration"]
    assert joint["learning_rate"] == 1e-4
    assert joint["init_analysis"] == str(tmp_path / "run" / "analysis" / BEST)
    # A finished run has nothing left to do.
    before = load_checkpoint(tmp_path / "run" / "joint" / CHECKPOINT)
    assert run("all", "--config", recipe, "--output", tmp_path / "run", "--epochs", "1", "--resume") == 0
    after = load_checkpoint(tmp_path / "run" / "joint" / CHECKPOINT)
    assert after[1] == before[1]
    assert all(torch.equal(after[0][name], before[0][name]) for name in before[0])


def test_a_recipe_may_leave_stages_out(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text('stages = ["synthesis", "joint"]\n' + recipe.read_text())
    assert run("all", "--config", recipe, "--output", tmp_path / "run", "--epochs", "1") == 0
    assert not (tmp_path / "run" / "analysis").exists()
    joint = load_checkpoint(tmp_path / "run" / "joint" / CHECKPOINT)[1]["configuration"]
    assert joint["init_analysis"] == ""
    assert joint["init_synthesis"] == str(tmp_path / "run" / "synthesis" / BEST)


def test_a_stage_that_does_not_exist_is_named(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text('stages = ["synthesis", "polish"]\n' + recipe.read_text())
    with pytest.raises(ConfigurationError, match=r"stages must list some of .*polish"):
        run("all", "--config", recipe, "--output", tmp_path / "run")


def test_the_command_line_wins_over_the_recipe(recipe: Path, tmp_path: Path) -> None:
    options = ("--learning-rate", "2e-3", "--kernel-maximum-size", "5", "--degradation-noise", "0,0.01")
    more = ("--network", "synthesis.channels=[4, 8]", "--no-channels-last", "--degradation-quantise")
    code = run("joint", "--config", recipe, "--output", tmp_path / "run", "--epochs", "1", *options, *more)
    assert code == 0
    saved = load_checkpoint(tmp_path / "run" / CHECKPOINT)[1]["configuration"]
    assert saved["learning_rate"] == 2e-3
    assert saved["kernels"]["maximum_size"] == 5
    assert saved["degradation"]["noise"] == [0.0, 0.01]
    assert saved["degradation"]["quantise"] is True
    assert load_networks(tmp_path / "run" / LAST, DeblurNetwork).config.synthesis.channels == (4, 8)


def test_resume_needs_nothing_but_the_folder(recipe: Path, tmp_path: Path) -> None:
    assert run("synthesis", "--config", recipe, "--output", tmp_path / "run", "--hours", "1e-9") == 0
    assert load_checkpoint(tmp_path / "run" / CHECKPOINT)[1]["step"] == 1
    assert run("synthesis", "--output", tmp_path / "run", "--resume") == 0
    assert load_checkpoint(tmp_path / "run" / CHECKPOINT)[1]["step"] == 6
    with pytest.raises(
        ConfigurationError, match="holds a run of the synthesis stage, not of the joint stage"
    ):
        run("joint", "--output", tmp_path / "run", "--resume")


def test_a_run_that_cannot_start_leaves_nothing_behind(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing does not exist"):
        run("synthesis", "--config", recipe, "--output", tmp_path / "run", "--data", tmp_path / "missing")
    with pytest.raises(ConfigurationError, match="crop must be at least 1, got 0"):
        run("synthesis", "--config", recipe, "--output", tmp_path / "run", "--crop", "0")
    assert not (tmp_path / "run").exists()


def test_a_shipped_recipe_is_found_by_its_name_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "all", "--config", "compact", "--data", "absent", "--output", "run"]) == 1
    assert "the folder of photographs absent does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--crop", "1.5"), "--crop must be a whole number, got '1.5'"),
        (
            ("--image-loss", "l3"),
            "--image-loss must be one of l2, l1, charbonnier, log_l2, got 'l3'",
        ),
        (("--degradation-noise", "1"), "--degradation-noise must be 2 values, each a number, got '1'"),
        (("--network", "channels"), "expected FIELD=VALUE, got 'channels'"),
        (("--hours", "-1"), "must be a number above 0, got '-1'"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(
    option: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("synthesis", "--output", "run", *option)
    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err


def test_every_field_has_an_option_with_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--help")
    text = capsys.readouterr().out
    for option in (
        "--learning-rate",
        "--kernel-canvas",
        "--degradation-jpeg",
        "--init-analysis",
        "--network",
    ):
        assert f"\n  {option}" in text
    assert "MISSING" not in text


#: The subcommand alone, as a program that Python and torchrun can start.
PROGRAM = """
import argparse
import sys

from asnet.cli import train
from asnet.cli.main import main

parser = argparse.ArgumentParser()
train.configure(parser)
sys.exit(train.run(parser.parse_args()))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


#: One thread per process, so that the processes of a test do not wait for each other's threads.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def test_ctrl_c_saves_and_says_how_to_continue(recipe: Path, program: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ["--config", recipe, "--output", folder, "--steps-per-epoch", "100000", "--device", "cpu"]
    line = [sys.executable, program, "synthesis", *options]
    with subprocess.Popen(line, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300
        log = folder / "metrics.jsonl"
        while not (log.exists() and '"training"' in log.read_text()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    step = load_checkpoint(folder / CHECKPOINT)[1]["step"]
    assert step > 0
    assert (
        f"stopped at step {step}; continue with: asnet train synthesis --output {folder} --resume" in errors
    )
    assert "Traceback" not in errors


class BothRanks:
    """What two processes see, in one batch."""

    def __init__(self, config: TrainingConfig) -> None:
        photographs = Photographs(config.data)
        self.sources = [
            BatchSource(
                photographs,
                config.kernels,
                config.degradation,
                batch_size=config.batch_size,
                crop=config.crop,
                seed=config.seed,
                rank=rank,
                world_size=2,
            )
            for rank in range(2)
        ]

    def batch(self, index: int) -> Batch:
        first, second = (source.batch(index) for source in self.sources)
        return Batch(*(torch.cat(pair) for pair in zip(first[:5], second[:5], strict=True)))


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_double_batch(
    recipe: Path, program: Path, tmp_path: Path
) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = [
        "--device",
        "cpu",
        "--ema-decay",
        "0.9",
        "--validation-count",
        "3",
        "--schedule",
        "constant",
    ]
    finished = subprocess.run(
        [*launcher, program, "joint", "--config", recipe, "--output", tmp_path / "two", *options],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    state = load_checkpoint(tmp_path / "two" / CHECKPOINT)[1]
    config = TrainingConfig.from_table("joint", state["configuration"])
    Trainer(config, tmp_path / "one", device="cpu", source=BothRanks(config)).run()

    for name in (LAST, BEST):
        two, one = (
            load_networks(tmp_path / folder / name, DeblurNetwork).state_dict() for folder in ("two", "one")
        )
        for key in one:
            # Measured: 7.5e-9 at most, after six steps of up to 1e-4 each. Adam divides by the root of the
            # squared gradient, so where that is near 0 rounding errors weigh more.
            torch.testing.assert_close(two[key], one[key], rtol=0, atol=1e-6)
    logs = [
        [json.loads(text) for text in (tmp_path / folder / "metrics.jsonl").read_text().splitlines()]
        for folder in ("two", "one")
    ]
    assert len(logs[0]) == len(logs[1]) == 10
    for together, alone in zip(*logs, strict=True):
        measured = "psnr" if together["kind"] == "validation" else "loss"
        assert together[measured] == pytest.approx(alone[measured], rel=1e-5)
