"""Weights of the released code (Keras HDF5) for the networks of `ASNetConfig.official()`.

Keras numbers the layers of a kind in the order in which the model was written, so a layer's place in that
order tells what it is; the sizes of the network are read off the arrays.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from asnet.errors import WeightsError
from asnet.networks.configurations import AnalysisConfig, ASNetConfig, SynthesisConfig
from asnet.networks.pair import DeblurNetwork

#: Convolutions (and guided convolutions) of a block of the released synthesis network.
CONVOLUTIONS_PER_BLOCK = 3


@dataclass(frozen=True)
class KerasLayer:
    """One layer with weights: its name and arrays, the kernel before the bias."""

    name: str
    arrays: tuple[Tensor, ...]

    @property
    def kernel(self) -> Tensor:
        return self.arrays[0]


@dataclass(frozen=True)
class KerasFile:
    """The layers with weights of one file by kind ("conv2d", "dense", ...), in the order of their making."""

    path: Path
    layers: dict[str, list[KerasLayer]]

    def of_kind(self, kind: str) -> list[KerasLayer]:
        """Return the layers of a kind.

        Raises
        ------
        WeightsError
            If there is none.
        """
        if kind not in self.layers:
            raise WeightsError(f"{self.path} has no layer of the kind {kind}, found {', '.join(self.layers)}")
        return self.layers[kind]


def read_keras_file(path: str | Path) -> KerasFile:
    """Read all layers of a Keras HDF5 weights file (Keras 2 layout); needs h5py.

    Raises
    ------
    WeightsError
        If h5py is not installed, or the file is missing, damaged, or in another layout.
    """
    path = Path(path)
    try:
        import h5py
    except ImportError:
        raise WeightsError("reading Keras weights needs h5py: pip install 'asnet[import-weights]'") from None
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    numbered: dict[str, list[tuple[int, KerasLayer]]] = {}
    try:
        with h5py.File(path) as file:
            root = file.get("model_weights", file)
            for name in map(_text, root.attrs["layer_names"]):
                arrays = tuple(
                    torch.from_numpy(root[name][_text(entry)][()])
                    for entry in root[name].attrs["weight_names"]
                )
                match = re.fullmatch(r"(.+?)(?:_(\d+))?", name)
                if arrays and match:
                    numbered.setdefault(match[1], []).append((int(match[2] or 0), KerasLayer(name, arrays)))
    except (OSError, KeyError, TypeError, RuntimeError) as error:
        raise WeightsError(f"{path} is damaged or not a Keras HDF5 weights file: {error}") from None
    if not numbered:
        raise WeightsError(f"{path} holds no weights")
    return KerasFile(
        path,
        {
            kind: [layer for _, layer in sorted(found, key=lambda entry: entry[0])]
            for kind, found in numbered.items()
        },
    )


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def network_from_keras(analysis_path: str | Path, synthesis_path: str | Path) -> DeblurNetwork:
    """Build the pair of networks of the released code from its two weights files.

    Parameters
    ----------
    analysis_path, synthesis_path : str or Path
        What the released code saved, of any size of kernel grid, depth and width.

    Returns
    -------
    DeblurNetwork
        In evaluation mode; its configuration is `official()` with the sizes of the files.

    Raises
    ------
    WeightsError
        If a file cannot be read, or is not of that topology; the message names the first difference.
    """
    analysis, synthesis = read_keras_file(analysis_path), read_keras_file(synthesis_path)
    synthesis_config = _synthesis_config(synthesis)
    config = ASNetConfig(
        _analysis_config(analysis, synthesis_config.kernel_size),
        synthesis_config,
        ASNetConfig.official().name,
    )
    network = DeblurNetwork(config)
    assert isinstance(config.analysis, AnalysisConfig)
    for part, file, names in (
        (network.analysis, analysis, _analysis_names(config.analysis)),
        (network.synthesis, synthesis, _synthesis_names(config.synthesis)),
    ):
        part.load_state_dict(_state(file, names, part.state_dict()))
    return network.eval()


def _analysis_config(file: KerasFile, kernel_size: int) -> AnalysisConfig:
    official = ASNetConfig.official().analysis
    assert isinstance(official, AnalysisConfig)
    convolutions, levels = file.of_kind("conv2d"), len(file.of_kind("conv2d_transpose")) + 1
    feature_layers = sum(layer.kernel.shape[0] == official.feature_size for layer in convolutions) / levels
    # After a level's features come its projection and its reduction; the last of the head has one channel.
    head = 1 + (int(feature_layers) + 2) * levels + 2 * (levels - 1)
    if feature_layers < 1 or feature_layers % 1 or len(convolutions) < head:
        raise WeightsError(
            f"{file.path} is no analysis network of the released code: {len(convolutions)} convolutions with "
            f"{feature_layers:g} of side {official.feature_size} for each of {levels} levels"
        )
    features, (projection, reduction) = convolutions[0], convolutions[int(feature_layers) :][:2]
    return replace(
        official,
        kernel_size=kernel_size,
        levels=levels,
        feature_layers=int(feature_layers),
        feature_channels=features.kernel.shape[-1],
        correlation_channels=projection.kernel.shape[-1],
        reduced_channels=reduction.kernel.shape[-1],
        head_channels=tuple(layer.kernel.shape[-1] for layer in convolutions[head - 1 : -1]),
    )


def _synthesis_config(file: KerasFile) -> SynthesisConfig:
    official = ASNetConfig.official().synthesis
    first = file.of_kind("dense")[0].kernel
    kernel_size = math.isqrt(first.shape[0])
    if kernel_size**2 != first.shape[0] or kernel_size % 2 == 0:
        raise WeightsError(
            f"{file.path} is no synthesis network of the released code: its first dense layer has "
            f"{first.shape[0]} inputs, which is not the square of an odd number"
        )
    levels = len(file.of_kind("conv2d_transpose")) + 1
    return replace(
        official,
        kernel_size=kernel_size,
        guide_hidden=first.shape[1],
        channels=(file.of_kind("conv2d")[0].kernel.shape[-1],) * levels,
        convolutions_per_block=CONVOLUTIONS_PER_BLOCK,
    )


def _analysis_names(config: AnalysisConfig) -> Iterator[tuple[str, str]]:
    """Kind of layer and our name for each layer, every kind in the order of the file."""
    for level in range(config.levels):
        if level:
            yield "conv2d", f"down.{level - 1}"
        for index in range(config.feature_layers):
            yield "conv2d", f"levels.{level}.features.{index}"
        yield "conv2d", f"levels.{level}.projection"
        yield "conv2d", f"levels.{level}.reduction"
    for level in reversed(range(config.levels - 1)):
        yield "conv2d_transpose", f"fusions.{level}.up"
        yield "conv2d", f"fusions.{level}.join"
    for index in range(len(config.head_channels) + 1):
        yield "conv2d", f"head.{index}"


def _synthesis_names(config: SynthesisConfig) -> Iterator[tuple[str, str]]:
    """Kind of layer and our name for each layer, every kind in the order of the file."""
    levels = len(config.channels)
    for level in range(levels):
        yield from _block_names(f"encoder.{level}", config)
        if level + 1 < levels:
            yield "conv2d", f"encoder.{level}.down"
    for level in reversed(range(levels - 1)):
        yield "conv2d_transpose", f"decoder.{level}.up"
        yield "conv2d", f"decoder.{level}.skip"
        yield "conv2d", f"decoder.{level}.merge"
        yield from _block_names(f"decoder.{level}", config)
    yield "conv2d", "output"


def _block_names(name: str, config: SynthesisConfig) -> Iterator[tuple[str, str]]:
    for index in range(2):
        yield "dense", f"{name}.guide.hidden.{index}"
    for index in range(config.convolutions_per_block):
        yield "dense", f"{name}.guide.multipliers.{index}"
        yield "dense", f"{name}.guide.shifts.{index}"
        yield "bias_layer", f"{name}.guide.offsets.{index}"
        yield "conv2d", f"{name}.block.convolutions.{index}"


def _state(
    file: KerasFile, names: Iterator[tuple[str, str]], expected: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the state dict of one network, checked against the shapes that are `expected`."""
    remaining = {kind: iter(layers) for kind, layers in file.layers.items()}
    state: dict[str, Tensor] = {}
    for kind, name in names:
        layer = next(remaining.get(kind, iter(())), None)
        if layer is None:
            raise WeightsError(f"{file.path} lacks a layer of the kind {kind} for {name}")
        for key, value in _arrays(kind, name, layer):
            if key not in expected or expected[key].shape != value.shape:
                wanted = tuple(expected[key].shape) if key in expected else "no such array"
                found = f"the layer {layer.name} gives {key} the shape {tuple(value.shape)}"
                raise WeightsError(f"{file.path}: {found}, expected {wanted}")
            state[key] = value
    for layers in remaining.values():
        extra = next(layers, None)
        if extra is not None:
            raise WeightsError(f"{file.path}: the released network has no place for the layer {extra.name}")
    return state


def _arrays(kind: str, name: str, layer: KerasLayer) -> list[tuple[str, Tensor]]:
    """Names and values of a layer's arrays as our networks hold them."""
    if kind == "bias_layer":
        return [(name, layer.kernel)]
    # Keras: (height, width, in, out), transposed (height, width, out, in), dense layers (in, out).
    kernel = layer.kernel.permute(3, 2, 0, 1) if layer.kernel.dim() == 4 else layer.kernel.T
    return [(f"{name}.weight", kernel), *((f"{name}.bias", bias) for bias in layer.arrays[1:])]
