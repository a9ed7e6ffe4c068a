"""Benchmarks that compare a result with a reference: the same non-blind method given the true kernel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from asnet.errors import InputError
from asnet.evaluation.benchmark import Benchmark, Case, Measure, Scores, decibels, mean
from asnet.evaluation.metrics import kernel_similarity
from asnet.imaging import read_kernel

#: Error ratios at or below which a result counts as a success.
SUCCESS_LIMITS = (1.5, 2.0, 2.5, 3.0)


#: Share of the mean power by which the least-squares kernel's spectrum is damped.
_KERNEL_DAMPING = 1e-3


class ErrorRatioBenchmark(Benchmark):
    """A grey data set with true blur kernels, scored by PSNR and error ratio."""

    grey = True
    measures = (
        Measure("psnr", "PSNR (dB)", 2),
        Measure("psnr_reference", "PSNR of the reference (dB)", 2),
        Measure("ssd", "SSD", 3),
        Measure("ssd_reference", "SSD of the reference", 3),
        Measure("error_ratio", "error ratio", 2),
    )
    summary = (
        Measure("psnr", "PSNR (dB)", 2),
        Measure("psnr_reference", "PSNR of the reference (dB)", 2),
        Measure("error_ratio", "mean error ratio", 2),
        *(Measure(f"success_{limit:g}", f"error ratio at most {limit:g} (%)", 1) for limit in SUCCESS_LIMITS),
    )

    @abstractmethod
    def least_error(self, estimate: Tensor, ground_truth: Tensor) -> tuple[float, int]:
        """Return the smallest sum of squared differences over the allowed shifts, and the number of pixels.

        Parameters
        ----------
        estimate, ground_truth : Tensor
            (H, W) float64, range [0, 1].
        """

    def true_kernel(self, case: Case) -> Tensor:
        """Return the blur kernel (K, K) of a case in the orientation for convolution.

        Some files contain kernels for convolution and some contain them rotated by 180 degrees; the images
        decide which.

        Raises
        ------
        ImageFileError
            If the file holds no blur kernel.
        """
        if case.kernel is None:
            raise InputError(f"{case.name} has no true blur kernel")
        sharp, blurred = self.read(case.ground_truth[0])[0], self.read(case.blurred)[0]
        return rotated_to_match(read_kernel(case.kernel), sharp, centre_of(blurred, *sharp.shape))

    def score(
        self, case: Case, result: Tensor, reference: Tensor | None, proceed: Callable[[], None] = lambda: None
    ) -> Scores:
        """See `Benchmark`."""
        if reference is None:
            raise InputError(f"the error ratio of {case.name} needs a result with the true blur kernel")
        truth = self.read(case.ground_truth[0])[0].double()
        ssd, count = self.least_error(result[0].double(), truth)
        ssd_reference, _ = self.least_error(reference[0].double(), truth)
        return {
            "psnr": decibels(ssd / count),
            "psnr_reference": decibels(ssd_reference / count),
            "ssd": ssd,
            "ssd_reference": ssd_reference,
            "error_ratio": error_ratio(ssd, ssd_reference),
        }

    def summarise(self, scores: Mapping[str, Scores]) -> Scores:
        """Means, and the percentages of cases at or below each of `SUCCESS_LIMITS`."""
        ratios = [values["error_ratio"] for values in scores.values()]
        means = {key: mean(scores, key) for key in ("psnr", "psnr_reference", "error_ratio")}
        return means | {
            f"success_{limit:g}": 100 * sum(ratio <= limit for ratio in ratios) / len(ratios)
            for limit in SUCCESS_LIMITS
        }


def rotated_to_match(kernel: Tensor, sharp: Tensor, blurred: Tensor) -> Tensor:
    """Return a blur kernel as it is or rotated by 180 degrees, whichever explains the blurred image.

    Decided by the shift-invariant similarity to the least-squares kernel between the two images.

    Parameters
    ----------
    kernel : Tensor
        (K, K).
    sharp, blurred : Tensor
        (H, W), of the same size, each at least twice K.
    """
    height, width = sharp.shape
    # Faded at the edges, because the convolution is not circular.
    window = torch.hann_window(height, periodic=False, dtype=torch.float64)[:, None]
    window = window * torch.hann_window(width, periodic=False, dtype=torch.float64)
    before, after = (
        torch.fft.rfft2((image.double() - image.double().mean()) * window) for image in (sharp, blurred)
    )
    power = before.abs().square()
    damping = _KERNEL_DAMPING * power.mean()
    found = torch.fft.irfft2(before.conj() * after / (power + damping), s=(height, width))
    side = min(2 * kernel.shape[-1] + 1, height, width)
    found = centre_of(torch.fft.fftshift(found), side, side)
    rotated = kernel.flip(0, 1)
    choices = torch.stack((kernel, rotated)).double()
    as_it_is, turned = kernel_similarity(choices, found.expand(2, -1, -1)).tolist()
    return kernel if as_it_is >= turned else rotated


def centre_of(image: Tensor, height: int, width: int) -> Tensor:
    """Crop the centre (height, width) of an image (H, W)."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def error_ratio(error: float, reference_error: float) -> float:
    """Return the error of a result over that of its reference; 1 if both are 0."""
    if reference_error == 0.0:
        return 1.0 if error == 0.0 else float("inf")
    return error / reference_error
