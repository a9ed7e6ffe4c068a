"""From a sharp image and a blur kernel to a blurred photograph: convolution, noise, effects of cameras."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from asnet.data.kernel_warps import warped_kernels
from asnet.data.random_numbers import RandomNumbers, between
from asnet.errors import ConfigurationError, InputError
from asnet.networks.wiener import fast_fft_length

_SMALLEST_SPECTRAL_KERNEL = 9
# Areas brighter than this are assumed to be clipped in the sharp photograph.
_BRIGHT = 0.9
# Reach of correlated noise in pixels.
_CORRELATION_REACH = 6
# Intensity of each channel of a light, as a share of the light's.
_LIGHT_TINT = (0.4, 1.0)


@dataclass(frozen=True)
class DegradationConfig:
    # Assigned, so that `python -OO` keeps it: the command's help shows what it says of the fields.
    __doc__ = """Degradation of an image besides the blur.

    Every range is (smallest, largest); one value is drawn uniformly from it for each image.

    Parameters
    ----------
    noise
        Standard deviation of white Gaussian noise, for intensities in [0, 1].
    noise_exponent
        Power of the uniform number between 0 and 1 that chooses within the range of `noise`; above 1 there is
        little noise more often than much.
    noise_correlation
        Standard deviation, in pixels, of a Gaussian filter on the noise, which simulates demosaicing and
        smoothing in a camera. The strength stays that of `noise`. 0 leaves the noise white.
    noise_correlation_probability
        Share of the images to which `noise_correlation` applies.
    gamma
        Exponent by which intensities are made linear before the blur, and encoded again after it (2.2 is
        close to sRGB); 1 blurs the intensities as they are.
    gamma_probability
        Share of the images to which `gamma` applies; the others are blurred as they are.
    variation
        How much the blur varies across an image, as the rotation of a camera makes it: at one side the kernel
        is warped by ``I + A``, at the opposite one by ``I - A``, with the elements of the 2 x 2 matrix A
        uniform within plus and minus this; 0 blurs uniformly. The sides are drawn at random.
    variation_probability
        Share of the images to which `variation` applies.
    poisson
        Number of photons of a white pixel; None adds no photon noise.
    saturation
        Factor, 1 or more, by which bright areas exceed the white level before the blur; the blurred image is
        clipped at 1. None leaves them.
    saturation_probability
        Share of the images to which `saturation` applies.
    lights
        Number of point lights that `with_lights` adds to an image; 0 of both for none.
    lights_probability
        Share of the images that get lights.
    light_radius
        Their radius in pixels.
    light_intensity
        Their intensity, with 1 for white; drawn logarithmically. The blurred image is clipped at 1.
    jpeg
        JPEG quality, 1 to 100; None compresses nothing.
    jpeg_probability
        Share of the images to which `jpeg` applies.
    quantise
        Clip to [0, 1] and round to 8 bits, as in an image file, unless JPEG is applied.

    Raises
    ------
    ConfigurationError
        If a range is reversed or outside the limits above.

    Notes
    -----
    The defaults are the paper's (Section 4): Gaussian noise of 0.02, nothing else. Results then
    leave [0, 1] by the noise; only `saturation` and `lights` (at 1), `quantise` and `jpeg` (both ends) clip.
    """

    noise: tuple[float, float] = (0.02, 0.02)
    noise_exponent: float = 1.0
    noise_correlation: tuple[float, float] = (0.0, 0.0)
    noise_correlation_probability: float = 1.0
    gamma: float = 1.0
    gamma_probability: float = 1.0
    variation: tuple[float, float] = (0.0, 0.0)
    variation_probability: float = 1.0
    poisson: tuple[float, float] | None = None
    saturation: tuple[float, float] | None = None
    saturation_probability: float = 1.0
    lights: tuple[int, int] = (0, 0)
    lights_probability: float = 1.0
    light_radius: tuple[float, float] = (0.7, 3.0)
    light_intensity: tuple[float, float] = (3.0, 60.0)
    jpeg: tuple[int, int] | None = None
    jpeg_probability: float = 1.0
    quantise: bool = False

    def __post_init__(self) -> None:
        for name, smallest, largest in (
            ("noise", 0.0, float("inf")),
            ("noise_correlation", 0.0, 2.0),
            ("variation", 0.0, 0.3),
            ("poisson", 1e-3, float("inf")),
            ("saturation", 1.0, float("inf")),
            ("lights", 0, float("inf")),
            ("light_radius", 0.5, float("inf")),
            ("light_intensity", 1.0, float("inf")),
            ("jpeg", 1, 100),
        ):
            limits = getattr(self, name)
            if limits is None and name in ("poisson", "saturation", "jpeg"):
                continue
            numbers = int if name in ("lights", "jpeg") else (int, float)
            pair = isinstance(limits, (tuple, list)) and len(limits) == 2
            if not (
                pair
                and all(isinstance(limit, numbers) for limit in limits)
                and smallest <= limits[0] <= limits[1] <= largest
            ):
                raise ConfigurationError(
                    f"{name} must be a range (smallest, largest) within [{smallest}, {largest}], got {limits}"
                )
            # A configuration file brings lists.
            object.__setattr__(self, name, tuple(limits))
        for name in ("gamma", "noise_exponent"):
            if not getattr(self, name) > 0.0:
                raise ConfigurationError(f"{name} must be positive, got {getattr(self, name)}")
        for name in (
            "noise_correlation_probability",
            "variation_probability",
            "saturation_probability",
            "gamma_probability",
            "jpeg_probability",
            "lights_probability",
        ):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigurationError(f"{name} must lie within [0, 1], got {getattr(self, name)}")


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


def with_lights(sharp: Tensor, config: DegradationConfig, *, generator: torch.Generator) -> Tensor:
    """Add point lights brighter than white to sharp images, before `degrade` blurs and clips them.

    A light is a disc with an edge one pixel wide, of one random tint, anywhere in its image.

    Parameters
    ----------
    sharp
        (N, C, H, W) in [0, 1]; C is 3, or 1 for grey images.
    config
        `lights`, `light_radius` and `light_intensity`. Without lights nothing is drawn.
    generator
        Source of every random number; on the CPU it avoids a synchronisation with the device.

    Returns
    -------
    Tensor
        (N, C, H, W), above 1 at the lights; the sharp photograph that a camera would take is this clipped
        at 1.
    """
    fewest, most = config.lights
    if most == 0:
        return sharp
    numbers = RandomNumbers(len(sharp), generator, generator.device)
    counts = numbers.integer(fewest, most)
    if config.lights_probability < 1.0:
        counts = counts * numbers.chosen(config.lights_probability)
    height, width = sharp.shape[-2:]
    lit = sharp.clone()
    # All numbers are drawn for every image, so that an image's lights do not depend on the others.
    for image, count, places, tints in zip(
        lit,
        counts.tolist(),
        numbers.uniform(most, 4).tolist(),
        numbers.uniform(most, sharp.shape[1]),
        strict=True,
    ):
        for (down, across, size, glow), tint in zip(places[:count], tints, strict=False):
            radius = config.light_radius[0] + (config.light_radius[1] - config.light_radius[0]) * size
            dimmest, brightest = config.light_intensity
            intensity = dimmest * (brightest / dimmest) ** glow
            row, column = down * height, across * width
            top, left = max(0, int(row - radius - 1)), max(0, int(column - radius - 1))
            part = image[:, top : int(row + radius + 2), left : int(column + radius + 2)]
            rows = torch.arange(top, top + part.shape[1], device=sharp.device) + 0.5 - row
            columns = torch.arange(left, left + part.shape[2], device=sharp.device) + 0.5 - column
            cover = (radius + 0.5 - torch.hypot(rows[:, None], columns[None])).clamp(0.0, 1.0)
            colour = intensity * between(tint, _LIGHT_TINT).to(sharp)
            part.copy_(torch.lerp(part, torch.maximum(part, colour[:, None, None]), cover.to(sharp)))
    return lit


def degrade(
    sharp: Tensor, kernels: Tensor, config: DegradationConfig, *, generator: torch.Generator
) -> Tensor:
    """Blur sharp images and apply the configured effects.

    In the order of a camera: linear light, areas brighter than white, blur, clipping, photon noise, encoding,
    Gaussian noise, JPEG or rounding.

    Parameters
    ----------
    sharp
        (N, C, H + K - 1, W + K - 1) in [0, 1], or above where `with_lights` added some; C is 3, or 1 for grey
        images.
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

    def among(probability: float) -> Tensor:
        """Draw which images a property applies to, (N, 1, 1, 1); for a probability of 1 nothing is drawn."""
        if probability == 1.0:
            return torch.ones((len(sharp), 1, 1, 1), dtype=torch.bool, device=sharp.device)
        return uniform((0.0, 1.0)) < probability

    _check_shapes(sharp, kernels)
    light = sharp
    if config.gamma != 1.0:
        exponent = torch.where(among(config.gamma_probability), config.gamma, 1.0)
        light = sharp.clamp_min(0.0) ** exponent
    if config.saturation is not None:
        chosen = uniform((0.0, 1.0)) < config.saturation_probability
        factor = torch.where(chosen, uniform(config.saturation), 1.0)
        bright = ((sharp.mean(dim=1, keepdim=True) - _BRIGHT) / (1.0 - _BRIGHT)).clamp(0.0, 1.0)
        light = light * (1.0 + (factor - 1.0) * bright)
    if config.variation[1] > 0.0:
        amount = uniform(config.variation) * among(config.variation_probability)
        draws = torch.rand((len(sharp), 5), generator=generator, device=generator.device).to(sharp)
        image = _blur_varying(
            light, kernels, amount.flatten()[:, None] * (2.0 * draws[:, :4] - 1.0), draws[:, 4]
        )
    else:
        image = blur(light, kernels)
    if config.saturation is not None or config.lights[1] > 0:
        image = image.clamp_max(1.0)
    if config.poisson is not None:
        photons = uniform(config.poisson)
        expected = (image.clamp_min(0.0) * photons).to(generator.device)
        image = torch.poisson(expected, generator=generator).to(sharp) / photons
    if config.gamma != 1.0:
        image = image.clamp_min(0.0) ** (1.0 / exponent)
    if config.noise[1] > 0.0:
        noise = torch.randn(image.shape, generator=generator, device=generator.device, dtype=image.dtype)
        if config.noise_correlation[1] > 0.0:
            reach = uniform(config.noise_correlation) * among(config.noise_correlation_probability)
            noise = _correlated(noise, reach.to(noise).flatten())
        lowest, highest = config.noise
        deviation = lowest + (highest - lowest) * uniform((0.0, 1.0)) ** config.noise_exponent
        image = image + deviation * noise.to(image.device)
    whole = _to_bytes(image).to(image) / 255.0 if config.quantise else image
    if config.jpeg is not None:
        compressed = among(config.jpeg_probability).flatten().tolist()
        qualities = torch.randint(
            config.jpeg[0], config.jpeg[1] + 1, (len(image),), generator=generator, device=generator.device
        )
        whole = torch.stack(
            [
                _jpeg(one, quality) if chosen_one else other
                for one, other, quality, chosen_one in zip(
                    image, whole, qualities.tolist(), compressed, strict=True
                )
            ]
        )
    return whole


def _check_shapes(sharp: Tensor, kernels: Tensor) -> None:
    size = kernels.shape[-1]
    if kernels.ndim != 3 or kernels.shape[-2] != size or size % 2 == 0:
        raise InputError(f"blur kernels must be (N, K, K) with K odd, got {tuple(kernels.shape)}")
    if sharp.ndim != 4 or sharp.shape[0] != kernels.shape[0] or min(sharp.shape[-2:]) < size:
        raise InputError(
            f"sharp images for {kernels.shape[0]} blur kernels of {size}x{size} must be "
            f"({kernels.shape[0]}, C, {size} or more, {size} or more), got {tuple(sharp.shape)}"
        )


def _blur_direct(sharp: Tensor, kernels: Tensor) -> Tensor:
    # The images of the batch become the groups of one convolution; conv2d correlates, hence the flip.
    weight = kernels.flip(-2, -1)[:, None].to(sharp.dtype)
    return functional.conv2d(sharp.transpose(0, 1), weight, groups=len(kernels)).transpose(0, 1)


def _blur_spectral(sharp: Tensor, kernels: Tensor) -> Tensor:
    size = kernels.shape[-1]
    height, width = sharp.shape[-2:]
    # A circular convolution of the whole image wraps only into the first K - 1 rows and columns, which are
    # cut.
    shape = (fast_fft_length(height), fast_fft_length(width))
    spectrum = torch.fft.rfft2(sharp, s=shape)
    transfer = torch.fft.rfft2(kernels.to(sharp.dtype), s=shape)[:, None]
    result: Tensor = torch.fft.irfft2(spectrum * transfer, s=shape)
    return result[..., size - 1 : height, size - 1 : width].contiguous()


def _blur_varying(sharp: Tensor, kernels: Tensor, change: Tensor, direction: Tensor) -> Tensor:
    """Blur by kernels warped by ``I + A`` at one side of each image, by ``I - A`` at the other.

    The kernel itself is in the middle, and images are interpolated linearly between the three. `change`
    (N, 4) holds the elements of the matrices A; `direction` (N,) in [0, 1), in turns, is the one in which the
    kernels change.
    """
    unit = torch.eye(2, device=sharp.device, dtype=sharp.dtype)
    matrix = change.view(-1, 2, 2)

    def blurred(warp: Tensor) -> Tensor:
        kernel = warped_kernels(kernels.to(sharp), warp, torch.zeros_like(change[:, :2]))
        return blur(sharp, kernel / kernel.sum((1, 2), keepdim=True))

    middle = blur(sharp, kernels)
    height, width = middle.shape[-2:]
    rows = torch.linspace(-1.0, 1.0, height, device=sharp.device, dtype=sharp.dtype)[:, None]
    columns = torch.linspace(-1.0, 1.0, width, device=sharp.device, dtype=sharp.dtype)
    angle = (2.0 * math.pi * direction)[:, None, None]
    across = rows * angle.sin() + columns * angle.cos()
    share = (across / across.abs().amax((1, 2), keepdim=True).clamp_min(1e-6))[:, None]
    ends = blurred(unit + matrix) * share.clamp_min(0.0) - blurred(unit - matrix) * share.clamp_max(0.0)
    return middle * (1.0 - share.abs()) + ends


def _correlated(noise: Tensor, deviation: Tensor) -> Tensor:
    """Filter white noise (N, C, H, W) with Gaussians of deviations (N,), at most 2; its variance stays."""
    offset = torch.arange(-_CORRELATION_REACH, _CORRELATION_REACH + 1, device=noise.device, dtype=noise.dtype)
    taps = torch.exp(-0.5 * (offset / deviation.clamp_min(0.05)[:, None]) ** 2)
    taps = taps / taps.norm(dim=1, keepdim=True)
    # The images of the batch become the groups of one convolution; noise has no border to keep.
    channels = noise.transpose(0, 1)
    padding = _CORRELATION_REACH
    padded = functional.pad(channels, (padding,) * 4, mode="circular")
    count = len(noise)
    filtered = functional.conv2d(padded, taps[:, None, :, None], groups=count)
    return functional.conv2d(filtered, taps[:, None, None, :], groups=count).transpose(0, 1)


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
