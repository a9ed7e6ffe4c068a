"""Analysis by iteration: kernel and latent image improve each other from coarse to fine.

At every scale the image is resized so that its blur kernel fits a grid of 5, 7, ... K pixels, and each round

1. predicts the gradients of the sharp image from the blurred image and its Wiener deconvolutions by the
   kernel so far;
2. correlates predicted and blurred gradients over a window of lags (the layer of section 3.1);
3. solves the normal equations of the kernel in these correlations;
4. refines the solution by a small network on the kernel's grid that ends in a softmax.

If the predicted gradients p are the mean of the true ones given what is seen, their errors are uncorrelated
with p, and the normal equations A k = b, with A the autocorrelation of p and b its correlation with the
blurred gradients, hold for the true kernel. The prediction is non-linear, which tells a kernel from its
180 degree flip; autocorrelations of linear features cannot.
"""

import itertools
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asnet.networks.iterated_analysis_configuration import IteratedAnalysisConfig
from asnet.networks.layers import luma
from asnet.networks.wiener import edge_window, fast_fft_length, wiener_deconvolution
from asnet.ops import cross_correlation, guided_conv2d

#: Keeps logarithms and divisions finite; far below one grey level or the smallest kernel weight that matters.
EPSILON = 1e-6


class RoundEstimate(NamedTuple):
    """What one round produced: kernel size s, blurred and predicted gradients (N, 2, h, w), logits."""

    size: int
    observed: Tensor
    gradients: Tensor
    logits: Tensor


def image_gradients(image: Tensor) -> Tensor:
    """Return the horizontal and vertical forward differences (N, 2, H, W) of an image (N, 1, H, W).

    They are 0 at the far edge.
    """
    horizontal = F.pad(image[..., :, 1:] - image[..., :, :-1], (0, 1))
    vertical = F.pad(image[..., 1:, :] - image[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([horizontal, vertical], dim=1)


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
    """A 3x3 convolution shared by all stages, its output modulated by a multiplier and shift of the stage."""

    def __init__(
        self, in_channels: int, out_channels: int, stages: int, activation: Literal["relu"] | None
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
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
            padding=1,
            activation=self.activation,
        )


def _staged_stack(channels: list[int], stages: int) -> nn.ModuleList:
    """3x3 convolutions with ReLU between; the last starts at zero: the stack starts as no correction."""
    layers = nn.ModuleList()
    for index, (in_channels, out_channels) in enumerate(itertools.pairwise(channels)):
        last = index == len(channels) - 2
        layer = StagedConvolution(in_channels, out_channels, stages, None if last else "relu")
        layers.append(layer)
        if last:
            nn.init.zeros_(layer.weight)
    return layers


class GradientPredictor(nn.Module):
    """Predict the gradients of the sharp image; works on 2x2 blocks of pixels, a quarter of the cost."""

    def __init__(self, config: IteratedAnalysisConfig, stages: int) -> None:
        super().__init__()
        width = config.predictor_channels
        self.layers = _staged_stack([12, *[width] * (config.predictor_layers - 1), 8], stages)

    def forward(self, blurred: Tensor, latent: Tensor, stage: int) -> Tensor:
        """Map blurred (N, 1, h, w) and latent (N, 2, h, w), two strengths, to gradients (N, 2, h, w)."""
        height, width = blurred.shape[-2:]
        features = torch.cat([blurred, latent], dim=1)
        features = F.pad(features, (0, width % 2, 0, height % 2), mode="replicate")
        features = F.pixel_unshuffle(features, 2)
        for layer in self.layers:
            features = layer(features, stage)
        correction = F.pixel_shuffle(features, 2)[..., :height, :width]
        return image_gradients(latent[:, 1:]) + correction


class KernelRefiner(nn.Module):
    """Refine a solved kernel on its own grid; the result is the logits of a softmax over the grid."""

    def __init__(self, config: IteratedAnalysisConfig, stages: int) -> None:
        super().__init__()
        width = config.refiner_channels
        self.layers = _staged_stack([5, *[width] * (config.refiner_layers - 1), 1], stages)

    def forward(self, solved: Tensor, previous: Tensor, lags: Tensor, stage: int) -> Tensor:
        """Map solved and previous kernels (N, s, s) and correlations (N, 3, s, s) to logits (N, s, s)."""
        solved = solved / solved.amax((-2, -1), keepdim=True).clamp(min=EPSILON)
        previous = previous / previous.amax((-2, -1), keepdim=True).clamp(min=EPSILON)
        features = torch.cat([torch.stack([solved, previous], dim=1), lags], dim=1)
        for layer in self.layers:
            features = layer(features, stage)
        return torch.log(solved.clamp(min=0) + 0.01) * 2 + features[:, 0]


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
        stages = len(self.sizes) * config.rounds
        self.predictor = GradientPredictor(config, stages)
        self.refiner = KernelRefiner(config, stages)
        self.log_strengths = nn.Parameter(torch.tensor([[0.005, 0.05]]).log().repeat(stages, 1))
        self.log_damping = nn.Parameter(torch.full((stages,), 0.02).log())

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
        return _softmax(self.rounds(image)[-1].logits)

    def rounds(self, image: Tensor) -> list[RoundEstimate]:
        """Run all rounds, coarse to fine, and return their estimates; no gradient flows between rounds."""
        image = _standardised(luma(image))
        estimates: list[RoundEstimate] = []
        kernel = image.new_zeros(image.shape[0], self.sizes[0], self.sizes[0])
        kernel[:, self.sizes[0] // 2, self.sizes[0] // 2] = 1
        for scale, size in enumerate(self.sizes):
            blurred = _resize_image(image, size / self.sizes[-1])
            kernel = resize_kernel(kernel, size)
            for inner in range(self.config.rounds):
                estimate = self._round(blurred, kernel, size, scale * self.config.rounds + inner)
                estimates.append(estimate)
                kernel = _softmax(estimate.logits.detach())
        return estimates

    def _round(self, blurred: Tensor, kernel: Tensor, size: int, stage: int) -> RoundEstimate:
        latent = wiener_deconvolution(blurred, kernel, self.log_strengths[stage].exp())[:, :, 0]
        predicted = self.predictor(blurred, latent, stage)
        gradients = image_gradients(blurred)
        autocorrelation, correlation, observed = _correlations(predicted, gradients, size)
        solved = solve_kernel(
            autocorrelation, correlation, self.log_damping[stage].exp(), self.config.conjugate_gradient_steps
        )
        reach = slice(size // 2, size // 2 + size)
        lags = torch.stack([correlation, autocorrelation[:, reach, reach], observed[:, reach, reach]], dim=1)
        lags = lags / observed[:, None, size - 1, size - 1, None, None].clamp(min=EPSILON)
        return RoundEstimate(size, gradients, predicted, self.refiner(solved, kernel, lags, stage))

    def estimate_with_losses(
        self, blurred: Tensor, sharp: Tensor, kernel: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Estimate blur kernels, and measure all rounds against the truth.

        Parameters
        ----------
        blurred, sharp : Tensor
            (N, 3, H, W), range [0, 1], aligned.
        kernel : Tensor
            True blur kernels (N, K, K).

        Returns
        -------
        Tensor
            Estimated kernels (N, K, K), as `forward` gives them.
        dict of str to Tensor
            "loss" (the total), "kernel" (divergence of the last round from the true kernel, in nats) and
            "gradients" (squared error of the predicted gradients over the energy of the true and the blurred
            ones, mean over the rounds).
        """
        luma_blurred = luma(blurred)
        mean, deviation = _moments(luma_blurred)
        target = (luma(sharp) - mean) / deviation
        kernel_losses, gradient_losses = [], []
        estimates = self.rounds(luma_blurred)
        for estimate in estimates:
            true_gradients = image_gradients(_resize_image(target, estimate.size / self.sizes[-1]))
            # The observed energy, noise included, bounds the weight of crops that hold no structure.
            energy = (true_gradients.square() + estimate.observed.square()).mean((1, 2, 3)).clamp(min=EPSILON)
            gradient_losses.append(
                ((estimate.gradients - true_gradients).square().mean((1, 2, 3)) / energy).mean()
            )
            true_kernel = resize_kernel(kernel, estimate.size).flatten(1)
            divergence = torch.xlogy(true_kernel, true_kernel) - true_kernel * F.log_softmax(
                estimate.logits.flatten(1), dim=1
            )
            kernel_losses.append(divergence.sum(1).mean())
        gradients = torch.stack(gradient_losses).mean()
        loss = torch.stack(kernel_losses).mean() + kernel_losses[-1] + gradients
        losses = {"loss": loss, "kernel": kernel_losses[-1].detach(), "gradients": gradients.detach()}
        return _softmax(estimates[-1].logits), losses


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the grid of each kernel (N, s, s)."""
    return torch.softmax(logits.flatten(1), dim=1).view_as(logits)


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
