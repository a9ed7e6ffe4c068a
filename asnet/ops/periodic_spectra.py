"""Fourier transforms of real periodic images, in a layout that suits both the transform and vectors."""

from typing import Any

import torch
from torch import Tensor

from asnet.errors import InputError
from asnet.ops import reference
from asnet.ops._extension import devices_with_kernel
from asnet.ops.reference import SPECTRA_BLOCK, spectra_blocks, spectra_rows

_DEVICES_WITH_KERNEL = devices_with_kernel("periodic_spectra")


def periodic_spectra(images: Tensor) -> Tensor:
    """Transform real images along both axes.

    The vertical frequencies ky = 0 ... H / 2, which determine the spectrum of a real image, are in blocks of
    16, with real and imaginary parts apart; of the horizontal ones there are all, kx = 0 ... W - 1. Spectra
    are added, and multiplied by real factors (B, 1, W, 16), like any other tensors.

    Differentiable any number of times. Torch's transforms compute it on devices without a kernel of asnet.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W), float32 or float64; H and W are products of 2, 3 and 5.

    Returns
    -------
    Tensor
        (N, C, B, 2, W, 16), B = ceil((H // 2 + 1) / 16): the sum over the pixels of
        image[y, x] exp(-2 pi i (ky y / H + kx x / W)), at [ky // 16, 0 or 1, kx, ky % 16]; 0 where
        ky > H / 2. In the dtype of `images`.

    Raises
    ------
    InputError
        If `images` has another shape, or a side is no product of 2, 3 and 5.

    Examples
    --------
    >>> periodic_spectra(torch.ones(1, 3, 48, 64)).shape
    torch.Size([1, 3, 2, 2, 64, 16])
    """
    if images.dim() != 4 or not all(is_transform_length(length) for length in images.shape[2:]):
        raise InputError(
            "images must have the shape (N, C, H, W) with products of 2, 3 and 5 for H and W, "
            f"got {tuple(images.shape)}"
        )
    if images.device.type not in _DEVICES_WITH_KERNEL:
        return reference.periodic_spectra(images)
    spectra: Tensor = torch.ops.asnet.periodic_spectra(images)
    return spectra


def periodic_images(spectra: Tensor, height: int, factor: Tensor | None = None) -> Tensor:
    """Transform spectra back to images: the inverse of `periodic_spectra`.

    At ky = 0 and ky = H / 2, the spectrum of a real image has the same real part and the opposite imaginary
    part at kx and -kx; of other spectra, what contradicts this is ignored.

    Differentiable, like `periodic_spectra`.

    Parameters
    ----------
    spectra : Tensor
        (N, C, B, 2, W, 16) as of `periodic_spectra`; what it has for ky > H / 2 is ignored.
    height : int
        H.
    factor : Tensor, optional
        (N, B, W, 16), in the dtype of `spectra`: real, multiplies the spectra of all channels first.

    Returns
    -------
    Tensor
        (N, C, H, W), in the dtype of `spectra`.

    Raises
    ------
    InputError
        If the shapes do not fit each other or `height`, or a side is no product of 2, 3 and 5.

    Examples
    --------
    >>> images = torch.rand(1, 3, 48, 64)
    >>> torch.allclose(periodic_images(periodic_spectra(images), 48), images, atol=1e-6)
    True
    """
    blocks = spectra_blocks(height)
    if spectra.dim() != 6 or spectra.shape[2] != blocks or spectra.shape[3::2] != (2, SPECTRA_BLOCK):
        raise InputError(
            f"spectra of images {height} pixels high must have the shape "
            f"(N, C, {blocks}, 2, W, {SPECTRA_BLOCK}), got {tuple(spectra.shape)}"
        )
    width = spectra.shape[4]
    if not is_transform_length(height) or not is_transform_length(width):
        raise InputError(f"the sides of images must be products of 2, 3 and 5, got {height} and {width}")
    if factor is not None and factor.shape != (spectra.shape[0], blocks, width, SPECTRA_BLOCK):
        raise InputError(
            f"factor must have the shape {(spectra.shape[0], blocks, width, SPECTRA_BLOCK)}, "
            f"got {tuple(factor.shape)}"
        )
    if spectra.device.type not in _DEVICES_WITH_KERNEL:
        return reference.periodic_images(spectra, height, factor)
    images: Tensor = torch.ops.asnet.periodic_images(spectra, factor, height)
    return images


def is_transform_length(length: int) -> bool:
    """Whether transforms have kernels for this number of pixels: a product of 2, 3 and 5."""
    # The largest powers below 2^63.
    return length > 0 and (2**62 * 3**39 * 5**27) % length == 0


def _fake_spectra(images: Tensor) -> Tensor:
    batch, channels, height, width = images.shape
    return images.new_empty(batch, channels, spectra_blocks(height), 2, width, SPECTRA_BLOCK)


def _fake_images(spectra: Tensor, factor: Tensor | None, height: int) -> Tensor:
    return spectra.new_empty(spectra.shape[0], spectra.shape[1], height, spectra.shape[4])


def _counts(height: int, spectra: Tensor) -> Tensor:
    """Return how often a sum over all frequencies has those of ky, (B, 1, 16): 1 at 0 and H / 2, else 2."""
    rows = spectra_rows(height, spectra.device)
    is_single = (rows == 0) | (2 * rows == height)
    return 2 - is_single.to(spectra.dtype)


def _save_images(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.height, ctx.width = inputs[0].shape[2:]


def _spectra_backward(ctx: Any, grad: Tensor) -> Tensor:
    # The adjoint sums over the frequencies that are there, the inverse over all, divided by H W.
    factor = ctx.height * ctx.width / _counts(ctx.height, grad)
    return periodic_images(grad, ctx.height, factor.expand(len(grad), -1, ctx.width, -1))


def _save_spectra(ctx: Any, inputs: tuple[Tensor, Tensor | None, int], output: Tensor) -> None:
    spectra, factor, ctx.height = inputs
    ctx.save_for_backward(spectra if ctx.needs_input_grad[1] else None, factor)


def _images_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    spectra, factor = ctx.saved_tensors
    gradient = periodic_spectra(grad)
    share = _counts(ctx.height, gradient) / (ctx.height * gradient.shape[4])
    of_factor = None
    if spectra is not None:
        of_factor = torch.zeros_like(factor)
        # Part by part: a whole product would fill much fresh memory.
        for channel in range(spectra.shape[1]):
            for part in range(2):
                of_factor.addcmul_(gradient[:, channel, :, part], spectra[:, channel, :, part])
        of_factor = of_factor * share
    if not ctx.needs_input_grad[0]:
        return None, of_factor, None
    scale = share[:, None] if factor is None else (factor * share)[:, None, :, None]
    return gradient * scale, of_factor, None


torch.library.register_fake("asnet::periodic_spectra", _fake_spectra)
torch.library.register_fake("asnet::periodic_images", _fake_images)
torch.library.register_autograd("asnet::periodic_spectra", _spectra_backward, setup_context=_save_images)
torch.library.register_autograd("asnet::periodic_images", _images_backward, setup_context=_save_spectra)
