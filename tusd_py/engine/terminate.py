"""The end of an upload before its time: a tombstone first, then the bytes go."""

import time

from tusd_py.engine.services import Fsync, Services
from tusd_py.engine.telling import describe, has_come_to
from tusd_py.hooks.events import UploadBuried
from tusd_py.hooks.interface import NO_REQUEST, RequestInfo
from tusd_py.protocol import decide
from tusd_py.protocol.commands import Terminate
from tusd_py.protocol.errors import Rejected
from tusd_py.protocol.upload import Phase, Reply, Upload, buried


async def terminate(
    services: Services, command: Terminate, request: RequestInfo = NO_REQUEST
) -> Reply | None:
    """Answers a `DELETE`, of an unfinished or a finished upload; an append is asked to end.

    The application is asked before that, so that its refusal disturbs nobody; and once more if the
    upload was finished meanwhile.

    Returns:
        What the application adds to the response.

    Raises:
        TusError: See `decide.find`; and whatever the application refuses with.
        UploadLocked: The upload is busy.
    """
    upload_id = command.upload_id

    async def found() -> Upload:
        return _find(services, await services.load(upload_id), command)

    async def admit() -> None:
        await found()

    known = await found()
    reply = await _ask(services, known, request)
    within = services.timing.acquire_lock
    begun = time.perf_counter()
    async with services.locks.hold(upload_id, within=within, admit=admit):
        services.step("lock", begun)
        upload = await found()
        if upload.phase is not known.phase:
            reply = await _ask(services, upload, request)
        await bury(services, upload, Phase.TERMINATED, request=request)
    return reply


async def _ask(services: Services, upload: Upload, request: RequestInfo) -> Reply | None:
    if services.hooks.on_terminating is None:
        return None
    return await services.hooks.on_terminating(describe(services, upload, request))


def _find(services: Services, upload: Upload | None, command: Terminate) -> Upload:
    try:
        return decide.find(upload, command.upload_id, services.clock(), command.grant)
    except Rejected:
        # What the application refused at its finish can still be cleared away.
        assert upload is not None, "only what is there was refused"
        return upload


async def bury(
    services: Services,
    upload: Upload,
    phase: Phase,
    *,
    unless_referred: bool = False,
    request: RequestInfo = NO_REQUEST,
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
        events=has_come_to(services, tombstone, phase, request),
        durable=services.fsync is Fsync.ALWAYS or is_promised,
        unless_referred=unless_referred,
    )
    services.wake_outbox()
    if upload.is_unfinished:
        services.open_uploads.closed(upload)
    services.observe(UploadBuried(upload_id=upload.id, phase=phase))
    return await services.let_go(tombstone)
