"""The benchmark of Levin et al. (2009): 32 small grey photographs of recorded camera shake."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from asnet.evaluation.alignment import least_shifted_error
from asnet.evaluation.benchmark import Case
from asnet.evaluation.error_ratios import ErrorRatioBenchmark
from asnet.evaluation.inventory import KERNEL_FILE_SUFFIXES, Inventory

IMAGES = range(1, 5)
KERNELS = range(1, 9)

BORDER = 15
LARGEST_SHIFT = 5
STEPS_PER_PIXEL = 4


class Levin(ErrorRatioBenchmark):
    # Assigned, so that `python -OO` keeps it: it is part of the help.
    __doc__ = """4 grey images of 255x255 pixels, each blurred by 8 kernels of 13 to 27 pixels."""

    name = "levin"
    title = "Levin et al. 2009"
    protocol = (
        f"Range [0, 1]. The ground truth loses a border of {BORDER} pixels; the result is shifted beneath it "
        f"by -{LARGEST_SHIFT} to {LARGEST_SHIFT} pixels in steps of {1 / STEPS_PER_PIXEL} along both axes, "
        "bilinearly interpolated, and the least sum of squared differences (SSD) counts; PSNR is that of "
        "this SSD. The error ratio is the SSD over that of the reference: the result of the same non-blind "
        "method given the true blur kernel."
    )

    def cases(self, folder: Path, inventory: Inventory) -> list[Case]:
        """Find im<i>_kernel<j>_img.png, gt/im<i>.png and gt/kernel<j>.png."""
        truth_folder = folder / "gt"
        kernels = {kernel: inventory.find(truth_folder, f"kernel{kernel}") for kernel in KERNELS}
        found = []
        for image in IMAGES:
            truth = inventory.find(truth_folder, f"im{image}")
            for kernel in KERNELS:
                name = f"im{image}_kernel{kernel}_img"
                blurred = inventory.find(folder, name)
                inventory.expect_size(blurred, truth)
                found.append(Case(name, blurred, (truth,), kernels[kernel]))
        return found

    def kernel_file(self, case: Case, folder: Path, inventory: Inventory) -> Path:
        """Find k_<j>_im_<i>_<method>, as published estimates are named, or the blurred image's name."""
        image, kernel = re.findall(r"\d+", case.name)
        published = f"k_{kernel}_im_{image}"
        pattern = f"{published}(_.*)?|{case.name}"
        return inventory.find_like(folder, published, pattern, KERNEL_FILE_SUFFIXES)

    def least_error(self, estimate: Tensor, ground_truth: Tensor) -> tuple[float, int]:
        """See `ErrorRatioBenchmark`."""
        error = least_shifted_error(
            estimate,
            ground_truth,
            border=BORDER,
            largest_shift=LARGEST_SHIFT,
            steps_per_pixel=STEPS_PER_PIXEL,
        )
        return error, (ground_truth.shape[0] - 2 * BORDER) * (ground_truth.shape[1] - 2 * BORDER)
