"""An error at each call in turn: once, or from then on until the client was refused twice.

The server lives on through all of it: the same one serves the next run, with other uploads.
"""

import itertools
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.injected.sender import Broken, Exchange, Sender
from tests.faults.s3.proxy import Call, Fault, How, Kind, When
from tests.faults.s3.scenarios import Run, Scenario
from tests.faults.s3.served import S3Served, check_left, s3_serving
from tests.storage.s3_servers import S3Server

REFUSALS = 2
"""How often a client is refused before a lasting error is over."""

LOST = 410
"""What a client is told when bytes are not there any more, or the store says so."""


def _names_multipart(call: Call) -> bool:
    return bool(call.multipart)


def _needs_multipart(call: Call) -> bool:
    return bool(call.multipart) and call.operation != "AbortMultipartUpload"


def _tells_late(call: Call) -> bool:
    return call.operation in ("CompleteMultipartUpload", "CopyObject", "UploadPartCopy")


def _sends_part(call: Call) -> bool:
    return call.operation == "UploadPart"


KINDS = (
    Kind(name="500", how=How.REFUSE, status=500, code="InternalError"),
    Kind(name="500, but done", how=How.REFUSE, when=When.AFTER, status=500, code="InternalError"),
    Kind(name="503 SlowDown", how=How.REFUSE, status=503, code="SlowDown"),
    Kind(name="403 ExpiredToken", how=How.REFUSE, status=403, code="ExpiredToken"),
    Kind(name="reset before", how=How.RESET),
    Kind(name="reset in", how=How.RESET, when=When.IN),
    Kind(name="reset after", how=How.RESET, when=When.AFTER),
    Kind(name="no answer", how=How.STALL),
    Kind(name="no answer, but done", how=How.STALL, when=When.AFTER),
    Kind(
        name="404 NoSuchUpload",
        how=How.REFUSE,
        status=404,
        code="NoSuchUpload",
        fits=_names_multipart,
    ),
    Kind(
        name="200 with an error", how=How.SPOIL, status=200, code="InternalError", fits=_tells_late
    ),
    Kind(name="late", how=How.LATE, when=When.AFTER, fits=_sends_part),
    Kind(name="aborted", how=How.ABORT, when=When.AFTER, fits=_needs_multipart),
)
_ONCE_ONLY = {"late", "aborted"}


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
    """What a scenario came to."""

    scenario: str
    fates: list[Fate] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def losses(self) -> list[Fate]:
        """Where a promise was not kept."""
        return [fate for fate in self.fates if fate.broken]


@dataclass
class Faulty:
    """A server that lives, and the errors that it meets in a scenario."""

    scenario: Scenario
    server: S3Served

    def meet(self, kind: Kind, at: int, *, lasting: bool) -> Fate | None:
        """Once through the scenario with an error: None if there were fewer calls."""
        proxy = self.server.proxy
        client = self._client(kind)
        proxy.arm(Fault(kind=kind, at=at, lasting=lasting))
        broken = ""
        try:
            self._run(client, may_be_lost=kind.how is How.ABORT)
            proxy.disarm()
            _check_statuses(client.exchanges)
            check_left(self.server)
        except (AssertionError, OSError) as error:
            broken = f"{type(error).__name__}: {error}"
        finally:
            proxy.disarm()
        if not proxy.struck and not broken:
            return None
        return Fate(
            at=at,
            kind=f"{kind.name}{', lasting' if lasting else ''}",
            call=proxy.struck[0].operation if proxy.struck else "an earlier one",
            seen=_seen(client.exchanges),
            broken=broken,
        )

    def _run(self, client: Sender, *, may_be_lost: bool) -> None:
        try:
            self.scenario.work(Run(server=self.server, client=client))
        except Broken:
            # Somebody has removed what was stored: the client must be told so, and was.
            if not may_be_lost or not any(told.status == LOST for told in client.exchanges):
                raise

    def _client(self, kind: Kind) -> Sender:
        server, refusals = self.server, itertools.count(1)

        def refused() -> None:
            if next(refusals) >= REFUSALS:
                server.proxy.disarm()

        def lost() -> None:
            if server.process is None or server.process.poll() is not None:
                raise Broken("the server ended")
            refused()

        return Sender(
            port=lambda: server.port,
            on_lost=lost,
            on_refused=refused,
            asks_again=frozenset({LOST}) if kind.code == "NoSuchUpload" else frozenset(),
        )


def _check_statuses(exchanges: Iterable[Exchange]) -> None:
    for told in exchanges:
        if told.status >= 500 and (told.status, told.code) != (500, "ERR_STORAGE"):
            raise Broken(f"it was told as {told.method} {told.status} {told.code}")


def _seen(exchanges: Iterable[Exchange]) -> str:
    kinds = {
        f"{told.method} {told.status} {told.code}".strip() if told.status else
        f"{told.method} dropped"
        for told in exchanges
        if (told.status >= 500 or told.status in (0, 409, LOST, 423))
    }  # fmt: skip
    return ", ".join(sorted(kinds)) or "nothing"


def meet_each(
    store: S3Server,
    scenario: Scenario,
    folder: Path,
    *,
    kinds: Iterable[str] = (),
    most: int | None = None,
) -> ErrorReport:
    """Lets each call of a scenario fail in turn, with each kind of error.

    Args:
        store: Where the bucket lies.
        scenario: What is done meanwhile.
        folder: For what the server writes.
        kinds: Names; none for all.
        most: Calls for each kind of error, spread over the run; None for all.
    """
    report = ErrorReport(scenario=scenario.name)
    begun = time.monotonic()
    with ExitStack() as stack:
        servers = itertools.count(1)

        def start() -> Faulty:
            place = folder / f"{scenario.name}-{next(servers)}"
            server = stack.enter_context(s3_serving(store, place, *scenario.flags))
            server.start()
            return Faulty(scenario, server)

        faulty = start()
        for kind, lasting in itertools.product(KINDS, (False, True)):
            if (kinds and kind.name not in kinds) or (lasting and kind.name in _ONCE_ONLY):
                continue
            for at in _points(faulty, kind, most):
                fate = faulty.meet(kind, at, lasting=lasting)
                if fate is None:
                    break
                report.fates.append(fate)
                if fate.broken:
                    faulty = start()
    report.seconds = time.monotonic() - begun
    return report


def _points(faulty: Faulty, kind: Kind, most: int | None) -> Iterable[int]:
    if most is None:
        return itertools.count(1)
    faulty.meet(kind, 1 << 30, lasting=False)
    calls = faulty.server.proxy.count
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
