"""From a sharp image and a blur kernel to a blurred photograph: convolution, noise, what cameras add."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from asnet.errors import ConfigurationError, InputError

_SMALLEST_SPECTRAL_KERNEL = 9
# Areas brighter than this are taken as clipped by the camera that made the sharp photograph.
_BRIGHT = 0.9


@dataclass(frozen=True)
class DegradationConfig:
    # Assigned, so that `python -OO` keeps it: the command's help shows what it says of the fields.
    __doc__ = """What happens to a sharp image besides the blur.

    Every range is (smallest, largest); one value is drawn uniformly from it for each image.

    Parameters
    ----------
    noise
        Standard deviation of white Gaussian noise, for intensities in [0, 1].
    gamma
        Exponent by which intensities are made linear before the blur, and encoded again after it (2.2 is
        close to sRGB); 1 blurs the intensities as they are.
    poisson
        Number of photons of a white pixel; None adds no photon noise.
    saturation
        Factor, 1 or more, by which bright areas exceed the white level before the blur; the blurred image is
        clipped at 1. None leaves them.
    saturation_probability
        Share of the images to which `saturation` applies.
    jpeg
        JPEG quality, 1 to 95; None compresses nothing.
    quantise
        Clip to [0, 1] and round to 8 bits, as an image file would.

    Raises
    ------
    ConfigurationError
        If a range is reversed or outside what is said above.

    Notes
    -----
    The defaults are the paper's (Section 4): Gaussian noise of 0.02, nothing else. Results then
    leave [0, 1] by the noise; only `saturation` (at 1), `quantise` and `jpeg` (both ends) clip.
    """

    noise: tuple[float, float] = (0.02, 0.02)
    gamma: float = 1.0
    poisson: tuple[float, float] | None = None
    saturation: tuple[float, float] | None = None
    saturation_probability: float = 1.0
    jpeg: tuple[int, int] | None = None
    quantise: bool = False

    def __post_init__(self) -> None:
        for name, smallest, largest in (
            ("noise", 0.0, float("inf")),
            ("poisson", 1e-3, float("inf")),
            ("saturation", 1.0, float("inf")),
            ("jpeg", 1, 95),
        ):
            limits = getattr(self, name)
            if limits is None and name != "noise":
                continue
            numbers = int if name == "jpeg" else (int, float)
            pair = isinstance(limits, (tuple, list)) and len(limits) == 2
            if not (
                pair
                and all(isinstance(limit, numbers) for limit in limits)
                and smallest <= limits[0] <= limits[1] <= largest
            ):
                raise ConfigurationError(
                    f"{name} must be a range (smallest, largest) within [{smallest}, {largest}], not {limits}"
                )
            # A configuration file brings lists.
            object.__setattr__(self, name, tuple(limits))
        if not self.gamma > 0.0:
            raise ConfigurationError(f"gamma must be positive, not {self.gamma}")
        if not 0.0 <= self.saturation_probability <= 1.0:
            raise ConfigurationError(
                f"saturation_probability must lie within [0, 1], not {self.saturation_probability}"
            )


def blur(sharp: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its own kernel and keep the part that needs no border.

    ``result[y, x] = sum_ij kernel[i, j] sharp[y + K - 1 - i, x + K - 1 - j]``: pixel (y, x) of the result
    lies over pixel (y + K // 2, x + K // 2) of the sharp image.

    Parameters
    ----------
    sharp
        (N, C, H + K - 1, W + K - 1).
    kernels
        (N, K, K), K odd.

    Returns
    -------
    Tensor
        (N, C, H, W).

    Raises
    ------
    InputError
        If the shapes do not fit each other.
    """
    _check_shapes(sharp, kernels)
    if kernels.shape[-1] < _SMALLEST_SPECTRAL_KERNEL:
        return _blur_direct(sharp, kernels)
    return _blur_spectral(sharp, kernels)


def degrade(
    sharp: Tensor, kernels: Tensor, config: DegradationConfig, *, generator: torch.Generator
) -> Tensor:
    """Blur sharp images and add what the configuration asks for.

    The order is that of a camera: light is linearised, bright areas exceed white, blur, clipping, photon
    noise, encoding, Gaussian noise, JPEG or rounding.

    Parameters
    ----------
    sharp
        (N, C, H + K - 1, W + K - 1) in [0, 1]; C is 3, or 1 for grey images.
    kernels
        (N, K, K), K odd, non-negative, each of sum 1.
    config
        See `DegradationConfig`. JPEG goes through Pillow on the CPU, one image after another.
    generator
        Source of every random number; best on the device of `sharp`.

    Returns
    -------
    Tensor
        (N, C, H, W), aligned with ``sharp[..., K // 2 : -(K // 2), K // 2 : -(K // 2)]``.

    Raises
    ------
    InputError
        If the shapes do not fit each other.
    """

    def uniform(limits: tuple[float, float]) -> Tensor:
        fraction = torch.rand((sharp.shape[0], 1, 1, 1), generator=generator, device=generator.device)
        return (limits[0] + (limits[1] - limits[0]) * fraction).to(sharp)

    _check_shapes(sharp, kernels)
    light = sharp if config.gamma == 1.0 else sharp.clamp_min(0.0) ** config.gamma
    if config.saturation is not None:
        chosen = uniform((0.0, 1.0)) < config.saturation_probability
        factor = torch.where(chosen, uniform(config.saturation), 1.0)
        bright = ((sharp.mean(dim=1, keepdim=True) - _BRIGHT) / (1.0 - _BRIGHT)).clamp(0.0, 1.0)
        light = light * (1.0 + (factor - 1.0) * bright)
    image = blur(light, kernels)
    if config.saturation is not None:
        image = image.clamp_max(1.0)
    if config.poisson is not None:
        photons = uniform(config.poisson)
        expected = (image.clamp_min(0.0) * photons).to(generator.device)
        image = torch.poisson(expected, generator=generator).to(sharp) / photons
    if config.gamma != 1.0:
        image = image.clamp_min(0.0) ** (1.0 / config.gamma)
    if config.noise[1] > 0.0:
        noise = torch.randn(image.shape, generator=generator, device=generator.device, dtype=image.dtype)
        image = image + uniform(config.noise) * noise.to(image.device)
    if config.jpeg is not None:
        qualities = torch.randint(
            config.jpeg[0], config.jpeg[1] + 1, (len(image),), generator=generator, device=generator.device
        )
        image = torch.stack(
            [_jpeg(one, quality) for one, quality in zip(image, qualities.tolist(), strict=True)]
        )
    elif config.quantise:
        image = _to_bytes(image).to(image) / 255.0
    return image


def _check_shapes(sharp: Tensor, kernels: Tensor) -> None:
    size = kernels.shape[-1]
    if kernels.ndim != 3 or kernels.shape[-2] != size or size % 2 == 0:
        raise InputError(f"blur kernels must be (N, K, K) with K odd, not {tuple(kernels.shape)}")
    if sharp.ndim != 4 or sharp.shape[0] != kernels.shape[0] or min(sharp.shape[-2:]) < size:
        raise InputError(
            f"sharp images for {kernels.shape[0]} blur kernels of {size}x{size} must be "
            f"({kernels.shape[0]}, C, {size} or more, {size} or more), not {tuple(sharp.shape)}"
        )


def _blur_direct(sharp: Tensor, kernels: Tensor) -> Tensor:
    # The images of the batch become the groups of one convolution; conv2d correlates, hence the flip.
    weight = kernels.flip(-2, -1)[:, None].to(sharp.dtype)
    return functional.conv2d(sharp.transpose(0, 1), weight, groups=len(kernels)).transpose(0, 1)


def _blur_spectral(sharp: Tensor, kernels: Tensor) -> Tensor:
    size = kernels.shape[-1]
    height, width = sharp.shape[-2:]
    # A circular convolution of the whole image wraps only into the first K - 1 rows and columns, which go.
    shape = (_fast_length(height), _fast_length(width))
    spectrum = torch.fft.rfft2(sharp, s=shape)
    transfer = torch.fft.rfft2(kernels.to(sharp.dtype), s=shape)[:, None]
    result: Tensor = torch.fft.irfft2(spectrum * transfer, s=shape)
    return result[..., size - 1 : height, size - 1 : width].contiguous()


def _fast_length(length: int) -> int:
    """Return the smallest even number from `length` on that has no prime factor above 7."""
    candidate = length + length % 2
    while True:
        rest = candidate
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return candidate
        candidate += 2


def _to_bytes(image: Tensor) -> Tensor:
    return (image.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


def _jpeg(image: Tensor, quality: int) -> Tensor:
    """Send one image (C, H, W) through a JPEG file in memory."""
    pixels = _to_bytes(image).movedim(0, -1).cpu().numpy()
    grey = pixels.shape[-1] == 1
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if grey else pixels).save(stream, format="JPEG", quality=quality)
    with Image.open(stream) as decoded:
        values: Tensor = torch.from_numpy(numpy.array(decoded)).to(image) / 255.0
    return values.unsqueeze(0) if grey else values.movedim(-1, 0)
