"""Trained synthesis networks whose restorations stand in for a part of the ground truth.

What a network cannot know of an image is noise in the gradients of its training. Several networks, each of
which sees another mirror image, restore better in the mean than any of them alone, and what they restore has
none of that noise.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from asnet.data.batches import Batch
from asnet.errors import ConfigurationError
from asnet.networks.config import SynthesisConfig
from asnet.networks.pair import DeblurNetwork
from asnet.networks.weights import load_networks
from asnet.training.recipe import TrainingConfig
from asnet.training.stages import TrainedNetworks, prepared_batch

#: Axes along which the images of the first, second, ... teacher are flipped.
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


class Teachers:
    """Restores batches by several networks of one configuration.

    Parameters
    ----------
    paths : sequence of str
        Weights files of pairs; one may occur several times.
    config : SynthesisConfig
        Configuration of the trained network.
    device : torch.device
        Where they run.

    Raises
    ------
    ConfigurationError
        If the configuration of a teacher's synthesis network is another one.
    WeightsError
        If a file is missing or damaged.
    """

    def __init__(self, paths: Sequence[str], config: SynthesisConfig, device: torch.device) -> None:
        loaded = {path: load_networks(path, DeblurNetwork).synthesis.to(device) for path in set(paths)}
        for path, network in loaded.items():
            if network.config != config:
                raise ConfigurationError(
                    f"the synthesis of the teacher {path} must have the configuration of the trained one"
                )
        self._networks = [loaded[path] for path in paths]

    @torch.no_grad()
    def restored(self, batch: Batch, autocast: torch.autocast) -> Tensor:
        """Return what the networks make of a prepared batch, their mean (N, 3, H, W)."""
        assert batch.prepared is not None
        images = []
        for index, network in enumerate(self._networks):
            axes = FLIPS[index % len(FLIPS)]
            mirrored = network.flipped(batch.prepared, batch.given, axes)
            with autocast:
                images.append(network.restore(mirrored).flip(axes))
        return self._networks[0].finish(batch.prepared, torch.stack(images).mean(0))


def batch_completion(
    config: TrainingConfig, network: TrainedNetworks, device: torch.device, autocast: torch.autocast
) -> Callable[[Batch], Batch]:
    """Return what adds to a new batch of the synthesis stage all that its steps have in common.

    These are the deconvolutions, and the mean of the teachers' restorations as a share of the target.
    """
    assert isinstance(network, DeblurNetwork)
    teachers = Teachers(config.teachers, network.synthesis.config, device) if config.teachers else None

    def completed(batch: Batch) -> Batch:
        batch = prepared_batch(network, batch)
        if teachers is None:
            return batch
        taught = teachers.restored(batch, autocast)
        return batch._replace(sharp=torch.lerp(batch.sharp, taught, config.teacher_share))

    return completed
