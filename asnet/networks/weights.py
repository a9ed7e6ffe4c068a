"""Weights files: safetensors whose header names the configuration, the training data and the revision.

The header carries the whole configuration as JSON, so that a file can be loaded without knowing what it
holds: a pair of networks, a size classifier, or a classifier and the pairs of its classes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

import torch
from torch import Tensor, nn

from asnet.errors import ConfigurationError, WeightsError
from asnet.networks.config import ASNetConfig
from asnet.networks.pair import DeblurNetwork
from asnet.networks.safetensors_files import read_safetensors, write_safetensors
from asnet.networks.scale_optimised import ScaleOptimisedConfig, ScaleOptimisedNetworks
from asnet.networks.size_classifier import SizeClassifier, SizeClassifierConfig

#: Value of the header's field "format".
FORMAT = "asnet-weights"

#: Raised when an older version of asnet could no longer read the file.
FORMAT_VERSION = 1

Networks = DeblurNetwork | SizeClassifier | ScaleOptimisedNetworks
NetworksConfig = ASNetConfig | SizeClassifierConfig | ScaleOptimisedConfig

#: What a file can hold, by its header's field "kind"; files without it hold a pair.
KINDS: dict[str, tuple[type[Networks], type[NetworksConfig]]] = {
    "pair": (DeblurNetwork, ASNetConfig),
    "size_classifier": (SizeClassifier, SizeClassifierConfig),
    "scale_optimised": (ScaleOptimisedNetworks, ScaleOptimisedConfig),
}

#: The same in words.
DESCRIPTIONS: dict[type[nn.Module], str] = {
    DeblurNetwork: "a pair of networks",
    SizeClassifier: "a size classifier",
    ScaleOptimisedNetworks: "a size classifier with its pairs of networks",
}

AnyNetworks = TypeVar("AnyNetworks", bound=Networks)


@dataclass(frozen=True)
class WeightsHeader:
    """Header of a weights file.

    Parameters
    ----------
    configuration : ASNetConfig, SizeClassifierConfig or ScaleOptimisedConfig
        The network, or the networks, that the weights belong to.
    training_data : str
        What the network was trained on.
    revision : str
        Which training of this configuration it is.

    Examples
    --------
    >>> from asnet.pretrained import find_weights
    >>> read_header(find_weights("compact")).configuration.name
    'compact'
    """

    configuration: NetworksConfig
    training_data: str
    revision: str


def save_weights(
    path: str | Path,
    network: Networks,
    *,
    training_data: str,
    revision: str,
    configuration_name: str | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a network's weights atomically.

    Parameters
    ----------
    path : str or Path
        The file; its folder must exist.
    network : DeblurNetwork, SizeClassifier or ScaleOptimisedNetworks
        The network to save.
    training_data, revision : str
        Header fields; see `WeightsHeader`.
    configuration_name : str, optional
        Name of the configuration in the header instead of the network's own.
    dtype : torch.dtype, optional
        Store floating-point values in this type instead of their own; float16 halves the file of a float32
        network.

    Raises
    ------
    WeightsError
        If the file cannot be written; nothing is left behind.

    Examples
    --------
    >>> from asnet.networks import SynthesisConfig, AnalysisConfig
    >>> config = ASNetConfig(AnalysisConfig(levels=1, kernel_size=7), SynthesisConfig(7, channels=(4, 8)))
    >>> save_weights("pair.safetensors", DeblurNetwork(config), training_data="nothing", revision="untrained")
    >>> load_networks("pair.safetensors", DeblurNetwork).config == config
    True
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
        "kind": next(kind for kind, (module, _) in KINDS.items() if isinstance(network, module)),
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
        If the file is missing, damaged, not a weights file of asnet, or of a later format version.

    Examples
    --------
    >>> from asnet.pretrained import find_weights
    >>> read_header(find_weights("compact")).configuration.analysis.kernel_size
    101
    """
    return _parse_header(Path(path), read_safetensors(Path(path), "weights file")[1])


@overload
def load_networks(path: str | Path, *, device: str | torch.device = "cpu") -> Networks: ...


@overload
def load_networks(
    path: str | Path, kind: type[AnyNetworks], *, device: str | torch.device = "cpu"
) -> AnyNetworks: ...


def load_networks(
    path: str | Path, kind: type[nn.Module] | None = None, *, device: str | torch.device = "cpu"
) -> Networks:
    """Build the networks of a weights file, in evaluation mode with float32 parameters.

    Parameters
    ----------
    path : str or Path
        A file that `save_weights` wrote.
    kind : type, optional
        What the file must hold: `DeblurNetwork`, `SizeClassifier` or `ScaleOptimisedNetworks`; by
        default any of them.
    device : str or torch.device
        Device of the parameters.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, no weights file of asnet, or of another kind, or if its tensors are
        not those of the configuration in its header.

    Examples
    --------
    >>> from asnet.pretrained import find_weights
    >>> type(load_networks(find_weights("compact"))).__name__
    'DeblurNetwork'
    >>> load_networks(find_weights("compact"), DeblurNetwork).config.name
    'compact'
    """
    path = Path(path)
    tensors, metadata = read_safetensors(path, "weights file")
    configuration = _parse_header(path, metadata).configuration
    with torch.device("meta"):
        # Regardless of torch.set_default_dtype.
        networks = _build(configuration).to(torch.float32)
    if kind is not None and not isinstance(networks, kind):
        raise WeightsError(f"{path} holds {DESCRIPTIONS[type(networks)]}, expected {DESCRIPTIONS[kind]}")
    # Before allocating: a header may ask for more memory than there is.
    check_fit(str(path), networks, tensors)
    networks.to_empty(device=device)
    networks.load_state_dict(tensors)
    return networks.eval()


def _build(configuration: NetworksConfig) -> Networks:
    if isinstance(configuration, SizeClassifierConfig):
        return SizeClassifier(configuration)
    if isinstance(configuration, ScaleOptimisedConfig):
        return ScaleOptimisedNetworks(configuration)
    return DeblurNetwork(configuration)


def load_weights_into(
    network: nn.Module, path: str | Path, *, prefix: str = "", allow_extra: bool = False
) -> WeightsHeader:
    """Fill a network, or a part of one, from a weights file.

    Parameters
    ----------
    network : nn.Module
        A network of a weights file, or, with a prefix, one of its parts.
    path : str or Path
        A file that `save_weights` wrote.
    prefix : str
        Which part of the file to take, such as "analysis." or "synthesis."; everything by default.
    allow_extra : bool
        Ignore tensors of the file (below the prefix) that the network does not have.

    Returns
    -------
    WeightsHeader
        The file's header.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or not a weights file of asnet, or if names or shapes do not fit; the
        network is then unchanged.

    Examples
    --------
    >>> from asnet.pretrained import find_weights
    >>> network = DeblurNetwork(ASNetConfig.compact())
    >>> load_weights_into(network.synthesis, find_weights("compact"), prefix="synthesis.").configuration.name
    'compact'
    """
    path = Path(path)
    tensors, metadata = read_safetensors(path, "weights file")
    header = _parse_header(path, metadata)
    chosen = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if allow_extra:
        own = network.state_dict()
        chosen = {name: value for name, value in chosen.items() if name in own}
    check_fit(str(path), network, chosen)
    network.load_state_dict(chosen)
    return header


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
    kind = metadata.get("kind", "pair")
    if kind not in KINDS:
        raise WeightsError(f"{path} holds {kind!r}, this asnet reads {', '.join(KINDS)}")
    try:
        configuration = KINDS[kind][1].from_dict(json.loads(metadata["configuration"]))
        return WeightsHeader(configuration, metadata["training_data"], metadata["revision"])
    except KeyError as error:
        raise WeightsError(f"the header of {path} lacks the field {error}") from None
    except (ValueError, TypeError, OverflowError, RecursionError, ConfigurationError) as error:
        raise WeightsError(f"the header of {path} holds an unusable configuration: {error}") from None


def check_fit(file: str, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raise `WeightsError` unless names, shapes and kinds of tensors are the network's and all values finite.

    Messages begin with ``file``.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    reshaped = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    if missing:
        raise WeightsError(f"{file} lacks {_first_of(missing)} of this network")
    if unexpected:
        raise WeightsError(f"{file} holds {_first_of(unexpected)}, which this network does not have")
    if reshaped:
        name = reshaped[0]
        raise WeightsError(
            f"{file} does not fit this network: {_first_of(reshaped)} has the shape "
            f"{tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}"
        )
    whole = [name for name in own if tensors[name].is_floating_point() != own[name].is_floating_point()]
    if whole:
        name = whole[0]
        raise WeightsError(
            f"{file} does not fit this network: {_first_of(whole)} is of type {tensors[name].dtype}, "
            f"expected {own[name].dtype}"
        )
    # Converted to the network's type: large float64 values are infinite in float32.
    infinite = [name for name in own if not bool(tensors[name].to(own[name].dtype).isfinite().all())]
    if infinite:
        raise WeightsError(f"{file} is damaged: {_first_of(infinite)} holds infinite numbers or NaN")


def _first_of(names: list[str]) -> str:
    return f"the tensor {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
