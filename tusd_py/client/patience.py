"""How long to wait before the next try, and when to give up."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from tusd_py.client.errors import Passing, Stopped

SHORTEST = 0.1
"""Seconds before the second try."""
LONGEST = 10.0
"""Seconds between tries, at most (a server may ask for more by Retry-After)."""
RETRY_AFTER_AT_MOST = 300.0
"""Seconds: a longer Retry-After is cut to this."""


T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Patience:
    """Exponential back-off with jitter, which begins anew with each progress.

    Args:
        retry_for: seconds without progress after which to give up; None: never.
        stop: set when the user wants to stop; ends a wait at once.
        notice: told of a trouble that is being waited out, when it is not the same as before.
        clock: monotonic seconds.
        jitter: from 0.0 to 1.0.
    """

    retry_for: float | None
    stop: threading.Event
    notice: Callable[[Passing], None]
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    _failures: int = field(default=0, init=False)
    _failing_since: float = field(default=0.0, init=False)
    _told: str = field(default="", init=False)

    def progressed(self) -> None:
        """Something was stored: whatever the trouble was, it is over."""
        self._failures = 0
        self._told = ""

    def wait(self, trouble: Passing) -> None:
        """Waits until it is worth trying again.

        Raises:
            Passing: the trouble itself, when there was no progress for too long.
            Stopped: the user wants to stop.
        """
        now = self.clock()
        if self._failures == 0:
            self._failing_since = now
        delay = self._delay(trouble)
        self._failures += 1
        if self.retry_for is not None and now + delay > self._failing_since + self.retry_for:
            raise trouble
        if str(trouble) != self._told:
            self._told = str(trouble)
            self.notice(trouble)
        if self.stop.wait(delay):
            raise Stopped

    def through(self, request: Callable[[], T]) -> T:
        """Makes a request until it is answered; raises as `wait`, and what ends an upload."""
        while True:
            try:
                return request()
            except Passing as trouble:
                self.wait(trouble)

    def _delay(self, trouble: Passing) -> float:
        longest = min(LONGEST, SHORTEST * 2.0 ** min(self._failures, 10))
        delay = longest * (0.5 + self.jitter() / 2)
        return max(delay, min(trouble.retry_after, RETRY_AFTER_AT_MOST))
