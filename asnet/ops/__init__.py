"""Operators of asnet: hand-written kernels behind plain functions on tensors."""

from asnet.ops.cross_correlation import append_flipped_pairs, cross_correlation
from asnet.ops.guided_conv import guided_conv2d, guided_pointwise_conv2d
from asnet.ops.guided_modulation import guided_modulation

__all__ = [
    "append_flipped_pairs",
    "cross_correlation",
    "guided_conv2d",
    "guided_modulation",
    "guided_pointwise_conv2d",
]
