"""Analysis by iteration: kernel and latent image improve each other from coarse to fine.

At every scale the image is resized so that its blur kernel fits a grid of 5, 7, ... K pixels, and each round

1. predicts the gradients of the sharp image: a shock filter steepens the edges of the latent image, and only
   its strongest gradients are kept;
2. correlates predicted and blurred gradients over a window of lags (the layer of section 3.1);
3. solves the normal equations A k = b of the kernel, with A the autocorrelation of the predicted gradients
   and b their correlation with the blurred ones;
4. refines the solution by a small network on the kernel's grid that ends in a softmax;
5. deconvolves the blurred image by the kernel, which gives the next latent image.

The shock filter is what tells a kernel from its 180 degree flip: autocorrelations of linear features cannot.
The learned part sees only kernels and correlations, so that its training costs little more than running it.
"""

import itertools
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asnet.networks.edge_prediction import gaussian_blur, image_gradients, shock_filter, strongest
from asnet.networks.iterated_analysis_configuration import IteratedAnalysisConfig
from asnet.networks.layers import luma
from asnet.networks.wiener import edge_window, fast_fft_length, wiener_deconvolution
from asnet.ops import cross_correlation, guided_conv2d

#: Keeps divisions finite; far below one grey level or the smallest kernel weight that matters.
EPSILON = 1e-6

#: Solved weights below this share of the largest are taken for noise.
SMALLEST_WEIGHT = 0.05

#: What stands for a weight of 0 in the logarithm, relative to the largest.
LOGIT_FLOOR = 2e-4

#: Tikhonov damping of the normal equations before training, relative to the autocorrelation at lag 0.
INITIAL_DAMPING = 0.02

#: Regularisation strength of the Wiener deconvolution between rounds, for images of unit variance.
LATENT_STRENGTH = 0.02

#: Gaussian smoothing in pixels of the blurred image before the first shock filter.
FIRST_SMOOTHING = 0.7

#: Steps of the shock filter in a round.
SHOCK_STEPS = 3

#: Share of the pixels whose gradients are kept in a scale's first round, its growth per round, and its limit.
STRONGEST, STRONGEST_GROWTH, STRONGEST_AT_MOST = 0.06, 0.4, 0.5


def resize_kernel(kernel: Tensor, size: int) -> Tensor:
    """Resample blur kernels (N, K, K) to (N, size, size), keeping their centre and their sum of 1."""
    resized = F.interpolate(
        kernel[:, None], size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    resized = resized[:, 0].clamp(min=0)
    return resized / resized.sum((-2, -1), keepdim=True).clamp(min=EPSILON)


def solve_kernel(autocorrelation: Tensor, correlation: Tensor, damping: Tensor, steps: int) -> Tensor:
    """Solve (A + damping a0 I) k = b for kernels by conjugate gradients.

    Parameters
    ----------
    autocorrelation : Tensor
        A as lags (N, 2s-1, 2s-1), symmetric under the 180 degree flip; a0 is its value at lag zero.
    correlation : Tensor
        b as lags (N, s, s).
    damping : Tensor
        Tikhonov damping relative to a0, a scalar > 0.
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


class StagedConvolution(nn.Module):
    """A convolution shared by all stages, its output modulated by a multiplier and shift of the stage."""

    def __init__(
        self, in_channels: int, out_channels: int, size: int, stages: int, activation: Literal["relu"] | None
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, size, size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.multiplier = nn.Parameter(torch.zeros(stages, out_channels))
        self.shift = nn.Parameter(torch.zeros(stages, out_channels))
        self.activation = activation
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(self, features: Tensor, stage: int) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H, W)."""
        count = features.shape[0]
        return guided_conv2d(
            features,
            self.weight,
            self.bias,
            self.multiplier[stage].expand(count, -1),
            self.shift[stage].expand(count, -1),
            padding=self.weight.shape[-1] // 2,
            activation=self.activation,
        )


class KernelRefiner(nn.Module):
    """Refine a solved kernel on its own grid; the result is the logits of a softmax over the grid.

    At first it gives the solution itself, without its negative and smallest values.
    """

    def __init__(self, config: IteratedAnalysisConfig, stages: int) -> None:
        super().__init__()
        width, size = config.refiner_channels, config.refiner_size
        channels = [5, *[width] * (config.refiner_layers - 1), 1]
        last = len(channels) - 2
        self.layers = nn.ModuleList(
            StagedConvolution(inputs, outputs, size, stages, None if index == last else "relu")
            for index, (inputs, outputs) in enumerate(itertools.pairwise(channels))
        )
        nn.init.zeros_(self.layers[last].weight)  # type: ignore[arg-type]

    def forward(self, solved: Tensor, previous: Tensor, lags: Tensor, stage: int) -> Tensor:
        """Map solved and previous kernels (N, s, s) and correlations (N, 3, s, s) to logits (N, s, s)."""
        solved = solved / solved.amax((-2, -1), keepdim=True).clamp(min=EPSILON)
        previous = previous / previous.amax((-2, -1), keepdim=True).clamp(min=EPSILON)
        features = torch.cat([torch.stack([solved, previous], dim=1), lags], dim=1)
        for layer in self.layers:
            features = layer(features, stage)
        kept = torch.where(solved > SMALLEST_WEIGHT, solved, 0.0)
        return torch.log(kept + LOGIT_FLOOR) + features[:, 0]


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
        self.sizes = config.scale_sizes
        #: Kernel size and number within its scale of every round, in their order.
        self.schedule = [
            (size, inner)
            for size in self.sizes
            for inner in range(config.rounds if size < config.kernel_size else config.finest_rounds)
        ]
        self.refiner = KernelRefiner(config, len(self.schedule))
        self.log_damping = nn.Parameter(torch.full((len(self.schedule),), INITIAL_DAMPING).log())

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
        return _softmax(self.rounds(image)[-1])

    def rounds(self, image: Tensor) -> list[Tensor]:
        """Run all rounds and return their logits (N, s, s); no gradient flows between rounds."""
        with torch.autocast(image.device.type, enabled=False):
            image = _standardised(luma(image.to(torch.promote_types(image.dtype, torch.float32))))
            estimates: list[Tensor] = []
            kernel = image.new_zeros(image.shape[0], self.sizes[0], self.sizes[0])
            kernel[:, self.sizes[0] // 2, self.sizes[0] // 2] = 1
            blurred = latent = image
            for stage, (size, inner) in enumerate(self.schedule):
                if inner == 0:
                    blurred = _resize_image(image, size / self.sizes[-1])
                    kernel = resize_kernel(kernel, size)
                    latent = blurred if stage == 0 else _latent(blurred, kernel)
                estimates.append(self._round(blurred, latent, kernel, stage))
                kernel = _softmax(estimates[-1].detach())
                if stage + 1 < len(self.schedule) and self.schedule[stage + 1][1] > 0:
                    latent = _latent(blurred, kernel)
        return estimates

    def _round(self, blurred: Tensor, latent: Tensor, kernel: Tensor, stage: int) -> Tensor:
        size, inner = self.schedule[stage]
        with torch.no_grad():
            if stage == 0:
                latent = gaussian_blur(latent, FIRST_SMOOTHING)
            gradients = image_gradients(shock_filter(latent, SHOCK_STEPS))
            share = max(STRONGEST * (1 + STRONGEST_GROWTH * inner), 4 * size**2 / latent[0].numel())
            predicted = strongest(gradients, min(share, STRONGEST_AT_MOST))
            autocorrelation, correlation, observed = _correlations(predicted, image_gradients(blurred), size)
        solved = solve_kernel(
            autocorrelation, correlation, self.log_damping[stage].exp(), self.config.conjugate_gradient_steps
        )
        shift = _whole_pixel_shift_to_centre(solved)
        reach = slice(size // 2, size // 2 + size)
        lags = torch.stack(
            [_shifted(correlation, shift), autocorrelation[:, reach, reach], observed[:, reach, reach]], dim=1
        )
        lags = lags / lags.abs().amax((-2, -1), keepdim=True).clamp(min=EPSILON)
        logits: Tensor = self.refiner(_shifted(solved, shift), kernel, lags, stage)
        return logits

    def estimate_with_losses(
        self, blurred: Tensor, sharp: Tensor, kernel: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Estimate blur kernels, and measure all rounds against the truth.

        Parameters
        ----------
        blurred, sharp : Tensor
            (N, 3, H, W), range [0, 1], aligned; the sharp one is not needed here.
        kernel : Tensor
            True blur kernels (N, K, K).

        Returns
        -------
        Tensor
            Estimated kernels (N, K, K), as `forward` gives them.
        dict of str to Tensor
            "loss" (the divergences of all rounds from the true kernels, in nats: their mean and the last one)
            and "kernel" (the last one).
        """
        estimates = self.rounds(blurred)
        divergences = []
        for logits in estimates:
            truth = resize_kernel(kernel, logits.shape[-1]).flatten(1)
            divergence = torch.xlogy(truth, truth) - truth * F.log_softmax(logits.flatten(1), dim=1)
            divergences.append(divergence.sum(1).mean())
        loss = torch.stack(divergences).mean() + divergences[-1]
        return _softmax(estimates[-1]), {"loss": loss, "kernel": divergences[-1].detach()}


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the grid of each kernel (N, s, s)."""
    return torch.softmax(logits.flatten(1), dim=1).view_as(logits)


@torch.no_grad()
def _latent(blurred: Tensor, kernel: Tensor) -> Tensor:
    """Latent image (N, 1, H, W): the blurred one deconvolved."""
    return wiener_deconvolution(blurred, kernel, (LATENT_STRENGTH,))[:, 0]


@torch.no_grad()
def _whole_pixel_shift_to_centre(solved: Tensor) -> Tensor:
    """Whole pixels (N, 2), vertical and horizontal, that move a kernel's centroid to its grid's centre."""
    size = solved.shape[-1]
    weights = torch.where(solved > SMALLEST_WEIGHT * solved.amax((-2, -1), keepdim=True), solved, 0.0)
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


def _moments(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each image (N, 1, H, W), as (N, 1, 1, 1)."""
    mean = image.mean((1, 2, 3), keepdim=True)
    deviation = (image - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
    return mean, deviation.clamp(min=1e-3)


def _standardised(image: Tensor) -> Tensor:
    mean, deviation = _moments(image)
    return (image - mean) / deviation


def _resize_image(image: Tensor, scale: float) -> Tensor:
    """Downscale an image (N, 1, H, W) by `scale` <= 1, never below 16 pixels a side."""
    height, width = (max(min(16, side), round(side * scale)) for side in image.shape[-2:])
    if (height, width) == tuple(image.shape[-2:]):
        return image
    return F.interpolate(image, size=(height, width), mode="bilinear", antialias=True, align_corners=False)


def _correlations(predicted: Tensor, observed: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Correlate predicted gradients p with blurred ones g, summed over both directions.

    Returns the autocorrelation of p (N, 2s-1, 2s-1), the correlation of p with g (N, s, s) and the
    autocorrelation of g (N, 2s-1, 2s-1); s = `size`.
    """
    count, _, height, width = predicted.shape
    # Predicted gradients near the border have blurred partners outside the image: they fade out.
    window = edge_window(height, min(size, height // 4), predicted)[:, None] * edge_window(
        width, min(size, width // 4), predicted
    )
    maps = torch.stack([predicted * window, observed], dim=2).flatten(0, 1)
    lags = cross_correlation(maps, size - 1)
    lags = lags.view(count, 2, *lags.shape[1:]).sum(1)
    reach = slice(size // 2, size // 2 + size)
    return lags[:, 0], lags[:, 1, reach, reach], lags[:, 2]
