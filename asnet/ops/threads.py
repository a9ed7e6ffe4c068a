"""Number of threads of an operation, and small operations side by side."""

from __future__ import annotations

import ctypes
import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")

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
    return _one_thread() if _is_small(largest) else nullcontext()


def side_by_side(function: Callable[[Item], Result], items: Sequence[Item], largest: Tensor) -> list[Result]:
    """Apply a function to independent items, one in each of torch's threads, if its operations are small.

    One operation of this size gains little from a second thread; two that are independent take half the time.
    Large operations, and those on other devices, run one item after the other.

    Parameters
    ----------
    function : callable
        Takes an item; runs in the gradient mode of the caller, and outside of autocast in other threads.
    items : sequence
        The calling thread takes its share of them. If it is interrupted, no further ones are begun.
    largest : Tensor
        The largest tensor involved in an item.

    Returns
    -------
    list
        Results in the order of the items; the same as without threads.

    Examples
    --------
    >>> side_by_side(lambda exponent: 2**exponent, [1, 2, 3], torch.rand(8, 8))
    [2, 4, 8]
    """
    if not _is_small(largest):
        return [function(item) for item in items]
    waiting = deque(enumerate(items))
    results: dict[int, Result] = {}
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def next_item() -> tuple[int, Item] | None:
        try:
            return waiting.popleft()
        except IndexError:
            return None

    def work() -> None:
        # As in `_is_small`: asked first.
        torch.get_num_threads()
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients), _one_thread():
            try:
                while (taken := next_item()) is not None:
                    results[taken[0]] = function(taken[1])
            finally:
                # After an error nothing more is begun.
                waiting.clear()

    helpers = min(torch.get_num_threads(), len(items)) - 1
    with ThreadPoolExecutor(max(1, helpers)) as pool:
        others = [pool.submit(work) for _ in range(helpers)]
        work()
        for other in others:
            other.result()
    return [results[index] for index in range(len(items))]


def _is_small(largest: Tensor) -> bool:
    # Ask torch first: a thread's first parallel operation, or query, resets its number of threads.
    return largest.device.type == "cpu" and torch.get_num_threads() > 1 and largest.numel() < LARGE


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
