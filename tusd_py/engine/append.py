"""Bytes at the end of an upload.

The rules:
- What can be refused without the lock is, so that a doomed request never disturbs a live one.
- Nothing is read of a body before the offset, the length and the type are known to be right.
- Whatever ends the body, what came and counts is committed before the lock goes on. A request that
  is cancelled interrupts its body and lets this run to its end (`services.to_the_end`).
- The last byte counts only with the authority to send it that holds when it is here: a body may
  take hours. Without it, the upload stays as it was last committed, for whoever has that authority.
  Of a body that came within a second it was asked for just now.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from tusd_py.body import Body, EndedBy, Reason, Received
from tusd_py.engine.finish import advance, fall_back, finish, resume
from tusd_py.engine.live import Live
from tusd_py.engine.services import Services, to_the_end
from tusd_py.engine.small import Memory, append_small
from tusd_py.engine.terminate import bury
from tusd_py.hooks.events import AppendCut, AppendsSeen, BytesDropped, BytesReceived
from tusd_py.hooks.interface import NO_REQUEST, RequestInfo
from tusd_py.protocol import decide
from tusd_py.protocol.checksum import Digests
from tusd_py.protocol.commands import Append
from tusd_py.protocol.decide import AppendPlan
from tusd_py.protocol.errors import (
    FloorReached,
    LengthExceeded,
    ReadTimeout,
    ReadTooSlow,
    Rejected,
    ServerShutdown,
    TusError,
    UploadInterrupted,
    UploadPaused,
    UploadTooLarge,
)
from tusd_py.protocol.upload import Phase, Tail, Upload
from tusd_py.storage.interface import Writer

_ASK_AGAIN_AFTER = 1.0

Confirm = Callable[[], Awaitable[object]]
"""Asks again whether a request is allowed what it was allowed at its beginning; raises if not."""


async def append(
    services: Services,
    command: Append,
    body: Body,
    request: RequestInfo = NO_REQUEST,
    confirm: Confirm | None = None,
) -> Upload:
    """Takes the body of a `PATCH`; runs to its end, also when it is cancelled.

    Args:
        services: What to work with.
        command: What is asked for.
        body: What is to be stored.
        request: For the application.
        confirm: Called before the last byte of the upload counts; None where nobody is to be asked.

    Returns:
        The record after it; complete if that was the last byte. A client that vanished is no
        error: what came is kept.

    Raises:
        TusError: See `decide.append`; `ChecksumMismatch`, what
            `parse_upload_checksum_trailer` raises, `UploadInterrupted`, `ReadTimeout`,
            `ServerShutdown`, what `on_progress` refuses with, what `confirm` raises, and the errors
            of storage and of `finish`.
    """
    data = body.whole()
    if data is not None:
        body = Memory(data, body.trailers)
        done = await append_small(services, command, body, request)
        if done is not None:
            return done
    return await to_the_end(
        _append(services, command, body, request, confirm),
        lambda: body.interrupt(Reason.CANCELLED),
    )


async def _append(
    services: Services,
    command: Append,
    body: Body,
    request: RequestInfo,
    confirm: Confirm | None,
) -> Upload:
    async def admit() -> None:
        known = await services.load(command.upload_id)
        decide.refuse_early(command, known, services.clock())
        services.check_room(command.content.length or 0)

    begun = time.perf_counter()
    async with services.locks.hold(
        command.upload_id,
        within=services.timing.acquire_lock,
        on_contended=body.interrupt,
        admit=admit,
    ):
        services.step("lock", begun)
        upload = await services.load(command.upload_id)
        found = decide.find(upload, command.upload_id, services.clock(), command.grant)
        if found.phase is Phase.FINISHING:
            found = await finish(services, found, request)
        if found.phase is not Phase.RECEIVING or found.is_final:
            # Nothing more can come, but a client that repeats its last request is told so.
            decide.append(command, found, services.limits, services.clock())
            return found
        if services.is_ending:
            # Whoever waited for the lock when all bodies were interrupted was not among them.
            raise ServerShutdown
        try:
            found = await _take(services, command, body, found, request, confirm)
        except _Stopped as stopped:
            left = await services.load(command.upload_id)
            if left is not None and left.phase is Phase.RECEIVING:
                await bury(services, left, Phase.TERMINATED, request=request)
            raise stopped.refusal from None
        if found.phase is Phase.FINISHING:
            found = await finish(services, found, request)
        return found


class _Stopped(Exception):
    """`on_progress` wants no more of an upload; a refusal by `confirm` ends none."""

    def __init__(self, refusal: Rejected) -> None:
        self.refusal = refusal


async def _take(
    services: Services,
    command: Append,
    body: Body,
    upload: Upload,
    request: RequestInfo,
    confirm: Confirm | None,
) -> Upload:
    """Stores the body and publishes what came of it."""
    at_once = services.pace.is_quick(durable=False)
    async with services.storage.writer(upload, at_once=at_once) as writer:
        plan = decide.append(command, writer.upload, services.limits, services.clock())
        services.check_room(command.content.length or 0)
        begun = plan.upload
        if begun.upload_length != upload.upload_length:
            # First, since a record that has it never comes here again.
            await services.storage.note(begun)
        if begun != upload._replace(expires_at=begun.expires_at):
            begun = await services.publish(begun)
        plan = plan._replace(upload=begun)  # nothing older is kept for hours
        live = Live(
            upload=begun,
            writer=writer,
            body=body,
            follows=plan.keep_partial and command.content.length is not None,
            since=services.clock(),
            request=request,
            timed=services.timed,
        )
        begun_at = services.clock()
        outcome = await _store(services, command, live, plan)
        if outcome.cut:
            services.observe(AppendCut(outcome.cut))
        took = services.clock() - begun_at
        if confirm is not None and outcome.counts and took >= _ASK_AGAIN_AFTER:
            outcome = await _confirmed(live, outcome, confirm)
        after = await _publish(services, live, outcome)
        if outcome.error is None:
            return after
        if after.phase is Phase.FINISHING:
            services.jobs.start(after.id, partial(resume, services, after.id, request=request))
        if live.stopped is not None and outcome.error is live.stopped:
            raise _Stopped(live.stopped)
        raise outcome.error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What came of a body: bytes stored, None if that has to be asked; whether they count.

    `cut` is why it ended before its last byte, see `AppendCut`.
    """

    count: int | None
    counts: bool
    error: BaseException | None
    cut: str = ""


async def _store(services: Services, command: Append, live: Live, plan: AppendPlan) -> _Outcome:
    digests = command.content.start_digests()

    async def commit(*, durable: bool = False) -> None:
        now = services.clock()
        expires_at = services.limits.expires_at(now)
        publish = partial(services.publish, durable=durable)
        await live.checkpoint(publish, sync=False, now=now, expires_at=expires_at)

    begun = time.perf_counter()
    services.live[live.upload.id] = live
    if live.upload.id in services.paused:
        # Somebody did so when this append was let in, and not known of yet.
        live.body.interrupt(Reason.PAUSED)
    services.observe(AppendsSeen(count=len(services.live)))
    services.speeds.begin(services.limits, command, live.upload, live.body)
    try:
        counts = None if live.follows else partial(_counts, services, command, live, plan, digests)
        received = await live.writer.take(live.body, plan.at_most, digests, commit, counts)
    except BaseException as error:  # it goes on behind the commit
        return _Outcome(count=None, counts=plan.keep_partial, error=error)
    finally:
        services.step("receive", begun)
        del services.live[live.upload.id]
        services.speeds.end(live.upload.id, live.body)
        services.observe(AppendsSeen(count=len(services.live)))
    return _judge(services, command, live, plan, received, digests)


def _counts(
    services: Services,
    command: Append,
    live: Live,
    plan: AppendPlan,
    digests: Digests | None,
    received: Received,
) -> bool:
    return _judge(services, command, live, plan, received, digests).counts


def _judge(
    services: Services,
    command: Append,
    live: Live,
    plan: AppendPlan,
    received: Received,
    digests: Digests | None,
) -> _Outcome:
    whole = received.ended_by is EndedBy.END or received.count == command.content.length
    error: TusError | None = None if whole else _unfinished(services, live, plan, received)
    counts = whole or plan.keep_partial
    if received.ended_by is EndedBy.LIMIT:
        counts = False
    elif whole and digests is not None:
        # "In the first two cases the uploaded chunk MUST be discarded" (Checksum).
        error = command.content.refusal(digests, live.body.trailers)
        counts = error is None
    cut = "" if whole else _why_cut(live, received)
    return _Outcome(count=received.count, counts=counts, error=error, cut=cut)


def _why_cut(live: Live, received: Received) -> str:
    if received.ended_by is EndedBy.INTERRUPTED and live.body.interrupted_by is not None:
        return live.body.interrupted_by.value.replace(" ", "-")
    return received.ended_by.value.replace(" ", "-")


def _unfinished(
    services: Services, live: Live, plan: AppendPlan, received: Received
) -> TusError | None:
    """What to say to a client whose body did not come in whole."""
    if received.ended_by is EndedBy.LIMIT:
        if live.upload.upload_length is not None:
            return LengthExceeded(live.upload.upload_length)
        most = live.upload.upload_offset + plan.at_most
        return UploadTooLarge(most + 1, most)
    if received.ended_by is EndedBy.IDLE:
        return ReadTimeout()
    if received.ended_by is EndedBy.TOO_SLOW:
        return ReadTooSlow()
    if received.ended_by is EndedBy.INTERRUPTED:
        if live.stopped is not None:
            return live.stopped
        if live.body.interrupted_by is Reason.PAUSED:
            return UploadPaused(live.upload.id)
        if live.body.interrupted_by is Reason.NO_ROOM:
            return FloorReached(services.limits.min_free_disk)
        if live.body.interrupted_by is Reason.SHUTDOWN:
            return ServerShutdown()
        return UploadInterrupted(live.upload.id)
    return None


async def _confirmed(live: Live, outcome: _Outcome, confirm: Confirm) -> _Outcome:
    """What came of a body, if that may be the end of the upload."""
    if await _reached(live.writer, outcome.count) != live.upload.upload_length:
        return outcome
    try:
        await confirm()
    except BaseException as error:  # it goes on behind the commit
        return replace(outcome, counts=False, error=outcome.error or error)
    return outcome


async def _publish(services: Services, live: Live, outcome: _Outcome) -> Upload:
    """Commits what counts, and drops what does not."""
    before = await live.end()
    writer = live.writer
    if live.failure is not None:
        # Whatever else is to be said, it may have come after the body's end.
        await fall_back(services, before)
        raise live.failure
    if not outcome.counts:
        reached = await _reached(writer, outcome.count)
        services.observe(BytesDropped(count=reached - before.upload_offset))
        await writer.cut(before.upload_offset)
        return await _open(services, before, writer.placement(before.upload_offset))
    offset = await _reached(writer, outcome.count)
    after = await advance(services, writer, before, offset)
    services.observe(BytesReceived(upload=after, count=offset - writer.upload.upload_offset))
    services.note_unsynced(after)
    return after


async def _reached(writer: Writer, count: int | None) -> int:
    return await writer.size() if count is None else writer.upload.upload_offset + count


async def _open(services: Services, upload: Upload, placement: str) -> Upload:
    """Unseals an upload whose unverified tail was cut; the chunk leaves no other trace."""
    opened = upload._replace(tail=Tail.OPEN, placement=placement)
    return upload if opened == upload else await services.publish(opened)
