import math

import numpy
import pytest
import torch

from asnet.errors import InputError
from asnet.evaluation.alignment import (
    align,
    fourier_shift,
    least_error_position,
    least_shifted_error,
    luma,
    sub_pixel_shift,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Shift (C, H, W) with zeros filled in, pixel by pixel."""
    result = torch.zeros_like(image)
    height, width = image.shape[1:]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[:, row, column] = image[:, row - down, column - right]
    return result


def slowly_aligned(estimate: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The alignment of the Köhler protocol with plain loops instead of transforms and slices."""
    z, x = estimate.numpy(), truth.numpy()
    z = z * (x * z).sum() / (z * z).sum()
    height, width = z.shape[1:]
    best, shift = -math.inf, (0, 0)
    for down in range(height):
        for right in range(width):
            product = (x.mean(0) * numpy.roll(z.mean(0), (down, right), axis=(0, 1))).sum()
            if product > best:
                best, shift = product, (down, right)
    down, right = (
        s if s < math.floor(size / 2) else s - size for s, size in zip(shift, (height, width), strict=True)
    )
    mask = moved(torch.ones_like(truth), down, right)
    return moved(torch.from_numpy(z), down, right), truth * mask


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, -2), (-4, 5), (1, 0)])
@pytest.mark.parametrize("size", [(20, 26), (21, 25)])
def test_a_shifted_and_scaled_image_comes_back(size: tuple[int, int], down: int, right: int) -> None:
    truth = noise(3, *size)
    estimate = 0.4 * moved(truth, -down, -right)
    z, x = align(estimate, truth)
    covered = moved(torch.ones_like(truth), down, right) * moved(
        moved(torch.ones_like(truth), -down, -right), down, right
    )
    assert (x == truth * moved(torch.ones_like(truth), down, right)).all()
    # Pixels shifted out of the estimate are lost, which changes the factor.
    factor = float((truth * estimate).sum() / estimate.square().sum()) * 0.4
    torch.testing.assert_close(z, factor * truth * covered, rtol=1e-12, atol=1e-12)
    if (down, right) == (0, 0):
        torch.testing.assert_close(z, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(12, 15), (13, 10)])
def test_alignment_agrees_with_plain_loops(size: tuple[int, int]) -> None:
    for seed in range(6):
        estimate, truth = noise(3, *size, seed=seed) - 0.3, noise(3, *size, seed=seed + 50)
        for one, other in zip(align(estimate, truth), slowly_aligned(estimate, truth), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("size", "index", "expected"), [(8, 3, 3), (8, 4, -4), (9, 3, 3), (9, 4, -5)])
def test_shifts_from_half_the_size_on_are_negative(size: int, index: int, expected: int) -> None:
    truth = torch.full((1, size, size), 0.1, dtype=torch.float64)
    estimate = truth.clone()
    truth[0, index, 0] = 1
    estimate[0, 0, 0] = 1
    z, x = align(estimate, truth)
    kept = moved(torch.ones_like(truth), expected, 0)
    assert (x == truth * kept).all()
    assert ((z > 0) == (kept > 0)).all()


def test_values_are_neither_clipped_nor_rounded() -> None:
    truth = 255 * noise(3, 16, 16)
    z, _ = align(truth - 40.3, truth)
    assert z.min() < 0
    assert not torch.equal(z, z.round())


def test_images_that_cannot_be_aligned() -> None:
    with pytest.raises(InputError, match="black"):
        align(torch.zeros(3, 8, 8, dtype=torch.float64), noise(3, 8, 8))
    with pytest.raises(InputError, match=r"\(3, 8, 8\) and \(3, 8, 9\)"):
        align(noise(3, 8, 8), noise(3, 8, 9))


def test_luma_of_the_primaries() -> None:
    primaries = torch.eye(3, dtype=torch.float64)[:, None]
    torch.testing.assert_close(luma(primaries)[0], torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64))


LEVIN = {"border": 15, "largest_shift": 5, "steps_per_pixel": 4}


def product_image(down: float, right: float) -> torch.Tensor:
    """Row times column over 1000, shifted; bilinear interpolation of it is exact."""
    rows = torch.arange(44, dtype=torch.float64)[:, None] - down
    columns = torch.arange(40, dtype=torch.float64) - right
    return rows * columns / 1000


@pytest.mark.parametrize(("down", "right"), [(0, 0), (5, -5), (-1.25, 0.5), (4.75, 3.25)])
def test_sub_pixel_shifts_are_found(down: float, right: float) -> None:
    error = least_shifted_error(product_image(down, right), product_image(0, 0), **LEVIN)
    assert error == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize(("down", "right"), [(5.25, 0), (0, -6), (0.125, 0)])
def test_other_shifts_leave_an_error(down: float, right: float) -> None:
    truth = noise(44, 40)
    if down % 0.25 or right % 0.25:
        assert least_shifted_error(product_image(down, right), product_image(0, 0), **LEVIN) > 1e-6
    else:
        estimate = torch.roll(truth, (math.ceil(down), int(right)), (0, 1))
        assert least_shifted_error(estimate, truth, **LEVIN) > 1


def test_least_shifted_error_agrees_with_plain_loops() -> None:
    estimate, truth = noise(13, 12), noise(13, 12, seed=1)
    least = math.inf
    for vertical in range(-4, 5):
        for horizontal in range(-4, 5):
            total = 0.0
            for row in range(3, 10):
                for column in range(3, 9):
                    y, x = row + vertical / 4, column + horizontal / 4
                    top, left = math.floor(y), math.floor(x)
                    value = sum(
                        (1 - abs(y - i)) * (1 - abs(x - j)) * float(estimate[i, j])
                        for i in (top, top + 1)
                        for j in (left, left + 1)
                    )
                    total += (value - float(truth[row, column])) ** 2
            least = min(least, total)
    result = least_shifted_error(estimate, truth, border=3, largest_shift=1, steps_per_pixel=4)
    assert result == pytest.approx(least, rel=1e-12)


def test_images_without_a_middle_are_refused() -> None:
    with pytest.raises(InputError, match="border of 15"):
        least_shifted_error(noise(30, 40), noise(30, 40), **LEVIN)


def test_the_least_error_position_agrees_with_plain_loops() -> None:
    for seed in range(4):
        estimate, part = 0.5 + noise(14, 17, seed=seed), noise(9, 8, seed=seed + 9)
        errors = {
            (top, left): float((estimate[top : top + 9, left : left + 8] - part).square().sum())
            for top in range(6)
            for left in range(10)
        }
        assert least_error_position(estimate, part) == min(errors, key=errors.__getitem__)
    assert least_error_position(estimate, estimate[5:14, 9:17]) == (5, 9)
    assert least_error_position(estimate, estimate) == (0, 0)
    with pytest.raises(InputError, match="8x15"):
        least_error_position(estimate, noise(15, 8))


def waves(height: int, width: int, down: float, right: float) -> torch.Tensor:
    """A band-limited scene, moved: sums of waves, so that any shift is exact."""
    rows = (torch.arange(height, dtype=torch.float64) - down)[:, None]
    columns = torch.arange(width, dtype=torch.float64) - right
    generator = torch.Generator().manual_seed(3)
    image = torch.zeros(height, width, dtype=torch.float64)
    for _ in range(40):
        along, across, phase = ((torch.rand(3, generator=generator) - 0.5) * 2.4).tolist()
        image += torch.sin(along * rows + across * columns + 5 * phase)
    return 0.5 + image / 40


@pytest.mark.parametrize(("down", "right"), [(0, 0), (0.37, -0.81), (5, -3), (-7.5, 6.25)])
@pytest.mark.parametrize("size", [(64, 81), (90, 47)])
def test_a_shift_by_fractions_is_found_and_undone(size: tuple[int, int], down: float, right: float) -> None:
    truth, estimate = waves(*size, 0, 0), waves(*size, down, right)
    estimate = estimate + 0.01 * (noise(*size) - 0.5)
    found = sub_pixel_shift(estimate, truth, largest=9)
    assert found == pytest.approx((-down, -right), abs=0.01)
    inside = (slice(12, -12), slice(12, -12))
    back = fourier_shift(estimate, *found)
    assert (back - truth)[inside].square().mean().sqrt() < 0.01
    assert sub_pixel_shift(estimate.float(), truth.float(), largest=9) == pytest.approx(found, abs=1e-3)


def test_a_fourier_shift_takes_any_leading_dimensions() -> None:
    image = noise(2, 3, 30, 41)
    torch.testing.assert_close(fourier_shift(image, 0, 0), image)
    moved = fourier_shift(image, 2, -1)
    torch.testing.assert_close(moved[..., 2:, :-1], image[..., :-2, 1:])
    torch.testing.assert_close(fourier_shift(image[0, 0], 0.5, 0.25), fourier_shift(image, 0.5, 0.25)[0, 0])


def test_images_that_cannot_be_aligned_are_refused() -> None:
    with pytest.raises(InputError, match="by up to 9 pixels"):
        sub_pixel_shift(noise(20, 40), noise(20, 40), largest=9)
    with pytest.raises(InputError, match="same larger shape"):
        sub_pixel_shift(noise(40, 40), noise(40, 41), largest=3)
    # Without structure there is no shift, and no error.
    flat = torch.full((40, 40), 0.5, dtype=torch.float64)
    assert sub_pixel_shift(flat, flat, largest=3) == pytest.approx((0, 0), abs=4)
