"""Convolution for inference on the matrix units of CPUs (AMX), in bfloat16."""

import torch
from torch import Tensor

from asnet.ops._extension import has_matrix_units, load
from asnet.ops.conv2d_operators import register

load()

#: Where it is faster than torch's, by benchmarks/transform_conv2d.py: the least multiplications for a stride,
#: of which 2 costs torch a copy. Large results come from reused memory, which torch does not have.
_MULTIPLICATIONS, _MULTIPLICATIONS_OF_LARGE = {1: 2e9, 2: 4e8}, 5e8
_LARGE = 2**22

#: Sides of the kernels that the operator takes and torch's matrix products do not.
_KERNELS = range(2, 9)

_HAS_MATRIX_UNITS = has_matrix_units()


def pays(x: Tensor, weight: Tensor, stride: int, pixels: int) -> bool:
    """Whether a convolution of equal strides, 1 or 2, is there for the matrix units, and faster there.

    `pixels` counts those of the result, the batch included.
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


register("matrix_conv2d")
