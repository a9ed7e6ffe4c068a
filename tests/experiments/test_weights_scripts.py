"""The scripts beside the recipes: growing the synthesis of asnet 0.1, joining parts trained apart."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from asnet.networks import (
    ASNetConfig,
    DeblurNetwork,
    SynthesisConfig,
    load_networks,
    read_header,
    save_weights,
)

SCRIPTS = Path(__file__).parents[2] / "experiments"


def run(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: Path) -> None:
    path = SCRIPTS / script
    # As Python does for a script.
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
    runpy.run_path(str(path), run_name="__main__")


def test_a_joined_pair_has_the_analysis_of_one_file_and_the_synthesis_of_the_other(
    small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_networks(small_weights, DeblurNetwork)
    synthesis = replace(first.config.synthesis, kernel_size=11, channels=(3, 5))
    second = DeblurNetwork(ASNetConfig(first.config.analysis, synthesis, "other"))
    save_weights(tmp_path / "second.safetensors", second, training_data="more", revision="later")
    run(
        monkeypatch,
        "join_pair.py",
        small_weights,
        tmp_path / "second.safetensors",
        tmp_path / "pair.safetensors",
    )
    pair = load_networks(tmp_path / "pair.safetensors", DeblurNetwork)
    assert pair.config == second.config
    for name, value in pair.state_dict().items():
        source = first if name.startswith("analysis.") else second
        assert torch.equal(value, source.state_dict()[name])
    header = read_header(tmp_path / "pair.safetensors")
    assert header.training_data == "nothing, more"
    assert header.revision == "analysis: test; synthesis: later"


def test_a_mean_of_weights_lies_between_them(
    small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_networks(small_weights, DeblurNetwork)
    second = DeblurNetwork(first.config)
    save_weights(tmp_path / "second.safetensors", second, training_data="more", revision="later")
    arguments = [
        tmp_path / "mean.safetensors",
        Path("1"),
        small_weights,
        Path("3"),
        tmp_path / "second.safetensors",
    ]
    run(monkeypatch, "average_weights.py", *arguments)
    mean = load_networks(tmp_path / "mean.safetensors", DeblurNetwork).state_dict()
    for name, value in mean.items():
        torch.testing.assert_close(value, 0.25 * first.state_dict()[name] + 0.75 * second.state_dict()[name])
    header = read_header(tmp_path / "mean.safetensors")
    assert header.revision == "0.25 of (test) + 0.75 of (later)"


def test_what_does_not_fit_together_is_said(
    small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(monkeypatch, "join_pair.py", small_weights, tmp_path / "none", tmp_path / "pair.safetensors")
    assert exit_.value.code == 1
    assert "none" in capsys.readouterr().err
    assert not (tmp_path / "pair.safetensors").exists()


@pytest.mark.parametrize(
    ("script", "lacking", "gained"),
    [
        ("distrust_estimates.py", {"distrusts_estimates": False}, "distrusts_estimates"),
        ("deepen_compact.py", {"channels": ASNetConfig.compact().synthesis.channels[:-1]}, None),
    ],
)
def test_a_network_that_is_added_to_restores_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, lacking: dict[str, Any], gained: str | None
) -> None:
    config = ASNetConfig.compact()
    synthesis = replace(config.synthesis, **{"channels": (4, 6), **lacking})
    torch.manual_seed(0)
    old = DeblurNetwork(replace(config, synthesis=synthesis)).eval()
    # A network that was not trained adds nothing to its Wiener copy.
    torch.nn.init.normal_(old.synthesis.output.weight, std=0.1)
    save_weights(tmp_path / "old.safetensors", old, training_data="none", revision="first")
    run(monkeypatch, script, tmp_path / "old.safetensors", tmp_path / "new.safetensors")
    new = load_networks(tmp_path / "new.safetensors", DeblurNetwork)
    if gained is None:
        assert len(new.config.synthesis.channels) == len(synthesis.channels) + 1
    else:
        assert getattr(new.config.synthesis, gained)
    assert "first" in read_header(tmp_path / "new.safetensors").revision
    blurred, kernel = torch.rand(1, 3, 48, 48), torch.full((1, 3, 3), 1 / 9)
    for estimated in (False, True):
        torch.testing.assert_close(
            new.synthesis(blurred, kernel, estimated=estimated),
            old.synthesis(blurred, kernel, estimated=estimated),
        )
    with pytest.raises(SystemExit):
        run(monkeypatch, script, tmp_path / "new.safetensors", tmp_path / "newer")
    assert not (tmp_path / "newer").exists()


def test_an_extended_network_has_the_old_u_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ASNetConfig.compact()
    synthesis = replace(config.synthesis, channels=(4, 6), consistency=False)
    old = DeblurNetwork(replace(config, synthesis=synthesis))
    save_weights(tmp_path / "old.safetensors", old, training_data="none", revision="first")
    run(monkeypatch, "add_consistency.py", tmp_path / "old.safetensors", tmp_path / "new.safetensors")
    new = load_networks(tmp_path / "new.safetensors", DeblurNetwork)
    assert new.config.synthesis.consistency
    assert "first" in read_header(tmp_path / "new.safetensors").revision
    assert all(torch.equal(new.state_dict()[name], value) for name, value in old.state_dict().items())
    with pytest.raises(SystemExit):
        run(monkeypatch, "add_consistency.py", tmp_path / "new.safetensors", tmp_path / "newer")
    assert not (tmp_path / "newer").exists()


def test_a_grown_network_keeps_the_old_u_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    main = runpy.run_path(str(SCRIPTS / "grow_compact.py"))["main"]
    for name, value in (("STEPS", 1), ("BATCH", 2)):
        monkeypatch.setitem(main.__globals__, name, value)
    config = ASNetConfig.compact()
    defaults = SynthesisConfig()
    changes = {
        name: getattr(defaults, name)
        for name in (
            "guide_input",
            "adapts_to_noise",
            "distrusts_estimates",
            "consistency",
            "sparse_strengths",
            "sparse_thresholds",
        )
    }
    today = config.synthesis
    old_config = replace(
        today,
        kernel_size=31,
        channels=today.channels[:-1],
        wiener_strengths=(0.004, 0.016, 0.06),
        **changes,
    )
    torch.manual_seed(0)
    analysis = replace(config.analysis, kernel_size=31)
    pair = DeblurNetwork(replace(config, analysis=analysis, synthesis=old_config))
    old_file, new_file = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    save_weights(old_file, pair, training_data="none", revision="first")
    monkeypatch.setattr(sys, "argv", ["grow_compact.py", str(old_file), str(new_file)])
    main()
    grown = load_networks(new_file, DeblurNetwork)
    assert grown.config == config
    old, new = pair.synthesis.state_dict(), grown.synthesis.state_dict()
    for name, value in old.items():
        if name == "stem.weight":
            assert torch.equal(new[name][:, : value.shape[1]], value)
            # Inputs that the old network did not read have no effect.
            assert not new[name][:, value.shape[1] :].any()
        elif ".guide." not in name:
            assert torch.equal(new[name], value)
