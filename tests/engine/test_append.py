"""Bytes at the end of an upload: whatever ends a body, what came and counts is committed."""

import asyncio
import base64
import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.asgi import in_process
from tests.asgi.in_process import BASE, Running, running, sha1, until
from tusd_py.app import Settings
from tusd_py.asgi import body as asgi_body
from tusd_py.asgi.settings import HttpSettings
from tusd_py.body import File, Reason
from tusd_py.protocol.upload import Phase, Tail

pytestmark = pytest.mark.anyio

HELLO = b"hello world"
IDLE = Settings(base_path=BASE, http=HttpSettings(network_timeout=0.05))


@pytest.mark.parametrize("how", ["vanish", "contended", "shutdown", "idle", "cancel", "scope"])
@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
async def test_what_came_before_the_end_is_kept_unless_it_is_unverified(
    tmp_path: Path, how: str, checked: bool, chunked: bool
) -> None:
    """A dropped client goes on where it stopped; a checksum of half a body means nothing."""
    async with running(tmp_path, settings=IDLE if how == "idle" else SETTINGS) as server:
        path = await server.create(11)
        await server.patch(path, 0, b"he")
        headers = sha1(b"llo world") if checked else {}
        asked = server.patching(path, 2, None if chunked else 9, **headers)
        asked.feed(b"llo")
        await until(lambda: server.size(path) == 5)
        status = await ended(server, path, asked, how)
        expected = {"vanish": None, "contended": 423, "shutdown": 503, "idle": 503}.get(how)
        if expected is not None:
            assert status == expected
        assert (await server.record(path)).tail is Tail.OPEN
        offset = 2 if checked else 5
        assert (await server.record(path)).upload_offset == offset
        server.tus.services.is_ending = False
        assert await server.offset(path) == offset
        assert server.file(path).read_bytes() == b"hello"[:offset]
        assert (await server.patch(path, offset, HELLO[offset:])).status_code == 204
        assert await server.bytes_of(path) == HELLO


SETTINGS = Settings(base_path=BASE)


async def ended(server: Running, path: str, asked: "in_process.Asked", how: str) -> int:
    """Ends a request that hangs: the status."""
    services = server.tus.services
    if how == "vanish":
        asked.vanish()
    elif how == "contended":
        assert (await server.head(path)).status_code == 200
    elif how == "shutdown":
        server.tus.interrupt()
    elif how in ("cancel", "scope"):
        asked.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked.task
        assert not services.live, "the work ended before the request did"
        return 0
    await until(lambda: not services.live)
    asked.vanish()
    return await asked.answered()


@pytest.mark.parametrize("native", [True, False])
async def test_a_cancelled_request_lets_go_of_its_lock_after_its_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    """TRAPS: 73,000 bytes were written after the cancel, into an upload of someone else by then."""
    async with running(tmp_path) as server:
        path = await server.create(11)
        gate, loop = asyncio.Event(), asyncio.get_running_loop()
        inside = asyncio.Event()
        write = asgi_body._write

        def slow(file: File, offset: int, chunks: list[memoryview], digest: None) -> int:
            loop.call_soon_threadsafe(inside.set)
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)
            return write(file, offset, chunks, digest)

        monkeypatch.setattr(asgi_body, "_write", slow)
        scope = anyio.CancelScope()

        async def in_scope() -> None:
            with scope:
                asked = server.patching(path, 0, 11)
                asked.feed(b"hello")
                await asked.task

        if native:
            asked = server.patching(path, 0, 11)
            asked.feed(b"hello")
            task = asked.task
        else:
            task = asyncio.create_task(in_scope())
        await inside.wait()
        for _ in range(3):
            if native:
                task.cancel()
            else:
                scope.cancel()
            await asyncio.sleep(0)
        seen = asyncio.create_task(server.head(path))
        await asyncio.sleep(0.05)
        assert not task.done()
        assert not seen.done(), "nobody else has the lock while the thread writes"
        monkeypatch.setattr(asgi_body, "_write", write)
        gate.set()
        assert (await seen).headers["Upload-Offset"] == "5"
        await asyncio.wait({task})
        assert task.cancelled() or scope.cancelled_caught
        assert server.file(path).read_bytes() == b"hello"


@pytest.mark.parametrize("content", [b"hello", HELLO])
async def test_a_late_length_comes_with_bytes_or_alone(server: Running, content: bytes) -> None:
    """Creation, POST: "in the next PATCH request, once the length is known"."""
    path = await server.create(None)
    await server.patch(path, 0, content)
    assert (await server.record(path)).phase is Phase.RECEIVING
    length = str(len(content))
    answer = await server.patch(path, len(content), b"", Upload_Length=length)
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, length)
    assert (await server.record(path)).phase is Phase.COMPLETE
    assert await server.bytes_of(path) == content


@pytest.mark.parametrize(("late", "status"), [("4", 400), ("1000001", 413), ("5", 204)])
async def test_a_late_length_that_cannot_be(server: Running, late: str, status: int) -> None:
    """It is refused without a trace, so that the right one can follow."""
    path = await server.create(None)
    await server.patch(path, 0, b"hello")
    assert (await server.patch(path, 5, b"", Upload_Length=late)).status_code == status
    if status != 204:
        assert (await server.record(path)).upload_length is None


async def test_an_interruption_at_the_last_byte_still_finishes(server: Running) -> None:
    """The newer request finds a complete upload, and the older one is told the truth."""
    path = await server.create(11)
    asked = server.patching(path, 0)  # chunked: only its last chunk says that it has ended
    asked.feed(HELLO)
    await until(lambda: server.size(path) == 11)
    found = await server.head(path)
    assert found.headers["Upload-Offset"] == "11"
    asked.vanish()
    assert await asked.answered() == 423
    await until(lambda: not server.tus.services.jobs._tasks)
    assert (await server.record(path)).phase is Phase.COMPLETE


async def test_all_bytes_of_a_known_length_are_a_success_whatever_ended_them(
    server: Running,
) -> None:
    """A client that closes right behind its last byte has sent everything."""
    path = await server.create(11)
    asked = server.patching(path, 0, 11)
    asked.feed(HELLO)
    asked.vanish()
    assert await asked.answered() == 204
    assert await server.bytes_of(path) == HELLO


@pytest.mark.parametrize("checked", [False, True])
async def test_a_storage_that_fails_is_no_success(
    server: Running, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    """PEERS: a failed part still answers 204. What was written before the error counts."""
    path = await server.create(11)
    pwrite = os.pwrite

    def failing(fd: int, data: bytes, offset: int) -> int:
        if offset >= 5:
            raise OSError(5, "the disk is gone")
        return pwrite(fd, data[: 5 - offset], offset)

    monkeypatch.setattr(os, "pwrite", failing)
    headers = sha1(HELLO) if checked else {}
    answer = await server.patch(path, 0, HELLO, **headers)
    monkeypatch.undo()
    assert answer.status_code == 500
    assert answer.text.startswith("ERR_STORAGE: ")
    assert await server.offset(path) == (0 if checked else 5)


async def test_a_sync_that_fails_at_the_end_falls_back(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRAPS: a failed fsync repeated "succeeds", since the kernel dropped the pages."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    syncs = [0]

    def failing(_: int) -> None:
        syncs[0] += 1
        raise OSError(5, "lost")

    monkeypatch.setattr(os, "fdatasync", failing)
    assert (await server.patch(path, 5, b" world")).status_code == 500
    assert syncs[0] == 1, "it is not tried again"
    monkeypatch.undo()
    fallen = await server.record(path)
    assert (fallen.upload_offset, fallen.phase, fallen.tail) == (0, Phase.RECEIVING, Tail.SEALED)
    assert await server.offset(path) == 0
    assert (await server.patch(path, 0, HELLO)).status_code == 204
    assert await server.bytes_of(path) == HELLO


async def test_a_shorter_write_over_an_old_tail(server: Running) -> None:
    """TRAPS: stale bytes count after a kill. What lies beyond the offset goes before the first."""
    path = await server.create(20)
    digest = base64.b64encode(hashlib.sha1(b"x").digest()).decode()
    asked = server.patching(path, 0, 20, Upload_Checksum=f"sha1 {digest}")
    asked.feed(b"Z" * 15)
    await until(lambda: server.size(path) == 15)
    file = server.file(path)
    old = file.read_bytes()
    asked.vanish()
    await asked.answered()
    # As after a kill: the record says sealed, and the bytes are there.
    record = await server.record(path)
    await server.tus.state.commit(record._replace(tail=Tail.SEALED))
    file.write_bytes(old)
    asked = server.patching(path, 0, 20)
    await asked.begun()
    assert file.stat().st_size == 0
    asked.feed(b"abc")
    asked.vanish()
    await asked.answered()
    assert await server.offset(path) == 3
    assert file.read_bytes() == b"abc"


async def test_a_doomed_patch_does_not_disturb_a_live_one(server: Running) -> None:
    """TRAPS: an offset that is already passed, or a wrong type, can be refused without the lock."""
    path = await server.create(11)
    await server.patch(path, 0, b"he")
    asked = server.patching(path, 2, 9)
    asked.feed(b"llo")
    await until(lambda: server.size(path) == 5)
    for offset, headers, status in (
        (1, {}, 409),
        (2, {"Content_Type": "text/plain"}, 415),
        (2, {"Tus_Resumable": "0.1"}, 412),
        (2, {"Upload_Checksum": "crc99 AAAA"}, 400),
    ):
        assert (await server.patch(path, offset, b"x", **headers)).status_code == status
    asked.feed(b" world", more=False)
    assert await asked.answered() == 204
    assert await server.bytes_of(path) == HELLO


async def test_the_newest_patch_wins_and_the_bytes_are_one_of_the_two(server: Running) -> None:
    """The client that came back has the upload; the hanging connection is the old one."""
    path = await server.create(11)
    old = server.patching(path, 0, 11)
    old.feed(b"hello")
    await until(lambda: server.size(path) == 5)
    new = server.patching(path, 5, 6)
    new.feed(b" world", more=False)
    assert await new.answered() == 204
    old.vanish()
    assert await old.answered() == 423
    assert b"ERR_UPLOAD_INTERRUPTED" in old.body
    assert await server.bytes_of(path) == HELLO


async def test_bytes_that_somebody_removed_are_410(server: Running) -> None:
    """Going on would leave a hole in the file."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    server.file(path).write_bytes(b"he")
    assert (await server.patch(path, 5, b" world")).status_code == 410
    server.file(path).unlink()
    assert (await server.patch(path, 5, b" world")).status_code == 410
    assert (await server.head(path)).status_code == 410


async def test_expiry_is_pushed_by_every_append(server: Running) -> None:
    """TRAPS: expiry while bytes flow."""
    path = await server.create(11)
    for offset in range(3):
        server.clock.now += 80_000
        assert (await server.patch(path, offset, b"x")).status_code == 204
    assert (await server.record(path)).expires_at == server.clock.now + 86_400


async def test_interrupting_everything_names_the_reason(server: Running) -> None:
    """A client must not think that a newer request took over when the server ends."""
    path = await server.create(11)
    asked = server.patching(path, 0, 11)
    await asked.begun()
    server.tus.services.locks.interrupt_all(Reason.SHUTDOWN)
    asked.vanish()
    await until(lambda: not server.tus.services.live)
    assert await asked.answered() in (204, 503)


@pytest.mark.parametrize("checked", [False, True])
async def test_a_stop_waits_until_what_came_is_committed(tmp_path: Path, checked: bool) -> None:
    """Otherwise: the state closes before the last bytes of a request are on record."""
    async with running(tmp_path) as server:
        path = await server.create(11)
        asked = server.patching(path, 0, 11, **(sha1(HELLO) if checked else {}))
        asked.feed(b"hello")
        await until(lambda: server.size(path) == 5)
        await server.tus.stop()
        assert asked.task.done()
        assert asked.status == 503
        await server.tus.open()
        assert await server.offset(path) == (0 if checked else 5)


async def test_whoever_waited_for_the_lock_begins_no_body_at_the_end(server: Running) -> None:
    """Otherwise: a body that began after all were interrupted holds the end up."""
    path = await server.create(11)
    services, upload_id = server.tus.services, in_process.id_of(path)
    asked = asyncio.Event()
    async with services.locks.hold(upload_id, within=1, on_contended=lambda _: asked.set()):
        waiting = server.patching(path, 0, 11)
        waiting.feed(HELLO, more=False)
        await asyncio.wait_for(asked.wait(), 10)
        services.is_ending = True
    assert await waiting.answered() == 503
    services.is_ending = False
    assert await server.offset(path) == 0


async def test_an_interrupted_client_is_told_at_once(server: Running) -> None:
    """Not only when the rest of its body came, or never: it may still be there, and waiting."""
    path = await server.create(11)
    asked = server.patching(path, 0, 11)
    asked.feed(b"hello")
    await until(lambda: server.size(path) == 5)
    taken = asked.taken
    assert await server.offset(path) == 5
    await until(lambda: asked.status == 423, within=0.5)
    assert asked.headers["connection"] == "close"
    assert asked.taken == taken
    asked.vanish()
    await asked.answered()


async def test_a_write_that_hangs_keeps_its_lock_when_the_application_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ownership never passes by time: what another process stores meanwhile would be overwritten
    when the disk comes back.
    """
    begun, go_on = threading.Event(), threading.Event()
    write = asgi_body._write

    def slow(*args: Any) -> int:
        begun.set()
        go_on.wait(20)
        return write(*args)

    async with running(tmp_path) as server, running(tmp_path) as other:
        path = await server.create(11)
        monkeypatch.setattr(asgi_body, "_write", slow)
        asked = server.patching(path, 0, 11)
        asked.feed(b"OLD!")
        await asyncio.to_thread(begun.wait, 10)
        await server.tus.stop(within=0.05)
        assert (await other.patch(path, 0, b"NEW.")).status_code == 423
        go_on.set()
        await asyncio.wait({asked.task})
