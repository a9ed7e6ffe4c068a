import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from asnet.data import Photographs
from asnet.errors import InputError
from asnet.networks.pair import DeblurNetwork
from asnet.training import Processes, TrainingConfig, Validation, make_examples, validate
from asnet.training.recipe import STAGES
from asnet.training.validation import MEASURES
from asnet.training.visualisation import CAPTION, CELL, GAP, KERNEL_SIDE, write_visualisation

FLOAT32 = torch.autocast("cpu", enabled=False)


class KnownKernel(nn.Module):
    """An analysis that always answers the same kernel (K, K)."""

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, image: Tensor) -> Tensor:
        return self.kernel.expand(image.shape[0], -1, -1)


class Darker(nn.Module):
    """A synthesis that halves the image."""

    def forward(self, blurred: Tensor, kernel: Tensor, *, estimated: bool = False) -> Tensor:
        return blurred / 2


def run_validation(config: TrainingConfig, network: DeblurNetwork) -> Validation:
    result = validate(
        config.stage,
        network,
        make_examples(config),
        device=torch.device("cpu"),
        autocast=FLOAT32,
        processes=Processes(),
    )
    assert result is not None
    return result


def delta() -> Tensor:
    kernel = torch.zeros(7, 7)
    kernel[3, 3] = 1
    return kernel


def test_numbers_for_a_kernel_of_one_pixel(table: dict[str, Any]) -> None:
    """Without blur the blurred image is the photograph; halving its brightness gives a known error."""
    table |= {"kernels": {"minimum_size": 1, "maximum_size": 1}, "validation_noise": 0.0}
    config = TrainingConfig.from_table("joint", table)
    network = DeblurNetwork(config.network)
    network.analysis, network.synthesis = KnownKernel(delta()), Darker()  # type: ignore[assignment]
    result = run_validation(config, network)
    photographs = Photographs(config.validation)
    for index, name in enumerate(result.names):
        inside = photographs[index][:, 3:-3, 3:-3]
        expected = 10 * math.log10(1 / float((inside / 2).square().mean()))
        assert result.per_photograph()[name]["psnr"] == pytest.approx(expected, abs=1e-4)
        assert result.per_photograph()[name]["psnr_true_kernel"] == pytest.approx(expected, abs=1e-4)
    assert result.measures["kernel_similarity"] == pytest.approx([1, 1], abs=1e-5)
    assert result.measures["self_symmetry"] == pytest.approx([1, 1], abs=1e-5)
    assert (result.measures["psnr_blurred"] > 80).all()


def test_noise_alone_has_its_psnr(table: dict[str, Any]) -> None:
    table |= {
        "kernels": {"minimum_size": 1, "maximum_size": 1},
        "validation_noise": 0.1,
        "validation_count": 3,
    }
    config = TrainingConfig.from_table("synthesis", table)
    # Clipping to [0, 1] takes some of the noise from the darkest and brightest squares.
    assert 20 <= run_validation(config, DeblurNetwork(config.network)).means()["psnr_blurred"] < 21


def test_a_true_kernel_makes_wiener_better_than_the_blurred_image(table: dict[str, Any]) -> None:
    table |= {"kernels": {"minimum_size": 7}, "validation_noise": 0.005}
    config = TrainingConfig.from_table("analysis", table)
    network = DeblurNetwork(config.network)
    network.analysis = KnownKernel(delta())  # type: ignore[assignment]
    means = run_validation(config, network).means()
    assert means["psnr_wiener_true_kernel"] > means["psnr_blurred"] + 0.5
    assert means["psnr_wiener_true_kernel"] > means["psnr_wiener"] + 0.5
    assert means["kernel_similarity"] < 0.9


@pytest.mark.parametrize("stage", STAGES)
def test_validation_is_the_same_every_time_and_needs_no_training_mode(
    stage: Any, table: dict[str, Any]
) -> None:
    config = TrainingConfig.from_table(stage, table)
    network = DeblurNetwork(config.network).train()
    first, second = run_validation(config, network), run_validation(config, network)
    assert tuple(first.measures) == MEASURES[config.stage]
    assert first.means() == second.means()
    assert network.training
    other_seed = run_validation(TrainingConfig.from_table(stage, table | {"validation_seed": 2}), network)
    assert other_seed.means()["psnr_blurred"] != first.means()["psnr_blurred"]


def test_crops_come_from_the_centre(table: dict[str, Any]) -> None:
    config = TrainingConfig.from_table("synthesis", table | {"validation_crop": 20})
    example = make_examples(config)[0]
    assert example.blurred.shape == example.sharp.shape == (1, 3, 20, 20)
    assert torch.equal(example.sharp[0], Photographs(config.validation)[0][:, 18:38, 14:34])


def test_photographs_that_are_too_small_are_named(table: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"picture0\.png has 48x56 pixels"):
        make_examples(TrainingConfig.from_table("synthesis", table | {"validation_crop": 50}))


def test_the_sheet_shows_images_and_kernels(table: dict[str, Any], tmp_path: Path) -> None:
    config = TrainingConfig.from_table("joint", table | {"validation_crop": 32})
    result = run_validation(config, DeblurNetwork(config.network))
    write_visualisation(tmp_path / "sheet.png", result.pictures)
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (3 * CELL + 4 * GAP, GAP + 2 * (CELL + CAPTION + GAP))
    pixels = numpy.asarray(sheet)
    # Pictures of 32 pixels are enlarged eight times; the last cell of the second row holds the true image.
    corner = pixels[GAP + CELL + CAPTION + GAP :, 3 * GAP + 2 * CELL :][:CELL, :CELL]
    truth = (make_examples(config)[1].sharp[0] * 255).round().byte().permute(1, 2, 0).numpy()
    assert (corner[4::8, 4::8][16:] == truth[16:]).all()
    # Its kernel is in the upper left corner, the brightest pixel white.
    drawn = corner[1 : KERNEL_SIDE + 1, 1 : KERNEL_SIDE + 1]
    assert drawn.max() == 255
    assert drawn[0, 0].max() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
