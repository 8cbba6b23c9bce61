"""Rounds: every server once, then every server again, so that a noisy hour hits them all."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.benchmarks.cases import Bench, Case
from tests.benchmarks.link import LoadFailed, Unable
from tests.benchmarks.meter import Figures
from tests.benchmarks.peers import OURS, NotHere, Peer


@dataclass(slots=True)
class Row:
    """What was found of one server: figures of each round, or why there are none."""

    server: str
    rounds: list[Figures] = field(default_factory=list)
    missing: str | None = None
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a case, in its order."""

    case: Case
    rows: Sequence[Row]


def run(
    case: Case,
    bench: Bench,
    peers: Mapping[str, Peer],
    rounds: int,
    say: Callable[[str], None],
) -> Table:
    """Measures a case; a server that fails once is out of it, and its row says why.

    Args:
        case: What to measure.
        bench: Where, and how much.
        peers: By name; a case's server that is none of them stands for ours.
        rounds: How often.
        say: Told what happens.
    """
    rows = [Row(server) for server in case.servers]
    for number in range(min(rounds, case.rounds or rounds)):
        # Another one begins each time: what a server leaves to the disk hits another one.
        shift = number % len(rows)
        for row in rows[shift:] + rows[:shift]:
            if row.missing is None and row.failed is None:
                say(f"{case.title}: round {number + 1}, {row.server}")
                peer = peers.get(row.server) or replace(peers[OURS], name=row.server)
                _measure(case, peer, bench, row)
                say(f"  {row.missing or row.failed or _brief(row.rounds[-1])}")
    return Table(case, rows)


def _measure(case: Case, peer: Peer, bench: Bench, row: Row) -> None:
    try:
        row.rounds.append(case.measure(peer, bench))
    except (NotHere, Unable) as error:
        row.missing = str(error)
    except (LoadFailed, OSError) as error:
        row.failed = str(error) or repr(error)


def _brief(figures: Figures) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in figures.items())


def to_stderr(line: str) -> None:
    """Says what happens without disturbing the tables."""
    print(line, file=sys.stderr, flush=True)
