"""What every use case works with, and the work that outlives a request."""

import asyncio
import enum
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import anyio

from tusd_py.engine.live import Live
from tusd_py.engine.open_uploads import OpenUploads
from tusd_py.engine.room import Room
from tusd_py.engine.speed import Speeds
from tusd_py.engine.talk import Talk
from tusd_py.hooks.events import (
    Committed,
    Observed,
    OutboxEvent,
    Step,
    Synced,
    UploadCreated,
    UploadFinished,
    UploadsSeen,
)
from tusd_py.hooks.interface import Hooks
from tusd_py.locks.interface import Locks
from tusd_py.protocol.decide import Limits
from tusd_py.protocol.errors import ServerShutdown, StorageFull, TusError, UploadLocked
from tusd_py.protocol.upload import Upload
from tusd_py.state.interface import NotNow, StateStore
from tusd_py.storage.interface import Storage

logger = logging.getLogger("tusd_py")

T = TypeVar("T")


class Fsync(enum.StrEnum):
    """What outlives a loss of power."""

    NEVER = "never"
    """Nothing is promised."""

    COMPLETE = "complete"
    """An upload, from the response that completes it on."""

    ALWAYS = "always"
    """Every offset that is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long things may take, in seconds.

    Attributes:
        acquire_lock: A request waits for the holder of a lock.
        remember_gone: A tombstone is kept, so that its URL answers 410 and not 404.
        stray: A file that no record knows is left alone, and then kept in quarantine 168 times as
            long (an hour and a week).
        sync_after: Bytes may lie unsynced while an upload is unfinished.
    """

    acquire_lock: float = 20.0
    remember_gone: float = 7 * 86_400.0
    stray: float = 3600.0
    sync_after: float = 5.0


async def to_the_end(work: Coroutine[Any, Any, T], on_cancel: Callable[[], None]) -> T:
    """Runs work that must not stop half-way, also when whoever waits for it is cancelled.

    Args:
        work: Goes on in a task of its own until it ends by itself.
        on_cancel: Called once on a cancellation, to make that soon.

    Raises:
        CancelledError: This was cancelled; the work has ended before.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    # As `asyncio.wait` would, at half its cost: a request waits like this several times.
    ended: asyncio.Future[None] = loop.create_future()

    def end(_: "asyncio.Task[T]") -> None:
        if not ended.done():
            ended.set_result(None)

    task.add_done_callback(end)
    try:
        await ended
    except asyncio.CancelledError:
        on_cancel()
        while not task.done():
            # The shield keeps a cancel scope of anyio from cancelling again in every round.
            with anyio.CancelScope(shield=True), suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise
    try:
        return task.result()
    finally:
        # What it raises refers to this frame: a circle, which would wait for the garbage collector.
        del task


class Pace:
    """Whether small writes are quick enough to be done on the event loop.

    The rules:
    - A write to the page cache is, until one takes long; then none is done there for a while, which
      is so much longer that the event loop seldom waits, however slow the disk is.
    - A sync is only where threads were seen to sync at once lately, as in memory. The quickest of
      the last few counts: a thread that had to wait for others says nothing.
    """

    _SLOW = 0.02
    _REST_FOR = 20
    _REST_AT_LEAST = 0.5
    _QUICK_SYNC = 0.0002

    def __init__(self) -> None:
        self._rests_until = 0.0
        self._syncs: deque[float] = deque(maxlen=8)

    def is_quick(self, *, durable: bool) -> bool:
        """Whether the next one may be done on the event loop."""
        if durable and min(self._syncs, default=1.0) > self._QUICK_SYNC:
            return False
        return time.monotonic() >= self._rests_until

    def took(self, seconds: float, *, durable: bool) -> None:
        """One has ended."""
        if not durable:
            if seconds > self._SLOW:
                rest = max(self._REST_AT_LEAST, self._REST_FOR * seconds)
                self._rests_until = time.monotonic() + rest
        elif seconds > self._SLOW:
            self._syncs.clear()
        else:
            self._syncs.append(seconds)


class Jobs:
    """Work on uploads that goes on when the request that began it is gone; one for each upload."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Upload]] = {}
        self._is_closing = False

    def start(
        self, upload_id: str, work: Callable[[], Coroutine[Any, Any, Upload]]
    ) -> "asyncio.Task[Upload]":
        """The job for an upload: the one that is under way, or a new one."""
        task = self._tasks.get(upload_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(work(), name=f"tusd-py {upload_id}")
            self._tasks[upload_id] = task
            task.add_done_callback(lambda done: self._ended(upload_id, done))
        return task

    def wake(self, upload_id: str, work: Callable[[], Coroutine[Any, Any, Upload]]) -> None:
        """As `start`; but one that is under way may have looked too early, so another follows."""

        def again(_: "asyncio.Task[Upload]") -> None:
            if not self._is_closing:
                self.wake(upload_id, work)

        task = self._tasks.get(upload_id)
        if task is None:
            self.start(upload_id, work)
        else:
            task.add_done_callback(again)

    async def join(
        self,
        upload_id: str,
        work: Callable[[], Coroutine[Any, Any, Upload]],
        within: float | None,
    ) -> Upload:
        """What the job for an upload comes to.

        Args:
            upload_id: Whose job.
            work: What to begin if none is under way.
            within: Seconds to wait; the job goes on behind that.

        Raises:
            UploadLocked: It was not done in time.
            ServerShutdown: It was cut short; the next start resumes it.
        """
        task = self.start(upload_id, work)
        await asyncio.wait({task}, timeout=within)
        if not task.done():
            raise UploadLocked(upload_id)
        if task.cancelled():
            raise ServerShutdown
        return task.result()

    async def close(self, within: float) -> None:
        """Lets what is under way end, for some seconds; the next start resumes the rest."""
        self._is_closing = True
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=within)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._is_closing = False

    def _ended(self, upload_id: str, task: "asyncio.Task[Upload]") -> None:
        del self._tasks[upload_id]
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, TusError):
            logger.error("work on upload %s failed", upload_id, exc_info=error)


class Trace(Protocol):
    """Writes down how a request is served; what observers are told meanwhile belongs to it."""

    def __call__(
        self,
        method: str,
        path: str,
        upload_id: str | None,
        headers: Sequence[tuple[bytes, bytes]],
    ) -> AbstractContextManager[None]:
        """Begins with the head of the request, and ends with the block."""
        ...


@dataclass(slots=True, kw_only=True)
class Services:
    """The rooms that the engine works with, as one deployment has them.

    Attributes:
        clock: Seconds since the epoch, UTC.
        observers: Told at once of what happened; they must be quick and must not raise.
        trace: See there; None where no request is traced.
        live: Appends under way, by upload.
        unsynced: Uploads whose appends ended before they were synced, and since when.
        finishing: Ids of the uploads whose `on_finish` runs now, and whether it took the file.
        pace: How quick the disk is with small files.
        paused: Uploads that were paused since this process began, and did not go on.
        talk: What other processes on the same uploads are told.
        room: What is free of the disk.
        speeds: How quickly bytes are taken.
        open_uploads: How many uploads are open.
        is_ending: Whether the server is to end, so that no body is begun any more.
        tells: Whether some process tells an application of the ends of uploads.
        recalls: Whether storage may know of uploads that have no record, since those were lost.
        wake_outbox: Called after events were committed.
    """

    storage: Storage
    state: StateStore
    locks: Locks
    clock: Callable[[], float]
    hooks: Hooks = field(default_factory=Hooks)
    limits: Limits = field(default_factory=Limits)
    fsync: Fsync = Fsync.COMPLETE
    timing: Timing = field(default_factory=Timing)
    jobs: Jobs = field(default_factory=Jobs)
    observers: list[Callable[[Observed], None]] = field(default_factory=list)
    trace: Trace | None = None
    live: dict[str, Live] = field(default_factory=dict)
    unsynced: dict[str, float] = field(default_factory=dict)
    finishing: dict[str, bool] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)
    open_uploads: OpenUploads = field(default_factory=OpenUploads)
    paused: set[str] = field(default_factory=set)
    talk: Talk = field(default_factory=Talk)
    is_ending: bool = False
    tells: bool = False
    recalls: bool = False
    wake_outbox: Callable[[], None] = lambda: None
    room: Room = field(init=False)
    speeds: Speeds = field(init=False)

    def __post_init__(self) -> None:
        self.room = Room(self.storage.free)
        self.speeds = Speeds(self.talk, self.observe)

    def observe(self, event: Observed) -> None:
        """Tells the observers."""
        for observer in self.observers:
            observer(event)

    async def timed(self, event: type[Synced | Committed], work: Awaitable[T]) -> T:
        """Does some work, and tells the observers how long it took, unless it fails."""
        begun = time.perf_counter()
        done = await work
        self.observe(event(seconds=time.perf_counter() - begun))
        return done

    def step(self, name: str, begun: float) -> None:
        """Tells whoever traces the request that a part of it has ended.

        Args:
            name: See `Step`.
            begun: When it began, in `time.perf_counter()`.
        """
        if self.trace is not None:
            self.observe(Step(name, time.perf_counter() - begun))

    def check_room(self, needed: int) -> None:
        """Whether bytes may be taken, before any of them is.

        Args:
            needed: How many, as far as that is known.

        Raises:
            FloorReached: See `Limits.check_room`.
            StorageFull: What is left is for the uploads that are known.
            StorageFailed: Storage cannot tell.
        """
        if self.limits.min_free_disk:
            self.limits.check_room(needed, self.room.free())
        if self.state.is_short:
            raise StorageFull

    def note_created(self, upload: Upload) -> None:
        """Counts a new upload, and tells the observers."""
        self.open_uploads.opened(upload)
        self.observe(UploadCreated(upload.id))

    def note_finished(self, upload: Upload) -> None:
        """Counts it as one less that is open, and tells the observers."""
        self.open_uploads.closed(upload)
        self.observe(UploadFinished(upload.id))

    async def count_open(self) -> None:
        """Counts the open uploads anew, and tells the observers."""
        now = self.clock()
        counts = await self.state.count_open(now)
        self.open_uploads.counted(counts, now)
        self.observe(UploadsSeen(count=sum(counts.values())))

    def note_unsynced(self, upload: Upload) -> None:
        """Lets the keeper sync what an append that has ended left unsynced."""
        if self.fsync is not Fsync.NEVER and upload.synced_offset < upload.upload_offset:
            self.unsynced.setdefault(upload.id, self.clock())

    def moves(self, upload: Upload) -> bool:
        """Whether the finish gives the file another name, and must be known durably before that.

        Of a file that a loss of power left under its new name, a record that still waits for bytes
        would know nothing: the name is taken, and nobody's.
        """
        stays = upload.is_partial or self.storage.resting_path(upload) is not None
        return self.fsync is not Fsync.NEVER and not stays

    async def load(self, upload_id: str) -> Upload | None:
        """A record, None if there is none."""
        if self.pace.is_quick(durable=False):
            with suppress(NotNow):
                return self.state.load_now(upload_id)
        return await self.state.load(upload_id)

    async def insert(self, upload: Upload) -> Upload:
        """Commits a new record; durably where every acknowledgement is to be durable."""
        durable = self.fsync is Fsync.ALWAYS
        inserted = self.insert_now(upload)
        if inserted is not None:
            return inserted
        return await self.timed(Committed, self.state.insert(upload, durable=durable))

    def insert_now(self, upload: Upload) -> Upload | None:
        """As `insert`, on the event loop; None if it is for a thread."""
        return self._commit_now(upload, is_new=True, durable=self.fsync is Fsync.ALWAYS)

    async def publish(
        self,
        upload: Upload,
        *,
        durable: bool = False,
        events: tuple[OutboxEvent, ...] = (),
    ) -> Upload:
        """Commits a record; durably too where every acknowledgement is to be durable."""
        durable = durable or self.fsync is Fsync.ALWAYS
        if not events:
            committed = self._commit_now(upload, is_new=False, durable=durable)
            if committed is not None:
                return committed
        work = self.state.commit(upload, durable=durable, events=events)
        committed = await self.timed(Committed, work)
        if events:
            self.wake_outbox()
        return committed

    async def let_go(self, upload: Upload) -> int:
        """Under the lock: removes the bytes of what is over: how many came free.

        From then on its record names no file: another upload may rest under the same name, even in
        the same inode.
        """
        self.unsynced.pop(upload.id, None)
        freed = await self.storage.remove(upload)
        await self.state.commit(upload._replace(released=True, path=None))
        return freed

    def _commit_now(self, upload: Upload, *, is_new: bool, durable: bool) -> Upload | None:
        """The record as it was committed on the event loop, None if that is for a thread."""
        if not self.pace.is_quick(durable=durable):
            return None
        begun = time.perf_counter()
        try:
            committed = self.state.commit_now(upload, is_new=is_new, durable=durable)
        except NotNow:
            return None
        self.pace.took(time.perf_counter() - begun, durable=durable)
        self.step("commit", begun)
        return committed
