"""Number of threads of an operation."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

#: Tensors of fewer values than this are small. A transform of so many takes a millisecond in one thread.
LARGE = 2**18


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
    >>> image = torch.rand(64, 64)
    >>> with threads_for(image):
    ...     spectrum = torch.fft.rfft2(image)
    """
    # Asking torch first: a thread's first parallel operation, or question, sets its number of threads anew.
    if largest.device.type != "cpu" or torch.get_num_threads() == 1 or largest.numel() >= LARGE:
        return nullcontext()
    return _one_thread()


@contextmanager
def _one_thread() -> Iterator[None]:
    # After torch.set_num_threads MKL, which computes torch's transforms, no longer asks OpenMP.
    set_threads_of_mkl = _set_threads_of_mkl()
    with _openmp().limit(limits=1):
        previous = set_threads_of_mkl(1)
        try:
            yield
        finally:
            set_threads_of_mkl(previous)


@functools.cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")


@functools.cache
def _set_threads_of_mkl() -> Callable[[int], int]:
    """MKL's own function for the calling thread, which returns what was set before, 0 for nothing."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        function: Callable[[int], int] = ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        # A torch without MKL.
        return int
    return function
