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
        Side K of the blur kernel grid, odd.
    rounds, finest_rounds : int
        Rounds at each scale, and at the finest, which costs as much as all others together.
    refiner_channels, refiner_layers, refiner_size : int
        Width, number and odd side of the convolutions that refine the kernel on its grid.
    conjugate_gradient_steps : int
        Steps in which the normal equations of the kernel are solved.
    """

    kernel_size: int = 31
    rounds: int = 4
    finest_rounds: int = 3
    refiner_channels: int = 32
    refiner_layers: int = 5
    refiner_size: int = 5
    conjugate_gradient_steps: int = 15

    def __post_init__(self) -> None:
        if self.kernel_size < 5 or self.kernel_size % 2 == 0:
            raise ConfigurationError(f"kernel_size must be odd and at least 5, got {self.kernel_size}")
        for name in ("rounds", "finest_rounds", "refiner_channels", "conjugate_gradient_steps"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.refiner_layers < 2:
            raise ConfigurationError(f"refiner_layers must be at least 2, got {self.refiner_layers}")
        if self.refiner_size < 1 or self.refiner_size % 2 == 0:
            raise ConfigurationError(f"refiner_size must be odd, got {self.refiner_size}")

    @property
    def scale_sizes(self) -> tuple[int, ...]:
        """Kernel sizes from the coarsest scale to the finest: odd, about sqrt(2) apart, the last K."""
        sizes = [self.kernel_size]
        while sizes[-1] > 5:
            sizes.append(max(3, int(sizes[-1] / math.sqrt(2)) // 2 * 2 + 1))
        return tuple(reversed(sizes))
