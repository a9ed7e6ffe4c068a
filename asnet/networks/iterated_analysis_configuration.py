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
    rounds : int
        Rounds of prediction, correlation and solution at each scale.
    predictor_channels, predictor_layers : int
        Width and number of 3x3 convolutions of the gradient predictor, which works at half resolution.
    refiner_channels, refiner_layers : int
        Width and number of convolutions of the network that refines the kernel on its grid.
    conjugate_gradient_steps : int
        Steps in which the normal equations of the kernel are solved.
    """

    kernel_size: int = 31
    rounds: int = 2
    predictor_channels: int = 32
    predictor_layers: int = 4
    refiner_channels: int = 32
    refiner_layers: int = 5
    conjugate_gradient_steps: int = 10

    def __post_init__(self) -> None:
        if self.kernel_size < 5 or self.kernel_size % 2 == 0:
            raise ConfigurationError(f"kernel_size must be odd and at least 5, got {self.kernel_size}")
        for name in ("rounds", "predictor_channels", "refiner_channels", "conjugate_gradient_steps"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("predictor_layers", "refiner_layers"):
            if getattr(self, name) < 2:
                raise ConfigurationError(f"{name} must be at least 2, got {getattr(self, name)}")

    @property
    def scale_sizes(self) -> tuple[int, ...]:
        """Kernel sizes from the coarsest scale to the finest: odd, about sqrt(2) apart, the last K."""
        sizes = [self.kernel_size]
        while sizes[-1] > 5:
            sizes.append(max(3, int(sizes[-1] / math.sqrt(2)) // 2 * 2 + 1))
        return tuple(reversed(sizes))
