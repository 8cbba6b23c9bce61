"""The real protocol class on loopback, in the process of the test, and clients made by hand."""

import asyncio
import contextlib
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from tusd_py.body import Received
from tusd_py.wire.body import SocketBody
from tusd_py.wire.http import HttpProtocol

WITHIN = 20.0
KIB = 1 << 10
MIB = 1 << 20

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Disk:
    """A file whose descriptor can be kept waiting, or refused.

    Attributes:
        opened: How often it was opened again after a release.
        gate: Cleared to let whoever wants the descriptor wait.
        waits: Set when somebody does.
        fails: What the next who wants the descriptor gets instead.
        room: What was announced: from where, and how many bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened = 0
        self.gate = threading.Event()
        self.gate.set()
        self.waits = threading.Event()
        self.fails: OSError | None = None
        self.room: list[tuple[int, int]] = []
        self._descriptor: int | None = None
        if not path.exists():
            path.touch()

    @property
    def is_open(self) -> bool:
        return self._descriptor is not None

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    def descriptor(self) -> int:
        if not self.gate.is_set():
            self.waits.set()
            assert self.gate.wait(WITHIN)
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error
        if self._descriptor is None:
            self.opened += 1
            self._descriptor = os.open(self.path, os.O_WRONLY)
        return self._descriptor

    def make_room(self, offset: int, count: int) -> None:
        self.room.append((offset, count))

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


@dataclass
class Exchange:
    """One request as its application saw it."""

    scope: Scope
    receive: Receive
    send: Send
    body: SocketBody | None
    disk: Disk
    task: "asyncio.Task[Any] | None"
    received: Received | None = None
    error: BaseException | None = None

    async def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """A whole response of a known length."""
        named = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
        named.append((b"content-length", b"%d" % len(body)))
        await self.send({"type": "http.response.start", "status": status, "headers": named})
        await self.send({"type": "http.response.body", "body": body})

    async def save(self, at_most: int | None = None, **options: Any) -> Received:
        """Stores the body in the disk of this request."""
        assert self.body is not None, "no socket body was offered"
        most = length_of(self.scope) if at_most is None else at_most
        try:
            self.received = await self.body.save(self.disk, 0, most, **options)
        except BaseException as error:
            self.error = error
            raise
        return self.received


Handler = Callable[[Exchange], Awaitable[None]]
AtOnce = Callable[[Scope, bytes], tuple[int, list[tuple[bytes, bytes]], bytes] | None]


def length_of(scope: Scope) -> int:
    return int(dict(scope["headers"]).get(b"content-length", b"0"))


async def store(exchange: Exchange) -> None:
    """Saves the body, and answers with how much of it came, and what ended it."""
    received = await exchange.save()
    assert exchange.body is not None
    close = {} if exchange.body.is_ended else {"Connection": "close"}
    await exchange.answer(200, f"{received.count} {received.ended_by.value}".encode(), **close)


@dataclass
class Loopback:
    """A server, and what came to it; the newest request is the last."""

    port: int
    state: ServerState
    exchanges: list[Exchange] = field(default_factory=list)
    protocols: list[HttpProtocol] = field(default_factory=list)
    clients: "list[Client]" = field(default_factory=list)
    at_exit: Callable[[], None] = lambda: None

    @property
    def last(self) -> Exchange:
        return self.exchanges[-1]

    async def client(self, **options: int) -> "Client":
        """A new connection; the options are of the socket, such as `SO_SNDBUF`."""
        client = Client()
        self.clients.append(client)
        for name, value in options.items():
            client.socket.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        await client.connect(self.port)
        return client

    async def patching(self, length: int, *more: bytes, **headers: str) -> "Client":
        """A connection whose request of so many bytes has reached the application."""
        client, before = await self.client(), len(self.exchanges)
        await client.send(patch(length, **headers) + b"".join(more))
        await until(lambda: len(self.exchanges) > before)
        return client


class Client:
    """One connection, byte by byte."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self._came = b""

    async def connect(self, port: int) -> None:
        await asyncio.get_running_loop().sock_connect(self.socket, ("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(WITHIN):  # `wait_for` would swallow a cancellation at times
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def _more(self) -> bytes:
        async with asyncio.timeout(WITHIN):
            return await asyncio.get_running_loop().sock_recv(self.socket, 1 << 18)

    async def answer(self) -> bytes:
        """The next response, or interim one: its head, and its body of a known length."""
        while b"\r\n\r\n" not in self._came:
            assert await self._fetch(), f"closed after {self._came!r}"
        head, _, rest = self._came.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            name, _, value = line.partition(b":")
            length = int(value) if name == b"content-length" else length
        self._came = rest
        while len(self._came) < length:
            assert await self._fetch(), f"closed after {self._came!r}"
        body, self._came = self._came[:length], self._came[length:]
        return head + b"\r\n\r\n" + body

    async def rest(self) -> bytes:
        """All that comes until the server closes; a reset counts as that."""
        with contextlib.suppress(ConnectionResetError):
            while await self._fetch():
                continue
        came, self._came = self._came, b""
        return came

    async def is_silent(self, seconds: float) -> bool:
        """Whether nothing comes for a while, not even the end."""
        loop = asyncio.get_running_loop()
        try:
            self._came += await asyncio.wait_for(loop.sock_recv(self.socket, 1 << 18), seconds)
        except TimeoutError:
            return True
        return False

    async def _fetch(self) -> bool:
        piece = await self._more()
        self._came += piece
        return bool(piece)

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def patch(length: int, path: str = "/", **headers: str) -> bytes:
    """The head of a request with a body of a known length."""
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"PATCH {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{named}\r\n".encode()


OPTIONS = b"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(
    tmp_path: Path, handler: Handler = store, *, at_once: AtOnce | None = None, **options: Any
) -> AsyncIterator[Loopback]:
    """A server whose application is `handler`, for the length of a `with` block.

    Its `OPTIONS` are answered with 204. Nothing may be left behind: no task, no descriptor. What
    `at_once` answers, the application is not called for.
    """
    loop, state = asyncio.get_running_loop(), ServerState()
    loopback = Loopback(port=0, state=state)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        make = scope["extensions"].get("tusd_py.body")
        limits = scope["state"].get("limits", {"idle_timeout": 30.0, "slowest_speed": 0.0})
        disk = Disk(tmp_path / f"{len(loopback.exchanges)}")
        task = asyncio.current_task()
        body = make(**limits) if make is not None else None
        exchange = Exchange(scope, receive, send, body, disk, task)
        loopback.exchanges.append(exchange)
        try:
            if scope["method"] == "OPTIONS":
                await exchange.answer(204)
            else:
                await handler(exchange)
        finally:
            disk.release()

    if at_once is not None:
        app.answer_at_once = at_once  # type: ignore[attr-defined]
    config = uvicorn.Config(app, http=HttpProtocol, ws="none", log_config=None, access_log=False)
    config.proxy_headers = at_once is None  # that is an application of its own
    config.load()

    def protocol() -> HttpProtocol:
        made = HttpProtocol(config, state, {"limits": options} if options else {}, loop)
        loopback.protocols.append(made)
        return made

    server = await loop.create_server(protocol, "127.0.0.1", 0)
    loopback.port = server.sockets[0].getsockname()[1]
    before = descriptors()
    try:
        yield loopback
    finally:
        # Whatever a test that failed keeps waiting would never end.
        loopback.at_exit()
        for exchange in loopback.exchanges:
            exchange.disk.gate.set()
        for client in loopback.clients:
            client.close()
        await until(lambda: not state.tasks and not state.connections)
        await until(lambda: descriptors() <= before)
        server.close()
        for made in loopback.protocols:
            made.workshop.close()


async def until(holds: Callable[[], object], within: float = WITHIN) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.002)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def pattern(size: int) -> bytes:
    """Bytes of which no two blocks are alike, so that one in the wrong place shows."""
    return b"".join(number.to_bytes(8, "big") for number in range((size + 7) // 8))[:size]
