"""Convolutions guided by a blur kernel: a convolution and its modulated epilogue (Eq. 1 of the paper).

If no gradient is needed, `guided_pointwise_conv2d` on CUDA is a single operator,
``asnet::guided_pointwise_conv2d``, which writes the convolution's output once, already modulated.
"""

import torch
from torch import Tensor

from asnet.errors import InputError
from asnet.ops._extension import devices_with_kernel, refuse_backward
from asnet.ops.guided_modulation import (
    Activation,
    check_maps,
    check_parameters,
    modulate,
    modulate_in_place,
    parameter_tables,
)
from asnet.ops.reused_memory import empty_maps
from asnet.ops.transform_conv2d import (
    autocast,
    conv2d,
    differentiable_conv2d,
    is_autocast,
    wants_gradient,
)

_DEVICES_WITH_POINTWISE_KERNEL = devices_with_kernel("guided_pointwise_conv2d")


def guided_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    multiplier: Tensor | None,
    shift: Tensor | None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    activation: Activation = "relu",
    onto: Tensor | None = None,
) -> Tensor:
    """Convolve and modulate: ``act((x * W + c) * (1 + m) + b)``, or ``act((x * W + c) * (1 + m) + b + r)``.

    If no gradient is needed and one blur kernel guides the whole batch, the modulation is folded into the
    convolution: weights ``W (1 + m)`` and bias ``c (1 + m) + b``. Otherwise it is one pass over the
    convolution's output, which is overwritten if no gradient is needed.

    Parameters
    ----------
    x : Tensor
        Feature maps (N, C_in, H, W), float32, float64, bfloat16 or float16, contiguous or channels-last.
    weight : Tensor
        W, (C_out, C_in, K_y, K_x), in the dtype of x (under autocast in any).
    bias : Tensor or None
        c, (C_out,).
    multiplier, shift : Tensor or None
        m and b, (N, C_out), or (1, C_out) for one blur kernel throughout the batch; None leaves the step out.
    stride, padding : int or pair of int
        (vertical, horizontal), as in `torch.nn.functional.conv2d`; the padding is zeros.
    activation : "relu" or None
        act.
    onto : Tensor, optional
        r, with the shape of the result and the dtype of x; it may be overwritten.

    Returns
    -------
    Tensor
        (N, C_out, H_out, W_out), in the dtype and memory format that `torch.nn.functional.conv2d` gives.

    Raises
    ------
    InputError
        A tensor has the wrong shape, dtype or device, the kernel does not fit into the padded maps, or the
        activation is unknown.

    Examples
    --------
    >>> x, weight, bias = torch.rand(2, 3, 16, 16), torch.rand(8, 3, 3, 3), torch.rand(8)
    >>> multiplier, shift = torch.zeros(1, 8), torch.zeros(1, 8)
    >>> guided_conv2d(x, weight, bias, multiplier, shift, padding=1).shape
    torch.Size([2, 8, 16, 16])
    """
    check_maps("x", x)
    _check_weight(x, weight, x.shape[1], activation, multiplier, shift, bias)
    stride, padding = _pair("stride", stride, 1), _pair("padding", padding, 0)
    for axis, name in enumerate(("height", "width")):
        size, kernel = x.shape[2 + axis] + 2 * padding[axis], weight.shape[2 + axis]
        if not 1 <= kernel <= size:
            raise InputError(
                f"a convolution kernel of {name} {kernel} does not fit into padded maps of {name} {size}"
            )

    if onto is not None:
        _check_onto(onto, x, weight, stride, padding)
    border = (padding[1], padding[1], padding[0], padding[0])
    modulated_activation = activation if onto is None else None
    if wants_gradient(x, weight, bias, multiplier, shift, onto):
        maps, filters = autocast(x, weight)
        convolved = differentiable_conv2d(maps, filters, None, stride, border)
        out = modulate(convolved, multiplier, shift, bias, modulated_activation)
    elif all(guide is None or guide.shape[0] == 1 for guide in (multiplier, shift)):
        weight, bias = _fold(weight, bias, multiplier, shift)
        return conv2d(x, weight, bias, stride, border, relu=activation == "relu", onto=onto)
    else:
        convolved = conv2d(x, weight, None, stride, border)
        out = modulate_in_place(convolved, multiplier, shift, bias, modulated_activation)
    if onto is None:
        return out
    out = out.add_(onto)
    return out.relu_() if activation == "relu" else out


def guided_pointwise_conv2d(
    x1: Tensor,
    x2: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    multiplier: Tensor | None,
    shift: Tensor | None,
    *,
    activation: Activation = "relu",
) -> Tensor:
    """Convolve the concatenation of two inputs with a 1x1 kernel and modulate, without concatenating.

    ``act((W [x1; x2] + c) * (1 + m) + b)`` as two matrix products, the second added in place, and one
    pass over the sum. That pass includes the activation, so folding the modulation into the weights would
    save nothing. On CUDA, if no gradient is needed, all of it is one kernel that writes only the result;
    float32 has full accuracy there, regardless of torch's TF32 settings.

    Parameters
    ----------
    x1, x2 : Tensor
        Feature maps (N, C_1, H, W) and (N, C_2, H, W), float32, float64, bfloat16 or float16, of one dtype
        (under autocast of any), contiguous or channels-last.
    weight : Tensor
        W, (C_out, C_1 + C_2) or (C_out, C_1 + C_2, 1, 1), in the dtype of x1 (under autocast in any).
    bias : Tensor or None
        c, (C_out,).
    multiplier, shift : Tensor or None
        m and b, (N, C_out), or (1, C_out) for one blur kernel throughout the batch; None leaves the step out.
    activation : "relu" or None
        act.

    Returns
    -------
    Tensor
        (N, C_out, H, W) in the memory format of x1.

    Raises
    ------
    InputError
        A tensor has the wrong shape, dtype or device, or the activation is unknown.

    Examples
    --------
    >>> x1, x2, weight = torch.rand(1, 3, 16, 16), torch.rand(1, 5, 16, 16), torch.rand(4, 8)
    >>> guided_pointwise_conv2d(x1, x2, weight, None, torch.zeros(1, 4), None).shape
    torch.Size([1, 4, 16, 16])
    """
    check_maps("x1", x1)
    check_maps("x2", x2)
    if x1.shape[0] != x2.shape[0] or x1.shape[2:] != x2.shape[2:]:
        raise InputError(
            f"x1 and x2 must agree in N, H and W, got the shapes {tuple(x1.shape)} and {tuple(x2.shape)}"
        )
    if weight.dim() == 2:
        weight = weight[:, :, None, None]
    if weight.shape[2:] != (1, 1):
        raise InputError(
            f"weight must be of shape (C_out, C_in) or (C_out, C_in, 1, 1), got {tuple(weight.shape)}"
        )
    _check_weight(x1, weight, x1.shape[1] + x2.shape[1], activation, multiplier, shift, bias)
    _check_companion(x1, "x2", x2)

    factors = autocast(x1, x2, weight[:, :, 0, 0])
    if wants_gradient(x1, x2, weight, bias, multiplier, shift):
        return modulate(_pointwise_product(*factors), multiplier, shift, bias, activation)
    if x1.device.type in _DEVICES_WITH_POINTWISE_KERNEL:
        tables = parameter_tables(factors[0], weight.shape[0], multiplier, shift, bias)
        out: Tensor = torch.ops.asnet.guided_pointwise_conv2d(*factors, *tables, activation == "relu")
        return out
    return modulate_in_place(_pointwise_product(*factors), multiplier, shift, bias, activation)


def _pointwise_product(x1: Tensor, x2: Tensor, weight: Tensor) -> Tensor:
    """W [x1; x2]. Two products are faster than a convolution, which would reorder its input."""
    weight1, weight2 = weight[:, : x1.shape[1]], weight[:, x1.shape[1] :]
    (N, _, H, W), C_out = x1.shape, weight.shape[0]
    recorded = wants_gradient(x1, x2, weight)
    if x1.is_contiguous():
        x2 = x2.contiguous()
        out = None if recorded else empty_maps(x1, (N, C_out, H * W))
        product = torch.bmm(weight1.expand(N, -1, -1), x1.flatten(2), out=out)
        return product.baddbmm_(weight2.expand(N, -1, -1), x2.flatten(2)).view(N, C_out, H, W)
    # In channels-last memory a pixel is a row.
    rows1, rows2 = (x.permute(0, 2, 3, 1).flatten(0, 2) for x in (x1, x2))
    out = None if recorded else empty_maps(x1, (N * H * W, C_out))
    product = torch.mm(rows1, weight1.t(), out=out).addmm_(rows2, weight2.t())
    return product.view(N, H, W, C_out).permute(0, 3, 1, 2)


def _fold(
    weight: Tensor, bias: Tensor | None, multiplier: Tensor | None, shift: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Weights and bias of the convolution that equals the guided one for one blur kernel."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    folded_weight, folded_bias = weight, bias
    if multiplier is not None:
        scale = 1 + multiplier[0].to(dtype)
        folded_weight = (weight * scale[:, None, None, None]).to(weight.dtype)
        folded_bias = None if bias is None else bias * scale
    if shift is not None:
        folded_bias = shift[0].to(dtype) if folded_bias is None else folded_bias + shift[0].to(dtype)
    return folded_weight, None if folded_bias is None else folded_bias.to(weight.dtype)


def _pair(name: str, value: int | tuple[int, int], minimum: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(number, int) and number >= minimum for number in pair):
        raise InputError(f"{name} must be an integer of at least {minimum} or a pair of them, got {value!r}")
    return pair


def _check_onto(
    onto: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    sides = [
        (x.shape[2 + axis] + 2 * padding[axis] - weight.shape[2 + axis]) // stride[axis] + 1
        for axis in range(2)
    ]
    if onto.shape != (x.shape[0], weight.shape[0], *sides):
        raise InputError(
            f"onto must have the shape of the result, {(x.shape[0], weight.shape[0], *sides)}, "
            f"got {tuple(onto.shape)}"
        )
    _check_companion(x, "onto", onto)


def _check_weight(
    x: Tensor,
    weight: Tensor,
    in_channels: int,
    activation: Activation,
    multiplier: Tensor | None,
    shift: Tensor | None,
    bias: Tensor | None,
) -> None:
    if weight.dim() != 4 or weight.shape[1] != in_channels:
        raise InputError(
            f"weight must have the shape (C_out, {in_channels}, K_y, K_x), got {tuple(weight.shape)}"
        )
    _check_companion(x, "weight", weight)
    check_parameters(x, weight.shape[0], multiplier, shift, activation, bias=bias)


def _check_companion(x: Tensor, name: str, tensor: Tensor) -> None:
    """Raise `InputError` unless `tensor` is compatible with the maps x in a convolution."""
    if tensor.device != x.device:
        raise InputError(f"{name} is on {tensor.device}, the feature maps are on {x.device}")
    if tensor.dtype != x.dtype and not is_autocast(x):
        raise InputError(f"{name} must have the dtype of the feature maps, {x.dtype}, got {tensor.dtype}")


def _pointwise_fake(
    x1: Tensor,
    x2: Tensor,
    weight: Tensor,
    multiplier: Tensor | None,
    shift: Tensor | None,
    conv_bias: Tensor | None,
    relu: bool,
) -> Tensor:
    channels_last = not x1.is_contiguous() and x1.is_contiguous(memory_format=torch.channels_last)
    return torch.empty(
        (x1.shape[0], weight.shape[0], *x1.shape[2:]),
        dtype=x1.dtype,
        device=x1.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )


torch.library.register_fake("asnet::guided_pointwise_conv2d", _pointwise_fake)
refuse_backward("guided_pointwise_conv2d", instead="asnet.ops.guided_pointwise_conv2d has a backward")
