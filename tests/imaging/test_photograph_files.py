"""Photographs as files: reading and writing keeps what a file holds."""

import io
from pathlib import Path

import numpy
import pytest
import torch
from PIL import ExifTags, Image, ImageCms

from asnet.errors import ImageFileError
from asnet.imaging import read_photograph, unit_range, write_photograph

RGB = numpy.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=numpy.uint8)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = orientation
    block[ExifTags.Base.Make] = "Maker"
    block.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] = 2.5
    block[ExifTags.IFD.Exif] = 0
    return block


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_survive_reading_and_writing(tmp_path: Path, suffix: str, mode: str) -> None:
    source, target = tmp_path / "source.png", tmp_path / f"target{suffix}"
    smooth = Image.fromarray(RGB).resize((30, 20)).resize((4, 3)).resize((60, 40), Image.Resampling.BICUBIC)
    smooth.convert(mode).save(source)
    write_photograph(target, read_photograph(source))
    before, after = (unit_range(read_photograph(path).pixels) for path in (source, target))
    assert before.shape[0] == (3 if mode == "RGB" else 1)
    if suffix == ".webp":
        # WebP has no grey.
        before = before.expand_as(after)
    largest_error = {".png": 0.0, ".tif": 0.0}.get(suffix, 12 / 255)
    assert before.shape == after.shape
    assert (before - after).abs().max() <= largest_error


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_keeps_its_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    values = (numpy.arange(600, dtype=numpy.uint16) * 109).reshape(20, 30)
    source, target = tmp_path / f"source{suffix}", tmp_path / f"target{suffix}"
    Image.fromarray(values).save(source)
    photograph = read_photograph(source)
    assert photograph.bits == 16
    assert photograph.pixels.shape == (1, 20, 30)
    assert write_photograph(target, photograph) == ()
    with Image.open(target) as picture:
        assert numpy.array_equal(numpy.asarray(picture), values)


def test_sixteen_bits_that_a_format_cannot_hold_are_reported(tmp_path: Path) -> None:
    Image.fromarray(numpy.full((20, 30), 40000, dtype=numpy.uint16)).save(tmp_path / "grey.png")
    notes = write_photograph(tmp_path / "grey.jpg", read_photograph(tmp_path / "grey.png"))
    assert len(notes) == 1
    assert "8 bits" in notes[0]
    with Image.open(tmp_path / "grey.jpg") as picture:
        assert abs(int(numpy.asarray(picture)[5, 5]) - 40000 // 257) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_reset(tmp_path: Path, orientation: int) -> None:
    source, target = tmp_path / "source.png", tmp_path / "target.png"
    Image.fromarray(RGB).save(source, exif=exif(orientation))
    write_photograph(target, read_photograph(source))
    with Image.open(source) as before, Image.open(target) as after:
        from PIL import ImageOps

        assert numpy.array_equal(numpy.asarray(ImageOps.exif_transpose(before)), numpy.asarray(after))
        kept = after.getexif()
        assert ExifTags.Base.Orientation not in kept
        assert kept[ExifTags.Base.Make] == "Maker"
        assert float(kept.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber]) == 2.5


@pytest.mark.parametrize("source_suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("target_suffix", [".jpg", ".png", ".tif", ".webp"])
def test_profile_and_exif_pass_between_formats(
    tmp_path: Path, source_suffix: str, target_suffix: str
) -> None:
    source, target = tmp_path / f"source{source_suffix}", tmp_path / f"target{target_suffix}"
    Image.fromarray(RGB).save(source, icc_profile=PROFILE, exif=exif(6))
    write_photograph(target, read_photograph(source))
    with Image.open(target) as picture:
        assert picture.size == (20, 30)
        assert picture.info["icc_profile"] == PROFILE
        assert picture.getexif()[ExifTags.Base.Make] == "Maker"
        assert picture.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] == 2.5
        assert picture.getexif().get(ExifTags.Base.Orientation, 1) == 1


def test_resolution_is_kept(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "source.jpg", dpi=(240, 240))
    write_photograph(tmp_path / "target.png", read_photograph(tmp_path / "source.jpg"))
    with Image.open(tmp_path / "target.png") as picture:
        assert picture.info["dpi"] == pytest.approx((240, 240), abs=0.1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_kept(tmp_path: Path, mode: str) -> None:
    alpha = (numpy.arange(600) % 251).astype(numpy.uint8).reshape(20, 30)
    picture = Image.fromarray(RGB).convert("L" if mode == "LA" else "RGB")
    if mode == "P":
        picture = picture.quantize(16)
        picture.save(tmp_path / "source.png", transparency=3)
        alpha = numpy.where(numpy.asarray(picture) == 3, 0, 255).astype(numpy.uint8)
    else:
        picture.putalpha(Image.fromarray(alpha))
        picture.save(tmp_path / "source.png")
    photograph = read_photograph(tmp_path / "source.png")
    assert photograph.pixels.shape[0] == (1 if mode == "LA" else 3)
    for suffix in (".png", ".tif", ".webp"):
        write_photograph(tmp_path / f"target{suffix}", photograph)
        with Image.open(tmp_path / f"target{suffix}") as written:
            assert numpy.array_equal(numpy.asarray(written.getchannel("A")), alpha)
    notes = write_photograph(tmp_path / "target.jpg", photograph)
    assert "JPEG cannot hold transparency" in notes[0]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "print.tif")
    photograph = read_photograph(tmp_path / "print.tif")
    assert photograph.pixels.shape == (3, 20, 30)
    assert (unit_range(photograph.pixels) - torch.from_numpy(RGB / 255).permute(2, 0, 1)).abs().max() < 0.01


def test_the_first_of_several_pictures_is_taken(tmp_path: Path) -> None:
    first, second = Image.new("L", (20, 30), 10), Image.new("L", (20, 30), 200)
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    photograph = read_photograph(tmp_path / "pages.tif")
    assert torch.all(photograph.pixels == 10)
    assert "several pictures" in photograph.notes[0]


def damaged(name: str) -> bytes:
    if name == "text.jpg":
        return b"this is no image"
    if name == "empty.png":
        return b""
    buffer = io.BytesIO()
    kinds = {"cut.jpg": "JPEG", "cut.png": "PNG", "cut.tif": "TIFF", "cut.webp": "WEBP"}
    Image.fromarray(RGB).save(buffer, format=kinds[name])
    data = buffer.getvalue()
    return data[: len(data) * 2 // 3]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text.jpg", "is not a JPEG, PNG, TIFF, WebP, HEIC or AVIF image"),
        ("empty.png", "is empty"),
        ("cut.jpg", "is truncated or damaged"),
        ("cut.png", "is truncated or damaged"),
        ("cut.tif", "is truncated or damaged|is not a JPEG, PNG, TIFF, WebP, HEIC or AVIF image"),
        ("cut.webp", "is truncated or damaged|is not a JPEG, PNG, TIFF, WebP, HEIC or AVIF image"),
        ("missing.png", "there is no file"),
    ],
)
def test_unusable_files_are_named_in_one_sentence(tmp_path: Path, name: str, words: str) -> None:
    if name != "missing.png":
        (tmp_path / name).write_bytes(damaged(name))
    with pytest.raises(ImageFileError, match=words) as error:
        read_photograph(tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_full_device_is_reported_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(RGB).save(tmp_path / "source.png")
    photograph = read_photograph(tmp_path / "source.png")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ImageFileError, match=r"cannot write .*target.png: No space left on device"):
        write_photograph(tmp_path / "target.png", photograph)
    assert [path.name for path in tmp_path.iterdir()] == ["source.png"]
