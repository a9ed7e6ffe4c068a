"""Train the refiner of `compact`'s analysis on estimates of the analysis itself.

The rounds of the analysis are not trained, so each example goes through them once. The target of the refiner
is the true kernel aligned with the solution, because an estimate cannot determine the position of a kernel.
It is trained on small kernels, to which the analysis applies it.

    python experiments/train_refiner.py --photographs FOLDER --output runs/analysis.safetensors
"""

import argparse
import itertools
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.data.batches import BatchSource
from asnet.data.blur_kernels import BlurKernelConfig
from asnet.data.degradation import DegradationConfig
from asnet.data.photograph_pool import Photographs
from asnet.networks import ASNetConfig, DeblurNetwork, save_weights
from asnet.networks.iterated_analysis import IteratedAnalysisNetwork
from asnet.networks.kernel_grids import fit_grid, normalised, rms_radius, similarity
from asnet.training.run_weights import source_revision

#: Sources of examples, in turn: smallest and largest kernels in pixels, side of the crops, share of thin
#: kernels.
SOURCES = ((3, 9, 240, 0.3), (5, 13, 300, 0.4), (3, 9, 400, 0.3))

#: Grid on which kernels are sampled.
CANVAS = 61

DEGRADATION = DegradationConfig(
    noise=(0.0, 0.03),
    noise_exponent=2.0,
    noise_correlation=(0.3, 0.9),
    noise_correlation_probability=0.3,
    gamma=2.2,
    gamma_probability=0.2,
    lights=(1, 8),
    lights_probability=0.1,
    jpeg=(60, 100),
    jpeg_probability=0.3,
    quantise=True,
)

#: Share of the crops that are grey.
GREY_SHARE = 0.2

#: Grid on which the refiner is trained; it is convolutional and runs on any grid.
GRID = 31

#: Estimates less similar than this to the truth are failures and excluded, as are those of larger RMS radius
#: in pixels than kernels that are refined.
LEAST_SIMILARITY, LARGEST_RADIUS = 0.5, 4.0

LEARNING_RATE, BATCH = 2e-3, 12

#: Seed of the crops; each source has its own.
FIRST_SEED = 500


class Sample(NamedTuple):
    """On the common grid: an estimate (GRID, GRID), its evidence (5, GRID, GRID), the aligned true kernel."""

    kernel: Tensor
    evidence: Tensor
    target: Tensor


def aligned(truth: Tensor, estimate: Tensor) -> Tensor:
    """Align true kernels (N, s, s) with estimates (N, s, s) to a quarter of a pixel."""
    size = truth.shape[-1]
    frequencies = torch.fft.fftfreq(size)
    spectrum = torch.fft.fft2(truth)
    correlation = torch.fft.ifft2(torch.fft.fft2(estimate) * spectrum.conj()).real.flatten(1)
    best = correlation.argmax(1)
    moved = []
    for down, right in itertools.product(torch.arange(-3, 4) / 4, repeat=2):
        turns = (best // size + down)[:, None, None] * frequencies[:, None]
        turns = turns + (best % size + right)[:, None, None] * frequencies
        phase = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
        moved.append(normalised(torch.fft.ifft2(spectrum * phase).real.clamp(min=0)))
    candidates = torch.stack(moved, dim=1)
    cosines = F.cosine_similarity(candidates.flatten(2), estimate[:, None].flatten(2), dim=2)
    return candidates[torch.arange(len(truth)), cosines.argmax(1)]


@torch.no_grad()
def make_samples(network: IteratedAnalysisNetwork, sources: list[BatchSource], count: int) -> list[Sample]:
    """Run the analysis on `count` crops, of the sources in turn, and keep what did not fail."""
    samples = []
    for index in range(count):
        batch = sources[index % len(sources)].batch(index)
        last = network.last_iteration(batch.blurred)
        found, radius = float(similarity(last.kernel, batch.kernel)), float(rms_radius(last.kernel))
        print(f"{index}: similarity {found:.3f}, RMS radius {radius:.1f} pixels", flush=True)
        if found < LEAST_SIMILARITY or radius >= LARGEST_RADIUS:
            continue
        assert last.evidence is not None
        kernel, truth = fit_grid(last.kernel, CANVAS), fit_grid(batch.kernel, CANVAS)
        maps = (kernel, last.evidence, aligned(truth, kernel))
        samples.append(Sample(*(fit_grid(values, GRID)[0] for values in maps)))
    return samples


def turned(values: list[Tensor], choice: int) -> list[Tensor]:
    """Return maps mirrored and transposed in one of 8 ways."""
    if choice & 1:
        values = [value.flip(-1) for value in values]
    if choice & 2:
        values = [value.flip(-2) for value in values]
    return [value.transpose(-1, -2) for value in values] if choice & 4 else values


def train(
    network: IteratedAnalysisNetwork, samples: list[Sample], steps: int, generator: torch.Generator
) -> None:
    """Train the refiner by cross entropy and relative squared error; keep the average of its weights."""
    refiner = network.refiner.train()
    held, learned = samples[: len(samples) // 10], samples[len(samples) // 10 :]
    optimiser = torch.optim.AdamW(refiner.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps, pct_start=0.1)
    average = {name: value.clone() for name, value in refiner.state_dict().items()}
    for step in range(steps):
        chosen = torch.randint(len(learned), (BATCH,), generator=generator).tolist()
        maps = [torch.stack(values) for values in zip(*(learned[index] for index in chosen), strict=True)]
        kernel, evidence, target = turned(maps, int(torch.randint(8, (), generator=generator)))
        refined = refine(network, Sample(kernel, evidence, target))
        entropy = (target * (target.clamp(min=1e-9).log() - (refined + 1e-9).log())).sum((1, 2)).mean()
        error = (refined - target).square().sum((1, 2)) / target.square().sum((1, 2))
        loss = entropy + error.mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(refiner.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        decay = min(0.98, step / (step + 10))
        for name, value in refiner.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        if step % 50 == 49:
            print(f"step {step + 1}: loss {loss.item():.3f}, held out {score(network, held):.4f}", flush=True)
    refiner.load_state_dict(average)
    print(f"held out: solved {score(network, held, solved=True):.4f}, refined {score(network, held):.4f}")


def refine(network: IteratedAnalysisNetwork, samples: Sample) -> Tensor:
    refined: Tensor = network.refiner(samples.kernel, samples.evidence)
    return refined


@torch.no_grad()
def score(network: IteratedAnalysisNetwork, held: list[Sample], *, solved: bool = False) -> float:
    """Return the mean cosine of held-out kernels."""
    network.refiner.eval()
    samples = Sample(*(torch.stack(values) for values in zip(*held, strict=True)))
    kernel = samples.kernel if solved else refine(network, samples)
    network.refiner.train()
    return float(F.cosine_similarity(kernel.flatten(1), samples.target.flatten(1)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True, help="folder of sharp photographs")
    parser.add_argument("--output", type=Path, required=True, help="weights file to write")
    parser.add_argument("--training-data", default="", help="what the header says of the photographs")
    parser.add_argument("--samples", type=int, default=340, help="crops to estimate")
    parser.add_argument("--steps", type=int, default=800, help="training steps")
    options = parser.parse_args()

    torch.manual_seed(0)
    network = DeblurNetwork(ASNetConfig.compact())
    analysis = network.analysis
    assert isinstance(analysis, IteratedAnalysisNetwork)
    photographs = Photographs(options.photographs)
    sources = [
        BatchSource(
            photographs,
            BlurKernelConfig(
                canvas=CANVAS,
                minimum_size=smallest,
                maximum_size=largest,
                thin_probability=thin,
                tail_probability=0.15,
                loop_probability=0.1,
            ),
            DEGRADATION,
            batch_size=1,
            crop=crop,
            seed=seed,
            grey_share=GREY_SHARE,
        )
        for seed, (smallest, largest, crop, thin) in enumerate(SOURCES, start=FIRST_SEED)
    ]
    samples = make_samples(analysis.eval(), sources, options.samples)
    train(analysis, samples, options.steps, torch.Generator().manual_seed(1))
    save_weights(options.output, network, training_data=options.training_data, revision=source_revision())


if __name__ == "__main__":
    main()
