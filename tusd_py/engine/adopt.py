"""An upload that another server has begun, or finished, becomes one of ours."""

from collections.abc import Awaitable, Callable

from tusd_py.engine.finish import finish
from tusd_py.engine.services import Services
from tusd_py.protocol.errors import UploadExists
from tusd_py.protocol.upload import Phase, Upload


async def adopt(
    services: Services, upload: Upload, take: Callable[[Upload], Awaitable[str]]
) -> bool:
    """Takes an upload over, durably; repeated after a crash at any step, it goes on.

    Args:
        services: What to work with.
        upload: What is to be known; in `finishing` if all its bytes are there.
        take: Puts its bytes into storage, synced: their placement.

    Returns:
        Whether it is new; otherwise it was taken over before.

    Raises:
        UploadExists: Another upload has its id.
        UploadLocked: Someone is at work on it.
        TusError: As storage and the state have it.
    """
    async with services.locks.hold(upload.id, within=services.timing.acquire_lock):
        known = await services.state.load(upload.id)
        is_new = known is None
        if known is None:
            # The file first: without a record nobody writes to it, and the next run begins again.
            placement = await take(upload)
            whole = upload._replace(placement=placement, synced_offset=upload.upload_offset)
            known = await services.state.insert(whole, durable=True)
        elif known.upload_metadata != upload.upload_metadata:
            raise UploadExists(upload.id)
        if known.phase is Phase.FINISHING:
            await finish(services, known)
        return is_new
