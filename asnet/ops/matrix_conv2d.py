"""Convolution for inference on the matrix units of CPUs (AMX), in bfloat16."""

import torch
from torch import Tensor

from asnet.ops._extension import has_matrix_units, load, refuse_backward
from asnet.ops.conv2d_operators import register_fakes

load()

#: Multiplications, by stride, from which it is faster than torch's convolution by
#: benchmarks/transform_conv2d.py: stride 2 costs torch a copy. Large results come from reused memory, which
#: torch does not have.
_MULTIPLICATIONS, _MULTIPLICATIONS_OF_LARGE = {1: 2e9, 2: 4e8}, 5e8
_LARGE = 2**22

#: Sides of the kernels that the operator supports and torch's matrix products do not.
_KERNELS = range(2, 9)

_HAS_MATRIX_UNITS = has_matrix_units()


def pays(x: Tensor, weight: Tensor, stride: int, pixels: int) -> bool:
    """Whether the matrix units support a convolution of equal strides, 1 or 2, and are faster.

    `pixels` is the number of pixels of the result, including the batch.
    """
    least = _MULTIPLICATIONS[stride]
    if pixels * weight.shape[0] >= _LARGE:
        least = min(least, _MULTIPLICATIONS_OF_LARGE)
    return (
        _HAS_MATRIX_UNITS
        and x.dtype == torch.bfloat16
        and weight.shape[2] in _KERNELS
        and pixels * weight.numel() >= least
    )


register_fakes("matrix_conv2d")
refuse_backward("matrix_conv2d", "matrix_conv2d_add_", instead="asnet.ops.conv2d has a backward")
