"""The uniform part of the benchmark of Lai et al. (2016), scored as the paper does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from asnet.evaluation.benchmark import Benchmark, Case, Measure, Published, Scores, mean, subfolder
from asnet.evaluation.inventory import Inventory
from asnet.evaluation.koehler import best_scores

CATEGORIES = ("manmade", "natural", "people", "saturated", "text")
IMAGES = range(1, 6)
KERNELS = range(1, 5)


class Lai(Benchmark):
    # Assigned, so that `python -OO` keeps it: it is part of the help.
    __doc__ = """100 images: 25 of five categories, each blurred by 4 kernels of 31, 51, 55 and 75 pixels."""

    name = "lai"
    title = "Lai et al. 2016, uniform blur"
    protocol = (
        "The script of Köhler et al. (2012) against the single ground truth: one least-squares factor, whole-"
        "pixel registration with zeros filled in, then PSNR (peak 255) and the script's five-scale SSIM on "
        "luma over the full frame. Not comparable with figures on the Y channel with a 15-pixel crop and a "
        "quarter-pixel search, which are in use elsewhere."
    )
    measures = (Measure("psnr", "PSNR (dB)", 2), Measure("mssim", "MSSIM", 3))
    summary = measures
    published = Published(
        "Table 2 of Kaufman and Fattal (CVPR 2020)",
        (
            ("Sun", "20.47", "0.781"),
            ("Zhong", "18.95", "0.719"),
            ("Fergus", "15.60", "0.508"),
            ("Cho", "17.56", "0.636"),
            ("Xu (2010)", "20.78", "0.804"),
            ("Krishnan", "17.64", "0.659"),
            ("Levin", "16.57", "0.569"),
            ("Whyte", "17.444", "0.570"),
            ("Xu (2013)", "19.86", "0.772"),
            ("Zhang", "16.70", "0.566"),
            ("Michaeli", "18.91", "0.662"),
            ("Pan", "19.33", "0.755"),
            ("Perrone", "19.18", "0.759"),
            ("DeblurGAN-v2", "17.98", "0.595"),
            ("SRN", "17.28", "0.590"),
            ("The paper's networks", "20.67", "0.799"),
            ("The paper's networks, scale optimized", "20.89", "0.819"),
        ),
    )

    def cases(self, folder: Path, inventory: Inventory) -> list[Case]:
        """Find <image>_kernel_<kk>.png and ground_truth/<image>.png."""
        blurred_folder = subfolder(folder, "uniform")
        found = []
        for category in CATEGORIES:
            for image in IMAGES:
                truth = inventory.find(folder / "ground_truth", f"{category}_{image:02}")
                for kernel in KERNELS:
                    name = f"{category}_{image:02}_kernel_{kernel:02}"
                    blurred = inventory.find(blurred_folder, name)
                    inventory.expect_size(blurred, truth)
                    found.append(Case(name, blurred, (truth,)))
        return found

    def score(
        self, case: Case, result: Tensor, reference: Tensor | None, proceed: Callable[[], None] = lambda: None
    ) -> Scores:
        """See `Benchmark`."""
        return best_scores(result, case.ground_truth, self.read, proceed)

    def summarise(self, scores: Mapping[str, Scores]) -> Scores:
        """See `Benchmark`."""
        return {"psnr": mean(scores, "psnr"), "mssim": mean(scores, "mssim")}
