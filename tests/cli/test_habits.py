"""How people give files to the command: folders in folders, streams, runs that are stopped, wrong names."""

import io
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy
import pytest
from messages import one_sentence
from PIL import Image

from asnet.cli import batch
from asnet.cli.main import main
from asnet.deblurring.deblurrer import Deblurrer
from asnet.imaging.containers import Chunk, joined_png


def picture(seed: int = 0, height: int = 33, width: int = 41) -> Image.Image:
    generator = numpy.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 7, 3), dtype=numpy.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def sharp_picture() -> Image.Image:
    generator = numpy.random.default_rng(3)
    coarse = generator.integers(0, 256, (6, 7, 3), dtype=numpy.uint8)
    return Image.fromarray(coarse).resize((42, 36), Image.Resampling.NEAREST)


@pytest.fixture
def model(small_weights: Path) -> list[str]:
    return ["--model", str(small_weights), "--device", "cpu"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Photographs in a folder and its subfolders, and files that other systems leave beside them."""
    folder = tmp_path / "holiday"
    for name in ("a.png", "day 1/a.png", "day 1/deep/b.png", ".trash/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(folder / name)
    for name in ("._a.png", "day 1/._a.png", ".hidden.jpg"):
        (folder / name).write_bytes(b"\0\5\x16\7 not a photograph")
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("command", ["deblur", "estimate"])
def test_an_empty_name_is_not_the_current_folder(
    tmp_path: Path,
    model: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    picture().save("photo.png")
    for arguments in (["", "-o", "z.png"], ["photo.png", "", "-o", "z/"], ["photo.png", "-o", ""]):
        with pytest.raises(SystemExit) as exit_:
            main([command, *arguments, *model])
        assert exit_.value.code == 2
        assert "must not be empty" in capsys.readouterr().err
    assert files(tmp_path) == ["photo.png"]


@pytest.mark.parametrize("name", ["one.jpg", "one.PNG", "one.tiff"])
def test_several_photographs_do_not_go_to_a_folder_named_like_a_file(
    tmp_path: Path, tree: Path, model: list[str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    target = tmp_path / name
    inputs = [str(tree / "a.png"), str(tree / "day 1/deep/b.png")]
    assert main(["deblur", *inputs, "-o", str(target), *model]) == 1
    assert "is named like a file" in one_sentence(capsys)
    assert not target.exists()
    assert main(["deblur", *inputs, "-o", f"{target}/", *model]) == 0
    assert files(target) == ["a.png", "b.png"]


def test_hidden_files_are_passed_over(tmp_path: Path, tree: Path, model: list[str]) -> None:
    assert main(["deblur", str(tree), "-o", str(tmp_path / "sharp"), *model]) == 0
    assert files(tmp_path / "sharp") == ["a.png"]


def test_subfolders_are_mirrored(tmp_path: Path, tree: Path, model: list[str]) -> None:
    # The results lie within the folder: a second run must not take them for photographs.
    target = tree / "sharp"
    options = ["--recursive", "--save-kernel", f"{target}/k/"]
    arguments = ["deblur", str(tree), "-o", str(target), *options, *model]
    assert main(arguments) == 0
    expected = ["a.png", "day 1/a.png", "day 1/deep/b.png"]
    kernels = ["k/a-kernel.png", "k/day 1/a-kernel.png", "k/day 1/deep/b-kernel.png"]
    assert files(target) == sorted(expected + kernels)
    assert main([*arguments, "--overwrite"]) == 0
    assert files(target) == sorted(expected + kernels)


def test_a_run_that_was_stopped_goes_on(
    tmp_path: Path,
    tree: Path,
    model: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / "sharp"
    done = []
    deblur = Deblurrer.deblur

    def counted(*arguments: object, **options: object) -> object:
        done.append(arguments)
        if len(done) == 3:
            raise KeyboardInterrupt
        return deblur(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Deblurrer, "deblur", counted)
    arguments = ["deblur", str(tree), "-o", str(target), "--recursive", "--skip-existing", *model]
    assert main(arguments) == 130
    first = {name: (target / name).stat().st_mtime_ns for name in files(target)}
    assert len(first) == 2
    assert main(arguments) == 0
    assert len(done) == 4
    assert "2 of 3 photographs skipped: their outputs exist" in capsys.readouterr().err
    assert len(files(target)) == 3
    assert {name: (target / name).stat().st_mtime_ns for name in first} == first
    assert main(arguments) == 0
    assert len(done) == 4


def test_stems_that_collide_get_names_that_differ(tmp_path: Path, model: list[str]) -> None:
    folder, target = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "a.jpg", "b.png"):
        picture().save(folder / name)
    assert main(["deblur", str(folder), "-o", str(target), "--save-kernel", f"{target}/", *model]) == 0
    assert files(target) == [
        "a-jpg-kernel.png",
        "a-png-kernel.png",
        "a.jpg",
        "a.png",
        "b-kernel.png",
        "b.png",
    ]


def test_files_that_asnet_does_not_write_become_jpeg(tmp_path: Path, model: list[str]) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    folder, target = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    picture().save(folder / "a.heic", quality=95)
    picture().save(folder / "a.jpg")
    picture().save(folder / "b.heic", quality=95)
    assert main(["deblur", str(folder), "-o", str(target), *model]) == 0
    assert files(target) == ["a-heic.jpg", "a-jpg.jpg", "b.jpg"]


def test_raw_files_are_named_not_silently_skipped(
    tmp_path: Path, tree: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "photo.NEF").write_bytes(b"raw")
    assert main(["deblur", str(tree), "-o", str(tmp_path / "sharp"), *model]) == 0
    assert "1 camera raw file (photo.NEF)" in capsys.readouterr().err
    (tree / "a.png").unlink()
    assert main(["deblur", str(tree), "-o", str(tmp_path / "sharp2"), *model]) == 1
    assert "raw file" in one_sentence(capsys)


def test_pictures_of_other_formats_are_named_not_silently_skipped(
    tmp_path: Path, tree: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("scan.bmp", "day 1/film.GIF"):
        picture().save(tree / name)
    assert main(["deblur", str(tree), "-o", str(tmp_path / "sharp"), "--recursive", *model]) == 0
    assert "2 images (scan.bmp, film.GIF) in formats that asnet does not read" in capsys.readouterr().err
    (tree / "a.png").unlink()
    assert main(["deblur", str(tree), "-o", str(tmp_path / "sharp2"), *model]) == 1
    assert "1 image (scan.bmp) in formats that asnet does not read" in one_sentence(capsys)


def test_file_names_neither_break_a_message_nor_control_the_terminal(
    tmp_path: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "a\nb\x1b[31m \u202fé.jpg"
    odd.write_bytes(b"no photograph")
    result = tmp_path / "result.jpg"
    assert main(["deblur", str(odd), "-o", str(result), *model]) == 1
    assert "a\\nb\\x1b[31m \u202fé.jpg is not a JPEG" in one_sentence(capsys)
    picture().save(odd)
    assert main(["deblur", str(odd), "-o", str(result), *model]) == 0
    assert result.is_file()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_an_unchanged_photograph_is_the_same_file(
    tmp_path: Path, model: list[str], capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    source, target = tmp_path / f"source{suffix}", tmp_path / f"target{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {"quality": 98, "subsampling": 0}
    sharp_picture().save(source, comment=b"words", **options)
    assert main(["deblur", str(source), "-o", str(target), *model]) == 0
    assert "left unchanged" in one_sentence(capsys)
    assert target.read_bytes() == source.read_bytes()
    other = tmp_path / "target.tif"
    assert main(["deblur", str(source), "-o", str(other), *model]) == 0
    with Image.open(other) as written:
        assert written.format == "TIFF"


def test_links_are_followed_and_stay(tmp_path: Path, model: list[str]) -> None:
    picture().save(tmp_path / "photo.png")
    link, real = tmp_path / "link.png", tmp_path / "real.png"
    real.write_bytes(b"old")
    link.symlink_to(real)
    assert main(["deblur", str(tmp_path / "photo.png"), "-o", str(link), "--overwrite", *model]) == 0
    assert link.is_symlink()
    assert real.read_bytes() != b"old"


def test_broken_links_are_reported_and_affect_nothing_else(
    tmp_path: Path, tree: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "gone.jpg").symlink_to(tmp_path / "another disk" / "gone.jpg")
    assert main(["deblur", str(tree), "-o", str(tmp_path / "out"), *model]) == 1
    assert f"there is no file {tree / 'gone.jpg'}" in capsys.readouterr().err
    assert files(tmp_path / "out") == ["a.png"]


def test_decoders_in_c_add_nothing_to_the_sentence(tmp_path: Path, model: list[str]) -> None:
    """In a separate process, because decoders write to its descriptors."""
    lzw, deep = tmp_path / "photo.tif", tmp_path / "photo.png"
    values = numpy.random.default_rng(0).integers(0, 65536, (40, 50, 3), dtype=numpy.uint16)
    Image.fromarray(values.astype(numpy.uint8)).save(lzw, compression="tiff_lzw")
    data = bytearray(lzw.read_bytes())
    for place in range(100, 3000, 97):
        data[place] ^= 0x5A
    lzw.write_bytes(data)
    # No compression has this number.
    header = struct.pack(">IIBBBBB", 50, 40, 16, 2, 7, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))
    deep.write_bytes(joined_png((Chunk(b"IHDR", header), Chunk(b"IDAT", content), Chunk(b"IEND", b""))))
    options = ["-o", str(tmp_path / "out"), *model]
    command = [sys.executable, "-m", "asnet", "deblur", str(lzw), str(deep), *options]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 1
    bar = re.compile("deblurring:|\\s*$")
    lines = (line for line in finished.stderr.splitlines() if not bar.match(line))
    *failures, summary = lines
    assert summary == "asnet: 2 of 2 photographs failed"
    for path, line in zip((lzw, deep), failures, strict=True):
        assert line.startswith(f"asnet: {path} is truncated or damaged: ")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_streams(model: list[str], monkeypatch: pytest.MonkeyPatch, file_format: str) -> None:
    given, returned = io.BytesIO(), io.BytesIO()
    picture().save(given, file_format)
    given.seek(0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(given))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(returned))
    assert main(["deblur", "-", "-o", "-", *model]) == 0
    with Image.open(io.BytesIO(returned.getvalue())) as result:
        assert (result.format, result.size) == (file_format, (41, 33))


def test_streams_that_make_no_sense(
    tmp_path: Path, model: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture().save(tmp_path / "a.png")
    photo = str(tmp_path / "a.png")
    for arguments, words in (
        (["-", photo, "-o", str(tmp_path / "out")], "cannot be combined with others"),
        (["-", "-o", f"{tmp_path}/"], "a stream is one photograph"),
        ([photo, photo, "-o", "-"], "a stream is one photograph"),
        ([photo, "-o", "-", "--save-kernel", "-"], "only the deblurred photograph"),
    ):
        assert main(["deblur", *arguments, *model]) == 1
        assert words in one_sentence(capsys)
    assert files(tmp_path) == ["a.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"none")))
    assert main(["deblur", "-", "-o", "-", *model]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("asnet: standard input is not a JPEG")


def test_a_limit_on_pixels_can_be_set(
    tmp_path: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    picture().save(tmp_path / "a.png")
    arguments = ["deblur", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), *model]
    assert main([*arguments, "--max-pixels", "1000"]) == 1
    assert "41x33 pixels, more than the limit of 1000; --max-pixels raises it" in one_sentence(capsys)
    assert main([*arguments, "--max-pixels", "1353"]) == 0


def test_several_at_a_time_give_what_one_at_a_time_gives(
    tmp_path: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(5):
        picture(seed).save(folder / f"{seed}.png")
    (folder / "broken.png").write_bytes(b"none")
    assert main(["deblur", str(folder), "-o", str(tmp_path / "one"), *model]) == 1
    assert main(["deblur", str(folder), "-o", str(tmp_path / "more"), "--jobs", "3", *model]) == 1
    assert capsys.readouterr().err.count("1 of 6 photographs failed") == 2
    assert files(tmp_path / "one") == files(tmp_path / "more")
    for name in files(tmp_path / "one"):
        pair = [numpy.asarray(Image.open(tmp_path / run / name)).astype(int) for run in ("one", "more")]
        # Sums in another order round differently.
        assert numpy.abs(pair[0] - pair[1]).max() <= 2


def test_an_error_in_one_of_many_names_the_file(
    tmp_path: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    picture().save(folder / "a.png")
    picture(height=10).save(folder / "tiny.png")
    assert main(["deblur", str(folder), "-o", str(tmp_path / "out"), *model]) == 1
    assert "tiny.png: an image must have at least 16x16 pixels" in capsys.readouterr().err


def test_jobs_are_fewer_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(batch, "_available_memory", lambda: 3 * batch.MEMORY_OF_PHOTOGRAPH // 2)
    done = []
    assert batch.work_through(["a", "b"], lambda item: done.append(item) or [], Path, "doing", jobs=2) == 0
    assert done == ["a", "b"]
    assert "--jobs 2 reduced to 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory for b"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
        (RuntimeError("some\nthing"), "b failed unexpectedly, please report this: RuntimeError some thing"),
        (TypeError("wrong"), "b failed unexpectedly"),
    ],
)
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_affects_only_its_own_photograph(
    capsys: pytest.CaptureFixture[str], error: Exception, words: str, jobs: int
) -> None:
    done = []

    def process(item: str) -> list[str]:
        if item == "b":
            raise error
        done.append(item)
        return []

    assert batch.work_through(["a", "b", "c"], process, Path, "doing", jobs=jobs) == 1
    assert sorted(done) == ["a", "c"]
    assert words in capsys.readouterr().err
