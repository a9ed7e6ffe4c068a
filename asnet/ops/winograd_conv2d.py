"""Convolution for inference on CPUs: Winograd's method or a matrix product where torch's is slower."""

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.errors import AsnetError
from asnet.ops._extension import load

load()

#: Where it pays, by benchmarks/winograd_conv2d.py: sides of the kernels; least taps of a filter and, in 16
#: bits, channels out; least multiplications of the whole convolution.
_KERNELS, _TAPS, _CHANNELS = (3, 7), 48, 16
_MULTIPLICATIONS = {torch.float32: 1e8, torch.bfloat16: 5e8, torch.float16: 5e8}

#: Whether torch multiplies bfloat16 matrices by AMX, which no saving of multiplications makes up for.
_HAS_MATRIX_UNITS = torch.cpu._is_amx_tile_supported()


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    *,
    relu: bool = False,
    addend: Tensor | None = None,
) -> Tensor:
    """Convolution, addition and ReLU, by the fastest way where no gradient is wanted.

    On CPUs that is Winograd's method for kernels of 3x3 and 7x7 and a matrix product for 1x1, both over
    channels-last maps. Winograd's method computes in float32. Its rounding errors are about twice those of a
    direct sum in float32 for kernels of 3x3 and five times for 7x7; in bfloat16 and float16 the result is
    closer to the truth than that of torch.

    Parameters
    ----------
    x : Tensor
        (N, C_in, H, W).
    weight : Tensor
        (C_out, C_in, K_y, K_x), in the dtype of x (under autocast in any).
    bias : Tensor or None
        (C_out,).
    stride, padding : (int, int)
        (vertical, horizontal); the padding is zeros.
    relu : bool
        Whether negative values become zero at the end.
    addend : Tensor or None
        (N, C_out, H_out, W_out), added before the ReLU.

    Returns
    -------
    Tensor
        (N, C_out, H_out, W_out), in the dtype and memory format that `torch.nn.functional.conv2d` gives.
    """
    if is_autocast(x):
        x, weight = autocast(x, weight)
        bias, addend = (None if tensor is None else tensor.to(x.dtype) for tensor in (bias, addend))
    if wants_gradient(x, weight, bias, addend):
        out = F.conv2d(x, weight, bias, stride, padding)
        out = out if addend is None else out + addend
        return out.relu() if relu else out
    if stride == (1, 1) and padding[0] == padding[1] and _pays(x, weight, padding[0]):
        pixels: Tensor = torch.ops.asnet.winograd_conv2d(
            x.permute(0, 2, 3, 1),
            weight.permute(2, 3, 1, 0).float(),
            None if bias is None else bias.float(),
            None if addend is None else addend.permute(0, 2, 3, 1),
            padding[0],
            relu,
        )
        return pixels.permute(0, 3, 1, 2)
    if stride == (1, 1) and padding == (0, 0) and _is_product(x, weight):
        out = F.linear(x.permute(0, 2, 3, 1), weight[:, :, 0, 0], bias).permute(0, 3, 1, 2)
    else:
        out = F.conv2d(x, weight, bias, stride, padding)
    if addend is not None:
        out.add_(addend)
    return out.relu_() if relu else out


def wants_gradient(*tensors: Tensor | None) -> bool:
    """Whether autograd records what is computed from these tensors."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def is_autocast(x: Tensor) -> bool:
    """Whether autocast decides in what dtype x is convolved; float64 takes no part in it."""
    return torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64


def autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's dtype where it is on; it does not know in-place products and operators."""
    if not is_autocast(tensors[0]):
        return tensors
    dtype = torch.get_autocast_dtype(tensors[0].device.type)
    return tuple(tensor.to(dtype) for tensor in tensors)


def _pays(x: Tensor, weight: Tensor, padding: int) -> bool:
    """Whether Winograd's method is there for this convolution, and faster."""
    if x.device.type != "cpu" or x.dtype not in _MULTIPLICATIONS or x.dtype != weight.dtype:
        return False
    if x.dtype != torch.float32 and (_HAS_MATRIX_UNITS or weight.shape[0] < _CHANNELS):
        return False
    height, width = weight.shape[2:]
    if height != width or height not in _KERNELS or weight[0].numel() < _TAPS:
        return False
    rows, columns = (size + 2 * padding - height + 1 for size in x.shape[2:])
    multiplications = x.shape[0] * rows * columns * weight.numel()
    return multiplications >= _MULTIPLICATIONS[x.dtype] and x.permute(0, 2, 3, 1).is_contiguous()


def _is_product(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution of 1x1 is one matrix product as the maps lie: a pixel is a row."""
    return x.device.type == "cpu" and weight.shape[2:] == (1, 1) and x.permute(0, 2, 3, 1).is_contiguous()


def _fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, addend: Tensor | None, padding: int, relu: bool
) -> Tensor:
    rows, columns = (size + 2 * padding - weight.shape[0] + 1 for size in x.shape[1:3])
    return x.new_empty((x.shape[0], rows, columns, weight.shape[3]))


def _refuse_derivative(ctx: object, *gradients: Tensor) -> None:
    raise AsnetError("asnet::winograd_conv2d has no derivative, being for inference; asnet.ops.convolve has.")


torch.library.register_fake("asnet::winograd_conv2d", _fake)
torch.library.register_autograd("asnet::winograd_conv2d", _refuse_derivative)
