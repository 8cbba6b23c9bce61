"""A thread that owns one SQLite connection, and commits what waits together.

The rules:
- A job is a function of the connection. Jobs that wait while a commit is under way share the next
  transaction, each in a savepoint of its own: one that fails takes no other with it. Where SQLite
  gives the whole transaction up, as it does on a full disk, each is tried again alone.
- A write transaction begins with `BEGIN IMMEDIATE`: a deferred one that reads before it writes
  fails at once in spite of the busy time-out.
- A job that was accepted is carried out, whether or not somebody still waits for it.
- The thread outlives every error: what it cannot do reaches those who wait, and with the next batch
  it tries anew. A connection that is left in a transaction is not used again.
- Where there was no room for a commit, the ballast is let go of, and the log carried over while
  there is room for that: then the log's own room can be used again and again. The commit is tried
  once more.
"""

import asyncio
import errno
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from tusd_py.protocol.errors import StorageBusy, StorageFailed, StorageFull
from tusd_py.state.ballast import Ballast, is_full, wants_room

logger = logging.getLogger("tusd_py")

T = TypeVar("T")

_MOST_JOBS = 256


@dataclass(slots=True)
class _Job:
    run: Callable[[sqlite3.Connection], object]
    durable: bool
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    result: object = None
    error: Exception | None = None

    def resolve(self) -> None:
        """On the loop: tells whoever still waits."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Worker:
    """Runs jobs on a connection, in the order of submission.

    Args:
        connect: Makes the connection, in the thread.
        writes: Whether each batch is a write transaction.
        name: Of the thread.
        ballast: The room that is kept for commits.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        writes: bool,
        name: str,
        ballast: Ballast | None = None,
    ) -> None:
        self._connect = connect
        self._writes = writes
        self._ballast = ballast
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._durable: bool | None = None
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> T:
        """Carries out a job, alone or in a batch.

        Args:
            job: Gets the connection; may run again if the batch it was in could not be committed.
            durable: Whether the commit must outlive a loss of power.

        Raises:
            StorageFull: The disk is full.
            StorageBusy: No file could be opened now.
            StorageFailed: SQLite failed otherwise, or there is no connection to be had now; the
                cause is kept, and the next call tries anew.
            Exception: Whatever else the job raised, such as a `TusError`.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._jobs.put(_Job(job, durable, loop, future))
        return cast("T", await future)

    def submit(self, job: Callable[[sqlite3.Connection], object]) -> None:
        """As `run`, for a job that nobody waits for."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        future.add_done_callback(_report)
        self._jobs.put(_Job(job, False, loop, future))

    async def close(self) -> None:
        """Ends the thread after what was submitted."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _main(self) -> None:
        ended = False
        while not ended:
            batch = self._next_batch()
            ended = batch[-1] is None
            jobs = [job for job in batch if job is not None]
            try:
                if jobs:
                    self._carry_out_connected(jobs)
                    self._repeat(jobs)
            except Exception as error:  # the root of the thread: nobody may wait for ever
                for job in jobs:
                    job.error = job.error or _translated(error)
            _resolve(jobs)
        self._disconnect()

    def _next_batch(self) -> list[_Job | None]:
        batch = [self._jobs.get()]
        while batch[-1] is not None and len(batch) < _MOST_JOBS and not self._jobs.empty():
            batch.append(self._jobs.get())
        return batch

    def _repeat(self, jobs: list[_Job]) -> None:
        """Tries once more what may have found no room, when there is some."""
        starved = [job for job in jobs if wants_room(_cause(job))]
        if not starved or self._ballast is None:
            return
        is_relieved = self._ballast.relieve(_cause(starved[0]))
        if self._shrink() or is_relieved:
            self._carry_out_connected(starved)
        for job in starved:
            cause = _cause(job)
            if wants_room(cause) and not is_full(cause) and not self._ballast.can_write():
                job.error = StorageFull()
                job.error.__cause__ = cause

    def _shrink(self) -> bool:
        """Carries the log over to the database, so that commits have its room again: whether that
        was possible.
        """
        if self._connection is None:
            return False
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error:
            return False
        return True

    def _carry_out_connected(self, jobs: list[_Job]) -> None:
        """Carries jobs out; what fails altogether is the fate of each that has none yet."""
        try:
            self._carry_out_together(jobs)
        except Exception as error:  # the root of a batch
            for job in jobs:
                job.error = _translated(error)

    def _carry_out_together(self, jobs: list[_Job]) -> None:
        if self._connection is None:
            self._connection = self._connect()
        try:
            self._carry_out(self._connection, jobs)
        finally:
            # It would fail every later batch, and keep all other writers out.
            if self._connection.in_transaction:
                self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection, self._durable = self._connection, None, None
        if connection is not None:
            connection.close()

    def _carry_out(self, connection: sqlite3.Connection, jobs: list[_Job]) -> None:
        if not self._writes:
            for job in jobs:
                _attempt(connection, job)
            return
        self._set_durable(connection, any(job.durable for job in jobs))
        connection.execute("BEGIN IMMEDIATE")
        try:
            for job in jobs:
                connection.execute("SAVEPOINT job")
                if not _attempt(connection, job):
                    connection.execute("ROLLBACK TO job")
                connection.execute("RELEASE job")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if len(jobs) == 1:
                jobs[0].error = jobs[0].error or _translated(error)
                return
            # A full disk takes the whole transaction back, savepoints and all.
            for job in jobs:
                self._carry_out_alone(connection, job)

    def _carry_out_alone(self, connection: sqlite3.Connection, job: _Job) -> None:
        try:
            self._carry_out(connection, [job])
        except Exception as error:  # the root of a transaction: those before it were committed
            job.error = _translated(error)

    def _set_durable(self, connection: sqlite3.Connection, durable: bool) -> None:
        if durable is not self._durable:
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable


def _report(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled() and future.exception() is not None:
        logger.warning("work on the state failed; it is tried again", exc_info=future.exception())


def _attempt(connection: sqlite3.Connection, job: _Job) -> bool:
    try:
        job.result, job.error = job.run(connection), None
    except Exception as error:  # the root of a job: whoever waits for it gets it
        job.error = _translated(error)
    return job.error is None


def _cause(job: _Job) -> BaseException | None:
    return None if job.error is None else job.error.__cause__


def _translated(error: Exception) -> Exception:
    if not isinstance(error, OSError | sqlite3.Error):
        return error
    translated = _named(error)()
    translated.__cause__ = error
    return translated


def _named(error: OSError | sqlite3.Error) -> type[StorageFull | StorageFailed]:
    if is_full(error):
        return StorageFull
    is_busy = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
    return StorageBusy if is_busy else StorageFailed


def _resolve(jobs: list[_Job]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve_all, group)
        except RuntimeError:
            # The loop was closed meanwhile: nobody waits any more.
            continue


def _resolve_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.resolve()
