"""An error at each call in turn: once, or from then on until the client was refused twice.

The server lives on through all of it: the same one serves the next run, with other uploads.
"""

import errno
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.injected.calls import Call
from tests.faults.injected.scenarios import Run, Scenario
from tests.faults.injected.sender import Broken, Exchange, Sender
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
REFUSALS = 2
"""How often a client is refused before a lasting error is over."""

SCENARIOS_WITH_ERRORS = (
    "small",
    "small-steps",
    "small-with-upload",
    "large-with-upload",
    "plain",
    "checksummed",
    "concatenated",
    "unfinished-final",
    "terminated",
    "templated",
    "hooked",
    "taken",
)


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What came of an error.

    Attributes:
        call: What failed.
        seen: What the client saw: statuses with their codes, or that all went well.
        broken: What promise was not kept, empty if none.
    """

    at: int
    kind: str
    call: str
    seen: str
    broken: str = ""


@dataclass(kw_only=True)
class ErrorReport:
    """What a scenario came to with one kind of error."""

    scenario: str
    fsync: str
    fates: list[Fate] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def losses(self) -> list[Fate]:
        """Where a promise was not kept."""
        return [fate for fate in self.fates if fate.broken]


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
        client = self._client(kind, lasting=lasting)
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
            seen=_seen(client.exchanges),
            broken=broken,
        )

    def _client(self, kind: Kind, *, lasting: bool) -> Sender:
        server, refusals = self.server, itertools.count(1)

        def refused() -> None:
            if next(refusals) >= REFUSALS:
                server.watch.disarm()

        def lost() -> None:
            if server.process is None or server.process.poll() is not None:
                raise Broken("the server ended")
            refused()

        def may_fall() -> bool:
            failed = {call.name for call in server.watch.struck}
            return self.fsync != "always" and bool(failed & _SYNC)

        return Sender(port=lambda: server.port, on_lost=lost, on_refused=refused, may_fall=may_fall)

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


def _seen(exchanges: Iterable[Exchange]) -> str:
    kinds = {
        f"{told.method} {told.status} {told.code}".strip() if told.status else
        f"{told.method} dropped"
        for told in exchanges
        if (told.status >= 500 or told.status in (0, 409, 423))
    }  # fmt: skip
    return ", ".join(sorted(kinds)) or "nothing"


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
            for at in _points(faulty, kind, most):
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


def _points(faulty: Faulty, kind: Kind, most: int | None) -> Iterable[int]:
    if most is None:
        return itertools.count(1)
    faulty.meet(kind, 1 << 30, lasting=False)
    calls = faulty.server.watch.count
    return sorted({1 + round((calls - 1) * (index + 0.5) / most) for index in range(most)})


def table(fates: Iterable[Fate]) -> list[str]:
    """What failed, what the client saw of it, how often, and how often something was lost."""
    rows: Counter[tuple[str, str, str]] = Counter()
    lost: Counter[tuple[str, str, str]] = Counter()
    for fate in fates:
        row = (fate.kind, fate.call, fate.seen)
        rows[row] += 1
        lost[row] += bool(fate.broken)
    return [
        f"| {kind} | {call} | {seen} | {count} | {lost[kind, call, seen]} |"
        for (kind, call, seen), count in sorted(rows.items())
    ]
