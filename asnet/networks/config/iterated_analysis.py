"""Configuration of the analysis that iterates between blur kernel and latent image."""

import math
from dataclasses import dataclass

from asnet.errors import ConfigurationError


@dataclass(frozen=True)
class IteratedAnalysisConfig:
    """Sizes of the iterated analysis (`compact`).

    Parameters
    ----------
    kernel_size : int
        Side K of the blur kernel grid, odd: the largest blur that can be found.
    finest_rounds : int
        Rounds at each of the finest scales, but at most three at the finest of all; the coarser scales have
        those of their course.
    refiner_channels : int
        Width of the network that refines the kernel on its grid.
    conjugate_gradient_steps : int
        Steps of solving the normal equations of the kernel.

    Examples
    --------
    >>> IteratedAnalysisConfig(kernel_size=31).finest_rounds
    5
    """

    kernel_size: int = 101
    finest_rounds: int = 5
    refiner_channels: int = 32
    conjugate_gradient_steps: int = 20

    def __post_init__(self) -> None:
        if self.kernel_size < 5 or self.kernel_size % 2 == 0:
            raise ConfigurationError(f"kernel_size must be odd and at least 5, got {self.kernel_size}")
        for name in ("finest_rounds", "refiner_channels", "conjugate_gradient_steps"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def scale_count(self) -> int:
        """Number of scales, each smaller than the one before it by sqrt(2), the last with a grid of 5."""
        return math.floor(2 * math.log2(self.kernel_size / 5)) + 1

    def grid_size(self, scale: int) -> int:
        """Return the largest side of the kernel's grid, odd, at the scale sqrt(2)^scale times smaller."""
        return max(5, math.ceil(self.kernel_size / math.sqrt(2) ** scale) // 2 * 2 + 1)
