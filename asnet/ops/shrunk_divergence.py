"""The divergence of an image's large differences."""

import torch
from torch import Tensor

from asnet.errors import InputError
from asnet.ops import reference
from asnet.ops._extension import devices_with_kernel, refuse_backward
from asnet.ops.transform_conv2d import wants_gradient

_DEVICES_WITH_KERNEL = devices_with_kernel("shrunk_divergence")


def shrunk_divergence(images: Tensor, threshold: Tensor) -> Tensor:
    """Shrink the first differences of periodic images, and apply the adjoint of the differences.

    With D x the forward differences of an image x along both axes, D^T their adjoint, and e^2 the sum of
    their squares at a pixel, averaged over the channels, the result is D^T g,

        g = D x max(0, 1 - threshold / e)

    (e is at least 1e-6). It is the step of half-quadratic splitting by which a sparse deconvolution drops
    small differences (Krishnan and Fergus 2009, with soft thresholds).

    Differentiable. Operations of torch compute it if gradients are needed, and on devices without a kernel of
    asnet.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W), float32 or float64.
    threshold : Tensor
        (N,), in the dtype of `images`, at least 0.

    Returns
    -------
    Tensor
        (N, C, H, W): D^T g, in the dtype of `images`.

    Raises
    ------
    InputError
        If the shapes are not these.

    Examples
    --------
    >>> shrunk_divergence(torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]]), torch.tensor([0.25]))
    tensor([[[[-0.7500, -0.7500,  0.7500,  0.7500]]]])
    """
    if images.dim() != 4 or threshold.shape != images.shape[:1]:
        raise InputError(
            "images must have the shape (N, C, H, W) and threshold (N,), "
            f"got {tuple(images.shape)} and {tuple(threshold.shape)}"
        )
    if images.device.type not in _DEVICES_WITH_KERNEL or wants_gradient(images, threshold):
        return reference.shrunk_divergence(images, threshold)
    divergence: Tensor = torch.ops.asnet.shrunk_divergence(images, threshold)
    return divergence


def _fake(images: Tensor, threshold: Tensor) -> Tensor:
    return images.new_empty(images.shape)


torch.library.register_fake("asnet::shrunk_divergence", _fake)
refuse_backward("shrunk_divergence", instead="asnet.ops.shrunk_divergence has one")
