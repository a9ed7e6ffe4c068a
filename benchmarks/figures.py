"""Keeps the figures on a page equal to those in benchmarks/results.

In a row of a Markdown table whose last cell is `FILE.json: PATH`, the cell before it has a figure of that
file. PATH is a path in the JSON object with steps separated by "/": keys of objects, names or numbers of list
entries, and "*" for the maximum over all entries.

    python benchmarks/figures.py docs/fidelity.md            # writes the figures into the page
    python benchmarks/figures.py --check docs/fidelity.md    # lists those that differ
    python benchmarks/figures.py --trim README.md docs/*.md  # drops what none of these quotes
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"

_SOURCE = re.compile(r"`(?P<file>[\w.-]+\.json): (?P<path>[^`]+)`")
_NUMBER = re.compile(r"[-+]?\d+(?P<fraction>\.\d+)?(?P<exponent>e[-+]?\d+)?")


@dataclass(frozen=True)
class Figure:
    """A figure on a page: its line, and the file and path that it comes from."""

    line: int
    file: str
    path: str
    cell: str

    def updated(self, results: Path) -> str:
        """Return the cell with the number from the file, in the format of the present one.

        Raises
        ------
        LookupError
            If there is no such file or path in it, or no number in the cell.
        """
        source = results / self.file
        if not source.is_file():
            raise LookupError(f"there is no file {source}")
        value = looked_up(json.loads(source.read_text(encoding="utf-8")), self.path.split("/"))
        written = _NUMBER.search(self.cell)
        if written is None:
            raise LookupError(f"there is no number in {self.cell!r}")
        digits = len(written["fraction"] or ".") - 1
        sign = "+" if written[0].startswith("+") else ""
        number = f"{value:{sign}.{digits}{'e' if written['exponent'] else 'f'}}"
        return self.cell[: written.start()] + number + self.cell[written.end() :]


def figures(page: str) -> Iterator[Figure]:
    """Find the figures of a page in Markdown."""
    for index, line in enumerate(page.splitlines()):
        cells = line.split("|")
        source = _SOURCE.fullmatch(cells[-2].strip()) if len(cells) > 3 else None
        if source:
            yield Figure(index, source["file"], source["path"].strip(), cells[-3])


def looked_up(content: Any, steps: list[str]) -> float:
    """Follow a path into JSON values and return the number at its end.

    Raises
    ------
    LookupError
        If the path leads nowhere, or not to a number.
    """
    if not steps:
        if not isinstance(content, int | float):
            raise LookupError(f"{content!r} is not a number")
        return content
    step, *rest = steps
    entries = list(content.values()) if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise LookupError(f"there is nothing below {content!r} to look {step!r} up in")
    if step == "*":
        return max(looked_up(entry, rest) for entry in entries)
    if isinstance(content, dict) and step in content:
        return looked_up(content[step], rest)
    if isinstance(content, list):
        named = [entry for entry in entries if isinstance(entry, dict) and entry.get("name") == step]
        if named:
            return looked_up(named[0], rest)
        if step.isdecimal() and int(step) < len(entries):
            return looked_up(entries[int(step)], rest)
    raise LookupError(f"there is no {step!r}")


def trimmed(content: Any, paths: list[list[str]]) -> Any:
    """Return the values at the paths; list entries keep name and revision, or their positions if numbered."""
    if any(not steps for steps in paths):
        return content
    by_step: dict[str, list[list[str]]] = {}
    for step, *rest in paths:
        by_step.setdefault(step, []).append(rest)

    def below(*names: str) -> list[list[str]]:
        return [rest for name in (*names, "*") for rest in by_step.get(name, [])]

    if isinstance(content, dict):
        return {key: trimmed(value, below(key)) for key, value in content.items() if below(key)}
    if any(step.isdecimal() for step in by_step):
        return [trimmed(entry, below(str(index))) for index, entry in enumerate(content)]
    kept = [(entry, below(entry.get("name", ""))) for entry in content]
    return [trimmed(entry, [["name"], ["revision"], *rest]) for entry, rest in kept if rest]


def is_raw(value: Any) -> bool:
    """Whether a value is a list of results, as opposed to a fact or a summary."""
    return isinstance(value, list) and any(isinstance(entry, dict) for entry in value)


def trim(results: Path, pages: list[str]) -> None:
    """Remove from every file the raw results that the pages do not quote."""
    quoted: dict[str, list[list[str]]] = {}
    for page in pages:
        for figure in figures(page):
            quoted.setdefault(figure.file, []).append(figure.path.split("/"))
    for file in sorted(results.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        facts = [[key] for key, value in content.items() if not is_raw(value)]
        kept = trimmed(content, [*facts, *quoted.get(file.name, [])])
        file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", type=Path, nargs="+", metavar="PAGE")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a figure differs")
    parser.add_argument("--trim", action="store_true", help="drop from the files what no page quotes")
    options = parser.parse_args()
    if options.trim:
        trim(RESULTS, [page.read_text(encoding="utf-8") for page in options.pages])
        return 0
    wrong = 0
    for page in options.pages:
        lines = page.read_text(encoding="utf-8").splitlines()
        for figure in figures("\n".join(lines)):
            where = f"{page}:{figure.line + 1}: {figure.file}: {figure.path}"
            try:
                cell = figure.updated(RESULTS)
            except LookupError as error:
                print(f"{where}: {error}", file=sys.stderr)
                wrong += 1
                continue
            if cell != figure.cell:
                print(f"{where}: {figure.cell.strip()} -> {cell.strip()}", file=sys.stderr)
                wrong += options.check
                before, _, after = lines[figure.line].rpartition(f"|{figure.cell}|")
                lines[figure.line] = f"{before}|{cell}|{after}"
        if not options.check:
            page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
