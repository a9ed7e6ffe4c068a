"""Stages of section 3.4 and of the size classifier: modules to train, and losses."""

import torch
from torch import Tensor, nn

from asnet.data.batches import Batch
from asnet.data.blur_kernels import support_size
from asnet.networks.config import ASNetConfig
from asnet.networks.pair import DeblurNetwork, is_doubtful
from asnet.networks.size_classifier import SizeClassifier, SizeClassifierConfig
from asnet.training.losses import IMAGE_LOSSES, KERNEL_LOSSES, class_cross_entropy
from asnet.training.recipe import Stage, TrainingConfig

#: Networks of a run: a pair, in three stages, or a size classifier.
TrainedNetworks = DeblurNetwork | SizeClassifier


def new_network(config: ASNetConfig | SizeClassifierConfig) -> TrainedNetworks:
    """Return the networks of a configuration with random weights."""
    return SizeClassifier(config) if isinstance(config, SizeClassifierConfig) else DeblurNetwork(config)


def trained_module(stage: Stage, network: TrainedNetworks) -> nn.Module:
    """Return the part of the networks that the stage trains."""
    if isinstance(network, SizeClassifier):
        return network
    parts: dict[Stage, nn.Module] = {
        "analysis": network.analysis,
        "synthesis": network.synthesis,
        "joint": network,
    }
    return parts[stage]


@torch.no_grad()
def prepared_batch(network: TrainedNetworks, batch: Batch) -> Batch:
    """Return the batch with the deconvolutions of its images, which have no weights to train."""
    assert isinstance(network, DeblurNetwork)
    prepared = network.synthesis.prepare(
        batch.blurred, batch.given, halo=batch.halo, estimated=batch.estimated
    )
    return batch._replace(prepared=prepared)


def stage_losses(
    config: TrainingConfig, network: TrainedNetworks, batch: Batch, autocast: torch.autocast
) -> dict[str, Tensor]:
    """Return the losses of a batch; the one to minimise is called "loss", the others are for the log.

    Parameters
    ----------
    config : TrainingConfig
        Stage and losses.
    network : DeblurNetwork or SizeClassifier
        The trained network.
    batch : Batch
        blurred and sharp (N, 3, H, W), kernel (N, K, K).
    autocast : torch.autocast
        Context of the networks; losses are computed outside it.
    """
    if isinstance(network, SizeClassifier):
        with autocast:
            logits = network(batch.blurred)
        classes = network.config.classes_of(support_size(batch.kernel))
        return {
            "loss": class_cross_entropy(logits, classes),
            "accuracy": (logits.detach().argmax(1) == classes).float().mean(),
        }
    kernel_loss = KERNEL_LOSSES[config.kernel_loss]
    image_loss = IMAGE_LOSSES[config.image_loss]
    if config.stage == "analysis":
        with autocast:
            kernel = network.analysis(batch.blurred)
        return {"loss": kernel_loss(kernel, batch.kernel)}
    if config.stage == "synthesis":
        prepared = batch.prepared or prepared_batch(network, batch).prepared
        assert prepared is not None
        with autocast:
            image = network.synthesis.finish(prepared, network.synthesis.restore(prepared))
        return {"loss": image_loss(image, batch.sharp)}
    given = round(config.true_kernel_share * len(batch.kernel))
    with autocast:
        kernel = network.analysis(batch.blurred)
        image = network.synthesis(
            batch.blurred,
            torch.cat([batch.kernel[:given], kernel[given:]]),
            estimated=(torch.arange(len(kernel), device=kernel.device) >= given) & is_doubtful(kernel),
        )
    loss = image_loss(image, batch.sharp)
    if not config.kernel_loss_weight:
        return {"loss": loss}
    kernel_term = kernel_loss(kernel, batch.kernel)
    return {
        "loss": loss + config.kernel_loss_weight * kernel_term,
        "image": loss.detach(),
        "kernel": kernel_term.detach(),
    }
