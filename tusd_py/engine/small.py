"""A small body that is in memory already: stored and committed in one step, or left to others.

The rules:
- Whatever is not just as usual, a refusal included, is left to the long way, which knows what to
  do; nothing was changed then. So a checksum is verified before anything is written, and no record
  has to be sealed.
- The bytes come first, then the one commit that tells of them. A process that is killed in between
  leaves bytes beyond the offset, or a file that no record knows: neither was acknowledged. Bytes
  behind an open tail came in order and count; behind any other they are cut, and the file is swept.
  Nobody sets it aside too early, since its lock is held.
- A file that is new to its record is made anew: it is never one that somebody else has made.
- Where the last byte leaves nothing to ask, to tell, to move or to assemble, that commit says
  `complete`. The bytes and their name are synced before it where that is promised, and it is
  durable then.
- It is done on the event loop while the disk is quick (`services.Pace`): a hop to a thread and back
  costs more than all of it. While the disk is not, it is done in threads. What cannot be committed
  there just now is taken back, and left to them as well.
- Where nothing has to be waited for, not even a task is needed: see `append_now`.
- Where a speed is limited, bytes may have to wait: the long way.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from tusd_py.body import EndedBy, File, Gate, Reason, Received, Throttle
from tusd_py.engine.finish import asks, fall_back, finish
from tusd_py.engine.services import Fsync, Services, to_the_end
from tusd_py.hooks.events import BytesReceived, Committed, Synced
from tusd_py.hooks.interface import NO_REQUEST, RequestInfo
from tusd_py.protocol import decide
from tusd_py.protocol.checksum import Digest
from tusd_py.protocol.commands import Append
from tusd_py.protocol.errors import TusError, UploadLocked
from tusd_py.protocol.upload import Phase, Tail, Upload
from tusd_py.state.interface import NotNow
from tusd_py.storage.interface import SyncFailed


class Unusual(Exception):
    """The long way has to be gone; nothing was changed."""


class Memory:
    """A body that was taken whole; see `body.Body`."""

    _gate: Gate | None = None

    def __init__(self, data: bytes, trailers: Sequence[tuple[bytes, bytes]]) -> None:
        self.data = data
        self._length = len(data)
        self.trailers = trailers
        self.interrupted_by: Reason | None = None

    @property
    def came(self) -> int:
        """See `Body.came`."""
        return self._length

    def whole(self) -> bytes | None:
        """See `Body.whole`: it was handed over once."""
        return None

    def interrupt(self, reason: Reason) -> None:
        """See `Body.interrupt`: all of it is here, so nobody waits for long."""
        self.interrupted_by = self.interrupted_by or reason
        if self._gate is not None:
            self._gate.open()

    def limit(self, throttle: Throttle | None) -> None:
        """See `Body.limit`."""
        self._gate = self._gate or Gate()
        if self.interrupted_by is not None:
            self._gate.open()
        self._gate.limit(throttle)

    async def save(
        self, file: File, offset: int, at_most: int, digest: Digest | None = None
    ) -> Received:
        """See `Body.save`."""
        data = memoryview(self.data)[:at_most]
        if digest is not None:
            digest.update(data)

        def write(start: int, end: int) -> None:
            while start < end:
                start += os.pwrite(file.descriptor(), data[start:end], offset + start)

        done = 0
        while done < len(data):
            end = done + await self._admit(len(data) - done)
            await to_the_end(asyncio.to_thread(write, done, end), lambda: None)
            done = end
        ended_by = EndedBy.END if len(data) == len(self.data) else EndedBy.LIMIT
        return Received(count=len(data), ended_by=ended_by)

    async def fill(self, buffer: memoryview) -> int:
        """See `Body.fill`."""
        count = min(len(buffer), len(self.data))
        if count:
            count = await self._admit(count)
        buffer[:count], self.data = self.data[:count], self.data[count:]
        return count

    @property
    def ended_by(self) -> EndedBy | None:
        """See `Body.ended_by`."""
        return None if self.data else EndedBy.END

    async def _admit(self, count: int) -> int:
        """How many of these bytes may be taken, now that this has waited for it."""
        return count if self._gate is None else await self._gate.admit(count)


def append_now(services: Services, command: Append, data: bytes) -> Upload | None:
    """As `append`, for a body that is in memory, and without waiting for anything.

    Returns:
        None if that cannot be; nothing was changed then.

    Raises:
        StorageFailed: The locks cannot be used.
    """
    return _now(services, command, data, None)


def create_now(
    services: Services, upload: Upload, command: Append | None, data: bytes
) -> Upload | None:
    """As `append_now`, for an upload that has no record yet; with no `command` it has no content.

    Raises:
        TusError: The record cannot be committed.
    """
    # Without a file there is none that a sweeper could meet before its record, so no lock either.
    new = services.insert_now(upload) if command is None else _now(services, command, data, upload)
    if new is not None:
        services.note_created(new)
    return new


def _now(services: Services, command: Append, data: bytes, new: Upload | None) -> Upload | None:
    if not services.pace.is_quick(durable=False):
        return None
    try:
        with services.locks.attempt(command.upload_id):
            state, upload_id = services.state, command.upload_id
            found = new or state.take_remembered(upload_id) or state.load_now(upload_id)
            plan = _planned(services, command, data, (), found, is_new=new is not None)
            if plan.sync or plan.phase is Phase.FINISHING:
                return None
            done = _carried_out(services, plan, data)
            return None if done is None else _noted(services, done, len(data))
    except (UploadLocked, NotNow, Unusual):
        return None


async def append_small(
    services: Services,
    command: Append,
    body: Memory,
    request: RequestInfo = NO_REQUEST,
    *,
    new: Upload | None = None,
) -> Upload | None:
    """As `append`, for a body that is in memory; None if the long way has to be gone.

    Args:
        services: What to work with.
        command: What is asked for.
        body: All of it.
        request: For the application.
        new: The upload, if it has no record yet.

    Raises:
        StorageFailed: The record could not be committed, or its bytes not be synced.
    """
    if new is not None and services.hooks.on_created is not None:
        return None  # its first commit tells of an upload without any bytes
    data = body.data
    try:
        async with services.locks.attempt(command.upload_id):
            found = new or await services.load(command.upload_id)
            plan = _planned(services, command, data, body.trailers, found, is_new=new is not None)
            with _place(services, new):
                # Nobody who is cancelled leaves a failed sync unanswered, or a finish to others.
                return await to_the_end(_through(services, plan, data, request), lambda: None)
    except (UploadLocked, Unusual):
        return None


def _place(services: Services, new: Upload | None) -> AbstractContextManager[None]:
    """Of an upload that is to be opened: many may have been let in while others were waited for."""
    if new is None:
        return nullcontext()
    return services.open_uploads.place(new.made_by, services.limits)


class _Plan(NamedTuple):
    """What is to be stored and committed.

    Attributes:
        before: The record as it is.
        begun: The record as the append has it before the first byte.
        upload_offset: Where the upload stands behind the last one.
        path: Where it rests then, if it is complete with that.
        phase: What it has come to then.
        is_new: Whether there is no record yet.
        sync: Whether the bytes must outlive a loss of power before the commit.
        durable: Whether the commit must.
    """

    before: Upload
    begun: Upload
    upload_offset: int
    path: str | None
    phase: Phase
    is_new: bool
    sync: bool
    durable: bool

    def after(self, placement: str) -> Upload:
        """The record as it is to be committed."""
        return self.begun._replace(
            upload_offset=self.upload_offset,
            synced_offset=self.upload_offset if self.sync else self.begun.synced_offset,
            tail=Tail.OPEN,
            path=self.path,
            phase=self.phase,
            placement=placement,
        )


def _planned(
    services: Services,
    command: Append,
    data: bytes,
    trailers: Sequence[tuple[bytes, bytes]],
    upload: Upload | None,
    *,
    is_new: bool,
) -> _Plan:
    if upload is None or upload.phase is not Phase.RECEIVING or upload.is_final:
        raise Unusual
    if services.speeds.are_limited(services.limits, command, upload):
        raise Unusual
    try:
        plan = decide.append(command, upload, services.limits, services.clock())
        services.check_room(len(data))
    except TusError as error:
        # The record may not know yet what lies in storage.
        raise Unusual from error
    count = len(data)
    if count > plan.at_most or command.content.length not in (None, count):
        raise Unusual
    if command.content.is_verified and not _is_verified(command, data, trailers):
        raise Unusual
    begun = plan.upload
    offset = begun.upload_offset + count
    last = offset == begun.upload_length
    always = services.fsync is Fsync.ALWAYS
    sync = always or (last and services.fsync is Fsync.COMPLETE)
    waits = asks(services, begun) or services.hooks.on_finished is not None
    path = services.storage.resting_path(begun) if last and not waits else None
    phase = _phase(last=last, path=path)
    durable = always or (sync and (path is not None or services.moves(begun)))
    return _Plan(upload, begun, offset, path, phase, is_new, sync, durable)


async def _through(services: Services, plan: _Plan, data: bytes, request: RequestInfo) -> Upload:
    try:
        after = _carried_out(services, plan, data)
        if after is None:
            after = await _apart(services, plan, data)
    except SyncFailed:
        if not plan.is_new:
            await fall_back(services, plan.before)
        raise
    if plan.is_new:
        services.note_created(after)
    _noted(services, after, len(data))
    if after.phase is Phase.FINISHING:
        return await finish(services, after, request)
    return after


def _carried_out(services: Services, plan: _Plan, data: bytes) -> Upload | None:
    """The record after it was done on the event loop, None if it is for threads."""
    if not services.pace.is_quick(durable=plan.sync):
        return None
    begun = time.perf_counter()
    after = _put(services, plan, data)
    try:
        committed = services.state.commit_now(
            after, is_new=plan.is_new, before=plan.before, durable=plan.durable
        )
    except (NotNow, TusError):
        services.storage.take_back(plan.before)
        return None
    services.pace.took(time.perf_counter() - begun, durable=plan.sync)
    services.step("store and commit", begun)
    return committed


async def _apart(services: Services, plan: _Plan, data: bytes) -> Upload:
    work = asyncio.to_thread(_put_apart, services, plan, data)
    after = await (services.timed(Synced, work) if plan.sync else work)
    if not plan.is_new:
        commit = services.state.commit(after, durable=plan.durable)
        return await services.timed(Committed, commit)
    try:
        insert = services.state.insert(after, durable=plan.durable)
        return await services.timed(Committed, insert)
    except TusError:
        # The file was made here, under the lock, and no record knows it.
        await services.storage.remove(after)
        raise


def _put_apart(services: Services, plan: _Plan, data: bytes) -> Upload:
    begun = time.perf_counter()
    after = _put(services, plan, data)
    services.pace.took(time.perf_counter() - begun, durable=plan.sync)
    return after


def _put(services: Services, plan: _Plan, data: bytes) -> Upload:
    placement = services.storage.put(plan.before, data, durable=plan.sync)
    if placement is None:
        raise Unusual
    return plan.after(placement)


def _phase(*, last: bool, path: str | None) -> Phase:
    if not last:
        return Phase.RECEIVING
    return Phase.FINISHING if path is None else Phase.COMPLETE


def _is_verified(command: Append, data: bytes, trailers: Sequence[tuple[bytes, bytes]]) -> bool:
    digests = command.content.start_digests()
    assert digests is not None, "its checksum is to be verified"
    digests.update(data)
    return command.content.refusal(digests, trailers) is None


def _noted(services: Services, after: Upload, count: int) -> Upload:
    services.observe(BytesReceived(after, count))
    services.note_unsynced(after)
    if after.phase is Phase.COMPLETE:
        services.note_finished(after)
    return after
