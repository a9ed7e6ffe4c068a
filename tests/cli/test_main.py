"""What all subcommands share: help, and one sentence for errors of the operating system."""

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
    # Longer than a file name may be, where not every system call that sees it first fails cleanly.
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


def test_what_needs_no_network_loads_no_torch() -> None:
    script = (
        "import sys\nfrom asnet.cli.main import main\n"
        "for arguments in (['--version'], ['--help'], [], ['deblurr']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit: pass\n"
        "    loaded = [name for name in ('torch', 'numpy', 'PIL') if name in sys.modules]\n"
        "    assert not loaded, (arguments, loaded)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unknown_subcommand_is_answered_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["deblurr"])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    for name in SUBCOMMANDS:
        assert name in error


def test_help_and_deblurring_work_without_assertions_and_docstrings(
    small_weights: Path, tmp_path: Path
) -> None:
    """In one process: Python compiles all of torch for ``-OO``."""
    pixels = numpy.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=numpy.uint8)
    photo, result, optimised = (tmp_path / name for name in ("photo.png", "sharp.png", "optimised.png"))
    Image.fromarray(pixels).resize((42, 36), Image.Resampling.BICUBIC).save(photo)
    deblur = ["deblur", str(photo), "--line", "5,30", "--model", str(small_weights), "--device", "cpu", "-o"]
    words = {
        "train": ["Folder of sharp photographs to train on", "{l1,cross_entropy}"],
        "evaluate koehler": ["48 images of 800x800"],
        "deblur": ["remove this blur kernel"],
        "serve": ["largest upload in megabytes"],
        "sample-kernels": ["the paper's classes of sizes in pixels"],
    }
    commands = [*([*name.split(), "--help"] for name in {*SUBCOMMANDS, *words}), [*deblur, str(optimised)]]
    script = (
        "import sys\nfrom asnet.cli.main import main\n"
        f"for arguments in {commands}:\n"
        "    try: code = main(arguments)\n"
        "    except SystemExit as ended: code = ended.code\n"
        "    if code: sys.exit(f'{arguments} ended with {code}')"
    )
    command = [sys.executable, "-OO", "-c", script]
    finished = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "300"})
    assert finished.returncode == 0, finished.stderr
    helps = {text.split("\n")[0]: text for text in finished.stdout.split("usage: asnet ")[1:]}
    for name, expected in words.items():
        (shown,) = (text for line, text in helps.items() if line.startswith(f"{name} "))
        for word in expected:
            assert word in shown, name
    assert main([*deblur, str(result)]) == 0
    with Image.open(result) as one, Image.open(optimised) as other:
        assert numpy.array_equal(numpy.asarray(one), numpy.asarray(other))


def test_threads_of_the_command_sleep_while_they_wait() -> None:
    """OpenMP prints the settings it has read, once, when torch loads it."""
    ignored = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in ignored}
    environment["OMP_DISPLAY_ENV"] = "true"
    command = [sys.executable, "-m", "asnet", "info"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    if "OMP_WAIT_POLICY" not in result.stderr:
        pytest.skip("this OpenMP does not show its settings")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in result.stderr


@pytest.mark.parametrize("own", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "5000"}])
def test_the_user_s_own_wait_policy_is_kept(own: dict[str, str]) -> None:
    environment = dict(own)
    set_wait_policy(environment)
    assert environment == own


def test_in_a_running_python_the_command_leaves_the_environment_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert "torch" in sys.modules
    with pytest.raises(SystemExit):
        main(["--version"])
    assert "OMP_WAIT_POLICY" not in os.environ
