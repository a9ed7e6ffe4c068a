"""Make the initial weights of the training of `compact`'s synthesis from those of asnet 0.1.

The network of asnet 0.1 has guiding units with a kernel grid of 31 pixels, three Wiener inputs, and one level
less. The grown U-Net computes nearly the same: its additional inputs have weights of 0, its coarsest level
adds nothing, and its guiding units learn here to reproduce the old ones for kernels of 3 to 31 pixels, and
for larger kernels shrunk to that size.

    python experiments/grow_compact.py OLD.safetensors NEW.safetensors
"""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from deepen_compact import deepened
from torch import Tensor
from torch.nn import functional as F

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.networks import ASNetConfig, DeblurNetwork, SynthesisConfig
from asnet.networks.config.fields import fields_from
from asnet.networks.guidance import GuidingUnit, Modulation, fit_kernel_to_grid, guide_inputs
from asnet.networks.safetensors_files import read_safetensors
from asnet.networks.synthesis import SynthesisNetwork
from asnet.networks.weights import save_weights

STEPS = 1500
BATCH = 64
LEARNING_RATE = 3e-3


def old_synthesis(path: Path) -> tuple[SynthesisNetwork, dict[str, str]]:
    """Read the synthesis and the header; this version does not support the analysis of asnet 0.1."""
    tensors, header = read_safetensors(path, "weights file")
    values = json.loads(header["configuration"])["synthesis"]
    network = SynthesisNetwork(fields_from("synthesis", SynthesisConfig, values))
    prefix = "synthesis."
    network.load_state_dict(
        {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    )
    return network.eval(), dict(header)


def grown(old: SynthesisNetwork) -> DeblurNetwork:
    """Return a pair as today's, but as deep as the old U-Net, with its weights; all others stay random."""
    config = ASNetConfig.compact()
    synthesis = replace(config.synthesis, channels=old.config.channels)
    network = DeblurNetwork(replace(config, synthesis=synthesis))
    new = network.synthesis.state_dict()
    for name, value in old.state_dict().items():
        if new[name].shape == value.shape:
            new[name] = value
        elif name == "stem.weight":
            new[name] = F.pad(value, (0, 0, 0, 0, 0, new[name].shape[1] - value.shape[1]))
    network.synthesis.load_state_dict(new)
    return network


def stacked(modulations: list[Modulation]) -> Tensor:
    return torch.cat([part for modulation in modulations for part in modulation if part is not None], dim=1)


def shrunk(kernel: Tensor, side: int) -> Tensor:
    """Return kernels (N, K, K) on a smaller grid, of sum 1."""
    small = F.interpolate(kernel[:, None], size=(side, side), mode="area")[:, 0]
    return small / small.sum((1, 2), keepdim=True)


def distil(old: SynthesisNetwork, new: SynthesisNetwork, generator: torch.Generator) -> float:
    """Train the new guiding units; return the root mean square difference from the old ones."""
    teachers, pupils = (
        [module for module in network.modules() if isinstance(module, GuidingUnit)] for network in (old, new)
    )
    weights = [weight for pupil in pupils for weight in pupil.parameters()]
    optimiser = torch.optim.Adam(weights, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    grid = old.config.kernel_size
    average = math.nan
    for step in range(STEPS):
        largest = grid if step % 3 else new.config.kernel_size
        sizes = BlurKernelConfig(canvas=largest, minimum_size=3 if largest == grid else grid + 2)
        kernel = sample_blur_kernels(BATCH, sizes, generator=generator)
        known = fit_kernel_to_grid(shrunk(kernel, grid) if largest > grid else kernel, grid)
        inputs = guide_inputs(new.config, kernel, torch.full((BATCH,), 0.01), torch.arange(BATCH) % 2 == 0)
        loss = torch.stack(
            [
                F.mse_loss(
                    stacked(pupil(inputs)), stacked(teacher(guide_inputs(old.config, known, None))).detach()
                )
                for pupil, teacher in zip(pupils, teachers, strict=True)
            ]
        ).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        average = loss.item() if math.isnan(average) else 0.99 * average + 0.01 * loss.item()
        if step % 100 == 0:
            print(step, math.sqrt(average), flush=True)
    return math.sqrt(average)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", help="weights file of asnet 0.1")
    parser.add_argument("new", help="weights file to write")
    options = parser.parse_args()
    torch.manual_seed(0)
    old, header = old_synthesis(Path(options.old))
    network = grown(old)
    left = distil(old, network.synthesis, torch.Generator().manual_seed(0))
    save_weights(
        options.new,
        deepened(network),
        training_data=header["training_data"],
        revision=f"{header['revision']}; grown, guidance off by {left:.3f}",
    )


if __name__ == "__main__":
    main()
