"""Random camera-shake blur kernels: a spline path, a speed profile along it, a sensor point-spread function.

The model follows Section 4 of Kaufman and Fattal (2020), which extends Chakrabarti (2016) by the camera's
speed and acceleration and by several sensor point-spread functions. Their constants were never published;
those below are ours and are explained in ``docs/blur-kernels.md``.

No sample is ever rejected: the path is moved to its centroid and scaled to the wanted extent, both in
continuous coordinates, before anything is rasterised. Bilinear splatting and a point-symmetric point-spread
function leave the centroid where it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from asnet.data.random_numbers import RandomNumbers, between
from asnet.data.trajectories import TrajectoryDraws, draw_trajectories, trajectories
from asnet.errors import ConfigurationError, InputError

KERNEL_CLASSES: tuple[tuple[int, int], ...] = ((1, 31), (33, 61), (63, 85))
"""Smallest and largest size of the paper's three classes of blur, [0, 31], (31, 61] and (61, 85] pixels."""

# Sensor point-spread function, in pixels. Weights below the threshold (of the peak) are invisible.
_GAUSSIAN_DEVIATION = (0.3, 0.9)
_DISC_RADIUS = (0.5, 1.8)
_BOX_WIDTH = (1.0, 2.0)
_PSF_RADIUS = 2
_PSF_THRESHOLD = 0.03

# How far the path's farthest point stays inside the pixel it has to reach: never on its centre, where
# rounding could touch the next one, and never so far that the pixel is left almost empty.
_MARGIN = (0.05, 0.3)

_SAMPLES_PER_PIXEL = 16
_FEWEST_SAMPLES = 256
_KERNELS_AT_ONCE = 64  # bounds the (kernels, samples, canvas) intermediates


@dataclass(frozen=True)
class BlurKernelConfig:
    # Assigned, so that `python -OO` keeps it: the command's help shows what it says of the fields.
    __doc__ = """Distribution of sampled blur kernels.

    Parameters
    ----------
    canvas
        Side of the square grid in pixels, odd.
    minimum_size, maximum_size
        Range of the kernel's size in pixels, both ends included. The size is the side of the smallest odd
        square centred on the canvas that holds the support; it is drawn uniformly from the odd numbers of
        the range. ``maximum_size=None`` means the canvas.
    class_sizes
        Largest sizes of classes of kernels in pixels, odd and ascending. The class is then drawn first, each
        as often as any other, and the size within its part of the range. Empty for one class.
    one_class
        Draw the class once for all kernels that are sampled together, so that the kernels of a batch, and the
        images for them, have similar sizes.
    thin_probability
        Share of the kernels without a sensor's point-spread function: a path one pixel wide.
    tail_probability
        Share of the kernels with a faint tail, a long segment of the path that the camera traverses fast.
    loop_probability
        Share of the kernels whose path is a loop, or most of one, and not a random walk.

    Raises
    ------
    ConfigurationError
        If the canvas is not odd, the range is empty, holds no odd number or exceeds the canvas, the classes
        are not odd and ascending, or a share lies outside [0, 1].
    """

    canvas: int = 31
    minimum_size: int = 3
    maximum_size: int | None = None
    class_sizes: tuple[int, ...] = ()
    one_class: bool = False
    thin_probability: float = 0.0
    tail_probability: float = 0.0
    loop_probability: float = 0.0

    def __post_init__(self) -> None:
        if self.canvas < 1 or self.canvas % 2 == 0:
            raise ConfigurationError(
                f"the canvas of a blur kernel must be odd and positive, got {self.canvas}"
            )
        if self.maximum_size is None:
            object.__setattr__(self, "maximum_size", self.canvas)
        first, last = self.odd_sizes
        if not 1 <= self.minimum_size <= self.largest_size <= self.canvas or first > last:
            raise ConfigurationError(
                "blur kernel sizes must satisfy 1 <= minimum <= maximum <= canvas, an odd number among them, "
                f"not minimum {self.minimum_size}, maximum {self.maximum_size}, canvas {self.canvas}"
            )
        odd = all(size % 2 for size in self.class_sizes)
        if not odd or list(self.class_sizes) != sorted(set(self.class_sizes)):
            raise ConfigurationError(
                f"the sizes of blur kernel classes must be odd and ascend, got {self.class_sizes}"
            )
        for name in ("thin_probability", "tail_probability", "loop_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigurationError(f"{name} must lie within [0, 1], got {getattr(self, name)}")

    @classmethod
    def of_class(cls, index: int, canvas: int | None = None) -> BlurKernelConfig:
        """Return the configuration of one of `KERNEL_CLASSES`, by default on a canvas of its largest size."""
        if not 0 <= index < len(KERNEL_CLASSES):
            raise ConfigurationError(f"blur kernel class must be 0 to {len(KERNEL_CLASSES) - 1}, got {index}")
        smallest, largest = KERNEL_CLASSES[index]
        return cls(canvas=largest if canvas is None else canvas, minimum_size=smallest, maximum_size=largest)

    @property
    def largest_size(self) -> int:
        """``maximum_size`` with its default resolved."""
        return self.canvas if self.maximum_size is None else self.maximum_size

    @property
    def odd_sizes(self) -> tuple[int, int]:
        """Smallest and largest odd size of the range."""
        return self.minimum_size | 1, self.largest_size - 1 + self.largest_size % 2

    @property
    def odd_sizes_of_classes(self) -> tuple[tuple[int, int], ...]:
        """`odd_sizes` of each class that overlaps the range."""
        first, last = self.odd_sizes
        bounds = [size for size in self.class_sizes if first <= size < last]
        firsts = (first, *(bound + 2 for bound in bounds))
        return tuple(zip(firsts, (*bounds, last), strict=True))


class _Draws(NamedTuple):
    """Every random number of a batch of kernels; N kernels, uniform in [0, 1) unless said otherwise."""

    half_size: Tensor  # (N,) int64: (size - 1) / 2
    trajectory: TrajectoryDraws
    psf_kind: Tensor  # (N,) int64: Gaussian, disc, box
    psf_width: Tensor  # (N,)
    margin: Tensor  # (N,)
    thin: Tensor  # (N,) bool: without a sensor's point-spread function

    def part(self, which: slice) -> _Draws:
        """Return the draws of some of the kernels."""
        half_size, trajectory, *others = self
        return _Draws(half_size[which], trajectory.part(which), *(values[which] for values in others))


def sample_blur_kernels(
    count: int,
    config: BlurKernelConfig,
    *,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Sample random motion-blur kernels.

    Parameters
    ----------
    count
        Number of kernels N, 0 or more.
    config
        Canvas K and range of sizes.
    generator
        Source of every random number. It may live on another device than the kernels: a CPU generator gives
        the same kernels, up to rounding, on every device.
    device
        Where the kernels are computed and returned.

    Returns
    -------
    Tensor
        (N, K, K) float32, non-negative, each of sum 1, its centroid at the centre of the canvas.

    Raises
    ------
    InputError
        If `count` is negative.
    """
    if count < 0:
        raise InputError(f"the number of blur kernels must be 0 or more, got {count}")
    draws = _draw(count, config, generator, torch.device(device))
    kernels = torch.empty((count, config.canvas, config.canvas), device=device, dtype=torch.float32)
    for start in range(0, count, _KERNELS_AT_ONCE):
        part = slice(start, start + _KERNELS_AT_ONCE)
        kernels[part] = _render(draws.part(part), config.canvas)
    return kernels


def support_size(kernels: Tensor) -> Tensor:
    """Return the side of the smallest odd square, centred on the canvas, that holds all non-zero values.

    Parameters
    ----------
    kernels
        (N, K, K), K odd.

    Returns
    -------
    Tensor
        (N,) int64, in pixels; 1 for a kernel without any non-zero value.
    """
    distance = _centred_grid(kernels.shape[-1], kernels.device).abs()
    chebyshev = torch.maximum(distance[:, None], distance[None, :])
    farthest = torch.where(kernels != 0, chebyshev, 0.0).amax(dim=(-2, -1))
    return 2 * farthest.long() + 1


def _draw(count: int, config: BlurKernelConfig, generator: torch.Generator, device: torch.device) -> _Draws:
    numbers = RandomNumbers(count, generator, device)
    half_sizes = [(smallest // 2, largest // 2) for smallest, largest in config.odd_sizes_of_classes]
    half_size = torch.stack([numbers.integer(*part) for part in half_sizes], dim=1)
    if len(half_sizes) > 1:
        chosen = numbers.integer(0, len(half_sizes) - 1)[:, None]
        half_size = half_size.gather(1, chosen[:1].expand(count, 1) if config.one_class else chosen)
    return _Draws(
        half_size=half_size[:, 0],
        trajectory=draw_trajectories(numbers, config.loop_probability, config.tail_probability),
        psf_kind=numbers.integer(0, 2),
        psf_width=numbers.uniform(),
        margin=numbers.uniform(),
        thin=numbers.chosen(config.thin_probability),
    )


def _render(draws: _Draws, canvas: int) -> Tensor:
    samples = max(_FEWEST_SAMPLES, _SAMPLES_PER_PIXEL * canvas)
    path, dwell = trajectories(draws.trajectory, samples)
    psf, psf_radius = _sensor_psf(draws)

    path = path - (dwell[..., None] * path).sum(dim=1, keepdim=True)
    # Splatting reaches the next pixel outwards and the sensor `psf_radius` more; a kernel of one pixel has
    # no path.
    extent = (draws.half_size - psf_radius - between(draws.margin, _MARGIN)).clamp_min(0.0)
    path = path * (extent / path.abs().amax(dim=(1, 2)).clamp_min(1e-12))[:, None, None]

    # Bilinear splatting is separable: one matrix product instead of scattered additions, whose order (and so
    # whose rounding) is not defined on a GPU.
    grid = _centred_grid(canvas, path.device)
    across = (1.0 - (path[..., 0, None] - grid).abs()).clamp_min(0.0)
    down = (1.0 - (path[..., 1, None] - grid).abs()).clamp_min(0.0)
    kernels = (down * dwell[..., None]).transpose(1, 2) @ across

    kernels = _convolve_small(kernels, psf)
    return kernels / kernels.sum(dim=(1, 2), keepdim=True)


def _sensor_psf(draws: _Draws) -> tuple[Tensor, Tensor]:
    """Return point-spread functions (N, 5, 5) of sum 1 and the Chebyshev radius (N,) of each one's support.

    The radius never exceeds half of the kernel's, so that small kernels keep a path.
    """
    offset = _centred_grid(2 * _PSF_RADIUS + 1, draws.psf_width.device)
    width = draws.psf_width[:, None]

    # A Gaussian and a box are integrated over each pixel; a disc is given an edge one pixel wide.
    scale = math.sqrt(2.0) * between(width, _GAUSSIAN_DEVIATION)
    gaussian = torch.erf((offset + 0.5) / scale) - torch.erf((offset - 0.5) / scale)
    box = (0.5 * between(width, _BOX_WIDTH) + 0.5 - offset.abs()).clamp(0.0, 1.0)
    distance = torch.hypot(offset[:, None], offset[None, :])
    disc = (between(width, _DISC_RADIUS)[..., None] + 0.5 - distance).clamp(0.0, 1.0)
    gaussian, box = (values[:, :, None] * values[:, None, :] for values in (gaussian, box))
    kind = draws.psf_kind[:, None, None]
    psf = torch.where(kind == 0, gaussian, torch.where(kind == 1, disc, box))

    chebyshev = torch.maximum(offset.abs()[:, None], offset.abs()[None, :])
    kept = (psf >= _PSF_THRESHOLD * psf.amax(dim=(1, 2), keepdim=True)) & (
        chebyshev <= (draws.half_size // 2)[:, None, None]
    )
    # A thin kernel keeps only the centre.
    kept &= ~draws.thin[:, None, None] | (chebyshev == 0)
    psf = psf * kept
    radius = torch.where(kept, chebyshev, 0.0).amax(dim=(1, 2))
    return psf / psf.sum(dim=(1, 2), keepdim=True), radius


def _convolve_small(kernels: Tensor, psf: Tensor) -> Tensor:
    """Convolve each kernel (N, K, K) with its own point-symmetric function (N, P, P), zeros outside.

    Shifted sums keep zeros exact and never become negative, which the fast algorithms of `conv2d` do not
    guarantee.
    """
    size, side = kernels.shape[-1], psf.shape[-1]
    padded = functional.pad(kernels, (side // 2,) * 4)
    result = torch.zeros_like(kernels)
    for row in range(side):
        for column in range(side):
            weight = psf[:, row, column, None, None]
            result.addcmul_(weight, padded[:, row : row + size, column : column + size])
    return result


def _centred_grid(size: int, device: torch.device) -> Tensor:
    return torch.arange(size, device=device, dtype=torch.float32) - size // 2
