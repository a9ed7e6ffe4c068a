"""Checkpoints: one safetensors file holds the tensors and, as JSON in its header, everything else.

One file, so that a checkpoint is either the old one or the new one, never half of each.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asnet.errors import WeightsError
from asnet.networks.safetensors_files import read_safetensors, write_safetensors
from asnet.networks.weights import check_fit

FORMAT = "asnet-checkpoint-2"


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and state to `path` atomically.

    Raises
    ------
    WeightsError
        If the file cannot be written; the old one then stays.
    """
    write_safetensors(path, tensors, {"format": FORMAT, "state": json.dumps(state)})


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_checkpoint` wrote; the tensors are on the CPU.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or not a checkpoint of asnet.
    """
    tensors, metadata = read_safetensors(path, "checkpoint")
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path} is not a training checkpoint of asnet")
    try:
        return tensors, json.loads(metadata["state"])
    except (ValueError, KeyError) as error:
        raise WeightsError(f"the checkpoint {path} is damaged: {error}") from None


def optimiser_tensors(optimiser: torch.optim.Optimizer, names: dict[Tensor, str]) -> dict[str, Tensor]:
    """Return the optimiser's state as "optimiser.<slot>.<parameter name>" to tensor."""
    return {
        f"optimiser.{slot}.{names[parameter]}": value
        for parameter, slots in optimiser.state.items()
        for slot, value in slots.items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, names: dict[Tensor, str], tensors: dict[str, Tensor]
) -> None:
    """Restore the result of `optimiser_tensors`, on the devices and in the layout of the parameters."""
    by_name = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        if not key.startswith("optimiser."):
            continue
        _, slot, name = key.split(".", 2)
        parameter = by_name[name]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter).copy_(value)
        optimiser.state[parameter][slot] = value.to(parameter.device, copy=True)


def module_tensors(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return the state of a module with `prefix` before every name."""
    return {prefix + name: tensor for name, tensor in module.state_dict().items()}


def restore_module(module: nn.Module, prefix: str, tensors: dict[str, Tensor], path: Path) -> None:
    """Restore the result of `module_tensors`.

    Raises
    ------
    WeightsError
        If names or shapes are not those of the module.
    """
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    check_fit(f"the checkpoint {path} was made with another network configuration: it", module, own)
    module.load_state_dict(own)
