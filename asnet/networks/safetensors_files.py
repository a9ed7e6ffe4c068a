"""Safetensors files of tensors and a header of text, written atomically; nothing is unpickled."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from asnet.errors import WeightsError
from asnet.files import atomic_write


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and header to `path` atomically.

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
    with atomic_write(path, WeightsError) as partial:
        try:
            save_file(separate, partial, metadata=metadata)
        except SafetensorError as error:
            raise WeightsError(f"cannot write {path}: {error}") from None


def read_safetensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors, on the CPU, and the header of a file.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        Its name in messages.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or not a safetensors file.
    """
    if path.is_dir():
        raise WeightsError(f"{path} is a folder, not a {what}")
    if not path.is_file():
        raise WeightsError(f"there is no {what} {path}")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        keras = path.suffix.lower() in (".h5", ".hdf5")
        hint = "; `asnet import-weights` converts the Keras files of the released code" if keras else ""
        raise WeightsError(f"{path} is damaged or not a safetensors file: {error}{hint}") from None
