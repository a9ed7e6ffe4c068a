"""Reference implementations: slow, and as close to the formula as possible.

Every operator of `asnet.ops` has one. They define the operators, and the tests compare with them.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.ops.padding import pad_symmetric

#: Vertical frequencies in a block of `periodic_spectra`.
SPECTRA_BLOCK = 16

#: The smallest mean square of differences that `shrunk_divergence` divides by.
SMALLEST_ENERGY = 1e-12


def spectra_blocks(height: int) -> int:
    """Return the number of blocks in the spectra of images: frequencies 0 to `height` / 2, rounded up."""
    return -(-(height // 2 + 1) // SPECTRA_BLOCK)


def spectra_rows(height: int, device: torch.device) -> Tensor:
    """Return ky of the spectra of images, (B, 1, 16) int64; what is above `height` / 2 is no frequency."""
    blocks = spectra_blocks(height)
    return torch.arange(blocks * SPECTRA_BLOCK, device=device).view(blocks, 1, SPECTRA_BLOCK)


def cross_correlation(features: Tensor, max_lag: int | tuple[int, int], *, boundary: str = "zero") -> Tensor:
    """Cross-correlation of all pairs of feature maps: see `asnet.ops.cross_correlation`."""
    lag_y, lag_x = (max_lag, max_lag) if isinstance(max_lag, int) else max_lag
    height, width = features.shape[2:]
    rows = torch.arange(height, device=features.device)
    columns = torch.arange(width, device=features.device)

    def shifted(t: int, s: int) -> Tensor:
        """f(y - t, x - s), zero or periodic outside of the image."""
        moved = features[:, :, (rows - t) % height][:, :, :, (columns - s) % width]
        if boundary == "zero":
            rows_inside = (rows - t >= 0) & (rows - t < height)
            columns_inside = (columns - s >= 0) & (columns - s < width)
            moved = moved.where(rows_inside[:, None] & columns_inside, torch.zeros_like(moved))
        return moved

    first, second = torch.triu_indices(features.shape[1], features.shape[1], device=features.device)
    lags = [
        torch.einsum("npyx,npyx->np", shifted(t, s)[:, first], features[:, second])
        for t in range(-lag_y, lag_y + 1)
        for s in range(-lag_x, lag_x + 1)
    ]
    return torch.stack(lags, dim=-1).reshape(len(features), len(first), 2 * lag_y + 1, 2 * lag_x + 1)


def guided_modulation(
    x: Tensor,
    multiplier: Tensor | None,
    shift: Tensor | None,
    *,
    conv_bias: Tensor | None = None,
    activation: Literal["relu"] | None = "relu",
) -> Tensor:
    """``act((x + c) * (1 + m) + b)`` (Eq. 1): see `asnet.ops.guided_modulation`."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    z = x.to(dtype)
    if conv_bias is not None:
        z = z + conv_bias[:, None, None]
    if multiplier is not None:
        z = z * (1 + multiplier[:, :, None, None])
    if shift is not None:
        z = z + shift[:, :, None, None]
    return (torch.relu(z) if activation == "relu" else z).to(x.dtype)


def guided_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    multiplier: Tensor | None,
    shift: Tensor | None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    activation: Literal["relu"] | None = "relu",
    onto: Tensor | None = None,
) -> Tensor:
    """A convolution, its modulation and the addition, in turn: see `asnet.ops.guided_conv2d`."""
    convolved = F.conv2d(x, weight, None, stride, padding)
    if onto is None:
        return guided_modulation(convolved, multiplier, shift, conv_bias=bias, activation=activation)
    out = guided_modulation(convolved, multiplier, shift, conv_bias=bias, activation=None) + onto
    return torch.relu(out) if activation == "relu" else out


def guided_pointwise_conv2d(
    x1: Tensor,
    x2: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    multiplier: Tensor | None,
    shift: Tensor | None,
    *,
    activation: Literal["relu"] | None = "relu",
) -> Tensor:
    """A 1x1 convolution of the concatenation and its modulation: see `asnet.ops.guided_pointwise_conv2d`."""
    concatenation = torch.cat([x1, x2], dim=1)
    return guided_conv2d(
        concatenation, weight.view(weight.shape[0], -1, 1, 1), bias, multiplier, shift, activation=activation
    )


def sparse_latent(
    padded: Tensor,
    kernel: Tensor,
    strength: float,
    *,
    beta: float,
    growth: float,
    steps: int,
    observed: Tensor | None = None,
    clipped: Tensor | None = None,
    brightest: float = math.inf,
    ground: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Half-quadratic splitting over whole spectra: see `asnet.ops.sparse_latent`."""
    height, width = padded.shape[2:]
    size = kernel.shape[-1]

    def spectrum_of(image: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.rfft2(image)
        return spectrum

    def image_of(spectrum: Tensor) -> Tensor:
        image: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
        return image

    centred = F.pad(kernel, (0, width - size, 0, height - size)).roll((-(size // 2), -(size // 2)), (1, 2))
    transfer = spectrum_of(centred[:, None])
    # A shift by one pixel to the left, or upwards, in the frequency domain.
    across, down = (
        torch.polar(torch.ones_like(turns), turns) - 1
        for turns in (
            2 * torch.pi * torch.fft.rfftfreq(width, dtype=padded.dtype, device=padded.device),
            2 * torch.pi * torch.fft.fftfreq(height, dtype=padded.dtype, device=padded.device)[:, None],
        )
    )
    prior = across.abs().square() + down.abs().square()
    if ground is not None:
        prior = prior + 1
    latent = observed = padded if observed is None else observed
    for step in range(steps):
        weight = beta * growth**step
        horizontal, vertical = latent.roll(-1, 3) - latent, latent.roll(-1, 2) - latent
        kept = horizontal.square() + vertical.square() >= strength / weight
        pull = across.conj() * spectrum_of(horizontal * kept) + down.conj() * spectrum_of(vertical * kept)
        if ground is not None:
            differs = (latent - ground).square() >= strength / weight
            pull = pull + spectrum_of(torch.where(differs, latent, ground))
        spectrum = (transfer.conj() * spectrum_of(observed) + weight * pull) / (
            transfer.abs().square() + weight * prior
        )
        latent = image_of(spectrum)
        if clipped is not None:
            predicted = image_of(transfer * spectrum).clamp(max=brightest)
            observed = torch.where(clipped, torch.maximum(predicted, padded), padded)
    return latent, observed


def periodic_spectra(images: Tensor) -> Tensor:
    """Fourier transform in blocks of frequencies: see `asnet.ops.periodic_spectra`."""
    batch, channels, height, width = images.shape
    spectra = torch.fft.fft(torch.fft.rfft(images, dim=2), dim=3)
    blocks = spectra_blocks(height)
    padded = F.pad(torch.view_as_real(spectra), (0, 0, 0, 0, 0, blocks * SPECTRA_BLOCK - spectra.shape[2]))
    parts = padded.view(batch, channels, blocks, SPECTRA_BLOCK, width, 2)
    return parts.permute(0, 1, 2, 5, 4, 3).contiguous()


def periodic_images(spectra: Tensor, height: int, factor: Tensor | None = None) -> Tensor:
    """The inverse of `periodic_spectra`: see `asnet.ops.periodic_images`."""
    batch, channels, blocks, _, width, _ = spectra.shape
    if factor is not None:
        spectra = spectra * factor[:, None, :, None]
    parts = spectra.permute(0, 1, 2, 5, 4, 3).reshape(batch, channels, blocks * SPECTRA_BLOCK, width, 2)
    whole = torch.view_as_complex(parts[:, :, : height // 2 + 1].contiguous())
    images: Tensor = torch.fft.irfft(torch.fft.ifft(whole, dim=3), n=height, dim=2)
    return images


def shrunk_divergence(images: Tensor, threshold: Tensor) -> Tensor:
    """Adjoint of the differences, of the shrunk differences: see `asnet.ops.shrunk_divergence`."""
    across, down = images.roll(-1, -1) - images, images.roll(-1, -2) - images
    energy = (across.square() + down.square()).mean(1, keepdim=True).clamp_min(SMALLEST_ENERGY)
    kept = (1 - threshold[:, None, None, None] / energy.sqrt()).clamp_min(0)
    across, down = across * kept, down * kept
    return across.roll(1, -1) - across + down.roll(1, -2) - down


def toeplitz_solve(
    lags: Tensor, right: Tensor, weight: float, steps: int, support: Tensor | None = None
) -> Tensor:
    """Conjugate gradients with the whole matrix: see `asnet.ops.toeplitz_solve`."""
    size = right.shape[-1]
    places = torch.cartesian_prod(torch.arange(size), torch.arange(size)).to(right.device)
    down, across = (places[:, None] - places[None] + size - 1).unbind(2)
    inside = torch.ones_like(right) if support is None else support.to(right.dtype)
    inside = inside.flatten(1)
    matrix = lags[:, down, across] + weight * torch.eye(size**2, dtype=right.dtype, device=right.device)
    matrix = inside[:, :, None] * matrix * inside[:, None, :]

    def product(vectors: Tensor) -> Tensor:
        return torch.einsum("nij,nj->ni", matrix, vectors)

    def dot(first: Tensor, second: Tensor) -> Tensor:
        return (first * second).sum(1, keepdim=True)

    tiny = torch.finfo(right.dtype).tiny
    solution = inside / inside.sum(1, keepdim=True).clamp(min=1)
    residual = inside * right.flatten(1) - product(solution)
    direction = residual
    for _ in range(steps):
        step = dot(residual, residual) / dot(direction, product(direction)).clamp(min=tiny)
        solution = solution + step * direction
        left = residual - step * product(direction)
        direction = left + dot(left, left) / dot(residual, residual).clamp(min=tiny) * direction
        residual = left
    return solution.view_as(right)


def gather_images(
    images: Sequence[Tensor],
    factor: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    *,
    mean: Tensor | None = None,
    scale: float = 1.0,
    difference_scale: float = 1.0,
) -> Tensor:
    """Images and their differences as one feature map: see `asnet.ops.gather_images`."""
    first = images[0]
    batch, channels = first.shape[:2]
    depth = factor**2 * channels
    # One image after the other, so that little more memory is needed than for the result.
    gathered = first.new_empty(batch, size[0] // factor, size[1] // factor, len(images) * depth, dtype=dtype)
    for index, image in enumerate(images):
        if mean is not None:
            image = difference_scale * (image - first) if index else image - mean[:, :, None, None]
        blocks = F.pixel_unshuffle(pad_symmetric(image * scale, *size).to(dtype), factor)
        gathered[..., index * depth : (index + 1) * depth] = blocks.permute(0, 2, 3, 1)
    return gathered.permute(0, 3, 1, 2)


def label_parts(mask: Tensor) -> Tensor:
    """Maxima of 3x3 pixels, and pointers that double their reach: see `asnet.ops.label_parts`."""
    pixels = mask.shape[1] * mask.shape[2]
    index = torch.arange(1, pixels + 1, device=mask.device).view(mask.shape[1:])
    labels = torch.where(mask, index, 0)
    # The target of each label: itself, or a larger label of the same part.
    leads = F.pad(index.flatten(), (1, 0)).repeat(len(mask), 1)
    # In each round parts that touch are joined, and labels lead twice as far as in the one before. The masks
    # that wind the most need fewer rounds than these.
    for _ in range(pixels.bit_length()):
        # Indices up to 2^24 are exact in float32.
        largest = F.max_pool2d(labels[:, None].float(), 3, stride=1, padding=1)[:, 0].long()
        largest = torch.where(mask, largest, 0)
        leads = leads.scatter_reduce_(1, labels.flatten(1), largest.flatten(1), "amax")
        leads = leads.gather(1, leads)
        labels = leads.gather(1, labels.flatten(1)).view_as(labels)
    return labels
