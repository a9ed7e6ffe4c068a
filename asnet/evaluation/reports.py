"""Reports of an evaluation: CSV and JSON for every image, a Markdown table next to the paper's figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asnet.evaluation.benchmark import Benchmark, Measure, Scores
from asnet.evaluation.records import Record, write_json
from asnet.imaging import write_atomically

SCORES_CSV = "scores.csv"
SCORES_JSON = "scores.json"
TABLE = "table.md"


def write_tables(
    folder: Path,
    benchmark: Benchmark,
    method: str,
    records: Mapping[str, Record],
    identity: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> Scores:
    """Write `SCORES_CSV`, `SCORES_JSON` and `TABLE` into a folder.

    Parameters
    ----------
    folder : Path
        Exists.
    benchmark : Benchmark
        The benchmark of the records.
    method : str
        Name of the evaluated method in the tables.
    records : mapping of str to Record
        One for each image of the benchmark, in order.
    identity : mapping
        Settings that the scores depend on.
    notes : sequence of str
        Further sentences for the head of the Markdown table.

    Returns
    -------
    dict of str to float
        The benchmark's summary.

    Raises
    ------
    ImageFileError
        If a file cannot be written.
    """
    summary = benchmark.summarise({name: record.scores for name, record in records.items()})
    keys = [measure.key for measure in benchmark.measures]
    with write_atomically(folder / SCORES_CSV) as file:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", *keys, "scale"])
        for name, record in records.items():
            values = [repr(record.scores[key]) for key in keys]
            writer.writerow([name, *values, "" if record.scale is None else record.scale])
        file.write(text.getvalue().encode())
    write_json(
        folder / SCORES_JSON,
        {
            "benchmark": benchmark.title,
            "protocol": benchmark.protocol,
            "method": method,
            "run": identity,
            "summary": {measure.key: summary[measure.key] for measure in benchmark.summary},
            "images": [
                {"image": name, **{key: record.scores[key] for key in keys}, "scale": record.scale}
                for name, record in records.items()
            ],
        },
    )
    with write_atomically(folder / TABLE) as file:
        file.write(_markdown(benchmark, method, records, summary, notes).encode())
    return summary


def _markdown(
    benchmark: Benchmark,
    method: str,
    records: Mapping[str, Record],
    summary: Mapping[str, float],
    notes: Sequence[str],
) -> str:
    rows = [[f"**{method}**", *_texts(benchmark.summary, summary)]]
    notes = [f"{len(records)} images. {benchmark.protocol}", *notes]
    if benchmark.published is not None:
        rows += [list(row) for row in benchmark.published.rows]
        notes.append(f"All rows but the first are those of {benchmark.published.source}.")
    summary_table = _table(["method", *(measure.heading for measure in benchmark.summary)], rows)
    image_rows = [
        [name, *_texts(benchmark.measures, record.scores), "-" if record.scale is None else str(record.scale)]
        for name, record in records.items()
    ]
    headings = ["image", *(measure.heading for measure in benchmark.measures), "scale"]
    parts = [f"# {benchmark.title}", *notes, "## Mean", summary_table, "## Each image"]
    if any(record.scale is not None for record in records.values()):
        parts.append("Scale is the factor by which the blurred image was downscaled to be deblurred.")
    return "\n\n".join([*parts, _table(headings, image_rows)]) + "\n"


def _texts(measures: Sequence[Measure], values: Mapping[str, float]) -> list[str]:
    return [measure.text(values[measure.key]) for measure in measures]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(headings) - 1)]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (headings, rule, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
