"""What nobody will finish goes: expired uploads, files that no record knows, old tombstones.

The rules:
- The sweeper tries each lock and never interrupts; a live upload is passed over.
- A finished upload is never touched, nor a part while an unfinished final upload refers to it.
- One upload that cannot be swept is logged, and the others are swept.
- A file is set aside, and later removed, only if its name is an id, it was not touched for an
  hour, and no record knows it.
"""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from tusd_py.engine.finish import resume, settle
from tusd_py.engine.services import Services
from tusd_py.engine.terminate import bury, release
from tusd_py.protocol.errors import StoredBytesLost, TusError, UploadLocked
from tusd_py.protocol.upload import GONE, Phase, Upload

logger = logging.getLogger("tusd_py")

_PAGE = 500
_QUARANTINE = 168


@dataclass(slots=True, kw_only=True)
class SweepReport:
    """What a sweep removed, or would remove.

    Attributes:
        expired: Ids of uploads whose time had run out.
        quarantined: Ids of files that no record knows.
        forgotten: Tombstones whose URLs answer 404 from now on.
        busy: Uploads that were passed over because someone is at work on them.
        bytes_freed: Bytes that came free on the disk.
    """

    expired: list[str]
    quarantined: list[str]
    forgotten: int = 0
    busy: int = 0
    bytes_freed: int = 0


async def sweep(services: Services, *, dry_run: bool = False) -> SweepReport:
    """Removes what nobody will finish; safe beside servers that run on the same directory.

    Args:
        services: What to work with.
        dry_run: Whether only to report it.
    """
    report = SweepReport(expired=[], quarantined=[])
    async for upload_id in _expired(services):
        try:
            async with services.locks.attempt(upload_id):
                await _sweep_one(services, upload_id, report, dry_run=dry_run)
        except UploadLocked:
            report.busy += 1
        except TusError:
            logger.exception("upload %s could not be swept; it is tried again", upload_id)
    await _sweep_strays(services, report, dry_run=dry_run)
    return report


async def _expired(services: Services) -> AsyncIterator[str]:
    after, now = "", services.clock()
    while page := await services.state.expired(now, after, _PAGE):
        for upload_id in page:
            yield upload_id
        after = page[-1]


async def _sweep_one(
    services: Services, upload_id: str, report: SweepReport, *, dry_run: bool
) -> None:
    upload = await services.state.load(upload_id)
    if upload is None or not upload.has_expired(services.clock()):
        return
    if upload.phase in GONE or upload.phase is Phase.FAILED:
        report.forgotten += 1
        if not dry_run:
            report.bytes_freed += await services.storage.remove(upload)
            await services.state.delete(upload)
        return
    if not dry_run:
        upload = await _settled(services, upload)
    if upload.phase is Phase.FINISHING:
        # All its bytes are here: it waits for a server that can finish it (see `recover`), and
        # this may be a tool beside it, which knows nothing of the application's functions.
        return
    if dry_run:
        report.bytes_freed += upload.upload_offset
    else:
        report.bytes_freed += await bury(services, upload, Phase.EXPIRED, unless_referred=True)
    report.expired.append(upload_id)


async def _settled(services: Services, upload: Upload) -> Upload:
    try:
        return await settle(services, upload)
    except StoredBytesLost:
        return upload  # nobody can go on with it, so it goes all the more


async def _sweep_strays(services: Services, report: SweepReport, *, dry_run: bool) -> None:
    now, stray = services.clock(), services.timing.stray
    report.bytes_freed += await services.storage.empty_quarantine(
        now - stray * _QUARANTINE, dry_run=dry_run
    )
    page: list[str] = []
    async for upload_id in services.storage.strays(now - stray):
        page.append(upload_id)
        if len(page) == _PAGE:
            await _set_aside(services, page, report, dry_run=dry_run)
            page = []
    await _set_aside(services, page, report, dry_run=dry_run)


async def _set_aside(
    services: Services, page: list[str], report: SweepReport, *, dry_run: bool
) -> None:
    known = await services.state.known(page)
    for upload_id in page:
        if upload_id not in known:
            await _set_one_aside(services, upload_id, report, dry_run=dry_run)


async def _set_one_aside(
    services: Services, upload_id: str, report: SweepReport, *, dry_run: bool
) -> None:
    try:
        async with services.locks.attempt(upload_id):
            # An application may have chosen just this id meanwhile.
            if await services.state.load(upload_id) is not None:
                return
            report.quarantined.append(upload_id)
            if not dry_run:
                await services.storage.quarantine(upload_id)
    except UploadLocked:
        report.busy += 1


async def recover(services: Services) -> None:
    """Takes up what another process left in the middle: at the start, and now and then."""
    after = ""
    while page := await services.state.with_phase(Phase.FINISHING, after, _PAGE):
        for upload in page:
            services.jobs.start(upload.id, partial(resume, services, upload.id))
        after = page[-1].id
    for final_id in await services.state.waiting_finals():
        services.jobs.start(final_id, partial(resume, services, final_id))
    after = ""
    while page := await services.state.unreleased(after, _PAGE):
        for tombstone in page:
            await _release_again(services, tombstone)
        after = page[-1].id


async def _release_again(services: Services, tombstone: Upload) -> None:
    try:
        async with services.locks.attempt(tombstone.id):
            current = await services.state.load(tombstone.id)
            if current == tombstone:
                await release(services, tombstone)
    except UploadLocked:
        return
    except TusError:
        logger.exception("the bytes of upload %s could not be removed", tombstone.id)
