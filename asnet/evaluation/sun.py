"""The benchmark of Sun et al. (2013): 640 synthetic grey photographs."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from asnet.evaluation.alignment import least_error_position
from asnet.evaluation.benchmark import Case, subfolder
from asnet.evaluation.error_ratios import ErrorRatioBenchmark, centre_of
from asnet.evaluation.inventory import Inventory

IMAGES = range(1, 81)
KERNELS = range(1, 9)

#: Pixels by which the ground truth is smaller than the blurred image along each axis, half on each side.
CROP = 100


class Sun(ErrorRatioBenchmark):
    # Assigned, so that `python -OO` keeps it: it is part of the help.
    __doc__ = """80 grey images, each blurred by the 8 kernels of Levin et al., with noise of 1 %."""

    name = "sun"
    title = "Sun et al. 2013"
    protocol = (
        f"Range [0, 1]. The ground truth, cropped by {CROP} pixels in height and width, is compared with the "
        "result at every whole-pixel position at which it lies inside, and the least mean squared error "
        "counts, written as the sum of squared differences (SSD); PSNR is that of this error. The error "
        "ratio is the SSD over that of the reference: the result of the same non-blind method given the true "
        "blur kernel."
    )

    def cases(self, folder: Path, inventory: Inventory) -> list[Case]:
        """Find <i>_<j>_blurred.png, img<i>_groundtruth_img.png and kernel<j>_groundtruth_kernel.png."""
        truth_folder = subfolder(folder, "ground_truth")
        kernels = {
            kernel: inventory.find(truth_folder, f"kernel{kernel}_groundtruth_kernel") for kernel in KERNELS
        }
        found = []
        for image in IMAGES:
            truth = inventory.find(truth_folder, f"img{image}_groundtruth_img")
            for kernel in KERNELS:
                name = f"{image}_{kernel}_blurred"
                blurred = inventory.find(folder, name)
                # The published ground truth is cropped already.
                inventory.expect_size(truth, blurred, smaller_by=(0, CROP))
                found.append(Case(name, blurred, (truth,), kernels[kernel]))
        return found

    def least_error(self, estimate: Tensor, ground_truth: Tensor) -> tuple[float, int]:
        """See `ErrorRatioBenchmark`."""
        if ground_truth.shape == estimate.shape:
            ground_truth = centre_of(ground_truth, *(length - CROP for length in estimate.shape))
        height, width = ground_truth.shape
        top, left = least_error_position(estimate, ground_truth)
        part = estimate[top : top + height, left : left + width]
        return float((part - ground_truth).square().sum()), ground_truth.numel()
