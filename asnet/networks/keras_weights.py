"""Weights of the released code (Keras HDF5) for the networks of `ASNetConfig.official()`.

Keras numbers the layers of a kind in the order of their creation, so the order identifies each layer; the
sizes of the network follow from the arrays.
"""

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from asnet.errors import WeightsError
from asnet.networks.config import AnalysisConfig, ASNetConfig, Boundary, SynthesisConfig
from asnet.networks.pair import DeblurNetwork

#: Convolutions (and guided convolutions) of a block of the released synthesis network.
CONVOLUTIONS_PER_BLOCK = 3

#: Signature of an HDF5 heap, before its size, and the header of its objects: index and size.
_HEAP = b"GCOL\\x01\\0\\0\\0"
_OBJECT = struct.Struct("<H6xQ")


@dataclass(frozen=True)
class KerasArray:
    """One dataset of a file: its name there and its values in Keras' layout."""

    dataset: str
    values: Tensor


@dataclass(frozen=True)
class KerasLayer:
    """One layer with weights: its name and arrays, the kernel before the bias."""

    name: str
    arrays: tuple[KerasArray, ...]


@dataclass(frozen=True)
class KerasFile:
    """The layers with weights of one file by kind ("conv2d", "dense", ...), in order of creation."""

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
    if path.is_dir():
        raise WeightsError(f"{path} is a folder, not a weights file")
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    numbered: dict[str, list[tuple[int, KerasLayer]]] = {}
    try:
        _check_heaps(path.read_bytes())
        with h5py.File(path) as file:
            root = file.get("model_weights", file)
            for name in map(_text, _listed(path, root, "layer_names")):
                if name not in root:
                    raise WeightsError(f"{path} lacks the layer {name}, which it lists")
                datasets = [f"{name}/{_text(entry)}" for entry in _listed(path, root[name], "weight_names")]
                arrays = tuple(KerasArray(entry, _values(path, root, entry)) for entry in datasets)
                match = re.fullmatch(r"(.+?)(?:_(\d+))?", name)
                if arrays and match:
                    numbered.setdefault(match[1], []).append((int(match[2] or 0), KerasLayer(name, arrays)))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} is damaged or not a Keras HDF5 weights file: {_reason(error)}") from None
    if not numbered:
        raise WeightsError(f"{path} holds no weights")
    return KerasFile(
        path,
        {
            kind: [layer for _, layer in sorted(found, key=lambda entry: entry[0])]
            for kind, found in numbered.items()
        },
    )


def _check_heaps(data: bytes) -> None:
    """Raise `ValueError` if an object of the heaps that hold names has no size, or a wrong one.

    The HDF5 library advances by the sizes of objects, and loops forever if one is 0.
    """
    for heap in re.finditer(_HEAP, data):
        end = heap.start() + int.from_bytes(data[heap.end() : heap.end() + 8], "little")
        place = heap.end() + 8
        while place + _OBJECT.size <= min(end, len(data)):
            index, size = _OBJECT.unpack_from(data, place)
            # Free space includes its own header.
            step = size if index == 0 else _OBJECT.size + -(-size // 8) * 8
            if not 0 < step <= end - place:
                raise ValueError("an entry of a list of names has a wrong size")
            place += step


def _listed(path: Path, group: Any, attribute: str) -> Any:
    """The names that an attribute of a file or of a layer lists."""
    if attribute not in group.attrs:
        of = "a Keras 2 weights file" if attribute == "layer_names" else f"the layer {group.name.strip('/')}"
        raise WeightsError(f"{path} lacks the list {attribute} of {of}")
    return group.attrs[attribute]


def _values(path: Path, root: Any, dataset: str) -> Tensor:
    """The values of a dataset as float32."""
    if dataset not in root:
        raise WeightsError(f"{path} lacks the dataset {dataset}, which it lists")
    try:
        array = numpy.asarray(root[dataset][()])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        raise WeightsError(f"{path}: the dataset {dataset} cannot be read: {_reason(error)}") from None
    if array.dtype.kind not in "fiu":
        raise WeightsError(f"{path}: the dataset {dataset} holds no real numbers")
    values = torch.from_numpy(numpy.require(array, numpy.float32, "W"))
    if not bool(values.isfinite().all()):
        raise WeightsError(f"{path}: the dataset {dataset} holds infinite numbers or NaN")
    return values


def _reason(error: Exception) -> str:
    """The message of h5py, without the quotes of a `KeyError`."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def network_from_keras(
    analysis_path: str | Path, synthesis_path: str | Path, *, boundary: Boundary = "circular"
) -> DeblurNetwork:
    """Build the pair of networks of the released code from its two weights files.

    Parameters
    ----------
    analysis_path, synthesis_path : str or Path
        Files saved by the released code, with any kernel grid, depth and width.
    boundary : {"circular", "zero"}
        Outside the feature maps the correlation sees the opposite side, as in the released code, or zeros, so
        that a photograph's borders do not matter.

    Returns
    -------
    DeblurNetwork
        In evaluation mode; its configuration is `official()` with the sizes of the files.

    Raises
    ------
    WeightsError
        If a file cannot be read, or is not of that topology; the message names the first dataset that
        differs, its shape and the one expected.
    """
    analysis, synthesis = read_keras_file(analysis_path), read_keras_file(synthesis_path)
    analysis_config, synthesis_config = _analysis_config(analysis), _synthesis_config(synthesis)
    analysis_config = replace(analysis_config, kernel_size=synthesis_config.kernel_size, boundary=boundary)
    network = DeblurNetwork(ASNetConfig(analysis_config, synthesis_config, ASNetConfig.official().name))
    for part, file, names in (
        (network.analysis, analysis, _analysis_names(analysis_config)),
        (network.synthesis, synthesis, _synthesis_names(synthesis_config)),
    ):
        part.load_state_dict(_state(file, names, part.state_dict()))
    return network.eval()


def _analysis_config(file: KerasFile) -> AnalysisConfig:
    """The sizes of an analysis network except for its kernel grid, which no array reveals."""
    official = ASNetConfig.official().analysis
    assert isinstance(official, AnalysisConfig)
    features = _convolution_shape(file, 0, official.feature_size, 1)[-1]
    shapes = [tuple(layer.arrays[0].values.shape) for layer in file.of_kind("conv2d")]
    feature_layers = next(
        (index for index, shape in enumerate(shapes) if shape[0] != official.feature_size), len(shapes)
    )
    maps = _convolution_shape(file, feature_layers, 1, features)[-1]
    reduced = _convolution_shape(file, feature_layers + 1, 1, maps * (maps + 1))[-1]
    levels = len(file.of_kind("conv2d_transpose")) + 1
    # Convolutions before the head: of every level, between the levels for downsampling, and for upsampling.
    before = (feature_layers + 2) * levels + 2 * (levels - 1)
    # The last convolution outputs the kernel; a truncated file is detected when it is read in order.
    head = shapes[before : max(before + 1, len(shapes) - 1)]
    return replace(
        official,
        levels=levels,
        feature_layers=feature_layers,
        feature_channels=features,
        correlation_channels=maps,
        reduced_channels=reduced,
        head_channels=tuple(shape[-1] for shape in head) or official.head_channels,
    )


def _synthesis_config(file: KerasFile) -> SynthesisConfig:
    official = ASNetConfig.official().synthesis
    channels = _convolution_shape(file, 0, 3, 3)[-1]
    first = file.of_kind("dense")[0].arrays[0]
    shape = tuple(first.values.shape)
    kernel_size = math.isqrt(shape[0])
    if len(shape) != 2 or kernel_size**2 != shape[0] or kernel_size % 2 == 0 or kernel_size < 3:
        raise WeightsError(
            f"{file.path}: the dataset {first.dataset} has the shape {shape}, expected the square of an odd "
            "kernel size by any number"
        )
    return replace(
        official,
        kernel_size=kernel_size,
        guide_hidden=shape[1],
        channels=(channels,) * (len(file.of_kind("conv2d_transpose")) + 1),
        convolutions_per_block=CONVOLUTIONS_PER_BLOCK,
    )


def _convolution_shape(file: KerasFile, index: int, size: int, in_channels: int) -> tuple[int, ...]:
    """Return the shape of a convolution's kernel, which must have this size and number of inputs."""
    layers = file.of_kind("conv2d")
    expected = f"({size}, {size}, {in_channels}, any)"
    if index >= len(layers):
        raise WeightsError(
            f"{file.path} ends after the layer {layers[-1].name}, expected another conv2d of {expected}"
        )
    array = layers[index].arrays[0]
    shape = tuple(array.values.shape)
    if len(shape) != 4 or shape[:3] != (size, size, in_channels):
        raise WeightsError(
            f"{file.path}: the dataset {array.dataset} has the shape {shape}, expected {expected}"
        )
    return shape


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
    last_names: dict[str, str] = {}
    state: dict[str, Tensor] = {}
    for kind, name in names:
        keys = [name] if kind == "bias_layer" else [f"{name}.weight", f"{name}.bias"]
        wanted = [tuple(_to_keras(expected[key]).shape) for key in keys]
        layer = next(remaining.get(kind, iter(())), None)
        if layer is None:
            place = f"after {last_names[kind]}" if kind in last_names else "at all"
            raise WeightsError(
                f"{file.path} has no layer of the kind {kind} {place}, expected one of the shape {wanted[0]}"
            )
        last_names[kind] = layer.name
        if len(layer.arrays) != len(keys):
            raise WeightsError(
                f"{file.path}: the layer {layer.name} has {len(layer.arrays)} datasets, expected {len(keys)}"
            )
        for key, shape, array in zip(keys, wanted, layer.arrays, strict=True):
            if tuple(array.values.shape) != shape:
                raise WeightsError(
                    f"{file.path}: the dataset {array.dataset} has the shape {tuple(array.values.shape)}, "
                    f"expected {shape}"
                )
            state[key] = _from_keras(array.values)
    for layers in remaining.values():
        extra = next(layers, None)
        if extra is not None:
            raise WeightsError(f"{file.path}: the released network has no place for the layer {extra.name}")
    return state


def _from_keras(values: Tensor) -> Tensor:
    """Return an array in the layout of our networks.

    Keras: (height, width, in, out), transposed (height, width, out, in), dense layers (in, out).
    """
    return values.permute(3, 2, 0, 1) if values.dim() == 4 else values.t()


def _to_keras(values: Tensor) -> Tensor:
    """Undo `_from_keras`."""
    return values.permute(2, 3, 1, 0) if values.dim() == 4 else values.t()
