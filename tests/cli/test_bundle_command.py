"""`asnet bundle`: trained parts in, one file out that `asnet deblur --model` takes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from messages import one_sentence
from PIL import Image

from asnet import Deblurrer
from asnet.cli.main import main
from asnet.imaging import read_kernel
from asnet.networks import (
    AnalysisConfig,
    ASNetConfig,
    DeblurNetwork,
    IteratedAnalysisConfig,
    ScaleOptimisedNetworks,
    SizeClassifier,
    SizeClassifierConfig,
    load_networks,
    read_header,
    save_weights,
)

CLASS_SIZES = (5, 9, 13)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Untrained weights of a classifier that always predicts its second class, and of its three pairs."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    analysis = AnalysisConfig(
        7, levels=1, feature_channels=4, feature_layers=1, feature_size=3, correlation_channels=2
    )
    classifier = SizeClassifier(SizeClassifierConfig(analysis, CLASS_SIZES, "small"))
    torch.nn.init.constant_(classifier.output.bias[1], 100)
    paths = [folder / "classifier.safetensors"]
    save_weights(paths[0], classifier, training_data="garden", revision="3, classifier stage")
    for size in CLASS_SIZES:
        synthesis = replace(
            ASNetConfig.compact().synthesis,
            kernel_size=size,
            channels=(4, 6),
            convolutions_per_block=1,
            guide_hidden=5,
        )
        config = ASNetConfig(IteratedAnalysisConfig(size, refiner_channels=4), synthesis)
        paths.append(folder / f"scale-{size}.safetensors")
        data = "garden" if size < 13 else "street"
        save_weights(paths[-1], DeblurNetwork(config), training_data=data, revision="3, joint stage")
    return paths


def bundled(*arguments: str | Path) -> int:
    return main(["bundle", *map(str, arguments)])


def test_a_bundle_deblurs_photographs_by_its_own_choice(parts: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "new" / "bundle.safetensors"
    assert bundled(*parts, "-o", output) == 0
    assert [path.name for path in output.parent.iterdir()] == ["bundle.safetensors"]
    picture = Image.effect_noise((52, 40), 60)
    picture.save(tmp_path / "photo.png")
    arguments = ["deblur", tmp_path / "photo.png", "-o", tmp_path / "sharp.png", "--model", output]
    arguments += ["--save-kernel", tmp_path / "kernel.npy", "--device", "cpu"]
    assert main([str(argument) for argument in arguments]) == 0
    with Image.open(tmp_path / "sharp.png") as sharp:
        assert sharp.size == (52, 40)
    alone = Deblurrer.from_pretrained(parts[2], device="cpu").estimate_kernel(picture)
    # Kernel files are cropped to the support.
    kernel = read_kernel(tmp_path / "kernel.npy")
    margin = (alone.shape[-1] - kernel.shape[-1]) // 2
    torch.testing.assert_close(torch.nn.functional.pad(kernel, (margin,) * 4), alone, atol=1e-6, rtol=0)


def test_a_bundle_says_where_its_parts_come_from(parts: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "bundle.safetensors"
    assert bundled(*parts, "-o", output) == 0
    header = read_header(output)
    assert header.configuration.name == "scale_optimised"
    assert header.training_data == "garden, street"
    assert header.revision == (
        "classifier: 3, classifier stage; kernels of up to 5 pixels: 3, joint stage; "
        "kernels of up to 9 pixels: 3, joint stage; kernels of up to 13 pixels: 3, joint stage"
    )
    networks = load_networks(output)
    assert isinstance(networks, ScaleOptimisedNetworks)
    for index, path in enumerate(parts[1:]):
        pair = load_networks(path)
        torch.testing.assert_close(networks.pair(index).state_dict(), pair.state_dict(), rtol=0, atol=0)


def test_parts_that_do_not_fit_are_named(
    parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bundle.safetensors"
    classifier, small, middle, large = parts
    for arguments, sentence in (
        ((classifier, small, middle), "has 3 classes (up to 5, 9, 13 pixels) and needs as many pairs, got 2"),
        ((classifier, middle, small, large), "pair 2 is for kernels of up to 9 pixels"),
        ((small, classifier, middle, large), "scale-5.safetensors holds a pair of networks, expected a size"),
        (
            (classifier, small, classifier, large),
            "classifier.safetensors holds a size classifier, expected a",
        ),
        ((classifier, small, middle, tmp_path / "absent"), f"there is no weights file {tmp_path / 'absent'}"),
    ):
        assert bundled(*arguments, "-o", output) == 1
        assert sentence in one_sentence(capsys)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(
    parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bundle.safetensors"
    output.write_text("precious")
    assert bundled(*parts, "-o", output) == 1
    assert "--overwrite replaces it" in one_sentence(capsys)
    assert output.read_text() == "precious"
    assert bundled(*parts, "-o", output, "--overwrite") == 0
    assert bundled(*parts, "-o", parts[0], "--overwrite") == 1
    assert "inputs are never overwritten" in one_sentence(capsys)


def test_a_classifier_alone_deblurs_nothing(
    parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.effect_noise((40, 40), 60).save(tmp_path / "photo.png")
    arguments = ["deblur", tmp_path / "photo.png", "-o", tmp_path / "sharp.png", "--model", parts[0]]
    assert main([str(argument) for argument in arguments]) == 1
    assert "holds only a size classifier" in one_sentence(capsys)
    assert not (tmp_path / "sharp.png").exists()
