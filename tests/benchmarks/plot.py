"""Cost against size and against connections, as SVG: a line for each server, both axes in logs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from tests.benchmarks.measuring import GIB, KIB, MIB
from tests.benchmarks.report import middle
from tests.benchmarks.rounds import Table

Points = Mapping[str, Sequence[tuple[float, float]]]

_WIDTH, _HEIGHT = 760, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 150, 44, 56
_COLOURS = ("#444444", "#d1242f", "#8250df", "#0969da", "#1a7f37", "#bf8700", "#bc4c00")


def write_plots(tables: Sequence[Table], folder: Path) -> list[Path]:
    """One file for each axis that was measured; CPU seconds per GB upwards."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = dict.fromkeys(table.case.at[0] for table in tables if table.case.at)
    written = []
    for axis in axes:
        points = collect(tables, axis, "cpu")
        if points:
            path = folder / f"cpu-by-{axis.partition(' (')[0].replace(' ', '-')}.svg"
            path.write_text(draw(points, axis, "server's CPU, seconds per GB"))
            written.append(path)
    return written


def collect(tables: Sequence[Table], axis: str, key: str) -> dict[str, list[tuple[float, float]]]:
    """The medians by server; those without any are left out."""
    points: dict[str, list[tuple[float, float]]] = {}
    for table in tables:
        if table.case.at is not None and table.case.at[0] == axis:
            for row in table.rows:
                value = middle(row, key)
                if value:
                    points.setdefault(row.server, []).append((table.case.at[1], value))
    return points


def draw(points: Points, axis: str, upwards: str) -> str:
    """The picture."""
    everything = [point for line in points.values() for point in line]
    across = _Scale([x for x, _ in everything], _LEFT, _WIDTH - _RIGHT)
    up = _Scale([y for _, y in everything], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(upwards)}, by {escape(axis)}</text>',
        *_grid(across, up, [x for x, _ in everything], is_size="bytes" in axis),
        *_lines(points, across, up),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Scale:
    """Puts a value on a stretch of pixels, by its logarithm."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.least, self.most = min(values), max(values)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        span = math.log(self.most / self.least) or 1.0
        share = math.log(value / self.least) / span
        return self._start + share * (self._end - self._start)

    def marks(self) -> Iterator[float]:
        """1, 2 and 5 of each power of ten within."""
        for power in range(
            math.floor(math.log10(self.least)), math.ceil(math.log10(self.most)) + 1
        ):
            for first in (1, 2, 5):
                if self.least <= (mark := first * 10.0**power) <= self.most:
                    yield mark


def _grid(across: _Scale, up: _Scale, values: Sequence[float], *, is_size: bool) -> Iterator[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for mark in up.marks():
        y = up(mark)
        yield f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#dddddd"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>'
    for value in sorted(set(values)):
        x = across(value)
        label = _bytes(value) if is_size else f"{value:,.0f}"
        yield f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="#eeeeee"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>'
    yield f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" stroke="black" fill="none"/>'


def _bytes(value: float) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if value >= unit:
            return f"{value / unit:g} {name}"
    return f"{value:g} B"


def _lines(points: Points, across: _Scale, up: _Scale) -> Iterator[str]:
    # Names beside the ends of their lines, pushed apart where they would overlap.
    ends = sorted((up(line[-1][1]), name) for name, line in points.items())
    at: dict[str, float] = {}
    lowest = float(_TOP)
    for y, name in ends:
        at[name] = lowest = max(y, lowest)
        lowest += 15
    for number, (name, line) in enumerate(points.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        width = 3 if name.startswith("tusd-py") else 1.5
        pixels = [(across(x), up(y)) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
        yield f'<polyline points="{path}" stroke="{colour}" stroke-width="{width}" fill="none"/>'
        for x, y in pixels:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
        x = _WIDTH - _RIGHT + 10
        yield f'<text x="{x}" y="{at[name] + 4:.1f}" fill="{colour}">{escape(name)}</text>'
