"""`TusApp` for those who embed it: opening, closing, sweeping, and what goes wrong in between."""

import asyncio
import errno
import logging
import sqlite3
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import uvicorn
from uvicorn.server import ServerState

from tests.frameworks.hosts import alive, browser
from tests.frameworks.journey import BYTES, TUS, ask, create, metadata
from tests.storage.samples import files_below
from tusd_py import (
    DiskStorage,
    FinishedUpload,
    Fsync,
    HttpSettings,
    NetworkFileSystem,
    NewerDatabase,
    Reject,
    Reply,
    Settings,
    Timing,
    TusApp,
    UploadEvent,
    UploadInfo,
    WrongInstance,
)
from tusd_py.app import _report
from tusd_py.hooks.events import Observed, UploadCreated
from tusd_py.protocol.errors import StorageFailed
from tusd_py.protocol.upload import Phase, Upload
from tusd_py.wire.http import HttpProtocol

pytestmark = pytest.mark.anyio


async def eventually(what: str, holds: Callable[[], object], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


def threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if "tusd-py" in thread.name)


async def test_served_as_it_is(tmp_path: Path) -> None:
    """`uvicorn module:tus`, without any framework."""
    tus = TusApp(DiskStorage(tmp_path))
    async with alive(tus), browser(tus) as client:
        url = await create(client, "/", 3)
        await ask(client, "PATCH", url, b"abc", Upload_Offset="0")
        assert (await client.get(url)).content == b"abc"
    assert threads() == []


async def test_below_a_root_path_that_a_framework_has_cut_off(tmp_path: Path) -> None:
    """Some mounts take their path out of `path`: the URL has it nevertheless."""
    tus = TusApp(DiskStorage(tmp_path))

    async def cut(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"].removeprefix("/mounted")
        await tus({**scope, "path": path, "root_path": "/mounted"}, receive, send)

    async with tus.lifespan(), browser(cut) as client:
        url = await create(client, "/mounted/", 3)
        await ask(client, "PATCH", url, b"abc", Upload_Offset="0")
        assert (await client.get(url)).content == b"abc"


async def test_the_settings_reach_their_rooms(tmp_path: Path) -> None:
    tus = TusApp(
        DiskStorage(tmp_path / "bytes"),
        max_size=100,
        expire_after=None,
        fsync="always",
        settings=Settings(
            state_dir=tmp_path / "state",
            max_metadata=10,
            min_free_disk=11,
            timing=Timing(acquire_lock=7.0),
        ),
    )
    async with alive(tus), browser(tus) as client:
        assert (await client.options("/")).headers["Tus-Max-Size"] == "100"
        await ask(client, "POST", "/", expect=413, Upload_Length="101")
        await ask(client, "POST", "/", expect=400, Upload_Length="1", Upload_Metadata="a " * 9)
        created = await ask(client, "POST", "/", expect=201, Upload_Length="1")
        assert "Upload-Expires" not in created.headers
    assert (tmp_path / "state/tusd-py.sqlite3").exists()
    assert not (tmp_path / "bytes/state").exists()
    assert tus.services.limits.min_free_disk == 11
    assert (tus.services.fsync, tus.services.timing.acquire_lock) == (Fsync.ALWAYS, 7.0)


def test_a_fsync_mode_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sometimes"):
        TusApp(DiskStorage(tmp_path), fsync="sometimes")


async def test_it_can_be_started_again(tmp_path: Path) -> None:
    """Test suites and reloaders enter the same lifespan several times."""
    tus = TusApp(DiskStorage(tmp_path))
    urls = []
    for _ in range(3):
        async with tus.lifespan(), browser(tus) as client:
            urls.append(await create(client, "/", 3))
            for url in urls:
                await ask(client, "HEAD", url, expect=200)
        assert threads() == []


@pytest.mark.parametrize("wrong", ["foreign", "newer", "rubbish"])
async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path, wrong: str) -> None:
    tus = TusApp(DiskStorage(tmp_path))
    (tmp_path / "state").mkdir()
    expected: type[Exception] = WrongInstance
    if wrong == "foreign":
        (tmp_path / "data/photos").mkdir(parents=True)
    elif wrong == "newer":
        expected = NewerDatabase
        with sqlite3.connect(tus.state.path) as connection:
            connection.execute("PRAGMA user_version=99")
        connection.close()
    else:
        expected = StorageFailed
        tus.state.path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(expected):
        async with tus.lifespan():
            raise AssertionError("it started")
    assert threads() == []


@pytest.mark.parametrize("behind", ["open", "tie", "instance", "page"])
async def test_another_process_that_was_first_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: str
) -> None:
    """Four workers start at once on a new directory, and one is slow: it must not give up."""
    slow = TusApp(DiskStorage(tmp_path))
    called = getattr(slow.state, behind)
    urls = list[str]()

    async def call_then_wait(*args: Any) -> Any:
        seen = await called(*args)
        quick = TusApp(DiskStorage(tmp_path))
        async with alive(quick), browser(quick) as client:
            urls.append(await create(client, "/", 3))
            await ask(client, "PATCH", urls[-1], b"abc", Upload_Offset="0")
        return seen

    with monkeypatch.context() as patched:
        patched.setattr(slow.state, behind, call_then_wait)
        await slow.open()
    await slow.stop()
    async with alive(slow), browser(slow) as client:
        for url in urls:
            assert (await client.get(url)).content == b"abc"
    assert urls
    assert threads() == []


async def test_two_states_cannot_share_one_upload_directory(tmp_path: Path) -> None:
    """Otherwise: each knows no record of the other's files, and sets them aside as strays."""
    first, second = (
        TusApp(DiskStorage(tmp_path / "u"), settings=Settings(state_dir=tmp_path / name))
        for name in ("one", "two")
    )
    async with alive(first):
        for _ in range(2):
            with pytest.raises(WrongInstance, match="belongs to another state"):
                await second.open()
    async with alive(first), browser(first) as client:
        await create(client, "/", 3)
    assert threads() == []


async def test_a_volume_that_is_not_mounted_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    """Otherwise: every client is told that its upload is gone, and begins anew."""
    tus = TusApp(DiskStorage(tmp_path / "u"), settings=Settings(state_dir=tmp_path / "state"))
    data, volume = tmp_path / "u/data", tmp_path / "volume"
    async with alive(tus), browser(tus) as client:
        url = await create(client, "/", 3)
        await ask(client, "PATCH", url, b"ab", Upload_Offset="0")
    data.rename(volume)
    for mount_point in (False, True):
        if mount_point:
            data.mkdir()
        with pytest.raises(WrongInstance, match="is the volume mounted"):
            await tus.open()
        assert data.exists() is mount_point
        assert files_below(tmp_path / "u") == {}
    data.rmdir()
    volume.rename(data)
    async with alive(tus), browser(tus) as client:
        assert (await ask(client, "HEAD", url, expect=200)).headers["Upload-Offset"] == "2"


async def test_a_start_that_was_killed_before_the_mark_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tus = TusApp(DiskStorage(tmp_path))

    async def killed(*_: object, **__: object) -> None:
        raise StorageFailed

    with monkeypatch.context() as patched:
        patched.setattr(tus.storage, "open", killed)
        with pytest.raises(StorageFailed):
            await tus.open()
    async with alive(tus), browser(tus) as client:
        await create(client, "/", 3)


async def _whole(client: httpx.AsyncClient, filename: str, content: bytes) -> str:
    named = metadata(filename=filename)
    url = await create(client, "/", len(content), Upload_Metadata=named)
    await ask(client, "PATCH", url, content, Upload_Offset="0")
    return url


async def test_a_name_that_came_to_another_upload_leads_to_that_one_only(tmp_path: Path) -> None:
    """Otherwise: `GET` gives out, and `DELETE` removes, the file of somebody else."""
    tus = TusApp(DiskStorage(tmp_path, file_template="{filename}"))
    async with alive(tus), browser(tus) as client:
        first = await _whole(client, "report.pdf", b"first")
        (tmp_path / "files/report.pdf").rename(tmp_path / "archived.pdf")
        second = await _whole(client, "report.pdf", b"second")
        assert (await client.get(first)).status_code == 404
        with pytest.raises(StorageFailed):
            await tus.take(first.rpartition("/")[2], tmp_path / "mine.pdf")
        await ask(client, "DELETE", first)
        assert (await client.get(second)).content == b"second"
        assert files_below(tmp_path / "files") == {"report.pdf": b"second"}


@pytest.mark.parametrize("part", [True, False])
async def test_an_empty_upload_whose_finish_is_repeated_has_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: bool
) -> None:
    """Otherwise: its first finish is cut short, and no later one ever succeeds."""
    left = 3

    async def cut_short(upload: Upload, **options: Any) -> Upload:
        nonlocal left
        if upload.phase is Phase.COMPLETE and left:
            left -= 1
            raise StorageFailed
        return await commit(upload, **options)

    async def new_id(_: object) -> str:
        return "chosen"

    tus = TusApp(DiskStorage(tmp_path, file_template="{filename}"), new_id=new_id)
    commit = tus.state.commit
    tus.services.pace.is_quick = lambda *, durable: False  # type: ignore[method-assign]
    monkeypatch.setattr(tus.state, "commit", cut_short)
    named = {"Upload-Length": "0", "Upload-Metadata": metadata(filename="empty")}
    concat = {"Upload-Concat": "partial"} if part else {}
    async with alive(tus), browser(tus) as client:
        await ask(client, "POST", "/", expect=500, headers=named | concat)
        for _ in range(10):
            answer = await client.head("/chosen", headers=TUS)
            if answer.status_code == 200:
                break
        assert (answer.status_code, left) == (200, 0)
        assert (await client.get("/chosen")).content == b""
    assert files_below(tmp_path / "files") == ({} if part else {"empty": b""})
    assert [path.name for path in tmp_path.glob("data/*/*")] == (["chosen"] if part else [])


async def test_the_state_is_refused_where_locks_do_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise: two hosts on one share cut the tails of each other's uploads."""

    def refuse(folder: Path) -> None:
        raise NetworkFileSystem(f"{folder} is far away")

    monkeypatch.setattr("tusd_py.app.check_local", refuse)
    with pytest.raises(NetworkFileSystem, match="state is far away"):
        await TusApp(DiskStorage(tmp_path)).open()
    assert list(tmp_path.iterdir()) == []


async def test_without_a_lifespan_a_failed_first_request_is_not_the_last(tmp_path: Path) -> None:
    """Otherwise: a disk that was full for a moment needs a restart."""
    (tmp_path / "state").write_text("in the way")
    tus = TusApp(DiskStorage(tmp_path))
    async with browser(tus) as client:
        with pytest.raises(OSError, match="state"):
            await create(client, "/", 3)
        (tmp_path / "state").unlink()
        await create(client, "/", 3)
    await tus.stop()


async def test_requests_that_come_first_at_once_open_it_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tus = TusApp(DiskStorage(tmp_path))
    async with browser(tus) as client:
        await asyncio.gather(*(create(client, "/", 3) for _ in range(10)))
    assert caplog.text.count("without its lifespan") == 1
    assert len(threads()) == 2
    await tus.stop()
    assert threads() == []


async def test_observers_are_told(tmp_path: Path) -> None:
    tus, seen = TusApp(DiskStorage(tmp_path)), list[Observed]()
    tus.add_observer(seen.append)
    async with tus.lifespan(), browser(tus) as client:
        url = await create(client, "/", 3)
    assert UploadCreated(upload_id=url.rpartition("/")[2]) in seen


async def test_expired_uploads_are_swept_from_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An embedder has no cron job: the lifespan alone must keep the disk from filling up."""
    caplog.set_level(logging.DEBUG, "tusd_py")
    told: list[UploadEvent] = []

    async def on_terminate(ended: UploadEvent) -> None:
        told.append(ended)

    tus = TusApp(DiskStorage(tmp_path), expire_after=0.2, on_terminate=on_terminate)
    async with tus.lifespan(), browser(tus) as client:
        url = await create(client, "/", 10)
        await ask(client, "PATCH", url, b"abc", Upload_Offset="0")
    await asyncio.sleep(0.2)
    async with tus.lifespan():
        await eventually("it was never swept", lambda: not list(tmp_path.glob("data/*/*")))
        await eventually("nobody was told", lambda: told)
        await eventually("it was not logged", lambda: "swept 1 expired uploads" in caplog.text)
    assert (told[0].id, told[0].phase.value) == (url.rpartition("/")[2], "expired")


async def test_everything_that_happens_is_told_in_order(tmp_path: Path) -> None:
    """From the POST to the DELETE, with the request that did it."""
    told: list[UploadEvent] = []

    async def tell(event: UploadEvent) -> None:
        told.append(event)

    tus = TusApp(DiskStorage(tmp_path), on_created=tell, on_finished=tell, on_terminate=tell)
    async with tus.lifespan(), browser(tus) as client:
        url = await create(client, "/", 5, Upload_Metadata=metadata(name="a"))
        await ask(client, "PATCH", url, b"hello", Upload_Offset="0")
        await ask(client, "DELETE", url, expect=204)
        await eventually("nobody was told", lambda: len(told) == 3)
    assert [event.phase.value for event in told] == ["receiving", "complete", "terminated"]
    assert [event.request.method for event in told] == ["POST", "PATCH", "DELETE"]
    assert [event.offset for event in told] == [0, 5, 5]
    assert {event.length for event in told} == {5}
    assert len({event.event_id for event in told}) == 3


async def test_a_termination_may_be_refused(tmp_path: Path) -> None:
    """Of the upload as it is when it is locked, too: it may have been finished meanwhile."""
    asked: list[UploadInfo] = []
    finishing = asyncio.Event()

    async def on_terminating(upload: UploadInfo) -> Reply | None:
        asked.append(upload)
        if upload.offset == upload.length:
            raise Reject(403, "finished ones stay")
        await finishing.wait()
        return Reply(headers={"X-Why": "tea"})

    tus = TusApp(DiskStorage(tmp_path), on_terminating=on_terminating)
    async with tus.lifespan(), browser(tus) as client:
        url = await create(client, "/", 5)
        removing = asyncio.create_task(ask(client, "DELETE", url, expect=403))
        await eventually("nobody was asked", lambda: asked)
        await ask(client, "PATCH", url, b"hello", Upload_Offset="0")
        finishing.set()
        assert (await removing).text == "finished ones stay"
        assert [upload.offset for upload in asked] == [0, 5]
        other = await create(client, "/", 5)
        gone = await ask(client, "DELETE", other, expect=204)
        assert gone.headers["X-Why"] == "tea"


async def test_an_event_that_nobody_here_is_told_of_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A start without the function, by mistake say, must not lose what the next one tells."""
    told: list[str] = []

    async def tell(event: UploadEvent) -> None:
        told.append(event.phase.value)

    async def fail(_: UploadEvent) -> None:
        raise RuntimeError("no")

    tus = TusApp(DiskStorage(tmp_path), on_created=fail)
    async with tus.lifespan(), browser(tus) as client:
        await create(client, "/", 5)
        await eventually("it did not fail", lambda: "is receiving failed" in caplog.text)
    tus = TusApp(DiskStorage(tmp_path), on_finished=tell)
    async with tus.lifespan():
        await eventually("it was dropped", lambda: "no function of this process" in caplog.text)
    tus = TusApp(DiskStorage(tmp_path), on_created=tell)
    async with tus.lifespan():
        await eventually("it is lost", lambda: told == ["receiving"], within=30)


async def test_of_two_processes_one_sweeps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tusd_py")
    one, other = TusApp(DiskStorage(tmp_path)), TusApp(DiskStorage(tmp_path))
    await one.open()
    async with one.services.locks.attempt("sweeper!"), other.lifespan():
        await eventually("it swept too", lambda: "another process sweeps" in caplog.text)
    await one.stop()


async def test_an_end_in_one_process_is_told_by_another_at_once(tmp_path: Path) -> None:
    """A server without hooks, or `tusd-py cleanup`, ends it: nobody waits for the next look."""
    told: list[str] = []

    async def on_terminate(ended: UploadEvent) -> None:
        told.append(ended.id)

    def is_told(count: int) -> bool:
        return len(told) == count

    tells = TusApp(DiskStorage(tmp_path), on_terminate=on_terminate)
    async with tells.lifespan():
        other = TusApp(DiskStorage(tmp_path))
        async with other.lifespan(), browser(other) as client:
            for number in (1, 2):
                url = await create(client, "/", 10)
                await ask(client, "DELETE", url, expect=204)
                await eventually("nobody was told", partial(is_told, number))
                assert told[-1] == url.rpartition("/")[2]


async def test_uploads_are_taken_where_no_socket_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems hold no sockets: all works but the hand-over."""

    def refuse(_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("tusd_py.locks.neighbours.Neighbours.open", refuse)
    tus = TusApp(DiskStorage(tmp_path))
    async with tus.lifespan(), browser(tus) as client:
        url = await create(client, "/", 3)
        await ask(client, "PATCH", url, b"abc", Upload_Offset="0")
    assert "no upload is handed over to another process" in caplog.text


async def test_a_sweep_that_fails_does_not_end_the_sweeping(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tus, calls = TusApp(DiskStorage(tmp_path)), list[float]()

    async def expired(now: float, *_: object) -> list[tuple[float, str]]:
        calls.append(now)
        raise StorageFailed

    monkeypatch.setattr(tus.state, "expired", expired)
    monkeypatch.setattr("tusd_py.app._SWEEP_EVERY", 0.01)
    async with tus.lifespan():
        await eventually("it gave up", lambda: len(calls) > 1)
    assert "the sweep failed; it is tried again" in caplog.text


async def test_a_background_task_that_ends_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise RuntimeError("a defect")

    task = asyncio.create_task(broken())
    await asyncio.wait({task})
    _report(task)
    assert "a task in the background ended" in caplog.text
    assert "a defect" in caplog.text


async def test_sweep_by_hand_without_a_lifespan(tmp_path: Path) -> None:
    tus = TusApp(DiskStorage(tmp_path), expire_after=-1.0)
    async with browser(tus) as client:
        await client.post("/", headers=TUS | {"Upload-Length": "5"})
    announced = await tus.sweep(dry_run=True)
    report = await tus.sweep()
    assert len(report.expired) == 1
    assert announced.expired == report.expired
    await tus.stop()


async def test_interrupt_ends_an_append_and_keeps_what_came(tmp_path: Path) -> None:
    """A deployment: what is under way is kept, and the client is told to come again."""
    tus = TusApp(DiskStorage(tmp_path))
    async with tus.lifespan(), browser(tus) as client:
        url = await create(client, "/", 10)
        incoming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        incoming.put_nowait({"type": "http.request", "body": b"abc", "more_body": True})
        sent: list[MutableMapping[str, Any]] = []

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        headers = TUS | BYTES | {"Upload-Offset": "0", "Content-Length": "10"}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "PATCH",
            "path": httpx.URL(url).path,
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        }
        request = asyncio.create_task(tus(scope, incoming.get, send))
        await eventually(
            "no bytes came", lambda: any(p.stat().st_size for p in tmp_path.glob("data/*/*"))
        )
        tus.interrupt()
        await eventually("it goes on", lambda: sent)
        incoming.put_nowait({"type": "http.disconnect"})
        await request
        assert sent[0]["status"] == 503
        await ask(client, "POST", "/", expect=503, Upload_Length="3")
        await ask(client, "HEAD", url, expect=423)
    async with tus.lifespan(), browser(tus) as client:
        found = await ask(client, "HEAD", url, expect=200)
        assert found.headers["Upload-Offset"] == "3"


async def test_the_end_waits_for_a_finish_that_is_under_way(tmp_path: Path) -> None:
    """Else `on_finish` would run twice for a deployment that is restarted at the wrong moment."""
    ended = []

    async def on_finish(upload: FinishedUpload) -> None:
        await asyncio.sleep(0.1)
        ended.append(upload.id)

    tus = TusApp(DiskStorage(tmp_path), on_finish=on_finish)
    async with tus.lifespan(), browser(tus) as client:
        part = await ask(
            client, "POST", "/", expect=201, Upload_Length="3", Upload_Concat="partial"
        )
        final = await ask(
            client,
            "POST",
            "/",
            expect=201,
            Upload_Concat=f"final;{part.headers['Location']}",
        )
        await ask(client, "PATCH", part.headers["Location"], b"abc", expect=204, Upload_Offset="0")
    assert ended == [final.headers["Location"].rpartition("/")[2]]


async def test_a_finish_that_takes_too_long_is_taken_up_by_the_next_start(tmp_path: Path) -> None:
    calls = []
    slow = True

    async def on_finish(upload: FinishedUpload) -> None:
        calls.append(upload.id)
        if slow:
            await asyncio.sleep(60)

    tus = TusApp(DiskStorage(tmp_path), on_finish=on_finish)
    await tus.start()
    async with browser(tus) as client:
        sending = asyncio.create_task(
            client.post(
                "/",
                headers=TUS | {"Upload-Length": "0"},
            )
        )
        await eventually("it was not called", lambda: calls)
        await tus.stop(within=0.05)
        await asyncio.wait({sending})
    slow = False
    await tus.start()
    await eventually("it was not called again", lambda: len(calls) == 2)
    await tus.stop()
    assert calls[0] == calls[1]


async def test_http_settings_say_how_long_a_silent_client_is_waited_for(tmp_path: Path) -> None:
    tus = TusApp(DiskStorage(tmp_path), settings=Settings(http=HttpSettings(network_timeout=0.05)))
    async with tus.lifespan(), browser(tus) as client:
        url = await create(client, "/", 10)

        async def silent() -> AsyncIterator[bytes]:
            yield b"abc"
            await asyncio.sleep(1.0)
            yield b"defghij"

        headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        begun = time.monotonic()
        sent = await client.patch(
            url, content=silent(), headers=TUS | headers | {"Content-Length": "10"}
        )
        assert sent.status_code == 503
        assert "ERR_READ_TIMEOUT" in sent.text
        assert time.monotonic() - begun < 5
        assert (await ask(client, "HEAD", url, expect=200)).headers["Upload-Offset"] == "3"


async def test_a_small_body_is_refused_over_tls(tmp_path: Path) -> None:
    """Its body is read through `receive`, in a task: our own one needs a plain socket."""
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    tus = TusApp(DiskStorage(tmp_path))
    config = uvicorn.Config(tus, http=HttpProtocol, log_config=None, proxy_headers=False)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    async with tus.lifespan(), httpx.AsyncClient(verify=client_side) as client:
        server = await loop.create_server(
            lambda: HttpProtocol(config, state, {}, loop), "127.0.0.1", 0, ssl=server_side
        )
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        headers = TUS | {"Upload-Length": "5", "Content-Type": "text/plain"}
        refused = await client.post(url, headers=headers, content=b"hello")
        assert (refused.status_code, refused.text.split(":")[0]) == (
            415,
            "ERR_INVALID_CONTENT_TYPE",
        )
        sent = await client.post(url, headers=headers | BYTES, content=b"hello")
        assert (sent.status_code, sent.headers["Upload-Offset"]) == (201, "5")
        await client.aclose()
        server.close()
