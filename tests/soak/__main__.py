"""A soak: `python -m tests.soak --minutes 20 [--seed S] [--fsync ...] [--workers N] ...`.

Clients do at random what networks and people do, and the server is killed, ended and started in
between; an oracle knows which bytes must be there, see `oracle`. What it did is printed as a table.
It stops at the first mismatch, tells all that is known of that upload, and exits with 1. A seed
repeats what the clients want to do, not how the kernel and the clock cut it.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.soak.running import Settings, soak


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--fsync", choices=["never", "complete", "always"], default="complete")
    parser.add_argument("--workers", type=int, default=1, help="of the server")
    parser.add_argument("--clients", type=int, default=6, help="at the same time")
    parser.add_argument("--kill-every", type=float, default=6.0, help="seconds, about")
    parser.add_argument("--expire-after", type=int, default=20, help="seconds")
    parser.add_argument("--body", choices=["socket", "receive"], default="socket")
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--dir", type=Path, help="where it is done; kept. Otherwise in /tmp")
    given = parser.parse_args()
    print(f"--seed {given.seed}", flush=True)
    settings = Settings(
        seed=given.seed,
        seconds=given.minutes * 60,
        clients=given.clients,
        kill_every=given.kill_every,
        expire_after=given.expire_after,
        fsync=given.fsync,
        workers=given.workers,
        env={"TUSD_PY_TEST_LOOP": given.loop, "TUSD_PY_TEST_BODY": given.body},
    )
    if given.dir is not None:
        given.dir.mkdir(parents=True, exist_ok=True)
        place = soak(given.dir, settings)
    else:
        with tempfile.TemporaryDirectory(prefix="tusd-py-soak-") as directory:
            place = soak(Path(directory), settings)
    for what, count in [*place.tally.rows(), ("mismatches", len(place.failed))]:
        print(f"{count:>18,}  {what}")
    for failure in place.failed:
        print(failure)
    sys.exit(bool(place.failed))


if __name__ == "__main__":
    main()
