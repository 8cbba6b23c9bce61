"""Small uploads that are answered at once are answered as ever; whatever else is left alone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.asgi.in_process import BASE, OFFSET_TYPE, TUS, Running, id_of, running, sha1
from tests.asgi.whole import with_whole_bodies
from tests.storage.samples import files_below
from tusd_py.hooks.events import Observed, RequestEnded
from tusd_py.hooks.interface import Access, Changes, FinishedUpload, NewUpload
from tusd_py.protocol.upload import Upload
from tusd_py.state.interface import NotNow

pytestmark = pytest.mark.anyio

HELLO = b"hello world"
NEW = {"Upload-Length": "11"}
WHOLE = OFFSET_TYPE | NEW
HERE = OFFSET_TYPE | {"Upload-Offset": "0"}

Said = tuple[int, dict[str, str], bytes]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, fsync="never", over=with_whole_bodies) as server:
        server.takes_disk_for(quick=True)
        yield server


def at_once(
    server: Running, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> Said | None:
    """The answer to a request, if it is given at once."""
    sent = TUS | {"Content-Length": str(len(body)), "X-Request-ID": "mine"} | headers
    raw = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "scheme": "http",
        "server": ("testserver", None),
        "headers": raw,
    }
    answer = server.tus.answer_at_once(scope, body, BASE)
    if answer is None:
        return None
    status, said, content = answer
    return status, {name.decode(): value.decode() for name, value in said}, content


async def as_ever(
    server: Running, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> Said:
    sent = TUS | {"X-Request-ID": "mine"} | headers
    answer = await server.client.request(method, path, headers=sent, content=body)
    pairs = [(name.decode(), value.decode()) for name, value in answer.headers.raw]
    return answer.status_code, dict(pairs), answer.content


REQUESTS = {
    "creation": [("POST", NEW, b"")],
    "creation of nothing known": [("POST", {"Upload-Defer-Length": "1"}, b"")],
    "creation with upload": [("POST", WHOLE | {"Upload-Metadata": "name YQ=="}, HELLO)],
    "creation with a part": [("POST", WHOLE, HELLO[:3])],
    "checksum": [("POST", WHOLE | sha1(HELLO), HELLO)],
    "append": [("POST", NEW, b""), ("PATCH", HERE, HELLO)],
    "two appends": [
        ("POST", NEW, b""),
        ("PATCH", HERE, HELLO[:5]),
        ("PATCH", OFFSET_TYPE | {"Upload-Offset": "5"}, HELLO[5:]),
    ],
    "empty append": [("POST", NEW, b""), ("PATCH", HERE, b"")],
    "method override": [
        ("POST", NEW, b""),
        ("POST", HERE | {"X-HTTP-Method-Override": "PATCH"}, HELLO),
    ],
    "another page": [("POST", WHOLE | {"Origin": "https://example.com"}, HELLO)],
}


@pytest.mark.parametrize("requests", REQUESTS.values(), ids=REQUESTS)
async def test_it_is_answered_as_ever(
    server: Running, requests: list[tuple[str, dict[str, str], bytes]]
) -> None:
    """But for the length of an empty body, which the server adds."""
    ended: list[RequestEnded] = []

    def note(event: Observed) -> None:
        if isinstance(event, RequestEnded):
            ended.append(event._replace(seconds=0))

    server.tus.add_observer(note)
    here = there = BASE
    for method, headers, body in requests:
        short = at_once(server, method, here, headers, body)
        assert short is not None
        long = await as_ever(server, method, there, headers, body)
        long[1].pop("Content-Length", None)
        if "Location" in long[1]:
            here = short[1].pop("Location").removeprefix("http://testserver")
            there = long[1].pop("Location").removeprefix("http://testserver")
        assert short == long
        assert ended[-1] == ended[-2]
    one, other = await server.record(here), await server.record(there)
    assert one._replace(id="", placement="", path=None) == other._replace(
        id="", placement="", path=None
    )
    assert (one.path is None) == (other.path is None)


REFUSED = {
    "version": {"Tus-Resumable": "0.1"},
    "type": {"Content-Type": "text/plain"},
    "offset": {"Upload-Offset": "3"},
    "checksum": sha1(b"other bytes"),
    "algorithm": {"Upload-Checksum": "crc32 AAAA"},
    "length": {"Upload-Length": "5"},
}


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED)
async def test_what_is_refused_is_left_alone(
    server: Running, tmp_path: Path, wrong: dict[str, str]
) -> None:
    path = await server.create(11)
    before = await server.records(), files_below(tmp_path / "data")
    assert at_once(server, "PATCH", path, HERE | wrong, HELLO) is None
    assert (await server.records(), files_below(tmp_path / "data")) == before


@pytest.mark.parametrize("method", ["HEAD", "DELETE", "GET", "OPTIONS", "BREW"])
async def test_only_what_brings_something_is_answered(server: Running, method: str) -> None:
    path = await server.create(11)
    assert at_once(server, method, path, {}) is None


async def test_what_has_to_be_waited_for_is_left_alone(server: Running) -> None:
    path = await server.create(11)
    assert at_once(server, "POST", BASE, {"Upload-Length": "0"}) is None, "its finish"
    assert at_once(server, "POST", BASE, {"Upload-Concat": "partial", **NEW}) is None
    assert at_once(server, "PATCH", BASE + "unknown", HERE, HELLO) is None
    async with server.tus.services.locks.attempt(id_of(path)):
        assert at_once(server, "PATCH", path, HERE, HELLO) is None
    server.takes_disk_for(quick=False)
    assert at_once(server, "PATCH", path, HERE, HELLO) is None
    assert at_once(server, "POST", BASE, NEW) is None
    server.takes_disk_for(quick=True)
    assert at_once(server, "PATCH", path, HERE, HELLO) is not None


async def test_what_is_to_be_synced_is_left_alone(tmp_path: Path) -> None:
    """It is at `--fsync complete` when it ends, and at `always` whenever."""
    async with running(tmp_path) as server:
        server.takes_disk_for(quick=True)
        path = await server.create(11)
        assert at_once(server, "PATCH", path, HERE, HELLO[:5]) is not None
        there = OFFSET_TYPE | {"Upload-Offset": "5"}
        assert at_once(server, "PATCH", path, there, HELLO[5:]) is None
        assert server.size(path) == 5


async def test_where_the_application_takes_part_it_is_asked(tmp_path: Path) -> None:
    async def on_create(_: NewUpload) -> Changes | None:
        return None

    async def new_id(_: NewUpload) -> str:
        return "chosen"

    async def on_finish(_: FinishedUpload) -> None:
        return None

    async def authorize(_: Access) -> None:
        return None

    for number, hook in enumerate((on_create, new_id, on_finish, authorize)):
        hooks: dict[str, Any] = {hook.__name__: hook}
        async with running(tmp_path / f"{number}", fsync="never", **hooks) as server:
            server.takes_disk_for(quick=True)
            assert at_once(server, "POST", BASE, WHOLE, HELLO) is None
            assert await server.records() == []
            assert server.files() == []


async def test_nothing_is_begun_while_the_server_ends(server: Running) -> None:
    """Nor while it opens."""
    server.tus.interrupt()
    assert at_once(server, "POST", BASE, WHOLE, HELLO) is None
    await server.tus.stop()
    assert at_once(server, "POST", BASE, WHOLE, HELLO) is None
    await server.tus.open()
    assert at_once(server, "POST", BASE, WHOLE, HELLO) is not None


@pytest.mark.parametrize("begun", [0, 5])
async def test_where_it_cannot_be_committed_the_bytes_are_taken_back(
    server: Running, monkeypatch: pytest.MonkeyPatch, begun: int
) -> None:
    """Somebody else writes to the state just now. Bytes that were left behind an open tail would
    count, and the request that comes with them again would be at the wrong offset.
    """
    path = await server.create(11)
    if begun:
        await server.patch(path, 0, HELLO[:begun])

    def busy(*_: object, **__: object) -> Upload:
        raise NotNow

    before = len(server.files())
    with monkeypatch.context() as patched:
        patched.setattr(server.tus.state, "commit_now", busy)
        there = OFFSET_TYPE | {"Upload-Offset": str(begun)}
        assert at_once(server, "PATCH", path, there, HELLO[begun:]) is None
        assert at_once(server, "POST", BASE, WHOLE, HELLO) is None
    assert (server.size(path), len(server.files())) == (begun, before)
    assert (await server.patch(path, begun, HELLO[begun:])).status_code == 204
    assert await server.bytes_of(path) == HELLO


async def test_what_was_just_made_is_not_read_again(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of a small file come right behind its creation."""
    path = await server.create(11)
    with monkeypatch.context() as patched:
        patched.setattr(server.tus.state, "load_now", lambda _: None)
        for offset, end in ((0, 5), (5, 11)):
            there = OFFSET_TYPE | {"Upload-Offset": str(offset)}
            assert at_once(server, "PATCH", path, there, HELLO[offset:end]) is not None
    assert await server.bytes_of(path) == HELLO


async def _take_and_make_anew(other: Running, path: str) -> None:
    record = await other.record(path)
    await other.tus.state.delete(record)
    await other.tus.state.insert(record._replace(created_at=record.created_at + 1))


ELSEWHERE: dict[str, tuple[Callable[[Running, str], Awaitable[object]], int]] = {
    "paused": (lambda other, path: other.tus.state.set_paused(id_of(path), paused=True), 423),
    "slowed": (lambda other, path: other.tus.state.set_max_speed(id_of(path), 1 << 20), 204),
    "terminated": (lambda other, path: other.delete(path), 410),
    "appended": (lambda other, path: other.patch(path, 0, HELLO[:5]), 409),
    "completed": (lambda other, path: other.patch(path, 0, HELLO), 409),
    "another of its name": (_take_and_make_anew, 204),
}


@pytest.mark.parametrize(("does", "status"), ELSEWHERE.values(), ids=ELSEWHERE)
async def test_what_another_process_has_done_since_holds(
    server: Running,
    tmp_path: Path,
    does: Callable[[Running, str], Awaitable[object]],
    status: int,
) -> None:
    """What this one remembers of an upload is of a moment ago; nothing comes of it then."""
    async with running(tmp_path, fsync="never") as other:
        path = await server.create(11)
        await does(other, path)
        before = await server.records(), files_below(tmp_path / "data")
        assert at_once(server, "PATCH", path, HERE, HELLO) is None
        assert (await server.records(), files_below(tmp_path / "data")) == before
        assert (await server.patch(path, 0, HELLO)).status_code == status


async def test_where_a_server_has_it_mounted(server: Running) -> None:
    """It is found as by `__call__`; and the URL of what is created has the whole path."""
    headers = [(b"tus-resumable", b"1.0.0"), (b"upload-length", b"11"), (b"content-length", b"0")]
    for path in ("/app/files/", "/files/"):
        scope = {"method": "POST", "path": path, "root_path": "/app", "headers": headers}
        answer = server.tus.answer_at_once(scope | {"server": ("a", None)}, b"")
        assert answer is not None
        assert dict(answer[1])[b"Location"].startswith(b"http://a/app/files/")


async def test_locks_are_given_back(server: Running) -> None:
    """Whatever comes of it."""
    path = await server.create(11)
    for offset in ("7", "0", "0"):
        at_once(server, "PATCH", path, OFFSET_TYPE | {"Upload-Offset": offset}, HELLO)
        async with asyncio.timeout(10), server.tus.services.locks.attempt(id_of(path)):
            pass
