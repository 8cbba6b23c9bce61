"""Jobs in batches: each has its own fate, and none is lost or waits for ever."""

import asyncio
import errno
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tusd_py.protocol.errors import StaleGeneration, StorageBusy, StorageFailed, StorageFull
from tusd_py.state.sqlite import SqliteState
from tusd_py.state.worker import Worker

pytestmark = pytest.mark.anyio

Job = Callable[[sqlite3.Connection], object]


@pytest.fixture
def connect(tmp_path: Path, statements: list[str]) -> Callable[[], sqlite3.Connection]:
    path = tmp_path / "db.sqlite3"

    def make() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, timeout=0.0)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS jobs (number INTEGER PRIMARY KEY, x)")
        return connection

    return make


@pytest.fixture
async def worker(connect: Callable[[], sqlite3.Connection]) -> AsyncIterator[Worker]:
    made = Worker(connect, writes=True, name="writes")
    yield made
    await made.close()


def add(number: int, size: int = 0) -> Job:
    return lambda c: c.execute("INSERT INTO jobs VALUES (?, zeroblob(?))", (number, size)).rowcount


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT number FROM jobs ORDER BY number")]


def synchronous(connection: sqlite3.Connection) -> int:
    """1 is NORMAL, 2 is FULL: what holds for the transaction that this is in."""
    assert connection.in_transaction
    (value,) = connection.execute("PRAGMA synchronous").fetchone()
    return int(value)


class Batch:
    """Jobs that are all there when the thread looks for the next batch."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._begun, self._go_on = threading.Event(), threading.Event()
        self._tasks: list[asyncio.Task[object]] = []

    async def __aenter__(self) -> "Batch":
        def block(connection: sqlite3.Connection) -> None:
            self._begun.set()
            assert self._go_on.wait(10)

        self.add(block)
        assert await asyncio.to_thread(self._begun.wait, 10)
        return self

    def add(self, job: Job, *, durable: bool = False) -> asyncio.Task[object]:
        run: Awaitable[object] = self._worker.run(job, durable=durable)
        self._tasks.append(asyncio.ensure_future(run))
        return self._tasks[-1]

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.sleep(0)
        self._go_on.set()
        await asyncio.wait(self._tasks)


class TestBatch:
    async def test_many_share_one_transaction(self, worker: Worker, statements: list[str]) -> None:
        async with Batch(worker) as batch:
            tasks = [batch.add(add(number)) for number in range(200)]
        assert [task.result() for task in tasks] == [1] * 200
        assert statements.count("COMMIT") == 2, "the one that blocked, and all that waited"
        assert await worker.run(numbers) == list(range(200))

    async def test_is_bounded(self, worker: Worker, statements: list[str]) -> None:
        async with Batch(worker) as batch:
            for number in range(600):
                batch.add(add(number))
        assert statements.count("COMMIT") == 1 + 3

    async def test_begins_immediately(self, worker: Worker, statements: list[str]) -> None:
        await worker.run(numbers)
        begun = [text for text in statements if text.startswith("BEGIN")]
        assert begun == ["BEGIN IMMEDIATE"]

    async def test_one_that_fails_takes_no_other_with_it(
        self, worker: Worker, statements: list[str]
    ) -> None:
        def stale(connection: sqlite3.Connection) -> None:
            add(100)(connection)
            raise StaleGeneration("a")

        def broken(connection: sqlite3.Connection) -> None:
            add(101)(connection)
            raise ZeroDivisionError

        async with Batch(worker) as batch:
            first = batch.add(add(1))
            failing = [batch.add(job) for job in (stale, broken, add(1))]
            last = batch.add(add(2))
        assert (first.result(), last.result()) == (1, 1)
        found = [type(task.exception()) for task in failing]
        assert found == [StaleGeneration, ZeroDivisionError, StorageFailed]
        assert await worker.run(numbers) == [1, 2]
        assert statements.count("COMMIT") == 3, "nothing was tried again"

    async def test_results_are_their_own(self, worker: Worker) -> None:
        async with Batch(worker) as batch:
            tasks = [batch.add(lambda _, number=number: number) for number in range(5)]  # type: ignore[misc]
        assert [task.result() for task in tasks] == [0, 1, 2, 3, 4]

    async def test_a_cancelled_waiter_cancels_no_job(self, worker: Worker) -> None:
        async with Batch(worker) as batch:
            tasks = [batch.add(add(number)) for number in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
        assert tasks[1].cancelled()
        assert await worker.run(numbers) == [0, 1, 2]


class TestDurable:
    @pytest.mark.parametrize("durable", [True, False])
    async def test_is_what_was_asked_for_each_time(self, worker: Worker, durable: bool) -> None:
        for each in (durable, not durable, durable, durable):
            assert await worker.run(synchronous, durable=each) == (2 if each else 1)

    async def test_one_that_is_durable_makes_the_batch_so(self, worker: Worker) -> None:
        async with Batch(worker) as batch:
            tasks = [batch.add(synchronous, durable=number == 2) for number in range(4)]
        assert [task.result() for task in tasks] == [2] * 4


class TestFullDisk:
    async def limit(self, worker: Worker, connection_pages: int = 6) -> None:
        def job(connection: sqlite3.Connection) -> None:
            connection.execute(f"PRAGMA max_page_count={connection_pages}")

        await worker.run(job)

    async def test_is_told_as_that_and_the_others_go_through(self, worker: Worker) -> None:
        """SQLite gives the whole transaction up then, not only the statement."""
        await self.limit(worker)
        async with Batch(worker) as batch:
            before = batch.add(add(1))
            large = batch.add(add(2, size=100_000))
            behind = batch.add(add(3))
            stale = batch.add(add(1))
        assert isinstance(large.exception(), StorageFull)
        assert (before.result(), behind.result()) == (1, 1)
        assert isinstance(stale.exception(), StorageFailed)
        assert await worker.run(numbers) == [1, 3]

    async def test_alone(self, worker: Worker) -> None:
        await self.limit(worker)
        with pytest.raises(StorageFull):
            await worker.run(add(1, size=100_000))
        await worker.run(add(2))
        assert await worker.run(numbers) == [2]

    async def test_at_the_commit(self, worker: Worker) -> None:
        """A constraint that is looked at last fails the commit itself, and nothing is left."""

        def defer(connection: sqlite3.Connection) -> None:
            connection.execute("CREATE TABLE refs (x REFERENCES jobs(number) DEFERRABLE "
                               "INITIALLY DEFERRED)")  # fmt: skip

        def dangling(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO refs VALUES (99)")

        await worker.run(defer)
        async with Batch(worker) as batch:
            batch.add(add(1))
        await self.enforce(worker)
        async with Batch(worker) as batch:
            good, bad = batch.add(add(2)), batch.add(dangling)
        assert good.result() == 1
        assert isinstance(bad.exception(), StorageFailed)
        with pytest.raises(StorageFailed):
            await worker.run(dangling)
        assert await worker.run(numbers) == [1, 2]

    async def enforce(self, worker: Worker) -> None:
        """Foreign keys can only be switched on outside a transaction."""

        def job(connection: sqlite3.Connection) -> None:
            connection.execute("COMMIT")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("BEGIN")
            connection.execute("SAVEPOINT job")

        await worker.run(job)


class TestFailing:
    async def test_a_database_that_is_locked_is_an_error_and_passes(
        self, worker: Worker, connect: Callable[[], sqlite3.Connection]
    ) -> None:
        await worker.run(numbers)
        other = connect()
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFailed):
            await worker.run(add(1))
        other.execute("ROLLBACK")
        other.close()
        await worker.run(add(1))
        assert await worker.run(numbers) == [1]

    async def test_locked_when_they_are_tried_again_alone(
        self, worker: Worker, connect: Callable[[], sqlite3.Connection]
    ) -> None:
        await worker.run(numbers)
        other = connect()

        def give_up(connection: sqlite3.Connection) -> None:
            connection.execute("ROLLBACK")
            other.execute("BEGIN IMMEDIATE")
            raise StaleGeneration("a")

        other = await asyncio.to_thread(shared, connect)
        async with Batch(worker) as batch:
            tasks = [batch.add(give_up), batch.add(add(2))]
        assert all(isinstance(task.exception(), StorageFailed) for task in tasks)
        other.execute("ROLLBACK")
        other.close()
        await worker.run(add(3))
        assert await worker.run(numbers) == [3]

    async def test_a_connection_that_cannot_be_made_is_tried_anew(
        self, connect: Callable[[], sqlite3.Connection]
    ) -> None:
        attempts = iter([sqlite3.OperationalError("unable to open database file")])

        def failing() -> sqlite3.Connection:
            for error in attempts:
                raise error
            return connect()

        worker = Worker(failing, writes=True, name="writes")
        with pytest.raises(StorageFailed) as caught:
            await worker.run(numbers)
        assert "unable to open" in str(caught.value.__cause__)
        assert await worker.run(numbers) == []
        await worker.close()

    @pytest.mark.parametrize(
        ("raised", "told"),
        [
            (OSError(errno.EMFILE, "Too many open files"), StorageBusy),
            (PermissionError(errno.EACCES, "Permission denied"), StorageFailed),
            (OSError(errno.ENOSPC, "No space left on device"), StorageFull),
            (OSError(errno.EDQUOT, "Disk quota exceeded"), StorageFull),
            (MemoryError(), MemoryError),
        ],
    )
    @pytest.mark.parametrize("writes", [True, False])
    async def test_the_thread_outlives_whatever_the_connection_raises(
        self,
        connect: Callable[[], sqlite3.Connection],
        raised: Exception,
        told: type[Exception],
        writes: bool,
    ) -> None:
        """Every later request would wait for ever."""
        attempts = iter([raised])

        def failing() -> sqlite3.Connection:
            for error in attempts:
                raise error
            return connect()

        worker = Worker(failing, writes=writes, name="any")
        async with asyncio.timeout(5):
            with pytest.raises(told) as caught:
                await worker.run(numbers)
            assert raised in (caught.value, caught.value.__cause__)
            assert await worker.run(numbers) == []
            await worker.close()

    async def test_a_store_that_lacks_a_descriptor_says_so_and_opens_later(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state, original = SqliteState(path), os.open

        def short(name: Any, *args: Any, **kwargs: Any) -> int:
            if Path(name) == path.parent:
                raise OSError(errno.EMFILE, "Too many open files", str(name))
            return original(name, *args, **kwargs)

        async with asyncio.timeout(5):
            with monkeypatch.context() as patch:
                patch.setattr(os, "open", short)
                with pytest.raises(StorageFailed) as caught:
                    await state.open()
            assert isinstance(caught.value.__cause__, OSError)
            assert caught.value.__cause__.errno == errno.EMFILE
            await state.open()
            await state.close()

    @pytest.mark.parametrize(
        ("raised", "told"),
        [(MemoryError, MemoryError), (sqlite3.OperationalError, StorageFailed)],
    )
    async def test_a_connection_that_is_left_in_a_transaction_is_not_used_again(
        self,
        connect: Callable[[], sqlite3.Connection],
        tmp_path: Path,
        raised: type[Exception],
        told: type[Exception],
    ) -> None:
        """Each batch after it would fail, and other processes could not write."""

        class Failing(sqlite3.Connection):
            is_short = False

            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                if self.is_short and sql in ("RELEASE job", "ROLLBACK"):
                    raise raised
                return super().execute(sql, *args)

        made: list[Failing] = []

        def connecting() -> sqlite3.Connection:
            path = tmp_path / "db.sqlite3"
            made.append(sqlite3.connect(path, isolation_level=None, timeout=0.0, factory=Failing))
            return made[-1]

        connect().close()
        worker = Worker(connecting, writes=True, name="writes")
        assert await worker.run(synchronous, durable=True) == 2
        made[0].is_short = True
        with pytest.raises(told):
            await worker.run(add(1), durable=True)
        assert await worker.run(synchronous, durable=False) == 1
        assert await worker.run(numbers) == []
        assert len(made) == 2
        await worker.close()

    async def test_a_worker_without_a_job_ends(self) -> None:
        def never() -> sqlite3.Connection:
            raise AssertionError("nobody asked for it")

        await Worker(never, writes=True, name="idle").close()

    async def test_reads_begin_no_transaction(
        self, connect: Callable[[], sqlite3.Connection], statements: list[str]
    ) -> None:
        worker = Worker(connect, writes=False, name="reads")
        assert await worker.run(numbers) == []
        with pytest.raises(StorageFailed):
            await worker.run(lambda connection: connection.execute("SELECT nothing"))
        await worker.close()
        assert not [text for text in statements if text.startswith("BEGIN")]


def shared(connect: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
    """A connection that two threads use in turn."""
    made = connect()
    (_, _, path) = made.execute("PRAGMA database_list").fetchone()
    made.close()
    return sqlite3.connect(path, isolation_level=None, timeout=0.0, check_same_thread=False)


def test_a_loop_that_is_closed_meanwhile(connect: Callable[[], sqlite3.Connection]) -> None:
    """The jobs of other loops in the same batch are answered still."""
    worker = Worker(connect, writes=True, name="writes")
    begun, go_on = threading.Event(), threading.Event()

    def block(connection: sqlite3.Connection) -> None:
        begun.set()
        assert go_on.wait(10)

    async def gone() -> None:
        tasks = [asyncio.ensure_future(worker.run(job)) for job in (block, add(1))]
        await asyncio.to_thread(begun.wait, 10)
        for task in tasks:
            task.cancel()

    async def stays() -> None:
        task = asyncio.ensure_future(worker.run(add(2)))
        await asyncio.sleep(0)
        go_on.set()
        assert await task == 1
        assert await worker.run(numbers) == [1, 2]
        await worker.close()

    asyncio.run(gone())
    asyncio.run(stays())
