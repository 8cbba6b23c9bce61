"""What is kept while and after bytes come in: checkpoints, syncs, progress."""

import asyncio
import errno
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.asgi.in_process import BASE, Running, id_of, running, sha1, until
from tusd_py import Progress, Settings, Timing
from tusd_py.engine import keeper
from tusd_py.engine.keeper import flush, keep, tell_progress, tick
from tusd_py.engine.open_uploads import COUNT_EVERY
from tusd_py.hooks.events import Observed, SyncLost, UploadsSeen
from tusd_py.protocol.errors import StorageFailed
from tusd_py.protocol.upload import Phase, Tail, Upload
from tusd_py.storage.interface import SyncFailed

pytestmark = pytest.mark.anyio


async def test_a_long_patch_is_published_and_synced_as_it_goes(server: Running) -> None:
    """A power loss in a day-long PATCH must not cost a day, nor may it expire meanwhile."""
    path = await server.create(11)
    asked = server.patching(path, 0, 11)
    for sent, piece in ((2, b"he"), (5, b"llo")):
        asked.feed(piece)
        await until(lambda sent=sent: server.size(path) == sent)
        await tick(server.tus.services)
        before = await server.record(path)
        assert before.upload_offset < sent, "not before it is due"
        server.clock.now += 6
        await tick(server.tus.services)
        record = await server.record(path)
        assert (record.upload_offset, record.synced_offset) == (sent, sent)
        assert record.expires_at == server.clock.now + 86_400
    asked.feed(b" world", more=False)
    assert await asked.answered() == 204
    assert await server.bytes_of(path) == b"hello world"


@pytest.mark.parametrize("fsync", ["never", "complete"])
async def test_a_patch_that_lasts_longer_than_its_upload_may_does_not_expire(
    tmp_path: Path, fsync: str
) -> None:
    """TRAPS: expiry while bytes flow; with a short --expire-after, too, where nothing is synced."""
    async with running(tmp_path / "uploads", fsync=fsync, expire_after=4.0) as server:
        path = await server.create(11)
        asked = server.patching(path, 0, 11)
        asked.feed(b"hello")
        await until(lambda: server.size(path) == 5)
        for _ in range(3):
            server.clock.now += 3
            await tick(server.tus.services)
        assert await server.offset(path) == 5, "its client breaks off, and asks"
        assert await asked.answered() == 423
        assert (await server.patch(path, 5, b" world")).status_code == 204


@pytest.mark.parametrize("kind", ["checked", "chunked", "last byte"])
async def test_what_may_be_discarded_is_not_published(server: Running, kind: str) -> None:
    """An offset that was told never goes down."""
    path = await server.create(11)
    headers = sha1(b"hello world") if kind == "checked" else {}
    asked = server.patching(path, 0, None if kind == "chunked" else 11, **headers)
    first, rest = (b"hello world", b"") if kind == "last byte" else (b"hello", b" world")
    asked.feed(first)
    await until(lambda: server.size(path) == len(first))
    server.clock.now += 6
    await tick(server.tus.services)
    record = await server.record(path)
    assert (record.upload_offset, record.phase) == (0, Phase.RECEIVING)
    assert record.expires_at == server.clock.now + 86_400
    asked.feed(rest, more=False)
    assert await asked.answered() == 204
    assert (await server.record(path)).phase is Phase.COMPLETE


async def test_what_has_ended_is_synced_when_due(server: Running) -> None:
    """`synced_offset` is what counts after a loss of power."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    await tick(server.tus.services)
    assert (await server.record(path)).synced_offset == 0
    server.clock.now += 6
    await tick(server.tus.services)
    assert (await server.record(path)).synced_offset == 5
    assert server.tus.services.unsynced == {}


async def test_everything_is_synced_before_the_end(server: Running) -> None:
    """At SIGTERM nobody waits for five seconds to pass."""
    paths = [await server.create(11) for _ in range(3)]
    for path in paths:
        await server.patch(path, 0, b"hello")
    await server.whole(b"done")
    await flush(server.tus.services)
    assert [(await server.record(path)).synced_offset for path in paths] == [5, 5, 5]


async def test_an_upload_that_is_busy_again_or_gone_is_left(server: Running) -> None:
    """The append that holds it syncs by itself."""
    busy, gone, whole = [await server.create(11) for _ in range(3)]
    for path in (busy, gone, whole):
        await server.patch(path, 0, b"hello")
    unsynced = dict(server.tus.services.unsynced)
    await server.delete(gone)
    await server.patch(whole, 5, b" world")
    server.tus.services.unsynced.update(unsynced)
    async with server.tus.services.locks.attempt(id_of(busy)):
        await flush(server.tus.services)
    assert (await server.record(busy)).synced_offset == 0
    await flush(server.tus.services)
    assert (await server.record(busy)).synced_offset == 5
    await flush(server.tus.services)
    server.tus.services.unsynced[id_of(busy)] = 0.0
    await flush(server.tus.services)


async def test_one_that_cannot_be_synced_does_not_stop_the_others(server: Running) -> None:
    """Someone removed its file by hand; the server still ends in order."""
    lost, other = [await server.create(11) for _ in range(2)]
    for path in (lost, other):
        await server.patch(path, 0, b"hello")
    server.file(lost).unlink()
    await flush(server.tus.services)
    assert (await server.record(other)).synced_offset == 5


@pytest.mark.parametrize("live", [True, False])
async def test_a_sync_that_fails_falls_back_and_is_not_repeated(
    server: Running, monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    """TRAPS: the second fsync succeeds, and the bytes are gone all the same."""
    path = await server.create(11)
    await server.patch(path, 0, b"he")
    await flush(server.tus.services)
    asked = server.patching(path, 2, 9)
    asked.feed(b"llo")
    await until(lambda: server.size(path) == 5)
    if not live:
        asked.vanish()
        await asked.answered()
    syncs = [0]

    def failing(_: int) -> None:
        syncs[0] += 1
        raise OSError(5, "lost")

    monkeypatch.setattr(os, "fdatasync", failing)
    server.clock.now += 6
    await tick(server.tus.services)
    server.clock.now += 6
    await tick(server.tus.services)
    if live:
        await until(lambda: not server.tus.services.live)
        asked.vanish()
        assert await asked.answered() == 500
    assert syncs[0] == 1
    monkeypatch.undo()
    record = await server.record(path)
    assert (record.upload_offset, record.tail) == (2, Tail.SEALED)
    assert await server.offset(path) == 2
    assert (await server.patch(path, 2, b"llo world")).status_code == 204
    assert await server.bytes_of(path) == b"hello world"


async def test_a_sync_that_fails_behind_the_last_byte_is_no_success(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body had ended well, but the bytes are not certain: a 204 would be a lie."""
    seen: list[Observed] = []
    server.tus.add_observer(seen.append)
    path = await server.create(11)
    asked = server.patching(path, 0, 9)
    asked.feed(b"hello")
    await until(lambda: server.size(path) == 5)
    (live,) = server.tus.services.live.values()
    entered, gate = asyncio.Event(), asyncio.Event()

    async def slow_sync() -> int:
        entered.set()
        await gate.wait()
        raise SyncFailed

    monkeypatch.setattr(live.writer, "sync", slow_sync)
    server.clock.now += 6
    ticking = asyncio.create_task(tick(server.tus.services))
    await entered.wait()
    asked.feed(b" wor", more=False)
    await until(lambda: not server.tus.services.live)
    gate.set()
    await ticking
    assert await asked.answered() == 500
    assert SyncLost(id_of(path)) in seen, "a disk that is to be replaced"
    assert await server.offset(path) == 0


async def test_without_fsync_nothing_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--fsync never` promises nothing, and costs nothing; the expiry is pushed all the same."""

    def never(_: int) -> None:
        raise AssertionError("synced")

    monkeypatch.setattr(os, "fdatasync", never)
    async with running(tmp_path, fsync="never") as server:
        path = await server.create(11)
        asked = server.patching(path, 0, 11)
        asked.feed(b"hello")
        await until(lambda: server.size(path) == 5)
        server.clock.now += 61
        await tick(server.tus.services)
        record = await server.record(path)
        assert (record.upload_offset, record.synced_offset) == (5, 0)
        assert record.expires_at == server.clock.now + 86_400
        asked.feed(b" world", more=False)
        assert await asked.answered() == 204
        server.tus.services.unsynced.clear()


async def test_always_syncs_before_every_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--fsync always`: every offset that is told outlives a loss of power."""
    async with running(tmp_path, fsync="always") as server:
        path = await server.create(11)
        await server.patch(path, 0, b"hello")
        assert (await server.record(path)).synced_offset == 5
        assert server.tus.services.unsynced == {}


async def test_progress_is_told_while_bytes_come(tmp_path: Path) -> None:
    """PEERS: progress during a PATCH, not after. A function that raises harms nothing."""
    told: list[Progress] = []

    async def on_progress(progress: Progress) -> None:
        told.append(progress)
        raise RuntimeError("no")

    async with running(tmp_path, on_progress=on_progress) as server:
        path = await server.create(11)
        checked = await server.create(11)
        asked = server.patching(path, 0, 11)
        sealed = server.patching(checked, 0, 11, **sha1(b"hello world"))
        for one, where in ((asked, path), (sealed, checked)):
            one.feed(b"hello")
            await until(lambda where=where: server.size(where) == 5)
        services = server.tus.services
        services.hooks = replace(services.hooks, progress_interval=0.0)
        telling = asyncio.create_task(tell_progress(server.tus.services, on_progress))
        await until(lambda: len(told) >= 2)
        telling.cancel()
        await asyncio.wait({telling})
        assert {(one.id, one.offset, one.length) for one in told} == {
            (id_of(path), 5, 11),
            (id_of(checked), 0, 11),
        }
        for one in (asked, sealed):
            one.vanish()
            await one.answered()


async def test_a_tick_that_fails_is_not_the_last(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nothing would be synced any more after one bad moment."""
    ticks: list[int] = []
    enough = asyncio.Event()

    async def failing(_: object) -> None:
        ticks.append(1)
        if len(ticks) == 2:
            enough.set()
        raise StorageFailed

    monkeypatch.setattr(keeper, "tick", failing)
    monkeypatch.setattr(keeper, "_TICK", 0.0)
    task = asyncio.create_task(keep(server.tus.services))
    await asyncio.wait_for(enough.wait(), 5)
    task.cancel()
    await asyncio.wait({task})


async def test_a_progress_function_that_hangs_holds_no_sync_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise: one slow webhook, and after a loss of power every upload begins at zero."""
    hangs = asyncio.Event()

    async def on_progress(_: Progress) -> None:
        hangs.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(keeper, "_TICK", 0.01)
    settings = Settings(base_path=BASE, timing=Timing(sync_after=0.0))
    async with running(
        tmp_path, background=True, settings=settings, on_progress=on_progress
    ) as server:
        path = await server.create(11)
        asked = server.patching(path, 0, 11)
        asked.feed(b"hello")
        await asyncio.wait_for(hangs.wait(), 10)
        synced = asyncio.Event()
        publish = server.tus.state.commit

        async def commit(upload: Upload, **how: Any) -> Upload:
            if upload.synced_offset == 5:
                synced.set()
            return await publish(upload, **how)

        server.takes_disk_for(quick=False)
        monkeypatch.setattr(server.tus.state, "commit", commit)
        await asyncio.wait_for(synced.wait(), 10)
        asked.vanish()
        await asked.answered()


async def test_what_could_not_be_synced_for_a_moment_is_not_forgotten(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise: descriptors run short once, and SIGTERM syncs nothing of that upload."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    with monkeypatch.context() as short:
        short.setattr(server.tus.storage, "sync", _fails)
        await flush(server.tus.services)
    assert (await server.record(path)).synced_offset == 0
    await flush(server.tus.services)
    assert (await server.record(path)).synced_offset == 5
    assert server.tus.services.unsynced == {}


async def _fails(_: Upload) -> None:
    raise StorageFailed


async def test_no_sync_begins_behind_the_end(server: Running) -> None:
    """A server that is to end in time cannot sync thousands of uploads one by one."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    await flush(server.tus.services, until=0.0)
    assert (await server.record(path)).synced_offset == 0


async def test_a_failed_sync_counts_also_while_the_keeper_is_cancelled(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise: the next sync succeeds, and promises bytes that the disk has dropped."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    server.clock.now += 6
    begun, go_on = threading.Event(), threading.Event()

    def failing(_: int) -> None:
        begun.set()
        go_on.wait(10)
        raise OSError(errno.EIO, "bad disk")

    monkeypatch.setattr(keeper, "_TICK", 0.0)
    monkeypatch.setattr(os, "fdatasync", failing)
    task = asyncio.create_task(keep(server.tus.services))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    go_on.set()
    await asyncio.wait({task})
    assert task.cancelled()
    record = await server.record(path)
    assert (record.upload_offset, record.tail) == (0, Tail.SEALED)


async def test_always_means_that_an_adopted_tail_is_synced_before_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise: after a kill HEAD tells an offset that a loss of power takes back."""
    async with running(tmp_path, fsync="always") as server:
        path = await server.create(11)
        await server.patch(path, 0, b"he")
        with server.file(path).open("ab") as file:
            file.write(b"llo")
        assert await server.offset(path) == 5
        assert (await server.record(path)).synced_offset == 5


async def test_an_adopted_tail_is_synced_in_the_background(server: Running) -> None:
    """As what came by an append is."""
    path = await server.create(11)
    await server.patch(path, 0, b"he")
    await flush(server.tus.services)
    with server.file(path).open("ab") as file:
        file.write(b"llo")
    assert await server.offset(path) == 5
    await flush(server.tus.services)
    assert (await server.record(path)).synced_offset == 5


async def test_open_uploads_are_counted_now_and_then(tmp_path: Path) -> None:
    """For the metric; those that another process has made, too."""
    seen: list[int] = []

    def note(event: Observed) -> None:
        if isinstance(event, UploadsSeen):
            seen.append(event.count)

    async with running(tmp_path / "uploads") as here, running(tmp_path / "uploads") as there:
        here.tus.add_observer(note)
        await here.create(1)
        await there.create(1)
        await tick(here.tus.services)
        assert seen == [], "they were counted at the start"
        here.clock.now += COUNT_EVERY
        await tick(here.tus.services)
        await here.whole(b"1")
        await tick(here.tus.services)
        assert seen == [2]
        here.clock.now += COUNT_EVERY
        await tick(here.tus.services)
        assert seen == [2, 2]
