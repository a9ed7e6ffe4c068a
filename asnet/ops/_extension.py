"""Loads the compiled operators and reports what is available.

``asnet._C`` has the schemas of every operator and the CPU kernels; ``asnet._C_cuda``, if built, adds kernels
for CUDA devices to the same operators. Neither has Python symbols: `torch.ops.load_library` opens them,
``torch.ops.asnet`` calls them.
"""

import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from asnet import __version__
from asnet.errors import AsnetError, DeviceError

_PACKAGE = Path(__file__).resolve().parents[1]


def _load(name: str) -> None:
    library = _PACKAGE / f"{name}.so"
    try:
        torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except OSError as error:
        raise DeviceError(
            f"the compiled operators in {library.name} cannot be loaded by torch {torch.__version__}: "
            f"{error}; reinstall asnet with this torch."
        ) from error


@cache
def load() -> None:
    """Open the compiled libraries; the second call does nothing.

    Raises
    ------
    DeviceError
        The library was never built, or the installed torch cannot load it.
    """
    if not (_PACKAGE / "_C.so").is_file():
        raise DeviceError(
            "the compiled operators of asnet are missing: install the package (pip install .) rather than "
            "importing it from a source folder."
        )
    _load("_C")
    if (_PACKAGE / "_C_cuda.so").is_file() and torch.version.cuda is not None:
        _load("_C_cuda")


def operators() -> list[str]:
    """Names of the operators in ``torch.ops.asnet`` that compute on tensors, in alphabetical order."""
    load()
    names = {
        name.partition("::")[2]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("asnet::")
    }
    return sorted(name for name in names if has_kernel(name, "CPU") or has_kernel(name, "CUDA"))


def has_kernel(operator: str, device: str) -> bool:
    """Whether ``operator`` has a hand-written kernel for ``device`` ("CPU" or "CUDA")."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"asnet::{operator}", device))


@cache
def devices_with_kernel(operator: str) -> frozenset[str]:
    """Types of devices, as in `torch.device.type`, for which ``operator`` has a hand-written kernel."""
    load()
    return frozenset(device for device in ("cpu", "cuda") if has_kernel(operator, device.upper()))


def has_matrix_units() -> bool:
    """Whether asnet multiplies bfloat16 matrices by AMX: processor, system and compiler support it."""
    load()
    return bool(torch.ops.asnet.has_matrix_units())


def torch_has_matrix_units() -> bool:
    """Whether torch multiplies 16-bit matrices by AMX, which beats algorithms with fewer multiplications."""
    return bool(torch.cpu._is_amx_tile_supported())


def refuse_backward(*operators: str, instead: str) -> None:
    """Make backward through inference-only operators an error that names ``instead``."""
    names = " and ".join(f"asnet::{operator}" for operator in operators)
    verb = "is" if len(operators) == 1 else "are"

    def refuse(ctx: object, *gradients: Tensor) -> None:
        raise AsnetError(f"{names} {verb} inference-only; {instead}.")

    for operator in operators:
        # torch does not differentiate operators that change their arguments.
        if not operator.endswith("_"):
            torch.library.register_autograd(f"asnet::{operator}", refuse)


def _devices() -> str:
    processor = f"CPU ({torch.get_num_threads()} threads)"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ", ".join([processor, *(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(count))])


def _convolutions_in_16_bits() -> str:
    if has_matrix_units():
        return "large ones in bfloat16 by kernels of asnet for AMX, else operations of torch"
    if torch_has_matrix_units():
        return "operations of torch, which multiply by AMX"
    return "kernels of asnet where they are faster, as there is no AMX"


def describe() -> dict[str, str]:
    """Versions, build configuration and kernels of every operator, for ``asnet info``.

    Returns
    -------
    dict of str to str
        Labels and texts, in display order.

    Raises
    ------
    DeviceError
        The compiled operators are missing or cannot be loaded.
    """
    load()
    report = {
        "asnet": __version__,
        "torch": str(torch.__version__),
        "Python": platform.python_version(),
        "built with": torch.ops.asnet.build_information(),
        "devices": _devices(),
        "instruction set": torch.ops.asnet.instruction_set(),
        "convolutions in 16 bits": f"CPU: {_convolutions_in_16_bits()}",
    }
    for name in operators():
        paths = [
            f"{device}: kernels of asnet" if has_kernel(name, device) else f"{device}: operations of torch"
            for device in ("CPU", "CUDA")
        ]
        report[f"operator {name}"] = ", ".join(paths)
    return report
