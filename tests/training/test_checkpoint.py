from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from asnet.errors import WeightsError
from asnet.training.checkpoint import (
    load_checkpoint,
    module_tensors,
    optimiser_tensors,
    restore_module,
    restore_optimiser,
    save_checkpoint,
)


def test_tensors_and_state_come_back_to_the_bit(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "shared": torch.arange(3.0).expand(2, 3), "scalar": torch.tensor(0.1)}
    state = {"loss": 0.1 + 0.2, "step": 3, "best": None}
    save_checkpoint(tmp_path / "checkpoint.safetensors", tensors, state)
    loaded, loaded_state = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert loaded_state == state
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_the_state_of_adam_comes_back_to_the_bit() -> None:
    def trained() -> tuple[nn.Linear, torch.optim.Adam]:
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        return layer, torch.optim.Adam(layer.parameters(), fused=True)

    layer, optimiser = trained()
    layer(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    other, other_optimiser = trained()
    other.load_state_dict(layer.state_dict())
    names = {parameter: name for name, parameter in layer.named_parameters()}
    other_names = {parameter: name for name, parameter in other.named_parameters()}
    restore_optimiser(other_optimiser, other_names, optimiser_tensors(optimiser, names))
    for one, its_optimiser in ((layer, optimiser), (other, other_optimiser)):
        one.zero_grad()
        one(torch.tensor([[1.0, -2.0, 3.0]])).square().sum().backward()
        its_optimiser.step()
    assert torch.equal(layer.weight, other.weight)
    assert torch.equal(layer.bias, other.bias)


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(WeightsError, match=r"there is no checkpoint .*checkpoint\.safetensors"):
        load_checkpoint(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="is not a training checkpoint of asnet"):
        load_checkpoint(path)
    save_checkpoint(path, {"a": torch.zeros(100)}, {})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(WeightsError, match="is damaged"):
        load_checkpoint(path)


def test_another_network_is_refused(tmp_path: Path) -> None:
    tensors = module_tensors(nn.Linear(3, 2), "network.")
    with pytest.raises(
        WeightsError, match=r"another network configuration: it does not fit .* \(2, 3\), expected \(4, 3\)"
    ):
        restore_module(nn.Linear(3, 4), "network.", tensors, tmp_path)
    with pytest.raises(WeightsError, match="it holds the tensor bias, which this network does not have"):
        restore_module(nn.Linear(3, 2, bias=False), "network.", tensors, tmp_path)
