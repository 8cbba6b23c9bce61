"""What the connections of one server share: threads, and a timer that looks after the slow.

The rules:
- One timer serves all connections, and runs only while there are bodies or heads under way. It
  looks after a share of the bodies each time, so that nobody waits for long for all of them.
- The slow bodies of a round are written by one thread, in groups, so that nobody waits for long
  for the others' writes.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from tusd_py.wire.bursts import Burst, Threads

_TICK = 0.125
_SHARES = 4
_GROUP = 64


class Served(Protocol):
    """A body under way."""

    def look_after(self, now: float) -> Burst | None:
        """At each look around: what a thread is to do for it now."""
        ...

    def settle(self, burst: Burst) -> None:
        """When that is done."""
        ...


class Workshop:
    """See the rules above; to be used on one event loop.

    Attributes:
        loop: The event loop.
        threads: They move the bytes.
        addresses: How many connections each has, where that is limited.
        held: By path, what starts the requests that wait for their small bodies.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.threads = Threads()
        self.addresses: dict[str, int] = {}
        self.held: dict[str, list[Callable[[], None]]] = {}
        self._bodies: tuple[set[Served], ...] = tuple(set() for _ in range(_SHARES))
        self._turn = 0
        self._deadlines: dict[Callable[[], None], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, body: Served) -> None:
        """Looks after a body from now on."""
        self._bodies[hash(body) % _SHARES].add(body)
        self._start()

    def discard(self, body: Served) -> None:
        """Looks after it no more."""
        self._bodies[hash(body) % _SHARES].discard(body)

    def set_deadline(self, late: Callable[[], None], seconds: float) -> None:
        """Calls `late` some seconds from now, give or take a tick, unless it is cleared."""
        self._deadlines[late] = self.loop.time() + seconds
        self._start()

    def clear_deadline(self, late: Callable[[], None]) -> None:
        """Does not call `late` any more."""
        self._deadlines.pop(late, None)

    def run(self, body: Served, burst: Burst) -> None:
        """Lets a thread carry out a burst, and the body settle it then."""
        self.threads.submit(partial(self._carry_out, [(body, burst)]))

    def close(self) -> None:
        """Ends the threads behind their work."""
        self.threads.close()
        if self._timer is not None:
            self._timer.cancel()

    def _start(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(_TICK, self._look_around)

    def _look_around(self) -> None:
        self._timer = None
        now = self.loop.time()
        for late in [late for late, moment in self._deadlines.items() if moment <= now]:
            del self._deadlines[late]
            late()
        self._turn = (self._turn + 1) % _SHARES
        found = [(body, body.look_after(now)) for body in list(self._bodies[self._turn])]
        due = [(body, burst) for body, burst in found if burst is not None]
        if due:
            self.threads.submit(partial(self._carry_out, due))
        if self._deadlines or any(self._bodies):
            self._start()

    def _carry_out(self, due: list[tuple[Served, Burst]]) -> None:
        """In a thread."""
        for start in range(0, len(due), _GROUP):
            group = due[start : start + _GROUP]
            for _, burst in group:
                burst.run()
            self._tell(partial(_settle, group))

    def _tell(self, what: Callable[[], None]) -> None:
        try:
            self.loop.call_soon_threadsafe(what)
        except RuntimeError:
            # The loop was closed meanwhile: nobody waits any more.
            return


def _settle(group: list[tuple[Served, Burst]]) -> None:
    for body, burst in group:
        body.settle(burst)
