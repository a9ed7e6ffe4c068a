"""How many threads share the work of an operation."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

#: Tensors of fewer values than this are small. A transform of so many takes a few milliseconds in one thread.
LARGE = 2**20


def threads_for(largest: Tensor) -> AbstractContextManager[object]:
    """Run operations in one thread within a `with` block, if they are small and on the CPU.

    Threads that share an operation wait for each other at its end. Where another process computes, that takes
    milliseconds, however little there is to do, and an iteration of thousands of small operations takes
    minutes instead of a second. On an idle machine a second thread gains little on such operations.

    Only the calling thread is affected, unlike by `torch.set_num_threads`, which also decides for every
    thread that begins meanwhile. Entering and leaving takes 0.06 ms: it belongs around many operations.

    Parameters
    ----------
    largest : Tensor
        The largest tensor that takes part; of `LARGE` values or more it changes nothing.

    Examples
    --------
    >>> with threads_for(image):
    ...     spectrum = torch.fft.rfft2(image)
    """
    # Asking torch first: a thread's first parallel operation, or question, sets its number of threads anew.
    if largest.device.type != "cpu" or torch.get_num_threads() == 1 or largest.numel() >= LARGE:
        return nullcontext()
    limit: AbstractContextManager[object] = _openmp().limit(limits=1)
    return limit


@functools.cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")
