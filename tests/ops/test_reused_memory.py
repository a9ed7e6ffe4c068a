"""Reuse of the memory of dead feature maps: what the process holds, and the values of the maps."""

import os
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from asnet.ops import empty_maps, reused_memory

LIKE = torch.zeros(1)
MEGABYTE = 1 << 20


def make(megabytes: int, value: float) -> Tensor:
    """A map of `megabytes`, every page of it touched, by a single thread."""
    maps = empty_maps(LIKE, (megabytes, MEGABYTE // 4))
    maps.numpy()[:] = value
    return maps


def holds(maps: Tensor, value: float) -> bool:
    lowest, highest = torch.aminmax(maps)
    return float(lowest) == float(highest) == value


class Resident:
    """Resident memory of the process in megabytes, beyond that at construction."""

    def __init__(self) -> None:
        self.before = 0.0
        self.before = self()

    def __call__(self) -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE - self.before


@pytest.fixture
def resident() -> Resident:
    # The first map of a process allocates more, which belongs to no test.
    with torch.no_grad(), reused_memory(LIKE):
        holds(make(16, 0), 0)
    return Resident()


@torch.no_grad()
def test_a_map_takes_the_place_of_a_dead_one() -> None:
    with reused_memory(LIKE):
        first = make(24, 1)
        address = first.data_ptr()
        del first
        assert make(24, 2).data_ptr() == address
        assert make(10, 3).data_ptr() == address


@torch.no_grad()
def test_maps_of_any_size_reuse_free_memory(resident: Resident) -> None:
    with reused_memory(LIKE):
        parts = [make(16, value) for value in range(4)]
        kept, parts = parts[1], parts[:1] + parts[2:]
        del parts
        # No two of the three places are next to each other with room for this; 3 MB are missing.
        joined = make(51, 9)
        assert resident() < 16 + 51 + 4
        assert holds(joined, 9)
        assert holds(kept, 1)
        del joined
        small = [make(10, value) for value in range(5)]
        assert resident() < 16 + 51 + 4
        assert all(holds(maps, value) for value, maps in enumerate(small))
        assert holds(kept, 1)


@torch.no_grad()
def test_all_goes_back_when_the_outermost_scope_ends(resident: Resident) -> None:
    with reused_memory(LIKE):
        with reused_memory(LIKE):
            make(40, 1)
        assert resident() > 39
        make(40, 1)
        assert resident() < 44
    assert resident() < 4


@torch.no_grad()
def test_an_exception_ends_a_scope_like_any_other(resident: Resident) -> None:
    def fail() -> None:
        with reused_memory(LIKE):
            make(40, 1)
            raise ValueError("on the way")

    with pytest.raises(ValueError, match="on the way"):
        fail()
    assert resident() < 4


@torch.no_grad()
def test_a_map_that_outlives_its_scope_keeps_its_memory(resident: Resident) -> None:
    with reused_memory(LIKE):
        make(40, 1)
        survivor = make(40, 2).view(-1)[10:]
    with reused_memory(LIKE):
        others = [make(20, 3) for _ in range(3)]
        assert holds(survivor, 2)
    del others
    assert 39 < resident() < 44
    del survivor
    assert resident() < 4


@pytest.mark.parametrize("scope", ["none", "gradients", "another device"])
def test_nothing_is_kept_outside(resident: Resident, scope: str) -> None:
    x = LIKE.to("meta") if scope == "another device" else LIKE
    context: AbstractContextManager[None] = nullcontext() if scope == "none" else reused_memory(x)
    with torch.set_grad_enabled(scope == "gradients"), context:
        make(40, 1)
        assert resident() < 4


def test_threads_share_it(resident: Resident) -> None:
    wrong = []

    @torch.no_grad()
    def work(number: int) -> None:
        for repetition in range(20):
            with reused_memory(LIKE):
                maps = [make(8 + (3 * index + repetition + number) % 7, number + index) for index in range(4)]
                del maps[::2]
                maps += [make(9 + (repetition + index) % 5, number + 10 + index) for index in range(2)]
                found = [float(m[0, 0]) for m in maps if m.numpy().min() == m.numpy().max()]
                if found != [number + 1, number + 3, number + 10, number + 11]:
                    wrong.append((number, repetition, found))

    threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert resident() < 8


@torch.no_grad()
def test_a_child_process_does_not_wait_for_the_scopes_of_its_parent() -> None:
    with reused_memory(LIKE):
        survivor = make(16, 1)
        make(40, 2)
        child = os.fork()
        if child == 0:
            held = Resident()
            make(40, 3)
            # Without torch, whose threads do not survive a fork; the child also touches pages of libraries.
            correct = held() < 30 and survivor.numpy().min() == survivor.numpy().max() == 1
            os._exit(0 if correct else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert holds(make(40, 4), 4)


@pytest.mark.parametrize("like", [LIKE, LIKE.double(), LIKE.to(torch.bfloat16), LIKE.to("meta")], ids=str)
@pytest.mark.parametrize("size", [(3, 5), (), (0, 4), (1, 2, 1500, 3001)], ids=str)
@torch.inference_mode()
def test_maps_are_as_asked_for(like: Tensor, size: tuple[int, ...]) -> None:
    with reused_memory(like):
        maps = empty_maps(like, size)
        assert (maps.shape, maps.dtype, maps.device) == (size, like.dtype, like.device)
        assert maps.is_contiguous()
        assert maps.is_inference()


def test_opcheck_and_compilation() -> None:
    x = torch.randn(3, 4)
    quick = {"test_utils": ("test_schema", "test_faketensor")}
    torch.library.opcheck(torch.ops.asnet.empty_maps, (x, [2, 5]), **quick)

    def doubled(x: Tensor) -> Tensor:
        with reused_memory(x):
            return empty_maps(x, x.shape).copy_(x) * 2

    with torch.no_grad():
        assert torch.equal(torch.compile(doubled, fullgraph=True, backend="aot_eager")(x), 2 * x)
    leaf = x.clone().requires_grad_()
    doubled(leaf).sum().backward()
    assert torch.equal(leaf.grad, torch.full_like(x, 2))
