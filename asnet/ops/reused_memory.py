"""Pooled memory for the feature maps of one inference on the CPU.

A feature map of a large image is a block of memory that the system zeroes, page by page, at the first touch,
which takes as long as a layer takes to write it; and it is returned to the system when the map is freed.
Within `reused_memory`, the pages of freed maps are used for the next maps.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from asnet.ops._extension import load

load()


@contextmanager
def reused_memory(x: Tensor) -> Iterator[None]:
    """Pool the memory of feature maps within a `with` block, and release it at the end.

    It applies to maps of 8 MB or more from `empty_maps` and the operators of asnet. The pool holds no more
    memory than the maps have taken at one time. A map that outlives the scope keeps its memory. Scopes may be
    nested and used in several threads: the last one to end releases the memory. Nothing is pooled while
    autograd records, on devices other than CPUs, and under `torch.compile`.

    Parameters
    ----------
    x : Tensor
        The input of the computation.

    Examples
    --------
    >>> x = torch.rand(1, 16, 256, 256)
    >>> with torch.no_grad(), reused_memory(x):
    ...     maps = empty_maps(x, x.shape).copy_(x)
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        yield
        return
    torch.ops.asnet.open_reused_memory()
    try:
        yield
    finally:
        torch.ops.asnet.close_reused_memory()


def empty_maps(like: Tensor, size: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """Return an uninitialised contiguous tensor, within `reused_memory` from pooled memory.

    Parameters
    ----------
    like : Tensor
        Determines the device and, by default, the dtype.
    size : sequence of int
        Its shape.
    dtype : torch.dtype, optional
        Its dtype.

    Examples
    --------
    >>> empty_maps(torch.rand(1), (2, 3), torch.bfloat16).dtype
    torch.bfloat16
    """
    if torch.compiler.is_compiling():
        return like.new_empty(size, dtype=dtype)
    # Empty and outside of any autograd graph: the operator uses only its dtype and device.
    maps: Tensor = torch.ops.asnet.empty_maps(like.new_empty(0, dtype=dtype), size)
    return maps


def _fake(like: Tensor, size: Sequence[int]) -> Tensor:
    return like.new_empty(size)


torch.library.register_fake("asnet::empty_maps", _fake)
