"""Keeps what has arrived: syncs and publishes in the background, while and after bytes come in."""

import asyncio
import logging

from tusd_py.engine.finish import fall_back
from tusd_py.engine.live import Live
from tusd_py.engine.services import Fsync, Services
from tusd_py.hooks.interface import Progress
from tusd_py.protocol.errors import TusError, UploadLocked
from tusd_py.protocol.upload import Phase, synced
from tusd_py.storage.interface import SyncFailed

logger = logging.getLogger("tusd_py")

_TICK = 1.0
_AT_ONCE = 8
_UNSYNCED_AFTER = 60.0
"""Seconds between checkpoints where nothing is synced: for the expiry and `tusd-py ls`."""


async def keep(services: Services) -> None:
    """Runs until it is cancelled: a tick a second."""
    while True:
        await asyncio.sleep(_TICK)
        try:
            await tick(services)
        except TusError:
            logger.exception("syncing in the background failed; it is tried again")


async def tick(services: Services) -> None:
    """One round: appends under way are published, those that ended are synced, when due."""
    now = services.clock()
    syncs = services.fsync is not Fsync.NEVER
    interval = services.timing.sync_after if syncs else _UNSYNCED_AFTER
    await _tell_progress(services)
    room = asyncio.Semaphore(_AT_ONCE)

    async def checkpoint(live: Live) -> None:
        async with room:
            await live.checkpoint(
                services.publish,
                sync=syncs,
                now=now,
                expires_at=services.limits.expires_at(now),
            )

    due = [live for live in services.live.values() if live.since + interval <= now]
    await asyncio.gather(*map(checkpoint, due))
    waiting = [key for key, since in services.unsynced.items() if since + interval <= now]
    await sync_ended(services, waiting)


async def flush(services: Services) -> None:
    """Before the server ends: everything that is acknowledged is synced."""
    await sync_ended(services, list(services.unsynced))


async def sync_ended(services: Services, upload_ids: list[str]) -> None:
    """Syncs uploads whose appends have ended; one that is busy again is left to its append."""
    for upload_id in upload_ids:
        try:
            async with services.locks.attempt(upload_id):
                services.unsynced.pop(upload_id, None)
                await _sync(services, upload_id)
        except UploadLocked:
            continue
        except TusError:
            logger.exception("upload %s could not be synced", upload_id)


async def _sync(services: Services, upload_id: str) -> None:
    upload = await services.state.load(upload_id)
    if upload is None or upload.phase is not Phase.RECEIVING:
        return
    if upload.synced_offset >= upload.upload_offset:
        return
    try:
        await services.storage.sync(upload)
    except SyncFailed:
        await fall_back(services, upload)
        return
    await services.publish(synced(upload))


async def _tell_progress(services: Services) -> None:
    on_progress = services.hooks.on_progress
    if on_progress is None:
        return
    for live in list(services.live.values()):
        upload = live.upload
        offset = await live.writer.size() if live.follows else upload.upload_offset
        try:
            await on_progress(
                Progress(upload_id=upload.id, offset=offset, length=upload.upload_length)
            )
        except Exception:  # the root of the application's code
            logger.exception("on_progress of upload %s failed", upload.id)
