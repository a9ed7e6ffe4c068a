"""Training batches that depend on nothing but a seed, the batch's index and the rank of the process."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels, support_size
from asnet.data.degradation import DegradationConfig, degrade, with_lights
from asnet.data.kernel_errors import mistaken_kernels
from asnet.data.kernel_estimates import KernelEstimates
from asnet.data.photograph_pool import Photographs
from asnet.data.random_numbers import RandomNumbers, seed_of
from asnet.errors import InputError
from asnet.networks.pair import is_doubtful
from asnet.networks.synthesis import PreparedImages

# Of an axis along which the crop reaches an edge of what is seen.
_EDGE_PROBABILITY = 0.3

# A photograph without blur is taken for one that has a kernel of at most this many pixels.
_LARGEST_IMAGINED = 9

# Luma of ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


class Batch(NamedTuple):
    """Blurred images, the ground truth they were made of and their blur kernels."""

    blurred: Tensor  # (N, 3, H, W): the crops and the halo
    sharp: Tensor  # (N, 3, crop, crop), aligned with `blurred` without the halo
    kernel: Tensor  # (N, K, K)
    given: Tensor  # (N, K, K): what a network that is given kernels is given, some of them wrong
    estimated: Tensor  # (N,) bool: which of those the network is to distrust
    halo: tuple[int, int, int, int] = (0, 0, 0, 0)  # pixels at the left, right, top and bottom
    prepared: PreparedImages | None = None  # what `SynthesisNetwork.prepare` made of `blurred` and `given`


class BatchMaker(Protocol):
    """Makes the batches of a training run."""

    def batch(self, index: int) -> Batch:
        """Return the batch of a step, always the same for the same index."""
        ...


class BatchSource:
    """Makes batches on the device of the photographs.

    Parameters
    ----------
    photographs
        Where sharp crops come from; each must measure at least
        ``crop + 2 * halo + kernel_config.canvas - 1`` pixels.
    kernel_config, degradation_config
        What blurs the crops.
    batch_size
        Images in a batch, on this rank alone.
    crop
        Side of the images in pixels.
    seed
        Any integer.
    halo
        Largest number of pixels around the crops that a deconvolution sees besides; the blurred images have
        as many as the batch's largest kernel is wide. Now and then all of them are on one side, so that the
        crop lies at the edge of what is seen.
    wrong_share
        Share of each batch, its last images, whose given kernels are wrong: from `estimates`, or else what
        `mistaken_kernels` makes of the true ones.
    estimates
        Pairs of kernels and estimates of them, by which the kernels of the wrong share are replaced.
    unblurred_share
        Probability that an image is not blurred at all while a small kernel is given for it.
    grey_share
        Probability that an image is grey.
    rank, world_size
        Of this process among those that train together; every rank gets its own data.

    Raises
    ------
    InputError
        If a photograph is too small, or a size or the rank is out of range.
    """

    def __init__(
        self,
        photographs: Photographs,
        kernel_config: BlurKernelConfig,
        degradation_config: DegradationConfig,
        *,
        batch_size: int,
        crop: int,
        seed: int,
        halo: int = 0,
        wrong_share: float = 0.0,
        estimates: KernelEstimates | None = None,
        unblurred_share: float = 0.0,
        grey_share: float = 0.0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or crop < 1:
            raise InputError(f"batch size and crop must be 1 or more, got {batch_size} and {crop}")
        if not 0 <= rank < world_size:
            raise InputError(f"the rank must lie within 0 and {world_size - 1}, got {rank}")
        self._wrong = round(wrong_share * batch_size)
        self._estimates = estimates
        self._unblurred_share = unblurred_share
        self._grey_share = grey_share
        photographs.require_side(crop + 2 * halo + kernel_config.canvas - 1)
        self.photographs = photographs
        self.kernel_config = kernel_config
        self.degradation_config = degradation_config
        self.batch_size = batch_size
        self.crop = crop
        self.halo = halo
        self.seed = seed
        self.rank = rank
        self.world_size = world_size

    def batch(self, index: int) -> Batch:
        """Return batch number `index`, always the same for the same seed, rank and device.

        Crops and kernels come from a generator on the CPU and are the same on every device; noise comes from
        a generator on the device.
        """
        device = self.photographs.device
        # Whatever precision the networks run in, their data are float32.
        with torch.autocast(device.type, enabled=False):
            choices = self._generator("crops and kernels", index, torch.device("cpu"))
            kernel, given, estimated = self._kernels(index, choices)
            extent = int(support_size(kernel).max())
            halo = min(self.halo, extent)
            # The canvas may be wider than any of the kernels: the photographs need not fit it.
            margin = extent // 2
            region = self.photographs.crops(
                self.batch_size, self.crop + 2 * (halo + margin), generator=choices
            )
            left, top = (round(2 * halo * _halo_share(choices)) for _ in range(2))
            border = (self.kernel_config.canvas - extent) // 2
            inner = slice(border, border + extent)
            lit = with_lights(self._greyed(region, index), self.degradation_config, generator=choices)
            noise = self._generator("noise", index, device)
            blurred = degrade(lit, kernel[:, inner, inner], self.degradation_config, generator=noise)
        rows = slice(margin + top, margin + top + self.crop)
        columns = slice(margin + left, margin + left + self.crop)
        sharp = lit[..., rows, columns].clamp_max(1.0)
        return Batch(blurred, sharp, kernel, given, estimated, (left, 2 * halo - left, top, 2 * halo - top))

    def _kernels(self, index: int, choices: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return the true kernels (N, K, K) of a batch, those that are given, and which to distrust (N,)."""
        kernel = sample_blur_kernels(
            self.batch_size, self.kernel_config, generator=choices, device=self.photographs.device
        )
        errors = self._generator("kernel errors", index, torch.device("cpu"))
        right = self.batch_size - self._wrong
        wrong = kernel[right:]
        if self._estimates is None:
            estimated = mistaken_kernels(wrong, generator=errors)
        else:
            wrong, estimated = self._estimates.draw(support_size(wrong), generator=errors)
            kernel = torch.cat([kernel[:right], wrong])
        given = torch.cat([kernel[:right], estimated])
        # Marked as a pair of networks marks its own estimates.
        mistaken = (torch.arange(len(kernel), device=kernel.device) >= right) & is_doubtful(given)
        if self._unblurred_share:
            canvas = self.kernel_config.canvas
            chosen = RandomNumbers(len(kernel), errors, kernel.device).chosen(self._unblurred_share)
            small = BlurKernelConfig(canvas=canvas, maximum_size=min(_LARGEST_IMAGINED, canvas))
            imagined = sample_blur_kernels(len(kernel), small, generator=errors, device=kernel.device)
            point = torch.zeros_like(kernel[0])
            point[canvas // 2, canvas // 2] = 1.0
            kernel = torch.where(chosen[:, None, None], point, kernel)
            given = torch.where(chosen[:, None, None], imagined, given)
            mistaken = torch.where(chosen, is_doubtful(given), mistaken)
        return kernel, given, mistaken

    def _greyed(self, region: Tensor, index: int) -> Tensor:
        if not self._grey_share:
            return region
        colours = self._generator("colours", index, torch.device("cpu"))
        chosen = RandomNumbers(len(region), colours, region.device).chosen(self._grey_share)
        luma = (region * region.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
        return torch.where(chosen[:, None, None, None], luma, region)

    def _generator(self, purpose: str, index: int, device: torch.device) -> torch.Generator:
        return torch.Generator(device=device).manual_seed(seed_of(self.seed, index, self.rank, purpose))


def _halo_share(generator: torch.Generator) -> float:
    """Share of both sides' halo that lies before the crop: half of it, or now and then none or all."""
    draw = float(torch.rand((), generator=generator))
    return 0.0 if draw < _EDGE_PROBABILITY / 2 else 1.0 if draw < _EDGE_PROBABILITY else 0.5
