"""Write pairs of blur kernels and estimates of them by `compact`'s analysis, to train its synthesis on.

    python experiments/estimate_kernels.py --weights asnet/models/compact.safetensors \\
        --photographs FOLDER --output runs/kernel_estimates.safetensors

Each pair comes from a crop of a photograph, blurred and degraded as the recipe `compact` says. What
the analysis itself calls sharp or contradictory, and what has nothing in common with the truth, is left out:
the synthesis never sees such kernels, or could not restore by them. An estimate is moved to where its kernel
lies.
"""

import argparse
from pathlib import Path

import torch
from train_refiner import aligned

from asnet.data.batches import BatchSource
from asnet.data.photograph_pool import Photographs
from asnet.networks import DeblurNetwork, load_networks
from asnet.networks.iterated_analysis import IteratedAnalysisNetwork
from asnet.networks.kernel_grids import SMALLEST_RIPPLE, normalised, similarity
from asnet.networks.safetensors_files import write_safetensors
from asnet.training.recipe import TrainingConfig, stage_table
from asnet.training.recipe_tables import read_recipe
from asnet.training.run_weights import source_revision

#: Side of the crops that are estimated on.
CROP = 400

#: Estimates less similar than this to the truth are left out.
LEAST_SIMILARITY = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="weights file with the analysis")
    parser.add_argument("--photographs", type=Path, required=True, help="folder of sharp photographs")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument("--samples", type=int, default=2000, help="crops to estimate on")
    options = parser.parse_args()

    recipe = read_recipe("compact")
    table = {**stage_table(recipe, "synthesis"), "data": str(options.photographs), "kernel_estimates": ""}
    config = TrainingConfig.from_table("synthesis", table)
    analysis = load_networks(options.weights, DeblurNetwork).analysis
    assert isinstance(analysis, IteratedAnalysisNetwork)
    source = BatchSource(
        Photographs(options.photographs),
        config.kernels,
        config.degradation,
        batch_size=1,
        crop=CROP,
        seed=1,
        grey_share=config.grey_share,
    )
    kernels, estimates = [], []
    for index in range(options.samples):
        batch = source.batch(index)
        estimate = analysis.estimate(batch.blurred)
        found = float(similarity(estimate.kernel, batch.kernel))
        used = found >= LEAST_SIMILARITY and not bool(estimate.sharp | estimate.contradictory)
        print(f"{index}: {found:.3f}{'' if used else ', left out'}", flush=True)
        if used:
            moved = aligned(estimate.kernel, batch.kernel)
            moved = moved * (moved >= SMALLEST_RIPPLE * moved.amax((1, 2), keepdim=True))
            kernels.append(batch.kernel)
            estimates.append(normalised(moved))
    write_safetensors(
        options.output,
        {"kernel": torch.cat(kernels), "estimate": torch.cat(estimates)},
        {"training_data": str(options.photographs.name), "revision": source_revision()},
    )


if __name__ == "__main__":
    main()
