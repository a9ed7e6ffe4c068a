"""The command as a user meets it: files in, files out, one sentence for every error."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from messages import one_sentence
from PIL import ExifTags, Image

from asnet import Deblurrer, __version__
from asnet.cli.main import main
from asnet.deblurring.comparison import comparison_size
from asnet.imaging import read_kernel


def picture(height: int = 33, width: int = 41, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Random colours that blend over a few pixels, as in a blurred photograph."""
    generator = numpy.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 7, 3), dtype=numpy.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    picture().save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs, the second of them truncated, and a text file."""
    path = tmp_path / "holiday"
    path.mkdir()
    picture(seed=1).save(path / "a.png")
    picture(seed=2).save(path / "b.jpg")
    picture(17, 16, "L", seed=3).save(path / "c.tif")
    (path / "b.jpg").write_bytes((path / "b.jpg").read_bytes()[:400])
    (path / "notes.txt").write_text("not a photograph")
    return path


@pytest.fixture
def model(small_weights: Path) -> list[str]:
    return ["--model", str(small_weights), "--device", "cpu"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_photograph_is_deblurred_to_the_same_size(tmp_path: Path, photo: Path, model: list[str]) -> None:
    before = photo.read_bytes()
    assert main(["deblur", str(photo), "-o", str(tmp_path / "sharp.png"), *model]) == 0
    assert photo.read_bytes() == before
    with Image.open(tmp_path / "sharp.png") as sharp, Image.open(photo) as blurred:
        assert (sharp.size, sharp.mode) == (blurred.size, blurred.mode)
        assert not numpy.array_equal(numpy.asarray(sharp), numpy.asarray(blurred))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (19, 35)])
def test_modes_and_odd_sizes(tmp_path: Path, model: list[str], mode: str, height: int, width: int) -> None:
    image = picture(height, width, mode)
    if "A" in mode:
        image.putalpha(90)
    image.save(tmp_path / "photo.png")
    assert main(["deblur", str(tmp_path / "photo.png"), "-o", str(tmp_path / "sharp.png"), *model]) == 0
    with Image.open(tmp_path / "sharp.png") as sharp:
        assert sharp.size == (width, height)
        assert sharp.mode == {"P": "RGB", "1": "L"}.get(mode, mode)
        if "A" in mode:
            assert sharp.getchannel("A").getextrema() == (90, 90)


def test_a_sharp_photograph_stays_as_it_is_and_this_is_reported(
    tmp_path: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, result = tmp_path / "blocks.png", tmp_path / "result.png"
    picture(6, 7).resize((42, 36), Image.Resampling.NEAREST).save(path)
    assert main(["deblur", str(path), "-o", str(result), *model]) == 0
    assert "blocks.png shows no blur: it is left unchanged" in one_sentence(capsys)
    with Image.open(path) as before, Image.open(result) as after:
        assert numpy.array_equal(numpy.asarray(before), numpy.asarray(after))


def test_sixteen_bit_grey_is_kept(tmp_path: Path, model: list[str]) -> None:
    Image.fromarray(numpy.asarray(picture(mode="L")).astype(numpy.uint16) * 255).save(tmp_path / "deep.png")
    assert main(["deblur", str(tmp_path / "deep.png"), "-o", str(tmp_path / "sharp.tif"), *model]) == 0
    with Image.open(tmp_path / "sharp.tif") as sharp:
        assert sharp.mode == "I;16"
        assert len(numpy.unique(numpy.asarray(sharp) % 257)) > 100


def test_the_result_of_a_rotated_photograph_is_upright(tmp_path: Path, model: list[str]) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    exif[ExifTags.Base.Model] = "Camera"
    picture().save(tmp_path / "turned.jpg", exif=exif)
    assert main(["deblur", str(tmp_path / "turned.jpg"), "-o", str(tmp_path / "sharp.jpg"), *model]) == 0
    with Image.open(tmp_path / "sharp.jpg") as sharp:
        assert sharp.size == (33, 41)
        assert sharp.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert sharp.getexif()[ExifTags.Base.Model] == "Camera"


def test_a_folder_is_deblurred_except_its_broken_file(
    tmp_path: Path, folder: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "sharp"
    assert main(["deblur", str(folder), "-o", str(target), *model]) == 1
    assert names(target) == ["a.png", "c.tif"]
    assert names(folder) == ["a.png", "b.jpg", "c.tif", "notes.txt"]
    errors = capsys.readouterr().err
    assert "b.jpg is truncated or damaged" in errors
    assert "1 of 3 photographs failed" in errors
    assert "deblurring" in errors


def test_kernels_and_comparisons_of_a_folder(tmp_path: Path, folder: Path, model: list[str]) -> None:
    (folder / "b.jpg").unlink()
    target = tmp_path / "all"
    arguments = ["--save-kernel", f"{target}/", "--compare", f"{target}/"]
    assert main(["deblur", str(folder), "-o", str(target), *arguments, *model]) == 0
    assert names(target) == [
        "a-compared.png",
        "a-kernel.png",
        "a.png",
        "c-compared.png",
        "c-kernel.png",
        "c.tif",
    ]


def test_the_comparison_holds_photograph_result_and_kernel(
    tmp_path: Path, photo: Path, model: list[str]
) -> None:
    sharp, compared = tmp_path / "sharp.png", tmp_path / "compared.png"
    assert main(["deblur", str(photo), "-o", str(sharp), "--compare", str(compared), *model]) == 0
    with Image.open(compared) as sheet, Image.open(photo) as before, Image.open(sharp) as after:
        assert sheet.size == comparison_size(33, 41, 7)
        assert numpy.array_equal(numpy.asarray(sheet)[8:41, 8:49], numpy.asarray(before))
        assert numpy.array_equal(numpy.asarray(sheet)[8:41, 57:98], numpy.asarray(after))
        assert numpy.asarray(sheet)[8:99, 106:197].max() == 255


def test_region_strength_and_line(tmp_path: Path, photo: Path, model: list[str]) -> None:
    def deblurred(name: str, *options: str) -> Any:
        assert main(["deblur", str(photo), "-o", str(tmp_path / name), *options, *model]) == 0
        with Image.open(tmp_path / name) as result:
            return numpy.asarray(result).astype(int)

    kernels = [str(tmp_path / "used.npy"), str(tmp_path / "estimated.npy")]
    deblurred("region.png", "--region", "2,3,40,30", "--save-kernel", kernels[0])
    assert main(["estimate", str(photo), "-o", kernels[1], "--region", "2,3,40,30", *model]) == 0
    assert Path(kernels[0]).read_bytes() == Path(kernels[1]).read_bytes()
    with Image.open(photo) as picture_:
        blurred = numpy.asarray(picture_).astype(int)
    whole, half, none = (deblurred(f"{x}.png", "--line", "3,30", "--strength", x) for x in ("1", "0.5", "0"))
    assert numpy.array_equal(none, blurred)
    assert numpy.abs(half - (whole + blurred) / 2).max() <= 1
    assert not numpy.array_equal(whole, deblurred("held.png", "--line", "3,30", "--denoise", "1"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--region", "1,2,3"], "LEFT,TOP,RIGHT,BOTTOM in whole pixels, got '1,2,3'"),
        (["--region=-1,2,30,40"], "got '-1,2,30,40'"),
        (["--strength", "1.5"], "from 0 to 1, got '1.5'"),
        (["--denoise", "much"], "from 0 to 1, got 'much'"),
        (["--line", "0,3"], "above 0 and at most 1000 pixels, got 0"),
        (["--line", "5,3", "--kernel", "kernel.npy"], "not allowed with"),
    ],
)
def test_unusable_values_of_options(
    photo: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["deblur", str(photo), "-o", "sharp.png", *options])
    assert exit_.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".npy", ".png"])
def test_a_saved_kernel_is_used_as_a_known_one(
    tmp_path: Path, photo: Path, small_weights: Path, model: list[str], suffix: str
) -> None:
    first, second, kernel = tmp_path / "1.png", tmp_path / "2.png", tmp_path / f"kernel{suffix}"
    assert main(["deblur", str(photo), "-o", str(first), "--save-kernel", str(kernel), *model]) == 0
    assert main(["deblur", str(photo), "-o", str(second), "--kernel", str(kernel), *model]) == 0
    deblurrer = Deblurrer.from_pretrained(small_weights, device="cpu")
    with Image.open(photo) as image:
        expected = deblurrer.deblur(image, deblurrer.estimate_kernel(image)).image
    with Image.open(second) as two:
        difference = numpy.asarray(expected).astype(int) - numpy.asarray(two)
    assert numpy.abs(difference).max() <= (1 if suffix == ".npy" else 2)


def test_estimate_writes_the_kernel_that_deblur_uses(tmp_path: Path, photo: Path, model: list[str]) -> None:
    assert main(["estimate", str(photo), "-o", str(tmp_path / "estimated.npy"), *model]) == 0
    saved = ["--save-kernel", str(tmp_path / "used.npy")]
    assert main(["deblur", str(photo), "-o", str(tmp_path / "sharp.png"), *saved, *model]) == 0
    assert (tmp_path / "estimated.npy").read_bytes() == (tmp_path / "used.npy").read_bytes()
    assert read_kernel(tmp_path / "used.npy").sum() == pytest.approx(1, abs=1e-5)


def test_estimates_of_a_folder(tmp_path: Path, folder: Path, model: list[str]) -> None:
    assert main(["estimate", str(folder), "-o", str(tmp_path / "kernels"), *model]) == 1
    assert names(tmp_path / "kernels") == ["a-kernel.png", "c-kernel.png"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.jpg", None, "there is no file"),
        ("text.jpg", b"no image", "is not a JPEG, PNG, TIFF, WebP, HEIC or AVIF image"),
        ("cut.png", "cut", "is truncated or damaged"),
        ("tiny.png", "tiny", "at least 16x16 pixels, got 40x15"),
    ],
)
def test_unusable_photographs(
    tmp_path: Path,
    model: list[str],
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | str | None,
    words: str,
) -> None:
    path = tmp_path / name
    if content == "cut":
        picture().save(path)
        path.write_bytes(path.read_bytes()[:150])
    elif content == "tiny":
        picture(15, 40).save(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    before = names(tmp_path)
    assert main(["deblur", str(path), "-o", str(tmp_path / "sharp.png"), *model]) == 1
    assert words in one_sentence(capsys)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("photo.png", "inputs are never overwritten"),
        ("./sub/../photo.png", "inputs are never overwritten"),
        ("link.png", "inputs are never overwritten"),
        ("taken.png", "exists; --overwrite replaces it"),
        ("sharp.gif", "must end with one of .jpg"),
        ("sharp", "must end with one of .jpg"),
        ("taken.png/sharp.png", "cannot make the folder"),
    ],
)
def test_unusable_outputs(
    tmp_path: Path,
    photo: Path,
    model: list[str],
    capsys: pytest.CaptureFixture[str],
    output: str,
    words: str,
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "taken.png").write_bytes(b"precious")
    (tmp_path / "link.png").symlink_to(photo)
    before, pixels = names(tmp_path), photo.read_bytes()
    assert main(["deblur", str(photo), "-o", str(tmp_path / output), *model]) == 1
    assert words in one_sentence(capsys)
    assert names(tmp_path) == before
    assert photo.read_bytes() == pixels
    assert (tmp_path / "taken.png").read_bytes() == b"precious"


def test_a_result_that_cannot_be_written_leaves_nothing(
    tmp_path: Path,
    photo: Path,
    model: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["deblur", str(photo), "-o", str(tmp_path / "sharp.png"), *model]) == 1
    assert "sharp.png: No space left on device" in one_sentence(capsys)
    assert names(tmp_path) == ["photo.png"]


def test_overwrite_replaces_results_but_never_inputs(
    tmp_path: Path, photo: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sharp.png").write_bytes(b"old")
    assert main(["deblur", str(photo), "-o", str(tmp_path / "sharp.png"), "--overwrite", *model]) == 0
    assert (tmp_path / "sharp.png").read_bytes() != b"old"
    assert main(["deblur", str(tmp_path), "-o", str(tmp_path), "--overwrite", *model]) == 1
    assert "inputs are never overwritten" in one_sentence(capsys)
    kernel = ["--save-kernel", str(photo)]
    assert main(["deblur", str(photo), "-o", str(tmp_path / "x.png"), "--overwrite", *kernel, *model]) == 1
    assert "inputs are never overwritten" in one_sentence(capsys)


def test_several_photographs_need_separate_results(
    tmp_path: Path, folder: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    picture().save(other / "a.png")
    assert main(["deblur", str(folder), str(other), "-o", str(tmp_path / "sharp"), *model]) == 1
    assert "two results would both be written to" in one_sentence(capsys)
    assert not (tmp_path / "sharp").exists()
    file = tmp_path / "file.png"
    file.write_bytes(b"")
    assert main(["deblur", str(folder), "-o", str(file), *model]) == 1
    assert "need an output folder" in one_sentence(capsys)


def test_a_folder_without_photographs(
    tmp_path: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["deblur", str(tmp_path / "empty"), "-o", str(tmp_path / "sharp"), *model]) == 1
    assert "holds no JPEG, PNG, TIFF, WebP, HEIC or AVIF photograph" in one_sentence(capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "sharpest"], "unknown model 'sharpest'"),
        (["--model", "photo.png"], "is damaged or not a safetensors file"),
        (["--device", "cuda:99"], "'cuda:99' is not available"),
        (["--kernel", "missing.npy"], "there is no file missing.npy"),
        (["--kernel", "black.png"], "black.png holds no blur kernel"),
        (["--tile-size", "8"], "tile_size must be at least"),
        (["--region", "0,0,50,20"], "must lie in the image of 41x33 pixels"),
        (["--region", "0,0,20,20", "--line", "5,3"], "with a given blur kernel"),
    ],
)
def test_unusable_options(
    tmp_path: Path,
    photo: Path,
    model: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("L", (9, 9)).save("black.png")
    assert main(["deblur", "photo.png", "-o", "sharp.png", *model, *options]) == 1
    assert words in one_sentence(capsys)
    assert not Path("sharp.png").exists()


def test_lost_properties_are_reported(
    tmp_path: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    image = picture()
    image.putalpha(120)
    image.save(tmp_path / "photo.png")
    assert main(["deblur", str(tmp_path / "photo.png"), "-o", str(tmp_path / "sharp.jpg"), *model]) == 0
    assert "note:" in one_sentence(capsys)


def test_sampled_kernels_depend_on_the_seed_alone(tmp_path: Path) -> None:
    def sampled(name: str, seed: int) -> bytes:
        assert main(["sample-kernels", "5", "-o", str(tmp_path / name), "--seed", str(seed)]) == 0
        return (tmp_path / name).read_bytes()

    assert sampled("a.npy", 3) == sampled("b.npy", 3)
    assert sampled("c.npy", 4) != sampled("a2.npy", 3)
    kernels = torch.from_numpy(numpy.load(tmp_path / "a.npy"))
    assert kernels.shape == (5, 31, 31)
    assert torch.allclose(kernels.sum((1, 2)), torch.ones(5))


def test_sampled_kernels_as_folder_and_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sample-kernels", "11", "-o", f"{tmp_path}/kernels/", "--size-class", "1"]
    assert main(arguments) == 0
    assert len(names(tmp_path / "kernels")) == 11
    kernel = read_kernel(tmp_path / "kernels" / "kernel-00.png")
    assert 33 <= kernel.shape[0] <= 61
    assert main(["sample-kernels", "4", "-o", str(tmp_path / "sheet.png"), "--canvas", "15"]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == sheet.height > 2 * 90
    assert main(["sample-kernels", "4", "-o", str(tmp_path / "sheet.png")]) == 1
    assert "exists" in one_sentence(capsys)
    assert main(["sample-kernels", "4", "-o", str(tmp_path / "x.png"), "--canvas", "8"]) == 1
    assert "must be odd" in one_sentence(capsys)
    assert main(["sample-kernels", "0", "-o", str(tmp_path / "x.png")]) == 1
    assert "at least 1, got 0" in one_sentence(capsys)


def test_info_names_versions_devices_and_operators(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    report = capsys.readouterr().out
    for words in (
        __version__,
        torch.__version__,
        "built with",
        "CPU (",
        "operator cross_correlation",
        "Pillow",
    ):
        assert words in report


def test_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "asnet", "deblur", "missing.jpg", "-o", "sharp.jpg", "--model", "none"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 1
    assert finished.stderr.startswith("asnet: unknown model 'none'")
    assert finished.stderr.count("\n") == 1
    assert finished.stdout == ""


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"asnet {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["deblur"], ["estimate"], ["serve"], ["sample-kernels"], ["train"], ["info"]]
)
def test_help_of_every_subcommand(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--help"])
    assert exit_.value.code == 0
    assert "usage: asnet" in capsys.readouterr().out


def test_an_output_is_required(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["deblur", str(photo)])
    assert exit_.value.code == 2
    assert "-o/--output" in capsys.readouterr().err
