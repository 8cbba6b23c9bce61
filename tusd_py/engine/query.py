"""Where an upload stands: a promise that the next append at that offset is taken."""

import time
from functools import partial

from tusd_py.engine.finish import resume, settle
from tusd_py.engine.services import Services
from tusd_py.protocol import decide
from tusd_py.protocol.commands import Download, Query
from tusd_py.protocol.errors import StorageFailed, StorageFull, UploadLocked
from tusd_py.protocol.upload import Phase, Upload


async def query(services: Services, command: Query) -> Upload:
    """Answers a `HEAD`; an append under way is asked to end, so that the answer stays true.

    Raises:
        UploadLocked: The upload is busy, or its finish takes long or fails for a passing reason:
            any other refusal would make clients begin anew.
        TusError: See `decide.find`.
    """
    try:
        return await _query(services, command)
    except (StorageFailed, StorageFull) as error:
        raise UploadLocked(command.upload_id) from error


async def _query(services: Services, command: Query) -> Upload:
    upload_id, within = command.upload_id, services.timing.acquire_lock

    async def admit() -> None:
        known = await services.load(upload_id)
        decide.find(known, upload_id, services.clock(), command.grant)

    begun = time.perf_counter()
    async with services.locks.hold(upload_id, within=within, admit=admit):
        services.step("lock", begun)
        known = await services.load(upload_id)
        upload = decide.find(known, upload_id, services.clock(), command.grant)
        try:
            upload = await settle(services, upload)
        except StorageFull:
            upload = await _unsettled(services, upload)
    if upload.phase is Phase.FINISHING or (upload.is_final and upload.phase is Phase.RECEIVING):
        upload = await services.jobs.join(upload_id, partial(resume, services, upload_id), within)
    return decide.find(upload, upload_id, services.clock())


async def _unsettled(services: Services, upload: Upload) -> Upload:
    """Under the lock, where no commit has room: the record as the next append will find it.

    A tail that cannot be adopted is cut, as nobody was told of it; an offset that fell with the
    power falls again.
    """
    found = await services.storage.settle(upload)
    if found.upload_offset <= upload.upload_offset:
        return found
    async with services.storage.writer(upload) as writer:
        await writer.cut(upload.upload_offset)
    return upload


async def download(services: Services, command: Download) -> Upload:
    """The record of an upload whose bytes may be given out; takes no lock.

    Raises:
        TusError: See `decide.download`.
    """
    upload = await services.load(command.upload_id)
    return decide.download(upload, command.upload_id, services.clock(), command.grant)
