"""A size classifier and its pairs in one module, in one file, and as a deblurrer that chooses."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_networks import small_analysis
from torch import Tensor, nn

from asnet import Deblurrer
from asnet.errors import ConfigurationError, InputError
from asnet.networks import (
    ASNetConfig,
    DeblurNetwork,
    IteratedAnalysisConfig,
    ScaleOptimisedConfig,
    ScaleOptimisedNetworks,
    SizeClassifier,
    SizeClassifierConfig,
    load_networks,
    read_header,
    save_weights,
)

CLASS_SIZES = (5, 9, 13)


def classifier_config() -> SizeClassifierConfig:
    return SizeClassifierConfig(replace(small_analysis("paper"), levels=1), CLASS_SIZES, "small")


def pair_config(kernel_size: int, name: str = "compact") -> ASNetConfig:
    synthesis = replace(
        ASNetConfig.compact().synthesis,
        kernel_size=kernel_size,
        channels=(4, 6),
        convolutions_per_block=1,
        guide_hidden=5,
    )
    if name == "compact":
        return ASNetConfig(IteratedAnalysisConfig(kernel_size, refiner_channels=4), synthesis, name)
    return ASNetConfig(replace(small_analysis(name), kernel_size=kernel_size), synthesis, name)


def bundle(names: tuple[str, str, str] = ("compact", "paper", "compact")) -> ScaleOptimisedNetworks:
    torch.manual_seed(0)
    pairs = [DeblurNetwork(pair_config(size, name)) for size, name in zip(CLASS_SIZES, names, strict=True)]
    for pair in pairs:
        # Initialised to zero, it would leave only the Wiener deconvolution.
        nn.init.normal_(pair.synthesis.output.weight, std=0.05)
    return ScaleOptimisedNetworks.join(SizeClassifier(classifier_config()), pairs).eval()


class Answers(nn.Module):
    """A classifier that answers from a table of image heights."""

    def __init__(self, classes: dict[int, int]) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, image: Tensor) -> Tensor:
        return torch.eye(len(CLASS_SIZES))[[self.classes[image.shape[2]]]]


class Draws(nn.Module):
    """An analysis that answers with a horizontal line of this many pixels on its grid."""

    def __init__(self, grid: int, length: int) -> None:
        super().__init__()
        self.kernel = torch.zeros(1, grid, grid)
        margin = (grid - length) // 2
        self.kernel[0, grid // 2, margin : margin + length] = 1 / length

    def forward(self, image: Tensor) -> Tensor:
        return self.kernel


def deblurrer_that_finds(classes: dict[int, int], lengths: tuple[int, ...] = (3, 7, 11)) -> Deblurrer:
    networks = bundle()
    networks.classifier = Answers(classes)  # type: ignore[assignment]
    for index, (grid, length) in enumerate(zip(CLASS_SIZES, lengths, strict=True)):
        networks.pair(index).analysis = Draws(grid, length)  # type: ignore[assignment]
    return Deblurrer(networks, device="cpu")


def scene(height: int, width: int) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def deblurred_by(
    deblurrer: Deblurrer, index: int, image: Tensor, kernel: Tensor, *, estimated: bool = False
) -> Tensor:
    """The result of one class's synthesis network for an image and a kernel."""
    assert isinstance(deblurrer.network, ScaleOptimisedNetworks)
    synthesis = deblurrer.network.pair(index).synthesis
    sharp: Tensor = synthesis(image[None], kernel[None], estimated=estimated)
    return sharp[0].clamp(0, 1)


def test_configurations_survive_json() -> None:
    config = bundle().config
    assert ScaleOptimisedConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_grids_must_hold_their_classes() -> None:
    pairs = [pair_config(size) for size in CLASS_SIZES]
    with pytest.raises(ConfigurationError, match=r"3 classes \(up to 5, 9, 13 pixels\) .* got 2"):
        ScaleOptimisedConfig(classifier_config(), tuple(pairs[:2]))
    with pytest.raises(ConfigurationError, match=r"pair 3 is for kernels of up to 13 pixels .* got one of 5"):
        ScaleOptimisedConfig(classifier_config(), tuple(pairs[::-1]))
    # One general pair for all classes is a bundle as well.
    ScaleOptimisedConfig(classifier_config(), (pairs[2],) * 3)


def test_all_networks_come_back_from_one_file(tmp_path: Path) -> None:
    networks = bundle()
    path = tmp_path / "bundle.safetensors"
    save_weights(path, networks, training_data="noise", revision="1")
    loaded = load_networks(path)
    assert isinstance(loaded, ScaleOptimisedNetworks)
    assert loaded.config == networks.config == read_header(path).configuration
    torch.testing.assert_close(loaded.state_dict(), networks.state_dict(), rtol=0, atol=0)


def test_end_to_end_the_choice_is_the_classifier_s(tmp_path: Path) -> None:
    """Untrained, but the real networks: the result is that of the pair for the class of the largest logit."""
    networks = bundle()
    path = tmp_path / "bundle.safetensors"
    image = scene(40, 52)
    for index in range(3):
        with torch.no_grad():
            networks.classifier.output.bias.copy_(100 * torch.eye(3)[index])
        save_weights(path, networks, training_data="noise", revision="1")
        # At one scale: alone, the pair for the smallest blur would also look for a larger one at half size.
        chosen = Deblurrer.from_pretrained(path, device="cpu").deblur(image, scale=1)
        alone = Deblurrer(networks.pair(index), device="cpu").deblur(image, scale=1)
        assert chosen.kernel.shape == (CLASS_SIZES[index],) * 2
        assert torch.equal(chosen.kernel, alone.kernel)
        assert torch.equal(chosen.image, alone.image)


@pytest.mark.parametrize("found", [0, 1, 2])
def test_the_pair_is_that_of_the_class(found: int) -> None:
    deblurrer = deblurrer_that_finds({40: found})
    result = deblurrer.deblur(scene(40, 40))
    assert result.kernel.shape == (CLASS_SIZES[found],) * 2
    assert (result.kernel > 0).sum() == (3, 7, 11)[found]
    # The smallest estimate counts as known.
    expected = deblurred_by(deblurrer, found, scene(40, 40), result.kernel, estimated=found > 0)
    assert torch.equal(result.image, expected)


@pytest.mark.parametrize(("size", "pair"), [(1, 0), (3, 0), (5, 0), (7, 1), (9, 1), (11, 2), (13, 2)])
def test_a_given_kernel_asks_for_no_classifier(size: int, pair: int) -> None:
    deblurrer = deblurrer_that_finds({})
    kernel = torch.full((size, size), 1 / size**2)
    result = deblurrer.deblur(scene(40, 40), kernel)
    assert result.scale == 1
    assert torch.equal(result.image, deblurred_by(deblurrer, pair, scene(40, 40), result.kernel))


def test_a_given_kernel_above_the_largest_class_is_removed_at_half_size() -> None:
    deblurrer = deblurrer_that_finds({})
    result = deblurrer.deblur(scene(60, 60), torch.full((17, 17), 1.0))
    assert result.scale == 2
    assert result.kernel.shape == (17, 17)
    with pytest.raises(InputError, match="does not fit the grid of 13 at scale 1"):
        deblurrer.deblur(scene(60, 60), torch.full((17, 17), 1.0), scale=1)


def test_a_blur_above_the_largest_class_is_found_and_removed_at_half_size() -> None:
    # At half the size the blur is 9 pixels long and of the second class, in the full image at most 19.
    deblurrer = deblurrer_that_finds({120: 2, 60: 1}, lengths=(3, 9, 13))
    result = deblurrer.deblur(scene(120, 120))
    assert result.scale == 2
    assert result.image.shape == (3, 120, 120)
    # A radius of 4 pixels becomes 8; the grid of that class's pair is doubled too.
    assert result.kernel.shape == (17, 17)
    assert deblurrer.estimate_kernel(scene(120, 120)).shape == (17, 17)


def test_half_the_size_counts_only_where_the_blur_clearly_exceeds_the_largest_class() -> None:
    smaller = deblurrer_that_finds({120: 2, 60: 1}, lengths=(3, 7, 13)).deblur(scene(120, 120))
    assert (smaller.scale, smaller.kernel.shape) == (1, (13, 13))


@pytest.mark.parametrize("found", [0, 1])
def test_a_class_below_the_largest_is_never_looked_for_at_half_size(found: int) -> None:
    # The table has no answer for an image of 60 pixels.
    assert deblurrer_that_finds({120: found}).deblur(scene(120, 120)).scale == 1


def test_a_scale_that_is_asked_for_is_classified_at_that_scale() -> None:
    result = deblurrer_that_finds({60: 1}).deblur(scene(120, 120), scale=2)
    assert (result.scale, result.kernel.shape) == (2, (17, 17))


def test_tiles_must_be_large_enough_for_every_pair() -> None:
    networks = bundle()
    smallest = Deblurrer(networks, device="cpu").smallest_tile
    assert smallest == max(Deblurrer(networks.pair(index), device="cpu").smallest_tile for index in range(3))
    with pytest.raises(InputError, match=f"tile_size must be at least {smallest}"):
        Deblurrer(networks, device="cpu", tile_size=smallest - 1)
    assert Deblurrer(networks, device="cpu", tile_size=smallest).tile_size == smallest


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_choice_and_the_kernel_keep_full_precision(dtype: str) -> None:
    image = scene(40, 52)
    # Without a given scale, the noise would be left unchanged.
    exact = Deblurrer(bundle(), device="cpu").deblur(image, scale=1)
    rough = Deblurrer(bundle(), device="cpu", dtype=dtype).deblur(image, scale=1)
    assert torch.equal(exact.kernel, rough.kernel)
    assert not torch.equal(exact.image, rough.image)
