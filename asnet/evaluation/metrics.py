"""Metrics of restored images and of estimated blur kernels; batched, on any torch device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from asnet.errors import InputError
from asnet.networks.kernel_grids import similarity
from asnet.networks.kernel_rounds import grown

_SSIM_WINDOW = 11
_SSIM_DEVIATION = 1.5

# Difference of neighbouring pixels below which a place is flat, and from which it is a strong edge.
_FLAT_STEP = 0.02
_STRONG_STEP = 0.15


def psnr(estimate: Tensor, ground_truth: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Return the peak signal-to-noise ratio of each image.

    Parameters
    ----------
    estimate, ground_truth
        (N, C, H, W), of the same shape.
    data_range
        Distance of white from black.

    Returns
    -------
    Tensor
        (N,) in dB; infinite for equal images.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    _check_same_shape(estimate, ground_truth)
    error = (estimate - ground_truth).square().mean(dim=(1, 2, 3))
    return 10.0 * torch.log10(data_range**2 / error)


def ssim(estimate: Tensor, ground_truth: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Return the structural similarity of each image (Wang et al. 2004).

    Gaussian window of 11x11 pixels and standard deviation 1.5, population covariances, constants 0.01 and
    0.03, mean over the channels and over all pixels whose window lies inside the image.

    Parameters
    ----------
    estimate, ground_truth
        (N, C, H, W), of the same shape, H and W at least 11.
    data_range
        Distance of white from black.

    Returns
    -------
    Tensor
        (N,), 1 for equal images.

    Raises
    ------
    InputError
        If the shapes differ or the images are smaller than the window.
    """
    _check_same_shape(estimate, ground_truth)
    if min(estimate.shape[-2:]) < _SSIM_WINDOW:
        height, width = estimate.shape[-2:]
        raise InputError(
            f"SSIM needs images of at least {_SSIM_WINDOW}x{_SSIM_WINDOW} pixels, got {width}x{height}"
        )
    mean_x, mean_y = _window_mean(estimate), _window_mean(ground_truth)
    variance_x = _window_mean(estimate.square()) - mean_x.square()
    variance_y = _window_mean(ground_truth.square()) - mean_y.square()
    covariance = _window_mean(estimate * ground_truth) - mean_x * mean_y
    luminance_floor, contrast_floor = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    numerator = (2.0 * mean_x * mean_y + luminance_floor) * (2.0 * covariance + contrast_floor)
    denominator = (mean_x.square() + mean_y.square() + luminance_floor) * (
        variance_x + variance_y + contrast_floor
    )
    return (numerator / denominator).mean(dim=(1, 2, 3))


def ring_error(estimate: Tensor, ground_truth: Tensor, *, distance: int = 24) -> Tensor:
    """Return the root-mean-square error where the ground truth is flat, near its strong edges.

    There, deconvolution leaves visible rings that hardly affect the error over the whole image. An area is
    flat where the luminance of neighbouring pixels differs by less than 0.02 throughout 5x5 pixels; a strong
    edge is a difference of 0.15 or more.

    Parameters
    ----------
    estimate, ground_truth
        (N, C, H, W) in [0, 1], of the same shape.
    distance
        Largest distance from an edge in pixels, along each axis.

    Returns
    -------
    Tensor
        (N,), in the unit of the images; NaN for an image without such pixels.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    _check_same_shape(estimate, ground_truth)
    grey = functional.pad(ground_truth.mean(dim=1, keepdim=True), (0, 1, 0, 1), mode="replicate")
    steps = torch.maximum(
        (grey[..., :-1, 1:] - grey[..., :-1, :-1]).abs(), (grey[..., 1:, :-1] - grey[..., :-1, :-1]).abs()
    )
    flat = functional.max_pool2d(steps, 5, stride=1, padding=2) < _FLAT_STEP
    place = flat & grown(steps >= _STRONG_STEP, distance)
    error = (estimate - ground_truth).square().mean(dim=1, keepdim=True)
    total = (error * place).sum(dim=(1, 2, 3))
    return (total / place.sum(dim=(1, 2, 3))).sqrt()


def kernel_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the maximum over all shifts of the normalised cross-correlation (Hu and Yang 2012).

    ``max_s sum_x a(x) b(x + s) / (|a| |b|)``, zeros outside the kernels. It is invariant to a shift, which
    deblurring cannot determine, and to scale, but not to a flip.

    Parameters
    ----------
    a, b
        (N, Ka, Ka) and (N, Kb, Kb).

    Returns
    -------
    Tensor
        (N,); 1 for kernels equal up to a shift, 0 if either is zero.

    Raises
    ------
    InputError
        If either is not a batch of kernels, or the batches differ.
    """
    if a.ndim != 3 or b.ndim != 3 or a.shape[0] != b.shape[0]:
        raise InputError(
            "blur kernels to compare must be (N, K, K) of the same N, "
            f"not {tuple(a.shape)} and {tuple(b.shape)}"
        )
    return similarity(a, b)


def self_symmetry(kernel: Tensor) -> Tensor:
    """Return the `kernel_similarity` of each blur kernel (N, K, K) with its flip by 180 degrees, (N,).

    Values near 1 for estimates of asymmetric kernels show that an estimator averages over the flip, which
    autocorrelations cannot resolve.
    """
    return kernel_similarity(kernel, kernel.flip(-2, -1))


def _check_same_shape(estimate: Tensor, ground_truth: Tensor) -> None:
    if estimate.shape != ground_truth.shape or estimate.ndim != 4:
        raise InputError(
            f"images to compare must have the same shape (N, C, H, W), "
            f"not {tuple(estimate.shape)} and {tuple(ground_truth.shape)}"
        )


def _window_mean(image: Tensor) -> Tensor:
    offset = torch.arange(_SSIM_WINDOW, device=image.device, dtype=image.dtype) - _SSIM_WINDOW // 2
    window = torch.exp(-0.5 * (offset / _SSIM_DEVIATION).square())
    window = (window / window.sum()).expand(image.shape[1], 1, 1, -1)
    rows = functional.conv2d(image, window, groups=image.shape[1])
    return functional.conv2d(rows, window.transpose(-2, -1), groups=image.shape[1])
