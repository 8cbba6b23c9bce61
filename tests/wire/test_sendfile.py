"""A file goes out whole, to its own client only, and a slow client has no thread."""

import asyncio
import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tusd_py.wire import sendfile
from tusd_py.wire.bursts import Threads
from tusd_py.wire.sendfile import Piece, send_file

pytestmark = pytest.mark.anyio

MIB = 1 << 20
CONTENT = random.Random(4).randbytes(8 * MIB + 17)
SMALL = 32 << 10
"""Bytes that a socket of these tests buffers, so that a client that does not read is soon slow."""


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: they buffer, and close, in their own ways."""
    return "asyncio", {"use_uvloop": request.param}


class Pool(Threads):
    """Counts who has a thread, and who waits for one."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._counting = threading.Lock()
        self.busy = self.waiting = self.most = self.begun = 0

    def submit(self, job: Callable[[], None]) -> None:
        def counted() -> None:
            with self._counting:
                self.waiting -= 1
                self.begun += 1
                self.busy += 1
                self.most = max(self.most, self.busy)
            try:
                job()
            finally:
                with self._counting:
                    self.busy -= 1

        with self._counting:
            self.waiting += 1
        super().submit(counted)


@contextmanager
def pool_of(most: int) -> Iterator[Pool]:
    made = Pool(most)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pool() -> Iterator[Pool]:
    with pool_of(4) as made:
        yield made


class Side(asyncio.Protocol):
    """The server's side of a connection."""

    transport: asyncio.Transport
    flow: FlowControl

    def __init__(self) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.flow = FlowControl(self.transport)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)

    def connection_lost(self, _: Exception | None) -> None:
        self.lost.set_result(None)
        self.flow.resume_writing()

    def pause_writing(self) -> None:
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self.flow.resume_writing()

    @property
    def socket(self) -> socket.socket:
        found: socket.socket = self.transport.get_extra_info("socket")
        return found

    async def send(self, file: int, offset: int, count: int, pool: Pool) -> int:
        piece = Piece(file=file, offset=offset, count=count)
        return await send_file(
            self.transport, piece, drained=self.flow.drain, lost=self.lost, threads=pool
        )


class Listener:
    """A server on loopback, and the clients of it."""

    def __init__(self, port: int, sides: "asyncio.Queue[Side]") -> None:
        self._port = port
        self._sides = sides
        self._clients: list[socket.socket] = []

    def client(self) -> socket.socket:
        client = socket.socket()
        self._clients.append(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        client.setblocking(False)
        return client

    async def connect(self, client: socket.socket | None = None) -> tuple[Side, socket.socket]:
        client = client or self.client()
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self._port))
        return await asyncio.wait_for(self._sides.get(), 10), client

    def close(self) -> None:
        for client in self._clients:
            client.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    loop = asyncio.get_running_loop()
    sides: asyncio.Queue[Side] = asyncio.Queue()
    made: list[Side] = []

    class Queued(Side):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            made.append(self)
            sides.put_nowait(self)

    server = await loop.create_server(Queued, "127.0.0.1", 0)
    listener = Listener(server.sockets[0].getsockname()[1], sides)
    try:
        yield listener
    finally:
        listener.close()
        server.close()
        for side in made:
            side.transport.abort()
            await side.lost
        await asyncio.sleep(0.01)  # uvloop closes descriptors an iteration later


@pytest.fixture
async def listener(anyio_backend: object) -> AsyncIterator[Listener]:
    async with listening() as found:
        yield found


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("r+b") as opened:
        yield opened.fileno()


async def read(client: socket.socket, count: int) -> bytes:
    """So many bytes, or as many as come before the end."""
    loop, came = asyncio.get_running_loop(), bytearray()
    while len(came) < count:
        piece = await asyncio.wait_for(loop.sock_recv(client, 1 << 18), 20)
        if not piece:
            break
        came += piece
    return bytes(came)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.002)


async def parked(pool: Pool) -> None:
    """Until those who have begun wait for their clients without a thread."""
    await until(lambda: pool.begun > 0)
    await until(lambda: pool.busy == pool.waiting == 0)


async def quiet(pool: Pool) -> None:
    """Until nobody has had a thread for a while."""
    async with asyncio.timeout(10):
        begun = -1
        while (pool.busy, pool.begun) != (0, begun):
            begun = pool.begun
            await asyncio.sleep(0.2)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Gate:
    """Stands in for `os.sendfile`: its `number`-th call waits for `opened`."""

    def __init__(self, number: int) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._left = number
        self._sendfile = os.sendfile

    def __call__(self, to: int, file: int, offset: int, count: int) -> int:
        self._left -= 1
        if not self._left:
            self.reached.set()
            assert self.opened.wait(10)
        return self._sendfile(to, file, offset, count)


@contextmanager
def gated(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[Gate]:
    gate = Gate(number)
    with monkeypatch.context() as patch:
        patch.setattr(os, "sendfile", gate)
        try:
            yield gate
        finally:
            gate.opened.set()


@pytest.mark.parametrize("size", [0, 1, 5 * MIB])
async def test_what_was_written_before_comes_before(
    listener: Listener, pool: Pool, file: int, size: int
) -> None:
    """The head would otherwise land in the middle of the file."""
    side, client = await listener.connect()
    limits = side.transport.get_write_buffer_limits()
    head = b"h" * size
    side.transport.write(head)
    sent = asyncio.create_task(side.send(file, 0, len(CONTENT), pool))
    came = await read(client, size + len(CONTENT))
    assert came == head + CONTENT
    assert await sent == len(CONTENT)
    assert side.transport.get_write_buffer_limits() == limits
    side.transport.write(b"next")
    assert await read(client, 4) == b"next"


@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (0, 1, CONTENT[:1]),
        (1, 3 * MIB, CONTENT[1 : 1 + 3 * MIB]),
        (len(CONTENT) - 5, 5, CONTENT[-5:]),
        (len(CONTENT) - 5, 1 << 40, CONTENT[-5:]),
        (7, 0, b""),
        (len(CONTENT), 9, b""),
        (1 << 40, 9, b""),
    ],
)
async def test_a_part(
    listener: Listener, pool: Pool, file: int, offset: int, count: int, expected: bytes
) -> None:
    """The file's own position is somebody else's."""
    side, client = await listener.connect()
    os.lseek(file, 3, os.SEEK_SET)
    sent = asyncio.create_task(side.send(file, offset, count, pool))
    assert await read(client, len(expected)) == expected
    assert await sent == len(expected)
    assert os.lseek(file, 0, os.SEEK_CUR) == 3


async def test_beyond_what_one_call_can_take(listener: Listener, pool: Pool, file: int) -> None:
    """Files are larger than 2 GiB."""
    os.pwrite(file, b"the end", 5 << 30)
    side, client = await listener.connect()
    sent = asyncio.create_task(side.send(file, (5 << 30) - MIB, 3 << 30, pool))
    assert (await read(client, MIB + 7))[-8:] == b"\0the end"
    assert await sent == MIB + 7


async def test_a_slow_client_has_no_thread(listener: Listener, pool: Pool, file: int) -> None:
    """Some who do not read would otherwise keep all others from their files."""
    side, client = await listener.connect()
    sent = asyncio.create_task(side.send(file, 0, len(CONTENT), pool))
    came = b""
    for _ in range(3):
        await quiet(pool)
        begun = pool.begun
        came += await read(client, MIB)
        await until(lambda begun=begun: pool.begun > begun)  # type: ignore[misc]
    came += await read(client, len(CONTENT) - len(came))
    assert came == CONTENT
    assert await sent == len(CONTENT)


async def test_many_slow_clients_and_few_threads(listener: Listener, pool: Pool, file: int) -> None:
    """Everyone gets the file, and meanwhile nobody owns a thread."""
    count = 200
    pairs = [await listener.connect() for _ in range(count)]
    before = descriptors()
    sent = [asyncio.create_task(side.send(file, 0, MIB, pool)) for side, _ in pairs]
    await until(lambda: pool.begun >= count)
    await parked(pool)
    assert not any(task.done() for task in sent)
    assert descriptors() == before + count
    for came in await asyncio.gather(*(read(client, MIB) for _, client in pairs)):
        assert came == CONTENT[:MIB]
    assert await asyncio.gather(*sent) == [MIB] * count
    assert pool.most <= 4
    assert descriptors() == before


async def test_who_takes_fast_does_not_keep_the_thread(
    listener: Listener, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file to a fast client would otherwise hold a thread for its whole length."""
    (fast, _), (other, client) = [await listener.connect() for _ in range(2)]
    endless = os.dup(file)
    sendfile = os.sendfile

    def never_full(to: int, given: int, offset: int, count: int) -> int:
        if given != endless:
            return sendfile(to, given, offset, count)
        time.sleep(0.001)
        return count

    monkeypatch.setattr(os, "sendfile", never_full)
    with pool_of(1) as pool:
        long = asyncio.create_task(fast.send(endless, 0, 1 << 50, pool))
        await until(lambda: pool.busy == 1)
        short = asyncio.create_task(other.send(file, 0, MIB, pool))
        assert len(await read(client, MIB)) == MIB
        assert await short == MIB
        assert not long.done()
        fast.transport.abort()
        with pytest.raises(ConnectionError):
            await long
    os.close(endless)


@pytest.mark.parametrize("is_reset", [True, False], ids=["reset", "closed"])
async def test_a_client_that_goes_away_while_it_is_waited_for(
    listener: Listener, pool: Pool, file: int, is_reset: bool
) -> None:
    """Its file and its descriptor are let go of."""
    before = descriptors()
    side, client = await listener.connect()
    sent = asyncio.create_task(side.send(file, 0, len(CONTENT), pool))
    await parked(pool)
    if not is_reset:
        side.transport.pause_reading()  # then only sending tells
        await read(client, MIB)
    client.close()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(sent, 10)
    side.transport.abort()
    await side.lost
    await until(lambda: descriptors() == before)


async def test_a_client_that_goes_away_in_a_burst(
    listener: Listener, pool: Pool, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    side, client = await listener.connect()
    with gated(monkeypatch, 2) as gate:
        sent = asyncio.create_task(side.send(file, 0, len(CONTENT), pool))
        await until(gate.reached.is_set)
        client.close()
        await side.lost
        assert not sent.done()
        gate.opened.set()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sent, 10)


@pytest.mark.parametrize("code", sorted(sendfile._UNREACHABLE))
async def test_what_the_network_says_of_a_client(
    listener: Listener, pool: Pool, file: int, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A cable that was pulled is not a broken disk."""
    side, _ = await listener.connect()

    def fail(*_: int) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "sendfile", fail)
    with pytest.raises(ConnectionError):
        await side.send(file, 0, 1, pool)


async def test_a_file_that_cannot_be_read_is_not_taken_for_a_client_that_left(
    listener: Listener, pool: Pool
) -> None:
    before = descriptors()
    side, _ = await listener.connect()
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError) as raised:
            await side.send(writing, 0, 1, pool)
    finally:
        os.close(reading)
        os.close(writing)
    assert not isinstance(raised.value, ConnectionError)
    assert descriptors() == before + 2


async def test_a_connection_that_takes_the_descriptor_gets_none_of_it(
    listener: Listener, pool: Pool, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of one client's file must never reach another."""
    side, client = await listener.connect()
    number = side.socket.fileno()
    waiting = [listener.client() for _ in range(20)]
    with gated(monkeypatch, 2) as gate:
        sent = asyncio.create_task(side.send(file, 0, len(CONTENT), pool))
        await until(gate.reached.is_set)
        side.transport.abort()
        await side.lost
        await asyncio.sleep(0.01)
        for unconnected in waiting:
            other, its_client = await listener.connect(unconnected)
            if other.socket.fileno() == number:
                break
        assert other.socket.fileno() == number, "nobody took the number"
        gate.opened.set()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sent, 10)
    other.transport.write(b"mine")
    other.transport.close()
    assert await read(its_client, 100) == b"mine"
    came = await read(client, len(CONTENT))
    assert CONTENT.startswith(came)


async def test_a_transport_that_is_closed_while_the_client_is_waited_for(
    listener: Listener, pool: Pool, file: int
) -> None:
    """The client of a server that ends must see the end, and not wait for ever."""
    side, client = await listener.connect()
    sent = asyncio.create_task(side.send(file, 0, len(CONTENT), pool))
    await parked(pool)
    side.transport.close()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(sent, 10)
    came = await read(client, len(CONTENT))
    assert CONTENT.startswith(came)
    assert len(came) < len(CONTENT)


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_transport_that_is_closed_before(
    listener: Listener, pool: Pool, file: int, is_full: bool
) -> None:
    """Its number may be another's already; and what it still holds is not waited for for ever."""
    side, _ = await listener.connect()
    if is_full:
        side.transport.write(bytes(5 * MIB))
        sent = asyncio.create_task(side.send(file, 0, 1, pool))
        await asyncio.sleep(0.01)
        side.transport.abort()
    else:
        side.transport.abort()
        sent = asyncio.create_task(side.send(file, 0, 1, pool))
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(sent, 10)
    assert pool.begun == 0


async def test_a_file_that_becomes_shorter(listener: Listener, pool: Pool, file: int) -> None:
    """What is missing is told, and nothing else is sent in its place."""
    side, client = await listener.connect()
    sent = asyncio.create_task(side.send(file, 0, len(CONTENT), pool))
    await parked(pool)
    left = 6 * MIB
    os.ftruncate(file, left)
    assert await read(client, left) == CONTENT[:left]
    assert await asyncio.wait_for(sent, 10) == left


@pytest.mark.parametrize("how", ["task", "scope"])
async def test_cancelled_in_a_burst(
    listener: Listener, pool: Pool, file: int, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A thread that outlives it would send from a descriptor that is another file by then."""
    side, _ = await listener.connect()
    before = descriptors()
    scope = anyio.CancelScope()
    ended = False

    async def send() -> None:
        nonlocal ended
        with scope:
            try:
                await side.send(file, 0, len(CONTENT), pool)
            finally:
                ended = True

    with gated(monkeypatch, 2) as gate:
        task = asyncio.create_task(send())
        await until(gate.reached.is_set)
        for _ in range(3):
            task.cancel() if how == "task" else scope.cancel()
            await asyncio.sleep(0.01)
            assert not ended
        gate.opened.set()
        if how == "task":
            with pytest.raises(asyncio.CancelledError):
                await task
        await until(lambda: ended)
        await asyncio.wait((task,))
    await until(lambda: (pool.busy, descriptors()) == (0, before))


async def test_cancelled_while_the_client_takes_all(
    listener: Listener, pool: Pool, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The burst is told: it would otherwise go on to the end of the file."""

    def never_full(_to: int, _file: int, _offset: int, count: int) -> int:
        time.sleep(0.001)
        return count

    monkeypatch.setattr(os, "sendfile", never_full)
    side, _ = await listener.connect()
    task = asyncio.create_task(side.send(file, 0, 10_000 * sendfile._PIECE, pool))
    await until(lambda: pool.busy == 1)
    task.cancel()
    await asyncio.wait((task,), timeout=5)
    assert task.cancelled()


async def test_cancelled_while_the_client_is_waited_for(
    listener: Listener, pool: Pool, file: int
) -> None:
    side, _ = await listener.connect()
    before = descriptors()
    task = asyncio.create_task(side.send(file, 0, len(CONTENT), pool))
    await parked(pool)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert descriptors() == before


async def test_cancelled_while_it_waits_for_a_thread(listener: Listener, file: int) -> None:
    """Nobody has to wait for a thread in order to stop."""
    held = threading.Event()

    def hold() -> None:
        held.wait(10)

    with pool_of(1) as pool:
        pool.submit(hold)
        try:
            side, _ = await listener.connect()
            before = descriptors()
            task = asyncio.create_task(side.send(file, 0, len(CONTENT), pool))
            await until(lambda: pool.waiting == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 2)
            assert descriptors() == before
        finally:
            held.set()


Message = MutableMapping[str, Any]
App = Callable[[Any, Any, Callable[[Message], Awaitable[None]]], Awaitable[None]]


@asynccontextmanager
async def serving(app: App, pool: Pool) -> AsyncIterator[socket.socket]:
    """The protocol of uvicorn with `answer` in it, and a connection to it."""
    config = uvicorn.Config(app, log_config=None, ws="none", lifespan="off")
    loop = asyncio.get_running_loop()
    lost = loop.create_future()

    class Protocol(HttpToolsProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(None)
            super().connection_lost(exc)

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            cycle = self.cycle
            plain = cycle.send

            async def send(message: Any) -> None:
                is_open = cycle.response_started and not cycle.response_complete
                if message["type"] in sendfile.EXTENSIONS and is_open and not cycle.disconnected:
                    more = await sendfile.answer(cycle, message, lost=lost, threads=pool)
                    message = {"type": "http.response.body", "more_body": more}
                await plain(message)

            cycle.send = send  # type: ignore[method-assign]

    def protocol() -> Protocol:
        return Protocol(config=config, server_state=ServerState(), app_state={})

    server = await loop.create_server(protocol, "127.0.0.1", 0)
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, server.sockets[0].getsockname())
        yield client
    server.close()
    await lost


def start(length: int | None = None) -> Message:
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def zero(file: Any, **given: Any) -> Message:
    return {"type": "http.response.zerocopysend", "file": file, **given}


def body(content: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def ask(client: socket.socket, method: str = "GET") -> tuple[bytes, bytes]:
    """The head of an answer, and as much of the body as came with it."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, method.encode() + b" / HTTP/1.1\r\nHost: x\r\n\r\n")
    came = b""
    while b"\r\n\r\n" not in came:
        piece = await asyncio.wait_for(loop.sock_recv(client, 65536), 10)
        assert piece, came
        came += piece
    head, _, rest = came.partition(b"\r\n\r\n")
    return head, rest


def sending(*messages: Message) -> App:
    async def app(_scope: Any, _receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        for message in messages:
            await send(dict(message))

    return app


async def test_messages_and_the_next_request(pool: Pool, file: int) -> None:
    """With a length, in turns with other bytes; and the connection goes on."""
    messages = (
        start(len(CONTENT) + 6),
        body(b"abc", more=True),
        zero(file, offset=2, count=5, more_body=True),
        body(b"def", more=True),
        zero(file, offset=7, more_body=True),
        zero(file, offset=0, count=2),
    )
    expected = b"abc" + CONTENT[2:7] + b"def" + CONTENT[7:] + CONTENT[:2]
    async with serving(sending(*messages), pool) as client:
        for _ in range(2):
            head, rest = await ask(client)
            assert head.startswith(b"HTTP/1.1 200")
            assert rest + await read(client, len(expected) - len(rest)) == expected


async def test_messages_in_chunks(pool: Pool, file: int) -> None:
    """Without a length each piece is a chunk; one without bytes would be the end of them."""
    messages = (
        start(),
        zero(file, offset=0, count=5, more_body=True),
        zero(file, offset=len(CONTENT), more_body=True),
        zero(file, offset=len(CONTENT) - 2, count=999),
    )
    expected = b"5\r\n" + CONTENT[:5] + b"\r\n2\r\n" + CONTENT[-2:] + b"\r\n0\r\n\r\n"
    async with serving(sending(*messages), pool) as client:
        for _ in range(2):
            _, rest = await ask(client)
            assert rest + await read(client, len(expected) - len(rest)) == expected


@pytest.mark.parametrize("is_object", [False, True])
async def test_from_where_the_file_stands(pool: Pool, file: int, is_object: bool) -> None:
    """ASGI: without an offset it is read from its position, which then moves."""
    os.lseek(file, 10, os.SEEK_SET)
    with open(file, "rb", closefd=False) as opened:
        given = opened if is_object else file
        if is_object:
            opened.read(1)  # its descriptor is ahead of it now
            assert opened.tell() == 11
            opened.seek(-1, os.SEEK_CUR)
        messages = (start(9), zero(given, count=4, more_body=True), zero(given, count=5))
        async with serving(sending(*messages), pool) as client:
            _, rest = await ask(client)
            assert rest + await read(client, 9 - len(rest)) == CONTENT[10:19]
            stands = opened.tell if is_object else lambda: os.lseek(file, 0, os.SEEK_CUR)
            await until(lambda: stands() == 19)


async def test_a_path(pool: Pool, file: int, tmp_path: Path) -> None:
    path = {"type": "http.response.pathsend", "path": str(tmp_path / "file")}
    async with serving(sending(start(len(CONTENT)), path), pool) as client:
        for _ in range(2):
            _, rest = await ask(client)
            assert rest + await read(client, len(CONTENT) - len(rest)) == CONTENT

    def opened() -> list[str]:
        numbers = os.listdir("/proc/self/fd")
        return [os.path.realpath(f"/proc/self/fd/{number}") for number in numbers]

    # The client has the last byte a moment before the thread closes the file.
    await until(lambda: opened().count(str(tmp_path / "file")) == 1)


async def test_head_has_no_body(pool: Pool, file: int) -> None:
    async with serving(sending(start(len(CONTENT)), zero(file, offset=0)), pool) as client:
        for _ in range(2):
            head, rest = await ask(client, "HEAD")
            assert b"content-length: %d" % len(CONTENT) in head
            assert rest == b""
    assert pool.begun == 0


@pytest.mark.parametrize("count", [len(CONTENT) - 1, len(CONTENT) + 1])
async def test_what_is_not_as_long_as_announced_ends_the_connection(
    pool: Pool, file: int, count: int
) -> None:
    """The client must not take a part for the whole, nor a rest for the next answer."""
    async with serving(sending(start(count), zero(file, offset=0)), pool) as client:
        _, rest = await ask(client)
        assert len(rest + await read(client, 2 * len(CONTENT))) < count


@pytest.mark.parametrize("length", [None, len(CONTENT)])
async def test_a_file_that_becomes_shorter_ends_the_connection(
    pool: Pool, file: int, length: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gated(monkeypatch, 1) as gate:
        async with serving(sending(start(length), zero(file, offset=0)), pool) as client:
            asking = asyncio.create_task(ask(client))
            await until(gate.reached.is_set)
            os.ftruncate(file, 100)
            gate.opened.set()
            _, rest = await asking
            rest += await read(client, len(CONTENT))
            assert rest.endswith(CONTENT[:100])


async def test_a_client_that_left_is_no_failure_of_the_application(pool: Pool, file: int) -> None:
    """As with any other message: what is sent to nobody is dropped."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        await sending(start(1 << 30), zero(file, offset=0, more_body=True), body(b"x"))(
            scope, receive, send
        )
        ended.set_result(None)

    async with serving(app, pool) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        await ask(client)
        client.close()
        await asyncio.wait_for(ended, 10)


async def test_what_follows_a_file_that_was_given_up_is_not_sent(pool: Pool, file: int) -> None:
    """It would stand in the middle of the file, and the length would be right."""

    async def app(_scope: Any, _receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        await send(start(64 * MIB + 4))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await send(zero(file, offset=0, count=64 * MIB, more_body=True))
        await send(body(b"tail"))

    os.ftruncate(file, 64 * MIB)
    async with serving(app, pool) as client:
        _, rest = await ask(client)
        await asyncio.sleep(0.5)
        rest += await read(client, 65 * MIB)
        assert len(rest) < 64 * MIB
        assert not rest.endswith(b"tail")
