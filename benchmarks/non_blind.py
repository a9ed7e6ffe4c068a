"""Non-blind restoration by the synthesis network, compared with Wiener and total-variation deconvolution.

    python benchmarks/non_blind.py --photographs FOLDER [--model compact] [--cases "small 0.03"]

Every photograph is blurred by a kernel of our sampler, with added noise, both from a fixed seed. A line is
printed for each photograph. Scores are PSNR in dB over the whole photograph:

blurred          the blurred photograph
wiener           Wiener deconvolution with the best strength for each photograph
total_variation  total-variation deconvolution with the best weight for each photograph, by half-quadratic
                 splitting with the same continuation beyond the edges as the network; only with strong noise
network          the synthesis network

"ring" is the error in flat areas near strong edges. In the case "wrong", sharp photographs with noise are
deblurred by a small kernel, as after a wrong estimate.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measure import save
from restoration_cases import CLASSES, STRIDE
from torch import Tensor

from asnet.data import (
    BlurKernelConfig,
    DegradationConfig,
    Example,
    Photographs,
    blurred_examples,
    sample_blur_kernels,
)
from asnet.deblurring.tiled_synthesis import TiledSynthesis
from asnet.evaluation.metrics import psnr, ring_error
from asnet.networks import DeblurNetwork, load_networks
from asnet.networks.wiener import Deconvolution
from asnet.pretrained import find_weights

WIENER_STRENGTHS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.12, 0.25, 0.5)

#: Weights of the total variation, for intensities in [0, 1].
TV_WEIGHTS = (0.002, 0.004, 0.008, 0.016, 0.03, 0.06)
#: Strengths of the splitting, from that of a first image to one at which both halves agree.
TV_STRENGTHS = tuple(0.02 * 2**index for index in range(9))
TV_REPEATS = 2
#: Total variation is measured from this noise on.
TV_NOISE = 0.03

NOISES = (0.0, 0.01, 0.03, 0.05)

#: Sizes of the wrong kernels of sharp photographs.
WRONG_SIZES = (3, 7)


def total_variation(deconvolution: Deconvolution, weight: float) -> Tensor:
    """Minimise |k * x - y|^2 + weight TV(x), TV over the root mean square of the channels' differences."""

    def each(value: float) -> Tensor:
        return deconvolution.for_each_image((value,))[:, 0]

    (image,) = deconvolution.wiener(each(TV_STRENGTHS[0])[:, None])
    for strength in TV_STRENGTHS:
        for _ in range(TV_REPEATS):
            image = deconvolution.sparse(image, each(strength), each(weight / (2 * strength)))
    return deconvolution.crop(image)


def cases() -> dict[str, tuple[str, float]]:
    """Class of kernels and noise of each case by its name."""
    named = {f"{name} {noise:g}": (name, noise) for name in CLASSES for noise in NOISES}
    return {**named, "wrong 0.01": ("wrong", 0.01)}


def examples(photographs: Photographs, kernel_class: str, noise: float, seed: int) -> Iterator[Example]:
    """Blur the case's photographs; of "wrong" the kernel comes after the blur by a single pixel."""
    generator = torch.Generator().manual_seed(seed)
    which = range(0, len(photographs), 1 if noise == 0.01 else STRIDE)
    smallest, largest = CLASSES.get(kernel_class, WRONG_SIZES)
    config = BlurKernelConfig(canvas=largest, minimum_size=smallest)
    kernels = sample_blur_kernels(len(which), config, generator=generator)
    point = torch.zeros_like(kernels)
    point[:, largest // 2, largest // 2] = 1
    named = ((photographs.names[index], photographs[index]) for index in which)
    blurs = point if kernel_class == "wrong" else kernels
    degradation = DegradationConfig(noise=(noise, noise), quantise=True)
    blurred = blurred_examples(named, blurs, degradation, generator=generator)
    for example, kernel in zip(blurred, kernels, strict=True):
        yield Example(example.name, example.blurred, example.sharp, kernel[None])


@torch.inference_mode()
def measure(synthesis: TiledSynthesis, example: Example, noise: float, *, estimated: bool) -> dict[str, Any]:
    """Scores of one photograph; the network is told whether its kernel is an estimate."""
    blurred, sharp, kernel = example.blurred, example.sharp, example.kernel

    def score(image: Tensor) -> float:
        return float(psnr(image.clamp(0, 1), sharp))

    def ring(image: Tensor) -> float | None:
        value = float(ring_error(image.clamp(0, 1), sharp))
        return None if math.isnan(value) else value

    deconvolution = Deconvolution(blurred, kernel)
    linear = max(
        (
            deconvolution.crop(deconvolution.wiener(deconvolution.for_each_image((strength,)))[0])
            for strength in WIENER_STRENGTHS
        ),
        key=score,
    )
    restored = synthesis(blurred, kernel[0], estimated=estimated)
    row = {
        "photograph": example.name,
        "blurred": score(blurred),
        "wiener": score(linear),
        "network": score(restored),
        "ring_blurred": ring(blurred),
        "ring_wiener": ring(linear),
        "ring_network": ring(restored),
    }
    if noise >= TV_NOISE:
        varied = max((total_variation(deconvolution, weight) for weight in TV_WEIGHTS), key=score)
        row |= {"total_variation": score(varied), "ring_total_variation": ring(varied)}
    return row


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean of every column over the photographs that have it."""
    columns = {name for row in rows for name, value in row.items() if isinstance(value, float)}
    values = {name: [row[name] for row in rows if row[name] is not None] for name in sorted(columns)}
    return {name: round(sum(column) / len(column), 4) for name, column in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photographs", type=Path, required=True, help="folder of sharp photographs")
    parser.add_argument("--model", default="compact", help="name or weights file")
    parser.add_argument("--cases", nargs="+", choices=cases(), default=list(cases()), metavar="CASE")
    parser.add_argument("--seed", type=int, default=1, help="of blur kernels and noise")
    parser.add_argument("--dry-run", action="store_true", help="write no file")
    options = parser.parse_args()

    network = load_networks(find_weights(options.model), DeblurNetwork)
    synthesis = TiledSynthesis(network.synthesis)
    photographs = Photographs(options.photographs)
    results = []
    for name in options.cases:
        kernel_class, noise = cases()[name]
        rows = []
        for example in examples(photographs, kernel_class, noise, options.seed):
            rows.append(measure(synthesis, example, noise, estimated=kernel_class == "wrong"))
            shown = (f"{key} {value:.2f}" for key, value in rows[-1].items() if isinstance(value, float))
            print(name, example.name, *shown, flush=True)
        results.append({"name": name, "noise": noise, "means": means(rows), "photographs": rows})
        print(name, results[-1]["means"], flush=True)
        if not options.dry_run:
            save(f"non_blind_{network.config.name}", results, seed=options.seed)


if __name__ == "__main__":
    main()
