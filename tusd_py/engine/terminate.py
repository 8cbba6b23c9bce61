"""The end of an upload before its time: a tombstone first, then the bytes go."""

from tusd_py.engine.services import Fsync, Services
from tusd_py.hooks.events import OutboxEvent, UploadBuried
from tusd_py.protocol import decide
from tusd_py.protocol.commands import Terminate
from tusd_py.protocol.errors import Rejected
from tusd_py.protocol.metadata import build_upload_metadata
from tusd_py.protocol.upload import Phase, Upload, buried


async def terminate(services: Services, command: Terminate) -> None:
    """Answers a `DELETE`, of an unfinished or a finished upload; an append is asked to end.

    Raises:
        TusError: See `decide.find`.
        UploadLocked: The upload is busy.
    """
    upload_id = command.upload_id

    async def admit() -> None:
        _find(services, await services.load(upload_id), command)

    within = services.timing.acquire_lock
    async with services.locks.hold(upload_id, within=within, admit=admit):
        upload = _find(services, await services.load(upload_id), command)
        await bury(services, upload, Phase.TERMINATED)


def _find(services: Services, upload: Upload | None, command: Terminate) -> Upload:
    try:
        return decide.find(upload, command.upload_id, services.clock(), command.grant)
    except Rejected:
        # What the application refused at its finish can still be cleared away.
        assert upload is not None, "only what is there was refused"
        return upload


async def bury(
    services: Services, upload: Upload, phase: Phase, *, unless_referred: bool = False
) -> int:
    """Under the lock: leaves a tombstone, tells the application, and lets the bytes go.

    Returns:
        Bytes that came free.

    Raises:
        StaleGeneration: With `unless_referred`, if an unfinished final upload refers to it.
    """
    now = services.clock()
    # Or a loss of power brings it back, complete as it was told to be, and its bytes are gone.
    is_promised = services.fsync is Fsync.COMPLETE and upload.phase is Phase.COMPLETE
    tombstone = buried(upload, phase, now + services.timing.remember_gone)
    tombstone = await services.state.commit(
        tombstone,
        events=_events(services, tombstone, now),
        durable=services.fsync is Fsync.ALWAYS or is_promised,
        unless_referred=unless_referred,
    )
    services.wake_outbox()
    services.observe(UploadBuried(upload_id=upload.id, phase=phase))
    return await release(services, tombstone)


async def release(services: Services, tombstone: Upload) -> int:
    """Under the lock: lets go of the bytes of a tombstone: how many came free."""
    services.unsynced.pop(tombstone.id, None)
    freed = await services.storage.remove(tombstone)
    await services.state.commit(tombstone._replace(released=True))
    return freed


def _events(services: Services, upload: Upload, now: float) -> tuple[OutboxEvent, ...]:
    if not services.tells:
        return ()
    event = OutboxEvent(
        upload_id=upload.id,
        phase=upload.phase,
        at=now,
        upload_offset=upload.upload_offset,
        metadata=build_upload_metadata(upload.metadata),
    )
    return (event,)
