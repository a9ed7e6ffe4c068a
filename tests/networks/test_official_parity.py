"""The official topology against the released code: a small network of random weights and its output."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from asnet.errors import WeightsError
from asnet.networks import DeblurNetwork
from asnet.networks.keras_weights import network_from_keras

FIXTURE = Path(__file__).parents[1] / "fixtures" / "official_parity"
ANALYSIS, SYNTHESIS = FIXTURE / "analysis_weights.h5", FIXTURE / "synthesis_weights.h5"

h5py = pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def network() -> DeblurNetwork:
    return network_from_keras(ANALYSIS, SYNTHESIS)


@pytest.fixture(scope="module")
def image() -> Tensor:
    pixels = np.asarray(Image.open(FIXTURE / "input.png").convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def relative_error(actual: Tensor, expected: np.ndarray) -> float:
    return float((actual.double() - torch.from_numpy(expected).double()).abs().max() / np.abs(expected).max())


def test_kernel_is_that_of_the_released_code(network: DeblurNetwork, image: Tensor) -> None:
    with torch.no_grad():
        kernel = network.analysis(image)
    assert relative_error(kernel[0], np.load(FIXTURE / "kernel.npy")) < 1e-4


def test_image_is_that_of_the_released_code(network: DeblurNetwork, image: Tensor) -> None:
    with torch.no_grad():
        result = network(image)
    assert relative_error(result.image[0].permute(1, 2, 0) * 255, np.load(FIXTURE / "output.npy")) < 1e-4


def test_files_in_each_other_s_place_are_noticed() -> None:
    with pytest.raises(WeightsError, match=r"conv2d_31/conv2d_31/kernel:0 .* expected \(7, 7, 1, any\)"):
        network_from_keras(SYNTHESIS, ANALYSIS)
    with pytest.raises(
        WeightsError, match=r"the dataset conv2d/conv2d/kernel:0 .* expected \(3, 3, 3, any\)"
    ):
        network_from_keras(ANALYSIS, ANALYSIS)


def test_the_first_array_that_differs_is_named(tmp_path: Path) -> None:
    changed = tmp_path / "changed.h5"
    changed.write_bytes(SYNTHESIS.read_bytes())
    with h5py.File(changed, "r+") as file:
        layer = file["conv2d_36"]["conv2d_36"]
        del layer["bias:0"]
        layer["bias:0"] = np.zeros(5, np.float32)
    with pytest.raises(
        WeightsError,
        match=r"the dataset conv2d_36/conv2d_36/bias:0 has the shape \(5,\), expected \(8,\)",
    ):
        network_from_keras(ANALYSIS, changed)


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    truncated = tmp_path / "truncated.h5"
    truncated.write_bytes(SYNTHESIS.read_bytes()[:20_000])
    with pytest.raises(WeightsError, match=r"truncated\.h5 is damaged or not a Keras HDF5 weights file"):
        network_from_keras(ANALYSIS, truncated)
    with pytest.raises(WeightsError, match=r"there is no weights file .*absent"):
        network_from_keras(tmp_path / "absent.h5", SYNTHESIS)
