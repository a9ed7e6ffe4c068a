"""What all subcommands have in common: help, and a sentence for what the system refuses."""

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from messages import one_sentence
from PIL import Image

from asnet.cli.main import SUBCOMMANDS, main, set_wait_policy


@pytest.mark.parametrize(
    "arguments",
    [
        ["deblur", "photo.jpg", "-o", "{}/sharp.png"],
        ["import-weights", "{}", "synthesis.h5", "-o", "released.safetensors"],
        ["bundle", "classifier.safetensors", "{}", "-o", "bundle.safetensors"],
        ["evaluate", "levin", "--data", "{}", "-o", "out"],
    ],
)
def test_what_the_system_refuses_is_a_sentence(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"")
    # Longer than a name may be, which not every function of the system that is asked first says gently.
    assert main([argument.format("n" * 300) for argument in arguments]) == 1
    one_sentence(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize(
    "arguments",
    [*([name] for name in SUBCOMMANDS), ["evaluate", "levin"], ["evaluate", "pairs"]],
    ids=" ".join,
)
def test_help_of_every_level(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--help"])
    assert exit_.value.code == 0
    assert f"usage: asnet {' '.join(arguments)}" in capsys.readouterr().out


def test_the_help_lists_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, summary in SUBCOMMANDS.items():
        assert f"{name} {summary}" in shown


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], [], ["deblurr"]], ids=" ".join)
def test_what_needs_no_network_loads_no_torch(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom asnet.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'PIL') if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "[]"


def test_a_subcommand_that_does_not_exist_is_answered_with_those_that_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["deblurr"])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    for name in SUBCOMMANDS:
        assert name in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--help"], ["Folder of sharp photographs to train on", "{l1,cross_entropy}"]),
        (["evaluate", "koehler", "--help"], ["48 images of 800x800"]),
        (["deblur", "--help"], ["remove this blur kernel"]),
        (["serve", "--help"], ["largest upload in megabytes"]),
        (["sample-kernels", "--help"], ["the paper's classes of sizes in pixels"]),
    ],
)
def test_the_help_survives_without_docstrings(arguments: list[str], words: list[str]) -> None:
    command = [sys.executable, "-OO", "-m", "asnet", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "300"})
    assert finished.returncode == 0, finished.stderr
    for word in words:
        assert word in finished.stdout


def test_a_photograph_is_deblurred_without_assertions_and_docstrings(
    small_weights: Path, tmp_path: Path
) -> None:
    pixels = numpy.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=numpy.uint8)
    photo, result = tmp_path / "photo.png", tmp_path / "sharp.png"
    Image.fromarray(pixels).resize((42, 36), Image.Resampling.BICUBIC).save(photo)
    arguments = ["deblur", str(photo), "--line", "5,30", "--model", str(small_weights), "--device", "cpu"]
    assert main([*arguments, "-o", str(result)]) == 0
    optimised = tmp_path / "optimised.png"
    command = [sys.executable, "-OO", "-m", "asnet", *arguments, "-o", str(optimised)]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    with Image.open(result) as one, Image.open(optimised) as other:
        assert numpy.array_equal(numpy.asarray(one), numpy.asarray(other))


@pytest.mark.parametrize(
    ("own", "shown"),
    [({}, "OMP_WAIT_POLICY = 'PASSIVE'"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "OMP_WAIT_POLICY = 'ACTIVE'")],
)
def test_threads_of_the_command_sleep_while_they_wait_unless_told_otherwise(
    own: dict[str, str], shown: str
) -> None:
    """What OpenMP itself says it has read, which it does once, when torch loads it."""
    ignored = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in ignored}
    environment |= {"OMP_DISPLAY_ENV": "true", **own}
    command = [sys.executable, "-m", "asnet", "info"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    if "OMP_WAIT_POLICY" not in result.stderr:
        pytest.skip("this OpenMP does not show its settings")
    assert shown in result.stderr


def test_a_spin_count_of_the_user_s_stands() -> None:
    environment = {"GOMP_SPINCOUNT": "5000"}
    set_wait_policy(environment)
    assert environment == {"GOMP_SPINCOUNT": "5000"}


def test_in_a_running_python_the_command_leaves_the_environment_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert "torch" in sys.modules
    with pytest.raises(SystemExit):
        main(["--version"])
    assert "OMP_WAIT_POLICY" not in os.environ
