"""Losses on blur kernels and on images, always computed in float32."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]

#: Keeps the logarithm and its gradient finite where an estimate is 0; far below a visible kernel weight.
CROSS_ENTROPY_FLOOR = 1e-6
#: Below this error the Charbonnier loss is quadratic instead of linear, and the logarithmic loss nearly
#: constant: a quarter of a grey level of 8 bits.
ERROR_SCALE = 1e-3


def kernel_l1(estimate: Tensor, truth: Tensor) -> Tensor:
    """Sum of absolute differences of kernels (N, K, K), mean over the batch: 0 to 2 (section 3.1)."""
    return (estimate.float() - truth.float()).abs().sum((-2, -1)).mean()


def kernel_cross_entropy(estimate: Tensor, truth: Tensor) -> Tensor:
    """-sum k* log k of kernels (N, K, K) read as distributions over pixels, mean over the batch, in nats."""
    return -(truth.float() * torch.log(estimate.float() + CROSS_ENTROPY_FLOOR)).sum((-2, -1)).mean()


def image_l2(estimate: Tensor, truth: Tensor) -> Tensor:
    """Mean of the squared differences of images in [0, 1] (section 3.2)."""
    return (estimate.float() - truth.float()).square().mean()


def image_l1(estimate: Tensor, truth: Tensor) -> Tensor:
    """Mean of the absolute differences of images in [0, 1]."""
    return (estimate.float() - truth.float()).abs().mean()


def image_charbonnier(estimate: Tensor, truth: Tensor) -> Tensor:
    """Mean of sqrt(d^2 + scale^2) over the differences d of images in [0, 1]."""
    return ((estimate.float() - truth.float()).square() + ERROR_SCALE**2).sqrt().mean()


def image_log_l2(estimate: Tensor, truth: Tensor) -> Tensor:
    """Logarithm of the root mean square error of each image (N, C, H, W), mean over the batch.

    An image counts by the share of its error that goes, as in a mean PSNR. In a plain mean, images that
    cannot be restored well outweigh the others.
    """
    error = (estimate.float() - truth.float()).square() + ERROR_SCALE**2
    return 0.5 * error.flatten(1).mean(1).log().mean()


def class_cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross entropy of logits (N, C) with classes (N,) int64, mean over the batch, in nats (section 3.3)."""
    return functional.cross_entropy(logits.float(), classes)


KERNEL_LOSSES: dict[str, Loss] = {"l1": kernel_l1, "cross_entropy": kernel_cross_entropy}
IMAGE_LOSSES: dict[str, Loss] = {
    "l2": image_l2,
    "l1": image_l1,
    "charbonnier": image_charbonnier,
    "log_l2": image_log_l2,
}
