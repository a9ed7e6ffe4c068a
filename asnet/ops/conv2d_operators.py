"""Calls and registration, shared by the convolution operators.

``transform_conv2d`` and ``matrix_conv2d`` take channels-last maps on the CPU, and each has a variant
``.._add_`` that adds the convolution to existing maps.
"""

import torch
from torch import Tensor

#: The channels of an interleaved result are a multiple of this.
_INTERLEAVED_CHANNELS = 16


def run_operator(
    name: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: tuple[int, int, int, int],
    *,
    relu: bool,
    onto: Tensor | None,
    interleave: bool,
) -> Tensor:
    """Convolve with the operator of this name; the other parameters are those of `asnet.ops.conv2d`."""
    operands = (
        x.permute(0, 2, 3, 1),
        weight.permute(2, 3, 1, 0).float(),
        None if bias is None else bias.float(),
        padding[2],
        padding[0],
    )
    if onto is not None:
        total = onto.permute(0, 2, 3, 1).contiguous()
        getattr(torch.ops.asnet, f"{name}_add_")(total, *operands, stride, relu)
        return total.permute(0, 3, 1, 2)
    at_once = interleave and weight.shape[0] % (4 * _INTERLEAVED_CHANNELS) == 0
    size = output_size(x, weight.shape[2], stride, padding)
    factor = 2 if at_once else 1
    pixels: Tensor = getattr(torch.ops.asnet, name)(*operands, *size, stride, factor, relu)
    out = pixels.permute(0, 3, 1, 2)
    return interleave_channels(out) if interleave and not at_once else out


def output_size(x: Tensor, kernel: int, stride: int, padding: tuple[int, int, int, int]) -> tuple[int, int]:
    """Height and width of a convolution's result."""
    left, right, top, bottom = padding
    height, width = x.shape[2] + top + bottom, x.shape[3] + left + right
    return (height - kernel) // stride + 1, (width - kernel) // stride + 1


def interleave_channels(out: Tensor) -> Tensor:
    """Make the channels of a pixel (row phase, column phase, channel) the pixels of a square."""
    # The two column phases of a pixel are neighbours in channels-last memory, before and after interleaving
    # rows.
    (N, C, H, W), pixels = out.shape, out.permute(0, 2, 3, 1)
    rows = pixels.reshape(N, H, W, 2, C // 2).transpose(2, 3)
    return rows.reshape(N, 2 * H, 2 * W, C // 4).permute(0, 3, 1, 2)


def register_fakes(name: str) -> None:
    """Register fake implementations of an operator and its in-place variant."""
    torch.library.register_fake(f"asnet::{name}", _fake)
    torch.library.register_fake(f"asnet::{name}_add_", _add_fake)


def _fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    top: int,
    left: int,
    rows: int,
    columns: int,
    stride: int,
    interleave: int,
    relu: bool,
) -> Tensor:
    channels = weight.shape[3] // interleave**2
    return x.new_empty((x.shape[0], rows * interleave, columns * interleave, channels))


def _add_fake(
    total: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    top: int,
    left: int,
    stride: int,
    relu: bool,
) -> None:
    return None
