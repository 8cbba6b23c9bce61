"""A final upload is made of its parts, as soon as the last of them is complete.

It locks only itself: complete parts do not change, and while it is unfinished it refers to them,
which keeps them from being swept.
"""

from tusd_py.engine.services import Fsync, Services
from tusd_py.protocol import decide
from tusd_py.protocol.errors import InvalidPart, TusError, UploadTooLarge
from tusd_py.protocol.upload import Phase, Reply, Tail, Upload, failed, received, synced


async def assemble(services: Services, final: Upload) -> Upload:
    """Under the lock of `final`: puts it together if all its parts are complete.

    Returns:
        The record: `finishing` if it was assembled, `failed` if a part is gone for good or all
        are too large together; while parts are incomplete, with its length once that is known.

    Raises:
        StorageFull: There is no room; it is tried again with the next request.
        StorageFailed: Likewise.
    """
    found = await services.state.load_many(final.parts)
    parts = [found.get(part_id) for part_id in final.parts]
    for part_id, part in zip(final.parts, parts, strict=True):
        if part is None or not (part.is_unfinished or part.phase is Phase.COMPLETE):
            gone = InvalidPart(part_id, "was removed before all parts were there")
            return await _fail(services, final, gone, status=410)
    there = [part for part in parts if part is not None]
    try:
        known = final._replace(upload_length=decide.final_length(there, services.limits))
    except UploadTooLarge as error:
        # The length of a part may come after that of the others was checked.
        return await _fail(services, final, error, status=error.status)
    whole = [part for part in there if part.phase is Phase.COMPLETE]
    if len(whole) < len(parts):
        return final if known == final else await services.publish(known)
    services.check_room(known.upload_length or 0)
    durable = services.fsync is not Fsync.NEVER

    async def commit(placement: str) -> None:
        nonlocal final
        final = await services.publish(final._replace(placement=placement))

    placement = await services.storage.concatenate(final, whole, durable=durable, commit=commit)
    length = sum(part.upload_offset for part in whole)
    assembled = received(final._replace(upload_length=length, placement=placement), length)
    if durable:
        assembled = synced(assembled)
    return await services.publish(assembled, durable=services.moves(assembled))


async def _fail(services: Services, final: Upload, why: TusError, *, status: int) -> Upload:
    reply = Reply(status=status, body=f"{why.code}: {why}\n")
    until = services.clock() + services.timing.remember_gone
    done = await services.publish(failed(final._replace(tail=Tail.SEALED), reply, until))
    # An attempt to assemble it may have been killed, or found no room.
    await services.storage.remove(done)
    return done
