"""An error at each call in turn: once, or from then on until the client was refused twice.

The server lives on through all of it: the same one serves the next run, with other uploads.
"""

import itertools
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.faults.injected.fates import Fate, Fates, points, seen, sender
from tests.faults.injected.sender import Broken, Exchange, Sender
from tests.faults.s3.proxy import Call, Fault, How, Kind, When
from tests.faults.s3.scenarios import Run, Scenario
from tests.faults.s3.served import S3Served, check_left, s3_serving
from tests.storage.s3_servers import S3Server

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


@dataclass(kw_only=True)
class ErrorReport(Fates):
    """What a scenario came to."""

    scenario: str


@dataclass
class Faulty:
    """A server that lives, and the errors that it meets in a scenario."""

    scenario: Scenario
    server: S3Served

    def meet(self, kind: Kind, at: int, *, lasting: bool) -> Fate | None:
        """Once through the scenario with an error: None if there were fewer calls."""
        proxy = self.server.proxy
        again = frozenset({LOST}) if kind.code == "NoSuchUpload" else frozenset[int]()
        client = sender(self.server, proxy.disarm, asks_again=again)
        proxy.arm(Fault(kind=kind, at=at, lasting=lasting))
        broken = ""
        try:
            self._run(client, may_be_lost=kind.how is How.ABORT)
            proxy.disarm()
            _check_statuses(client.exchanges, is_busy=kind.status == 503)
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
            seen=seen(client.exchanges),
            broken=broken,
        )

    def _run(self, client: Sender, *, may_be_lost: bool) -> None:
        try:
            self.scenario.work(Run(server=self.server, client=client))
        except Broken:
            # Somebody has removed what was stored: the client must be told so, and was.
            if not may_be_lost or not any(told.status == LOST for told in client.exchanges):
                raise

    def count(self, kind: Kind) -> int:
        """Calls of a time through the scenario that could have an error, without one."""
        self.meet(kind, 1 << 30, lasting=False)
        return self.server.proxy.count


def _check_statuses(exchanges: Iterable[Exchange], *, is_busy: bool) -> None:
    expected = (503, "ERR_STORAGE_BUSY") if is_busy else (500, "ERR_STORAGE")
    for told in exchanges:
        if told.status >= 500 and (told.status, told.code) != expected:
            raise Broken(f"it was told as {told.method} {told.status} {told.code}")


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
            for at in points(most, partial(faulty.count, kind)):
                fate = faulty.meet(kind, at, lasting=lasting)
                if fate is None:
                    break
                report.fates.append(fate)
                if fate.broken:
                    faulty = start()
    report.seconds = time.monotonic() - begun
    return report
