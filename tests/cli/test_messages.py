"""Every subcommand answers bad input in one sentence and leaves nothing behind."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from messages import one_sentence

import asnet
from asnet.cli.main import SUBCOMMANDS, main

#: Arguments that name something that does not exist or a number out of range, and words of the message.
UNUSABLE = {
    "deblur": (["absent.jpg", "-o", "sharp.png"], "absent.jpg"),
    "estimate": (["absent.jpg", "-o", "kernel.png"], "absent.jpg"),
    "serve": (["--model", "absent", "--port", "0"], "unknown model 'absent'"),
    "evaluate": (["levin", "--data", "absent", "-o", "scores"], "absent"),
    "sample-kernels": (["0", "-o", "kernels.png"], "at least 1, got 0"),
    "train": (["all", "--config", "absent.toml", "--output", "run"], "absent.toml"),
    "bundle": (["absent", "pair", "-o", "bundle.safetensors"], "absent"),
    "import-weights": (["absent.h5", "absent.h5", "-o", "pair.safetensors"], "absent.h5"),
}


def test_every_subcommand_that_takes_arguments_is_tested() -> None:
    assert {*UNUSABLE, "info"} == set(SUBCOMMANDS)


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_arguments_are_named_in_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, words = UNUSABLE[name]
    assert main([name, *arguments]) == 1
    assert words in one_sentence(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_an_unknown_option_is_answered_with_the_usage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = UNUSABLE[name][0] if name in UNUSABLE else []
    with pytest.raises(SystemExit) as exit_:
        main([name, *arguments, "--sharper"])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: asnet")
    assert "unrecognized arguments: --sharper" in error


def test_without_the_compiled_operators_one_sentence_says_so(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("*.so", "*.safetensors", "__pycache__")
    shutil.copytree(Path(asnet.__file__).parent, tmp_path / "asnet", ignore=ignored)
    # Ahead of an installed asnet on the path.
    script = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from asnet.cli.main import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", script, str(tmp_path), "info"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 1
    assert finished.stderr.startswith("asnet: ")
    assert "compiled operators of asnet are missing" in finished.stderr
    assert finished.stderr.count("\n") == 1
