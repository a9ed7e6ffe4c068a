from pathlib import Path

import numpy
import pytest
import tifffile
import torch
from PIL import Image, features

from asnet.data.photograph_pool import Photographs
from asnet.errors import ImageFileError, InputError


def write(path: Path, width: int, height: int, seed: int = 0) -> numpy.ndarray:
    pixels = numpy.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=numpy.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_photographs_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    second = write(tmp_path / "b.png", 20, 16, seed=1)
    first = write(tmp_path / "a.tif", 17, 18, seed=2)
    write(tmp_path / "c.JPG", 30, 30)
    (tmp_path / "notes.txt").write_text("no photograph")
    (tmp_path / "folder.png").mkdir()
    photographs = Photographs(tmp_path)
    assert photographs.names == ["a.tif", "b.png", "c.JPG"]
    assert len(photographs) == 3
    for index, pixels in enumerate((first, second)):
        expected = torch.from_numpy(pixels).movedim(-1, 0).float() / 255
        torch.testing.assert_close(photographs[index], expected)
    assert [tuple(photograph.shape) for photograph in photographs] == [(3, 18, 17), (3, 16, 20), (3, 30, 30)]


def test_orientation_tags_are_applied(tmp_path: Path) -> None:
    pixels = numpy.zeros((16, 24, 3), dtype=numpy.uint8)
    pixels[:8, :, 0] = 255  # as stored, the upper half is red
    tags = Image.Exif()
    tags[0x0112] = 6  # rotated clockwise by 90 degrees for display
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=tags, quality=95, subsampling=0)
    photograph = Photographs(tmp_path)[0]
    assert photograph.shape == (3, 24, 16)
    assert (photograph[0, :, 9:] > 0.9).all()
    assert (photograph[0, :, :7] < 0.1).all()


def test_grey_deep_palette_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    grey = Image.fromarray(numpy.full((16, 16), 100, dtype=numpy.uint8))
    grey.save(tmp_path / "grey.png")
    Image.fromarray(numpy.full((16, 16), 100 * 257, dtype=numpy.uint16)).save(tmp_path / "grey16.png")
    grey.convert("P").save(tmp_path / "palette.png")
    grey.convert("RGBA").save(tmp_path / "transparent.webp", lossless=True)
    tifffile.imwrite(tmp_path / "rgb16.tif", numpy.full((16, 16, 3), 100 * 257, dtype=numpy.uint16))
    if features.check("avif"):
        grey.save(tmp_path / "grey.avif", quality=100)
    photographs = Photographs(tmp_path)
    assert len(photographs) == 5 + bool(features.check("avif"))
    for photograph in photographs:
        torch.testing.assert_close(photograph, torch.full((3, 16, 16), 100 / 255), rtol=0, atol=0.01)


def test_crops_are_pieces_of_the_photographs_in_every_orientation(tmp_path: Path) -> None:
    # Red encodes the column and green the row, so a crop shows where it comes from and its orientation.
    columns, rows = numpy.meshgrid(numpy.arange(40), numpy.arange(30))
    Image.fromarray(numpy.stack((columns, rows, 0 * rows), -1).astype(numpy.uint8)).save(tmp_path / "map.png")
    photographs = Photographs(tmp_path)
    crops = (photographs.crops(400, 8, generator=generator()) * 255).round()
    assert crops.shape == (400, 3, 8, 8)
    assert crops.dtype == torch.float32
    orientations, corners = set(), set()
    for crop in crops:
        transposed = bool(crop[0, 0, 0] == crop[0, 0, 1])
        column, row = crop[:2].transpose(-2, -1) if transposed else crop[:2]
        flipped = bool(column[0, 0] > column[0, 1])
        step = -1 if flipped else 1
        first = column[0, 0]
        assert torch.equal(column, (first + step * torch.arange(8.0)).expand(8, 8))
        assert torch.equal(row, (row[0, 0] + torch.arange(8.0))[:, None].expand(8, 8))
        orientations.add((transposed, flipped))
        corners.add((int(column.min()), int(row.min())))
    assert len(orientations) == 4
    left, top = zip(*corners, strict=True)
    assert (min(left), max(left), min(top), max(top)) == (0, 32, 0, 22)


def test_every_photograph_is_drawn(tmp_path: Path) -> None:
    for level in (10, 20, 30):
        Image.new("RGB", (16, 16), (level, 0, 0)).save(tmp_path / f"{level}.png")
    crops = Photographs(tmp_path).crops(60, 16, generator=generator())
    assert set((crops[:, 0, 0, 0] * 255).round().tolist()) == {10, 20, 30}


def test_the_same_seed_gives_the_same_crops(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 60, 50)
    photographs = Photographs(tmp_path)
    first = photographs.crops(5, 20, generator=generator(1))
    assert torch.equal(first, photographs.crops(5, 20, generator=generator(1)))
    assert not torch.equal(first, photographs.crops(5, 20, generator=generator(2)))


def test_a_photograph_smaller_than_the_crop_is_named(tmp_path: Path) -> None:
    write(tmp_path / "large.png", 60, 60)
    write(tmp_path / "small.png", 60, 20)
    photographs = Photographs(tmp_path)
    assert photographs.crops(3, 20, generator=generator()).shape == (3, 3, 20, 20)
    with pytest.raises(InputError, match=r"small\.png has 60x20 pixels.*21x21"):
        photographs.crops(3, 21, generator=generator())


def test_unusable_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent does not exist"):
        Photographs(tmp_path / "absent")
    with pytest.raises(InputError, match="holds no"):
        Photographs(tmp_path)


@pytest.mark.parametrize("kind", ["truncated", "not an image", "empty"])
def test_a_broken_photograph_is_named(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "good.jpg", 40, 40)
    whole = (tmp_path / "good.jpg").read_bytes()
    content = {"truncated": whole[: len(whole) // 2], "not an image": b"hello", "empty": b""}[kind]
    (tmp_path / "broken.jpg").write_bytes(content)
    with pytest.raises(ImageFileError, match=r"broken\.jpg"):
        Photographs(tmp_path)
