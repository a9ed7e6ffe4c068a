"""The operators as their formulas read: plain torch operations, slow, differentiable any number of times."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def guided_modulation(
    x: Tensor,
    multiplier: Tensor | None,
    shift: Tensor | None,
    *,
    conv_bias: Tensor | None = None,
    activation: Literal["relu"] | None = "relu",
) -> Tensor:
    """``act((x + c) * (1 + m) + b)`` (Eq. 1): see `asnet.ops.guided_modulation`."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    z = x.to(dtype)
    if conv_bias is not None:
        z = z + conv_bias[:, None, None]
    if multiplier is not None:
        z = z * (1 + multiplier[:, :, None, None])
    if shift is not None:
        z = z + shift[:, :, None, None]
    return (torch.relu(z) if activation == "relu" else z).to(x.dtype)


def guided_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    multiplier: Tensor | None,
    shift: Tensor | None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    activation: Literal["relu"] | None = "relu",
) -> Tensor:
    """A convolution and its modulation, one after the other: see `asnet.ops.guided_conv2d`."""
    convolved = F.conv2d(x, weight, None, stride, padding)
    return guided_modulation(convolved, multiplier, shift, conv_bias=bias, activation=activation)


def guided_pointwise_conv2d(
    x1: Tensor,
    x2: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    multiplier: Tensor | None,
    shift: Tensor | None,
    *,
    activation: Literal["relu"] | None = "relu",
) -> Tensor:
    """A 1x1 convolution of the concatenation and its modulation: see `asnet.ops.guided_pointwise_conv2d`."""
    concatenation = torch.cat([x1, x2], dim=1)
    return guided_conv2d(
        concatenation, weight.view(weight.shape[0], -1, 1, 1), bias, multiplier, shift, activation=activation
    )
