"""Derivatives of ``transform_conv2d``, with which `asnet.ops.conv2d` trains on CPUs."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.errors import AsnetError

#: Pixels in one product: what it reads stays in the cache of a core while all taps read it.
_PIXELS = 2048

Inputs = tuple[Tensor, Tensor, Tensor | None, int, int, int, int, int, int, bool]


def register_gradients() -> None:
    """Register the derivatives of the operator for what training uses: stride 1 and nothing that follows."""
    torch.library.register_autograd("asnet::transform_conv2d", _backward, setup_context=_save)


def _save(ctx: Any, inputs: Inputs, output: Tensor) -> None:
    x, weight, bias, ctx.top, ctx.left, _, _, stride, interleave, relu = inputs
    ctx.is_plain = stride == 1 and interleave == 1 and not relu and max(ctx.top, ctx.left) < weight.shape[0]
    ctx.has_bias = bias is not None
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    if not ctx.is_plain:
        raise AsnetError(
            "asnet::transform_conv2d is inference-only with a stride, interleaved channels, a ReLU or as "
            "much padding as the kernel; asnet.ops.conv2d has a backward."
        )
    x, weight = ctx.saved_tensors
    of_x = of_weight = of_bias = None
    grad = grad.contiguous()
    if ctx.needs_input_grad[0]:
        border = weight.shape[0] - 1
        turned = weight.flip(0, 1).transpose(2, 3).contiguous()
        of_x = torch.ops.asnet.transform_conv2d(
            grad, turned, None, border - ctx.top, border - ctx.left, *x.shape[1:3], 1, 1, False
        )
    if ctx.needs_input_grad[1]:
        of_weight = _weight_gradient(x, grad, weight.shape[0], ctx.top, ctx.left)
    if ctx.has_bias and ctx.needs_input_grad[2]:
        of_bias = grad.sum((0, 1, 2), dtype=torch.float32)
    return of_x, of_weight, of_bias, *[None] * 7


def _weight_gradient(x: Tensor, grad: Tensor, size: int, top: int, left: int) -> Tensor:
    """Sum, for each tap, the pixels of x (N, H, W, C_in) times those of `grad` (N, R, S, C_out).

    On one grid of R + K - 1 by S + K - 1 pixels for both, with zeros where there is nothing, a tap shifts all
    pixels of a batch by the same number: its sum is a product of matrices with a pixel in each row, and no
    pixels are copied for it.
    """
    rows, columns = grad.shape[1] + size - 1, grad.shape[2] + size - 1
    bottom, right = rows - top - x.shape[1], columns - left - x.shape[2]
    pixels = F.pad(x.float(), (0, 0, left, right, top, bottom)).flatten(0, 2)
    gradients = F.pad(grad.float(), (0, 0, 0, size - 1, 0, size - 1)).flatten(0, 2)
    shifts = [row * columns + column for row in range(size) for column in range(size)]
    total = pixels.new_zeros(size * size, x.shape[3], grad.shape[3])
    # The last pixels of the grid are zeros of `gradients`.
    for start in range(0, len(pixels) - shifts[-1], _PIXELS):
        stop = min(start + _PIXELS, len(pixels) - shifts[-1])
        for tap, shift in enumerate(shifts):
            total[tap].addmm_(pixels[start + shift : stop + shift].t(), gradients[start:stop])
    return total.view(size, size, *total.shape[1:])
