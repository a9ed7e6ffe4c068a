"""Streaks of lights: which are found, what they say of a kernel, and how they are taken out."""

import pytest
import torch
from torch import Tensor

from asnet.data.degradation import blur
from asnet.networks.kernel_grids import reduced, similarity
from asnet.networks.light_streaks import find_streaks, resemblance, streak_kernel, without_streaks

LARGEST = 61
PLACES = [(50, 60), (120, 200), (150, 90)]


def hook(size: int = 41) -> Tensor:
    """A path to the right and upwards at its end, twice as bright there."""
    kernel = torch.zeros(1, size, size)
    kernel[0, 30, 6:30] = 1.0
    kernel[0, 10:31, 29] = 2.0
    return kernel / kernel.sum()


def night(kernel: Tensor, places: list[tuple[int, int]] = PLACES, brightness: float = 200.0) -> Tensor:
    """A dim scene with a few lights, two pixels wide, blurred and clipped."""
    scene = torch.rand(1, 1, 12, 16, generator=torch.Generator().manual_seed(2)) * 0.2
    scene = torch.nn.functional.interpolate(scene, size=(200, 280), mode="bilinear")
    for row, column in places:
        scene[..., row : row + 2, column : column + 2] = brightness
    return blur(scene, kernel).clamp(max=1)


@pytest.mark.parametrize("brightness", [40.0, 200.0])
def test_streaks_have_the_shape_of_the_kernel(brightness: float) -> None:
    kernel = hook()
    streaks = find_streaks(night(kernel, brightness=brightness), LARGEST)
    assert streaks is not None
    assert float(similarity(streak_kernel(streaks), reduced(kernel, 0.5))) > 0.8
    assert float(streaks.path.sum()) == pytest.approx(1, abs=1e-4)


def test_the_mask_has_all_streaks_and_little_else() -> None:
    image = night(hook())
    streaks = find_streaks(image, LARGEST)
    assert streaks is not None
    assert streaks.marks[image > 0.95].all()
    assert streaks.marks.float().mean() < 3 * (image > 0.5).float().mean()


def test_streaks_resemble_their_kernel_and_not_its_mirror_images() -> None:
    kernel = hook()
    streaks = find_streaks(night(kernel), LARGEST)
    assert streaks is not None
    right = resemblance(streaks, kernel)
    assert right > 0.9
    for other in (kernel.flip(1), kernel.flip(2), kernel.flip(1, 2), torch.ones(1, 1, 1)):
        assert resemblance(streaks, other) < right - 0.1


def test_of_different_parts_those_that_are_alike_count() -> None:
    """A bar of a streak's size is alone."""
    kernel = hook()
    image = night(kernel)
    image[..., 20:24, 150:200] = 1.0
    streaks = find_streaks(image, LARGEST)
    assert streaks is not None
    assert float(similarity(streak_kernel(streaks), reduced(kernel, 0.5))) > 0.8


@pytest.mark.parametrize(
    "image",
    [
        torch.ones(1, 1, 60, 80),
        torch.zeros(1, 1, 60, 80),
        torch.rand(1, 1, 60, 80, generator=torch.Generator().manual_seed(0)) * 0.9,
        torch.ones(1, 1, 16, 16),
        torch.cat([torch.zeros(1, 1, 60, 40), torch.ones(1, 1, 60, 40)], dim=3),
    ],
)
def test_without_narrow_clipped_parts_there_is_none(image: Tensor) -> None:
    assert find_streaks(image, LARGEST) is None


def test_what_is_larger_than_a_kernel_or_leaves_the_photograph_is_no_streak() -> None:
    image = torch.full((1, 1, 200, 280), 0.1)
    image[..., 100:103, 20:260] = 1.0
    assert find_streaks(image, LARGEST) is None
    image = torch.full((1, 1, 200, 280), 0.1)
    image[..., 0:20, 100:104] = 1.0
    assert find_streaks(image, LARGEST) is None


def test_a_part_that_is_not_usable_is_no_streak() -> None:
    image = night(hook())
    usable = torch.ones_like(image, dtype=torch.bool)
    usable[..., :70, :] = False
    streaks = find_streaks(image, LARGEST, usable)
    assert streaks is not None
    assert streaks.alike == 2
    assert not streaks.marks[~usable].any()
    usable[:] = False
    assert find_streaks(image, LARGEST, usable) is None


@pytest.mark.parametrize("largest", [13, 15, 17, 19])
def test_a_square_that_fills_the_grid_is_a_streak_as_well(largest: int) -> None:
    image = torch.full((1, 1, 160, 160), 0.3)
    side = largest // 4 * 4
    image[..., 80 : 80 + side, 80 : 80 + side] = 1.0
    streaks = find_streaks(image, largest)
    assert streaks is None or float(streak_kernel(streaks).sum()) == pytest.approx(1, abs=1e-4)


def test_the_middle_of_a_large_hole_is_as_bright_as_the_photograph() -> None:
    image = torch.full((1, 1, 200, 240), 0.3)
    marks = torch.zeros_like(image, dtype=torch.bool)
    marks[..., 30:170, 50:190] = True
    image[marks] = 1.0
    filled, _ = without_streaks(image, marks)
    assert (filled - 0.3).abs().max() < 0.05


def test_without_streaks_their_surroundings_go_on() -> None:
    kernel = hook()
    image = night(kernel)
    dark = night(kernel, places=[])
    streaks = find_streaks(image, LARGEST)
    assert streaks is not None
    filled, marks = without_streaks(image, streaks.marks)
    assert torch.equal(filled[~marks], image[~marks])
    assert marks[streaks.marks].all()
    assert (filled - dark).abs().max() < 0.1
    assert streaks.alike == len(PLACES)
