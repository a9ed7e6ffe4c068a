"""The size classifier: which kernel sizes make a class, what it answers, and its weights files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_networks import small_analysis, small_pair

from asnet import Deblurrer
from asnet.data import BlurKernelConfig, blur, sample_blur_kernels
from asnet.data.blur_kernels import support_size
from asnet.errors import ConfigurationError, WeightsError
from asnet.networks import (
    ASNetConfig,
    DeblurNetwork,
    SizeClassifier,
    SizeClassifierConfig,
    load_networks,
    read_header,
    save_weights,
)


def small_classifier(name: str = "paper") -> SizeClassifier:
    torch.manual_seed(0)
    analysis = replace(small_analysis(name), levels=1)
    return SizeClassifier(SizeClassifierConfig(analysis, (3, 5, 7), "small")).eval()


@pytest.mark.parametrize("name", ["paper", "official", "compact"])
def test_presets_survive_json(name: str) -> None:
    config = SizeClassifierConfig.preset(name)
    assert config.name == name
    assert config.class_sizes == (31, 61, 85)
    assert SizeClassifierConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_sizes_belong_to_the_classes_of_the_paper() -> None:
    """[0, 31], (31, 61] and (61, 85]; what is larger still belongs to the last."""
    sizes = torch.tensor([1, 3, 29, 31, 33, 61, 63, 85, 87])
    assert SizeClassifierConfig().classes_of(sizes).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2]


def test_kernels_drawn_from_a_class_belong_to_it() -> None:
    for index in range(3):
        config = BlurKernelConfig.of_class(index, canvas=85)
        kernels = sample_blur_kernels(20, config, generator=torch.Generator().manual_seed(index))
        classes = SizeClassifierConfig().classes_of(support_size(kernels))
        assert classes.tolist() == [index] * 20


@pytest.mark.parametrize("name", ["paper", "official"])
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (37, 50)])
def test_any_size_of_image_gives_a_logit_for_each_class(name: str, size: tuple[int, int]) -> None:
    logits = small_classifier(name)(torch.rand(2, 3, *size))
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()


def test_images_of_a_batch_do_not_mix_and_brightness_does_not_count() -> None:
    network = small_classifier().double()
    images = torch.rand(2, 1, 30, 34, dtype=torch.float64)
    together = network(images)
    torch.testing.assert_close(together, torch.cat([network(images[:1]), network(images[1:])]))
    assert not torch.allclose(together[0], together[1], rtol=1e-6)
    torch.testing.assert_close(network(0.5 * images + 0.2), together, atol=1e-6, rtol=1e-4)


def test_a_second_scale_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"analysis\.levels must be 1, got 3"):
        SizeClassifierConfig(replace(small_analysis("paper"), levels=3))


def test_a_classifier_comes_back_from_its_file(tmp_path: Path) -> None:
    network = small_classifier()
    path = tmp_path / "classifier.safetensors"
    save_weights(path, network, training_data="noise", revision="1")
    loaded = load_networks(path, SizeClassifier)
    assert loaded.config == network.config
    torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)
    assert read_header(path).configuration == network.config


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    classifier, pair = tmp_path / "classifier.safetensors", tmp_path / "pair.safetensors"
    save_weights(classifier, small_classifier(), training_data="noise", revision="1")
    save_weights(pair, DeblurNetwork(small_pair("paper")), training_data="noise", revision="1")
    with pytest.raises(
        WeightsError, match=r"classifier\.safetensors holds a size classifier, expected a pair of networks"
    ):
        load_networks(classifier, DeblurNetwork)
    with pytest.raises(
        WeightsError, match=r"pair\.safetensors holds a pair of networks, expected a size classifier"
    ):
        load_networks(pair, SizeClassifier)
    with pytest.raises(WeightsError, match="only a size classifier, which deblurs nothing"):
        Deblurrer.from_pretrained(classifier)


@pytest.mark.parametrize("kernel_size", [61, 85])
def test_pairs_like_compact_take_the_grids_of_the_larger_classes(kernel_size: int) -> None:
    compact = ASNetConfig.compact()
    analysis = replace(compact.analysis, kernel_size=kernel_size)
    synthesis = replace(
        compact.synthesis,
        kernel_size=kernel_size,
        channels=(4, 6, 8),
        convolutions_per_block=1,
        guide_hidden=5,
    )
    torch.manual_seed(0)
    deblurrer = Deblurrer(DeblurNetwork(ASNetConfig(analysis, synthesis)), device="cpu")
    generator = torch.Generator().manual_seed(1)
    sampled = BlurKernelConfig(canvas=kernel_size, minimum_size=kernel_size)
    kernel = sample_blur_kernels(1, sampled, generator=generator)
    side = 120 + kernel_size
    blocks = torch.rand(1, 3, side // 12 + 1, side // 12 + 1, generator=generator)
    sharp = blocks.repeat_interleave(12, 2).repeat_interleave(12, 3)[..., :side, :side]
    result = deblurrer.deblur(blur(sharp, kernel)[0], scale=1)
    assert result.kernel.shape == (kernel_size, kernel_size)
    assert result.kernel.sum() == pytest.approx(1, abs=1e-4)
    assert result.image.isfinite().all()
