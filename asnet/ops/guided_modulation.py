"""Guided modulation, the epilogue of a convolution guided by a blur kernel (Eq. 1 of the paper).

The operator takes its parameters in its accumulation type (float32, or float64 for float64 maps); they are
converted here, where autograd records it. One map is saved for the backward pass: the input if the gradient
of the multiplier is needed, otherwise the output, which the next convolution saves anyway and whose sign is
the mask of the ReLU.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from asnet.errors import AsnetError, InputError
from asnet.ops import reference
from asnet.ops._extension import devices_with_kernel

Activation = Literal["relu"] | None

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

_DEVICES_WITH_KERNEL = devices_with_kernel("guided_modulation")


def guided_modulation(
    x: Tensor,
    multiplier: Tensor | None,
    shift: Tensor | None,
    *,
    conv_bias: Tensor | None = None,
    activation: Activation = "relu",
) -> Tensor:
    """Modulate feature maps channel by channel: ``act((x + c) * (1 + m) + b)``, in one pass over memory.

    Differentiable in every tensor argument; there is no double backward. Results have the same bits for any
    number of threads. A device without a kernel of asnet runs the operations of `asnet.ops.reference`.

    Parameters
    ----------
    x : Tensor
        Feature maps (N, C, H, W), float32, float64, bfloat16 or float16, in any memory format.
    multiplier : Tensor or None
        m, (N, C), or (1, C) for one blur kernel throughout the batch; None for no multiplication. No wider
        than float32, or float64 if x is.
    shift : Tensor or None
        b, shaped like `multiplier`; None for no addition.
    conv_bias : Tensor, optional
        c, (C,): the bias of the convolution before.
    activation : "relu" or None
        act.

    Returns
    -------
    Tensor
        (N, C, H, W) in the dtype and the memory format of x (contiguous if x is neither contiguous nor
        channels-last).

    Raises
    ------
    InputError
        A tensor has the wrong shape, dtype or device, or the activation is unknown.

    Notes
    -----
    Eq. 1 of Kaufman and Fattal (CVPR 2020), with the bias before and the ReLU after it. Accumulated in
    float32 (float64 for float64); under autocast the result keeps the dtype of x.

    Examples
    --------
    >>> x = torch.ones(1, 2, 1, 1)
    >>> guided_modulation(x, multiplier=torch.tensor([[1.0, -3.0]]), shift=None).flatten()
    tensor([2., 0.])
    """
    check_maps("x", x)
    check_parameters(x, x.shape[1], multiplier, shift, activation, conv_bias=conv_bias)
    return modulate(x, multiplier, shift, conv_bias, activation)


def check_maps(name: str, maps: Tensor) -> None:
    """Raise `InputError` unless `maps` are feature maps (N, C, H, W) of a supported dtype."""
    if maps.dim() != 4:
        raise InputError(
            f"{name} must be feature maps of shape (N, C, H, W), got the shape {tuple(maps.shape)}"
        )
    if maps.dtype not in _DTYPES:
        raise InputError(f"{name} must be float32, float64, bfloat16 or float16, got {maps.dtype}")


def check_parameters(
    x: Tensor,
    channels: int,
    multiplier: Tensor | None,
    shift: Tensor | None,
    activation: Activation,
    **vectors: Tensor | None,
) -> None:
    """Raise `InputError` unless the parameters fit `channels` maps of the batch x; `vectors`: (channels,)."""
    if activation not in ("relu", None):
        raise InputError(f'activation must be "relu" or None, got {activation!r}')
    for name, guide in (("multiplier", multiplier), ("shift", shift)):
        if guide is None:
            continue
        if guide.dim() != 2 or guide.shape[1] != channels or guide.shape[0] not in (1, x.shape[0]):
            raise InputError(
                f"{name} must have the shape ({x.shape[0]}, {channels}) or (1, {channels}), "
                f"got {tuple(guide.shape)}"
            )
    for name, vector in vectors.items():
        if vector is not None and vector.shape != (channels,):
            raise InputError(f"{name} must have the shape ({channels},), got {tuple(vector.shape)}")
    for name, parameter in (("multiplier", multiplier), ("shift", shift), *vectors.items()):
        if parameter is None:
            continue
        if parameter.device != x.device:
            raise InputError(f"{name} is on {parameter.device}, the feature maps are on {x.device}")
        widest = _accumulation_dtype(x)
        if parameter.dtype not in _DTYPES or torch.promote_types(parameter.dtype, widest) != widest:
            raise InputError(
                f"{name} must be a floating-point tensor no wider than {widest} beside {x.dtype} maps, "
                f"got {parameter.dtype}"
            )


def modulate(
    x: Tensor,
    multiplier: Tensor | None,
    shift: Tensor | None,
    conv_bias: Tensor | None,
    activation: Activation,
) -> Tensor:
    """`guided_modulation` of checked arguments."""
    if x.device.type not in _DEVICES_WITH_KERNEL:
        return reference.guided_modulation(x, multiplier, shift, conv_bias=conv_bias, activation=activation)
    tables = parameter_tables(x, x.shape[1], multiplier, shift, conv_bias)
    return torch.ops.asnet.guided_modulation(x, *tables, activation == "relu")  # type: ignore[no-any-return]


def modulate_in_place(
    x: Tensor,
    multiplier: Tensor | None,
    shift: Tensor | None,
    conv_bias: Tensor | None,
    activation: Activation,
) -> Tensor:
    """`modulate` that overwrites x, which is dense and outside of any autograd graph, and returns it."""
    if x.device.type not in _DEVICES_WITH_KERNEL:
        return reference.guided_modulation(x, multiplier, shift, conv_bias=conv_bias, activation=activation)
    tables = parameter_tables(x, x.shape[1], multiplier, shift, conv_bias)
    torch.ops.asnet.guided_modulation_(x, *tables, activation == "relu")
    return x


def _accumulation_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def parameter_tables(
    x: Tensor, channels: int, multiplier: Tensor | None, shift: Tensor | None, conv_bias: Tensor | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The parameters as the operators take them: (N, C), (N, C) and (C,) in the accumulation dtype."""
    dtype, size = _accumulation_dtype(x), (x.shape[0], channels)
    return (
        None if multiplier is None else multiplier.to(dtype).expand(size),
        None if shift is None else shift.to(dtype).expand(size),
        None if conv_bias is None else conv_bias.to(dtype),
    )


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)


def _forward_fake(
    x: Tensor, multiplier: Tensor | None, shift: Tensor | None, conv_bias: Tensor | None, relu: bool
) -> Tensor:
    return torch.empty_like(
        x, memory_format=torch.preserve_format if _is_dense(x) else torch.contiguous_format
    )


def _forward_in_place_fake(
    x: Tensor, multiplier: Tensor | None, shift: Tensor | None, conv_bias: Tensor | None, relu: bool
) -> None:
    return None


def _backward_fake(
    grad: Tensor,
    x: Tensor | None,
    output: Tensor | None,
    multiplier: Tensor | None,
    shift: Tensor | None,
    conv_bias: Tensor | None,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    kept = grad
    if x is not None:
        kept = x
    elif relu and output is not None:
        kept = output
    grad_x = _forward_fake(kept, None, None, None, relu)
    size, dtype = (grad.shape[0], grad.shape[1]), _accumulation_dtype(grad)
    grad_shift = grad.new_empty(size, dtype=dtype)
    grad_multiplier = grad.new_empty((0, size[1]) if x is None else size, dtype=dtype)
    return grad_x, grad_multiplier, grad_shift


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, multiplier, shift, conv_bias, ctx.relu = inputs
    needs_input = ctx.needs_input_grad[1]
    ctx.save_for_backward(
        x if needs_input else None,
        output if ctx.relu and not needs_input else None,
        multiplier,
        shift,
        conv_bias,
    )


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, output, multiplier, shift, conv_bias = ctx.saved_tensors
    grad_x, grad_multiplier, grad_shift = torch.ops.asnet.guided_modulation_backward(
        grad, x, output, multiplier, shift, conv_bias, ctx.relu
    )
    grad_conv_bias = None
    if ctx.needs_input_grad[3]:
        scaled = grad_shift if multiplier is None else torch.addcmul(grad_shift, grad_shift, multiplier)
        grad_conv_bias = scaled.sum(0)
    return (
        grad_x,
        grad_multiplier if ctx.needs_input_grad[1] else None,
        grad_shift if ctx.needs_input_grad[2] else None,
        grad_conv_bias,
        None,
    )


def _refuse_double_backward(ctx: Any, *gradients: Tensor) -> None:
    raise AsnetError(
        "guided_modulation has no double backward; asnet.ops.reference.guided_modulation has one."
    )


torch.library.register_fake("asnet::guided_modulation", _forward_fake)
torch.library.register_fake("asnet::guided_modulation_", _forward_in_place_fake)
torch.library.register_fake("asnet::guided_modulation_backward", _backward_fake)
torch.library.register_autograd("asnet::guided_modulation", _backward, setup_context=_setup_context)
torch.library.register_autograd("asnet::guided_modulation_backward", _refuse_double_backward)
