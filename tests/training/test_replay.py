"""Batches that serve several steps."""

import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from asnet.data import Batch, BatchSource, Photographs
from asnet.errors import ConfigurationError
from asnet.networks import DeblurNetwork
from asnet.training import TrainingConfig
from asnet.training.replay import POOL, ReplayedBatches
from asnet.training.stages import prepared_batch, stage_losses


class Numbers:
    """Batches whose only content is their number, and which numbers were made."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def batch(self, index: int) -> Batch:
        self.made.append(index)
        number = torch.tensor(index)
        return Batch(number, number, number, number, number)


def replayed(repeats: int) -> tuple[ReplayedBatches, Numbers]:
    source = Numbers()
    return ReplayedBatches(source, lambda batch: batch, repeats=repeats, seed=3), source


def test_every_batch_serves_so_many_steps_and_is_made_once() -> None:
    batches, source = replayed(4)
    numbers = [int(batches.batch(step).kernel) for step in range(2000)]
    assert source.made == list(range(500))
    # New ones in order, between them earlier ones that are not long past.
    assert numbers[::4] == source.made
    assert all(0 <= step // 4 - number < POOL for step, number in enumerate(numbers))
    uses = Counter(numbers[: 4 * 400])
    assert 3.5 < sum(uses[number] for number in range(50, 350)) / 300 < 4.5
    # The first ones also serve for those that are not there yet.
    assert max(uses[number] for number in range(POOL, 350)) < 16


def test_a_run_that_begins_in_the_middle_gets_the_same_batches() -> None:
    batches, _ = replayed(3)
    numbers = [int(batches.batch(step).kernel) for step in range(300)]
    resumed, source = replayed(3)
    assert [int(resumed.batch(step).kernel) for step in range(150, 300)] == numbers[150:]
    assert len(source.made) == len(set(source.made))


def test_no_more_than_the_pool_is_kept() -> None:
    made: list[weakref.ref[torch.Tensor]] = []

    def noted(batch: Batch) -> Batch:
        made.append(weakref.ref(batch.kernel))
        return batch

    batches = ReplayedBatches(Numbers(), noted, repeats=2, seed=3)
    for step in range(8 * POOL):
        batches.batch(step)
    assert len(made) == 4 * POOL
    assert sum(reference() is not None for reference in made) <= POOL


@pytest.mark.parametrize("model", ["paper", "compact"])
def test_a_prepared_batch_has_the_same_loss(model: str, photographs: Path, table: dict[str, Any]) -> None:
    table |= {"model": model}
    if model == "compact":
        table["network"] = {"synthesis": {"channels": [4, 6]}, "analysis": {"kernel_size": 7}}
        table["network"]["synthesis"]["kernel_size"] = 7
    config = TrainingConfig.from_table("synthesis", table)
    torch.manual_seed(0)
    network = DeblurNetwork(config.network)
    source = BatchSource(
        Photographs(photographs), config.kernels, config.degradation, batch_size=2, crop=24, seed=0, halo=4
    )
    batch = source.batch(0)
    autocast = torch.autocast("cpu", enabled=False)
    plain = stage_losses(config, network, batch, autocast)["loss"]
    prepared = prepared_batch(network, batch)
    assert prepared.prepared is not None
    torch.testing.assert_close(stage_losses(config, network, prepared, autocast)["loss"], plain)
    image = network.synthesis(batch.blurred, batch.given, halo=batch.halo, estimated=batch.estimated)
    torch.testing.assert_close(plain, (image - batch.sharp).square().mean())


def test_only_the_synthesis_stage_repeats_batches(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="joint stage takes no repeats, got 2"):
        TrainingConfig.from_table("joint", table | {"repeats": 2})
