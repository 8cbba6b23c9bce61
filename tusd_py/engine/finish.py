"""From the last byte to `complete`.

The rules:
- `finishing` is committed only when all bytes are stored, and synced where that is promised.
- What follows is idempotent, and is resumed by whoever meets the record: the next request, or
  recovery when the server starts.
- Nothing answers "done" before `complete` is committed.
"""

import logging
import time
from functools import partial

from tusd_py.engine import concatenate
from tusd_py.engine.services import Fsync, Services
from tusd_py.engine.telling import describe_finished, has_come_to
from tusd_py.hooks.events import Synced, SyncLost
from tusd_py.hooks.interface import NO_REQUEST, HookUnanswered, RequestInfo
from tusd_py.protocol.errors import (
    Rejected,
    StorageBusy,
    StorageFailed,
    StorageFull,
    StoredBytesLost,
)
from tusd_py.protocol.upload import (
    Phase,
    Reply,
    Tail,
    Upload,
    completed,
    disassembled,
    failed,
    received,
    synced,
)
from tusd_py.storage.interface import SyncFailed, Writer

logger = logging.getLogger("tusd_py")


class HookFailed(StorageFailed):
    """The application's `on_finish` raised; it is tried again with the next request."""

    code = "ERR_FINISH_FAILED"

    def __str__(self) -> str:
        return "all bytes are stored, but the server could not finish the upload; ask again"


async def advance(services: Services, writer: Writer, before: Upload, offset: int) -> Upload:
    """Publishes a new offset under the lock; the last byte begins the finish.

    Args:
        services: What to work with.
        writer: Has stored the bytes.
        before: The record as it was last committed.
        offset: Bytes that are stored and count.

    Raises:
        SyncFailed: The disk did not take them: the upload falls back to what was synced before.
    """
    after = received(before, offset)._replace(placement=writer.placement(offset))
    last = after.phase is Phase.FINISHING
    if services.fsync is Fsync.ALWAYS or (last and services.fsync is Fsync.COMPLETE):
        try:
            await services.timed(Synced, writer.sync())
        except SyncFailed:
            await fall_back(services, before)
            raise
        after = synced(after)
    return await services.publish(after, durable=last and services.moves(after))


async def fall_back(services: Services, upload: Upload) -> None:
    """After a failed sync: only what was synced before is certain; the rest is cut when met.

    This and a loss of power are the two ways in which an offset may go down.
    """
    safe = min(upload.synced_offset, upload.upload_offset)
    services.observe(SyncLost(upload.id))
    logger.error("upload %s: the disk failed to sync; back to byte %d", upload.id, safe)
    fallen = upload._replace(upload_offset=safe, phase=Phase.RECEIVING, tail=Tail.SEALED)
    await services.publish(fallen, durable=True)


async def settle(services: Services, upload: Upload) -> Upload:
    """The record, under the lock, as storage bears it out: a tail from before a crash counts.

    A late length can turn out to be where the upload stands already, from a request that was
    refused or killed: its last byte is there then, and the finish begins.
    """
    if upload.phase is not Phase.RECEIVING or upload.is_final:
        return upload
    at_once = services.pace.is_quick(durable=False)
    found = await services.storage.settle(upload, at_once=at_once)
    is_whole = found.upload_offset == found.upload_length
    if found == upload and not is_whole:
        return upload
    must_sync = services.fsync is Fsync.ALWAYS and found.upload_offset > upload.upload_offset
    if not is_whole and not must_sync:
        services.note_unsynced(found)
        return await services.publish(found)
    async with services.storage.writer(found) as writer:
        return await advance(services, writer, found, found.upload_offset)


async def finish(services: Services, upload: Upload, request: RequestInfo = NO_REQUEST) -> Upload:
    """Under the lock: brings an upload in `finishing` to `complete`, or to `failed`.

    Raises:
        Rejected: The application refused it; it failed for good.
        HookFailed: The application's function raised; the upload stays in `finishing`.
        StorageFailed: It could not be finished now; a final upload may have to be assembled anew.
    """
    durable = services.fsync is not Fsync.NEVER
    if upload.path is None and not upload.placement:
        # An empty upload that had no append, or one from a backup: what is on record is what a
        # repeated finish knows its file by.
        async with services.storage.writer(upload) as writer:
            upload = await services.publish(writer.upload, durable=durable)
    # What on_finish takes away, a repeated finish cannot put into its place again.
    try:
        path = upload.path or await services.storage.finish(upload, durable=durable)
    except StoredBytesLost as error:
        if not upload.is_final:
            raise
        # Its parts have them still.
        await services.publish(disassembled(upload), durable=durable)
        raise StorageFailed from error
    placed = upload._replace(path=path)
    if asks(services, upload) and upload.path is None:
        placed = await services.publish(placed, durable=durable)
    try:
        reply = await _tell(services, placed, request)
    except Rejected as refusal:
        await _fail(services, placed, refusal)
        raise
    taken = services.finishing.pop(upload.id, False)
    done = completed(placed, None if taken else path, reply)
    try:
        await services.storage.note(done)
    except (StorageFailed, StorageFull):
        # A record that is made anew begins its finish again, and comes to the same.
        logger.warning("upload %s is complete, which was not noted", done.id, exc_info=True)
    events = has_come_to(services, done, Phase.COMPLETE, request)
    done = await services.publish(done, durable=durable, events=events)
    services.note_finished(done)
    if done.is_partial:
        for final_id in await services.state.finals_waiting_for(done.id):
            services.jobs.wake(final_id, partial(resume, services, final_id))
    return done


def asks(services: Services, upload: Upload) -> bool:
    """Whether the application takes part in the finish of an upload."""
    # "The Server SHOULD NOT process these partial uploads until they are concatenated".
    return services.hooks.on_finish is not None and not upload.is_partial


async def _tell(services: Services, upload: Upload, request: RequestInfo) -> Reply | None:
    if services.hooks.on_finish is None or not asks(services, upload):
        return None
    services.finishing[upload.id] = False
    try:
        begun = time.perf_counter()
        reply = await services.hooks.on_finish(describe_finished(services, upload, request))
        services.step("on_finish", begun)
        return reply
    except BaseException as error:
        services.finishing.pop(upload.id, None)
        # What `take` found, and will pass, is no fault of the application's.
        passes = isinstance(error, Rejected | StorageFull | StorageBusy)
        if passes or not isinstance(error, Exception):
            raise
        if isinstance(error, HookUnanswered):
            # The log has it already.
            raise HookFailed from error
        # The root of the application's code.
        logger.exception("on_finish of upload %s failed; it will be called again", upload.id)
        raise HookFailed from error


async def _fail(services: Services, upload: Upload, refusal: Rejected) -> None:
    reply = Reply(status=refusal.status, headers=refusal.extra, body=refusal.body)
    until = services.clock() + services.timing.remember_gone
    # The refusal is on record before the bytes go, so that a crash between asks nobody again.
    refused = await services.publish(failed(upload, reply, until), durable=True)
    services.open_uploads.closed(upload)
    await services.let_go(refused)


async def resume(
    services: Services, upload_id: str, *, waits: bool = True, request: RequestInfo = NO_REQUEST
) -> Upload:
    """Takes up what is left to do for an upload that a crash, or its parts, left unfinished.

    Args:
        services: What to work with.
        upload_id: Whose.
        waits: Whether for whoever is at work on it; otherwise he is not disturbed either.
        request: Whose work it is, for the application.

    Raises:
        UploadLocked: Someone else is at work on it.
        TusError: As `finish`, or as `concatenate.assemble`.
    """
    locks, within = services.locks, services.timing.acquire_lock
    async with locks.hold(upload_id, within=within) if waits else locks.attempt(upload_id):
        upload = await services.load(upload_id)
        assert upload is not None, "only what has a record is resumed"
        if upload.is_final and upload.phase is Phase.RECEIVING:
            upload = await concatenate.assemble(services, upload)
        if upload.phase is Phase.FINISHING:
            upload = await finish(services, upload, request)
        return upload
