"""The results for people at a terminal."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tus_conformance.case import Case, Level
from tus_conformance.run import Outcome, Result
from tus_conformance.subject import Features

COLOURS = {
    Result.PASS: "green",
    Result.FAIL: "bold red",
    Result.SKIP: "dim",
    Result.ERROR: "bold magenta",
}
LONGEST_LOG = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a run found.

    Attributes:
        url: The server's upload creation URL.
        features: What it announced.
        outcomes: One for every case that was selected, in order.
    """

    url: str
    features: Features
    outcomes: tuple[Outcome, ...]

    def count(self, result: Result, level: Level | None = None) -> int:
        """How many cases (of a level) ended like this."""
        same = [one for one in self.outcomes if one.result is result]
        return sum(1 for one in same if level in (None, one.case.level))


def list_cases(console: Console, cases: Sequence[Case]) -> None:
    """Prints every case with its level, title and sentence."""
    for case in cases:
        line = Text.assemble((f"{case.id:<28}", "bold"), f"{case.level:<7}", case.title)
        console.print(line, soft_wrap=True)
        console.print(Text(f"{'':<28}{case.source}: {case.sentence}", "dim"), soft_wrap=True)


def section_table(console: Console, title: str, outcomes: Sequence[Outcome]) -> None:
    """Prints one section: a line for each case, and then what went wrong."""
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    for name in ("case", "level", "title", "result"):
        table.add_column(name, overflow="fold")
    for one in outcomes:
        result = Text(str(one.result), COLOURS[one.result])
        table.add_row(one.case.id, str(one.case.level), Text(one.case.title), result)
    console.print(table)
    for one in outcomes:
        if one.result in (Result.FAIL, Result.ERROR):
            _details(console, one)
    console.print()


def _details(console: Console, one: Outcome) -> None:
    console.print(Text(f"{one.case.id} {one.result} ({one.case.level}): {one.case.title}", "bold"))
    sentence = f'{one.case.source}: "{one.case.sentence}"'
    pairs = [("sentence", sentence), ("expected", one.expected), ("came", one.came)]
    for name, text in pairs:
        if text:
            console.print(Text(f"  {name + ':':<10}{text}"), soft_wrap=True)
    lines = [line for entry in one.log for line in entry.splitlines()]
    if len(lines) > LONGEST_LOG:
        lines = [f"... {len(lines) - LONGEST_LOG} lines before", *lines[-LONGEST_LOG:]]
    for line in lines:
        console.print(Text(f"    {line}", "dim"), soft_wrap=True)


def summary(console: Console, report: Report, *, strict: bool) -> None:
    """Prints how many cases of each level ended how, and why cases were skipped."""
    table = Table(title=report.url, title_justify="left", title_style="bold")
    table.add_column("level")
    for result in Result:
        table.add_column(str(result), justify="right")
    for level in Level:
        table.add_row(str(level), *(str(report.count(result, level)) for result in Result))
    console.print(table)
    for name, text in report.features.metadata:
        why = f"every upload was made with {name}: {text}; without it HEAD finds none (creation/3)"
        console.print(Text(why, "dim"), soft_wrap=True)
    reasons = Counter(one.came for one in report.outcomes if one.result is Result.SKIP)
    for reason, count in reasons.most_common():
        console.print(Text(f"skipped {count}: {reason}", "dim"), soft_wrap=True)
    console.print(Text(_verdict(report, strict=strict), "bold"), soft_wrap=True)


def _verdict(report: Report, *, strict: bool) -> str:
    if errors := report.count(Result.ERROR):
        return f"The suite itself failed in {errors} cases; this run judges nothing."
    must, should = report.count(Result.FAIL, Level.MUST), report.count(Result.FAIL, Level.SHOULD)
    failed = must + (should if strict else 0)
    kinds = "MUST and SHOULD" if strict else "MUST"
    return f"{failed} cases at {kinds} fail." if failed else f"No case at {kinds} fails."
