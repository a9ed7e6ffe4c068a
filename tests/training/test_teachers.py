"""Restorations of trained networks as part of the target."""

from pathlib import Path
from typing import Any

import pytest
import torch

from asnet.data import BatchSource, Photographs
from asnet.data.batches import Batch
from asnet.errors import ConfigurationError
from asnet.networks import DeblurNetwork, save_weights
from asnet.training import TrainingConfig
from asnet.training.stages import prepared_batch
from asnet.training.teachers import batch_completion
from asnet.training.trainer import Trainer

PLAIN = torch.autocast("cpu", enabled=False)


def compact(table: dict[str, Any], **values: Any) -> TrainingConfig:
    """A small network of the kind of `compact`."""
    synthesis = {"channels": [4, 6], "kernel_size": 7}
    networks = {"synthesis": synthesis, "analysis": {"kernel_size": 7}}
    values = {"model": "compact", "network": networks, "halo": 4, **values}
    return TrainingConfig.from_table("synthesis", table | values)


def random_pair(config: TrainingConfig, seed: int) -> DeblurNetwork:
    torch.manual_seed(seed)
    network = DeblurNetwork(config.network)
    torch.nn.init.normal_(network.synthesis.output.weight, std=0.05)
    return network


def saved(network: DeblurNetwork, path: Path) -> str:
    save_weights(path, network, configuration_name="small", training_data="", revision="")
    return str(path)


def one_batch(config: TrainingConfig) -> Batch:
    photographs = Photographs(config.data)
    source = BatchSource(
        photographs, config.kernels, config.degradation, batch_size=2, crop=24, seed=0, halo=4
    )
    return source.batch(0)


@pytest.mark.parametrize("axes", [(-1,), (-2,), (-2, -1)])
@pytest.mark.parametrize("model", ["paper", "compact"])
def test_flipped_input_is_that_of_flipped_photographs(
    model: str, axes: tuple[int, ...], table: dict[str, Any]
) -> None:
    config = compact(table) if model == "compact" else TrainingConfig.from_table("synthesis", table)
    network = random_pair(config, 1).synthesis
    batch = one_batch(config)
    kernel = batch.given
    prepared = network.prepare(batch.blurred, kernel, estimated=torch.tensor([False, True]))
    direct = network.prepare(
        batch.blurred.flip(axes), kernel.flip(axes), estimated=torch.tensor([False, True])
    )
    found = network.flipped(prepared, kernel, axes)
    # The noise is measured anew.
    torch.testing.assert_close(found.description, direct.description, rtol=0, atol=1e-3)
    assert len(found.images) == len(direct.images)
    for image, expected in zip(found.images, direct.images, strict=True):
        # The differences of the sparse deconvolution are one-sided.
        mirrored = (image - prepared.images[0]).abs().mean()
        assert (image - expected).abs().mean() < 0.03 * mirrored


def test_the_target_holds_the_mean_of_what_teachers_restore_from_mirror_images(
    table: dict[str, Any], tmp_path: Path
) -> None:
    first, second = (random_pair(compact(table), seed) for seed in (1, 2))
    paths = [saved(first, tmp_path / "first.safetensors"), saved(second, tmp_path / "second.safetensors")]
    config = compact(table, teachers=paths, teacher_share=0.75)
    student = random_pair(config, 3)
    batch = one_batch(config)
    completed = batch_completion(config, student, torch.device("cpu"), PLAIN)(batch)
    prepared = prepared_batch(student, batch).prepared
    assert prepared is not None
    with torch.no_grad():
        images = [
            first.synthesis.restore(prepared),
            second.synthesis.restore(second.synthesis.flipped(prepared, batch.given, (-1,))).flip(-1),
        ]
        taught = first.synthesis.finish(prepared, (images[0] + images[1]) / 2)
    assert (images[0] - images[1]).abs().mean() > 1e-3
    torch.testing.assert_close(completed.sharp, 0.25 * batch.sharp + 0.75 * taught)
    assert completed.prepared is not None
    untaught = batch_completion(compact(table), student, torch.device("cpu"), PLAIN)(batch)
    assert torch.equal(untaught.sharp, batch.sharp)


def test_a_network_learns_what_its_teacher_does_and_a_resumed_run_goes_on_alike(
    table: dict[str, Any], tmp_path: Path
) -> None:
    teacher = random_pair(compact(table), 1)
    values = {"teachers": [saved(teacher, tmp_path / "t.safetensors")], "teacher_share": 1.0}
    values |= {"learning_rate": 1e-3, "epochs": 2, "steps_per_epoch": 30, "validation": ""}
    config = compact(table, **values)

    def trained(folder: str, stops: int) -> Trainer:
        for part in range(stops):
            trainer = Trainer(config, tmp_path / folder, resume=part > 0, device="cpu")
            last = part == stops - 1
            trainer.run(stopping=lambda trainer=trainer, last=last: not last and trainer.step >= 45)
        return trainer

    whole, resumed = trained("whole", 1), trained("resumed", 2)
    for ours, theirs in zip(whole.parameters, resumed.parameters, strict=True):
        assert torch.equal(ours, theirs)
    batch = prepared_batch(teacher, one_batch(config))
    assert batch.prepared is not None
    untrained = Trainer(config, tmp_path / "untrained", device="cpu").network
    assert isinstance(untrained, DeblurNetwork)
    assert isinstance(whole.network, DeblurNetwork)
    with torch.no_grad():
        wanted, first, last = (
            pair.synthesis.restore(batch.prepared) for pair in (teacher, untrained, whole.network)
        )
    assert (last - wanted).square().mean() < 0.5 * (first - wanted).square().mean()


def test_what_cannot_teach_is_refused(table: dict[str, Any], tmp_path: Path) -> None:
    other = compact(table)
    path = saved(random_pair(other, 1), tmp_path / "other.safetensors")
    networks = {"synthesis": {"channels": [4, 8], "kernel_size": 7}, "analysis": {"kernel_size": 7}}
    config = compact(table, teachers=[path], network=networks, validation="")
    with pytest.raises(ConfigurationError, match=r"other\.safetensors must have the configuration"):
        Trainer(config, tmp_path / "run", device="cpu")
    with pytest.raises(ConfigurationError, match=r"joint stage takes no teachers, got \('a',\)"):
        TrainingConfig.from_table("joint", table | {"teachers": ["a"]})
    with pytest.raises(ConfigurationError, match="teacher_share must be from 0 to 1, got 2"):
        compact(table, teacher_share=2)
