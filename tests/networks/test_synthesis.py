"""The synthesis network and its guidance."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_networks import KERNEL_SIZE, small_synthesis
from torch import Tensor

from asnet.errors import InputError
from asnet.networks import SynthesisConfig, SynthesisNetwork
from asnet.networks.guidance import GuidingUnit, fit_kernel_to_grid, guide_inputs
from asnet.networks.synthesis import PhotographStatistics
from asnet.networks.wiener import wiener_deconvolution

PRESETS = ["paper", "official", "compact"]


def network_of(config: SynthesisConfig) -> SynthesisNetwork:
    """A network whose last convolution is not zero, so that the layers before it affect the result."""
    torch.manual_seed(0)
    network = SynthesisNetwork(config)
    torch.nn.init.normal_(network.output.weight, std=0.1)
    return network.double()


def random_kernels(count: int, size: int = KERNEL_SIZE) -> Tensor:
    kernels = (
        torch.rand(count, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) ** 4
    )
    return kernels / kernels.sum((1, 2), keepdim=True)


def random_images(count: int, height: int, width: int) -> Tensor:
    return torch.rand(
        count, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (40, 24)])
def test_any_size_is_kept(name: str, size: tuple[int, int]) -> None:
    network = network_of(small_synthesis(name)).float()
    result = network(random_images(2, *size).float(), random_kernels(2).float())
    assert result.shape == (2, 3, *size)
    assert result.dtype == torch.float32
    assert result.isfinite().all()


@pytest.mark.parametrize("name", PRESETS)
def test_images_of_a_batch_do_not_mix_and_one_kernel_serves_all(name: str) -> None:
    network = network_of(small_synthesis(name))
    images, kernels = random_images(2, 24, 28), random_kernels(2)
    singly = [network(images[index : index + 1], kernels[index : index + 1]) for index in range(2)]
    torch.testing.assert_close(network(images, kernels), torch.cat(singly))
    torch.testing.assert_close(network(images, kernels[:1])[0], singly[0][0])
    torch.testing.assert_close(network(images, kernels[:1]), network(images, kernels[:1].expand(2, -1, -1)))


@pytest.mark.parametrize("name", PRESETS)
def test_inference_agrees_with_training_mode(name: str) -> None:
    # Without gradients the modulation is folded into the weights of the convolutions.
    network = network_of(small_synthesis(name))
    image, kernel = random_images(1, 24, 24), random_kernels(1)
    with torch.no_grad():
        folded = network(image, kernel)
    torch.testing.assert_close(folded, network(image, kernel).detach())


@pytest.mark.parametrize("count", [1, 2])
def test_residual_blocks_of_any_length_agree_with_training_mode(count: int) -> None:
    """On maps so large that inference has kernels of its own, which add to what they are given."""
    config = replace(small_synthesis("compact"), channels=(32, 32), convolutions_per_block=count)
    network = network_of(config).float()
    image, kernel = random_images(1, 224, 216).float(), random_kernels(1).float()
    with torch.no_grad():
        result = network(image, kernel)
    torch.testing.assert_close(result, network(image, kernel).detach(), atol=1e-3, rtol=1e-3)


def test_statistics_may_be_more_accurate_than_the_images() -> None:
    network = network_of(small_synthesis("compact")).float()
    image, kernel = random_images(1, 30, 20), random_kernels(1)
    statistics = network.statistics(image, kernel)
    with torch.no_grad():
        result = network(image.float(), kernel.float(), statistics=statistics)
        expected = network(image.float(), kernel.float())
    torch.testing.assert_close(result, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_images_of_one_colour_have_finite_gradients(value: float) -> None:
    image = torch.full((1, 3, 20, 24), value, dtype=torch.float64, requires_grad=True)
    kernel = random_kernels(1).requires_grad_()
    network_of(small_synthesis("compact"))(image, kernel).square().sum().backward()
    for gradient in (image.grad, kernel.grad):
        assert gradient is not None
        assert gradient.isfinite().all()


@pytest.mark.parametrize("guided", ["first", "every"])
@pytest.mark.parametrize("guidance", ["none", "additive", "multiplicative", "both"])
def test_the_kernel_acts_through_the_guidance_only(guidance: Any, guided: Any) -> None:
    config = replace(small_synthesis("paper"), guidance=guidance, guided_convolutions=guided)
    network = network_of(config)
    image, kernels = random_images(1, 16, 16), random_kernels(2)
    first, second = network(image, kernels[:1]), network(image, kernels[1:])
    assert torch.equal(first, second) == (guidance == "none")


@pytest.mark.parametrize("learned_offset", [False, True])
def test_guiding_unit_is_the_paper_s_three_layers(learned_offset: bool) -> None:
    config = replace(
        small_synthesis("paper"),
        guidance="both",
        learned_multiplier_offset=learned_offset,
        guide_input_scale=3.0,
    )
    unit = GuidingUnit(config, [4, 6]).double()
    for offset in unit.offsets:
        torch.nn.init.normal_(offset)
    kernel = random_kernels(2)
    hidden = 3 * kernel.reshape(2, -1)
    for layer in unit.hidden:
        hidden = (hidden @ layer.weight.T + layer.bias).clamp(min=0)
    modulations = unit(guide_inputs(config, kernel, None))
    assert len(modulations) == 2
    for index, (multiplier, shift) in enumerate(modulations):
        head = unit.multipliers[index]
        one_plus = hidden @ head.weight.T + head.bias + (unit.offsets[index] if learned_offset else 1)
        torch.testing.assert_close(1 + multiplier, one_plus)
        torch.testing.assert_close(shift, hidden @ unit.shifts[index].weight.T + unit.shifts[index].bias)


def test_guidance_starts_close_to_none() -> None:
    config = small_synthesis("official")
    unit = GuidingUnit(config, [16])
    multiplier, shift = unit(guide_inputs(config, random_kernels(8).float(), None))[0]
    assert 0 < multiplier.abs().max() < 0.2
    assert 0 < shift.abs().max() < 0.2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"downsampling": "strided_convolution", "downsampling_size": 2},
        {"upsampling": "transposed_convolution", "upsampling_size": 2},
        {"skip": "identity"},
        {"skip": "convolution", "guided_convolutions": "every"},
        {"learned_multiplier_offset": True},
        {"wiener_strengths": (0.01, 0.1), "residual": "wiener", "residual_strength": 1},
        {"wiener_strengths": (0.01, 0.1), "residual": "blurred", "consistency": True},
        {"residual": "blurred"},
        {"space_to_depth": 2},
        {"block": "residual", "downsampling": "strided_convolution"},
        {"channels": (4,)},
    ],
)
def test_every_choice_makes_a_network_whose_every_parameter_learns(changes: dict[str, Any]) -> None:
    network = network_of(replace(small_synthesis("paper"), guide_hidden=32, **changes))
    network(random_images(2, 24, 24), random_kernels(2)).square().sum().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []


def test_a_residual_network_starts_as_the_image_that_it_adds_to() -> None:
    config = replace(small_synthesis("compact"), consistency=False)
    image, kernel = random_images(1, 21, 25), random_kernels(1)
    network = SynthesisNetwork(config).double()
    # The strengths are those for a noise of 0.01.
    noise = network.statistics(image, kernel).noise
    assert noise is not None
    strength = config.wiener_strengths[config.residual_strength] * float(noise / 0.01) ** 1.5
    expected = wiener_deconvolution(image, kernel, (strength,))[:, 0]
    torch.testing.assert_close(network(image, kernel), expected)
    network = SynthesisNetwork(replace(config, residual="blurred")).double()
    torch.testing.assert_close(network(image, kernel), image)


@torch.no_grad()
def test_a_consistent_network_corrects_what_the_photograph_contradicts() -> None:
    image, kernel = random_images(2, 40, 44), random_kernels(2)
    network = network_of(small_synthesis("compact"))
    statistics = PhotographStatistics(image.mean((2, 3)), torch.full((2,), 0.01, dtype=torch.float64))
    prepared = network.prepare(image, kernel, statistics=statistics)
    right = network.restore(prepared)
    # A mean colour passes through any blur.
    wrong = right + 0.05
    left = network.finish(prepared, wrong) - network.finish(prepared, right)
    assert left.abs().mean() < 0.5 * 0.05


def test_image_scale_changes_nothing_but_the_network_s_own_range() -> None:
    config = replace(small_synthesis("paper"), guidance="none")
    unit, scaled = network_of(config), network_of(replace(config, image_scale=255.0))
    image, kernel = random_images(1, 16, 16), random_kernels(1)
    # With all biases zero a ReLU network is homogeneous.
    torch.testing.assert_close(unit(image, kernel), scaled(image, kernel))


def test_the_seen_neighbourhood_continues_symmetrically_at_the_bottom_and_the_right() -> None:
    network = network_of(small_synthesis("official"))
    image, kernel = random_images(1, 17, 20), random_kernels(1)
    continued = torch.cat([image, image.flip(2)], dim=2)[:, :, :20]
    torch.testing.assert_close(network(image, kernel), network(continued, kernel)[:, :, :17])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", PRESETS)
def test_16_bits_stay_close(name: str, dtype: torch.dtype) -> None:
    network = network_of(small_synthesis(name)).float().eval()
    image, kernel = random_images(1, 24, 24).float(), random_kernels(1).float()
    with torch.no_grad():
        expected = network(image, kernel)
        with torch.autocast("cpu", dtype):
            under_autocast = network(image, kernel)
        converted = network.to(dtype)(image, kernel)
    for result in (under_autocast, converted):
        assert result.dtype == torch.float32
        assert (result - expected).abs().max() < 0.1 * expected.abs().max()


def test_smaller_kernels_are_centred_on_the_grid() -> None:
    kernel = random_kernels(1, 3)
    fitted = fit_kernel_to_grid(kernel, KERNEL_SIZE)
    assert fitted.shape == (1, 7, 7)
    torch.testing.assert_close(fitted[:, 2:5, 2:5], kernel)
    network = network_of(small_synthesis("compact"))
    image = random_images(1, 16, 16)
    torch.testing.assert_close(network(image, kernel), network(image, fitted))


@pytest.mark.parametrize(
    ("image", "kernel", "message"),
    [
        ((1, 1, 32, 32), (1, 7, 7), r"\(1, 1, 32, 32\)"),
        ((1, 3, 15, 32), (1, 7, 7), r"\(1, 3, 15, 32\)"),
        ((1, 3, 32, 32), (1, 6, 6), r"\(1, 6, 6\)"),
        ((1, 3, 32, 32), (1, 9, 9), "at most 7"),
        ((1, 3, 32, 32), (7, 7), r"\(7, 7\)"),
        ((2, 3, 32, 32), (3, 7, 7), "2 images need 1 or 2 blur kernels, got 3"),
    ],
)
def test_shapes_that_do_not_fit_are_named(
    image: tuple[int, ...], kernel: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        SynthesisNetwork(small_synthesis("paper"))(torch.rand(image), torch.rand(kernel))
