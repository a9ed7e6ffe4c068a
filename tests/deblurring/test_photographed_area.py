"""Bars, frames and transparency are separated from the photographed area, to the pixel where possible."""

from io import BytesIO
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn import functional

from asnet.data import blur
from asnet.deblurring import tiles
from asnet.deblurring.canvas import Canvas
from asnet.deblurring.photographed_area import fill_smoothly, photographed_area
from asnet.imaging import tensor_from_picture, unit_range

EXAMPLES = Path(__file__).parents[2] / "examples"

#: Left, top, right and bottom.
BORDERS = {
    "pillarbox": (80, 0, 80, 0),
    "letterbox": (0, 50, 0, 50),
    "frame": (21, 21, 21, 21),
    "polaroid": (12, 12, 12, 70),
    "one side": (0, 0, 33, 0),
    "one pixel": (1, 0, 0, 0),
}

COLOURS = {"black": (0, 0, 0), "video black": (16, 16, 16), "white": (255, 255, 255), "red": (200, 30, 60)}


def example(name: str = "blurred.jpg") -> Image.Image:
    with Image.open(EXAMPLES / name) as picture:
        return picture.convert("RGB").resize((300, 200), box=(20, 20, 320, 220))


def found(picture: Image.Image) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the photograph."""
    rows, columns = photographed_area(tensor_from_picture(picture)).rectangle
    return columns.start, rows.start, columns.stop, rows.stop


def framed(borders: tuple[int, int, int, int], colour: tuple[int, int, int]) -> Image.Image:
    return ImageOps.expand(example(), borders, colour)


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality, subsampling=2)
    return Image.open(file).convert("RGB")


def step_picture(brightness: torch.Tensor) -> torch.Tensor:
    """White minus a texture, whose weight in each row is the profile's distance from 1."""
    texture = 0.3 + 0.4 * torch.rand(1, 1, 60, generator=torch.Generator().manual_seed(0))
    return 1 - (1 - brightness[None, :, None]) * texture.expand(3, -1, -1)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("borders", BORDERS)
def test_borders_of_any_colour_are_found_to_the_pixel(borders: str, colour: str) -> None:
    left, top, right, bottom = BORDERS[borders]
    picture = framed((left, top, right, bottom), COLOURS[colour])
    assert found(picture) == (left, top, left + 300, top + 200)
    assert found(picture.convert("L")) == (left, top, left + 300, top + 200)


@pytest.mark.parametrize("quality", [75, 85, 95])
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("borders", ["pillarbox", "letterbox", "frame"])
def test_the_noise_of_jpeg_hides_no_border(borders: str, colour: str, quality: int) -> None:
    left, top, right, bottom = BORDERS[borders]
    place = found(as_jpeg(framed((left, top, right, bottom), COLOURS[colour]), quality))
    assert numpy.abs(numpy.subtract(place, (left, top, left + 300, top + 200))).max() <= 1


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_line_between_frame_and_photograph_belongs_to_the_frame(width: int) -> None:
    lined = ImageOps.expand(ImageOps.expand(example(), width, (0, 0, 0)), 30, (255, 255, 255))
    edge = 30 + width
    assert found(lined) == (edge, edge, edge + 300, edge + 200)
    assert found(as_jpeg(lined, 90)) == (edge, edge, edge + 300, edge + 200)


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.5, 2, 3, 4])
def test_bars_that_were_resized_with_the_photograph_are_found(factor: float) -> None:
    picture = framed(BORDERS["letterbox"], (0, 0, 0))
    resized = picture.resize(
        (round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC
    )
    left, top, right, bottom = found(resized)
    assert (left, right) == (0, resized.width)
    # No line of the bar is left, and no more than the filter's reach of the photograph is lost.
    assert -0.5 <= top - 50 * factor <= 4
    assert -0.5 <= 250 * factor - bottom <= 4


@pytest.mark.parametrize("level", [0.0, 1.0])
@pytest.mark.parametrize("size", [5, 9, 15])
def test_a_clipped_sky_is_photographed(level: float, size: int) -> None:
    sharp = tensor_from_picture(example("sharp.jpg"))
    columns = torch.arange(sharp.shape[2])
    roof = 80 + 15 * torch.sin(columns / 40)
    sharp = torch.where(torch.arange(sharp.shape[1])[:, None] < roof, torch.tensor(level), sharp)
    blurred = blur(sharp[None], torch.full((1, size, size), 1 / size**2))[0]
    kept_rows, kept_columns = photographed_area(blurred).rectangle
    assert (kept_rows.start, kept_columns.start) == (0, 0)


def test_only_a_step_ends_a_border() -> None:
    ends = (torch.ones(40), torch.zeros(60))
    assert photographed_area(step_picture(torch.cat(ends))).rectangle[0] == slice(40, 100)
    # A level horizon under a clipped sky, blurred.
    ramp = torch.linspace(1, 0, 12)[1:-1]
    assert photographed_area(step_picture(torch.cat([ends[0], ramp, ends[1]]))).rectangle[0].start == 0


@pytest.mark.parametrize("size", [(16, 16), (16, 40), (40, 17)])
def test_what_is_left_is_never_too_small(size: tuple[int, int]) -> None:
    constant = torch.full((3, *size), 0.5)
    assert photographed_area(constant).pixels.shape == constant.shape
    small = constant.clone()
    small[:, 5:12, 5:12] = torch.rand(3, 7, 7, generator=torch.Generator().manual_seed(1))
    assert min(photographed_area(small).pixels.shape[1:]) >= 16
    alpha = torch.zeros(size)
    alpha[0, -1] = 1
    area = photographed_area(small, alpha)
    assert min(area.pixels.shape[1:]) >= 16
    assert area.usable is not None
    assert area.usable.sum() == 1


def test_transparency_is_filled_without_a_step_and_told_apart() -> None:
    pixels = tensor_from_picture(example())
    rows, columns = torch.meshgrid(torch.arange(200) - 100, torch.arange(300) - 150, indexing="ij")
    inside = (rows / 80) ** 2 + (columns / 120) ** 2 < 1
    black = torch.where(inside, pixels, 0.0)
    area = photographed_area(black, inside.numpy().astype(numpy.uint8) * 255)
    assert area.rectangle == (slice(21, 180), slice(31, 270))
    assert area.usable is not None
    kept = inside[area.rectangle]
    assert torch.equal(area.usable[0, 0], kept)
    original = pixels[:, area.rectangle[0], area.rectangle[1]]
    assert torch.equal(area.pixels[:, kept], original[:, kept])
    steps = area.pixels.diff(dim=2).abs()
    crossing = kept[:, 1:] != kept[:, :-1]
    # The outline is no steeper than the photograph itself.
    assert steps[:, crossing].mean() < 2 * steps[:, kept[:, 1:] & kept[:, :-1]].mean()
    assert steps.max() <= (black.diff(dim=2).abs().max() / 2)


def test_dark_edges_and_shadows_of_a_cut_out_count_for_little() -> None:
    pixels = tensor_from_picture(example())
    alpha = torch.full((200, 300), 255, dtype=torch.uint8)
    alpha[:, :100] = torch.linspace(0, 250, 100).round().to(torch.uint8)
    dark = pixels * alpha / 255
    area = photographed_area(dark, alpha)
    usable = area.usable
    assert usable is not None
    assert not usable[..., : 95 - area.rectangle[1].start].any()
    assert usable[..., 100:].all()
    # Where the fade reaches black by itself no column of the filled image is dark.
    assert area.pixels.mean((0, 1)).min() > 0.7 * pixels[..., 100:].mean()


def test_even_opacity_and_opaque_pictures_are_photographed_all_over() -> None:
    pixels = tensor_from_picture(example())
    for alpha in (None, torch.full((200, 300), 77), torch.ones(200, 300)):
        area = photographed_area(pixels, alpha)
        assert area.usable is None
        assert torch.equal(area.pixels, pixels)


def test_transparent_margins_are_cut_off_like_bars() -> None:
    picture = framed(BORDERS["frame"], (0, 0, 0))
    alpha = torch.zeros(242, 342)
    alpha[21:-21, 21:-21] = 1
    area = photographed_area(tensor_from_picture(picture), alpha)
    assert area.usable is None
    assert torch.equal(area.pixels, tensor_from_picture(example()))


def test_a_result_goes_back_where_its_photograph_was() -> None:
    picture = tensor_from_picture(framed(BORDERS["pillarbox"], (0, 0, 0)))
    alpha = torch.ones(200, 460)
    alpha[:100, :200] = 0
    area = photographed_area(picture, alpha)
    canvas = Canvas(picture, area)
    canvas.put(slice(0, 70), slice(0, 300), torch.full((1, 3, 70, 300), 0.25))
    canvas.put(slice(70, 200), slice(0, 300), torch.full((1, 3, 130, 300), 0.25))
    expected = picture.clone()
    expected[:, 100:, 80:380] = 0.25
    expected[:, :100, 200:380] = 0.25
    assert torch.equal(canvas.image, expected)


@pytest.mark.parametrize("size", [(97, 130), (64, 61)])
def test_large_pictures_are_looked_at_in_strips(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(4)
    coarse = torch.rand(1, 3, 9, 11, generator=generator)
    image = functional.interpolate(coarse, size=size, mode="bilinear")[0]
    weight = functional.interpolate(torch.rand(1, 1, 5, 6, generator=generator), size=size)[0, 0]
    weight = (2 * weight - 0.5).clamp(0, 1)
    picture = (255 * image).round().to(torch.uint8)
    alpha = (255 * weight).round().to(torch.uint8)
    alpha[:7] = alpha[:, -9:] = 0
    whole = fill_smoothly(image, weight), photographed_area(picture, alpha)
    monkeypatch.setattr(tiles, "STRIP_PIXELS", 6 * size[1])
    parts = fill_smoothly(image, weight), photographed_area(picture, alpha)
    torch.testing.assert_close(whole[0], parts[0], atol=1e-6, rtol=0)
    assert whole[1].rectangle == parts[1].rectangle == (slice(7, size[0]), slice(0, size[1] - 9))
    assert parts[1].pixels.dtype == torch.uint16
    torch.testing.assert_close(whole[1].pixels.int(), parts[1].pixels.int(), atol=1, rtol=0)
    assert whole[1].usable is not None
    assert parts[1].usable is not None
    assert torch.equal(whole[1].usable, parts[1].usable)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_integers_are_taken_like_floating_point(dtype: torch.dtype) -> None:
    whole = {torch.uint8: 255, torch.uint16: 65535}[dtype]
    alpha = torch.zeros(200, 300)
    alpha[20:180, 30:200] = torch.linspace(0, 1, 160)[:, None]
    picture = (tensor_from_picture(example()) * whole).round().to(dtype)
    by_numbers = photographed_area(picture, alpha)
    by_floats = photographed_area(unit_range(picture), alpha)
    assert by_numbers.rectangle == by_floats.rectangle
    torch.testing.assert_close(unit_range(by_numbers.pixels), by_floats.pixels, atol=1 / 65535, rtol=0)


def test_a_fill_of_nothing_is_the_image_itself() -> None:
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(2))
    assert torch.equal(fill_smoothly(image, torch.zeros(20, 30)), image)
    assert torch.equal(fill_smoothly(image, torch.ones(20, 30)), image)
    one = torch.zeros(20, 30)
    one[3, 4] = 1
    torch.testing.assert_close(fill_smoothly(image, one), image[:, 3:4, 4:5].expand_as(image))
