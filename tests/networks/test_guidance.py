"""What guiding units read of a blur kernel."""

from dataclasses import replace

import pytest
import torch
from small_networks import small_synthesis
from torch import Tensor
from torch.nn import functional as F

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.networks.config import LARGEST_DESCRIBED
from asnet.networks.guidance import (
    DESCRIPTION_WIDTH,
    RESOLUTIONS,
    WINDOW,
    crop_kernel,
    describe_kernel,
    describe_spectrum,
    guide_inputs,
    guide_width,
)


def kernels(count: int, size: int, *, canvas: int | None = None) -> Tensor:
    config = BlurKernelConfig(canvas=canvas or size, minimum_size=size, maximum_size=size)
    return sample_blur_kernels(count, config, generator=torch.Generator().manual_seed(size))


def test_a_description_does_not_depend_on_the_grid() -> None:
    config = replace(small_synthesis("compact"), kernel_size=101)
    noise = torch.tensor([0.01, 0.03])
    small = kernels(2, 15)
    first = guide_inputs(config, small, noise)
    assert first.shape == (2, guide_width(config)) == (2, DESCRIPTION_WIDTH + 2)
    torch.testing.assert_close(guide_inputs(config, F.pad(small, (43, 43, 43, 43)), noise), first)


def test_one_kernel_serves_images_of_different_noise() -> None:
    config = replace(small_synthesis("compact"), kernel_size=101)
    both = guide_inputs(config, kernels(1, 15), torch.tensor([0.01, 0.03]))
    alike = torch.arange(DESCRIPTION_WIDTH + 2) != DESCRIPTION_WIDTH
    assert torch.equal(both[0, alike], both[1, alike])
    assert both[0, DESCRIPTION_WIDTH] == pytest.approx(0, abs=1e-6)
    assert both[1, DESCRIPTION_WIDTH] > 1


def test_an_estimate_is_told_from_a_known_kernel_of_the_same_shape() -> None:
    config = replace(small_synthesis("compact"), kernel_size=101)
    kernel, noise = kernels(1, 15), torch.tensor([0.01])
    known = guide_inputs(config, kernel, noise)
    assert torch.equal(guide_inputs(config, kernel, noise, torch.tensor([False])), known)
    both = guide_inputs(config, kernel, noise, torch.tensor([False, True]))
    assert torch.equal(both[0], known[0])
    assert torch.equal(both[1, :-1], known[0, :-1])
    assert both[1, -1] > both[0, -1]


def test_a_network_that_does_not_distrust_estimates_reads_the_same_of_both() -> None:
    config = replace(small_synthesis("compact"), kernel_size=101, distrusts_estimates=False)
    kernel, noise = kernels(1, 15), torch.tensor([0.01])
    known, estimated = (guide_inputs(config, kernel, noise, torch.tensor([flag])) for flag in (False, True))
    assert known.shape == (1, guide_width(config))
    assert torch.equal(known, estimated)


@pytest.mark.parametrize("size", [1, 3, 31, 97])
def test_every_resolution_that_holds_a_kernel_keeps_its_sum_and_its_centroid(size: int) -> None:
    kernel = kernels(3, size).roll(1, 2) if size > 5 else kernels(3, size)
    levels = describe_kernel(kernel).unflatten(1, (RESOLUTIONS, WINDOW, WINDOW))
    position = torch.arange(size) - size // 2
    centroid = (kernel.sum(1) * position).sum(1)
    for level in range(RESOLUTIONS):
        if size // 2 > (WINDOW // 2) * 2**level:
            continue
        cells = (torch.arange(WINDOW) - WINDOW // 2) * 2**level
        torch.testing.assert_close(levels[:, level].sum((1, 2)), torch.ones(3))
        torch.testing.assert_close((levels[:, level].sum(1) * cells).sum(1), centroid, atol=1e-4, rtol=0)


def test_every_pixel_of_the_largest_kernel_counts() -> None:
    size = LARGEST_DESCRIBED
    corner, nothing = torch.zeros(1, size, size), torch.zeros(1, size, size)
    corner[0, 0, -1] = 1
    assert not torch.equal(describe_kernel(corner), describe_kernel(nothing))


def test_the_spectrum_is_that_of_the_kernel_wherever_it_lies() -> None:
    point = torch.ones(1, 1, 1)
    torch.testing.assert_close(describe_spectrum(point), torch.ones(1, 128), atol=1e-3, rtol=0)
    kernel = kernels(1, 31)
    moved = F.pad(kernel, (4, 0, 0, 4))
    torch.testing.assert_close(describe_spectrum(kernel), describe_spectrum(moved), atol=1e-4, rtol=0)
    assert describe_spectrum(kernel).min() < 0


def test_a_kernel_is_cropped_to_its_own_size_about_its_centre() -> None:
    kernel = torch.zeros(2, 11, 11)
    kernel[0, 5, 5] = 1
    kernel[1, 4, 7] = 1
    assert torch.equal(crop_kernel(kernel), kernel[:, 3:8, 3:8])
    assert torch.equal(crop_kernel(kernel[:1]), kernel[:1, 5:6, 5:6])
    nothing = torch.zeros(1, 5, 5)
    assert torch.equal(crop_kernel(nothing), nothing)
    whole = kernels(1, 9)
    assert torch.equal(crop_kernel(F.pad(whole, (3, 3, 3, 3))), whole)
