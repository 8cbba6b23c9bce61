"""Records that were lost with their state directory, made anew from what storage alone tells.

The rules:
- A request for an id that no record knows looks there first, until all were made: nobody is told
  that an upload is not there while that is not known.
- A record is only ever inserted. Whoever has an upload has its record, so what is made here of an
  upload that somebody works on comes too late, and is dropped.
- The parts of an unfinished final upload come before it, since it refers to them.
- It has time again: it may have expired while nobody knew of it.
"""

import logging
from collections.abc import AsyncIterator

from tusd_py.engine.services import Services
from tusd_py.engine.sweep import side_by_side
from tusd_py.hooks.events import RecordRebuilt
from tusd_py.protocol.commands import Command, Create, Discover, Query
from tusd_py.protocol.errors import (
    InvalidPart,
    StorageFailed,
    StoredBytesLost,
    UploadExists,
    UploadLocked,
)
from tusd_py.protocol.upload import Reply, Upload, failed

logger = logging.getLogger("tusd_py")

_PAGE = 500


async def look_up(services: Services, command: Command) -> None:
    """Makes the records anew that a request needs, while not all are made.

    Raises:
        UploadLocked: It cannot be told now; of a `HEAD`, since clients begin anew after others.
        StorageFailed: Likewise, of any other request.
        StoredBytesLost: See `Storage.recall`.
    """
    if isinstance(command, Discover):
        return
    wanted = command.part_ids if isinstance(command, Create) else (command.upload_id,)
    try:
        for upload_id in dict.fromkeys(wanted):
            await make_anew(services, upload_id)
    except StorageFailed as error:
        if isinstance(command, Query):
            raise UploadLocked(command.upload_id) from error
        raise


async def make_anew(services: Services, upload_id: str) -> bool:
    """Makes a record anew, if there is none and storage knows of one: whether it did.

    Raises:
        StoredBytesLost: See `Storage.recall`.
        StorageFailed: It cannot be told now.
    """
    if not services.recalls or await services.state.load(upload_id) is not None:
        return False
    if await services.state.is_whole():
        services.recalls = False
        return False
    upload = await services.storage.recall(upload_id)
    if upload is None:
        return False
    if upload.is_unfinished:
        for part_id in dict.fromkeys(upload.parts):
            await make_anew(services, part_id)
    if upload.expires_at is not None:
        upload = upload._replace(expires_at=services.limits.expires_at(services.clock()))
    try:
        await _insert(services, upload)
    except UploadExists:
        return False
    services.observe(RecordRebuilt(upload_id))
    return True


async def _insert(services: Services, upload: Upload) -> None:
    try:
        await services.state.insert(upload, durable=True)
    except InvalidPart as error:
        # Nobody can finish it: it says so, and goes as one whose part went away.
        reply = Reply(status=410, body=f"{error.code}: {error}\n")
        until = services.clock() + services.timing.remember_gone
        await services.state.insert(failed(upload, reply, until), durable=True)


async def make_all_anew(services: Services) -> int:
    """Makes all records anew that are missing: how many it made.

    Raises:
        StorageFailed: The place cannot be read; what was made stays.
    """
    if not services.recalls:
        return 0
    if await services.state.is_whole():
        services.recalls = False
        return 0
    made, missing = 0, False

    async def one(upload_id: str) -> None:
        nonlocal made, missing
        try:
            is_made = await make_anew(services, upload_id)
            # In a statement of its own: others are made while this waits.
            made += is_made
        except StoredBytesLost:
            logger.exception("the record of upload %s cannot be made anew", upload_id)
        except StorageFailed:
            missing = True
            logger.exception("the record of upload %s was not made anew", upload_id)

    async for page in _noted(services):
        known = await services.state.known(page)
        await side_by_side((each for each in page if each not in known), one)
    if made:
        logger.info("%d records of uploads were made anew from what is stored", made)
    if missing:
        raise StorageFailed
    await services.state.tell_whole()
    services.recalls = False
    return made


async def _noted(services: Services) -> AsyncIterator[list[str]]:
    page: list[str] = []
    async for upload_id in services.storage.noted():
        page.append(upload_id)
        if len(page) == _PAGE:
            yield page
            page = []
    yield page
