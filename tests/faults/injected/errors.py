"""An error at each call in turn: once, or from then on until the client was refused twice.

The server lives on through all of it: the same one serves the next run, with other uploads.
"""

import errno
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.faults.injected.calls import Call
from tests.faults.injected.fates import Fate, Fates, points, seen, sender
from tests.faults.injected.scenarios import Run, Scenario
from tests.faults.injected.sender import Broken, Exchange
from tests.faults.injected.served import WatchedServer
from tests.faults.injected.swept import check_swept
from tests.faults.injected.watch import Fault

_NEED_ROOM = {"write", "pwrite64", "mkdir", "mkdirat", "link", "linkat", "copy_file_range"}
_SYNC = {"fsync", "fdatasync"}


def _needs_room(call: Call) -> bool:
    makes = call.name == "openat" and call.changes
    return makes or call.name in _NEED_ROOM or call.name.startswith("rename")


def _opens(call: Call) -> bool:
    return call.name == "openat"


def _any(_: Call) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An error of the system.

    Attributes:
        counts: The calls that can have it.
        statuses: What a client may see of it, other than for a HEAD.
    """

    number: int
    counts: Callable[[Call], bool]
    statuses: frozenset[int]

    @property
    def name(self) -> str:
        """Such as `ENOSPC`."""
        return errno.errorcode[self.number]


KINDS = (
    Kind(number=errno.ENOSPC, counts=_needs_room, statuses=frozenset({507})),
    Kind(number=errno.EDQUOT, counts=_needs_room, statuses=frozenset({507})),
    Kind(number=errno.EIO, counts=_any, statuses=frozenset({500})),
    Kind(number=errno.EMFILE, counts=_opens, statuses=frozenset({503})),
)
SCENARIOS_WITH_ERRORS = (
    "small",
    "small-steps",
    "small-with-upload",
    "large-with-upload",
    "plain",
    "broken-off",
    "checksummed",
    "concatenated",
    "unfinished-final",
    "terminated",
    "templated",
    "hooked",
    "taken",
)


@dataclass(kw_only=True)
class ErrorReport(Fates):
    """What a scenario came to with one kind of error."""

    scenario: str
    fsync: str


@dataclass
class Faulty:
    """A server that lives, and the errors that it meets."""

    scenario: Scenario
    fsync: str
    folder: Path
    server: WatchedServer = field(init=False)
    _number: int = 0

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A new server in a new directory."""
        self._number += 1
        place = self.folder / f"{self.scenario.name}-{self.fsync}-errors-{self._number}"
        place.mkdir(parents=True)
        self.server = self.scenario.server(place / "uploads", self.fsync)
        self.server.start()

    def meet(self, kind: Kind, at: int, *, lasting: bool) -> Fate | None:
        """Once through the scenario with an error: None if there were fewer calls."""
        watch = self.server.watch
        client = sender(self.server, watch.disarm, may_fall=self._may_fall)
        fault = Fault(at=at, error=kind.number, lasting=lasting, counts=kind.counts)
        watch.arm(fault)
        broken = ""
        try:
            self.scenario.work(Run(server=self.server, client=client))
            _check_statuses(client.exchanges, kind)
        except (AssertionError, OSError) as error:
            broken = f"{type(error).__name__}: {error}"
        watch.disarm()
        if not watch.struck and not broken:
            return None
        return Fate(
            at=at,
            kind=f"{kind.name}{' lasting' if lasting else ''}",
            call=watch.struck[0].told(self.server.upload_dir) if watch.struck else "an earlier one",
            seen=seen(client.exchanges),
            broken=broken,
        )

    def _may_fall(self) -> bool:
        failed = {call.name for call in self.server.watch.struck}
        return self.fsync != "always" and bool(failed & _SYNC)

    def count(self, kind: Kind) -> int:
        """Calls of a time through the scenario that could have an error, without one."""
        self.meet(kind, 1 << 30, lasting=False)
        return self.server.watch.count

    def close(self) -> None:
        """Ends the server."""
        if self.server.process is not None:
            self.server.process.kill()
            self.server.bury()


def _check_statuses(exchanges: Iterable[Exchange], kind: Kind) -> None:
    for told in exchanges:
        is_ours = told.code != "ERR_FINISH_FAILED"  # the application opens files, too
        if told.status >= 500 and told.status not in kind.statuses and is_ours:
            raise Broken(f"{kind.name} was told as {told.method} {told.status} {told.code}")


def meet_each(scenario: Scenario, fsync: str, folder: Path, most: int | None = None) -> ErrorReport:
    """Lets each call of a scenario fail in turn, with each kind of error.

    Args:
        scenario: What is done meanwhile.
        fsync: The mode of the server.
        folder: For what it writes.
        most: Calls for each kind of error, spread over the run; None for all.
    """
    report = ErrorReport(scenario=scenario.name, fsync=fsync)
    begun = time.monotonic()
    faulty = Faulty(scenario, fsync, folder)
    try:
        for kind, lasting in itertools.product(KINDS, (False, True)):
            for at in points(most, partial(faulty.count, kind)):
                fate = faulty.meet(kind, at, lasting=lasting)
                if fate is None:
                    break
                report.fates.append(fate)
                if fate.broken:
                    faulty.close()
                    faulty.begin()
        # What failed and nobody asks for any more is taken up by the next start.
        faulty.server.restart()
        check_swept(faulty.server.upload_dir, scenario.template)
    except AssertionError as error:
        told = f"after all: {error}"
        report.fates.append(Fate(at=0, kind="any", call="all", seen="", broken=told))
    finally:
        faulty.close()
    report.seconds = time.monotonic() - begun
    return report
