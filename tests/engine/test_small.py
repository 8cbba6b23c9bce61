"""Small bodies that are in memory: one step, without a thread, or else the long way."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.asgi.in_process import BASE, OFFSET_TYPE, TUS, Asked, Running, id_of, running, sha1
from tests.asgi.whole import WholeBody, with_whole_bodies
from tests.storage.samples import files_below
from tests.storage.test_disk import fail
from tusd_py import Settings
from tusd_py.engine.append import append
from tusd_py.engine.services import Pace
from tusd_py.engine.small import Memory, append_small
from tusd_py.hooks.interface import Changes, FinishedUpload, NewUpload
from tusd_py.protocol.commands import Append, Content
from tusd_py.protocol.errors import (
    LengthExceeded,
    StaleGeneration,
    StorageFull,
    UploadLocked,
)
from tusd_py.protocol.upload import Phase, Tail, Upload
from tusd_py.state.interface import NotNow
from tusd_py.storage.disk import DiskStorage

pytestmark = pytest.mark.anyio

HELLO = b"hello world"


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Running]:
    """Nothing but the event loop is needed; what would go to a thread is a failure."""
    async with running(tmp_path / "uploads", fsync="never", over=with_whole_bodies) as server:
        server.takes_disk_for(quick=True)
        yield server


def forbid(monkeypatch: pytest.MonkeyPatch, server: Running) -> None:
    """From now on every thread is too many."""

    async def called(*_: object, **__: object) -> None:
        raise AssertionError("this goes to a thread")

    for name in ("load", "insert", "commit"):
        monkeypatch.setattr(server.tus.state, name, called)
    monkeypatch.setattr(asyncio, "to_thread", called)


async def test_a_small_file_needs_no_thread_and_one_commit_for_each_request(
    quick: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hop to a thread and back costs more than the whole of it."""
    with monkeypatch.context() as patched:
        forbid(patched, quick)
        first = await quick.create(11)
        assert (await quick.patch(first, 0, HELLO)).status_code == 204
        second = await quick.whole(HELLO)
        third = await quick.create()
        for offset in (0, 5):
            answer = await quick.patch(third, offset, HELLO[offset : offset + 5])
            assert answer.headers["Upload-Offset"] == str(offset + 5)
    for path, generation in ((first, 1), (second, 0)):
        record = await quick.record(path)
        assert (record.phase, record.generation) == (Phase.COMPLETE, generation)
        assert await quick.bytes_of(path) == HELLO
    assert (await quick.record(third)).tail is Tail.OPEN
    assert await quick.offset(third) == 10


async def test_what_is_committed_is_what_the_long_way_comes_to(tmp_path: Path) -> None:
    """Whoever reads the records cannot tell the ways apart, but by the number of commits."""

    async def records(name: str, **options: Any) -> list[Upload]:
        async with running(tmp_path / name, expire_after=None, **options) as server:
            server.clock.now = 1.7e9
            for fixed in (await server.create(11), await server.create(20)):
                await server.patch(fixed, 0, HELLO)
            await server.whole(HELLO)
            await server.post(HELLO, Upload_Defer_Length="1", Upload_Metadata="a YQ==")
            return await server.records()

    def told(uploads: list[Upload]) -> list[tuple[object, ...]]:
        told = [
            (
                *(u.upload_length, u.upload_offset, u.synced_offset, str(u.phase), str(u.tail)),
                *(bool(u.placement), bool(u.path), u.upload_metadata, u.reply, u.released),
            )
            for u in uploads
        ]
        return sorted(told, key=str)

    long = await records("long")
    assert told(await records("small", over=with_whole_bodies)) == told(long)


@pytest.mark.parametrize("checked", [False, True])
async def test_a_checksum_is_verified_before_anything_is_written(
    quick: Running, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    """So nothing has to be sealed; what is wrong goes the long way, and is refused there."""
    path = await quick.create(11)
    headers = sha1(HELLO) if checked else {}
    with monkeypatch.context() as patched:
        forbid(patched, quick)
        assert (await quick.patch(path, 0, HELLO[:5], **sha1(HELLO[:5]))).status_code == 204
    puts: list[bytes] = []
    put = quick.tus.storage.put

    def noting(upload: Upload, data: bytes, *, durable: bool) -> str | None:
        puts.append(data)
        return put(upload, data, durable=durable)

    monkeypatch.setattr(quick.tus.storage, "put", noting)
    answer = await quick.patch(path, 5, b" wOrld", **(headers or sha1(HELLO)))
    assert answer.status_code == 460
    assert puts == []
    assert (await quick.record(path)).upload_offset == quick.size(path) == 5


async def test_an_upload_that_is_created_holds_its_lock_while_no_record_knows_it(
    quick: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRAPS: a sweeper meets a file whose row is not committed yet. However long this process is
    stopped there, the file is not set aside.
    """
    locked: list[str] = []
    put = quick.tus.storage.put

    def looking(upload: Upload, data: bytes, *, durable: bool) -> str | None:
        other = quick.tus.services.locks.attempt(upload.id)
        with pytest.raises(UploadLocked):
            other.__aenter__().send(None)
        locked.append(upload.id)
        return put(upload, data, durable=durable)

    monkeypatch.setattr(quick.tus.storage, "put", looking)
    assert id_of(await quick.whole(HELLO)) in locked


async def test_another_writes_just_now(quick: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit waits for it in a thread; the bytes are stored once."""

    def busy(*_: object, **__: object) -> Upload:
        raise NotNow

    monkeypatch.setattr(quick.tus.state, "commit_now", busy)
    path = await quick.create(11)
    assert (await quick.patch(path, 0, HELLO)).status_code == 204
    assert await quick.bytes_of(path) == HELLO
    assert await quick.bytes_of(await quick.whole(HELLO)) == HELLO


@pytest.mark.parametrize("quickly", [False, True])
@pytest.mark.parametrize("error", [StorageFull(), StaleGeneration("x")])
async def test_a_commit_that_fails_leaves_no_file_without_a_record(
    quick: Running, monkeypatch: pytest.MonkeyPatch, error: Exception, *, quickly: bool
) -> None:
    """The client learns of no URL."""

    async def failing(*_: object, **__: object) -> Upload:
        raise error

    def busy(*_: object, **__: object) -> Upload:
        raise NotNow

    quick.takes_disk_for(quick=quickly)
    monkeypatch.setattr(quick.tus.state, "commit_now", busy)
    monkeypatch.setattr(quick.tus.state, "insert", failing)
    answer = await quick.post(HELLO, Upload_Length="11")
    assert answer.status_code in (507, 423)
    assert quick.files() == []


async def test_an_id_that_is_chosen_twice(tmp_path: Path) -> None:
    """The first upload keeps its bytes, whatever way the second comes."""

    async def always_the_same(_: NewUpload) -> str:
        return "mine"

    async with running(tmp_path / "a", new_id=always_the_same, over=with_whole_bodies) as server:
        path = await server.whole(HELLO)
        before = files_below(tmp_path / "a" / "data")
        assert (await server.post(b"other", Upload_Length="5")).status_code == 409
        assert files_below(tmp_path / "a" / "data") == before
        assert await server.bytes_of(path) == HELLO


@pytest.mark.parametrize("durable", [False, True])
async def test_an_id_that_is_chosen_twice_before_its_first_byte(
    tmp_path: Path, *, durable: bool
) -> None:
    """There is no file to meet then; the record tells, and the new file goes."""

    async def always_the_same(_: NewUpload) -> str:
        return "mine"

    options: dict[str, Any] = {"new_id": always_the_same, "over": with_whole_bodies}
    options["fsync"] = "always" if durable else "never"
    async with running(tmp_path / "a", **options) as server:
        path = await server.create(11)
        assert (await server.post(b"other", Upload_Length="5")).status_code == 409
        assert server.files() == []
        assert (await server.patch(path, 0, HELLO)).status_code == 204


async def test_what_asks_or_moves_is_finished_as_ever(tmp_path: Path) -> None:
    """The application is asked once, and the file lies where its template says."""
    told: list[str] = []

    async def on_finish(finished: FinishedUpload) -> None:
        told.append(str(finished.path.relative_to(tmp_path)))

    async def on_create(_: NewUpload) -> Changes:
        return Changes(target="chosen/film")

    async with running(tmp_path, on_finish=on_finish, over=with_whole_bodies) as server:
        path = await server.create(11)
        await server.patch(path, 0, HELLO)
        assert len(told) == 1
    async with running(tmp_path, on_create=on_create, over=with_whole_bodies) as server:
        assert await server.bytes_of(await server.whole(HELLO)) == HELLO
        assert (tmp_path / "files" / "chosen" / "film").read_bytes() == HELLO
    storage = DiskStorage(tmp_path, file_template="{yyyy}/{id}")
    async with running(tmp_path, storage=storage, over=with_whole_bodies) as server:
        whole = await server.whole(HELLO)
        assert [f.name for f in (tmp_path / "files").glob("2*/*")] == [id_of(whole)]


async def test_what_is_not_synced_yet_is_left_to_the_keeper(tmp_path: Path) -> None:
    async with running(tmp_path / "a", over=with_whole_bodies) as server:
        path = await server.create(20)
        await server.patch(path, 0, HELLO)
        assert list(server.tus.services.unsynced) == [id_of(path)]
        await server.whole(HELLO)
        assert len(server.tus.services.unsynced) == 1, "what is complete is synced"


@pytest.mark.parametrize("over", [with_whole_bodies, lambda app: app])
async def test_where_nothing_is_synced_nothing_is_noted(
    tmp_path: Path, over: Callable[[Any], Any]
) -> None:
    """A note for each upload, for ever, is a leak."""
    async with running(tmp_path / "a", fsync="never", over=over) as server:
        await server.whole(HELLO)
        await server.patch(await server.create(20), 0, HELLO)
        assert not server.tus.services.unsynced


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
async def test_a_new_file_that_cannot_be_synced_is_no_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    async with running(tmp_path / "a", over=with_whole_bodies) as server:
        for number in range(20):
            server.tus.storage.put(Upload(id=f"x{number}", created_at=0.0), b"", durable=False)
        before = len(server.files())
        with monkeypatch.context() as patched:
            fail(patched, call, 5)
            assert (await server.post(HELLO, Upload_Length="11")).status_code == 500
        assert len(server.files()) == before
        assert await server.records() == []


async def test_a_cancelled_request_leaves_all_or_nothing(
    quick: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the disk is slow, and the step is under way in a thread."""
    quick.takes_disk_for(quick=False)
    path = await quick.create(11)
    begun, go_on = asyncio.Event(), asyncio.Event()
    loop, put = asyncio.get_running_loop(), quick.tus.storage.put

    def slow(upload: Upload, data: bytes, *, durable: bool) -> str | None:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        return put(upload, data, durable=durable)

    monkeypatch.setattr(quick.tus.storage, "put", slow)
    given = TUS | OFFSET_TYPE | {"Upload-Offset": "0", "Content-Length": "11"}
    asked = Asked(with_whole_bodies(quick.tus), "PATCH", path, given)
    asked.feed(HELLO, more=False)
    await begun.wait()
    asked.task.cancel()
    seen = asyncio.create_task(quick.head(path))
    await asyncio.sleep(0.05)
    assert not asked.task.done()
    assert not seen.done(), "nobody else has the lock while the thread writes"
    go_on.set()
    assert (await seen).headers["Upload-Offset"] == "11"
    await asyncio.wait({asked.task})
    assert asked.task.cancelled()


async def test_a_lock_that_somebody_holds_is_waited_for(quick: Running) -> None:
    """The long way asks the holder to end, and takes over the body that is in memory."""
    path = await quick.create(16)
    slow = quick.patching(path, 0, 16)
    slow.feed(b"first")
    await slow.begun()
    while quick.size(path) < 5:
        await asyncio.sleep(0.01)
    answer = await quick.patch(path, 5, HELLO)
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, "16")
    assert await quick.bytes_of(path) == b"first" + HELLO


async def test_more_than_fits_is_refused(quick: Running) -> None:
    path = await quick.create(5)
    assert (await quick.patch(path, 0, HELLO)).status_code == 413
    assert (await quick.post(HELLO, Upload_Length="5")).status_code == 413
    assert await quick.offset(path) == 0


async def test_a_body_in_memory_can_be_taken_in_pieces() -> None:
    """By storage that wants bytes in memory."""
    body, buffer, got = Memory(HELLO, ()), bytearray(4), b""
    while count := await body.fill(memoryview(buffer)):
        got += buffer[:count]
    assert got == HELLO
    assert body.whole() is None


def test_a_slow_disk_is_left_to_threads_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow write may hold up everybody; ten in a row may not."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    pace = Pace()
    assert pace.is_quick(durable=False)
    pace.took(0.5, durable=False)
    assert not pace.is_quick(durable=False)
    now[0] += 9.0
    assert not pace.is_quick(durable=False)
    now[0] += 1.01
    assert pace.is_quick(durable=False)


def test_a_sync_is_left_to_threads_until_it_is_known_to_be_quick() -> None:
    pace = Pace()
    assert not pace.is_quick(durable=True)
    pace.took(0.002, durable=True)
    assert not pace.is_quick(durable=True)
    pace.took(0.00005, durable=True)
    pace.took(0.003, durable=True)
    assert pace.is_quick(durable=True), "the quickest of the last few counts"
    for _ in range(8):
        pace.took(0.003, durable=True)
    assert not pace.is_quick(durable=True)
    pace.took(0.00005, durable=True)
    pace.took(0.5, durable=True)
    assert not pace.is_quick(durable=True), "one that held everybody up is the last for now"
    assert pace.is_quick(durable=False), "it says nothing of what is not synced"


async def test_a_chunked_body_that_is_too_long_is_left_to_the_long_way(quick: Running) -> None:
    """Nobody has counted it before."""
    path = await quick.create(5)
    command = Append(upload_id=id_of(path), upload_offset=0, content=Content(length=None))
    assert await append_small(quick.tus.services, command, Memory(HELLO, ())) is None
    with pytest.raises(LengthExceeded):
        await append(quick.tus.services, command, WholeBody(None, HELLO, 5.0, 0.0))
    assert await quick.offset(path) == quick.size(path) == 0


async def test_a_chunked_body_with_its_trailer_is_taken_at_once(quick: Running) -> None:
    path = await quick.create(11)
    trailer = sha1(HELLO)["Upload-Checksum"].encode()
    content = Content(length=None, checksum_in_trailer=True)
    command = Append(upload_id=id_of(path), upload_offset=0, content=content)
    wrong = Memory(HELLO, [(b"upload-checksum", b"sha1 x")])
    assert await append_small(quick.tus.services, command, wrong) is None
    right = Memory(HELLO, [(b"upload-checksum", trailer)])
    after = await append_small(quick.tus.services, command, right)
    assert after is not None
    assert (after.phase, after.upload_offset) == (Phase.COMPLETE, 11)


@pytest.mark.parametrize("is_quick", [False, True])
@pytest.mark.parametrize("fsync", ["never", "complete", "always"])
async def test_a_commit_outlives_a_loss_of_power_where_that_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: str, *, is_quick: bool
) -> None:
    """By default the one that completes an upload, and no other: each costs a sync."""
    durables: list[bool] = []

    async with running(tmp_path / "a", fsync=fsync, over=with_whole_bodies) as server:
        state, pace = server.tus.state, server.tus.services.pace
        monkeypatch.setattr(pace, "is_quick", lambda durable: is_quick)
        path = await server.create(11)
        for name in ("commit_now", "commit", "insert"):
            real = getattr(state, name)

            def noting(*args: Any, real: Any = real, durable: bool = False, **kwargs: Any) -> Any:
                durables.append(durable)
                return real(*args, durable=durable, **kwargs)

            monkeypatch.setattr(state, name, noting)
        await server.patch(path, 0, HELLO[:5])
        await server.patch(path, 5, HELLO[5:])
        await server.whole(HELLO)
    assert durables == [fsync == "always", fsync != "never", fsync != "never"]


async def test_a_sync_that_fails_is_heard_though_the_request_was_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRAPS: the kernel tells of it once; what comes next would succeed."""
    async with running(tmp_path / "uploads", over=with_whole_bodies) as server:
        server.takes_disk_for(quick=False)
        path = await server.create(11)
        assert (await server.patch(path, 0, b"hello")).status_code == 204
        syncing, ends = threading.Event(), threading.Event()

        def failing(_: int) -> None:
            syncing.set()
            ends.wait(10)
            raise OSError(errno.EIO, "it is lost")

        command = Append(id_of(path), 5, Content(6))
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", failing)
            task = asyncio.create_task(
                append_small(server.tus.services, command, Memory(b" world", ()))
            )
            await asyncio.to_thread(syncing.wait, 10)
            task.cancel()
            await asyncio.sleep(0)
            ends.set()
            with pytest.raises(asyncio.CancelledError):
                await task
        record = await server.record(path)
        assert (record.phase, record.tail) == (Phase.RECEIVING, Tail.SEALED)
        assert await server.offset(path) <= 5


async def test_no_more_are_opened_with_bytes_than_may_be(tmp_path: Path) -> None:
    """All were let in before the application was asked about each of them."""

    async def on_create(_: NewUpload) -> None:
        await asyncio.sleep(0.05)

    settings = Settings(base_path=BASE, max_open_uploads=3)
    async with running(
        tmp_path / "uploads", on_create=on_create, settings=settings, over=with_whole_bodies
    ) as server:
        answers = await asyncio.gather(*(server.post(HELLO, Upload_Length="20") for _ in range(10)))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [201] * 3 + [503] * 7
        assert len(server.files()) == 3
