"""Blur kernels as files."""

from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from asnet.deblurring.resampling import kernel_extent, scale_kernel
from asnet.errors import ImageFileError, InputError
from asnet.imaging import fit_kernel, kernel_sheet, read_kernel, write_kernel


def spot(size: int = 7) -> torch.Tensor:
    kernel = torch.zeros(size, size)
    kernel[0, 1], kernel[size // 2, size // 2], kernel[size - 1, size - 2] = 1.0, 2.0, 5.0
    return kernel / kernel.sum()


def test_numbers_come_back_exactly(tmp_path: Path) -> None:
    write_kernel(tmp_path / "kernel.npy", spot())
    assert torch.equal(read_kernel(tmp_path / "kernel.npy"), spot())


def test_a_picture_comes_back_within_its_sixteen_bits(tmp_path: Path) -> None:
    write_kernel(tmp_path / "kernel.png", spot())
    with Image.open(tmp_path / "kernel.png") as picture:
        assert numpy.asarray(picture).max() == 65535
    assert (read_kernel(tmp_path / "kernel.png") - spot()).abs().max() < 1e-5


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_pictures_of_other_programs_are_read(tmp_path: Path, mode: str) -> None:
    values = numpy.zeros((9, 9), dtype=numpy.uint8)
    values[4, 2:7] = 255
    Image.fromarray(values).convert(mode).save(tmp_path / "kernel.png")
    kernel = read_kernel(tmp_path / "kernel.png")
    assert kernel.shape == (5, 5)
    assert torch.allclose(kernel[2], torch.full((5,), 0.2))


def test_even_and_oblong_kernels_keep_their_centre() -> None:
    values = torch.zeros(4, 10)
    values[2, 5], values[1, 9] = 3.0, 1.0
    kernel = fit_kernel(values)
    assert kernel.shape == (9, 9)
    assert kernel[4, 4] == 0.75
    assert kernel[3, 8] == 0.25


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (torch.zeros(5, 5), "got only zeros"),
        (torch.full((5, 5), -0.5), "must not be negative, got -0.5"),
        (torch.full((5, 5), torch.nan), "finite"),
        (torch.ones(2, 5, 5), r"\(2, 5, 5\)"),
    ],
)
def test_what_is_no_kernel_is_refused(values: torch.Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fit_kernel(values)


def test_unusable_kernel_files_are_named(tmp_path: Path) -> None:
    numpy.save(tmp_path / "objects.npy", numpy.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("no array")
    Image.new("L", (5, 5)).save(tmp_path / "black.png")
    for name in ("objects.npy", "text.npy", "black.png", "missing.npy", "missing.png"):
        with pytest.raises(ImageFileError, match=name):
            read_kernel(tmp_path / name)


def test_a_sheet_holds_every_kernel() -> None:
    sheet = numpy.asarray(kernel_sheet(torch.stack([spot()] * 5)))
    assert (sheet == 255).sum() == 5 * (96 // 7) ** 2


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_enlarging_spreads_a_kernel_by_the_factor(factor: int) -> None:
    kernel = spot()
    large = scale_kernel(kernel, factor)
    assert large.shape == (6 * factor + 1, 6 * factor + 1)
    assert large.sum() == pytest.approx(1)
    position = torch.arange(-3 * factor, 3 * factor + 1).float()
    # The grid's edge cuts off half of the outermost pixels' tents: the centroid scales only approximately.
    small_position = torch.arange(-3, 4).float()
    expected = factor * (kernel.sum(0) * small_position).sum()
    assert (large.sum(0) * position).sum() == pytest.approx(float(expected), abs=0.6 * factor)
    assert scale_kernel(large, 1 / factor).shape == kernel.shape


def test_enlarging_and_reducing_keeps_a_smooth_kernel() -> None:
    distance = torch.arange(-7, 8).float()
    kernel = torch.exp(-(distance[:, None] ** 2 + distance**2) / 18)
    kernel /= kernel.sum()
    back = scale_kernel(scale_kernel(kernel, 2), 0.5)
    assert back.shape == kernel.shape
    assert (back - kernel).abs().max() < 0.1 * kernel.max()


def test_the_extent_leaves_out_what_is_negligible() -> None:
    line = torch.zeros(15, 15)
    line[7, 4:11] = 1 / 7
    line[0, 0] = 0.01
    assert kernel_extent(line) == 7
    line[0, 0] = 0.1
    assert kernel_extent(line) == 15
