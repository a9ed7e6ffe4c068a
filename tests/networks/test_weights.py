"""Weights files: they round-trip, and files that do not fit are refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_networks import small_pair

from asnet.errors import WeightsError
from asnet.networks import DeblurNetwork, load_networks, load_weights_into, read_header, save_weights


@pytest.fixture
def network() -> DeblurNetwork:
    torch.manual_seed(0)
    return DeblurNetwork(small_pair("compact"))


@pytest.fixture
def weights(tmp_path: Path, network: DeblurNetwork) -> Path:
    path = tmp_path / "small.safetensors"
    save_weights(path, network, training_data="noise", revision="1")
    return path


def rewrite(path: Path, *, drop: str = "", add: str = "", reshape: str = "", **metadata: str) -> None:
    """Change a weights file: drop, add or reshape one tensor, set fields of its header."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != drop}  # noqa: SIM118
        header = {**file.metadata(), **metadata}
    if add:
        tensors[add] = torch.zeros(1)
    if reshape:
        tensors[reshape] = torch.zeros(3)
    save_file(tensors, path, metadata=header)


@pytest.mark.parametrize("name", ["paper", "official", "compact"])
def test_a_network_comes_back_from_its_file(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    network = DeblurNetwork(small_pair(name)).to(memory_format=torch.channels_last)
    save_weights(tmp_path / "a.safetensors", network, training_data="photographs", revision="3")
    loaded = load_networks(tmp_path / "a.safetensors", DeblurNetwork)
    assert loaded.config == network.config
    assert not loaded.training
    expected = network.state_dict()
    assert {key: value.tolist() for key, value in loaded.state_dict().items()} == {
        key: value.tolist() for key, value in expected.items()
    }
    header = read_header(tmp_path / "a.safetensors")
    assert (header.training_data, header.revision, header.configuration) == (
        "photographs",
        "3",
        network.config,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_half_precision_files_load_as_float32(tmp_path: Path, network: DeblurNetwork) -> None:
    path = tmp_path / "half.safetensors"
    save_weights(
        path, network, training_data="noise", revision="1", configuration_name="tiny", dtype=torch.float16
    )
    loaded = load_networks(path, DeblurNetwork)
    assert loaded.config.name == "tiny"
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, network.state_dict()[name], rtol=1e-3, atol=1e-6)


def test_a_part_can_be_filled_alone(weights: Path, network: DeblurNetwork) -> None:
    torch.manual_seed(1)
    other = DeblurNetwork(small_pair("compact"))
    analysis = {name: value.clone() for name, value in other.analysis.state_dict().items()}
    load_weights_into(other.synthesis, weights, prefix="synthesis.")
    torch.testing.assert_close(other.synthesis.state_dict(), network.synthesis.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(other.analysis.state_dict(), analysis, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": "synthesis.output.bias"}, "lacks the tensor synthesis.output.bias of this network"),
        ({"add": "synthesis.extra"}, "holds the tensor synthesis.extra, which this network does not have"),
        (
            {"reshape": "synthesis.output.bias"},
            r"synthesis.output.bias has the shape \(3,\), expected \(12,\)",
        ),
        ({"format": "other"}, "its header does not name it a weights file of asnet"),
        ({"format_version": "2"}, "format version '2'"),
        ({"configuration": "{"}, "unusable configuration"),
        ({"configuration": '{"synthesis": {"depth": 3}}'}, "unknown field 'depth' in synthesis"),
    ],
)
def test_what_does_not_fit_is_said_first(weights: Path, change: dict[str, str], message: str) -> None:
    rewrite(weights, **change)
    with pytest.raises(WeightsError, match=message):
        load_networks(weights, DeblurNetwork)


def test_a_network_stays_as_it_was_when_its_file_does_not_fit(weights: Path, network: DeblurNetwork) -> None:
    rewrite(weights, reshape="synthesis.output.bias")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(2)
    with pytest.raises(WeightsError):
        load_weights_into(network, weights)
    assert all(bool((parameter == 2).all()) for parameter in network.parameters())


def test_files_that_hold_no_weights_are_named(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(WeightsError, match=r"there is no weights file .*absent"):
        load_networks(tmp_path / "absent.safetensors", DeblurNetwork)
    text = tmp_path / "text.safetensors"
    text.write_text("not weights at all, only text")
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(weights.read_bytes()[:-100])
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    for path in (text, truncated, empty):
        with pytest.raises(WeightsError, match=f"{path.stem}.* is damaged or not a safetensors file"):
            load_networks(path, DeblurNetwork)


def test_an_unwritable_place_leaves_nothing_behind(tmp_path: Path, network: DeblurNetwork) -> None:
    with pytest.raises(WeightsError, match=r"cannot write .*absent.*: No such file or directory"):
        save_weights(tmp_path / "absent" / "a.safetensors", network, training_data="", revision="")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(WeightsError, match=r"cannot write .*folder\.safetensors"):
        save_weights(tmp_path / "folder.safetensors", network, training_data="", revision="")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.safetensors"]


def test_a_folder_and_a_keras_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is a folder, not a weights file"):
        load_networks(tmp_path, DeblurNetwork)
    keras = tmp_path / "analysis_weights.h5"
    keras.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    with pytest.raises(WeightsError, match="`asnet import-weights` converts the Keras files"):
        load_networks(keras, DeblurNetwork)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_no_numbers_are_refused(weights: Path, value: float) -> None:
    with safe_open(weights, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = file.metadata()
    name = "synthesis.output.weight"
    tensors[name] = tensors[name].double()
    tensors[name].flatten()[3] = value
    save_file(tensors, weights, metadata=header)
    with pytest.raises(WeightsError, match=f"the tensor {name} holds infinite numbers or NaN"):
        load_networks(weights, DeblurNetwork)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("analysis", "finest_rounds", 10**9),
        ("analysis", "refiner_channels", 10**18),
        ("analysis", "conjugate_gradient_steps", 10**30),
        ("synthesis", "channels", [10**18, 1]),
        ("synthesis", "channels", [4] * 1000),
        ("synthesis", "convolutions_per_block", 10**18),
        ("synthesis", "image_scale", float("nan")),
    ],
)
def test_a_file_cannot_ask_for_a_network_without_end(
    weights: Path, section: str, field: str, value: object
) -> None:
    with safe_open(weights, framework="pt") as file:
        configuration = json.loads(file.metadata()["configuration"])
    configuration[section][field] = value
    rewrite(weights, configuration=json.dumps(configuration))
    with pytest.raises(WeightsError, match=f"{section}.{field}") as error:
        load_networks(weights, DeblurNetwork)
    assert "\n" not in str(error.value)


def test_a_file_cannot_ask_for_more_memory_than_its_own_tensors(weights: Path) -> None:
    with safe_open(weights, framework="pt") as file:
        configuration = json.loads(file.metadata()["configuration"])
    configuration["synthesis"]["channels"] = [4096] * 16
    configuration["synthesis"]["guide_hidden"] = 4096
    rewrite(weights, configuration=json.dumps(configuration))
    with pytest.raises(WeightsError, match="lacks the tensor"):
        load_networks(weights, DeblurNetwork)
