"""From a request to a WebSocket: what asks for one, and what must not pass for a request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.asgi.listening import OURS, listening
from tests.wire.loopback import until
from tusd_py.wire.http import HttpProtocol
from tusd_py.wire.limits import ConnectionLimits

pytestmark = pytest.mark.anyio

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
PING = b"\x89\x80\x00\x00\x00\x00"
CLOSE = b"\x88\x80\x00\x00\x00\x00"
OPTIONS = b"OPTIONS /next HTTP/1.1\r\nHost: x\r\n\r\n"


def handshake(method: str = "GET", version: str = "1.1", **changed: str | None) -> bytes:
    """The head of one; what is changed to None is left out."""
    headers: dict[str, str | None] = {
        "Host": "x",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
    return f"{method} /socket HTTP/{version}\r\n{lines}\r\n".encode()


class Recorder:
    """An application that notes what it is asked for.

    Attributes:
        asked: Type of the scope, method, path and body.
        gate: Cleared to keep whoever connects waiting.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kind, path = scope["type"], scope["path"]
        if kind == "websocket":
            self.asked.append((kind, "", path, b""))
            await receive()
            await self.gate.wait()
            await send({"type": "websocket.accept"})
            await receive()
            return
        message = await receive()
        self.asked.append((kind, scope["method"], path, message.get("body", b"")))
        await self.gate.wait()
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def connected(
    **options: Any,
) -> AsyncIterator[tuple[Recorder, asyncio.StreamReader, asyncio.StreamWriter, int]]:
    recorder = Recorder()
    async with listening(recorder, **(OURS | options)) as origin:
        port = int(origin.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield recorder, reader, writer, port
        finally:
            recorder.gate.set()
            writer.transport.abort()


async def head(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(30):
        return (await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")[0]


async def rest(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(30):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def test_a_request_and_then_a_handshake() -> None:
    async with connected() as (recorder, reader, writer, _):
        writer.write(OPTIONS)
        assert await head(reader) == "HTTP/1.1 200 OK"
        writer.write(handshake())
        assert await head(reader) == "HTTP/1.1 101 Switching Protocols"
        writer.write(PING + CLOSE)
        assert (await rest(reader)).startswith(b"\x8a\x00")
        assert [asked[:3] for asked in recorder.asked] == [
            ("http", "OPTIONS", "/next"),
            ("websocket", "", "/socket"),
        ]


@pytest.mark.parametrize(
    "asking",
    [
        handshake(Sec_WebSocket_Key=None),
        handshake(Sec_WebSocket_Version=None),
        handshake(Connection="keep-alive"),
        handshake(Upgrade="h2c"),
        handshake(Upgrade="websocket, h2c"),
        handshake("POST"),
    ],
)
async def test_what_asks_for_less_is_a_request(asking: bytes) -> None:
    """And what comes behind it is the next."""
    async with connected() as (recorder, reader, writer, _):
        writer.write(asking + OPTIONS)
        for _ in range(2):
            assert await head(reader) == "HTTP/1.1 200 OK"
        assert [asked[0] for asked in recorder.asked] == ["http", "http"]


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_a_handshake_with_a_body_hides_no_request(is_chunked: bool) -> None:
    """The body is that of a request; it is neither a frame nor the next request."""
    framing = {"Transfer_Encoding": "chunked"} if is_chunked else {"Content_Length": "35"}
    hidden = OPTIONS.replace(b"next", b"hide")
    assert len(hidden) == 35
    body = b"23\r\n%b\r\n0\r\n\r\n" % hidden if is_chunked else hidden
    async with connected() as (recorder, reader, writer, _):
        writer.write(handshake(**framing) + body + OPTIONS)
        for _ in range(2):
            assert await head(reader) == "HTTP/1.1 200 OK"
        assert recorder.asked == [
            ("http", "GET", "/socket", hidden),
            ("http", "OPTIONS", "/next", b""),
        ]


async def test_a_handshake_behind_an_answer_that_is_due() -> None:
    """The answers come in order, so it is a request."""
    async with connected() as (recorder, reader, writer, _):
        recorder.gate.clear()
        writer.write(OPTIONS + handshake() + OPTIONS)
        await until(lambda: len(recorder.asked) == 1)
        recorder.gate.set()
        for _ in range(3):
            assert await head(reader) == "HTTP/1.1 200 OK"
        assert [asked[0] for asked in recorder.asked] == ["http"] * 3


@pytest.mark.parametrize("early", [PING, OPTIONS])
async def test_who_does_not_wait_for_the_answer_is_refused(early: bytes) -> None:
    async with connected() as (recorder, reader, writer, _):
        writer.write(handshake() + early)
        assert await head(reader) == "HTTP/1.1 400 Bad Request"
        assert b"HTTP/1.1" not in await rest(reader)
        assert recorder.asked == []


async def test_nothing_goes_before_the_answer() -> None:
    """A ping that came too early is answered behind it."""
    async with connected() as (recorder, reader, writer, _):
        recorder.gate.clear()
        writer.write(handshake())
        await until(lambda: len(recorder.asked) == 1)
        writer.write(PING + CLOSE)
        recorder.gate.set()
        assert await head(reader) == "HTTP/1.1 101 Switching Protocols"
        assert (await rest(reader)).startswith(b"\x8a\x00")


async def test_a_head_that_is_too_much_for_the_library() -> None:
    async with connected() as (recorder, reader, writer, _):
        writer.write(handshake(X_Long="x" * 20_000))
        assert (await head(reader)).startswith("HTTP/1.1 431 ")
        await rest(reader)
        assert recorder.asked == []


async def test_a_key_that_is_none() -> None:
    async with connected() as (recorder, reader, writer, _):
        writer.write(handshake(Sec_WebSocket_Key="short"))
        assert await head(reader) == "HTTP/1.1 400 Bad Request"
        await rest(reader)
        assert recorder.asked == []


async def test_it_counts_as_a_connection_of_its_address_until_it_ends() -> None:
    limits = ConnectionLimits(most_per_address=1)
    protocol = type("Limited", (HttpProtocol,), {"limits": limits})
    async with connected(http=protocol) as (_, reader, writer, port):
        writer.write(handshake())
        assert await head(reader) == "HTTP/1.1 101 Switching Protocols"
        second, closing = await asyncio.open_connection("127.0.0.1", port)
        assert await rest(second) == b""
        closing.transport.abort()
        writer.write(CLOSE)
        await rest(reader)

        async def is_let_in() -> bool:
            third, asking = await asyncio.open_connection("127.0.0.1", port)
            asking.write(OPTIONS)
            try:
                return bool(await third.read(1))
            except ConnectionResetError:
                return False
            finally:
                asking.transport.abort()

        async with asyncio.timeout(30):
            while not await is_let_in():
                await asyncio.sleep(0.02)
