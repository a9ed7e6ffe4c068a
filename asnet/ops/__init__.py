"""Operators of asnet: functions on tensors with hand-written kernels, and the same as layers."""

from asnet.ops.cross_correlation import append_flipped_pairs, cross_correlation
from asnet.ops.gather_images import gather_images
from asnet.ops.guided_conv import guided_conv2d, guided_pointwise_conv2d
from asnet.ops.guided_modulation import guided_modulation
from asnet.ops.label_parts import label_parts
from asnet.ops.modules import CrossCorrelation2d, GuidedConv2d
from asnet.ops.periodic_spectra import periodic_images, periodic_spectra
from asnet.ops.reused_memory import empty_maps, reused_memory
from asnet.ops.shrunk_divergence import shrunk_divergence
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
    "gather_images",
    "guided_conv2d",
    "guided_modulation",
    "guided_pointwise_conv2d",
    "label_parts",
    "periodic_images",
    "periodic_spectra",
    "reused_memory",
    "shrunk_divergence",
    "sparse_latent",
    "toeplitz_solve",
]
