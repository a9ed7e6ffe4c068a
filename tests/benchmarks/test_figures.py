"""Figures on pages are those of the result files, and the files that pages name exist."""

import dataclasses
import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from asnet.data import BlurKernelConfig, DegradationConfig
from asnet.networks import AnalysisConfig, SynthesisConfig
from asnet.training import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "fidelity.md"

#: Code spans on the page leave out these folders.
FOLDERS = ["", "asnet", "asnet/networks", "asnet/training", "asnet/data", "benchmarks/results", "docs"]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import figures

    return figures


@pytest.mark.parametrize("name", ["README.md", "docs/fidelity.md", "docs/evaluation.md"])
def test_every_figure_is_that_of_its_file(figures: ModuleType, name: str) -> None:
    found = list(figures.figures((ROOT / name).read_text(encoding="utf-8")))
    assert len(found) > 10
    for figure in found:
        assert figure.updated(figures.RESULTS) == figure.cell, (figure.file, figure.path)


def test_every_file_on_the_page_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"[\w./-]+\.(?:py|toml|json|md)\b", text))
    assert {"asnet/models/compact.md", "training.md", "restoration_compact.json"} <= named
    missing = [name for name in named if not any((ROOT / folder / name).is_file() for folder in FOLDERS)]
    assert missing == []


def test_every_field_and_function_on_the_page_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    configurations = {
        "A": AnalysisConfig,
        "S": SynthesisConfig,
        "T": TrainingConfig,
        "K": BlurKernelConfig,
        "D": DegradationConfig,
    }
    # `A` and its code spans, such as `levels` or `pyramid="features"`: a configuration and fields of it.
    lists = re.findall(r"\b([ASTKD]) ((?:`[^`]+`(?:, )?)+)", text)
    named = {(letter, name) for letter, spans in lists for name in re.findall(r"`(\w+)(?:=[^`]*)?`", spans)}
    assert len(named) > 40
    for letter, name in named:
        configuration = configurations[letter]
        known = {field.name for field in dataclasses.fields(configuration)} | set(dir(configuration))
        assert name in known, f"{configuration.__name__} has no {name}"
    modules = "layers|analysis|guidance|size_classifier|scale_optimised"
    functions = set(re.findall(rf"`({modules})\.(\w+)", text))
    assert len(functions) > 6
    for module, name in functions:
        assert hasattr(importlib.import_module(f"asnet.networks.{module}"), name), (module, name)


def test_figures_keep_their_form_when_they_change(figures: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "speed.json").write_text(
        '{"gain": 2.5, "error": 3.14e-15, "results": [{"name": "a", "ms": 7}, {"name": "b", "ms": 12.6}]}'
    )
    page = "\n".join(
        [
            "| gain | +1.23 dB | `speed.json: gain` |",
            "| error | 1e-14 | `speed.json: error` |",
            "| by name | 0.1 ms | `speed.json: results/a/ms` |",
            "| by number | 99 ms | `speed.json: results/1/ms` |",
            "| largest | 1.00 ms | `speed.json: results/*/ms` |",
            "| not a figure | 5 |",
        ]
    )
    cells = [figure.updated(tmp_path).strip() for figure in figures.figures(page)]
    assert cells == ["+2.50 dB", "3e-15", "7.0 ms", "13 ms", "12.60 ms"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("| a | 1 | `absent.json: gain` |", "absent.json"),
        ("| a | 1 | `speed.json: gains` |", "'gains'"),
        ("| a | 1 | `speed.json: results/c/ms` |", "'c'"),
        ("| a | 1 | `speed.json: results` |", "is not a number"),
        ("| a | none | `speed.json: gain` |", "no number in"),
    ],
)
def test_figures_without_a_source_are_named(
    figures: ModuleType, tmp_path: Path, row: str, words: str
) -> None:
    (tmp_path / "speed.json").write_text('{"gain": 2.5, "results": [{"name": "a", "ms": 7}]}')
    (figure,) = figures.figures(row)
    with pytest.raises(LookupError, match=words):
        figure.updated(tmp_path)


def test_trimming_keeps_what_pages_quote_and_drops_other_raw_results(
    figures: ModuleType, tmp_path: Path
) -> None:
    content = {
        "machine": {"threads": 2},
        "sizes": [3, 5],
        "results": [
            {"name": "a", "revision": "1f", "ms": {"ours": 7, "theirs": 9}, "mb": 3},
            {"name": "b", "ms": {"ours": 8}, "mb": 4},
        ],
        "runs": [{"s": 1, "mb": 1}, {"s": 2, "mb": 2}],
        "raw": [{"name": "a", "ms": 1}],
    }
    file = tmp_path / "speed.json"
    file.write_text(json.dumps(content))
    pages = [
        "| time | 7 ms | `speed.json: results/a/ms/ours` |\n",
        "| most | 4 MB | `speed.json: results/*/mb` |\n",
    ]
    pages.append("| run | 2 s | `speed.json: runs/1/s` |\n")
    for _ in range(2):
        figures.trim(tmp_path, pages)
        assert json.loads(file.read_text()) == {
            "machine": {"threads": 2},
            "sizes": [3, 5],
            "results": [{"name": "a", "revision": "1f", "ms": {"ours": 7}, "mb": 3}, {"name": "b", "mb": 4}],
            "runs": [{}, {"s": 2}],
        }
    for page in pages:
        for figure in figures.figures(page):
            assert figure.updated(tmp_path) == figure.cell
