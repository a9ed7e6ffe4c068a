"""The single-pass analysis network."""

from dataclasses import replace

import pytest
import torch
from small_networks import KERNEL_SIZE, small_analysis

from asnet.errors import InputError
from asnet.networks import AnalysisConfig, AnalysisNetwork


def network_of(config: AnalysisConfig) -> AnalysisNetwork:
    torch.manual_seed(0)
    return AnalysisNetwork(config)


@pytest.mark.parametrize("name", ["paper", "official"])
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (37, 50), (64, 33)])
def test_any_size_gives_a_blur_kernel(name: str, size: tuple[int, int]) -> None:
    kernel = network_of(small_analysis(name))(torch.rand(2, 3, *size))
    assert kernel.shape == (2, KERNEL_SIZE, KERNEL_SIZE)
    assert kernel.min() >= 0
    torch.testing.assert_close(kernel.sum((1, 2)), torch.ones(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["paper", "official"])
def test_minimum_size_is_where_every_level_holds_its_lags(name: str) -> None:
    config = small_analysis(name)
    network = network_of(config)
    sizes = []
    for level in network.levels:
        level.projection.register_forward_hook(
            lambda _module, _inputs, output: sizes.append(output.shape[2:])
        )
    network(torch.rand(1, 1, 16, 16))
    window = [2 * lag + 1 for lag in config.max_lags]
    assert all(min(size) >= side for size, side in zip(sizes, window, strict=True))


@pytest.mark.parametrize("name", ["paper", "official"])
def test_colour_counts_by_its_luma_and_neither_scale_nor_offset_count(name: str) -> None:
    network = network_of(small_analysis(name)).double()
    image = torch.rand(1, 3, 40, 40, dtype=torch.float64)
    weights = torch.tensor([0.2989, 0.5870, 0.1140], dtype=torch.float64).view(1, 3, 1, 1)
    luma = (image * weights).sum(1, keepdim=True)
    torch.testing.assert_close(network(image), network(luma))
    torch.testing.assert_close(network(image), network(0.5 * luma + 0.2), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["paper", "official"])
def test_images_of_a_batch_do_not_mix(name: str) -> None:
    network = network_of(small_analysis(name)).double()
    images = torch.rand(2, 1, 40, 44, dtype=torch.float64)
    together = network(images)
    torch.testing.assert_close(together, torch.cat([network(images[:1]), network(images[1:])]))
    assert not torch.allclose(together[0], together[1], rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"boundary": "circular"},
        {"lag_sign": "released"},
        {"append_flipped_pairs": False},
        {"normalise_features": True},
        {"pyramid": "image"},
        {"upsampling": "transposed_convolution"},
        {"fusion_size": 3, "final_size": 5},
    ],
)
def test_every_choice_makes_a_network_whose_every_parameter_learns(changes: dict[str, object]) -> None:
    torch.manual_seed(0)
    network = AnalysisNetwork(replace(small_analysis("paper"), **changes)).double()
    weight = torch.rand(KERNEL_SIZE, KERNEL_SIZE, dtype=torch.float64)
    (network(torch.rand(2, 1, 40, 40, dtype=torch.float64)) * weight).sum().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []


def test_lag_sign_mirrors_what_the_reduction_sees() -> None:
    paper = network_of(
        replace(small_analysis("paper"), append_flipped_pairs=False, levels=1, normalise_features=True)
    )
    released = network_of(replace(paper.config, lag_sign="released"))
    seen = []
    for network in (paper, released):
        network.levels[0].reduction.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        network(torch.rand(1, 1, 30, 30, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(seen[1], seen[0].flip((2, 3)))
    assert not torch.allclose(seen[1], seen[0], rtol=1e-3)


def test_a_map_of_zeros_gives_the_uniform_kernel() -> None:
    network = network_of(small_analysis("official"))
    with torch.no_grad():
        network.head[-1].bias.fill_(-100)
    torch.testing.assert_close(network(torch.rand(1, 1, 32, 32)), torch.full((1, 7, 7), 1 / 49))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["paper", "official"])
def test_16_bits_stay_close(name: str, dtype: torch.dtype) -> None:
    network = network_of(small_analysis(name)).eval()
    image = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        expected = network(image)
        with torch.autocast("cpu", dtype):
            under_autocast = network(image)
        converted = network.to(dtype)(image)
    for kernel in (under_autocast, converted):
        assert kernel.dtype == torch.float32
        assert (kernel - expected).abs().sum() < 0.1


def test_shapes_that_are_no_image_are_named() -> None:
    network = network_of(small_analysis("paper"))
    with pytest.raises(InputError, match=r"\(1, 2, 32, 32\)"):
        network(torch.rand(1, 2, 32, 32))
    with pytest.raises(InputError, match=r"\(1, 1, 0, 32\)"):
        network(torch.rand(1, 1, 0, 32))
