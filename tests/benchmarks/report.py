"""The tables, as Markdown that is also read as it is; and the same as JSON."""

import json
import os
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tests.benchmarks.cases import Case, Column
from tests.benchmarks.rounds import Row, Table

_LONGEST_REASON = 160

LEGEND = (
    "Medians over the rounds. MB and GB are powers of ten, MiB and KiB of two. `ours : this` is "
    "the median of the ratios within a round, ours being `tusd-py --fsync never`: for MB/s and "
    "files/s more is better, for CPU and memory less. `spread` is from the least to the most, in "
    "percent of the median, of the first column."
)


def machine() -> str:
    """What it was measured on."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cpu = names[0] if names else platform.machine()
    python = platform.python_version()
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores of {cpu}, "
        f"Linux {platform.release()}, Python {python}, load {os.getloadavg()[0]:.1f}"
    )


def markdown(table: Table) -> str:
    """A title, the rows, and what those without figures have to say."""
    case = table.case
    reference = next((row for row in table.rows if row.server == case.reference), None)
    headings = ["server", *_headings(case)]
    cells = [[row.server, *_cells(case, row, reference)] for row in table.rows]
    lines = [f"### {case.title}", "", *_aligned([headings, *cells]), *_reasons(table.rows)]
    return "\n".join(lines) + "\n"


def _headings(case: Case) -> Iterator[str]:
    yield from (column.heading for column in case.columns)
    yield "spread"
    yield from (column.ratio for column in case.columns if column.ratio)


def _cells(case: Case, row: Row, reference: Row | None) -> Iterator[str]:
    for column in case.columns:
        value = middle(row, column.key)
        yield "-" if value is None else f"{value:,.{column.digits}f}"
    yield _spread(row, case.columns[0].key)
    for column in case.columns:
        if column.ratio:
            yield _ratio(column, row, reference)


def middle(row: Row, key: str) -> float | None:
    """The median of a figure, None if the row is an error or has no such figure."""
    values = [figures[key] for figures in row.rounds if key in figures]
    return median(values) if values and row.failed is None else None


def _spread(row: Row, key: str) -> str:
    value = middle(row, key)
    values = [figures[key] for figures in row.rounds if key in figures]
    return f"{100 * (max(values) - min(values)) / value:.0f} %" if value and values[1:] else "-"


def _ratio(column: Column, row: Row, reference: Row | None) -> str:
    if reference is None or reference is row or reference.failed or row.failed:
        return "-"
    both = zip(reference.rounds, row.rounds, strict=False)
    ratios = [
        ours[column.key] / theirs[column.key] for ours, theirs in both if theirs.get(column.key)
    ]
    return f"{median(ratios):.2f} x" if ratios else "-"


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    for number, line in enumerate(lines):
        cells = [text.rjust(width) for text, width in zip(line, widths, strict=True)]
        yield f"| {' | '.join([line[0].ljust(widths[0]), *cells[1:]])} |"
        if number == 0:
            rules = ["-" * width + ":" for width in widths[1:]]
            yield f"|{'-' * (widths[0] + 2)}|{'|'.join('-' + rule for rule in rules)}|"


def _reasons(rows: Sequence[Row]) -> Iterator[str]:
    found = [(row.server, row.missing or f"ERROR: {row.failed}") for row in rows]
    told = [
        (server, why) for (server, why), row in zip(found, rows, strict=True) if _is_without(row)
    ]
    yield from ["", *(f"- {server}: {_short(why)}" for server, why in told)] if told else []


def _is_without(row: Row) -> bool:
    return row.missing is not None or row.failed is not None


def _short(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _LONGEST_REASON else f"...{line[-_LONGEST_REASON:]}"


def write_json(tables: Sequence[Table], path: Path) -> None:
    """All figures of all rounds."""
    found = {
        "machine": machine(),
        "tables": [
            {
                "title": table.case.title,
                "rows": [
                    {
                        "server": row.server,
                        "missing": row.missing,
                        "failed": row.failed,
                        "rounds": row.rounds,
                    }
                    for row in table.rows
                ],
            }
            for table in tables
        ],
    }
    path.write_text(json.dumps(found, indent=1) + "\n")
