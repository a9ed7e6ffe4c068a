"""Photographs continued beyond their edges, so that a Fourier transform may deconvolve them.

A photograph is a part of a larger blurred scene. Deconvolved as if it were periodic, it rings far into the
picture. What lies beyond its edges is unknown, but not arbitrary: it is the blur of the scene that explains
the photograph best. That scene minimises

    |M (k * x - y)|^2 + s (|D x|^2 + e |x|^2)

with y the photograph less its mean, M 1 within it and 0 beyond, and D the first differences. A few steps of
the Chebyshev iteration find it at half the resolution, preconditioned by the solution for a periodic
photograph, and one step of deconvolving and blurring again adds the detail. The start is a photograph whose
edges fade into the circularly blurred one. Steps of conjugate gradients would depend on sums over the
photograph; so do these only by its mean, and parts of a photograph are continued nearly as the whole.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.ops import periodic_images, periodic_spectra
from asnet.ops.reference import spectra_blocks

#: Weight s.
CONTINUATION_STRENGTH = 0.016

#: Steps of the iteration, and the smallest eigenvalue that it is made for; below, it converges more slowly.
#: Deconvolution with kernels of 63 to 101 pixels gains 0.66 dB from 6 steps, 0.66 dB from 8 with 0.1.
CONTINUATION_STEPS, SMALLEST_EIGENVALUE = 6, 0.05


def edge_window(length: int, ramp: int, like: Tensor) -> Tensor:
    """Return a window (length,): raised cosines of `ramp` samples at both ends, one between.

    Its device and dtype are those of `like`.
    """
    phase = torch.arange(1, ramp + 1, device=like.device, dtype=like.dtype) / (ramp + 1)
    rise = 0.5 - 0.5 * torch.cos(torch.pi * phase)
    return torch.cat([rise, rise.new_ones(length - 2 * ramp), rise.flip(0)])


def spectra_times(spectra: Tensor, response: Tensor) -> Tensor:
    """Multiply spectra (N, C, B, 2, W, 16) of `periodic_spectra` by others (N, 1, B, 2, W, 16)."""
    real, imaginary = response[..., :1, :, :], response[..., 1:, :, :]
    return torch.addcmul(spectra * real, spectra.flip(-3), torch.cat([-imaginary, imaginary], -3))


def spectra_times_conjugate(spectra: Tensor, response: Tensor) -> Tensor:
    """Multiply spectra (N, C, B, 2, W, 16) by the conjugates of others (N, 1, B, 2, W, 16)."""
    return spectra_times(spectra, response * response.new_tensor([1, -1])[:, None, None])


def continued(
    photograph: Tensor, size: tuple[int, int], response: Tensor, power: Tensor, prior: Tensor
) -> Tensor:
    """Continue photographs beyond their edges as the blur of a scene, periodically.

    Parameters
    ----------
    photograph : Tensor
        (N, C, h, w), float32 or float64; its channels do not depend on each other.
    size : tuple of int
        H and W, multiples of 4 whose halves `periodic_spectra` takes, at least one kernel's size larger than
        h and w.
    response : Tensor
        (N, 1, B, 2, W, 16): spectra of the blur kernel.
    power : Tensor
        (N, B, W, 16): their squared magnitude.
    prior : Tensor
        (B, W, 16): |D|^2 + e.

    Returns
    -------
    Tensor
        (N, C, H, W): the photographs in the corner at the origin, and beyond them what was found.
    """
    (height, width), (rows, columns) = size, photograph.shape[-2:]
    prior = CONTINUATION_STRENGTH * prior
    mean = photograph.mean((-2, -1), keepdim=True)
    centred = photograph - mean

    # The mean of the pixels that there are, where a side is odd.
    pooled = F.avg_pool2d(centred, 2, ceil_mode=True, count_include_pad=False)
    half_size = (height // 2, width // 2)
    half_power, half_prior = (_half_resolution(values, height) for values in (power, prior))
    half_response = torch.stack([_half_resolution(part, height) for part in response.unbind(-3)], -3)
    start = _faded(pooled, half_size, half_response)
    # Pixels of half the resolution that lie within the photograph as a whole.
    mask = pooled.new_zeros(half_size)
    mask[: rows // 2, : columns // 2] = 1
    scene = _enlarged(_reblurred(start, mask, half_power, half_prior), rows, columns)
    scene[..., :rows, :columns] = centred

    result = periodic_images(periodic_spectra(scene), height, power / (power + prior))
    result[..., rows:, :] += mean
    result[..., :rows, columns:] += mean
    result[..., :rows, :columns] = photograph
    return result


def _faded(photograph: Tensor, size: tuple[int, int], response: Tensor) -> Tensor:
    """Repeat edge pixels, and fade into the circular blur of that, which a periodic scene would show.

    The photographs (N, C, h, w) are in the corner of the result (N, C, H, W).
    """
    beyond = [whole - part for whole, part in zip(size, photograph.shape[-2:], strict=True)]
    top, left = (length // 2 for length in beyond)
    bottom, right = beyond[0] - top, beyond[1] - left
    repeated = F.pad(photograph, (left, right, top, bottom), mode="replicate")
    window = edge_window(size[0], top, photograph)[:, None] * edge_window(size[1], left, photograph)
    repeated, window = repeated.roll((-top, -left), (-2, -1)), window.roll((-top, -left), (-2, -1))
    blurred = periodic_images(spectra_times(periodic_spectra(repeated), response), size[0])
    return torch.lerp(blurred, repeated, window)


def _half_resolution(values: Tensor, height: int) -> Tensor:
    """Return what belongs to the frequencies of half the resolution of (..., B, W, 16)."""
    *leading, blocks, width, lanes = values.shape
    rows = values.transpose(-1, -2).reshape(*leading, blocks * lanes, width)[..., : height // 4 + 1, :]
    kept = torch.cat([rows[..., : width // 4], rows[..., width - width // 4 :]], -1)
    blocks = spectra_blocks(height // 2)
    # Ones fill up the last block: nothing divides by 0 there.
    filled = F.pad(kept, (0, 0, 0, blocks * lanes - kept.shape[-2]), value=1.0)
    return filled.reshape(*leading, blocks, lanes, kept.shape[-1]).transpose(-1, -2).contiguous()


def _enlarged(half: Tensor, rows: int, columns: int) -> Tensor:
    """Double the size of periodic images (N, C, H / 2, W / 2), beyond the first rows and columns alone.

    Bilinearly; what lies in both the first `rows` and the first `columns` is not set.
    """
    height, width = 2 * half.shape[-2], 2 * half.shape[-1]
    enlarged = half.new_empty(*half.shape[:-2], height, width)
    row, column = rows // 2, columns // 2
    around = F.pad(half, (1, 1, 1, 1), mode="circular")
    for start, strip in (
        ((2 * row, 0), around[..., row:, :]),
        ((0, 2 * column), around[..., column:]),
    ):
        part = F.interpolate(strip, scale_factor=2.0, mode="bilinear")[..., 2:-2, 2:-2]
        enlarged[..., start[0] :, start[1] :] = part
    return enlarged


def _reblurred(start: Tensor, mask: Tensor, power: Tensor, prior: Tensor) -> Tensor:
    """Return the blur (N, C, H, W) of the scene that explains what `mask` shows of periodic images."""
    height = start.shape[-2]
    inverse = (power + prior).reciprocal()
    seen = mask * start

    # The scene is conj(K) times this spectrum. The eigenvalues of its equation are at most 1.
    scene = periodic_spectra(start) * _of_channels(inverse)
    middle, radius = (1 + SMALLEST_EIGENVALUE) / 2, (1 - SMALLEST_EIGENVALUE) / 2
    step, factor = torch.zeros_like(scene), 1 / middle
    for number in range(CONTINUATION_STEPS):
        unexplained = torch.addcmul(seen, mask, periodic_images(scene, height, power), value=-1)
        scaled = factor * inverse
        step = torch.addcmul(
            (middle * factor - 1) * step, _of_channels(scaled), periodic_spectra(unexplained)
        )
        step = torch.addcmul(step, _of_channels(scaled * prior), scene, value=-1)
        scene = scene + step
        factor = 1 / (middle - radius**2 * factor / (4 if number else 2))
    return periodic_images(scene, height, power)


def _of_channels(factor: Tensor) -> Tensor:
    """Return factors (N, B, W, 16) as they multiply spectra (N, C, B, 2, W, 16)."""
    return factor[:, None, :, None]
