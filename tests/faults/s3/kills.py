"""A kill at each call to the store in turn, until a run survives: of the server, or of the gateway.

The gateway is started again when a client was refused because of it, or at the end of the run. One
state directory and one bucket serve a whole chain of runs, so that each start is the recovery from
the kill before it.
"""

import itertools
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.injected.sender import Broken, Sender
from tests.faults.s3.proxy import Fault, How, Kind, When
from tests.faults.s3.scenarios import Run, Scenario
from tests.faults.s3.served import S3Served, check_left, s3_serving
from tests.storage.s3_servers import S3Server

KINDS = (
    Kind(name="killed before", how=How.KILL),
    Kind(name="killed, but done", how=How.KILL, when=When.AFTER),
    Kind(name="gateway killed in", how=How.KILL, when=When.IN),
    Kind(name="gateway killed, but done", how=How.KILL, when=When.AFTER),
)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A broken promise: at which call the server was killed, and what was seen."""

    at: int
    call: str
    message: str


@dataclass(kw_only=True)
class KillReport:
    """What a chain came to.

    Attributes:
        kills: How often each call was the last.
    """

    scenario: str
    kind: str
    kills: Counter[str] = field(default_factory=Counter)
    losses: list[Loss] = field(default_factory=list)
    seconds: float = 0.0


def kill_each(
    store: S3Server, scenario: Scenario, kind: Kind, folder: Path, most: int | None = None
) -> KillReport:
    """Kills a server at each of its calls in turn.

    Args:
        store: Where the bucket lies.
        scenario: What is done meanwhile.
        kind: Of `KINDS`.
        folder: For what the server writes.
        most: Kill points, spread over the run; None for all.
    """
    report = KillReport(scenario=scenario.name, kind=kind.name)
    begun = time.monotonic()
    with s3_serving(store, folder, *scenario.flags) as server:
        server.start()
        for at in _points(server, scenario, kind, most):
            try:
                call = run_killed(server, scenario, kind, at)
            except (Broken, AssertionError, OSError) as error:
                struck = server.proxy.struck
                call = struck[0].operation if struck else "an earlier one"
                message = f"{type(error).__name__}: {error}"
                report.losses.append(Loss(at=at, call=call, message=message))
                break
            if call is None:
                break
            report.kills[call] += 1
    report.seconds = time.monotonic() - begun
    return report


def run_killed(server: S3Served, scenario: Scenario, kind: Kind, at: int) -> str | None:
    """Once through the scenario, with a kill: at which call, None if there were fewer."""
    gateway = server.place.server.gateway
    assert gateway is not None, "nobody else uses it"
    hits_gateway = kind.name.startswith("gateway")
    server.proxy.on_kill = gateway.kill if hits_gateway else server.strike
    server.proxy.arm(Fault(kind=kind, at=at))
    client = Sender(port=lambda: server.port, on_lost=server.revive, on_refused=gateway.start)
    lives = server.lives
    try:
        scenario.work(Run(server=server, client=client))
    finally:
        server.proxy.disarm()
        gateway.start()
    server.revive()
    if hits_gateway and server.lives > lives:
        raise Broken("the server ended with its gateway")
    check_left(server)
    return server.proxy.struck[0].operation if server.proxy.struck else None


def _points(server: S3Served, scenario: Scenario, kind: Kind, most: int | None) -> Iterable[int]:
    if most is None:
        return itertools.count(1)
    run_killed(server, scenario, kind, 1 << 30)
    calls = server.proxy.count
    # The last calls are those that finish, so they are among them.
    return sorted({1 + round((calls - 1) * (index + 1) / most) for index in range(most)})
