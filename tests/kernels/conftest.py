"""Fixtures of the kernels' tests. Nothing here imports torch, which does not run under the sanitizers."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from build_kernels import BuildError, build_module, build_operators, compiler, load_module, sanitizers
from ptxas import all_limits, oversized


@pytest.fixture(scope="session")
def kernels() -> Iterator[ModuleType]:
    """The kernels as functions of NumPy arrays, run on the CPU; see README.md.

    At the end, the sizes of all launches are compared with the limits above the kernels.
    """
    try:
        compiler()
    except BuildError as error:
        pytest.skip(f"kernels are not run: {error}")
    built = os.environ.get("ASNET_KERNELS_MODULE")
    module = load_module(Path(built) if built else build_module())
    yield module
    found = oversized(module.largest_launches(), all_limits())
    assert not found, "\n".join(found)


@pytest.fixture(scope="session")
def cuda_operators() -> SimpleNamespace:
    """``torch.ops.asnet_cuda_on_cpu``: the CUDA host entries of csrc for CPU tensors."""
    import torch

    try:
        compiler()
    except BuildError as error:
        pytest.skip(f"the CUDA entries are not run: {error}")
    torch.ops.load_library(str(build_operators()))
    return torch.ops.asnet_cuda_on_cpu


# ThreadSanitizer finds a race in whatever order the threads run.
THREAD_ORDERS = {"shuffled": 1} if sanitizers() else {"ascending": 0, "descending": -1, "shuffled": 1}


@pytest.fixture(params=THREAD_ORDERS)
def thread_order(request: pytest.FixtureRequest, kernels: ModuleType) -> Iterator[str]:
    """Runs the test with threads and blocks in each of these orders."""
    before = kernels.set_thread_order(THREAD_ORDERS[request.param])
    yield request.param
    kernels.set_thread_order(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Skips tests of an element type that builds with sanitizers leave out."""
    try:
        return (yield)
    except RuntimeError as error:
        if type(error).__name__ == "TypeNotBuilt":
            pytest.skip(str(error))
        raise


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under ThreadSanitizer, which is slow, only tests with `thread_order` run."""
    if sanitizers() == "thread":
        kept = [item for item in items if "thread_order" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


if sanitizers():
    collect_ignore_glob = ["test_*_host.py", "test_nvcc.py", "test_ptx.py", "test_faults.py"]
