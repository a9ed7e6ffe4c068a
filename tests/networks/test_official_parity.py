"""The official topology against the released code: a small network of random weights and its output."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from asnet.networks import ASNetConfig, DeblurNetwork

FIXTURE = Path(__file__).parents[2].parent / "shared" / "data" / "official-parity"

h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.skipif(not FIXTURE.is_dir(), reason="needs ../shared/data/official-parity")


def keras_layers(path: Path) -> dict[str, list[list[Tensor]]]:
    """The arrays of every layer of a Keras HDF5 file, by kind and in the order of their making."""
    kinds: dict[str, list[tuple[int, list[Tensor]]]] = {}
    with h5py.File(path) as file:
        for layer in file.attrs["layer_names"]:
            group = file[layer]
            arrays = [torch.from_numpy(group[name][()]) for name in group.attrs["weight_names"]]
            kind, number = re.fullmatch(r"(.+?)(?:_(\d+))?", layer).groups()
            if arrays:
                kinds.setdefault(kind, []).append((int(number or 0), arrays))
    return {
        kind: [arrays for _, arrays in sorted(layers, key=lambda layer: layer[0])]
        for kind, layers in kinds.items()
    }


def take_convolution(state: dict[str, Tensor], name: str, layers: Iterator[list[Tensor]]) -> None:
    """Keras keeps (height, width, in, out), and (height, width, out, in) for transposed convolutions."""
    weight, state[f"{name}.bias"] = next(layers)
    state[f"{name}.weight"] = weight.permute(3, 2, 0, 1)


def take_linear(state: dict[str, Tensor], name: str, layers: Iterator[list[Tensor]]) -> None:
    weight, state[f"{name}.bias"] = next(layers)
    state[f"{name}.weight"] = weight.T


def analysis_state(path: Path, levels: int, feature_layers: int, head_layers: int) -> dict[str, Tensor]:
    layers = keras_layers(path)
    convolutions, transposed = iter(layers["conv2d"]), iter(layers["conv2d_transpose"])
    state: dict[str, Tensor] = {}
    for level in range(levels):
        if level:
            take_convolution(state, f"down.{level - 1}", convolutions)
        for index in range(feature_layers):
            take_convolution(state, f"levels.{level}.features.{index}", convolutions)
        take_convolution(state, f"levels.{level}.projection", convolutions)
        take_convolution(state, f"levels.{level}.reduction", convolutions)
    for level in reversed(range(levels - 1)):
        take_convolution(state, f"fusions.{level}.up", transposed)
        take_convolution(state, f"fusions.{level}.join", convolutions)
    for index in range(head_layers):
        take_convolution(state, f"head.{index}", convolutions)
    return state


def synthesis_state(path: Path, levels: int, convolutions_per_block: int) -> dict[str, Tensor]:
    layers = keras_layers(path)
    convolutions, transposed = iter(layers["conv2d"]), iter(layers["conv2d_transpose"])
    linear, offsets = iter(layers["dense"]), iter(layers["bias_layer"])
    state: dict[str, Tensor] = {}

    def take_block(name: str) -> None:
        for index in range(2):
            take_linear(state, f"{name}.guide.hidden.{index}", linear)
        for index in range(convolutions_per_block):
            take_linear(state, f"{name}.guide.multipliers.{index}", linear)
            take_linear(state, f"{name}.guide.shifts.{index}", linear)
            (state[f"{name}.guide.offsets.{index}"],) = next(offsets)
            take_convolution(state, f"{name}.block.convolutions.{index}", convolutions)

    for level in range(levels):
        take_block(f"encoder.{level}")
        if level + 1 < levels:
            take_convolution(state, f"encoder.{level}.down", convolutions)
    for level in reversed(range(levels - 1)):
        take_convolution(state, f"decoder.{level}.up", transposed)
        take_convolution(state, f"decoder.{level}.skip", convolutions)
        take_convolution(state, f"decoder.{level}.merge", convolutions)
        take_block(f"decoder.{level}")
    take_convolution(state, "output", convolutions)
    return state


@pytest.fixture(scope="module")
def network() -> DeblurNetwork:
    official = ASNetConfig.official()
    config = ASNetConfig(
        replace(
            official.analysis, kernel_size=21, feature_channels=6, correlation_channels=4, reduced_channels=5
        ),
        replace(official.synthesis, kernel_size=21, channels=(8, 8, 8), guide_hidden=8),
        "official, reduced",
    )
    network = DeblurNetwork(config).eval()
    network.analysis.load_state_dict(analysis_state(FIXTURE / "analysis_weights.h5", 4, 3, 4))
    network.synthesis.load_state_dict(synthesis_state(FIXTURE / "synthesis_weights.h5", 3, 3))
    return network


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
