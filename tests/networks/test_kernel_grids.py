"""Kernels on their grids: what is dropped, what stays in place."""

import itertools

import pytest
import torch

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.networks.kernel_grids import (
    centred,
    centred_square,
    centroid,
    enlarge,
    extent,
    fit_grid,
    prune,
    reduced,
    rms_radius,
    similarity,
)


def kernels(count: int, canvas: int = 31, smallest: int = 15) -> torch.Tensor:
    config = BlurKernelConfig(canvas=canvas, minimum_size=smallest)
    return sample_blur_kernels(count, config, generator=torch.Generator().manual_seed(6))


def test_pruning_drops_small_weights_and_small_parts_and_keeps_the_rest() -> None:
    kernel = torch.zeros(2, 15, 15)
    kernel[:, 7, 3:9] = 1.0
    kernel[:, 6, 3:9] = 0.04
    kernel[0, 12, 12] = 0.5
    kernel[1, 12, 8:13] = 0.5
    pruned = prune(kernel)
    torch.testing.assert_close(pruned.sum((1, 2)), torch.ones(2))
    assert (pruned[:, 6] == 0).all()
    assert pruned[0, 12, 12] == 0
    assert (pruned[1, 12, 8:13] > 0).all()
    assert (pruned[:, 7, 3:9] > 0).all()


def test_pruning_keeps_fainter_weights_on_request() -> None:
    kernel = torch.zeros(1, 15, 15)
    kernel[:, 7, 3:9] = 1.0
    kernel[:, 6, 3:9] = 0.04
    kernel[:, 5, 3:9] = 0.02
    pruned = prune(kernel, 0.03)
    assert (pruned[:, 6, 3:9] > 0).all()
    assert (pruned[:, 5] == 0).all()


def test_of_nothing_at_all_a_single_pixel_stays() -> None:
    for kernel in (torch.zeros(1, 7, 7), -torch.ones(1, 7, 7)):
        pruned = prune(kernel)
        assert pruned[0, 3, 3] == 1
        assert pruned.sum() == 1


@pytest.mark.parametrize("factor", [1.0, 2**0.5, 1.9])
def test_enlarged_kernels_keep_sum_centre_and_shape(factor: float) -> None:
    small = kernels(4)
    large = enlarge(small, factor)
    assert large.shape[-1] % 2 == 1
    torch.testing.assert_close(large.sum((1, 2)), torch.ones(4))
    torch.testing.assert_close(centroid(large), factor * centroid(small), atol=0.1, rtol=0)
    spread = torch.arange(large.shape[-1]) - large.shape[-1] // 2
    before = torch.arange(31) - 15
    wide, narrow = ((k.sum(1) * p**2).sum(1).sqrt() for k, p in ((large, spread), (small, before)))
    torch.testing.assert_close(wide, factor * narrow, atol=0.2, rtol=0.05)


@pytest.mark.parametrize("factor", [0.5, 0.5**0.5])
def test_reduced_kernels_keep_sum_centre_and_shape(factor: float) -> None:
    large = centred(enlarge(kernels(4), 2.0))
    small = reduced(large, factor)
    assert small.shape[-1] % 2 == 1
    assert abs(small.shape[-1] - factor * large.shape[-1]) <= 2
    torch.testing.assert_close(small.sum((1, 2)), torch.ones(4))
    assert centroid(small).abs().max() < 0.6
    torch.testing.assert_close(rms_radius(small), factor * rms_radius(large), atol=0.3, rtol=0.05)
    for size in (65, 71, 101):
        assert similarity(reduced(fit_grid(large, size), factor), small).min() > 0.95


def test_centred_kernels_lie_on_the_centre_and_are_the_same_kernels() -> None:
    off_centre = torch.roll(fit_grid(kernels(6), 41), (3, -2), (1, 2))
    off_centre[:, :, 1:] += 0.4 * off_centre[:, :, :-1]
    result = centred(off_centre)
    assert centroid(result).abs().max() < 0.1
    assert (result >= 0).all()
    assert (similarity(result, off_centre) > 0.95).all()


def test_the_extent_is_the_centred_square_that_holds_the_kernel() -> None:
    kernel = torch.zeros(3, 11, 11)
    kernel[0, 5, 5] = 1
    kernel[1, 5, 4:8] = 1
    kernel[2, 1, 5] = 1
    kernel[2, 9, 9] = 0.001
    assert extent(kernel).tolist() == [1, 5, 9]
    torch.testing.assert_close(rms_radius(kernel), torch.tensor([0.0, 1.5, 16.032 / 1.001]).sqrt())
    for side, mask in zip((1, 5, 9), centred_square(extent(kernel), 11), strict=True):
        assert int(mask.sum()) == side**2


def test_similarity_is_blind_to_shifts_and_sizes_of_grids_but_not_to_flips() -> None:
    kernel = torch.zeros(1, 15, 15)
    kernel[0, 7, 3:9] = 1
    kernel[0, 3:8, 9] = 2
    for shift in itertools.product((-3, 0, 2), repeat=2):
        shifted = torch.roll(fit_grid(kernel, 25), shift, (1, 2))
        torch.testing.assert_close(similarity(kernel, shifted), torch.ones(1))
    assert similarity(kernel, kernel.flip(1, 2)) < 0.9
    assert similarity(kernel, torch.zeros(1, 5, 5)) == 0
