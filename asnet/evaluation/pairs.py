"""Pairs of blurred and sharp photographs: PSNR and SSIM on RGB, with and without alignment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from asnet.errors import InputError
from asnet.evaluation.alignment import align
from asnet.evaluation.benchmark import Benchmark, Case, Measure, Scores, mean
from asnet.evaluation.inventory import RESULT_SUFFIXES, Inventory
from asnet.evaluation.metrics import psnr, ssim

BLURRED = "blurred"
SHARP = "sharp"


class Pairs(Benchmark):
    # Assigned, so that `python -OO` keeps it: it is part of the help.
    __doc__ = """A folder of blurred and a folder of sharp images with the same names."""

    name = "pairs"
    title = "Paired folders"
    protocol = (
        "PSNR and SSIM (Gaussian window of 11 pixels, mean over the channels) on RGB over the full frame. "
        '"Not aligned" compares the result as it is; "aligned" after the alignment of Köhler et al. (2012): '
        "one least-squares factor, whole-pixel registration with zeros filled in, the sharp image masked "
        "alike."
    )
    measures = (
        Measure("psnr", "PSNR, not aligned (dB)", 2),
        Measure("ssim", "SSIM, not aligned", 4),
        Measure("psnr_aligned", "PSNR, aligned (dB)", 2),
        Measure("ssim_aligned", "SSIM, aligned", 4),
    )
    summary = measures

    def cases(self, folder: Path, inventory: Inventory) -> list[Case]:
        """Find all files in blurred/ and in sharp/; each needs its partner."""
        names = sorted({stem for part in (BLURRED, SHARP) for stem in inventory.stems(folder / part)})
        if not names:
            raise InputError(
                f"{folder} must hold the folders {BLURRED} and {SHARP} with images of the same names"
            )
        found = []
        for name in names:
            blurred, sharp = (
                inventory.find(folder / part, name, RESULT_SUFFIXES) for part in (BLURRED, SHARP)
            )
            inventory.expect_size(blurred, sharp)
            found.append(Case(name, blurred, (sharp,)))
        return found

    def score(
        self, case: Case, result: Tensor, reference: Tensor | None, proceed: Callable[[], None] = lambda: None
    ) -> Scores:
        """See `Benchmark`."""
        estimate, truth = result.double(), self.read(case.ground_truth[0]).double()
        scores = {}
        for suffix, pair in (("", (estimate, truth)), ("_aligned", align(estimate, truth))):
            one, two = (image[None] for image in pair)
            scores[f"psnr{suffix}"] = float(psnr(one, two))
            scores[f"ssim{suffix}"] = float(ssim(one, two))
        return scores

    def summarise(self, scores: Mapping[str, Scores]) -> Scores:
        """See `Benchmark`."""
        return {measure.key: mean(scores, measure.key) for measure in self.measures}
