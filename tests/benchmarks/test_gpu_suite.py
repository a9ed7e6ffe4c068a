"""The suite for machines with a GPU: its parts are independent, and its checks also run on the CPU."""

import json
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import gpu_exercise
import gpu_suite
from gpu_suite import Part


def test_every_outcome_of_a_part_is_a_result() -> None:
    commands = {
        "passed": [sys.executable, "-c", "print('as it should be')"],
        "failed": [sys.executable, "-c", "print('before'); raise SystemExit(3)"],
        "timed out": [sys.executable, "-uc", "print('before'); import time; time.sleep(60)"],
        "not started": ["/nonexistent/compute-sanitizer"],
    }
    for status, command in commands.items():
        result = gpu_suite.run(Part("part", command, limit=3 if status == "timed out" else 30), {}, 60)
        assert result["status"] == status
        assert json.loads(json.dumps(result)) == result
        if status in ("failed", "timed out"):
            assert result["output"] == "before\n"
    assert gpu_suite.run(Part("part", commands["failed"], 30), {}, 60)["exit_code"] == 3


def test_no_part_outlasts_the_call() -> None:
    sleep = Part("part", [sys.executable, "-uc", "print('before'); import time; time.sleep(60)"], limit=60)
    assert gpu_suite.run(sleep, {}, 3)["status"] == "timed out"
    late = gpu_suite.run(sleep, {}, -1)
    assert (late["status"], late["seconds"]) == ("no time", 0)
    assert gpu_suite.CALL_SECONDS < 6 * 60


@pytest.mark.parametrize("call", ["operators", "networks"])
def test_files_that_parts_name_exist(call: str) -> None:
    for part in gpu_suite.parts(call, "python", "90", Path("results")):
        for word in map(str, part.command):
            if word.endswith((".py", ".jpg")):
                assert Path(gpu_suite.ROOT, word).is_file(), word


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing where no CUDA device is")
def test_without_a_gpu_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_suite.py", "operators"])
    with pytest.raises(SystemExit, match="finds no CUDA device"):
        gpu_suite.main()
    with pytest.raises(SystemExit, match="no CUDA device"):
        gpu_exercise.main()


def test_operators_agree_with_their_references_on_the_cpu_as_they_must_on_a_gpu() -> None:
    torch.manual_seed(0)
    device = torch.device("cpu")
    names = set()
    for name, dtype, result, expected in chain(
        gpu_exercise.correlations(device),
        gpu_exercise.guided(device),
        gpu_exercise.latent_images(device),
        gpu_exercise.systems(device),
    ):
        names.add(name.split()[0])
        error = (result - expected).abs().max() / expected.abs().max()
        assert error <= gpu_exercise.TOLERANCES[dtype], (name, dtype)
    assert names == {
        "cross_correlation",
        "guided_modulation",
        "guided_conv2d",
        "guided_pointwise_conv2d",
        "sparse_latent",
        "toeplitz_solve",
    }
