import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from asnet.data import Batch, BatchSource, Photographs
from asnet.errors import ConfigurationError, InputError, WeightsError
from asnet.networks import DeblurNetwork
from asnet.networks.weights import load_networks, read_header
from asnet.training import Trainer, TrainingConfig
from asnet.training.checkpoint import load_checkpoint
from asnet.training.recipe import STAGES
from asnet.training.trainer import BEST, CHECKPOINT, LAST


def stopped_run(config: TrainingConfig, folder: Path, step: int) -> None:
    """Run this many steps and stop."""
    trainer = Trainer(config, folder, device="cpu")

    def stopping() -> bool:
        # The step that follows this call is still made.
        return trainer.step == step - 1 and not trainer.validation_is_due

    assert trainer.run(stopping=stopping) == "stopped"


@pytest.mark.parametrize(("stage", "repeats"), [*((stage, 1) for stage in STAGES), ("synthesis", 2)])
def test_a_run_that_was_stopped_and_continued_has_the_same_bits(
    stage: Any, repeats: int, table: dict[str, Any], tmp_path: Path
) -> None:
    table |= {
        "repeats": repeats,
        "patience": 1,
        "gradient_clip": 1.0,
        "ema_decay": 0.9,
        "log_every": 4,
        "validation_crop": 24,
    }
    config = TrainingConfig.from_table(stage, table)
    assert Trainer(config, tmp_path / "straight", device="cpu").run() == "finished"
    # Step 3 lies within an epoch and between two reports.
    stopped_run(config, tmp_path / "stopped", 3)
    assert load_checkpoint_state(tmp_path / "stopped")["step"] == 3
    assert Trainer(config, tmp_path / "stopped", resume=True, device="cpu").run() == "finished"

    straight, continued = (load_file(tmp_path / name / CHECKPOINT) for name in ("straight", "stopped"))
    assert straight.keys() == continued.keys()
    assert any(name.startswith("optimiser.exp_avg_sq.") for name in straight)
    for name in straight:
        assert torch.equal(straight[name], continued[name]), name
    for name in (BEST, LAST):
        one, other = (
            load_networks(tmp_path / run / name, DeblurNetwork).state_dict()
            for run in ("straight", "stopped")
        )
        assert all(torch.equal(one[key], other[key]) for key in one)
        assert read_header(tmp_path / "straight" / name) == read_header(tmp_path / "stopped" / name)
    assert load_checkpoint_state(tmp_path / "straight") == load_checkpoint_state(tmp_path / "stopped")
    assert records(tmp_path / "straight") == records(tmp_path / "stopped")


def load_checkpoint_state(folder: Path) -> dict[str, Any]:
    return load_checkpoint(folder / CHECKPOINT)[1]


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds_per_step"} for line in lines]


def test_a_stop_during_validation_loses_nothing(table: dict[str, Any], tmp_path: Path) -> None:
    config = TrainingConfig.from_table("synthesis", table)
    asked: list[int] = []
    trainer = Trainer(config, tmp_path / "run", device="cpu")

    def stopping() -> bool:
        asked.append(trainer.step)
        # The first call after step 2 comes from the validation.
        return trainer.step == 2

    assert trainer.run(stopping=stopping) == "stopped"
    assert load_checkpoint_state(tmp_path / "run")["validated_step"] == 0
    assert Trainer(config, tmp_path / "run", resume=True, device="cpu").run() == "finished"
    validated = [record["step"] for record in records(tmp_path / "run") if record["kind"] == "validation"]
    assert validated == [0, 2, 4, 6]


class OneBatch:
    """The same batch at every step."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def batch(self, index: int) -> Batch:
        return self._batch


@pytest.mark.parametrize(("stage", "share"), [("analysis", 0.7), ("synthesis", 0.5), ("joint", 0.5)])
def test_the_loss_of_one_batch_falls(stage: Any, share: float, table: dict[str, Any], tmp_path: Path) -> None:
    table |= {"steps_per_epoch": 60, "epochs": 1, "validation": "", "learning_rate": 3e-3, "log_every": 1}
    config = TrainingConfig.from_table(stage, table)
    source = BatchSource(
        Photographs(config.data), config.kernels, config.degradation, batch_size=2, crop=24, seed=0
    )
    Trainer(config, tmp_path / "run", device="cpu", source=OneBatch(source.batch(0))).run()
    losses = [record["loss"] for record in records(tmp_path / "run")]
    assert len(losses) == 60
    assert losses[-1] < share * losses[0]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_changes_its_own_part_alone(stage: Any, table: dict[str, Any], tmp_path: Path) -> None:
    config = TrainingConfig.from_table(stage, table | {"epochs": 1, "validation": ""})
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run()
    after = load_networks(tmp_path / "run" / LAST, DeblurNetwork).state_dict()
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == ({"analysis", "synthesis"} if stage == "joint" else {stage})


def test_joint_starts_from_the_stages_before(table: dict[str, Any], tmp_path: Path) -> None:
    table["epochs"] = 1
    for stage in ("analysis", "synthesis"):
        Trainer(TrainingConfig.from_table(stage, table), tmp_path / stage, device="cpu").run()
    files = {f"init_{stage}": str(tmp_path / stage / LAST) for stage in ("analysis", "synthesis")}
    trainer = Trainer(TrainingConfig.from_table("joint", table | files), tmp_path / "joint", device="cpu")
    for stage in ("analysis", "synthesis"):
        expected = getattr(load_networks(tmp_path / stage / LAST, DeblurNetwork), stage).state_dict()
        actual = getattr(trainer.network, stage).state_dict()
        assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_the_running_average_is_what_is_saved(table: dict[str, Any], tmp_path: Path) -> None:
    config = TrainingConfig.from_table("synthesis", table | {"ema_decay": 0.9, "epochs": 1, "validation": ""})
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    name = "synthesis." + next(iter(trainer.network.synthesis.state_dict()))
    initial = trainer.network.state_dict()[name].clone()
    weights = []
    update = trainer.average.update

    def spied(step: int) -> None:
        weights.append(trainer.network.state_dict()[name].clone())
        update(step)

    trainer.average.update = spied  # type: ignore[method-assign]
    trainer.run()
    expected = initial
    for step, weight in enumerate(weights, start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    saved = load_networks(tmp_path / "run" / LAST, DeblurNetwork).state_dict()[name]
    torch.testing.assert_close(saved, expected, rtol=1e-6, atol=1e-8)
    assert not torch.equal(saved, weights[-1])


def test_weights_say_where_they_come_from(table: dict[str, Any], tmp_path: Path) -> None:
    config = TrainingConfig.from_table("synthesis", table | {"training_data": "three random pictures"})
    Trainer(config, tmp_path / "run", device="cpu").run()
    header = read_header(tmp_path / "run" / LAST)
    assert header.training_data == "three random pictures"
    assert "synthesis stage, step 6" in header.revision
    assert header.configuration == config.network


def test_the_best_weights_are_those_of_the_best_validation(table: dict[str, Any], tmp_path: Path) -> None:
    Trainer(TrainingConfig.from_table("synthesis", table), tmp_path / "run", device="cpu").run()
    scores = {record["step"]: record["psnr"] for record in records(tmp_path / "run") if "psnr" in record}
    best = max(scores, key=lambda step: scores[step])
    assert f"step {best}, psnr {scores[best]:.4f}" in read_header(tmp_path / "run" / BEST).revision
    assert len(list((tmp_path / "run" / "visualisations").glob("*.png"))) == len(scores) == 4


def test_a_run_is_never_overwritten(table: dict[str, Any], tmp_path: Path) -> None:
    config = TrainingConfig.from_table("synthesis", table | {"epochs": 1})
    Trainer(config, tmp_path / "run", device="cpu").run()
    with pytest.raises(
        InputError, match="holds a run already: continue with --resume or name another folder"
    ):
        Trainer(config, tmp_path / "run", device="cpu")
    with pytest.raises(InputError, match="is not empty"):
        Trainer(config, tmp_path, device="cpu")


def test_resuming_asks_for_the_same_stage_and_network(table: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(WeightsError, match="there is no checkpoint"):
        Trainer(TrainingConfig.from_table("synthesis", table), run, resume=True, device="cpu")
    stopped_run(TrainingConfig.from_table("synthesis", table), run, 1)
    with pytest.raises(InputError, match="belongs to the synthesis stage, not to the joint stage"):
        Trainer(TrainingConfig.from_table("joint", table), run, resume=True, device="cpu")
    table["network"]["synthesis"]["channels"] = [4, 8]
    with pytest.raises(WeightsError, match="made with another network configuration"):
        Trainer(TrainingConfig.from_table("synthesis", table), run, resume=True, device="cpu")


def test_a_loss_that_is_not_finite_ends_the_run_and_spares_the_checkpoint(
    table: dict[str, Any], tmp_path: Path
) -> None:
    config = TrainingConfig.from_table("synthesis", table | {"validation": ""})
    source = BatchSource(
        Photographs(config.data), config.kernels, config.degradation, batch_size=2, crop=24, seed=0
    )

    class Poisoned:
        def batch(self, index: int) -> Batch:
            batch = source.batch(index)
            return batch._replace(sharp=batch.sharp * float("nan")) if index == 3 else batch

    trainer = Trainer(config, tmp_path / "run", device="cpu", source=Poisoned())
    with pytest.raises(
        ConfigurationError, match="the loss is no longer finite at step 4: lower learning_rate"
    ):
        trainer.run()
    assert load_checkpoint_state(tmp_path / "run")["step"] == 2


def test_time_limit_ends_after_a_step(table: dict[str, Any], tmp_path: Path) -> None:
    trainer = Trainer(TrainingConfig.from_table("synthesis", table), tmp_path / "run", device="cpu")
    assert trainer.run(hours=0.0) == "out of time"
    assert load_checkpoint_state(tmp_path / "run")["step"] == 1


@pytest.mark.parametrize("channels_last", [False, True])
def test_bfloat16_trains(channels_last: bool, table: dict[str, Any], tmp_path: Path) -> None:
    options = {"precision": "bfloat16", "channels_last": channels_last, "epochs": 1}
    trainer = Trainer(TrainingConfig.from_table("joint", table | options), tmp_path / "run", device="cpu")
    assert trainer.run() == "finished"
    assert all(weight.dtype == torch.float32 for weight in trainer.parameters)
    assert all(record["loss"] > 0 for record in records(tmp_path / "run") if record["kind"] == "training")


def test_the_joint_stage_can_keep_a_kernel_loss(table: dict[str, Any], tmp_path: Path) -> None:
    config = TrainingConfig.from_table(
        "joint", table | {"kernel_loss_weight": 0.5, "epochs": 1, "validation": ""}
    )
    Trainer(config, tmp_path / "run", device="cpu").run()
    for record in records(tmp_path / "run"):
        assert record["loss"] == pytest.approx(record["image"] + 0.5 * record["kernel"], rel=1e-5)
        assert record["kernel"] > 0


def test_the_joint_stage_can_deblur_by_true_kernels(table: dict[str, Any], tmp_path: Path) -> None:
    """The image loss reaches the analysis through estimates, not through true kernels."""
    moved = {}
    for share in (0.0, 1.0):
        options = {"true_kernel_share": share, "kernel_loss_weight": 0.0, "epochs": 1, "validation": ""}
        config = TrainingConfig.from_table("joint", table | options)
        trainer = Trainer(config, tmp_path / str(share), device="cpu")
        before = [weight.detach().clone() for weight in trainer.network.analysis.parameters()]
        trainer.run()
        after = list(trainer.network.analysis.parameters())
        moved[share] = any(not torch.equal(one, two) for one, two in zip(before, after, strict=True))
    assert moved == {0.0: True, 1.0: False}
