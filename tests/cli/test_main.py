"""What all subcommands have in common: help, and a sentence for what the system refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from messages import one_sentence

from asnet.cli.main import main


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
    "arguments", [["bundle"], ["import-weights"], ["evaluate"], ["evaluate", "levin"], ["evaluate", "pairs"]]
)
def test_help_of_every_level(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--help"])
    assert exit_.value.code == 0
    assert f"usage: asnet {' '.join(arguments)}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--help"], ["Folder of sharp photographs to train on", "{l1,cross_entropy}"]),
        (["evaluate", "koehler", "--help"], ["48 images of 800x800"]),
    ],
)
def test_the_help_survives_without_docstrings(arguments: list[str], words: list[str]) -> None:
    command = [sys.executable, "-OO", "-m", "asnet", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "300"})
    assert finished.returncode == 0, finished.stderr
    for word in words:
        assert word in finished.stdout
