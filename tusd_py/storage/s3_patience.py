"""How long a call to a store may hold memory that others could use.

The rules:
- A call that has not moved for some seconds is stalled: none of its body went out, and no answer
  came. Where answers have taken longer lately, more time is usual, and it is not.
- Those that stall together hold at most their share of the memory, and of the places for parts.
  One that would stall beyond that is given up at once, as if it had failed: its client is told to
  come back, and whoever has stalled before waits on. So others always have the rest.
- Any call is given up that has not moved for much longer.
"""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from tusd_py.protocol.errors import StorageBusy

_STALLED_AFTER = 10.0
_USUAL = 3.0
"""A call is stalled that has been silent for so many times the longest silence of late."""

_FORGETS = 0.95
"""What is left of that at each answer."""


class Patience:
    """With the calls of one process.

    Args:
        memory: Bytes that the stalled may hold.
        places: How many of them may be parts.
    """

    def __init__(self, memory: int, places: int) -> None:
        self._memory = memory
        self._places = places
        self._stalled: set[Call] = set()
        self._usual = 0.0

    @property
    def lasts(self) -> float:
        """Seconds until a silent call is stalled."""
        return max(_STALLED_AFTER, _USUAL * self._usual)

    def answered(self, silence: float) -> None:
        """A call was answered after so many seconds."""
        self._usual = max(_FORGETS * self._usual, silence)

    def stalls(self, call: "Call") -> bool:
        """Whether a call may stall, together with the others."""
        others = self._stalled - {call}
        memory = call.size + sum(each.size for each in others)
        places = sum(each.is_part for each in others)
        if memory > self._memory or (call.is_part and places >= self._places):
            return False
        self._stalled.add(call)
        return True

    def goes_on(self, call: "Call") -> None:
        """It has moved, or ended."""
        self._stalled.discard(call)


class Call:
    """A call under way, for the length of a `with` block.

    Args:
        patience: With it.
        size: Bytes that it holds.
        within: Seconds in which it must move.
        is_part: Whether it has a place.

    Attributes:
        size: See above.
        is_part: Likewise.
        moved: When it did last, of the event loop's clock.

    Raises:
        StorageBusy: It was given up for others.
        TimeoutError: It did not move.
    """

    def __init__(self, patience: Patience, size: int, within: float, *, is_part: bool) -> None:
        self.size = size
        self.is_part = is_part
        self._patience = patience
        self._within = within
        self._loop = asyncio.get_running_loop()
        self.moved = self._loop.time()
        self._limit = asyncio.timeout(within)
        self._is_given_up = False
        self._timer = self._loop.call_at(self.moved + patience.lasts, self._look)

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        self._patience.goes_on(self)
        if error is None:
            self._patience.answered(self._loop.time() - self.moved)
        try:
            await self._limit.__aexit__(kind, error, traceback)
        except TimeoutError as late:
            if self._is_given_up:
                raise StorageBusy from late
            raise

    def moves(self) -> None:
        """Some of its body goes out."""
        self.moved = self._loop.time()
        with suppress(RuntimeError):  # it has ended meanwhile
            self._limit.reschedule(self.moved + self._within)

    def _look(self) -> None:
        """Whether it has stalled, and may."""
        now = self._loop.time()
        due = self.moved + self._patience.lasts
        if due > now:
            self._patience.goes_on(self)
        elif not self._patience.stalls(self):
            self._is_given_up = True
            with suppress(RuntimeError):  # it ends already
                self._limit.reschedule(now)
            return
        else:
            due = now + self._patience.lasts
        self._timer = self._loop.call_at(due, self._look)
