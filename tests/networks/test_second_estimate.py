"""Large kernels estimated again: closer to the truth by a good restored image, unchanged by a wrong one."""

from dataclasses import replace

import pytest
import torch
from small_networks import small_pair
from test_iterated_analysis import patches, photograph

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.data.degradation import blur
from asnet.errors import InputError
from asnet.evaluation.metrics import kernel_similarity
from asnet.networks import DeblurNetwork
from asnet.networks.blurred_photographs import photographs_of
from asnet.networks.kernel_grids import fit_grid, normalised
from asnet.networks.layers import luma
from asnet.networks.second_estimate import grid_of_second_estimate, second_estimate

SIZE = 41


def blurred_and_sharp(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a blurred image, its ground truth (1, 1, H, W) and the kernel (1, 41, 41)."""
    generator = torch.Generator().manual_seed(seed)
    kernel = sample_blur_kernels(
        1, BlurKernelConfig(canvas=SIZE, minimum_size=31, maximum_size=31), generator=generator
    )
    sharp = patches(1, cells=40)
    blurred = blur(sharp, kernel)
    noisy = blurred + 0.005 * torch.randn(blurred.shape, generator=generator)
    return noisy.clamp(0, 1), sharp[..., SIZE // 2 : -(SIZE // 2), SIZE // 2 : -(SIZE // 2)], kernel


def mistaken(kernel: torch.Tensor) -> torch.Tensor:
    """Return a kernel with two fainter copies beside it, and the same centroid."""
    return normalised(kernel + 0.3 * sum(kernel.roll((down, -down), (1, 2)) for down in (-5, 5)))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_true_image_improves_a_kernel(seed: int) -> None:
    blurred, sharp, kernel = blurred_and_sharp(seed)
    first = mistaken(kernel)
    second = second_estimate(photographs_of(blurred, None), first, sharp, SIZE)
    torch.testing.assert_close(second.sum(), torch.tensor(1.0))
    assert (second >= 0).all()
    before, after = (float(kernel_similarity(each, kernel)) for each in (first, second))
    assert 1 - after < 0.7 * (1 - before)


def test_a_wrong_image_changes_nothing() -> None:
    blurred, sharp, kernel = blurred_and_sharp()
    noise = torch.rand(sharp.shape, generator=torch.Generator().manual_seed(2))
    second = second_estimate(photographs_of(blurred, None), kernel, noise, SIZE)
    assert torch.equal(second, kernel)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_without_any_structure_the_first_estimate_is_kept(value: float) -> None:
    flat = torch.full((1, 1, 160, 160), value)
    first = fit_grid(torch.full((1, 35, 35), 1 / 35**2), SIZE)
    assert torch.equal(second_estimate(photographs_of(flat, None), first, flat, SIZE), first)


def test_unusable_pixels_do_no_harm() -> None:
    blurred, sharp, kernel = blurred_and_sharp()
    first = mistaken(kernel)
    expected = second_estimate(photographs_of(blurred, None), first, sharp, SIZE)
    usable = torch.ones_like(blurred, dtype=torch.bool)
    usable[..., 150:220, 100:180] = False
    generator = torch.Generator().manual_seed(1)
    spoiled = torch.where(usable, blurred, torch.rand(blurred.shape, generator=generator))
    second = second_estimate(photographs_of(spoiled, usable), first, sharp, SIZE)
    assert float(kernel_similarity(second, expected)) > 0.95


@pytest.mark.parametrize(
    ("side", "height", "width", "grid"),
    [(31, 500, 500, None), (33, 500, 500, 37), (33, 111, 500, 37), (33, 500, 110, None), (99, 500, 500, 101)],
)
def test_only_kernels_that_are_large_enough_and_fit_are_estimated_again(
    side: int, height: int, width: int, grid: int | None
) -> None:
    kernel = fit_grid(torch.full((1, side, side), 1 / side**2), 101)
    assert grid_of_second_estimate(kernel, height, width) == grid


def large_pair(kernel_size: int) -> DeblurNetwork:
    torch.manual_seed(0)
    config = small_pair("compact")
    return DeblurNetwork(
        replace(
            config,
            analysis=replace(config.analysis, kernel_size=kernel_size),
            synthesis=replace(config.synthesis, kernel_size=kernel_size),
        )
    ).eval()


def horizontal_blur(side: int) -> torch.Tensor:
    """Return a part of the example photograph (1, 3, H, W), blurred along a horizontal line."""
    line = torch.zeros(1, 47, 47)
    line[0, 23, 23 - side // 2 : 24 + side // 2] = 1 / side
    return blur(photograph()[..., :320, :400], line).expand(-1, 3, -1, -1)


def test_a_pair_estimates_large_kernels_again_and_small_ones_once() -> None:
    network = large_pair(51)
    for side, is_new in ((41, True), (9, False)):
        blurred = horizontal_blur(side)
        once, again = network.analysis.estimate(blurred), network.estimate(blurred)
        assert torch.equal(once.kernel, again.kernel) != is_new
        assert float(kernel_similarity(again.kernel, once.kernel)) > 0.9
        with torch.no_grad():
            assert torch.equal(network(blurred).kernel, again.kernel)
        from_luma = network.estimate(luma(blurred)).kernel
        assert float(kernel_similarity(from_luma, again.kernel)) > 0.999


def test_images_of_a_batch_are_estimated_again_one_by_one() -> None:
    network = large_pair(51)
    blurred = torch.cat([horizontal_blur(41), horizontal_blur(9), horizontal_blur(41).flip(-1)])
    usable = torch.ones(3, 1, *blurred.shape[2:], dtype=torch.bool)
    usable[2, :, 100:140, 200:260] = False
    together = network.estimate(blurred, usable).kernel
    for index in range(3):
        alone = network.estimate(blurred[index : index + 1], usable[index : index + 1]).kernel
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=0)


def test_the_caller_may_restore_otherwise() -> None:
    network, seen = large_pair(51), []

    def restore(blurred: torch.Tensor, kernel: torch.Tensor, *, estimated: torch.Tensor) -> torch.Tensor:
        seen.append((blurred.shape, kernel.shape))
        return network.synthesis(blurred, kernel, estimated=estimated)

    blurred = horizontal_blur(41)
    assert torch.equal(network.estimate(blurred, restore=restore).kernel, network.estimate(blurred).kernel)
    assert seen == [(blurred.shape, (1, 51, 51))]


def test_gradients_of_small_kernels_reach_the_analysis_out_of_training_too() -> None:
    network = large_pair(7)
    network(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))).kernel.sum().backward()
    assert any(parameter.grad is not None for parameter in network.analysis.parameters())


def test_other_analyses_tell_nothing_about_their_estimates() -> None:
    with pytest.raises(InputError, match="iterated analysis"):
        DeblurNetwork(small_pair("paper")).estimate(torch.rand(1, 3, 32, 32))
