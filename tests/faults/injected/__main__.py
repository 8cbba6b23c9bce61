"""Kills, cuts of power and errors, all or some; the exit status is 1 after a loss.

python -m tests.faults.injected [kills|power|errors] [--scenario NAME] [--fsync MODE] [--most N]
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.faults.injected import recording, watch
from tests.faults.injected.errors import (
    SCENARIOS_WITH_ERRORS,
    ErrorReport,
    meet_each,
)
from tests.faults.injected.evidence import Evidence, evidence
from tests.faults.injected.fates import table
from tests.faults.injected.kills import KillReport, kill_each
from tests.faults.injected.power import record
from tests.faults.injected.rebooting import MODES as PROMISING
from tests.faults.injected.rebooting import POWER, PowerReport, cut_each, recover_twice
from tests.faults.injected.scenarios import MODES, SCENARIOS
from tests.faults.injected.sender import Broken

KILLED = tuple(name for name in SCENARIOS if name != "slow-steps")
"""That one waits for what a server does once a second, which no kill point is worth."""

AT_ONCE = 2
"""Servers at a time."""

TWICE = 4
"""Answers of each recording at which the power is cut, and again while the server recovers."""

T = TypeVar("T")
Case = tuple[str, str, Path, int | None]


def kill(case: Case) -> KillReport:
    name, fsync, folder, most = case
    return kill_each(SCENARIOS[name], fsync, folder, most)


def kills(cases: list[Case]) -> int:
    """How many losses there were."""
    total, calls = [], Counter[str]()
    for report in _each(kill, cases):
        total.append(report)
        calls += report.kills
        print(
            f"{report.scenario:18} {report.fsync:9} calls {report.calls:4}  "
            f"kill points {report.points:4}  losses {len(report.losses)}  "
            f"{report.seconds:6.1f} s"
        )
        for loss in report.losses:
            print(f"    before call {loss.at}, {loss.call}: {loss.message}\n    {loss.directory}")
    print("\nKills, by the call that was not carried out:")
    for call, count in calls.most_common():
        print(f"    {count:5}  {call}")
    lost = sum(len(report.losses) for report in total)
    print(f"\n{calls.total()} kill points in {len(total)} scenarios and modes: {lost} losses\n")
    return lost


def lose_power(case: Case) -> tuple[list[Evidence], PowerReport, PowerReport]:
    name, fsync, folder, most = case
    place = folder / f"{name}-{fsync}-power"
    recorded = record(SCENARIOS[name], fsync, place / "run")
    try:
        shown, broken = evidence(recorded), []
    except Broken as error:
        shown, broken = [], [f"the order of the calls: {error}"]
    since = 0 if name == "small-with-upload" else recorded.ready
    once = cut_each(recorded, place / "cut", most, since=since)
    once.losses += broken
    twice = recover_twice(
        recorded, place / "again", TWICE if most is None else 1, every=1 if most is None else 7
    )
    shutil.rmtree(place / "again")
    return shown, once, twice


def power(cases: list[Case]) -> int:
    """How many losses there were."""
    lost = cuts = reboots = killed = 0
    for shown, *reports in _each(lose_power, cases):
        once, twice = reports
        print(
            f"{once.scenario:18} {once.fsync:9} cuts {once.cuts:4}, reboots {once.reboots:5}  "
            f"while recovering: cuts {twice.cuts:5}, reboots {twice.reboots:5}, "
            f"kills {twice.kills:4}  losses {len(once.losses) + len(twice.losses)}"
        )
        for each in shown:
            print(f"    {each.answer}\n        " + "\n        ".join(each.syncs))
        for report in reports:
            lost += len(report.losses)
            cuts += report.cuts
            reboots += report.reboots
            killed += report.kills
            for loss in report.losses[:20]:
                print(f"    LOST: {loss}")
    print(f"\n{cuts} cuts of power, {reboots} reboots, {killed} kills in between: {lost} losses\n")
    return lost


def meet(case: Case) -> ErrorReport:
    name, fsync, folder, most = case
    return meet_each(SCENARIOS[name], fsync, folder, most)


def errors(cases: list[Case]) -> int:
    """How many losses there were."""
    fates = []
    lost = 0
    for report in _each(meet, cases):
        fates += report.fates
        lost += len(report.losses)
        print(
            f"{report.scenario:18} {report.fsync:9} errors {len(report.fates):4}  "
            f"losses {len(report.losses)}  {report.seconds:6.1f} s"
        )
        for fate in report.losses:
            print(f"    {fate.kind} at call {fate.at}, {fate.call}: {fate.broken} ({fate.seen})")
    print("\n| injected | at | the client saw | times | lost |\n|---|---|---|---|---|")
    print("\n".join(table(fates)))
    print(f"\n{len(fates)} errors: {lost} losses\n")
    return lost


def _each(run: Callable[[Case], T], cases: list[Case]) -> Iterator[T]:
    with ProcessPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(run, cases)


KINDS: dict[str, tuple[Callable[[list[Case]], int], tuple[str, ...], tuple[str, ...]]] = {
    "kills": (kills, KILLED, MODES),
    "power": (power, tuple(scenario.name for scenario in POWER), PROMISING),
    "errors": (errors, SCENARIOS_WITH_ERRORS, ("complete", "always")),
}


def _cases(
    options: argparse.Namespace, names: Iterable[str], modes: Iterable[str], folder: Path
) -> list[Case]:
    return [
        (name, fsync, folder, options.most)
        for name in names
        for fsync in modes
        if (not options.scenario or name in options.scenario)
        and (not options.fsync or fsync in options.fsync)
    ]


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.injected", description=__doc__)
    parser.add_argument("kind", nargs="?", choices=[*KINDS, "all"], default="all")
    parser.add_argument("--scenario", action="append", choices=[*SCENARIOS], default=[])
    parser.add_argument("--fsync", action="append", choices=MODES, default=[])
    parser.add_argument("--most", type=int, help="points of each scenario and mode")
    options = parser.parse_args()
    if (reason := watch.why_not() or recording.why_not()) is not None:
        print(f"not run: {reason}")
        return 2
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="tusd-py-faults-"))
    lost = 0
    for kind in KINDS if options.kind == "all" else [options.kind]:
        run, names, modes = KINDS[kind]
        lost += run(_cases(options, names, modes, folder))
    print(f"{time.monotonic() - begun:.0f} s, on {os.uname().release}; written below {folder}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
