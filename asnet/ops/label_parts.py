"""Connected parts of masks."""

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.errors import InputError
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
        return _by_maxima(mask)
    labels: Tensor = torch.ops.asnet.label_parts(mask)
    return labels


def _by_maxima(mask: Tensor) -> Tensor:
    """Fallback for devices without a kernel: maxima of 3x3 pixels, and pointers that double their reach."""
    pixels = mask.shape[1] * mask.shape[2]
    index = torch.arange(1, pixels + 1, device=mask.device).view(mask.shape[1:])
    labels = torch.where(mask, index, 0)
    # The target of each label: itself, or a larger label of the same part.
    leads = F.pad(index.flatten(), (1, 0)).repeat(len(mask), 1)
    # In each round parts that touch are joined, and labels lead twice as far as in the one before. The masks
    # that wind the most need fewer rounds than these.
    for _ in range(pixels.bit_length()):
        # Indices up to 2^24 are exact in float32.
        largest = F.max_pool2d(labels[:, None].float(), 3, stride=1, padding=1)[:, 0].long()
        largest = torch.where(mask, largest, 0)
        leads = leads.scatter_reduce_(1, labels.flatten(1), largest.flatten(1), "amax")
        leads = leads.gather(1, leads)
        labels = leads.gather(1, labels.flatten(1)).view_as(labels)
    return labels


def _fake(mask: Tensor) -> Tensor:
    return mask.new_empty(mask.shape, dtype=torch.int64)


torch.library.register_fake("asnet::label_parts", _fake)
