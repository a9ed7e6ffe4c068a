"""Analysis by iteration: kernel and latent image improve each other from coarse to fine.

At every scale the image is resized so that its blur kernel fits a grid of 5, 7, ... K pixels, and each round

1. predicts the gradients of the sharp image: a shock filter steepens the edges of the latent image, and only
   its strongest gradients are kept;
2. correlates predicted and blurred gradients over a window of lags (the layer of section 3.1);
3. solves the normal equations A k = b of the kernel, with A the autocorrelation of the predicted gradients
   and b their correlation with the blurred ones, and keeps the largest weights;
4. deconvolves the blurred image by the kernel, which gives the next latent image.

A network on the kernel's grid, the learned part, refines the last solution.

The shock filter is what tells a kernel from its 180 degree flip: autocorrelations of linear features cannot.
A network within the rounds undoes that: trained to come close to the true kernel on average, it answers with
the mean of a kernel and its flip wherever it is in doubt, and the iteration never decides.
"""

import itertools
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asnet.networks.edge_prediction import gaussian_blur, image_gradients, shock_filter, strongest
from asnet.networks.edge_steepness import edge_steepness
from asnet.networks.iterated_analysis_configuration import IteratedAnalysisConfig
from asnet.networks.layers import initialise_he, luma
from asnet.networks.wiener import edge_window, fast_fft_length, wiener_deconvolution
from asnet.ops import cross_correlation

#: Keeps divisions finite; far below one grey level or the smallest kernel weight that matters.
EPSILON = 1e-6

#: Solved weights below this share of the largest are taken for noise.
SMALLEST_WEIGHT = 0.15

#: Share of a downscaled pixel that must be usable.
FULLY_USABLE = 0.999

#: What stands for a weight of 0 in the logarithm, relative to the largest.
LOGIT_FLOOR = 1e-3

#: Tikhonov damping of the normal equations, relative to the autocorrelation at lag 0.
DAMPING = 0.02

#: Regularisation strength of the Wiener deconvolution between rounds, for images of unit variance.
LATENT_STRENGTH = 0.02

#: Gaussian smoothing in pixels of the blurred image before the first shock filter.
FIRST_SMOOTHING = 0.7

#: Steps of the shock filter in a round.
SHOCK_STEPS = 2

#: Share of the pixels whose gradients are kept: at least so much, so many for each weight of the kernel, and
#: never more than half.
STRONGEST, GRADIENTS_PER_UNKNOWN, STRONGEST_AT_MOST = 0.03, 4, 0.5

#: Edges steeper than this (`edge_steepness`) are those of a sharp photograph. Chosen on training photographs:
#: of 48 crops as they are it recognises 34, and of 310 blurred by kernels of 3 to 31 pixels it takes 11 for
#: sharp, of which deblurring would gain 0.6 dB on average.
SHARP_STEEPNESS = 0.6

#: An estimate is contradictory if it claims much blur, with predicted gradients of more than so many times
#: the energy of the blurred ones, but the solved kernel and its refinement are less similar (cosine) than
#: this. Chosen on the same crops; values nearby do about as well.
MUCH_BLUR, LEAST_SIMILARITY = 3.0, 0.85


def resize_kernel(kernel: Tensor, size: int) -> Tensor:
    """Resample blur kernels (N, K, K) to (N, size, size), keeping their centre and their sum of 1."""
    resized = F.interpolate(
        kernel[:, None], size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    resized = resized[:, 0].clamp(min=0)
    return resized / resized.sum((-2, -1), keepdim=True).clamp(min=EPSILON)


def solve_kernel(autocorrelation: Tensor, correlation: Tensor, damping: float, steps: int) -> Tensor:
    """Solve (A + damping a0 I) k = b for kernels by conjugate gradients.

    Parameters
    ----------
    autocorrelation : Tensor
        A as lags (N, 2s-1, 2s-1), symmetric under the 180 degree flip; a0 is its value at lag zero.
    correlation : Tensor
        b as lags (N, s, s).
    damping : float
        Tikhonov damping relative to a0, > 0.
    steps : int
        Number of steps from k = 0.

    Returns
    -------
    Tensor
        (N, s, s).
    """
    size = correlation.shape[-1]
    # The Toeplitz product with s x s unknowns is exact in a circular one of at least 2s - 1.
    length = fast_fft_length(2 * size - 1)
    scale = autocorrelation[:, size - 1, size - 1, None, None].clamp(min=EPSILON)
    padded = F.pad(autocorrelation / scale, (0, length - 2 * size + 1, 0, length - 2 * size + 1))
    spectrum = torch.fft.rfft2(torch.roll(padded, (1 - size, 1 - size), (-2, -1)))

    def apply(kernel: Tensor) -> Tensor:
        transformed = torch.fft.rfft2(kernel, s=(length, length))
        product = torch.fft.irfft2(transformed * spectrum, s=(length, length))
        return cast(Tensor, product[..., :size, :size] + damping * kernel)

    solution = torch.zeros_like(correlation)
    residual = correlation / scale
    direction = residual
    energy = residual.square().sum((-2, -1), keepdim=True)
    for _ in range(steps):
        product = apply(direction)
        step = energy / (direction * product).sum((-2, -1), keepdim=True).clamp(min=EPSILON**2)
        solution = solution + step * direction
        residual = residual - step * product
        new_energy = residual.square().sum((-2, -1), keepdim=True)
        direction = residual + new_energy / energy.clamp(min=EPSILON**2) * direction
        energy = new_energy
    return solution


class Correlations(NamedTuple):
    """Correlations of gradients over lags, summed over both directions; s is the kernel's size."""

    predicted: Tensor  # (N, 2s-1, 2s-1): the predicted gradients with themselves, A of the normal equations
    mixed: Tensor  # (N, s, s): the predicted with the blurred gradients, b of the normal equations
    blurred: Tensor  # (N, 2s-1, 2s-1): the blurred gradients with themselves


class KernelEstimate(NamedTuple):
    """Blur kernels of N images, and what speaks against using them."""

    kernel: Tensor  # (N, K, K), positive, each of sum 1
    sharp: Tensor  # (N,) bool: the edges of the image are too steep for any blur
    contradictory: Tensor  # (N,) bool: the parts of the estimate do not fit together


class KernelRefiner(nn.Module):
    """Refine a solved kernel on its grid, seen beside the correlations that it solves.

    At first it gives the solution without its negative and smallest weights.
    """

    def __init__(self, config: IteratedAnalysisConfig) -> None:
        super().__init__()
        width, size = config.refiner_channels, config.refiner_size
        channels = [5, *[width] * (config.refiner_layers - 1), 1]
        self.layers = nn.ModuleList(
            nn.Conv2d(inputs, outputs, size, padding=size // 2)
            for inputs, outputs in itertools.pairwise(channels)
        )
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d)
            initialise_he(layer)
            last = layer
        nn.init.zeros_(last.weight)

    def forward(self, solved: Tensor, previous: Tensor, correlations: Correlations) -> Tensor:
        """Map solved and previous kernels (N, K, K) and their correlations to refined kernels (N, K, K)."""
        size = solved.shape[-1]
        reach = slice(size // 2, size // 2 + size)
        maps = [
            solved,
            previous,
            correlations.mixed,
            correlations.predicted[:, reach, reach],
            correlations.blurred[:, reach, reach],
        ]
        features = torch.stack([values / _largest(values) for values in maps], dim=1)
        for layer in self.layers[:-1]:
            features = F.relu(layer(features))
        correction = self.layers[-1](features)[:, 0]
        logits = torch.log(_kept(solved) / _largest(solved) + LOGIT_FLOOR) + correction
        return torch.softmax(logits.flatten(1), dim=1).view_as(logits)


class IteratedAnalysisNetwork(nn.Module):
    """Estimate the blur kernel of a photograph by coarse-to-fine iteration.

    Parameters
    ----------
    config : IteratedAnalysisConfig
        Sizes of its parts.
    """

    def __init__(self, config: IteratedAnalysisConfig) -> None:
        super().__init__()
        self.config = config
        self.refiner = KernelRefiner(config)

    def forward(self, image: Tensor) -> Tensor:
        """Estimate blur kernels.

        Parameters
        ----------
        image : Tensor
            (N, 3, H, W) RGB or (N, 1, H, W) luma, range [0, 1], H and W at least 16.

        Returns
        -------
        Tensor
            Blur kernels (N, K, K), positive, each summing to 1.
        """
        with torch.autocast(image.device.type, enabled=False):
            refined: Tensor = self.refiner(*self._iterate(_standardised(_precise_luma(image))))
        return refined

    @torch.no_grad()
    def estimate(self, image: Tensor, usable: Tensor | None = None) -> KernelEstimate:
        """Estimate blur kernels and tell which of them had better not be used; see `forward`.

        Parameters
        ----------
        image : Tensor
            As in `forward`.
        usable : Tensor, optional
            (N, 1, H, W) bool, True for pixels that may take part in the kernel's equations; by default all.
        """
        with torch.autocast(image.device.type, enabled=False):
            image = _precise_luma(image)
            solved, previous, correlations = self._iterate(_standardised(image, usable), usable)
            refined = self.refiner(solved, previous, correlations)
            centre = self.config.kernel_size - 1
            predicted, blurred = (
                lags[:, centre, centre] for lags in (correlations.predicted, correlations.blurred)
            )
            similarity = F.cosine_similarity(_kept(solved).flatten(1), refined.flatten(1))
            contradictory = (predicted > MUCH_BLUR * blurred) & (similarity < LEAST_SIMILARITY)
            sharp = edge_steepness(image, usable) > SHARP_STEEPNESS
            return KernelEstimate(refined, sharp, contradictory | (predicted <= 0))

    @torch.no_grad()
    def _iterate(self, image: Tensor, usable: Tensor | None = None) -> tuple[Tensor, Tensor, Correlations]:
        """Run all rounds; return the last solution, the kernel before it, and what it was solved from."""
        config = self.config
        sizes = config.scale_sizes
        kernel = image.new_zeros(image.shape[0], sizes[0], sizes[0])
        kernel[:, sizes[0] // 2, sizes[0] // 2] = 1
        for size in sizes:
            blurred = _resize_image(image, size / sizes[-1])
            gradients = image_gradients(blurred)
            within = None
            if usable is not None:
                known = _resize_image(usable.to(image), size / sizes[-1]) > FULLY_USABLE
                gradients = gradients * _eroded(known, 1)
                # Predicted gradients spread over the kernel: what they become must be known.
                within = _eroded(known, size // 2 + 1)
            kernel = resize_kernel(kernel, size)
            for number in range(config.rounds if size < sizes[-1] else config.finest_rounds):
                previous = kernel
                if size == sizes[0] and number == 0:
                    latent = gaussian_blur(blurred, FIRST_SMOOTHING)
                else:
                    latent = wiener_deconvolution(blurred, kernel, (LATENT_STRENGTH,))[:, 0]
                share = max(STRONGEST, GRADIENTS_PER_UNKNOWN * size**2 / latent[0].numel())
                steepened = image_gradients(shock_filter(latent, SHOCK_STEPS))
                if within is not None:
                    steepened = steepened * within
                predicted = strongest(steepened, min(share, STRONGEST_AT_MOST))
                correlations = _correlations(predicted, gradients, size)
                solved = solve_kernel(
                    correlations.predicted, correlations.mixed, DAMPING, config.conjugate_gradient_steps
                )
                shift = _whole_pixel_shift_to_centre(solved)
                solved = _shifted(solved, shift)
                correlations = correlations._replace(mixed=_shifted(correlations.mixed, shift))
                kernel = _kept(solved)
                kernel = kernel / kernel.sum((-2, -1), keepdim=True).clamp(min=EPSILON)
        return solved, previous, correlations


def _precise_luma(image: Tensor) -> Tensor:
    """Luma (N, 1, H, W) of RGB images or luma, in float32 or float64."""
    image = luma(image)
    return image.to(torch.promote_types(image.dtype, torch.float32))


def _largest(values: Tensor) -> Tensor:
    """Largest value of each map (N, s, s), as (N, 1, 1)."""
    return values.amax((-2, -1), keepdim=True).clamp(min=EPSILON)


def _kept(solved: Tensor) -> Tensor:
    """Solved kernels (N, s, s) without their negative and smallest weights."""
    return torch.where(solved > SMALLEST_WEIGHT * _largest(solved), solved, 0.0)


def _whole_pixel_shift_to_centre(solved: Tensor) -> Tensor:
    """Whole pixels (N, 2), vertical and horizontal, that move a kernel's centroid to its grid's centre."""
    size = solved.shape[-1]
    weights = _kept(solved)
    weights = weights / weights.sum((-2, -1), keepdim=True).clamp(min=EPSILON)
    positions = torch.arange(size, device=solved.device, dtype=solved.dtype) - size // 2
    centroid = torch.stack([weights.sum(2) @ positions, weights.sum(1) @ positions], dim=1)
    return -centroid.round().long()


def _shifted(kernel: Tensor, shift: Tensor) -> Tensor:
    """Move kernels (N, s, s) by whole pixels (N, 2), cyclically."""
    size = kernel.shape[-1]
    positions = torch.arange(size, device=kernel.device)
    rows = (positions - shift[:, :1]) % size
    columns = (positions - shift[:, 1:]) % size
    kernel = kernel.gather(1, rows[:, :, None].expand_as(kernel))
    return kernel.gather(2, columns[:, None, :].expand_as(kernel))


def _standardised(image: Tensor, usable: Tensor | None = None) -> Tensor:
    """Images (N, 1, H, W) of mean 0 and standard deviation 1 over their usable pixels."""
    weight = torch.ones_like(image) if usable is None else usable.to(image)
    count = weight.sum((1, 2, 3), keepdim=True).clamp(min=1)
    centred = image - (image * weight).sum((1, 2, 3), keepdim=True) / count
    deviation = ((centred.square() * weight).sum((1, 2, 3), keepdim=True) / count).sqrt()
    return centred / deviation.clamp(min=1e-3)


def _eroded(known: Tensor, radius: int) -> Tensor:
    """Pixels (N, 1, H, W) of which all within a square of `radius` are known; the image's border is none."""
    size = 2 * radius + 1
    rows = F.max_pool2d(1 - known.float(), (size, 1), stride=1, padding=(radius, 0))
    return F.max_pool2d(rows, (1, size), stride=1, padding=(0, radius)) == 0


def _resize_image(image: Tensor, scale: float) -> Tensor:
    """Downscale an image (N, 1, H, W) by `scale` <= 1, never below 16 pixels a side."""
    height, width = (max(min(16, side), round(side * scale)) for side in image.shape[-2:])
    if (height, width) == tuple(image.shape[-2:]):
        return image
    return F.interpolate(image, size=(height, width), mode="bilinear", antialias=True, align_corners=False)


def _correlations(predicted: Tensor, blurred: Tensor, size: int) -> Correlations:
    """Correlate predicted and blurred gradients (N, 2, h, w) over the lags of a kernel of `size` pixels."""
    count, _, height, width = predicted.shape
    # Predicted gradients near the border have blurred partners outside the image: they fade out.
    window = edge_window(height, min(size, height // 4), predicted)[:, None] * edge_window(
        width, min(size, width // 4), predicted
    )
    maps = torch.stack([predicted * window, blurred], dim=2).flatten(0, 1)
    lags = cross_correlation(maps, size - 1)
    lags = lags.view(count, 2, *lags.shape[1:]).sum(1)
    reach = slice(size // 2, size // 2 + size)
    return Correlations(lags[:, 0], lags[:, 1, reach, reach], lags[:, 2])
