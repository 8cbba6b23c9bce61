"""Tells the application what has happened: at least once, in order for each upload.

The rules:
- An event was committed together with what it tells of; here it is only delivered.
- One claimant for each upload: the lock of its events, among all processes of the host.
- Events of different uploads are told at once, some at a time, so that one slow answer does not
  hold up all the others.
- An event that fails is tried again with growing pauses, and those behind it for the same upload
  wait; after the last attempt it stays in the outbox as a dead letter.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tusd_py.hooks.events import OutboxSeen
from tusd_py.hooks.interface import UploadEvent, parse_details
from tusd_py.locks.interface import Locks
from tusd_py.protocol.errors import TusError, UploadLocked
from tusd_py.protocol.metadata import parse_upload_metadata
from tusd_py.state.interface import PendingEvent, StateStore

logger = logging.getLogger("tusd_py")

_AT_ONCE = 100
_TOLD_AT_ONCE = 16
_ATTEMPTS = 20
_LONGEST_PAUSE = 3600.0
_LOOK_AGAIN = 60.0
"""Seconds after which events of processes that died are looked for."""


class Outbox:
    """Delivers the events of a state store to the application.

    Args:
        state: Whose events.
        locks: For the claims.
        clock: Seconds since the epoch, UTC.
        deliver: Tells one; what it raises is a reason to try again.
        observe: Told how much is left after each round.
    """

    def __init__(
        self,
        state: StateStore,
        locks: Locks,
        clock: Callable[[], float],
        deliver: Callable[[UploadEvent], Awaitable[None]],
        observe: Callable[[OutboxSeen], None] = lambda _: None,
    ) -> None:
        self._state = state
        self._locks = locks
        self._clock = clock
        self._tell = deliver
        self._observe = observe
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """There is a new event."""
        self._awake.set()

    async def run(self) -> None:
        """Delivers until it is cancelled."""
        failures = 0
        while True:
            self._awake.clear()
            try:
                while await self.deliver_due():
                    pass
                await self._look()
                pause, failures = await self._pause(), 0
            except Exception:  # the root of a task
                pause = min(2.0**failures, _LOOK_AGAIN)
                failures += 1
                logger.exception("the outbox could not be read; again in %.0f s", pause)
            try:
                async with asyncio.timeout(pause):
                    await self._awake.wait()
            except TimeoutError:
                continue

    async def deliver_due(self) -> int:
        """Delivers what is due now: how many events were delivered.

        Raises:
            TusError: The state could not be read; or one was told, which could not be noted, so it
                is told again. The others were told all the same.
        """
        due = await self._state.due_events(self._clock(), _AT_ONCE)
        room = asyncio.Semaphore(_TOLD_AT_ONCE)

        async def deliver(pending: PendingEvent) -> bool:
            async with room:
                return await self._claim(pending)

        outcomes = await asyncio.gather(*map(deliver, due), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return outcomes.count(True)

    async def _claim(self, pending: PendingEvent) -> bool:
        try:
            async with self._locks.attempt(f"events!{pending.event.upload_id}"):
                # Another process may have delivered it between the look and the claim.
                if pending in await self._state.due_events(self._clock(), _AT_ONCE):
                    return await self._deliver(pending)
        except UploadLocked:
            pass
        return False

    async def _look(self) -> None:
        counts = await self._state.count_events()
        seen = OutboxSeen(waiting=counts.waiting, oldest_at=counts.oldest_at, dead=counts.dead)
        self._observe(seen)

    async def _pause(self) -> float:
        due = await self._state.next_event_at()
        return _LOOK_AGAIN if due is None else min(max(due - self._clock(), 1.0), _LOOK_AGAIN)

    async def _deliver(self, pending: PendingEvent) -> bool:
        event = pending.event
        told = UploadEvent(
            event_id=f"{event.upload_id}-{pending.number}",
            id=event.upload_id,
            phase=event.phase,
            at=event.at,
            offset=event.upload_offset,
            metadata=parse_upload_metadata(event.metadata),
            **parse_details(event.details),
        )
        try:
            await self._tell(told)
        except Exception as error:  # the root of the application's code
            await self._failed(pending, error)
            return False
        await self._state.event_delivered(pending.number)
        return True

    async def _failed(self, pending: PendingEvent, error: Exception) -> None:
        trace = None if isinstance(error, TusError) else error
        reason = f": {error}" if trace is None else ""
        what = f"telling that upload {pending.event.upload_id} is {pending.event.phase}"
        if pending.attempts + 1 >= _ATTEMPTS:
            logger.error("%s failed for the last time%s", what, reason, exc_info=trace)
            await self._state.event_failed(pending.number, None)
            return
        pause = min(2.0**pending.attempts, _LONGEST_PAUSE)
        logger.error("%s failed; again in %.0f s%s", what, pause, reason, exc_info=trace)
        await self._state.event_failed(pending.number, self._clock() + pause)
