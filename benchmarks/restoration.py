"""Restoration by a pair of networks, blind and with the true kernel: three classes of blur, six conditions.

    python benchmarks/restoration.py --photographs FOLDER [--classes small] [--conditions jpeg] [NAME ...]

Every photograph is blurred by a kernel of our sampler, with added noise, both from a fixed seed. A line is
printed for each photograph. Scores are PSNR in dB over the whole photograph:

blurred            the blurred photograph
wiener_true_kernel the best of the synthesis network's own Wiener inputs with the true kernel
true_kernel        deblurred with the true kernel
blind              deblurred with the estimate of the analysis network, reliable or not
deblurred          the result of `Deblurrer.deblur`, which leaves sharp and unclear photographs unchanged

"aligned": the same after a sub-pixel shift onto the ground truth, which deblurring cannot determine, without
the border that the shift uncovers. "ring" is the error in flat areas near strong edges.

Every case has its own file in `benchmarks/results`; the file of small kernels and the plain condition omits
these names. Results of named photographs are printed but not written.
"""

import argparse
import math
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from measure import save
from restoration_cases import CLASSES, CONDITIONS, RestorationCase, chosen_cases
from torch import Tensor

from asnet.data import Example, Photographs
from asnet.deblurring.deblurrer import Deblurrer
from asnet.errors import AsnetError
from asnet.evaluation.alignment import fourier_shift, luma, sub_pixel_shift
from asnet.evaluation.metrics import kernel_similarity, psnr, ring_error
from asnet.networks import DeblurNetwork, load_networks
from asnet.networks.wiener import wiener_deconvolution
from asnet.pretrained import find_weights

Row = dict[str, Any]

#: Columns of a printed line.
_SHOWN = (
    "blurred",
    "true_kernel",
    "blind",
    "blind_aligned",
    "kernel_similarity",
    "deblurred",
    "deblurred_aligned",
    "deblurred_similarity",
)
#: Columns of the table at the end.
_SUMMARISED = (
    "blurred",
    "true_kernel_gain",
    "blind_gain",
    "blind_gain_aligned",
    "kernel_similarity",
    "deblurred_gain",
    "deblurred_gain_aligned",
    "smallest_deblurred_gain",
)


def score(image: Tensor, sharp: Tensor) -> float:
    """PSNR in dB of one image (1, C, H, W), clipped to [0, 1]."""
    return float(psnr(image.clamp(0, 1), sharp))


def aligned_score(image: Tensor, sharp: Tensor, largest: int) -> float:
    """The same after the best shift of up to `largest` pixels, without the border that it uncovers."""
    down, right = sub_pixel_shift(luma(image[0]), luma(sharp[0]), largest=largest)
    border = math.ceil(max(abs(down), abs(right)))
    inside = (..., slice(border, sharp.shape[2] - border), slice(border, sharp.shape[3] - border))
    moved = fourier_shift(image, down, right)
    # If the image is wrong, the shift may be wrong too.
    return max(score(moved[inside], sharp[inside]), score(image, sharp))


@torch.no_grad()
def restore(deblurrer: Deblurrer, network: DeblurNetwork, example: Example) -> Row:
    """Measure one photograph."""
    blurred, sharp = (image.to(deblurrer.device) for image in (example.blurred, example.sharp))
    kernel = example.kernel.to(deblurrer.device)
    largest = kernel.shape[-1] // 2
    strengths = network.config.synthesis.wiener_strengths
    # The noise of an example exceeds [0, 1]; that of a file would not.
    photograph = blurred[0].clamp(0, 1)
    with_true_kernel = deblurrer.deblur(photograph, kernel[0]).image[None]
    begin = time.perf_counter()
    result = deblurrer.deblur(photograph)
    seconds = time.perf_counter() - begin
    deblurred = result.image[None]
    same = result.status == "blurred" and result.scale == 1
    # A given scale overrides doubts about the estimate.
    forced = result if same else deblurrer.deblur(photograph, scale=1)
    blind, found = forced.image[None], forced.kernel.to(kernel)[None]
    blind_aligned = aligned_score(blind, sharp, largest)
    return {
        "photograph": example.name,
        "kernel_extent": int((kernel > 0).any(1).sum().maximum((kernel > 0).any(2).sum())),
        "blurred": score(blurred, sharp),
        "wiener_true_kernel": max(
            score(image, sharp) for image in wiener_deconvolution(blurred, kernel, strengths).unbind(1)
        ),
        "true_kernel": score(with_true_kernel, sharp),
        "blind": score(blind, sharp),
        "blind_aligned": blind_aligned,
        "kernel_similarity": float(kernel_similarity(found, kernel)),
        "status": result.status,
        "scale": result.scale,
        "deblurred": score(deblurred, sharp),
        "deblurred_aligned": blind_aligned if same else aligned_score(deblurred, sharp, largest),
        "deblurred_similarity": float(kernel_similarity(result.kernel.to(kernel)[None], kernel)),
        # Images without such an area have none.
        "ring_blurred": _number(ring_error(blurred.clamp(0, 1), sharp)),
        "ring_true_kernel": _number(ring_error(with_true_kernel, sharp)),
        "ring_deblurred": _number(ring_error(deblurred, sharp)),
        "seconds": round(seconds, 2),
    }


def _number(value: Tensor) -> float | None:
    return None if bool(value.isnan()) else float(value)


def summary(rows: list[Row]) -> dict[str, Any]:
    """Means over the photographs of a case, gains over the blurred ones."""

    def mean(name: str) -> float:
        values = [float(row[name]) for row in rows if row[name] is not None]
        return sum(values) / len(values) if values else math.nan

    def gain(name: str) -> float:
        return mean(name) - mean("blurred")

    def smallest(name: str) -> float:
        return min(float(row[name]) - float(row["blurred"]) for row in rows)

    return {
        "photographs": len(rows),
        "blurred": mean("blurred"),
        "true_kernel_gain_over_wiener": mean("true_kernel") - mean("wiener_true_kernel"),
        "true_kernel_gain": gain("true_kernel"),
        "blind_gain": gain("blind"),
        "blind_gain_aligned": gain("blind_aligned"),
        "smallest_blind_gain": smallest("blind"),
        "kernel_similarity": mean("kernel_similarity"),
        "deblurred_gain": gain("deblurred"),
        "deblurred_gain_aligned": gain("deblurred_aligned"),
        "smallest_deblurred_gain": smallest("deblurred"),
        "deblurred_similarity": mean("deblurred_similarity"),
        "statuses": dict(Counter(row["status"] for row in rows)),
        **{
            name: mean(name)
            for name in ("ring_blurred", "ring_true_kernel", "ring_deblurred")
            if any(row[name] is not None for row in rows)
        },
    }


def _print_row(case: RestorationCase, row: Row) -> None:
    numbers = " ".join(f"{row[name]:>{max(6, len(name))}.2f}" for name in _SHOWN)
    print(
        f"{case.name:14} {row['photograph']:14} {row['kernel_extent']:4} {numbers} {row['status']:8} "
        f"{row['seconds']:5.1f} s",
        flush=True,
    )


def _print_summaries(summaries: dict[str, dict[str, Any]]) -> None:
    print(f"\n{'case':14} {' '.join(f'{name:>6}' for name in _SUMMARISED)}")
    for case, facts in summaries.items():
        numbers = " ".join(f"{facts.get(name, math.nan):{max(6, len(name))}.2f}" for name in _SUMMARISED)
        print(f"{case:14} {numbers}")


def run(options: argparse.Namespace) -> None:
    """Measure case after case and write each as it is finished."""
    cases = chosen_cases(options.classes, options.conditions)
    network = load_networks(find_weights(options.model), DeblurNetwork)
    deblurrer = Deblurrer(network)
    photographs = Photographs(options.photographs)
    summaries: dict[str, dict[str, Any]] = {}
    print(f"{'case':14} {'photograph':14} {'size':4} {' '.join(f'{name:>6}' for name in _SHOWN)}")
    for case in cases:
        rows = []
        for example in case.examples(photographs, options.names, options.seed):
            rows.append(restore(deblurrer, network, example))
            _print_row(case, rows[-1])
        if not rows:
            continue
        summaries[case.name] = summary(rows)
        if not options.names:
            suffix = "" if case.name == "small plain" else "_" + case.name.replace(" ", "_")
            save(
                f"restoration_{network.config.name}{suffix}",
                rows,
                summary=summaries[case.name],
                noise=CONDITIONS[case.condition].noise,
                seed=options.seed,
                kernel_sizes=list(CLASSES[case.kernel_class]),
            )
    _print_summaries(summaries)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="photograph or page without suffix")
    parser.add_argument("--photographs", type=Path, required=True, help="folder of sharp photographs")
    parser.add_argument("--model", default="compact", help="name or weights file")
    parser.add_argument("--seed", type=int, default=1, help="of blur kernels, noise and lights")
    for what, known in (("classes", CLASSES), ("conditions", CONDITIONS)):
        parser.add_argument(f"--{what}", nargs="+", default=[], help=f"of {', '.join(known)}; all by default")
    try:
        run(parser.parse_args())
    except AsnetError as error:
        sys.exit(f"{Path(__file__).name}: {error}")


if __name__ == "__main__":
    main()
