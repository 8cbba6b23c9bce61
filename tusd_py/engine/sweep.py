"""What nobody will finish goes: expired uploads, files that no record knows, old tombstones.

The rules:
- The sweeper tries each lock and never interrupts; a live upload is passed over.
- A finished upload is never touched, nor a part while an unfinished final upload refers to it.
- One upload that cannot be swept is logged, and the others are swept.
- A file is set aside, and later removed, only if its name is an id, it was not touched for an
  hour, and no record knows it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from tusd_py.engine.finish import resume, settle
from tusd_py.engine.services import Services
from tusd_py.engine.terminate import bury
from tusd_py.hooks.events import UploadRecovered
from tusd_py.protocol.errors import StoredBytesLost, TusError, UploadLocked
from tusd_py.protocol.upload import GONE, Phase, Upload

logger = logging.getLogger("tusd_py")

_PAGE = 500
_QUARANTINE = 168

_AT_ONCE = 32
"""Uploads that are swept, or recovered, side by side: their commits share transactions, and one
whose application takes long does not keep the others.
"""

_AGAIN = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Seconds until recovery asks again for what another process, or a request, is at work on."""


@dataclass(slots=True, kw_only=True)
class SweepReport:
    """What a sweep removed, or would remove.

    Attributes:
        expired: Ids of uploads whose time had run out, sorted.
        quarantined: Ids of files that no record knows.
        forgotten: Tombstones whose URLs answer 404 from now on.
        busy: Uploads that were passed over because someone is at work on them.
        bytes_freed: Bytes that came free on the disk.
        whole: Ids of uploads that had run out of time, and turned out to have all their bytes:
            they wait for a server that finishes them.
    """

    expired: list[str]
    quarantined: list[str]
    forgotten: int = 0
    busy: int = 0
    bytes_freed: int = 0
    whole: list[str] = field(default_factory=list)


async def sweep(services: Services, *, dry_run: bool = False) -> SweepReport:
    """Removes what nobody will finish; safe beside servers that run on the same directory.

    Args:
        services: What to work with.
        dry_run: Whether only to report it.
    """
    report = SweepReport(expired=[], quarantined=[])

    async def sweep_one(upload_id: str) -> None:
        try:
            async with services.locks.attempt(upload_id):
                await _sweep_one(services, upload_id, report, dry_run=dry_run)
        except UploadLocked:
            report.busy += 1
        except TusError:
            logger.exception("upload %s could not be swept; it is tried again", upload_id)

    async for page in _expired(services):
        await side_by_side(page, sweep_one)
    report.expired.sort()  # they end in no order
    await _sweep_strays(services, report, dry_run=dry_run)
    return report


async def side_by_side(upload_ids: Iterable[str], work: Callable[[str], Awaitable[None]]) -> None:
    """Does some work for each upload, for a few at a time; all of it has ended when this does."""
    left = iter(upload_ids)

    async def take() -> None:
        for upload_id in left:
            await work(upload_id)

    outcomes = await asyncio.gather(*(take() for _ in range(_AT_ONCE)), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def _expired(services: Services) -> AsyncIterator[list[str]]:
    after, now = (float("-inf"), ""), services.clock()
    while page := await services.state.expired(now, after, _PAGE):
        yield [upload_id for _, upload_id in page]
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
            # What was let go before may have its name from another one by now.
            left = upload._replace(path=None) if upload.released else upload
            freed = await services.storage.remove(left)
            report.bytes_freed += freed
            await services.state.delete(upload)
        return
    before = upload.phase
    if not dry_run:
        upload = await _settled(services, upload)
    if upload.phase is Phase.FINISHING:
        # All its bytes are here: it waits for a server that can finish it (see `recover`), and
        # this may be a tool beside it, which knows nothing of the application's functions.
        if before is Phase.RECEIVING:
            report.whole.append(upload_id)
        return
    freed = upload.upload_offset
    if not dry_run:
        freed = await bury(services, upload, Phase.EXPIRED, unless_referred=True)
    # In a statement of its own: others are swept while this waits.
    report.bytes_freed += freed
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


async def recover(services: Services, again: Sequence[float] = _AGAIN) -> None:
    """Takes up what another process left in the middle: at the start, and now and then.

    Whoever is at work on an upload is not disturbed; it is asked for again soon, some times.

    Args:
        services: What to work with.
        again: Seconds to wait before each repetition.
    """
    unfinished, tombstones = await _unfinished(services), await _unreleased(services)
    for wait in (*again, None):
        unfinished = await _those_that_are_busy(unfinished, partial(_finish, services))
        tombstones = await _those_that_are_busy(tombstones, partial(_release_again, services))
        if wait is None or not (unfinished or tombstones):
            break
        await asyncio.sleep(wait)
    if unfinished or tombstones:
        left = len(unfinished) + len(tombstones)
        logger.info("%d uploads are still busy; they are recovered with the next sweep", left)


async def _unfinished(services: Services) -> list[str]:
    found: list[str] = []
    while page := await services.state.with_phase(
        Phase.FINISHING, found[-1] if found else "", _PAGE
    ):
        found += [upload.id for upload in page]
    return found + await services.state.waiting_finals()


async def _unreleased(services: Services) -> list[str]:
    found: list[str] = []
    while page := await services.state.unreleased(found[-1] if found else "", _PAGE):
        found += [upload.id for upload in page]
    return found


async def _those_that_are_busy(
    upload_ids: Iterable[str], recover_one: Callable[[str], Awaitable[None]]
) -> list[str]:
    busy = []

    async def attempt(upload_id: str) -> None:
        try:
            await recover_one(upload_id)
        except UploadLocked:
            busy.append(upload_id)

    await side_by_side(upload_ids, attempt)
    return busy


async def _finish(services: Services, upload_id: str) -> None:
    work = partial(resume, services, upload_id, waits=False)
    try:
        done = await services.jobs.join(upload_id, work, within=None)
        if done.phase is Phase.COMPLETE:
            services.observe(UploadRecovered(upload_id=upload_id))
    except UploadLocked:
        raise
    except StoredBytesLost:
        await _give_up(services, upload_id)
    except Exception:  # of a job, which has told of it itself
        logger.debug("upload %s could not be finished", upload_id, exc_info=True)


async def _give_up(services: Services, upload_id: str) -> None:
    """Ends an upload that nobody can finish, when its time has run out."""
    async with services.locks.attempt(upload_id):
        upload = await services.state.load(upload_id)
        if upload is None or upload.phase is not Phase.FINISHING or upload.expires_at is None:
            return
        if upload.expires_at <= services.clock():
            logger.error("upload %s is given up: its bytes are not there any more", upload_id)
            await bury(services, upload, Phase.EXPIRED, unless_referred=True)


async def _release_again(services: Services, upload_id: str) -> None:
    async with services.locks.attempt(upload_id):
        current = await services.state.load(upload_id)
        if current is None or current.phase not in GONE or current.released:
            return
        try:
            await services.let_go(current)
            services.observe(UploadRecovered(upload_id=upload_id))
        except UploadLocked:
            raise
        except TusError:
            logger.exception("the bytes of upload %s could not be removed", upload_id)
