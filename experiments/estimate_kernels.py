"""Write pairs of blur kernels and estimates of them by `compact`, to train its synthesis on.

    python experiments/estimate_kernels.py --weights asnet/models/compact.safetensors \\
        --photographs FOLDER --output runs/kernel_estimates.safetensors

Each pair comes from a crop of a photograph, blurred and degraded as the recipe `compact` says. What
it itself calls sharp or contradictory, and what has nothing in common with the truth, is left out:
the synthesis never sees such kernels, or could not restore by them. An estimate is moved to where its kernel
lies.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from train_refiner import aligned

from asnet.data.batches import BatchSource
from asnet.data.photograph_pool import Photographs
from asnet.networks import DeblurNetwork, load_networks
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
    parser.add_argument("--weights", type=Path, required=True, help="weights file of the pair")
    parser.add_argument("--photographs", type=Path, required=True, help="folder of sharp photographs")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument("--samples", type=int, default=2000, help="crops to estimate on")
    parser.add_argument("--seed", type=int, default=1, help="seed of the crops and their blur")
    parser.add_argument("--processes", type=int, default=1, help="processes of one thread each")
    options = parser.parse_args()

    kernels: list[Tensor] = []
    estimates: list[Tensor] = []
    count = options.samples
    with ProcessPoolExecutor(options.processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        jobs = [[argument] * count for argument in (options.weights, options.photographs, options.seed)]
        for kernel, estimate, found in pool.map(estimated_pair, range(count), *jobs):
            print(f"{len(kernels)}: {found:.3f}{', left out' if estimate is None else ''}", flush=True)
            if estimate is not None:
                kernels.append(kernel)
                estimates.append(estimate)
    write_safetensors(
        options.output,
        {"kernel": torch.cat(kernels), "estimate": torch.cat(estimates)},
        {"training_data": str(options.photographs.name), "revision": source_revision()},
    )


def estimated_pair(
    index: int, weights: Path, photographs: Path, seed: int
) -> tuple[Tensor, Tensor | None, float]:
    """Return the kernel (1, K, K) of a crop, its estimate unless it is left out, and their similarity."""
    source, network = prepared(weights, photographs, seed)
    batch = source.batch(index)
    estimate = network.estimate(batch.blurred)
    found = float(similarity(estimate.kernel, batch.kernel))
    if found < LEAST_SIMILARITY or bool(estimate.sharp | estimate.contradictory):
        return batch.kernel, None, found
    moved = aligned(estimate.kernel, batch.kernel)
    moved = moved * (moved >= SMALLEST_RIPPLE * moved.amax((1, 2), keepdim=True))
    return batch.kernel, normalised(moved), found


def synthesis_config(photographs: Path) -> TrainingConfig:
    """Return how the recipe `compact` trains the synthesis, but without estimates."""
    table = stage_table(read_recipe("compact"), "synthesis")
    return TrainingConfig.from_table("synthesis", {**table, "data": str(photographs), "kernel_estimates": ""})


@cache
def prepared(weights: Path, photographs: Path, seed: int) -> tuple[BatchSource, DeblurNetwork]:
    """Return where crops come from and what estimates their kernels, once for each process."""
    config = synthesis_config(photographs)
    network = load_networks(weights, DeblurNetwork)
    source = BatchSource(
        Photographs(photographs),
        config.kernels,
        config.degradation,
        batch_size=1,
        crop=CROP,
        seed=seed,
        grey_share=config.grey_share,
    )
    return source, network


if __name__ == "__main__":
    main()
