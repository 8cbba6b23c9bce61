"""What has ended is let go of at once: to wait for the garbage collector costs all others time."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvicorn
from uvicorn.server import ServerState

from tests.wire.loopback import Client, until
from tusd_py import DiskStorage, TusApp
from tusd_py.asgi.responding import Exchange
from tusd_py.hooks.interface import Access
from tusd_py.wire.body import SocketBody
from tusd_py.wire.cycle import Cycle
from tusd_py.wire.http import HttpProtocol
from tusd_py.wire.server import few_collections
from tusd_py.wire.websocket import WebSocketProtocol

pytestmark = pytest.mark.anyio

LARGE = 300_000


def request(method: str, path: str, *, length: int = 0, **headers: object) -> bytes:
    """The head of a request."""
    given = {"Host": "a", "Tus-Resumable": "1.0.0", "Content-Length": length} | headers
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()


def append(path: str, offset: int, length: int) -> bytes:
    """The head of a PATCH."""
    content = {"Upload_Offset": offset, "Content_Type": "application/offset+octet-stream"}
    return request("PATCH", path, length=length, **content)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The event loop of these tests."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the garbage collector for the length of a test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


SENT = {
    "nothing": b"",
    "half a head": b"POST / HT",
    "a creation": request("POST", "/", Upload_Length=5),
    "a refused creation": request("POST", "/", Upload_Length=-5),
    "a small append": append("/ID", 0, 5) + b"hello",
    "half a small append": append("/ID", 0, 5) + b"hel",
    "a large append": append("/ID", 0, LARGE) + bytes(LARGE),
    "half a large append": append("/ID", 0, LARGE) + bytes(LARGE // 2),
    "a refused append": append("/ID", 7, 5) + b"hello",
    "a large one refused": append("/ID", 7, LARGE) + bytes(LARGE),
    "an append to nothing": append("/nothing", 0, LARGE) + bytes(LARGE),
    "an append in chunks": append("/ID", 0, 0).replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    + b"5\r\nhello\r\n0\r\n\r\n",
    "one answered behind another": request("HEAD", "/ID") + append("/ID", 0, 5) + b"hello",
    "requests behind a half": append("/ID", 0, 5) + b"hello" + append("/ID", 5, LARGE) + b"half",
    "a HEAD": request("HEAD", "/ID"),
    "a HEAD of nothing": request("HEAD", "/nothing"),
    "a download": request("GET", "/ID"),
    "a termination": request("DELETE", "/ID"),
    "a WebSocket": b"GET /ID/events HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "no HTTP": b"\r\r\rhello\r\n\r\n",
}


async def connected(port: int) -> Client:
    """A client."""
    client = Client()
    await client.connect(port)
    return client


def left() -> list[object]:
    """What is not let go of."""
    kinds = (HttpProtocol, Cycle, SocketBody, Exchange)
    return [each for each in gc.get_objects() if isinstance(each, kinds)]


@asynccontextmanager
async def serving(tus: TusApp) -> AsyncIterator[tuple[int, ServerState]]:
    """A server of it: the port, and what uvicorn knows of it."""
    config = uvicorn.Config(
        tus, http=HttpProtocol, ws=WebSocketProtocol, log_config=None, proxy_headers=False
    )
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    async with tus.lifespan():
        server = await loop.create_server(
            lambda: HttpProtocol(config, state, {}, loop), "127.0.0.1", 0
        )
        try:
            yield server.sockets[0].getsockname()[1], state
        finally:
            server.close()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("sent", SENT)
async def test_a_connection_that_has_ended(tmp_path: Path, sent: str) -> None:
    """Of each client that left, some ten KiB would be kept until everything is looked at."""
    async with serving(TusApp(DiskStorage(tmp_path))) as (port, state):
        first = await connected(port)
        await first.send(request("POST", "/", Upload_Length=LARGE))
        made = (await first.answer()).decode()
        upload_id = made.partition("Location: ")[2].partition("\r\n")[0].rpartition("/")[2]
        first.close()
        client = await connected(port)
        await client.send(SENT[sent].replace(b"ID", upload_id.encode()))
        client.half_close()
        with suppress(ConnectionError):
            await client.rest()
        client.close()
        await until(lambda: not state.connections and not state.tasks)
        # One that was refused is let go of some seconds later.
        await until(lambda: not left())


@pytest.mark.usefixtures("no_collector")
async def test_requests_that_nobody_waits_for_any_more(tmp_path: Path) -> None:
    """They wait behind one that is under way when the client leaves."""
    gate = asyncio.Event()

    async def authorize(_: Access) -> None:
        await gate.wait()

    async with serving(TusApp(DiskStorage(tmp_path), authorize=authorize)) as (port, state):
        client = await connected(port)
        await client.send(3 * request("HEAD", "/nothing"))
        await until(lambda: state.tasks)
        client.reset()
        gate.set()
        await until(lambda: not state.connections and not state.tasks)
        await until(lambda: not left())


def test_a_server_looks_at_everything_seldom() -> None:
    """With 2,000 clients in the middle of a body that takes 0.2 s, in which nobody is answered."""
    before = gc.get_threshold()
    with few_collections():
        assert gc.get_threshold() == (*before[:2], 1000)
        assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
