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

#: Tensors with fewer values are small. A transform of this size takes a millisecond in one thread.
LARGE = 2**18


def threads_for(largest: Tensor) -> AbstractContextManager[object]:
    """Run operations in one thread within a `with` block, if they are small and on the CPU.

    Threads that share an operation wait for each other at its end. If another process is computing, that
    takes milliseconds even for tiny operations, and an iteration of thousands of them takes minutes instead
    of a second. On an idle machine a second thread gains little on such operations.

    Only the calling thread is affected, unlike with `torch.set_num_threads`, which also applies to threads
    started meanwhile. Entering and leaving takes 0.06 ms, so use it around many operations.

    Parameters
    ----------
    largest : Tensor
        The largest tensor involved; with `LARGE` values or more, nothing changes.

    Examples
    --------
    >>> image = torch.rand(64, 64)
    >>> with threads_for(image):
    ...     spectrum = torch.fft.rfft2(image)
    """
    # Ask torch first: a thread's first parallel operation, or query, resets its number of threads.
    if largest.device.type != "cpu" or torch.get_num_threads() == 1 or largest.numel() >= LARGE:
        return nullcontext()
    return _one_thread()


@contextmanager
def _one_thread() -> Iterator[None]:
    # After torch.set_num_threads, MKL, which computes torch's transforms, ignores OpenMP's setting.
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
    """MKL's own function for the calling thread, which returns the previous setting, 0 for none."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        function: Callable[[int], int] = ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        # A torch without MKL.
        return int
    return function
