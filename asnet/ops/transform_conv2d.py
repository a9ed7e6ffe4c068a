"""Convolution on CPUs: by transforms, matrix units or a product where torch is slower."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.ops import matrix_conv2d
from asnet.ops._extension import load, torch_has_matrix_units
from asnet.ops.conv2d_gradients import register_gradients
from asnet.ops.conv2d_operators import interleave_channels, output_size, register_fakes, run_operator
from asnet.ops.reused_memory import empty_maps

load()

#: Thresholds of the transforms, from benchmarks/transform_conv2d.py: (kernel, stride) and the multiplications
#: of a direct sum from which they are faster, in float32 and in 16 bits (which processors multiply twice as
#: fast).
_MULTIPLICATIONS = {(3, 1): (1e8, 4e8), (7, 1): (1.5e8, 5e8), (3, 2): (4e8, 2e10)}

#: With fewer taps per filter, or fewer filters, the transforms take more time than the products.
_TAPS, _FILTERS = 48, 16
_THIN_MULTIPLICATIONS = (5e8, 2e9)

_TORCH_HAS_MATRIX_UNITS = torch_has_matrix_units()


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | tuple[int, int] = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    *,
    relu: bool = False,
    onto: Tensor | None = None,
    interleave: bool = False,
) -> Tensor:
    """Convolution, addition and ReLU, by the fastest method.

    On CPUs, for channels-last maps, that is Winograd's method for 3x3 kernels with strides 1 and 2, Fourier
    transforms for 7x7 and a matrix product for 1x1. The transforms compute in float32. Rounding errors in
    float32 are two to three times those of a direct sum for 3x3 kernels, and smaller than those for 7x7; in
    bfloat16 and float16 the result is more accurate than torch's. On CPUs with AMX, large convolutions in
    bfloat16 are direct sums on its matrix units; other 16-bit convolutions are torch's.

    If a gradient is needed, only 3x3 kernels with stride 1 in float32 are convolved so, as is the gradient of
    x; everything else is torch's.

    Parameters
    ----------
    x : Tensor
        (N, C_in, H, W).
    weight : Tensor
        (C_out, C_in, K_y, K_x), in the dtype of x (under autocast in any).
    bias : Tensor or None
        (C_out,).
    stride : int or (int, int)
        For both directions, or (vertical, horizontal).
    padding : (int, int, int, int)
        Zeros at the left, right, top and bottom.
    relu : bool
        Whether a ReLU follows.
    onto : Tensor or None
        Added before the ReLU, with the shape of the result; it may be overwritten. Not with `interleave`.
    interleave : bool
        Whether the channels of an output pixel are the four pixels of a square, in the order row, column,
        channel.

    Returns
    -------
    Tensor
        (N, C_out, H_out, W_out), in the dtype and memory format that `torch.nn.functional.conv2d` gives; with
        `interleave` (N, C_out / 4, 2 H_out, 2 W_out), channels-last.

    Examples
    --------
    >>> x, weight = torch.rand(1, 3, 16, 16), torch.rand(8, 3, 3, 3)
    >>> conv2d(x, weight, None, padding=(1, 1, 1, 1), relu=True).shape
    torch.Size([1, 8, 16, 16])
    """
    if is_autocast(x):
        x, weight = autocast(x, weight)
        bias, onto = (None if tensor is None else tensor.to(x.dtype) for tensor in (bias, onto))
    steps = (stride, stride) if isinstance(stride, int) else stride
    if wants_gradient(x, weight, bias, onto):
        out = differentiable_conv2d(x, weight, bias, steps, padding)
        out = out if onto is None else out + onto
        out = out.relu() if relu else out
        return interleave_channels(out) if interleave else out
    operator = _faster_operator(x, weight, steps, padding)
    if operator is not None:
        return run_operator(
            operator, x, weight, bias, steps[0], padding, relu=relu, onto=onto, interleave=interleave
        )
    if _is_product(x, weight, steps, padding):
        out = _product(x, weight[:, :, 0, 0], bias)
    else:
        out = torch_conv2d(x, weight, bias, steps, padding)
    if onto is not None:
        out.add_(onto)
    out = out.relu_() if relu else out
    return interleave_channels(out) if interleave else out


def differentiable_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> Tensor:
    """The convolution by the fastest method that has derivatives."""
    is_plain = x.dtype == torch.float32 and weight.shape[2] == 3 and stride == (1, 1) and max(padding) < 3
    if is_plain and _faster_operator(x, weight, stride, padding) == "transform_conv2d":
        return run_operator(
            "transform_conv2d", x, weight, bias, 1, padding, relu=False, onto=None, interleave=False
        )
    return torch_conv2d(x, weight, bias, stride, padding)


def torch_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> Tensor:
    """The convolution of torch, which pads unequal sides only by a copy."""
    left, right, top, bottom = padding
    if left == right and top == bottom:
        return F.conv2d(x, weight, bias, stride, (top, left))
    return F.conv2d(F.pad(x, padding), weight, bias, stride)


def wants_gradient(*tensors: Tensor | None) -> bool:
    """Whether autograd records operations on these tensors."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def is_autocast(x: Tensor) -> bool:
    """Whether autocast determines the dtype in which x is convolved; it ignores float64."""
    return torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64


def autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's dtype if it is enabled; it does not cover in-place products and operators."""
    if not is_autocast(tensors[0]):
        return tensors
    dtype = torch.get_autocast_dtype(tensors[0].device.type)
    return tuple(tensor.to(dtype) for tensor in tensors)


def _faster_operator(
    x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int, int, int]
) -> str | None:
    """The operator that supports this convolution and is faster than torch, if any."""
    if x.device.type != "cpu" or x.dtype != weight.dtype:
        return None
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return None
    height, width = weight.shape[2:]
    if height != width or stride[0] != stride[1] or stride[0] > 2:
        return None
    rows, columns = output_size(x, height, stride[0], padding)
    pixels = x.shape[0] * rows * columns
    if not x.permute(0, 2, 3, 1).is_contiguous():
        return None
    if matrix_conv2d.pays(x, weight, stride[0], pixels):
        return "matrix_conv2d"
    return "transform_conv2d" if _pays(x, weight, stride[0], pixels * weight.numel()) else None


def _pays(x: Tensor, weight: Tensor, stride: int, multiplications: int) -> bool:
    """Whether the transforms support a convolution and are faster."""
    # Not bool: torch.compile of torch 2.11 supports only integers as indices.
    column = 0 if x.dtype == torch.float32 else 1
    if column == 1 and _TORCH_HAS_MATRIX_UNITS:
        return False
    if multiplications < _MULTIPLICATIONS.get((weight.shape[2], stride), (math.inf, math.inf))[column]:
        return False
    is_thin = weight[0].numel() < _TAPS or weight.shape[0] < _FILTERS
    return not is_thin or multiplications >= _THIN_MULTIPLICATIONS[column]


def _is_product(
    x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int, int, int]
) -> bool:
    """Whether a 1x1 convolution is one matrix product in this memory format: a pixel is a row."""
    if stride != (1, 1) or any(padding) or weight.shape[2:] != (1, 1):
        return False
    return x.device.type == "cpu" and x.permute(0, 2, 3, 1).is_contiguous()


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = x.permute(0, 2, 3, 1)
    out = empty_maps(x, (*rows.shape[:3], weight.shape[0]))
    if bias is None:
        torch.mm(rows.flatten(0, 2), weight.t(), out=out.flatten(0, 2))
    else:
        torch.addmm(bias, rows.flatten(0, 2), weight.t(), out=out.flatten(0, 2))
    return out.permute(0, 3, 1, 2)


register_fakes("transform_conv2d")
register_gradients()
