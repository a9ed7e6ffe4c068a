"""`asnet evaluate` as a user meets it: tables, resumed runs, and one sentence for every error."""

import csv
import json
import shutil
from pathlib import Path

import numpy
import pytest
import torch
from benchmark_data import (
    crooked_kernel,
    make_koehler,
    make_lai,
    make_levin,
    make_pairs,
    make_sun,
    save,
    scene,
)
from messages import one_sentence

from asnet.cli.main import main
from asnet.deblurring.deblurrer import Deblurrer
from asnet.evaluation.levin import Levin
from asnet.imaging import write_kernel

TABLES = ("scores.csv", "scores.json", "table.md")


@pytest.fixture
def model(small_weights: Path) -> list[str]:
    return ["--model", str(small_weights), "--device", "cpu"]


@pytest.fixture
def levin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_levin(tmp_path / "levin", monkeypatch)


@pytest.fixture
def deblurred(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry for every call of `Deblurrer.deblur`: whether the kernel was given."""
    calls: list[bool] = []
    deblur = Deblurrer.deblur

    def counted(self, image, kernel=None, **options):
        calls.append(kernel is not None)
        return deblur(self, image, kernel, **options)

    monkeypatch.setattr(Deblurrer, "deblur", counted)
    return calls


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_levin_is_deblurred_and_scored(
    tmp_path: Path, levin: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    assert main(["evaluate", "levin", "--data", str(levin), "-o", str(out), "--save-images", *model]) == 0
    captured = capsys.readouterr()
    assert "evaluating" in captured.err
    with (out / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [f"im{image}_kernel{kernel}_img" for image in (1, 2) for kernel in (1, 2)]
    assert [row["image"] for row in rows] == names
    assert sorted(path.name for path in (out / "images").iterdir()) == [f"{name}.png" for name in names]
    scores = json.loads((out / "scores.json").read_text())
    for row, image in zip(rows, scores["images"], strict=True):
        assert float(row["error_ratio"]) == image["error_ratio"]
        assert image["error_ratio"] == pytest.approx(image["ssd"] / image["ssd_reference"])
        assert row["scale"] == "1"
    mean = sum(image["psnr"] for image in scores["images"]) / 4
    assert scores["summary"]["psnr"] == pytest.approx(mean)
    table = (out / "table.md").read_text()
    assert f"| **asnet small** | {mean:.2f} |" in table
    assert f"PSNR (dB): {mean:.2f}" in captured.out
    for name in names:
        assert f"| {name} |" in table


def test_saved_images_score_the_same_as_given_results(tmp_path: Path, levin: Path, model: list[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    command = ["evaluate", "levin", "--data", str(levin)]
    assert main([*command, "-o", str(first), "--save-images", *model]) == 0
    assert main([*command, "-o", str(second), "--results", str(first / "images"), *model]) == 0
    one, two = (json.loads((out / "scores.json").read_text()) for out in (first, second))
    assert one["summary"] == two["summary"]
    assert [image | {"scale": None} for image in one["images"]] == two["images"]
    assert "| **images** |" in (second / "table.md").read_text()


def test_given_references_need_no_model(tmp_path: Path, levin: Path) -> None:
    results, references = tmp_path / "mine", tmp_path / "mine-with-true-kernels"
    for image in (1, 2):
        sharp = scene(48, 48, channels=1, seed=image)
        for kernel in (1, 2):
            # Saved in colour, as some methods do.
            save(results / f"im{image}_kernel{kernel}_img.png", 0.9 * sharp.expand(3, -1, -1))
            save(references / f"im{image}_kernel{kernel}_img.png", 0.95 * sharp)
    out = tmp_path / "scores"
    command = ["evaluate", "levin", "--data", str(levin), "-o", str(out), "--model", "there is none"]
    assert main([*command, "--results", str(results), "--references", str(references)]) == 0
    scores = json.loads((out / "scores.json").read_text())
    assert scores["summary"]["error_ratio"] == pytest.approx(4, rel=0.15)
    assert "weights" not in scores["run"]
    assert "references: those in mine-with-true-kernels" in (out / "table.md").read_text()


def test_kernels_may_be_given(tmp_path: Path, levin: Path, model: list[str], deblurred: list[bool]) -> None:
    kernels = tmp_path / "rotated"
    kernels.mkdir()
    for image in (1, 2):
        for kernel in (1, 2):
            rotated = crooked_kernel(kernel).flip(0, 1)
            write_kernel(kernels / f"k_{kernel}_im_{image}_somebody.png", rotated)
    command = ["evaluate", "levin", "--data", str(levin), "--kernels", str(kernels), *model]
    scores = []
    for options in ([], ["--rotate-kernels"]):
        out = tmp_path / f"scores{len(options)}"
        assert main([*command, "-o", str(out), *options]) == 0
        scores.append(json.loads((out / "scores.json").read_text()))
    assert scores[1]["summary"]["error_ratio"] == pytest.approx(1, abs=1e-3)
    # With an untrained network, wrong kernels give different results, not worse ones.
    assert all(abs(image["error_ratio"] - 1) > 0.1 for image in scores[0]["images"])
    assert deblurred == [True] * 16
    assert "**asnet small with the kernels of rotated**" in (tmp_path / "scores1" / "table.md").read_text()


def test_the_number_of_jobs_changes_nothing(tmp_path: Path, levin: Path, model: list[str]) -> None:
    threads = torch.get_num_threads()
    for jobs in ("1", "2"):
        command = ["evaluate", "levin", "--data", str(levin), "-o", str(tmp_path / jobs), "--jobs", jobs]
        assert main([*command, "--save-images", *model]) == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert torch.get_num_threads() == threads


def test_an_interrupted_run_goes_on(
    tmp_path: Path, levin: Path, model: list[str], deblurred: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["evaluate", "levin", "--data", str(levin), "--jobs", "1", *model]
    assert main([*command, "-o", str(tmp_path / "whole")]) == 0
    assert deblurred == [False, True] * 4
    deblurred.clear()
    score = Levin.score

    def interrupted(self, case, *others):
        if case.name == "im2_kernel1_img":
            raise KeyboardInterrupt
        return score(self, case, *others)

    out = tmp_path / "in parts"
    with monkeypatch.context() as patch:
        patch.setattr(Levin, "score", interrupted)
        assert main([*command, "-o", str(out)]) == 130
    done = contents(out)
    assert not set(TABLES) & set(done)
    assert "records/im1_kernel2_img.json" in done
    assert "records/im2_kernel1_img.json" not in done
    deblurred.clear()
    assert main([*command, "-o", str(out)]) == 0
    assert len(deblurred) == 2 * (4 - sum(name.startswith("records") for name in done))
    assert contents(out) == contents(tmp_path / "whole")
    deblurred.clear()
    assert main([*command, "-o", str(out)]) == 0
    assert deblurred == []
    assert contents(out) == contents(tmp_path / "whole")


def test_images_asked_for_later_are_made_without_new_scores(
    tmp_path: Path, levin: Path, model: list[str]
) -> None:
    command = ["evaluate", "levin", "--data", str(levin), "-o", str(tmp_path / "out"), *model]
    assert main(command) == 0
    before = contents(tmp_path / "out")
    assert main([*command, "--save-images"]) == 0
    after = contents(tmp_path / "out")
    assert before.items() <= after.items()
    assert len(after) == len(before) + 4


def test_other_options_are_not_mixed_in(
    tmp_path: Path, levin: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["evaluate", "levin", "--data", str(levin), "-o", str(out), *model]
    assert main(command) == 0
    before = contents(out)
    other = tmp_path / "other.safetensors"
    shutil.copy(model[1], other)
    for options, words in (
        (["--scale", "1"], "scale auto instead of 1"),
        (["--dtype", "bfloat16"], "dtype float32 instead of bfloat16"),
        (["--model", str(other)], "model small instead of other"),
        (["--results", str(levin)], "results none instead of given"),
    ):
        capsys.readouterr()
        assert main([*command, *options]) == 1
        assert words in one_sentence(capsys)
    save(levin / "im1_kernel1_img.png", scene(48, 48, channels=1, seed=9))
    assert main(command) == 1
    assert "im1_kernel1_img.json is of other files than those of im1_kernel1_img now" in one_sentence(capsys)
    assert contents(out) == before


def test_other_results_are_not_mixed_in(
    tmp_path: Path, levin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, results = tmp_path / "out", tmp_path / "results"
    for path in levin.glob("*.png"):
        save(results / path.name, scene(48, 48, channels=1))
    command = ["evaluate", "levin", "--data", str(levin), "-o", str(out), "--results", str(results)]
    command += ["--references", str(results)]
    assert main(command) == 0
    before = contents(out)
    capsys.readouterr()
    # Files of the same size: given results are identified by their content.
    path = results / "im2_kernel1_img.png"
    pixels = bytearray(path.read_bytes())
    pixels[-20] ^= 1
    path.write_bytes(pixels)
    assert main(command) == 1
    assert "im2_kernel1_img.json is of other files" in one_sentence(capsys)
    assert contents(out) == before


def test_a_broken_image_does_not_stop_the_others(
    tmp_path: Path, levin: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = levin / "im1_kernel2_img.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    command = ["evaluate", "levin", "--data", str(levin), "-o", str(out), *model]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert f"asnet: im1_kernel2_img: {path} is truncated or damaged" in error
    assert "1 of 4 images could not be scored" in error
    assert len(list((out / "records").iterdir())) == 3
    assert not (out / "scores.json").exists()
    path.write_bytes(whole)
    assert main(command) == 0
    assert (out / "scores.json").exists()


def test_missing_files_are_all_named_before_anything_runs(
    tmp_path: Path, levin: Path, model: list[str], capsys: pytest.CaptureFixture[str], deblurred: list[bool]
) -> None:
    results = tmp_path / "results"
    save(results / "im1_kernel1_img.png", scene(48, 50, channels=1))
    save(results / "im1_kernel2_img.jpg", scene(48, 48, channels=1))
    (levin / "gt" / "kernel2.png").unlink()
    command = ["evaluate", "levin", "--data", str(levin), "-o", str(tmp_path / "out"), *model]
    assert main([*command, "--results", str(results)]) == 1
    error = one_sentence(capsys)
    assert "3 missing: gt/kernel2.png, results/im2_kernel1_img, results/im2_kernel2_img" in error
    assert "im1_kernel1_img.png has 50x48 pixels instead of 48x48" in error
    assert deblurred == []
    (levin / "gt" / "kernel1.png").write_text("no picture")
    (levin / "im1_kernel1_img.png").unlink()
    (levin / "im1_kernel1_img.png").mkdir()
    (levin / "im2_kernel2_img.png").write_bytes(b"")
    assert main(command) == 1
    error = one_sentence(capsys)
    assert "2 missing: gt/kernel2.png, levin/im1_kernel1_img.png; " in error
    for name in ("gt/kernel1.png", "im2_kernel2_img.png"):
        assert f"{name} is not a JPEG, PNG, TIFF, WebP, HEIC or AVIF image" in error
    assert main(["evaluate", "levin", "--data", str(levin / "gt"), "-o", str(tmp_path / "out"), *model]) == 1
    error = one_sentence(capsys)
    assert f"none of its 8 files is there, such as {levin / 'gt' / 'gt' / 'kernel1.png'}" in error
    assert deblurred == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "nowhere"], "there is no folder nowhere"),
        (["--results", "nowhere"], "there is no folder nowhere"),
        (["--references", "."], "--references needs --results"),
        (["--rotate-kernels"], "--rotate-kernels needs --kernels"),
        (["--results", "levin", "--save-images"], "--results deblurs none"),
        (["-o", "file"], "must be a folder, but it is a file"),
        (["-o", "full"], "holds other files"),
        (["-o", "file/out"], "cannot make the folder"),
        (["--model", "nothing"], "unknown model 'nothing'"),
    ],
)
def test_unusable_options(
    tmp_path: Path,
    levin: Path,
    model: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    words: str,
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("precious")
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    assert main(["evaluate", "levin", "--data", "levin", "-o", "out", *model, *options]) == 1
    assert words in one_sentence(capsys)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("options", [["--jobs", "0"], ["--results", "a", "--kernels", "b"]])
def test_wrong_usage(levin: Path, options: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["evaluate", "levin", "--data", str(levin), "-o", "out", *options])
    assert raised.value.code == 2


def test_damaged_records_are_named(
    tmp_path: Path, levin: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["evaluate", "levin", "--data", str(levin), "-o", str(out), *model]
    assert main(command) == 0
    capsys.readouterr()
    record = out / "records" / "im1_kernel1_img.json"
    whole = json.loads(record.read_text())
    no_number = whole | {"scores": whole["scores"] | {"psnr": "x"}}
    for content in ('{"scores": {}', "[]", *map(json.dumps, (no_number, whole | {"scores": {}}))):
        record.write_text(content)
        assert main(command) == 1
        assert "im1_kernel1_img.json" in one_sentence(capsys)


def test_koehler_and_lai_stand_beside_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    koehler = make_koehler(tmp_path / "koehler", monkeypatch)
    lai = make_lai(tmp_path / "lai", monkeypatch)
    for name, data, results, row in (
        ("koehler", koehler, koehler, "| Xu | 29.53 | 0.944 | 31.05 | 0.964 |"),
        ("lai", lai, lai / "uniform", "| Whyte | 17.444 | 0.570 |"),
    ):
        out = tmp_path / name / "out"
        assert main(["evaluate", name, "--data", str(data), "-o", str(out), "--results", str(results)]) == 0
        table = (out / "table.md").read_text()
        assert row in table
        summary = json.loads((out / "scores.json").read_text())["summary"]
        first = next(line for line in table.splitlines() if line.startswith(f"| **{results.name}** |"))
        assert [float(figure) for figure in first.split("|")[2:-1]] == pytest.approx(
            list(summary.values()), abs=0.005
        )


def test_sun_and_pairs_are_deblurred(
    tmp_path: Path, model: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, data in (("sun", make_sun(tmp_path / "sun", monkeypatch)), ("pairs", make_pairs(tmp_path))):
        out, again = tmp_path / f"{name}-out", tmp_path / f"{name}-again"
        command = ["evaluate", name, "--data", str(data), *model]
        assert main([*command, "-o", str(out), "--save-images"]) == 0
        assert "CVPR 2020" not in (out / "table.md").read_text()
        assert main([*command, "-o", str(again), "--results", str(out / "images")]) == 0
        one, two = (json.loads((folder / "scores.json").read_text()) for folder in (out, again))
        assert len(one["images"]) == 2
        assert one["summary"] == two["summary"]


def test_identical_pairs_have_an_infinite_psnr(tmp_path: Path) -> None:
    data = make_pairs(tmp_path / "data")
    command = ["evaluate", "pairs", "--data", str(data), "--results", str(data / "sharp")]
    for _ in range(2):
        assert main([*command, "-o", str(tmp_path / "out")]) == 0
        images = json.loads((tmp_path / "out" / "scores.json").read_text())["images"]
        assert [image["psnr"] for image in images] == ["inf", "inf"]
        assert all(image["ssim"] == pytest.approx(1) for image in images)


def test_what_reading_a_picture_loses_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile = pytest.importorskip("tifffile")
    data = make_pairs(tmp_path / "data")
    results = tmp_path / "results"
    save(results / "grey.png", scene(40, 44, channels=1))
    pixels = (255 * scene(40, 44).permute(1, 2, 0)).to(torch.uint8).numpy()
    tifffile.imwrite(results / "colour.tif", numpy.stack([pixels, pixels]), photometric="rgb")
    command = ["evaluate", "pairs", "--data", str(data), "--results", str(results)]
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    note = f"asnet: note: {results / 'colour.tif'} holds several pictures"
    assert note in capsys.readouterr().err


def test_names_are_kept_whole_in_every_table(tmp_path: Path) -> None:
    data, name = tmp_path / "data", 'a, b|c "d"'
    for part in ("blurred", "sharp"):
        save(data / part / f"{name}.png", scene(40, 44))
        (data / part / f"._{name}.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    command = ["evaluate", "pairs", "--data", str(data), "--results", str(data / "blurred")]
    assert main([*command, "-o", str(out)]) == 0
    with (out / "scores.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == [name]
    assert json.loads((out / "scores.json").read_text())["images"][0]["image"] == name
    assert '| a, b\\|c "d" |' in (out / "table.md").read_text()
