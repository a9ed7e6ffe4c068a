"""The benchmark of Köhler et al. (2012): real camera shake, against every sharp frame of its trajectory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from asnet.evaluation.alignment import align, luma
from asnet.evaluation.benchmark import (
    Benchmark,
    Case,
    Measure,
    Published,
    Scores,
    decibels,
    mean,
    subfolder,
)
from asnet.evaluation.inventory import Inventory
from asnet.evaluation.multiscale_ssim import multiscale_ssim

IMAGES = range(1, 5)
TRAJECTORIES = range(1, 13)

#: Trajectories whose blur is larger than most methods support; a second mean omits them.
LARGE_TRAJECTORIES = (8, 9, 10)

_FRAMES = 199
_OTHER_FRAMES = {(2, 11): 200} | dict.fromkeys([(1, 10), (1, 12), (2, 10), (3, 7), (3, 12), (4, 12)], 198)

#: (image, trajectory, frame) that the script ignores, and one that copies of the data set may lack: the
#: script uses 198 frames of this trajectory.
_LEFT_OUT = (1, 3, 30)
_OPTIONAL = (1, 3, 199)


def frames(image: int, trajectory: int) -> list[int]:
    """Return the numbers of the ground-truth frames that an image is compared with."""
    count = _OTHER_FRAMES.get((image, trajectory), _FRAMES)
    return [frame for frame in range(1, count + 1) if (image, trajectory, frame) != _LEFT_OUT]


def best_scores(
    result: Tensor, ground_truth: Sequence[Path], read: Callable[[Path], Tensor], proceed: Callable[[], None]
) -> Scores:
    """Return the largest PSNR and the largest multi-scale SSIM of a result over its ground-truth frames.

    Parameters
    ----------
    result : Tensor
        (3, H, W), range [0, 1].
    ground_truth : sequence of Path
        The frames.
    read : callable
        Reads a frame as (3, H, W), range [0, 1].
    proceed : callable
        Called before each frame.
    """
    estimate = result.double() * 255
    best = {"psnr": -math.inf, "mssim": -math.inf}
    for path in ground_truth:
        proceed()
        z, x = map(luma, align(estimate, read(path).double() * 255))
        best["psnr"] = max(best["psnr"], decibels(float((z - x).square().mean()), peak=255))
        best["mssim"] = max(best["mssim"], multiscale_ssim(z, x))
    return best


class Koehler(Benchmark):
    # Assigned, so that `python -OO` keeps it: it is part of the help.
    __doc__ = """48 images of 800x800 RGB pixels: 4 scenes, each with 12 recorded trajectories of a camera."""

    name = "koehler"
    title = "Köhler et al. 2012"
    protocol = (
        "Against each ground-truth frame the result is scaled by one least-squares factor, registered by "
        "whole pixels (arg max of the circular cross-correlation of the channel means) and shifted with "
        "zeros filled in, the frame masked alike. PSNR (peak 255) and the five-scale SSIM of the benchmark's "
        "script are taken on luma over the full frame. The score of an image is the maximum over the frames, "
        "for each metric separately; frame 30 of image 1, trajectory 3 is left out."
    )
    measures = (Measure("psnr", "PSNR (dB)", 2), Measure("mssim", "MSSIM", 3))
    summary = (
        Measure("psnr_all", "PSNR (dB), all 48", 2),
        Measure("mssim_all", "MSSIM, all 48", 3),
        Measure("psnr_without_8_9_10", "PSNR (dB), 36 without trajectories 8, 9, 10", 2),
        Measure("mssim_without_8_9_10", "MSSIM, 36 without trajectories 8, 9, 10", 3),
    )
    published = Published(
        "Table 1 of Kaufman and Fattal (CVPR 2020)",
        (
            ("Cho", "28.98", "0.933", "30.39", "0.953"),
            ("Xu", "29.53", "0.944", "31.05", "0.964"),
            ("Shan", "25.89", "0.842", "27.57", "0.905"),
            ("Fergus", "22.73", "0.682", "24.06", "0.756"),
            ("Krishnan", "25.72", "0.846", "27.90", "0.909"),
            ("Whyte", "28.07", "0.848", "30.82", "0.941"),
            ("Hirsch", "27.77", "0.852", "30.01", "0.945"),
            ("DeepDeblur", "26.48", "0.807", "-", "-"),
            ("DeblurGAN", "26.10", "0.816", "-", "-"),
            ("DeblurGAN-v2", "26.97", "0.830", "28.87", "0.921"),
            ("SRN", "27.06", "0.840", "29.22", "0.923"),
            ("The paper's networks", "29.97", "0.915", "31.87", "0.961"),
            ("The paper's networks, scale optimized", "30.22", "0.915", "32.24", "0.961"),
        ),
    )

    def cases(self, folder: Path, inventory: Inventory) -> list[Case]:
        """Find Blurry<image>_<trajectory>.png and GroundTruth<image>_<trajectory>_<frame>.png."""
        blurred_folder = subfolder(folder, "blurred")
        truth_folder = subfolder(folder, "ground_truth")
        found = []
        for image in IMAGES:
            for trajectory in TRAJECTORIES:
                name = f"Blurry{image}_{trajectory}"
                blurred = inventory.find(blurred_folder, name)
                names = {
                    frame: f"GroundTruth{image}_{trajectory}_{frame}" for frame in frames(image, trajectory)
                }
                truths = [
                    inventory.find(truth_folder, truth)
                    for frame, truth in names.items()
                    if (image, trajectory, frame) != _OPTIONAL or truth in inventory.stems(truth_folder)
                ]
                for truth in truths:
                    inventory.expect_size(truth, blurred)
                found.append(Case(name, blurred, tuple(truths)))
        return found

    def score(
        self, case: Case, result: Tensor, reference: Tensor | None, proceed: Callable[[], None] = lambda: None
    ) -> Scores:
        """See `Benchmark`."""
        return best_scores(result, case.ground_truth, self.read, proceed)

    def summarise(self, scores: Mapping[str, Scores]) -> Scores:
        """See `Benchmark`."""
        smaller = {
            name: values
            for name, values in scores.items()
            if int(name.rpartition("_")[2]) not in LARGE_TRAJECTORIES
        }
        return {
            "psnr_all": mean(scores, "psnr"),
            "mssim_all": mean(scores, "mssim"),
            "psnr_without_8_9_10": mean(smaller, "psnr"),
            "mssim_without_8_9_10": mean(smaller, "mssim"),
        }
