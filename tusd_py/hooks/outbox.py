"""Tells the application what has happened: at least once, in order for each upload.

The rules:
- An event was committed together with what it tells of; here it is only delivered.
- One claimant for each upload: the lock of its events, among all processes of the host.
- An event that fails is tried again with growing pauses, and those behind it for the same upload
  wait; after the last attempt it stays in the outbox as a dead letter.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tusd_py.hooks.interface import EndedUpload
from tusd_py.locks.interface import Locks
from tusd_py.protocol.errors import TusError, UploadLocked
from tusd_py.protocol.metadata import parse_upload_metadata
from tusd_py.state.interface import PendingEvent, StateStore

logger = logging.getLogger("tusd_py")

_AT_ONCE = 100
_ATTEMPTS = 20
_LONGEST_PAUSE = 3600.0
_LOOK_AGAIN = 60.0
"""Seconds after which events of processes that died are looked for."""


class Outbox:
    """Delivers the events of a state store to `on_terminate`.

    Args:
        state: Whose events.
        locks: For the claims.
        clock: Seconds since the epoch, UTC.
        on_terminate: Of the application.
    """

    def __init__(
        self,
        state: StateStore,
        locks: Locks,
        clock: Callable[[], float],
        on_terminate: Callable[[EndedUpload], Awaitable[None]],
    ) -> None:
        self._state = state
        self._locks = locks
        self._clock = clock
        self._on_terminate = on_terminate
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
        delivered = 0
        failure: TusError | None = None
        for pending in await self._state.due_events(self._clock(), _AT_ONCE):
            try:
                async with self._locks.attempt(f"events!{pending.event.upload_id}"):
                    # Another process may have delivered it between the look and the claim.
                    if pending in await self._state.due_events(self._clock(), _AT_ONCE):
                        delivered += await self._deliver(pending)
            except UploadLocked:
                continue
            except TusError as error:
                failure = error
        if failure is not None:
            raise failure
        return delivered

    async def _pause(self) -> float:
        due = await self._state.next_event_at()
        return _LOOK_AGAIN if due is None else min(max(due - self._clock(), 1.0), _LOOK_AGAIN)

    async def _deliver(self, pending: PendingEvent) -> bool:
        event = pending.event
        told = EndedUpload(
            event_id=f"{event.upload_id}-{pending.number}",
            id=event.upload_id,
            phase=event.phase,
            at=event.at,
            offset=event.upload_offset,
            metadata=parse_upload_metadata(event.metadata),
        )
        try:
            await self._on_terminate(told)
        except Exception:  # the root of the application's code
            await self._failed(pending)
            return False
        await self._state.event_delivered(pending.number)
        return True

    async def _failed(self, pending: PendingEvent) -> None:
        upload_id = pending.event.upload_id
        if pending.attempts + 1 >= _ATTEMPTS:
            logger.exception("on_terminate of upload %s failed for the last time", upload_id)
            await self._state.event_failed(pending.number, None)
            return
        pause = min(2.0**pending.attempts, _LONGEST_PAUSE)
        logger.exception("on_terminate of upload %s failed; again in %.0f s", upload_id, pause)
        await self._state.event_failed(pending.number, self._clock() + pause)
