"""What the interfaces promise of small bodies: all at once, or nothing."""

import asyncio
import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.conftest import NewState
from tests.state.samples import PART, UPLOAD
from tests.storage import samples
from tests.storage.samples import begin, files_below, finished, store
from tests.storage.test_disk import fail
from tusd_py.protocol.concat import Partial
from tusd_py.protocol.errors import StaleGeneration, UploadExists
from tusd_py.protocol.upload import Phase, Reply, Tail
from tusd_py.state import at_once
from tusd_py.state.interface import NotNow, StateStore
from tusd_py.state.sqlite import SqliteState
from tusd_py.storage import disk
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.interface import SyncFailed

pytestmark = pytest.mark.anyio

NEW = samples.UPLOAD

CHANGES: dict[str, Any] = {
    "phase": Phase.COMPLETE,
    "upload_offset": 5,
    "upload_length": None,
    "upload_metadata": "filename Zg==",
    "changed_metadata": "filename Zw==",
    "expires_at": 2_000_000_000.0,
    "tail": Tail.SEALED,
    "synced_offset": 3,
    "placement": "here",
    "target": "my/film",
    "path": "data/a",
    "released": True,
    "reply": Reply(status=201, headers={"A": "b"}, body="done"),
    "client": "192.0.2.1",
}
CHANGED = UPLOAD._replace(**CHANGES)


@pytest.fixture
async def storage(tmp_path: Path) -> DiskStorage:
    """The one storage that takes bytes at once; others decline."""
    made = DiskStorage(tmp_path / "place")
    await made.open("mine", is_new=True, trust_unsynced=False)
    return made


class TestPut:
    @pytest.mark.parametrize("durable", [False, True])
    async def test_stores_at_the_offset(self, storage: DiskStorage, *, durable: bool) -> None:
        placement = storage.put(NEW, b"abc", durable=durable)
        assert placement
        upload = NEW._replace(placement=placement, upload_offset=3)
        assert storage.put(upload, b"def", durable=durable) == placement
        assert await asyncio.to_thread(storage.locate(upload).read_bytes) == b"abcdef"
        assert await storage.settle(upload._replace(upload_offset=6)) == upload._replace(
            upload_offset=6
        )

    async def test_never_into_a_file_that_it_has_not_made(
        self, storage: DiskStorage, tmp_path: Path
    ) -> None:
        """An id that the application chose twice: the bytes of the first upload stay."""
        await store(storage, NEW, b"of another upload")
        before = files_below(tmp_path)
        assert storage.put(NEW, b"abc", durable=True) is None
        assert files_below(tmp_path) == before

    @pytest.mark.parametrize("beyond", [b"", b"tail"])
    async def test_not_where_something_else_lies_than_the_record_says(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, beyond: bytes
    ) -> None:
        """A tail, fewer bytes, another boot, no file: `settle` and `writer` know what to do."""
        upload = await store(storage, NEW, b"abcdef")
        with storage.locate(upload).open("ab") as file:
            file.write(beyond)
        before = files_below(tmp_path)
        assert storage.put(upload._replace(upload_offset=5), b"x", durable=False) is None
        assert storage.put(upload._replace(upload_offset=99), b"x", durable=False) is None
        assert storage.put(upload._replace(placement=""), b"x", durable=False) is None
        assert storage.put(upload._replace(id="z"), b"x", durable=False) is None
        monkeypatch.setattr(disk, "boot_id", lambda: "another-boot")
        assert storage.put(upload, b"x", durable=False) is None
        assert files_below(tmp_path) == before

    @pytest.mark.parametrize("begun", [False, True])
    async def test_all_or_nothing_on_a_full_disk(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch, *, begun: bool
    ) -> None:
        upload = await begin(storage, NEW) if begun else NEW
        pwrite = os.pwrite

        def filling(descriptor: int, data: bytes, offset: int) -> int:
            if offset >= 2:
                raise OSError(errno.ENOSPC, "full")
            return pwrite(descriptor, data[:2], offset)

        monkeypatch.setattr(os, "pwrite", filling)
        assert storage.put(upload, b"abcdef", durable=True) is None
        assert storage.locate(upload).read_bytes() == b""

    async def test_in_pieces_where_the_kernel_takes_no_more(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pwrite = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:2], at))
        assert storage.put(NEW, b"abcde", durable=False)
        assert storage.locate(NEW).read_bytes() == b"abcde"

    @pytest.mark.parametrize("begun", [False, True])
    async def test_is_undone(self, storage: DiskStorage, tmp_path: Path, *, begun: bool) -> None:
        """As if it had never been."""
        upload = await store(storage, NEW, b"abc") if begun else NEW
        before = files_below(tmp_path)
        assert storage.put(upload, b"def", durable=False)
        assert files_below(tmp_path) != before
        storage.take_back(upload)
        assert files_below(tmp_path) == before

    @pytest.mark.parametrize("call", ["fdatasync", "fsync"])
    @pytest.mark.parametrize("begun", [False, True])
    async def test_a_disk_that_does_not_sync(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch, call: str, *, begun: bool
    ) -> None:
        """A file that was made for it goes, so that no second try is taken for the first."""
        await store(storage, NEW._replace(id="b"), b"")
        upload = await store(storage, NEW, b"abc") if begun else NEW
        storage.put(NEW._replace(id="c"), b"", durable=False)
        fail(monkeypatch, call, errno.EIO)
        with pytest.raises(SyncFailed):
            storage.put(upload, b"def", durable=True)
        assert storage.locate(upload).exists() is begun

    async def test_where_it_lies_is_where_the_finish_would_leave_it(
        self, storage: DiskStorage, tmp_path: Path
    ) -> None:
        done = await finished(storage, NEW, b"abc")
        assert storage.resting_path(done._replace(path=None)) == done.path
        assert storage.resting_path(NEW._replace(target="my/film")) is None
        assert storage.resting_path(NEW._replace(concat=Partial())) is None
        elsewhere = DiskStorage(tmp_path / "other", file_template="{id}")
        assert elsewhere.resting_path(NEW) is None


class TestCommitNow:
    async def test_is_a_commit(self, state: StateStore, other: StateStore) -> None:
        assert state.load_now("a") is None
        assert state.commit_now(UPLOAD, is_new=True) == UPLOAD
        assert await other.load("a") == other.load_now("a") == UPLOAD
        with pytest.raises(UploadExists):
            state.commit_now(UPLOAD, is_new=True)
        committed = state.commit_now(UPLOAD._replace(upload_offset=5), is_new=False, durable=True)
        assert committed == UPLOAD._replace(upload_offset=5, generation=1)
        assert await other.load("a") == state.load_now("a") == committed
        with pytest.raises(StaleGeneration):
            state.commit_now(UPLOAD, is_new=False)
        assert state.load_now("a") == committed

    async def test_what_has_changed_is_enough(self, state: StateStore, other: StateStore) -> None:
        """What a commit leaves out is in the record as it was read, and stays."""
        known = state.commit_now(UPLOAD, is_new=True)
        for values in (CHANGED, UPLOAD):
            for name in CHANGES:
                changed = known._replace(**{name: getattr(values, name)})
                known = state.commit_now(changed, is_new=False, before=known)
                assert await other.load("a") == known
        assert known == UPLOAD._replace(generation=2 * len(CHANGES))
        theirs = await other.commit(known._replace(upload_metadata="k dg=="))
        with pytest.raises(StaleGeneration):
            state.commit_now(known._replace(upload_offset=5), is_new=False, before=known)
        assert await other.load("a") == theirs

    async def test_what_was_committed_last_is_at_hand_once(self, state: StateStore) -> None:
        assert state.take_remembered("a") is None
        state.commit_now(UPLOAD, is_new=True)
        assert state.take_remembered("a") == UPLOAD
        assert state.take_remembered("a") is None
        committed = state.commit_now(UPLOAD._replace(upload_offset=5), is_new=False)
        assert state.take_remembered("a") == committed

    async def test_what_takes_no_more_bytes_is_not_remembered(self, state: StateStore) -> None:
        receiving = UPLOAD._replace(phase=Phase.RECEIVING)
        state.commit_now(receiving, is_new=True)
        state.commit_now(receiving._replace(phase=Phase.COMPLETE), is_new=False)
        assert state.take_remembered("a") is None

    async def test_not_over_what_somebody_has_asked_for_since(
        self, state: StateStore, other: StateStore
    ) -> None:
        """An upload that is paused stays so, though its record has no new generation."""
        upload = state.commit_now(UPLOAD, is_new=True)
        wanted = upload._replace(upload_offset=5)
        for ask, take_back in (
            (other.set_paused("a", paused=True), other.set_paused("a", paused=False)),
            (other.set_max_speed("a", 4096), other.set_max_speed("a", None)),
        ):
            await ask
            asked = await other.load("a")
            assert asked is not None
            with pytest.raises(NotNow):
                state.commit_now(wanted, is_new=False)
            assert await other.load("a") == asked
            # Whoever knows of it may go on.
            upload = state.commit_now(asked._replace(upload_offset=3), is_new=False)
            await take_back
            wanted = upload._replace(paused=False, max_speed=None, upload_offset=5)
        upload = state.commit_now(wanted, is_new=False)
        assert upload.upload_offset == 5
        await other.set_speed_ceiling("a", 4096)
        with pytest.raises(NotNow):
            state.commit_now(upload, is_new=False)

    async def test_not_over_another_of_the_same_name(
        self, state: StateStore, other: StateStore
    ) -> None:
        upload = state.commit_now(UPLOAD, is_new=True)
        await other.delete(upload)
        another = await other.insert(UPLOAD._replace(created_at=UPLOAD.created_at + 1))
        with pytest.raises(NotNow):
            state.commit_now(upload._replace(upload_offset=5), is_new=False)
        assert await other.load("a") == another
        await other.delete(another)
        with pytest.raises(StaleGeneration):
            state.commit_now(upload._replace(upload_offset=5), is_new=False)

    async def test_leaves_parts_and_finals_to_the_others(self, state: StateStore) -> None:
        """They take other records along."""
        with pytest.raises(NotNow):
            state.commit_now(PART, is_new=True)
        assert await state.load(PART.id) is None

    async def test_a_store_that_is_closed(self, new_state: NewState) -> None:
        state = new_state()
        for _ in range(2):
            with pytest.raises(NotNow):
                state.load_now("a")
            with pytest.raises(NotNow):
                state.commit_now(UPLOAD, is_new=True)
            await state.open()
            state.commit_now(UPLOAD, is_new=state.load_now("a") is None)
            await state.close()

    async def test_from_another_thread_it_is_not_done(self, state: StateStore) -> None:
        with pytest.raises(NotNow):
            await asyncio.to_thread(state.load_now, "a")
        with pytest.raises(NotNow):
            await asyncio.to_thread(state.commit_now, UPLOAD, is_new=True)
        assert await state.load("a") is None


class TestSqlite:
    """What is known of this backend alone."""

    @pytest.fixture
    async def sqlite(self, tmp_path: Path) -> SqliteState:
        made = SqliteState(tmp_path / "db.sqlite3")
        await made.open()
        return made

    async def test_does_not_wait_for_a_writer(self, sqlite: SqliteState) -> None:
        """The event loop would stand still as long as another process writes."""
        other = sqlite._connect()
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        with pytest.raises(NotNow):
            sqlite.commit_now(UPLOAD, is_new=True)
        assert time.monotonic() - begun < 2
        assert sqlite.load_now("a") is None
        other.execute("ROLLBACK")
        assert sqlite.commit_now(UPLOAD, is_new=True) == UPLOAD
        other.close()
        await sqlite.close()

    async def test_remembers_no_more_than_a_few(
        self, sqlite: SqliteState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever creates uploads and sends nothing would fill the memory with them."""
        monkeypatch.setattr(at_once, "_MOST_REMEMBERED", 3)
        for name in "abcde":
            sqlite.commit_now(UPLOAD._replace(id=name), is_new=True)
        known = [sqlite.take_remembered(name) is not None for name in "abcde"]
        assert known == [False, False, True, True, True]
        await sqlite.close()

    async def test_a_durable_commit_is_synced_and_another_is_not(self, sqlite: SqliteState) -> None:
        connection = sqlite._now._connection
        assert connection is not None
        for durable in (True, False, True):
            upload = sqlite.load_now("a")
            sqlite.commit_now(upload or UPLOAD, is_new=upload is None, durable=durable)
            (level,) = connection.execute("PRAGMA synchronous").fetchone()
            assert level == (2 if durable else 1), "2 is FULL: each commit is synced"
        await sqlite.close()

    async def test_the_log_is_carried_over_elsewhere(
        self, sqlite: SqliteState, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It would grow without end, and a sync on the event loop would hold up everybody."""
        for number in range(2000):
            sqlite.commit_now(UPLOAD._replace(id=f"u{number}"), is_new=True)
            if sqlite._now.wants_checkpoint:
                assert sqlite._checkpoints is not None
                await sqlite._checkpoints.run(lambda _: None)
        log = sqlite.path.with_name(sqlite.path.name + "-wal").stat().st_size
        assert log < 2000 * 3 * 4096 / 2, "used again from its beginning"
        assert not caplog.records
        await sqlite.close()

    async def test_a_log_that_cannot_be_carried_over_is_told(
        self, sqlite: SqliteState, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken() -> None:
            raise OSError(errno.EMFILE, "no descriptor left")

        sqlite._connect = broken  # type: ignore[method-assign,assignment]
        for number in range(250):
            sqlite.commit_now(UPLOAD._replace(id=f"u{number}"), is_new=True)
        async with asyncio.timeout(5):
            while "work on the state failed" not in caplog.text:
                await asyncio.sleep(0.01)
        await sqlite.close()
