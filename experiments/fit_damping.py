"""Fit the damping of `compact`'s last deconvolution, with all other weights fixed.

    python experiments/fit_damping.py --weights MEAN.safetensors --photographs FOLDER \\
        --kernel-estimates runs/kernel_estimates.safetensors --output compact.safetensors

For a mean of weights files, whose U-Net is not quite the one that the damping was trained with. It takes
minutes on one core.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from estimate_kernels import synthesis_config

from asnet.errors import AsnetError
from asnet.networks import DeblurNetwork, load_networks, read_header, save_weights
from asnet.training.run_weights import source_revision
from asnet.training.schedule import LearningRate
from asnet.training.stages import stage_losses
from asnet.training.trainer import batch_source

LEARNING_RATE = 2e-3


def fit(network: DeblurNetwork, photographs: Path, estimates: Path, steps: int, seed: int) -> None:
    """Train the damping on batches of the recipe `compact`."""
    config = replace(synthesis_config(photographs), kernel_estimates=str(estimates), seed=seed)
    source = batch_source(config)
    damping = network.synthesis.damping
    if damping is None:
        raise AsnetError("these weights have no last deconvolution")
    network.requires_grad_(False)
    damping.requires_grad_(True)
    optimiser = torch.optim.Adam(damping.parameters(), lr=LEARNING_RATE)
    schedule = LearningRate("cosine", LEARNING_RATE, steps, warmup_steps=20)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = schedule.at(step)
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16")
        loss = stage_losses(config, network, source.batch(step), autocast)["loss"]
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        if step % 50 == 0:
            print(f"step {step}, loss {float(loss.detach()):.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="weights file of compact")
    parser.add_argument("--photographs", type=Path, required=True, help="folder of sharp photographs")
    parser.add_argument("--kernel-estimates", type=Path, required=True, help="file of estimate_kernels.py")
    parser.add_argument("--output", type=Path, required=True, help="weights file to write")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        revision = source_revision()
        network, header = load_networks(options.weights, DeblurNetwork), read_header(options.weights)
        fit(network, options.photographs, options.kernel_estimates, options.steps, options.seed)
        save_weights(
            options.output,
            network,
            training_data=header.training_data,
            revision=f"{header.revision}; damping fitted by {revision}",
        )
    except AsnetError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
