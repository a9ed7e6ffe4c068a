"""Weights files: safetensors whose header names the configuration, the training data and the revision.

The header carries the whole configuration as JSON, so that a file can be loaded without knowing what it
holds.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from asnet.errors import ConfigurationError, WeightsError
from asnet.networks.configurations import ASNetConfig
from asnet.networks.pair import DeblurNetwork

#: Value of the header's field "format".
FORMAT = "asnet-weights"

#: Raised when an older version of asnet could no longer read the file.
FORMAT_VERSION = 1


@dataclass(frozen=True)
class WeightsHeader:
    """What a weights file says about itself.

    Parameters
    ----------
    configuration : ASNetConfig
        The network that the weights belong to.
    training_data : str
        What the network was trained on.
    revision : str
        Which training of this configuration it is.
    """

    configuration: ASNetConfig
    training_data: str
    revision: str


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and header to `path` in one step: the file is the old one or the whole new one.

    Raises
    ------
    WeightsError
        If the file cannot be written; nothing is left behind.
    """
    # safetensors wants contiguous tensors that share no memory.
    separate = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    partial = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        partial = Path(name)
        os.close(descriptor)
        save_file(separate, partial, metadata=metadata)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner may read.
        partial.chmod(0o644)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise WeightsError(f"cannot write {path}: {reason}") from None


def save_weights(
    path: str | Path,
    network: DeblurNetwork,
    *,
    training_data: str,
    revision: str,
    configuration_name: str | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a network's weights, replacing the file there in one step.

    Parameters
    ----------
    path : str or Path
        The file; its folder must exist.
    network : DeblurNetwork
        The pair.
    training_data, revision : str
        For the header; see `WeightsHeader`.
    configuration_name : str, optional
        Name of the configuration in the header instead of the network's own.
    dtype : torch.dtype, optional
        Store floating-point values in this type instead of their own; float16 halves the file of a float32
        network.

    Raises
    ------
    WeightsError
        If the file cannot be written; nothing is left behind.
    """
    configuration = network.config.to_dict()
    if configuration_name is not None:
        configuration["name"] = configuration_name
    tensors = {
        name: value.to(dtype) if dtype is not None and value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "configuration": json.dumps(configuration),
        "training_data": training_data,
        "revision": revision,
    }
    write_safetensors(Path(path), tensors, metadata)


def read_header(path: str | Path) -> WeightsHeader:
    """Read the header of a weights file.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, or no weights file of asnet, or is of a later format version.
    """
    return _parse_header(Path(path), _read(Path(path))[1])


def load_network(path: str | Path, *, device: str | torch.device = "cpu") -> DeblurNetwork:
    """Build the network that a weights file describes, in evaluation mode with float32 parameters.

    Parameters
    ----------
    path : str or Path
        A file that `save_weights` wrote.
    device : str or torch.device
        Where the network is to live.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, no weights file of asnet, or its tensors are not those of the
        configuration that its header names.
    """
    path = Path(path)
    tensors, metadata = _read(path)
    with torch.device("meta"):
        network = DeblurNetwork(_parse_header(path, metadata).configuration)
    network.to_empty(device=device)
    _fill(path, network, tensors)
    return network.eval()


def load_weights_into(
    network: nn.Module, path: str | Path, *, prefix: str = "", allow_extra: bool = False
) -> WeightsHeader:
    """Fill a network, or a part of one, from a weights file.

    Parameters
    ----------
    network : nn.Module
        A `DeblurNetwork`, or with a prefix one of its parts.
    path : str or Path
        A file that `save_weights` wrote.
    prefix : str
        Which part of the file to take: "analysis." or "synthesis."; everything by default.
    allow_extra : bool
        Pass over tensors of the file (below the prefix) that the network does not have.

    Returns
    -------
    WeightsHeader
        What the file says about itself.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or no weights file of asnet, or if names or shapes do not fit; the
        network is then as it was.
    """
    path = Path(path)
    tensors, metadata = _read(path)
    header = _parse_header(path, metadata)
    chosen = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if allow_extra:
        own = network.state_dict()
        chosen = {name: value for name, value in chosen.items() if name in own}
    _fill(path, network, chosen)
    return header


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is damaged or not a safetensors file: {error}") from None


def _parse_header(path: Path, metadata: Mapping[str, str]) -> WeightsHeader:
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path} is a safetensors file, but its header does not name it a weights file of asnet"
        )
    version = metadata.get("format_version", "")
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        raise WeightsError(
            f"{path} has the format version {version!r}, this asnet reads versions up to {FORMAT_VERSION}"
        )
    try:
        configuration = ASNetConfig.from_dict(json.loads(metadata["configuration"]))
        return WeightsHeader(configuration, metadata["training_data"], metadata["revision"])
    except KeyError as error:
        raise WeightsError(f"the header of {path} lacks the field {error}") from None
    except (ValueError, ConfigurationError) as error:
        raise WeightsError(f"the header of {path} holds an unusable configuration: {error}") from None


def _fill(path: Path, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the network after checking that names and shapes are the same on both sides."""
    own = network.state_dict()
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    reshaped = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    if missing:
        raise WeightsError(f"{path} lacks {_first_of(missing)} of this network")
    if unexpected:
        raise WeightsError(f"{path} holds {_first_of(unexpected)}, which this network does not have")
    if reshaped:
        name = reshaped[0]
        raise WeightsError(
            f"{path} does not fit this network: {_first_of(reshaped)} has the shape "
            f"{tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}"
        )
    network.load_state_dict(dict(tensors))


def _first_of(names: list[str]) -> str:
    return f"the tensor {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
