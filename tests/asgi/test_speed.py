"""Speeds that are limited: bytes wait, whoever set the limit, and nobody is refused for it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.asgi.in_process import BASE, OFFSET_TYPE, TUS, App, Running, id_of, running, until
from tests.asgi.test_api import by_name, serving
from tests.asgi.test_at_once import HELLO, HERE, NEW, WHOLE, at_once
from tests.asgi.whole import with_whole_bodies
from tusd_py import SignedUrls
from tusd_py.app import Settings
from tusd_py.asgi.body import ReceiveBody
from tusd_py.body import EndedBy, Reason
from tusd_py.hooks.interface import Access, Changes, NewUpload
from tusd_py.protocol.grant import Grant

pytestmark = pytest.mark.anyio

KIB = 1 << 10
SLOW = 1024
LONG = 64 * KIB
"""Bytes that would take a minute at that."""


async def put(server: Running, path: str, wish: Any, **options: Any) -> httpx.Response:
    return await server.client.put(f"/api/uploads/{id_of(path)}", json=wish, **options)


async def limit(server: Running, path: str, max_speed: int | None) -> None:
    answer = await put(server, path, {"max_speed": max_speed})
    assert (answer.status_code, answer.json()["max_speed"]) == (200, max_speed), answer.text


def settings(**speeds: int) -> Settings:
    return Settings(base_path=BASE, min_free_disk=0, **speeds)  # type: ignore[arg-type]


async def test_a_limit_is_told_and_outlives_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        path = await server.create(5)
        await limit(server, path, 5000)
        both = await put(server, path, {"paused": True, "max_speed": 6000})
        assert (both.json()["state"], both.json()["max_speed"]) == ("paused", 6000)
        await put(server, path, {"paused": False})
    async with serving(tmp_path) as server:
        (upload,) = (await server.client.get("/api/uploads")).json()["uploads"]
        assert (upload["state"], upload["max_speed"]) == ("receiving", 6000)
        await limit(server, path, None)
        assert (await server.record(path)).max_speed is None


@pytest.mark.parametrize(
    "wish",
    [
        {"max_speed": 1023},
        {"max_speed": -1},
        {"max_speed": 5000.0},
        {"max_speed": True},
        {"max_speed": "5000"},
        {"max_speed": 1 << 63},
        {"max_speed": 5000, "paused": None},
        {"max_speed": 5000, "more": 1},
        {},
    ],
)
async def test_what_is_no_limit(tmp_path: Path, wish: object) -> None:
    async with serving(tmp_path) as server:
        path = await server.create(5)
        answer = await put(server, path, wish)
        assert (answer.status_code, answer.text.partition(":")[0]) == (400, "ERR_INVALID_REQUEST")
        assert not (await server.record(path)).paused
        assert (await server.record(path)).max_speed is None


async def test_what_takes_no_bytes_has_no_speed(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        done = await server.whole(b"1")
        assert (await put(server, done, {"max_speed": 5000})).status_code == 409
        assert (await put(server, "none", {"max_speed": 5000})).status_code == 404


async def test_the_limits_of_the_server_are_told(tmp_path: Path) -> None:
    speeds = settings(max_speed=9000, max_speed_per_upload=5000)
    async with serving(tmp_path, settings=speeds) as server:
        stats = (await server.client.get("/api/stats")).json()
        assert stats["max_speed"] == 9000
        assert stats["max_speed_per_client"] is None
        assert stats["max_speed_per_upload"] == 5000


async def test_an_append_under_way_becomes_slow_and_quick_again(tmp_path: Path) -> None:
    """In whichever process it is, and whichever is told."""
    async with serving(tmp_path) as here, serving(tmp_path) as there:
        for server, other in ((here, there), (there, here)):
            path = await here.create(2 * LONG)
            asked = server.patching(path, 0, 2 * LONG)
            asked.feed(b"x" * LONG)
            await until(lambda each=server, at=path: each.size(at) == LONG)
            await limit(other, path, SLOW)
            share = server.tus.services.speeds
            await until(lambda each=share, at=path: id_of(at) in each._shares)
            asked.feed(b"y" * LONG, more=False)
            await until(lambda each=server, at=path: each.size(at) > LONG)
            assert server.size(path) < 2 * LONG
            assert not asked.task.done()
            await limit(other, path, None)
            assert await asked.answered() == 204
            assert await here.bytes_of(path) == b"x" * LONG + b"y" * LONG


@pytest.mark.parametrize("over", [lambda app: app, with_whole_bodies])
@pytest.mark.parametrize("how", ["all", "client", "upload", "own", "grant", "hook"])
async def test_bytes_wait(tmp_path: Path, how: str, over: Callable[[App], App]) -> None:
    """As one body, as small ones behind each other, and as what comes with the creation."""
    rate, each = 10_000, 2_500

    async def authorize(access: Access) -> Grant:
        return Grant(principal="alice", max_speed=rate if how == "grant" else None)

    async def on_create(upload: NewUpload) -> Changes:
        return Changes(max_speed=rate if how == "hook" else None)

    speeds = {
        "all": settings(max_speed=rate),
        "client": settings(max_speed_per_client=rate),
        "upload": settings(max_speed_per_upload=rate),
    }.get(how, settings())
    options: dict[str, Any] = {"authorize": authorize} if how in ("client", "grant") else {}
    if how == "hook":
        options["on_create"] = on_create
    async with serving(tmp_path, settings=speeds, over=over, **options) as server:
        begun = time.monotonic()
        path, done = await server.create(3 * each), 0
        if how == "own":
            await limit(server, path, rate)
        for count in (each, each, each):
            answer = await server.patch(path, done, b"x" * count)
            assert answer.status_code == 204, answer.text
            done += count
        # A tenth of a second's worth comes at once.
        assert time.monotonic() - begun >= (done - rate / 10) / rate - 0.05
        if how != "own":
            begun = time.monotonic()
            await server.whole(b"x" * 2 * each)
            # Somebody may have been late before, up to a fifth of a second.
            assert time.monotonic() - begun >= (2 * each - rate * 0.3) / rate - 0.05


async def test_the_uploads_of_a_signed_url_share_its_limit(tmp_path: Path) -> None:
    rate, each = 10_000, 5_000
    signed = SignedUrls(["a-secret-key-of-the-application-1234"])
    async with serving(tmp_path, authorize=signed) as server:
        url = signed.sign(BASE, lasts=600, max_speed=rate)
        headers = TUS | OFFSET_TYPE | {"Upload-Offset": "0", "Upload-Length": str(each)}
        made = [await server.client.post(url, headers=headers) for _ in range(2)]
        begun = time.monotonic()
        for answer in await asyncio.gather(
            *(
                server.client.patch(one.headers["Location"], headers=headers, content=b"x" * each)
                for one in made
            )
        ):
            assert answer.status_code == 204, answer.text
        # A tenth of a second's worth comes at once.
        assert time.monotonic() - begun >= (2 * each - rate / 10) / rate - 0.05


async def test_two_processes_keep_a_limit_together(tmp_path: Path) -> None:
    """Each for itself would take twice as much."""
    rate = 20_000
    speeds = settings(max_speed=rate)
    one, other = serving(tmp_path, settings=speeds), serving(tmp_path, settings=speeds)
    async with one as here, other as there:
        paths = [await here.create(rate) for _ in range(2)]
        begun = time.monotonic()
        sent = (
            each.patch(path, 0, b"x" * rate)
            for each, path in zip((here, there), paths, strict=True)
        )
        for answer in await asyncio.gather(*sent):
            assert answer.status_code == 204
        # Alone, each takes a second; what they take at first, they do not know of each other.
        assert time.monotonic() - begun >= 1.4


async def test_what_is_held_back_ends_at_once_when_somebody_wants_that(tmp_path: Path) -> None:
    async with serving(tmp_path, settings=settings(max_speed=SLOW)) as server:
        path = await server.create(2 * LONG)
        asked = server.patching(path, 0, 2 * LONG)
        asked.feed(b"x" * LONG)
        await until(lambda: server.size(path))
        assert server.size(path) < LONG
        # Who lost its connection asks where it stands; what came is kept.
        assert await server.offset(path) == LONG
        assert await asked.answered() == 423


async def test_a_server_that_ends_waits_for_no_limit(tmp_path: Path) -> None:
    speeds = settings(max_speed=SLOW)
    async with running(tmp_path, settings=speeds, over=with_whole_bodies) as server:
        path = await server.create(LONG)
        asked = asyncio.ensure_future(server.patch(path, 0, b"x" * LONG))
        await until(lambda: server.size(path))
        server.tus.interrupt()
        assert (await asked).status_code == 204
        assert server.size(path) == LONG


async def test_small_uploads_go_the_long_way_only_where_a_limit_holds(tmp_path: Path) -> None:
    """Which costs much more; and the short way does not wait."""
    limited = settings(max_speed=SLOW)
    async with running(tmp_path / "a", fsync="never") as server:
        server.takes_disk_for(quick=True)
        assert at_once(server, "POST", BASE, WHOLE, HELLO) is not None
        path = await server.create(len(HELLO))
        assert at_once(server, "PATCH", path, HERE, HELLO[:5]) is not None
        await server.tus.state.set_max_speed(id_of(path), SLOW)
        assert at_once(server, "PATCH", path, HERE | {"Upload-Offset": "5"}, HELLO[5:]) is None
    async with running(tmp_path / "b", fsync="never", settings=limited) as server:
        server.takes_disk_for(quick=True)
        assert at_once(server, "POST", BASE, WHOLE, HELLO) is None
        # Which has no bytes.
        assert at_once(server, "POST", BASE, NEW) is not None


async def test_a_speed_that_cannot_be_is_a_defect_of_the_application(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def on_create(upload: NewUpload) -> Changes:
        return Changes(max_speed=1023)

    async with running(tmp_path, on_create=on_create) as server:
        assert (await server.post(Upload_Length="1")).status_code == 500
        assert "the application chose the speed 1023; 1024 is the least" in caplog.text
        assert await server.records() == []


async def test_what_the_application_allows_is_not_exceeded(tmp_path: Path) -> None:
    """Whoever may want another speed for an upload may not want more."""

    async def on_create(upload: NewUpload) -> Changes:
        return Changes(max_speed=2 * SLOW)

    async with serving(tmp_path, on_create=on_create) as server:
        path = await server.create(LONG)
        asked = server.patching(path, 0, LONG)
        asked.feed(b"x" * LONG, more=False)
        await until(lambda: server.size(path))
        for wanted, there_is in ((1 << 30, 2 * SLOW), (SLOW, SLOW), (None, 2 * SLOW)):
            answer = await put(server, path, {"max_speed": wanted})
            assert answer.json()["max_speed"] == there_is
        assert not asked.task.done()
        await server.delete(path)
        await asked.answered()


async def test_others_see_no_limit(tmp_path: Path) -> None:
    """It is each upload's own."""
    async with serving(tmp_path, authorize=by_name) as server:
        slow, quick = await server.create(LONG), await server.create(LONG)
        await limit(server, slow, SLOW)
        asked = server.patching(slow, 0, LONG)
        asked.feed(b"x" * LONG, more=False)
        await until(lambda: server.size(slow))
        assert (await server.patch(quick, 0, b"x" * LONG)).status_code == 204
        assert not asked.task.done()
        await server.delete(slow)
        await asked.answered()


class Tokens:
    """A throttle that lets as many bytes through as a test says."""

    def __init__(self, count: int) -> None:
        self.count, self.spent = count, 0

    def reserve(self, wanted: int) -> tuple[int, float]:
        count = min(wanted, 100)
        self.spent += count
        return count, 0.0 if self.spent <= self.count else 3600.0

    def spend(self, count: int) -> None:
        self.spent += count

    def waited(self, seconds: float) -> None:
        """Not looked at."""


class File:
    """What was stored."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self.path = path

    def descriptor(self) -> int:
        return self._file.fileno()

    def make_room(self, offset: int, count: int) -> None:
        """Not looked at."""

    def release(self) -> None:
        self._file.close()

    @property
    def size(self) -> int:
        return self.path.stat().st_size


@pytest.mark.parametrize("end", ["end", "interrupted", "vanished", "unlimited"])
async def test_a_body_brings_what_is_let_through(tmp_path: Path, end: str) -> None:
    messages: asyncio.Queue[Any] = asyncio.Queue()
    body = ReceiveBody(messages.get, idle_timeout=0.3, slowest_speed=1e9)
    tokens, file = Tokens(1000), File(tmp_path / "f")
    body.limit(tokens)
    saving = asyncio.create_task(body.save(file, 0, 1 << 20))
    for number in range(20):
        more = number < 19 or end != "end"
        messages.put_nowait({"type": "http.request", "body": b"x" * 8 * KIB, "more_body": more})
    await until(lambda: file.size == 1000)
    await asyncio.sleep(1.0)
    # Neither idle nor slow; and no more is read ahead than a little.
    assert (file.size, saving.done()) == (1000, False)
    assert body.came <= 72 * KIB
    if end == "interrupted":
        body.interrupt(Reason.CONTENDED)
    elif end == "vanished":
        messages.put_nowait({"type": "http.disconnect"})
        tokens.count = 1 << 40
        body.limit(tokens)
    elif end == "unlimited":
        body.limit(None)
        messages.put_nowait({"type": "http.disconnect"})
    else:
        tokens.count = 1 << 40
        body.limit(tokens)
    received = await asyncio.wait_for(saving, 30)
    assert received.count == file.size
    ends = {"end": EndedBy.END, "interrupted": EndedBy.INTERRUPTED}
    assert received.ended_by is ends.get(end, EndedBy.DISCONNECT)
    if end != "unlimited":
        assert tokens.spent == received.count
    assert received.count == 160 * KIB or end == "interrupted"
    file.release()


async def test_what_was_let_through_and_not_taken_is_given_back() -> None:
    messages: asyncio.Queue[Any] = asyncio.Queue()
    body, tokens = ReceiveBody(messages.get, idle_timeout=30), Tokens(1000)
    messages.put_nowait({"type": "http.request", "body": b"x" * 500, "more_body": False})
    body.limit(tokens)
    assert await body.fill(memoryview(bytearray())) == 0
    assert tokens.spent == 100
    assert await body.fill(memoryview(bytearray(30))) == 30
    assert tokens.spent == 100
    body.limit(None)
    assert tokens.spent == 30
