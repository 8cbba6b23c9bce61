"""Records in SQLite: what is kept whatever happens to the process, the file or the disk."""

import asyncio
import fcntl
import multiprocessing
import sqlite3
import threading
import time
import types
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.state.samples import NOW, PART, UPLOAD, UPLOADS, event, final
from tusd_py.protocol.errors import StorageFailed, StorageFull
from tusd_py.protocol.upload import Phase, Reply, Upload
from tusd_py.state import rows, sqlite
from tusd_py.state.at_once import checkpoint
from tusd_py.state.sqlite import MIGRATIONS, NewerDatabase, SqliteState

pytestmark = pytest.mark.anyio

STARTS_WITHIN = 60.0


def by_hand(path: Path, *statements: str) -> list[Any]:
    """What the last of some statements finds, as an operator would look at it."""
    connection = sqlite3.connect(path, isolation_level=None)
    found: list[Any] = []
    for statement in statements:
        found = connection.execute(statement).fetchall()
    connection.close()
    return found


class TestRecords:
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(first=UPLOADS, second=UPLOADS)
    async def test_whatever_it_is_it_comes_back(
        self, state: SqliteState, first: Upload, second: Upload
    ) -> None:
        kept = await state.insert(first)
        assert await state.load(first.id) == first
        changed = second._replace(
            id=kept.id,
            created_at=kept.created_at,
            generation=kept.generation,
            principal=kept.principal,
        )
        committed = await state.commit(changed)
        assert committed == changed._replace(generation=kept.generation + 1)
        assert await state.load(first.id) == committed
        await state.delete(committed)
        assert await state.load(first.id) is None

    async def test_headers_of_any_kind_of_mapping(self, state: SqliteState) -> None:
        class Headers(Mapping[str, str]):
            def __getitem__(self, key: str) -> str:
                return {"X-A": "b"}[key]

            def __iter__(self) -> Any:
                return iter(["X-A"])

            def __len__(self) -> int:
                return 1

        for headers in (Headers(), types.MappingProxyType({"X-A": "b"})):
            upload = UPLOAD._replace(id=type(headers).__name__, reply=Reply(headers=headers))
            await state.insert(upload)
            found = await state.load(upload.id)
            assert found
            assert found.reply == Reply(headers={"X-A": "b"})

    async def test_those_of_one_moment(
        self, state: SqliteState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A part that is committed between two looks is seen in both or in none."""
        other = SqliteState(state.path)
        await other.open()
        await state.insert(PART)
        await state.insert(PART._replace(id="b"))
        load, begun, go_on = rows.load, threading.Event(), threading.Event()

        def slow(connection: sqlite3.Connection, upload_id: str) -> Upload | None:
            if upload_id == "b":
                begun.set()
                assert go_on.wait(10)
            return load(connection, upload_id)

        monkeypatch.setattr(sqlite, "load", slow)
        looking = asyncio.create_task(state.load_many(["a", "b"]))
        assert await asyncio.to_thread(begun.wait, 10)
        await other.commit(PART._replace(phase=Phase.COMPLETE))
        await other.commit(PART._replace(id="b", phase=Phase.COMPLETE))
        go_on.set()
        assert {upload.phase for upload in (await looking).values()} == {Phase.RECEIVING}
        await other.close()

    async def test_a_read_that_fails_leaves_no_transaction_open(
        self, state: SqliteState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:

            def failing(*args: object) -> None:
                raise sqlite3.DatabaseError("database disk image is malformed")

            patched.setattr(sqlite, "load", failing)
            with pytest.raises(StorageFailed):
                await state.load_many(["a"])
        await state.insert(UPLOAD)
        assert await state.load_many(["a"]) == {"a": UPLOAD}

    async def test_what_expires_is_found_by_its_index(
        self, path: Path, statements: list[str]
    ) -> None:
        """The sweep does not read a million finished uploads (seen: to have them sorted)."""
        state = SqliteState(path)
        await state.open()
        await state.expired(1.0, (0.0, ""), 5)
        await state.close()
        (query,) = [text for text in statements if "expires_at <=" in text]
        plan = by_hand(path, f"EXPLAIN QUERY PLAN {query}")
        assert "uploads_by_expiry" in plan[0][-1]
        assert not [line for line in plan if "SORT" in line[-1] or "TEMP" in line[-1]]


class TestCommits:
    async def test_many_at_once_are_few_transactions(
        self, path: Path, statements: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state = SqliteState(path)
        await state.open()
        uploads = [await state.insert(UPLOAD._replace(id=f"{number:03}")) for number in range(100)]
        statements.clear()
        committed = await asyncio.gather(*map(state.commit, uploads))
        assert {upload.generation for upload in committed} == {1}
        assert 1 <= statements.count("COMMIT") <= 50
        await state.close()

    @pytest.mark.parametrize("durable", [True, False])
    async def test_durable_where_that_was_asked_for(
        self, path: Path, statements: list[str], durable: bool
    ) -> None:
        state = SqliteState(path)
        await state.open()
        await state.insert(UPLOAD)
        upload = await state.commit(UPLOAD, durable=not durable)
        statements.clear()
        await state.commit(upload, durable=durable)
        expected = f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}"
        begin = statements.index("BEGIN IMMEDIATE")
        assert statements[:begin] == [expected]
        assert not [text for text in statements[begin:] if "synchronous" in text]
        await state.close()

    async def test_the_tie_is_durable(self, path: Path, statements: list[str]) -> None:
        state = SqliteState(path)
        await state.open()
        await state.insert(UPLOAD)
        statements.clear()
        await state.tie("mine")
        assert statements[0] == "PRAGMA synchronous=FULL"
        await state.close()

    async def test_is_not_handed_to_a_thread_that_has_ended(self, path: Path) -> None:
        state = SqliteState(path)
        await state.open()
        closing = asyncio.create_task(state.close())
        await asyncio.sleep(0)
        with pytest.raises(AssertionError, match="not open"):
            await asyncio.wait_for(state.insert(UPLOAD), 5)
        with pytest.raises(AssertionError, match="not open"):
            await asyncio.wait_for(state.load("a"), 5)
        await closing

    async def test_a_full_disk(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        state = SqliteState(path)
        connect = state._connect

        def small() -> sqlite3.Connection:
            connection = connect()
            connection.execute("PRAGMA max_page_count=60")
            return connection

        monkeypatch.setattr(state, "_connect", small)
        await state.open()
        upload = await state.insert(UPLOAD)
        large = upload._replace(upload_metadata="x" * 500_000)
        with pytest.raises(StorageFull):
            await state.commit(large, events=[event("a")])
        assert await state.load("a") == upload
        assert await state.due_events(NOW, 10) == []
        assert (await state.commit(upload)).generation == 1
        await state.close()


class TestOpen:
    async def test_a_read_only_file(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = SqliteState(path)
        await first.open()
        await first.insert(UPLOAD)
        connect = sqlite3.connect

        def read_only(database: Path, **kwargs: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(f"file:{database}?mode=ro", uri=True, **kwargs)
            return connection

        monkeypatch.setattr(sqlite3, "connect", read_only)
        state = SqliteState(path)
        with pytest.raises(StorageFailed) as caught:
            await state.open()
        assert "readonly" in str(caught.value.__cause__)
        assert await first.load("a") == UPLOAD
        await first.close()

    @pytest.mark.parametrize("kind", ["text", "folder", "cut"])
    async def test_what_is_no_database(self, path: Path, kind: str) -> None:
        path.parent.mkdir()
        if kind == "text":
            path.write_text("ten years of work, " * 1000)
        elif kind == "folder":
            path.mkdir()
        else:
            state = SqliteState(path)
            await state.open()
            await state.close()
            path.write_bytes(path.read_bytes()[:5000])
        state = SqliteState(path)
        with pytest.raises(StorageFailed) as caught:
            await state.open()
        assert isinstance(caught.value.__cause__, sqlite3.Error)
        left = {thread.name for thread in threading.enumerate()}
        assert not left & {"tusd-py-commits", "tusd-py-reads"}, "no thread is left"
        if kind == "text":
            assert path.read_text().startswith("ten years of work, ")

    async def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match=r"Not a directory|exists"):
            await SqliteState(tmp_path / "file" / "db").open()

    async def test_only_one_at_a_time_makes_the_file(
        self, path: Path, statements: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flock = fcntl.flock

        def noting(descriptor: int, operation: int) -> None:
            assert Path(f"/proc/self/fd/{descriptor}").readlink() == path.parent
            flock(descriptor, operation)
            statements.append("locked" if operation == fcntl.LOCK_EX else "?")

        monkeypatch.setattr(fcntl, "flock", noting)
        state = SqliteState(path)
        await state.open()
        await state.close()
        assert statements[:2] == ["locked", "PRAGMA journal_mode=WAL"]

    def test_four_processes_at_once(self, tmp_path: Path) -> None:
        """The workers of a server all find a new folder."""
        paths = [tmp_path / str(number) / "db.sqlite3" for number in range(40)]
        context = multiprocessing.get_context("spawn")
        barrier, outcomes = context.Barrier(4), context.SimpleQueue()
        processes = [
            context.Process(target=open_each, args=(paths, barrier, outcomes, number))
            for number in range(4)
        ]
        for process in processes:
            process.start()
        found = [outcomes.get() for _ in processes]
        for process in processes:
            process.join(STARTS_WITHIN)
        assert found == ["well"] * 4
        for path in paths:
            assert by_hand(path, "PRAGMA journal_mode") == [("wal",)]
            assert by_hand(path, "SELECT count(*) FROM uploads") == [(4,)]


def open_each(paths: list[Path], barrier: Any, outcomes: Any, number: int) -> None:
    """In a process of its own: opens each database when all are ready to, and writes to it."""

    async def open_one(path: Path) -> None:
        state = SqliteState(path)
        assert await state.open() is None
        await state.insert(UPLOAD._replace(id=str(number)))
        await state.close()

    try:
        for path in paths:
            barrier.wait(STARTS_WITHIN)
            asyncio.run(open_one(path))
    except BaseException as error:
        barrier.abort()
        outcomes.put(f"{error!r} from {error.__cause__!r}")
    else:
        outcomes.put("well")


SECOND_STEP = """
-- A column that a later release needs; a semicolon in a comment ends no statement.
ALTER TABLE uploads
    ADD COLUMN colour TEXT;
CREATE TABLE added (x TEXT) STRICT
;
"""


def migrating(monkeypatch: pytest.MonkeyPatch, *steps: str) -> None:
    monkeypatch.setattr(sqlite, "MIGRATIONS", MIGRATIONS + steps)


class TestMigrations:
    @pytest.fixture
    async def old(self, path: Path) -> Path:
        """A database of this release, with a record in it."""
        state = SqliteState(path)
        await state.open()
        await state.tie("mine")
        await state.insert(UPLOAD)
        await state.close()
        return path

    async def open_and_close(self, path: Path) -> str | None:
        state = SqliteState(path)
        try:
            return await state.open()
        finally:
            await state.close()

    async def test_a_new_database_gets_all_steps(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        migrating(monkeypatch, SECOND_STEP)
        assert await self.open_and_close(path) is None
        assert by_hand(path, "PRAGMA user_version") == [(len(MIGRATIONS) + 1,)]
        assert by_hand(path, "SELECT * FROM added") == []

    async def test_an_old_one_gets_the_rest(
        self, old: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        migrating(monkeypatch, SECOND_STEP)
        for _ in range(2):
            assert await self.open_and_close(old) == "mine"
        assert by_hand(old, "PRAGMA user_version") == [(len(MIGRATIONS) + 1,)]
        assert by_hand(old, "SELECT id, colour FROM uploads") == [("a", None)]

    async def test_a_step_that_fails_leaves_the_old_version(
        self, old: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            migrating(patched, SECOND_STEP, "CREATE TABLE third (x);\nINSERT INTO nowhere;\n")
            with pytest.raises(StorageFailed):
                await self.open_and_close(old)
        assert by_hand(old, "PRAGMA user_version") == [(len(MIGRATIONS),)]
        assert by_hand(old, "SELECT name FROM sqlite_schema WHERE name = 'added'") == []
        assert await self.open_and_close(old) == "mine"

    async def test_a_kill_in_the_middle_leaves_the_old_version(self, old: Path) -> None:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=migrate_and_die, args=(old,))
        process.start()
        process.join(STARTS_WITHIN)
        assert process.exitcode == 9
        assert by_hand(old, "PRAGMA user_version") == [(len(MIGRATIONS),)]
        assert by_hand(old, "SELECT id FROM uploads") == [("a",)]
        assert by_hand(old, "SELECT name FROM sqlite_schema WHERE name = 'added'") == []

    async def test_a_newer_one_is_left_as_it_is(self, old: Path) -> None:
        by_hand(old, "PRAGMA user_version=70")
        before = old.read_bytes()
        with pytest.raises(NewerDatabase, match=r"has version 70.*knows version.*newer release"):
            await self.open_and_close(old)
        assert old.read_bytes() == before


def migrate_and_die(path: Path) -> None:
    """In a process of its own: is killed when the second step is half done."""
    import os

    statements = sqlite._statements

    def dying(script: str) -> list[str]:
        if script == "die":
            os._exit(9)
        return statements(script)

    sqlite._statements = dying
    sqlite.MIGRATIONS = (*MIGRATIONS, SECOND_STEP, "die")
    asyncio.run(opened(path))


async def opened(path: Path) -> None:
    await SqliteState(path).open()


def test_statements_are_what_sqlite_takes_for_one() -> None:
    trigger = "CREATE TRIGGER t AFTER INSERT ON x BEGIN\n  SELECT 1;\n  SELECT 2;\nEND;\n"
    assert sqlite._statements(trigger + "SELECT ';\n';\n-- the end\n") == [
        trigger,
        "SELECT ';\n';\n",
    ]


class TestBackup:
    async def test_is_of_one_moment_while_others_write(
        self, state: SqliteState, tmp_path: Path
    ) -> None:
        """Each commit writes an upload and its event: a copy has both of it, or none."""
        uploads = [await state.insert(UPLOAD._replace(id=f"{n:03}")) for n in range(50)]
        copied = asyncio.Event()

        async def write(upload: Upload) -> None:
            while not copied.is_set():
                upload = await state.commit(upload, events=[event(upload.id)])

        writing = [asyncio.create_task(write(upload)) for upload in uploads]
        for number in range(3):
            await asyncio.sleep(0)
            await state.backup(tmp_path / f"copy-{number}")
        copied.set()
        await asyncio.gather(*writing)
        for number in range(3):
            copy = tmp_path / f"copy-{number}"
            ((commits, events),) = by_hand(
                copy,
                "SELECT (SELECT SUM(generation) FROM uploads), (SELECT COUNT(*) FROM outbox)",
            )
            assert commits == events
            assert by_hand(copy, "PRAGMA integrity_check") == [("ok",)]
            assert by_hand(copy, "PRAGMA user_version") == [(len(MIGRATIONS),)]

    async def test_is_a_store(self, state: SqliteState, tmp_path: Path) -> None:
        await state.tie("mine")
        await state.insert(PART)
        await state.insert(final("f", "a"))
        await state.backup(tmp_path / "copy")
        copy = SqliteState(tmp_path / "copy")
        assert await copy.open() == "mine"
        assert await copy.load("a") == PART
        assert await copy.waiting_finals() == ["f"]
        await copy.close()

    async def test_replaces_nothing(self, state: SqliteState, tmp_path: Path) -> None:
        (tmp_path / "copy").write_text("another")
        with pytest.raises(StorageFailed):
            await state.backup(tmp_path / "copy")
        assert (tmp_path / "copy").read_text() == "another"


def test_commits_do_not_wait_long_for_somebody_who_reads(tmp_path: Path) -> None:
    """A shell with an open transaction, say; the log is begun anew by a later turn."""
    path = tmp_path / "state.sqlite"
    with (
        closing(sqlite3.connect(path, isolation_level=None, timeout=30.0)) as ours,
        closing(sqlite3.connect(path, isolation_level=None)) as reader,
    ):
        ours.execute("PRAGMA journal_mode=WAL")
        ours.execute("CREATE TABLE t (n)")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM t").fetchall()
        ours.execute("INSERT INTO t VALUES (1)")
        begun = time.monotonic()
        checkpoint(ours)
        assert time.monotonic() - begun < 10, "and not for the half minute of other calls"
