"""Connected parts of masks."""

import torch
from torch import Tensor

from asnet.errors import InputError
from asnet.ops import reference
from asnet.ops._extension import devices_with_kernel

_DEVICES_WITH_KERNEL = devices_with_kernel("label_parts")


def label_parts(mask: Tensor) -> Tensor:
    """Label the 8-connected parts of masks.

    No value is read back to the host, so nothing synchronises with a GPU.

    Parameters
    ----------
    mask : Tensor
        (N, H, W) bool, of at most 2^24 pixels each.

    Returns
    -------
    Tensor
        (N, H, W) int64: 0 outside of the mask, else a number that is the same within a part and differs
        between parts: the largest among its pixels, which are numbered from 1 in rows.

    Raises
    ------
    InputError
        The mask has another dtype or shape.

    Examples
    --------
    >>> label_parts(torch.tensor([[[True, False, False], [False, True, False], [True, False, False]]]))
    tensor([[[7, 0, 0],
             [0, 7, 0],
             [7, 0, 0]]])
    """
    if mask.dtype != torch.bool or mask.dim() != 3:
        raise InputError(
            f"mask must have dtype bool and the shape (N, H, W), got {mask.dtype} and {tuple(mask.shape)}"
        )
    if mask.device.type not in _DEVICES_WITH_KERNEL:
        return reference.label_parts(mask)
    labels: Tensor = torch.ops.asnet.label_parts(mask)
    return labels


def _fake(mask: Tensor) -> Tensor:
    return mask.new_empty(mask.shape, dtype=torch.int64)


torch.library.register_fake("asnet::label_parts", _fake)
