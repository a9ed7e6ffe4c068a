"""Operators of asnet: functions on tensors with hand-written kernels, and the same as layers."""

from asnet.ops.cross_correlation import append_flipped_pairs, cross_correlation
from asnet.ops.guided_conv import guided_conv2d, guided_pointwise_conv2d
from asnet.ops.guided_modulation import guided_modulation
from asnet.ops.label_parts import label_parts
from asnet.ops.modules import CrossCorrelation2d, GuidedConv2d
from asnet.ops.reused_memory import empty_maps, reused_memory
from asnet.ops.sparse_latent import sparse_latent
from asnet.ops.toeplitz_solve import toeplitz_solve
from asnet.ops.transform_conv2d import conv2d

__all__ = [
    "CrossCorrelation2d",
    "GuidedConv2d",
    "append_flipped_pairs",
    "conv2d",
    "cross_correlation",
    "empty_maps",
    "guided_conv2d",
    "guided_modulation",
    "guided_pointwise_conv2d",
    "label_parts",
    "reused_memory",
    "sparse_latent",
    "toeplitz_solve",
]
