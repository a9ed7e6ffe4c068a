"""Pooled memory for the feature maps of one inference on the CPU.

A feature map of a large image is a block of memory that the system fills with zeros, page by page, at the
first touch, which takes as long as a layer takes to write it; and it is given back when the map dies. Within
`reused_memory` the pages of maps that die become those of the next maps.
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

    It concerns what `empty_maps` makes and the operators of asnet compute, from 8 MB on. No more memory is
    held than the maps have taken at one time. A map that outlives the scope keeps its memory. Scopes may be
    nested and belong to several threads: the last that ends gives the memory back. Nothing is kept where
    autograd records, which keeps the maps themselves, on other devices than CPUs, and under `torch.compile`.

    Parameters
    ----------
    x : Tensor
        What is computed on.

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
        Whose device and, unless another is asked for, dtype the result has.
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
    # Of no element and outside of any autograd graph: the operator looks at dtype and device alone.
    maps: Tensor = torch.ops.asnet.empty_maps(like.new_empty(0, dtype=dtype), size)
    return maps


def _fake(like: Tensor, size: Sequence[int]) -> Tensor:
    return like.new_empty(size)


torch.library.register_fake("asnet::empty_maps", _fake)
