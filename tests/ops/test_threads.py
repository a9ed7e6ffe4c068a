"""Small operations of the calling thread run in one thread, independent ones in parallel."""

import re
import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from asnet.ops import threads
from asnet.ops.threads import side_by_side, threads_for

SMALL = torch.zeros(16, 16)


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def in_another_thread(function: Callable[[], object]) -> object:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_small_work_runs_in_one_thread_and_large_in_all() -> None:
    with threads_for(SMALL):
        assert torch.get_num_threads() == 1
        with threads_for(SMALL):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with threads_for(torch.empty(threads.LARGE)):
        assert torch.get_num_threads() == 3
    with threads_for(torch.empty(4, device="meta")):
        assert torch.get_num_threads() == 3


def pools() -> set[str]:
    """Numbers of threads of OpenMP and, where torch has it, of MKL, in the calling thread."""
    return set(re.findall(r"(?:omp|mkl)_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info()))


def test_the_library_of_the_transforms_follows() -> None:
    """It keeps a number of its own once `torch.set_num_threads` has been called."""
    assert pools() == {"3"}
    with threads_for(SMALL):
        assert pools() == {"1"}
        assert in_another_thread(pools) == {"3"}
    assert pools() == {"3"}


def test_an_error_restores_the_threads() -> None:
    with pytest.raises(ZeroDivisionError), threads_for(SMALL):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 3


def test_other_threads_keep_theirs() -> None:
    """Also threads that start meanwhile, which would otherwise keep a single thread for good."""
    running = threading.Event()
    asked = threading.Event()
    seen = []

    def long_lived() -> None:
        seen.append(torch.get_num_threads())
        running.set()
        asked.wait()
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=long_lived)
    thread.start()
    running.wait()
    with threads_for(SMALL):
        assert in_another_thread(torch.get_num_threads) == 3
        asked.set()
        thread.join()
    assert seen == [3, 3]


def test_a_thread_whose_first_work_is_small_keeps_its_number() -> None:
    def counts() -> tuple[int, int]:
        with threads_for(SMALL):
            (torch.rand(300, 300) + 1).sum()
            inside = torch.get_num_threads()
        return inside, torch.get_num_threads()

    assert in_another_thread(counts) == (1, 3)


def test_a_single_thread_set_by_the_user_is_kept() -> None:
    torch.set_num_threads(1)
    with threads_for(SMALL):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 1


def test_items_run_in_as_many_threads_as_torch_has_each_with_one() -> None:
    meeting = threading.Barrier(3, timeout=30)

    def work(item: int) -> tuple[int, int, bool]:
        # Passes only if three items are worked on at once.
        meeting.wait()
        return item, torch.get_num_threads(), torch.is_grad_enabled()

    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            results = side_by_side(work, range(6), SMALL)
        assert results == [(item, 1, gradients) for item in range(6)]
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("largest", [torch.empty(threads.LARGE), torch.empty(4, device="meta")])
def test_large_items_run_one_after_the_other(largest: torch.Tensor) -> None:
    callers = side_by_side(lambda _: (threading.get_ident(), torch.get_num_threads()), range(4), largest)
    assert set(callers) == {(threading.get_ident(), 3)}


def test_items_inherit_inference_mode() -> None:
    with torch.inference_mode():
        results = side_by_side(lambda item: SMALL + item, range(6), SMALL)
    assert all(result.is_inference() for result in results)


@pytest.mark.parametrize("failing", ["caller", "helper"])
def test_an_error_ends_the_others_and_reaches_the_caller(failing: str) -> None:
    main, done = threading.get_ident(), []
    started = threading.Event()

    def work(item: int) -> None:
        if (threading.get_ident() == main) == (failing == "caller"):
            started.set()
            raise ZeroDivisionError
        # No item is finished before the error.
        assert started.wait(30)
        done.append(item)

    with pytest.raises(ZeroDivisionError):
        side_by_side(work, range(1000), SMALL)
    assert len(done) < 1000
    assert torch.get_num_threads() == 3
