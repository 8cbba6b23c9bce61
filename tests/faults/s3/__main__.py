"""Errors and kills, all or some; the exit status is 1 after a loss.

python -m tests.faults.s3 [errors|kills|gateway] [--scenario NAME] [--kind NAME] [--most N]
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.faults.injected.fates import table
from tests.faults.s3 import errors, kills
from tests.faults.s3.proxy import Kind
from tests.faults.s3.scenarios import SCENARIOS
from tests.storage.s3_servers import CEPH_PROGRAMS, SMALL_PART, ceph, missing

AT_ONCE = 2
"""Stores, and servers, at a time."""


def meet(name: str, folder: Path, kinds: list[str], most: int | None) -> errors.ErrorReport:
    """One scenario, on a store of its own."""
    # Of a short name, since there are sockets in it.
    place = Path(tempfile.mkdtemp(prefix="ceph-"))
    try:
        with ceph(place / "c", smallest_part=SMALL_PART) as store:
            os.environ.update(store.environment)
            found = SCENARIOS[name]
            return errors.meet_each(store, found, folder / name, kinds=kinds, most=most)
    finally:
        shutil.rmtree(place)


def kill(name: str, folder: Path, kinds: list[Kind], most: int | None) -> list[kills.KillReport]:
    """Likewise."""
    place = Path(tempfile.mkdtemp(prefix="ceph-"))
    try:
        with ceph(place / "c", smallest_part=SMALL_PART) as store:
            os.environ.update(store.environment)
            return [
                kills.kill_each(store, SCENARIOS[name], kind, folder / f"{name}-{number}", most)
                for number, kind in enumerate(kinds)
            ]
    finally:
        shutil.rmtree(place)


def all_errors(names: list[str], folder: Path, options: argparse.Namespace) -> int:
    """How many losses there were."""
    fates, lost = [], 0
    work = partial(meet, folder=folder, kinds=options.kind, most=options.most)
    with ProcessPoolExecutor(AT_ONCE) as pool:
        for report in pool.map(work, names):
            fates += report.fates
            lost += len(report.losses)
            print(
                f"{report.scenario:14} errors {len(report.fates):4}  losses {len(report.losses)}  "
                f"{report.seconds:6.1f} s"
            )
            for fate in report.losses:
                print(
                    f"    {fate.kind} at call {fate.at}, {fate.call}: {fate.broken} ({fate.seen})"
                )
    print("\n| injected | at | the client saw | times | lost |\n|---|---|---|---|---|")
    print("\n".join(table(fates)))
    print(f"\n{len(fates)} errors: {lost} losses\n")
    return lost


def all_kills(names: list[str], folder: Path, options: argparse.Namespace) -> int:
    """How many losses there were."""
    total, lost = Counter[str](), 0
    wanted = [
        kind
        for kind in kills.KINDS
        if kind.name.startswith("gateway") == (options.what == "gateway")
        and (not options.kind or kind.name in options.kind)
    ]
    work = partial(kill, folder=folder, kinds=wanted, most=options.most)
    with ProcessPoolExecutor(AT_ONCE) as pool:
        for report in (each for reports in pool.map(work, names) for each in reports):
            total += Counter({f"{report.kind}: {call}": n for call, n in report.kills.items()})
            lost += len(report.losses)
            print(
                f"{report.scenario:14} {report.kind:24} kills {report.kills.total():3}  "
                f"losses {len(report.losses)}  {report.seconds:6.1f} s"
            )
            for loss in report.losses:
                print(f"    at call {loss.at}, {loss.call}: {loss.message}")
    print()
    for call, count in sorted(total.items()):
        print(f"    {count:5}  {call}")
    print(f"\n{total.total()} kills: {lost} losses\n")
    return lost


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.s3", description=__doc__)
    parser.add_argument("what", choices=["errors", "kills", "gateway"])
    parser.add_argument("--scenario", action="append", choices=[*SCENARIOS], default=[])
    names = sorted({kind.name for kind in (*errors.KINDS, *kills.KINDS)})
    parser.add_argument("--kind", action="append", choices=names, default=[])
    parser.add_argument("--most", type=int, help="calls of each scenario and kind")
    options = parser.parse_args()
    if lacking := missing(CEPH_PROGRAMS):
        print(f"not run: {', '.join(lacking)} not installed")
        return 2
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="tusd-py-s3-faults-"))
    run = all_errors if options.what == "errors" else all_kills
    lost = run(options.scenario or [*SCENARIOS], folder, options)
    print(f"{time.monotonic() - begun:.0f} s; written below {folder}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
