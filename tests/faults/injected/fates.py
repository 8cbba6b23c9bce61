"""What came of errors, and of the clients that met them."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.faults.injected.sender import Broken, Exchange, Sender
from tests.serving import Served

REFUSALS = 2
"""How often a client is refused before a lasting error is over."""

_TOLD = (0, 409, 410, 423)
"""Statuses below 500 that a client was told because of an error; 0 for no answer."""


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
class Fates:
    """What a scenario came to."""

    fates: list[Fate] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def losses(self) -> list[Fate]:
        """Where a promise was not kept."""
        return [fate for fate in self.fates if fate.broken]


def sender(
    server: Served,
    disarm: Callable[[], object],
    *,
    asks_again: frozenset[int] = frozenset(),
    may_fall: Callable[[], bool] = lambda: False,
) -> Sender:
    """A client of a server that must live on; `disarm` ends an error after some refusals."""
    refusals = itertools.count(1)

    def refused() -> None:
        if next(refusals) >= REFUSALS:
            disarm()

    def lost() -> None:
        if server.process is None or server.process.poll() is not None:
            raise Broken("the server ended")
        refused()

    return Sender(
        port=lambda: server.port,
        on_lost=lost,
        on_refused=refused,
        asks_again=asks_again,
        may_fall=may_fall,
    )


def seen(exchanges: Iterable[Exchange]) -> str:
    """What a client saw of an error."""
    kinds = {
        f"{told.method} {told.status} {told.code}".strip() if told.status else
        f"{told.method} dropped"
        for told in exchanges
        if told.status >= 500 or told.status in _TOLD
    }  # fmt: skip
    return ", ".join(sorted(kinds)) or "nothing"


def points(most: int | None, count: Callable[[], int]) -> Iterable[int]:
    """Which calls fail in turn.

    Args:
        most: How many, spread over all; None for all.
        count: Goes through the scenario without an error, and counts them.
    """
    if most is None:
        return itertools.count(1)
    calls = count()
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
        f"| {kind} | {call} | {what} | {count} | {lost[kind, call, what]} |"
        for (kind, call, what), count in sorted(rows.items())
    ]
