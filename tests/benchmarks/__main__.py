"""Measures servers on loopback, and prints a table for each scenario.

    python -m tests.benchmarks                             # everything: several hours
    python -m tests.benchmarks big small --rounds 3        # some scenarios
    python -m tests.benchmarks --quick                     # everything, smaller: for a first look
    python -m tests.benchmarks big --only bare tusd-py     # some servers
    python -m tests.benchmarks sizes connections --svg .   # the plots

Server and client share the machine, so leave it alone meanwhile. Peers are installed once, from
their own registries, below `--home`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.cases import FULL, QUICK, Bench, Case
from tests.benchmarks.peers import catalogue
from tests.benchmarks.plot import write_plots
from tests.benchmarks.report import LEGEND, machine, markdown, write_json
from tests.benchmarks.rounds import Table, run, to_stderr
from tests.benchmarks.scenarios import SCENARIOS
from tests.benchmarks.servers import MEMORY

_HOME = Path.home() / ".cache" / "tusd-py-benchmarks"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    servers = list(catalogue(None))
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = ", ".join(SCENARIOS)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {known}")
    parser.add_argument("--rounds", type=int, help="of each; 5, or 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="send less")
    parser.add_argument("--only", nargs="+", choices=servers, metavar="SERVER", help=str(servers))
    parser.add_argument("--home", type=Path, default=_HOME, help=f"of the peers; {_HOME}")
    parser.add_argument("--disk", type=Path, help="folder for uploads; below --home")
    parser.add_argument("--tusd", type=Path, help="a tusd to take; else of PATH, or it is built")
    parser.add_argument("--json", type=Path, help="write all figures of all rounds here")
    parser.add_argument("--svg", type=Path, help="write plots of sizes and connections here")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.scenarios) - SCENARIOS.keys())
    if unknown:
        parser.error(f"no scenario {unknown[0]!r}; there are {known}")
    return options


def _limited(case: Case, only: Sequence[str] | None) -> Case | None:
    """The case without the servers that were not asked for; None if none is left."""
    if only is None or case.is_of_ours:
        return case
    left = tuple(server for server in case.servers if server in only)
    return replace(case, servers=left) if left else None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 if a row is an error."""
    options = _parse(arguments)
    scale = QUICK if options.quick else FULL
    home = options.home.expanduser().resolve()
    bench = Bench(home=home, disk=options.disk or home / "uploads", memory=MEMORY, scale=scale)
    peers = catalogue(options.tusd)
    print(f"{machine()}\n\n{LEGEND}\n", flush=True)
    tables: list[Table] = []
    for name in options.scenarios or SCENARIOS:
        for whole in SCENARIOS[name](scale):
            case = _limited(whole, options.only)
            if case is not None:
                tables.append(run(case, bench, peers, options.rounds or scale.rounds, to_stderr))
                print(markdown(tables[-1]), flush=True)
                if options.json:
                    write_json(tables, options.json)
    for path in write_plots(tables, options.svg) if options.svg else ():
        to_stderr(f"wrote {path}")
    return int(any(row.failed for table in tables for row in table.rows))


if __name__ == "__main__":
    raise SystemExit(main())
