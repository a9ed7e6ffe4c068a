"""Random numbers of a batch of samples, from one generator and on the device that computes with them."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """Return a seed for what `parts` name, 0 to 2^63 - 1.

    It comes from a cryptographic hash, because generators seeded with neighbouring numbers may be correlated.
    """
    key = " ".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


class RandomNumbers:
    """Draws numbers for `count` samples at once.

    Parameters
    ----------
    count
        Number of samples N.
    generator
        Source of every number; with one on the CPU the numbers are the same on every device.
    device
        Where the numbers are returned.
    """

    def __init__(self, count: int, generator: torch.Generator, device: torch.device | str) -> None:
        self.count = count
        self.device = torch.device(device)
        self._generator = generator

    def uniform(self, *shape: int) -> Tensor:
        """Return (N, *shape) float32, uniform in [0, 1)."""
        source = self._generator
        values = torch.rand((self.count, *shape), generator=source, device=source.device, dtype=torch.float32)
        return values.to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """Return (N, *shape) float32, standard normal."""
        source = self._generator
        values = torch.randn(
            (self.count, *shape), generator=source, device=source.device, dtype=torch.float32
        )
        return values.to(self.device)

    def integer(self, first: int, last: int) -> Tensor:
        """Return (N,) int64, uniform from `first` to `last`, both included."""
        source = self._generator
        values = torch.randint(first, last + 1, (self.count,), generator=source, device=source.device)
        return values.to(self.device)

    def chosen(self, probability: float) -> Tensor:
        """Return (N,) bool, each True with that probability; nothing is drawn for a probability of 0."""
        if probability == 0.0:
            return torch.zeros(self.count, dtype=torch.bool, device=self.device)
        return self.uniform() < probability


def between(fraction: Tensor, limits: tuple[float, float]) -> Tensor:
    """Map fractions of [0, 1] onto a range."""
    return limits[0] + (limits[1] - limits[0]) * fraction
