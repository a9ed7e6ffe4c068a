"""Importing the package and loading networks."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import asnet


def run(script: str, *arguments: str) -> str:
    """Run a script in a separate Python and return what it prints."""
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_no_torch() -> None:
    assert run("import sys, asnet; print('torch' in sys.modules, asnet.__version__)") == (
        f"False {asnet.__version__}"
    )


def test_every_name_is_there_after_importing_the_package_alone() -> None:
    names = [name for name in asnet.__all__ if name != "__version__"]
    # torch is loaded once; each name is then looked up in a process in which no other has been.
    script = (
        "import os, sys, torch, asnet\n"
        "for name in sys.argv[1:]:\n"
        "    if not (child := os.fork()):\n"
        "        print(getattr(asnet, name).__name__.rpartition('.')[2], flush=True)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)"
    )
    assert run(script, *names).splitlines() == names
    assert set(names) <= set(dir(asnet))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'asnet' has no attribute 'sharpen'"):
        _ = asnet.sharpen  # type: ignore[attr-defined]


def test_loaded_networks_are_a_torch_module_in_evaluation_mode() -> None:
    network = asnet.load("compact", device="cpu")
    assert isinstance(network, nn.Module)
    assert not network.training
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert set(network.state_dict()) == set(asnet.load().state_dict())


def test_what_cannot_be_loaded_is_reported() -> None:
    with pytest.raises(asnet.errors.WeightsError, match="unknown model 'sharpest'"):
        asnet.load("sharpest")
    with pytest.raises(asnet.errors.DeviceError, match="'cuda:99' is not available"):
        asnet.load("compact", device="cuda:99")
