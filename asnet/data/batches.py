"""Training batches that depend on nothing but a seed, the batch's index and the rank of the process."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.data.degradation import DegradationConfig, degrade, with_lights
from asnet.data.photographs import Photographs
from asnet.errors import InputError


class Batch(NamedTuple):
    """Blurred images, the ground truth they were made of and their blur kernels."""

    blurred: Tensor  # (N, 3, crop, crop)
    sharp: Tensor  # (N, 3, crop, crop), aligned with `blurred`
    kernel: Tensor  # (N, K, K)


class BatchSource:
    """Makes batches on the device of the photographs.

    Parameters
    ----------
    photographs
        Where sharp crops come from; each must measure at least ``crop + kernel_config.canvas - 1`` pixels.
    kernel_config, degradation_config
        What blurs the crops.
    batch_size
        Images in a batch, on this rank alone.
    crop
        Side of the images in pixels.
    seed
        Any integer.
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
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or crop < 1:
            raise InputError(f"batch size and crop must be 1 or more, not {batch_size} and {crop}")
        if not 0 <= rank < world_size:
            raise InputError(f"the rank must lie within 0 and {world_size - 1}, not {rank}")
        self._region = crop + kernel_config.canvas - 1
        photographs.require_side(self._region)
        self.photographs = photographs
        self.kernel_config = kernel_config
        self.degradation_config = degradation_config
        self.batch_size = batch_size
        self.crop = crop
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
            region = self.photographs.crops(self.batch_size, self._region, generator=choices)
            kernel = sample_blur_kernels(
                self.batch_size, self.kernel_config, generator=choices, device=device
            )
            lit = with_lights(region, self.degradation_config, generator=choices)
            noise = self._generator("noise", index, device)
            blurred = degrade(lit, kernel, self.degradation_config, generator=noise)
        margin = self.kernel_config.canvas // 2
        inside = slice(margin, margin + self.crop)
        return Batch(blurred, lit[..., inside, inside].clamp_max(1.0), kernel)

    def _generator(self, purpose: str, index: int, device: torch.device) -> torch.Generator:
        # A cryptographic hash, because generators seeded with neighbouring numbers may be correlated.
        key = f"{self.seed} {index} {self.rank} {purpose}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1
        return torch.Generator(device=device).manual_seed(seed)
