"""The examples in docstrings: they run, and every public name has one."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import asnet

OPTIONS = doctest.NORMALIZE_WHITESPACE


def examples() -> list[doctest.DocTest]:
    """Every docstring of the package that holds an example."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(asnet, "asnet")
    for module in pkgutil.walk_packages(asnet.__path__, "asnet."):
        # Compiled operators are not Python modules, `web` is an extra, __main__ would run the command.
        if not module.name.startswith(("asnet._C", "asnet.web", "asnet.__main__")):
            found += finder.find(importlib.import_module(module.name), module.name)
    return [test for test in found if test.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_an_example_gives_what_it_shows(
    example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Examples that write files write them here.
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=said.append)
    assert failed == 0, "".join(said)


@pytest.mark.parametrize("module", ["asnet.ops", "asnet.networks"])
def test_every_public_name_has_an_example(module: str) -> None:
    exported = importlib.import_module(module)
    without = [name for name in exported.__all__ if ">>>" not in (getattr(exported, name).__doc__ or "")]
    assert not without
