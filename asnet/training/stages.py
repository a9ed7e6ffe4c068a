"""What each stage of section 3.4 trains, and on which loss."""

import torch
from torch import Tensor, nn

from asnet.data.batches import Batch
from asnet.networks.iterated_analysis import IteratedAnalysisNetwork
from asnet.networks.pair import DeblurNetwork
from asnet.training.configuration import Stage, TrainingConfig
from asnet.training.losses import IMAGE_LOSSES, KERNEL_LOSSES


def trained_module(stage: Stage, network: DeblurNetwork) -> nn.Module:
    """Return the part of the pair whose weights the stage changes."""
    parts: dict[Stage, nn.Module] = {
        "analysis": network.analysis,
        "synthesis": network.synthesis,
        "joint": network,
    }
    return parts[stage]


def stage_losses(
    config: TrainingConfig, network: DeblurNetwork, batch: Batch, autocast: torch.autocast
) -> dict[str, Tensor]:
    """Return the losses of a batch; the one to minimise is called "loss", the others are for the log.

    Parameters
    ----------
    config : TrainingConfig
        Stage and losses.
    network : DeblurNetwork
        The pair.
    batch : Batch
        blurred and sharp (N, 3, H, W), kernel (N, K, K).
    autocast : torch.autocast
        Context in which the networks run; the losses stay outside of it.
    """
    image_loss = IMAGE_LOSSES[config.image_loss]
    if config.stage == "analysis":
        with autocast:
            return _estimate_with_losses(config, network, batch)[1]
    if config.stage == "synthesis":
        with autocast:
            image = network.synthesis(batch.blurred, batch.kernel)
        return {"loss": image_loss(image, batch.sharp)}
    if not config.kernel_loss_weight:
        with autocast:
            result = network(batch.blurred)
        return {"loss": image_loss(result.image, batch.sharp)}
    with autocast:
        kernel, kernel_losses = _estimate_with_losses(config, network, batch)
        image = network.synthesis(batch.blurred, kernel)
    loss = image_loss(image, batch.sharp)
    return {
        "loss": loss + config.kernel_loss_weight * kernel_losses["loss"],
        "image": loss.detach(),
        "kernel": kernel_losses["loss"].detach(),
    }


def _estimate_with_losses(
    config: TrainingConfig, network: DeblurNetwork, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the analysis network's kernels and its own losses, or else the loss on kernels."""
    if isinstance(network.analysis, IteratedAnalysisNetwork):
        return network.analysis.estimate_with_losses(batch.blurred, batch.sharp, batch.kernel)
    kernel = network.analysis(batch.blurred)
    return kernel, {"loss": KERNEL_LOSSES[config.kernel_loss](kernel, batch.kernel)}
