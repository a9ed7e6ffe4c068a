"""Where lights left streaks, the analysis finds their kernel; a sharp night stays as it is."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import asnet
from asnet.data.degradation import blur
from asnet.imaging import read_photograph, unit_range
from asnet.networks import DeblurNetwork
from asnet.networks.iterated_analysis import IteratedAnalysisNetwork
from asnet.networks.kernel_grids import rms_radius, similarity

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sharp.jpg"


@pytest.fixture(scope="module")
def network() -> DeblurNetwork:
    network = asnet.load("compact")
    assert isinstance(network, DeblurNetwork)
    return network


def night(kernel: Tensor | None, count: int = 4) -> Tensor:
    """A photograph in the dark with lights of different colours, blurred and clipped."""
    scene = unit_range(read_photograph(EXAMPLE).pixels)[None, :, 60:460, 60:540] * 0.4
    generator = torch.Generator().manual_seed(5)
    height, width = scene.shape[2:]
    grid = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    for _ in range(count):
        row, column, *colour = (float(value) for value in torch.rand(5, generator=generator))
        distance = torch.hypot(grid[0] - (0.1 + 0.8 * row) * height, grid[1] - (0.1 + 0.8 * column) * width)
        light = (2.5 - distance).clamp(0, 1)
        scene = torch.maximum(scene, light * torch.tensor(colour)[:, None, None] * 60)
    if kernel is not None:
        scene = blur(scene, kernel)
    noise = torch.randn(scene.shape, generator=generator)
    return (scene + 0.01 * noise).clamp(0, 1)


def path(seed: int) -> Tensor:
    """A smooth curve of some 40 pixels."""
    steps = torch.rand(3, 2, generator=torch.Generator().manual_seed(seed)) * 44 - 22
    times = torch.linspace(0, 1, 400)[:, None]
    curve = (1 - times) ** 2 * steps[0] + 2 * times * (1 - times) * steps[1] + times**2 * steps[2]
    kernel = torch.zeros(1, 61, 61)
    row, column = (curve + 30).round().long().unbind(1)
    kernel[0].index_put_((row, column), torch.ones(400), accumulate=True)
    return F.avg_pool2d(kernel, 3, 1, 1) / kernel.sum()


@pytest.mark.parametrize("seed", [1, 2])
def test_lights_help_instead_of_misleading(network: DeblurNetwork, seed: int) -> None:
    kernel = path(seed)
    assert float(similarity(network.estimate(night(kernel)).kernel, kernel)) > 0.84


def test_sharp_lights_are_no_streaks(network: DeblurNetwork) -> None:
    estimate = network.estimate(night(None))
    without = network.estimate(night(None, count=0))
    assert float(rms_radius(estimate.kernel)) < float(rms_radius(without.kernel)) + 1


def test_a_lone_bar_is_no_evidence(network: DeblurNetwork) -> None:
    """A soft photograph with a white bar, sharp as it is: no blur as long as the bar."""
    scene = blur(night(None, count=0), torch.ones(1, 3, 3) / 9)
    scene[..., 200:206, 150:190] = 1.0
    assert float(rms_radius(network.estimate(scene).kernel)) < 5


def test_photographs_of_a_batch_have_their_own_streaks(network: DeblurNetwork) -> None:
    images = torch.cat([night(path(2))[..., :300, :300], night(path(1))[..., :300, :300]]).double()
    analysis = copy.deepcopy(network.analysis).double()
    assert isinstance(analysis, IteratedAnalysisNetwork)
    both = analysis.estimate(images).kernel
    for kernel, image in zip(both, images, strict=True):
        torch.testing.assert_close(kernel, analysis.estimate(image[None]).kernel[0], atol=1e-6, rtol=0)
