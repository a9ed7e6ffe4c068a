"""Steepness of edges measures the blur's length, independently of contrast and despite noise."""

import pytest
import torch
from torch.nn import functional

from asnet.networks.edge_steepness import edge_steepness, noise_deviation


def patches(contrast: float = 1.0) -> torch.Tensor:
    """Squares of 16 pixels and random brightness, (1, 1, 256, 256)."""
    values = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    return 0.5 + contrast * (functional.interpolate(values, scale_factor=16, mode="nearest") - 0.5)


def box_blurred(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return functional.avg_pool2d(image, (height, width), stride=1)


@pytest.mark.parametrize("contrast", [1.0, 0.4])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_an_edge_of_some_pixels_has_as_small_a_part_between_two_of_them(length: int, contrast: float) -> None:
    image = box_blurred(patches(contrast), length, length)
    assert edge_steepness(image).item() == pytest.approx(1 / length, rel=0.06)


@pytest.mark.parametrize("size", [(1, 3), (3, 1)])
def test_the_flatter_axis_counts(size: tuple[int, int]) -> None:
    assert edge_steepness(box_blurred(patches(), *size)).item() == pytest.approx(1 / 3, rel=0.06)


def test_noise_makes_no_edge_steep() -> None:
    generator = torch.Generator().manual_seed(1)
    blurred = box_blurred(patches(), 5, 5)
    noise = 0.02 * torch.randn(blurred.shape, generator=generator)
    assert noise_deviation(blurred + noise).item() == pytest.approx(0.02, rel=0.1)
    assert edge_steepness(blurred + noise).item() < 0.3


@pytest.mark.parametrize("side", [16, 40])
def test_without_edges_nothing_is_steep(side: int) -> None:
    assert edge_steepness(torch.full((2, 1, side, side), 0.3)).tolist() == [0.0, 0.0]
    # The 8-bit steps of a smooth gradient are not edges.
    gradient = torch.linspace(0.2, 0.4, side).mul(255).round().div(255).expand(1, 1, side, side)
    assert edge_steepness(gradient).item() == 0


def test_images_of_a_batch_do_not_mix() -> None:
    images = torch.cat([box_blurred(patches(), 3, 3), patches()[..., 2:, 2:]])
    alone = torch.cat([edge_steepness(image[None]) for image in images])
    torch.testing.assert_close(edge_steepness(images), alone)
