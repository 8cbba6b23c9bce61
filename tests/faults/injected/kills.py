"""A kill before each call in turn, until a run survives.

One directory serves a whole chain of runs, so that each start is the recovery from the kill before
it; after something was lost, the directory is kept and a new one begun.
"""

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.injected.calls import Call
from tests.faults.injected.scenarios import Run, Scenario
from tests.faults.injected.sender import Broken, Sender
from tests.faults.injected.served import WatchedServer
from tests.faults.injected.swept import check_swept
from tests.faults.injected.watch import Fault, Watch

NEVER = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A broken promise: before which call the server was killed, and what was seen."""

    at: int
    call: str
    message: str
    directory: Path


@dataclass(kw_only=True)
class KillReport:
    """What a chain came to.

    Attributes:
        kills: How often each call was the last, by what it was done to.
        calls: Calls of a run that survived.
    """

    scenario: str
    fsync: str
    kills: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    losses: list[Loss] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def points(self) -> int:
        """Kills."""
        return self.kills.total()


@dataclass
class Chain:
    """Runs of one scenario, in one mode, one behind the other.

    Attributes:
        folder: Everything is kept below it.
    """

    scenario: Scenario
    fsync: str
    folder: Path
    server: WatchedServer = field(init=False)
    watch: Watch = field(init=False)
    _places: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.server = self._new_server()
        self.watch = self.server.watch

    def _new_server(self) -> WatchedServer:
        place = self.folder / f"{self.scenario.name}-{self.fsync}-{next(self._places)}"
        place.mkdir(parents=True)
        return self.scenario.server(place / "uploads", self.fsync)

    def run_killed(self, at: int) -> str | None:
        """Once through the scenario, with a kill: before which call, None if there were fewer.

        Raises:
            Broken: Something was lost.
        """
        server = self.server
        if self.scenario.since_start:
            server.start(Fault(at=at, counts=_few_shards))
        else:
            if server.process is None:
                server.start()
            server.watch.arm(Fault(at=at))
        watch = self.watch = server.watch
        server.revive()
        client = Sender(port=lambda: server.port, on_lost=server.revive)
        try:
            self.scenario.work(Run(server=server, client=client))
        finally:
            watch.disarm()
        server.revive()
        check_swept(server.upload_dir, self.scenario.template)
        return watch.struck[0].told(server.upload_dir) if watch.struck else None

    def end_of_run(self, *, lost: bool) -> None:
        """Ends the server where the next run shall begin anew."""
        if lost or self.scenario.since_start:
            self.close()
            self.server = self._new_server()

    def close(self) -> None:
        """Ends the server, whatever became of it."""
        if self.server.process is not None:
            self.server.process.kill()
            self.server.bury()

    def count(self) -> int:
        """Calls of a whole run."""
        self.run_killed(NEVER)
        calls = self.server.watch.count
        self.end_of_run(lost=False)
        return calls


def kill_each(scenario: Scenario, fsync: str, folder: Path, most: int | None = None) -> KillReport:
    """Kills a server of this mode before each call of the scenario in turn.

    Args:
        scenario: What is done to it.
        fsync: The mode.
        folder: For everything that it writes; what belongs to a loss stays there.
        most: Kill points, spread over the run; None for all.
    """
    report = KillReport(scenario=scenario.name, fsync=fsync)
    begun = time.monotonic()
    chain = Chain(scenario, fsync, folder)
    try:
        report.calls = chain.count()
        for at in _points(report.calls, most):
            if not _kill(chain, at, report) and most is None:
                break
    finally:
        chain.close()
    report.seconds = time.monotonic() - begun
    return report


def _few_shards(call: Call) -> bool:
    """As `every_change`, but of the many folders that a first start makes only some."""
    is_shard = call.name.startswith("mkdir") and len(Path(call.paths[0]).name) == len("0af")
    return call.changes and (not is_shard or call.paths[0].endswith("ff"))


def _points(calls: int, most: int | None) -> Iterable[int]:
    if most is None:
        return itertools.count(1)
    if most >= calls:
        return range(1, calls + 1)
    # The last calls are those that finish, so they are among them.
    return sorted({1 + round((calls - 1) * (index + 1) / most) for index in range(most)})


def _kill(chain: Chain, at: int, report: KillReport) -> bool:
    """Whether the server was killed."""
    lost = False
    try:
        call = chain.run_killed(at)
        if call is not None:
            report.kills[call] += 1
    except (Broken, AssertionError, OSError) as error:
        struck = chain.watch.struck
        call = struck[0].told(chain.server.upload_dir) if struck else "an earlier one"
        report.losses.append(
            Loss(
                at=at,
                call=call,
                message=f"{type(error).__name__}: {error}",
                directory=chain.server.upload_dir,
            )
        )
        lost = True
    chain.end_of_run(lost=lost)
    return call is not None
