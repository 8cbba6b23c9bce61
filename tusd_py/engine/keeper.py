"""Keeps what has arrived: syncs and publishes in the background, while and after bytes come in."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable

from tusd_py.body import Reason
from tusd_py.engine.finish import fall_back
from tusd_py.engine.live import Live
from tusd_py.engine.open_uploads import COUNT_EVERY
from tusd_py.engine.services import Fsync, Services, to_the_end
from tusd_py.engine.telling import describe_progress
from tusd_py.hooks.events import Synced
from tusd_py.hooks.interface import HookUnanswered, Progress
from tusd_py.protocol.errors import Rejected, StorageFailed, StorageFull, UploadLocked
from tusd_py.protocol.upload import Phase, synced
from tusd_py.storage.interface import SyncFailed

logger = logging.getLogger("tusd_py")

_TICK = 1.0
_AT_ONCE = 8
_UNSYNCED_AFTER = 60.0
"""Seconds between checkpoints where nothing is synced: for the expiry and `tusd-py ls`."""


async def keep(services: Services) -> None:
    """Runs until it is cancelled: a tick a second, each of which runs to its end.

    A sync that fails while this is cancelled is seen all the same: it must not be repeated as if
    it could succeed.
    """
    while True:
        await asyncio.sleep(_TICK)
        try:
            await to_the_end(tick(services), lambda: None)
        except Exception:  # the root of a task
            logger.exception("syncing in the background failed; it is tried again")


async def tick(services: Services) -> None:
    """One round: appends under way are published, those that ended are synced, when due; what
    would write to the last of the disk is ended; what is open is counted.
    """
    _end_for_want_of_room(services)
    await services.state.tend()
    now = services.clock()
    syncs = services.fsync is not Fsync.NEVER
    interval = services.timing.sync_after if syncs else _UNSYNCED_AFTER
    # None may expire while its bytes come, however short that is.
    checkpoints = min(interval, (services.limits.expire_after or math.inf) / 2)
    room = asyncio.Semaphore(_AT_ONCE)

    async def checkpoint(live: Live) -> None:
        async with room:
            await live.checkpoint(
                services.publish,
                sync=syncs,
                now=now,
                expires_at=services.limits.expires_at(now),
            )

    due = [live for live in services.live.values() if live.since + checkpoints <= now]
    for outcome in await asyncio.gather(*map(checkpoint, due), return_exceptions=True):
        if isinstance(outcome, Exception):
            logger.error("an append could not be published; it is tried again", exc_info=outcome)
    waiting = [key for key, since in services.unsynced.items() if since + interval <= now]
    await sync_ended(services, waiting)
    if services.open_uploads.counted_at + COUNT_EVERY <= now:
        await services.count_open()


def _end_for_want_of_room(services: Services) -> None:
    if not services.live:
        return
    try:
        services.check_room(0)
    except StorageFull:
        for live in services.live.values():
            live.body.interrupt(Reason.NO_ROOM)
    except StorageFailed:
        logger.exception("it cannot be told how much room there is")


async def flush(services: Services, until: float = math.inf) -> None:
    """Before the server ends: everything that is acknowledged is synced.

    Args:
        services: What to work with.
        until: In `time.monotonic()`; no sync begins behind that.
    """
    await sync_ended(services, list(services.unsynced), until)


async def sync_ended(services: Services, upload_ids: list[str], until: float = math.inf) -> None:
    """Syncs uploads whose appends have ended; one that is busy again is left to its append."""
    if services.fsync is Fsync.NEVER:
        return
    room = asyncio.Semaphore(_AT_ONCE)

    async def sync(upload_id: str) -> None:
        async with room:
            if time.monotonic() < until:
                await _sync_one(services, upload_id)

    await asyncio.gather(*map(sync, upload_ids))


async def _sync_one(services: Services, upload_id: str) -> None:
    try:
        async with services.locks.attempt(upload_id):
            await _sync(services, upload_id)
            services.unsynced.pop(upload_id, None)
    except UploadLocked:
        return
    except Exception:  # the root of the work on one upload
        services.unsynced[upload_id] = services.clock()
        logger.exception("upload %s could not be synced; it is tried again", upload_id)


async def _sync(services: Services, upload_id: str) -> None:
    upload = await services.load(upload_id)
    if upload is None or upload.phase is not Phase.RECEIVING:
        return
    if upload.synced_offset >= upload.upload_offset:
        return
    try:
        await services.timed(Synced, services.storage.sync(upload))
    except SyncFailed:
        await fall_back(services, upload)
        return
    await services.publish(synced(upload))


async def tell_progress(
    services: Services, on_progress: Callable[[Progress], Awaitable[None]]
) -> None:
    """Runs until it is cancelled: tells the application how far each append is, where it got on.

    It runs beside `keep`, so that a function that hangs keeps nothing from being synced.
    """
    told: dict[str, int] = {}
    room = asyncio.Semaphore(_AT_ONCE)

    async def tell(live: Live) -> None:
        offset = await live.size()
        upload = live.upload
        if offset is None or told.get(upload.id) == offset:
            return
        told[upload.id] = offset
        now = upload._replace(upload_offset=offset)
        try:
            async with room:
                await on_progress(describe_progress(services, now, live.request))
        except Rejected as refusal:
            live.stop(refusal)
        except HookUnanswered:
            pass  # the log has it already
        except Exception:  # the root of the application's code
            logger.exception("on_progress of upload %s failed", upload.id)

    while True:
        await asyncio.sleep(services.hooks.progress_interval)
        under_way = list(services.live.values())
        told = {live.upload.id: told.get(live.upload.id, -1) for live in under_way}
        await asyncio.gather(*map(tell, under_way))
