"""The body over `receive()`: which bytes land where, and what ends it."""

import asyncio
import hashlib
import os
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.asgi.in_process import until
from tusd_py.asgi import body as asgi_body
from tusd_py.asgi.body import ReceiveBody
from tusd_py.body import EndedBy, Reason, Received

pytestmark = pytest.mark.anyio

Message = MutableMapping[str, Any]


class Client:
    """What an ASGI server hands over, piece by piece; `handed` counts bytes that were taken."""

    def __init__(self, *pieces: bytes, end: str = "end") -> None:
        self.queue: asyncio.Queue[Message] = asyncio.Queue()
        self.handed = 0
        self._is_waited_for = False
        for number, piece in enumerate(pieces):
            self.feed(piece, more=end != "end" or number < len(pieces) - 1)
        if end == "vanish":
            self.vanish()

    def feed(self, piece: bytes, *, more: bool = True) -> None:
        self.queue.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def vanish(self) -> None:
        self.queue.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> Message:
        assert not self._is_waited_for, "ASGI has one receiver at a time"
        self._is_waited_for = True
        message = await self.queue.get()
        self._is_waited_for = False
        self.handed += len(message.get("body", b""))
        return message

    def body(self, idle_timeout: float = 5.0, slowest_speed: float = 0.0) -> ReceiveBody:
        return ReceiveBody(self.receive, idle_timeout=idle_timeout, slowest_speed=slowest_speed)


class Handle:
    """A file that is open."""

    def __init__(self, path: Path, flags: int) -> None:
        self._descriptor = os.open(path, flags)

    def descriptor(self) -> int:
        return self._descriptor

    def make_room(self, offset: int, count: int) -> None:
        """Not looked at."""

    def release(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Handle]:
    handle = Handle(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield handle
    handle.release()


def content(file: Handle) -> bytes:
    return os.pread(file.descriptor(), os.fstat(file.descriptor()).st_size, 0)


@pytest.mark.parametrize(
    ("pieces", "end", "at_most", "stored", "ended_by"),
    [
        ((b"hello",), "end", 5, b"hello", EndedBy.END),
        ((b"he", b"", b"llo"), "end", 5, b"hello", EndedBy.END),
        ((b"h", b"e", b"l", b"l", b"o"), "end", 99, b"hello", EndedBy.END),
        ((b"",), "end", 0, b"", EndedBy.END),
        ((b"hello", b""), "end", 5, b"hello", EndedBy.END),
        ((b"hello", b"!"), "end", 5, b"hello", EndedBy.LIMIT),
        ((b"hello!",), "end", 5, b"hello", EndedBy.LIMIT),
        ((b"!",), "end", 0, b"", EndedBy.LIMIT),
        ((b"he", b"l"), "vanish", 5, b"hel", EndedBy.DISCONNECT),
        ((), "vanish", 5, b"", EndedBy.DISCONNECT),
        ((b"hello!",), "vanish", 5, b"hello", EndedBy.LIMIT),
        ((b"he",), "idle", 5, b"he", EndedBy.IDLE),
        ((), "idle", 5, b"", EndedBy.IDLE),
        ((b"hello",), "idle", 5, b"hello", EndedBy.IDLE),
    ],
)
async def test_save(
    file: Handle,
    pieces: tuple[bytes, ...],
    end: str,
    at_most: int,
    stored: bytes,
    ended_by: EndedBy,
) -> None:
    """What came is stored, exactly and at its place, whatever ended it."""
    body = Client(*pieces, end=end).body(0.05 if end == "idle" else 5.0)
    digest = hashlib.sha1(usedforsecurity=False)
    os.pwrite(file.descriptor(), b"###", 0)
    received = await body.save(file, 3, at_most, digest)
    assert received == Received(count=len(stored), ended_by=ended_by)
    assert content(file) == b"###" + stored
    assert digest.digest() == hashlib.sha1(stored, usedforsecurity=False).digest()
    assert body.is_begun
    assert body.is_ended is (end in ("end", "vanish"))


async def test_bytes_that_came_before_an_interruption_count(file: Handle) -> None:
    """A client that lost its connection asks with HEAD at once: its last bytes are in line then."""
    client = Client(b"hel", b"lo", end="open")
    body = client.body()
    body.interrupt(Reason.CONTENDED)
    body.interrupt(Reason.SHUTDOWN)
    received = await body.save(file, 0, 99)
    assert received == Received(count=5, ended_by=EndedBy.INTERRUPTED)
    assert content(file) == b"hello"
    assert body.interrupted_by is Reason.CONTENDED, "the first reason stays"


async def test_an_interruption_at_the_last_byte_is_an_end(file: Handle) -> None:
    """Everything is there: the client need not hear that it was stopped."""
    body = Client(b"hello").body()
    body.interrupt(Reason.CONTENDED)
    assert await body.save(file, 0, 5) == Received(count=5, ended_by=EndedBy.END)


async def test_an_interruption_while_nothing_comes_ends_at_once(file: Handle) -> None:
    """The one who waits for the lock has a client behind it."""
    client = Client(b"hel", end="open")
    body = client.body(idle_timeout=60)
    saving = asyncio.create_task(body.save(file, 0, 99))
    await until(lambda: content(file) == b"hel")
    begun = asyncio.get_running_loop().time()
    body.interrupt(Reason.CONTENDED)
    assert await saving == Received(count=3, ended_by=EndedBy.INTERRUPTED)
    assert asyncio.get_running_loop().time() - begun < 0.5


async def test_an_interruption_does_not_follow_a_client_that_goes_on(file: Handle) -> None:
    """What comes after it is bounded, so a fast sender cannot hold the lock."""
    client = Client(end="open")

    async def endless() -> Message:
        await asyncio.sleep(0)
        client.handed += 65536
        return {"type": "http.request", "body": bytes(65536), "more_body": True}

    body = ReceiveBody(endless, idle_timeout=60)
    body.interrupt(Reason.SHUTDOWN)
    received = await body.save(file, 0, 1 << 40)
    assert received.ended_by is EndedBy.INTERRUPTED
    assert received.count == client.handed <= (1 << 20) + 65536


async def test_reading_ahead_of_a_slow_disk_is_bounded(
    file: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory for one body is about 1 MiB and what is being written, however fast the client is."""
    chunk = bytes(65536)
    client = Client(*[chunk] * 100, end="open")
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    written: list[int] = []
    write = asgi_body._write

    def slow(file: Handle, offset: int, chunks: list[memoryview], digest: Any) -> int:
        written.append(sum(map(len, chunks)))
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)
        return write(file, offset, chunks, digest)

    monkeypatch.setattr(asgi_body, "_write", slow)
    body = client.body()
    saving = asyncio.create_task(body.save(file, 0, 1 << 40))
    await until(lambda: written and client.handed - written[0] >= 1 << 20)
    for _ in range(50):
        await asyncio.sleep(0)
    assert client.handed - written[0] <= (1 << 20) + len(chunk)
    gate.set()
    client.feed(b"", more=False)
    assert await saving == Received(count=100 * len(chunk), ended_by=EndedBy.END)


async def test_small_pieces_are_gathered(file: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write for each packet would cost more than the packet."""
    sizes: list[int] = []
    write = asgi_body._write

    def counted(file: Handle, offset: int, chunks: list[memoryview], digest: Any) -> int:
        sizes.append(len(chunks))
        return write(file, offset, chunks, digest)

    monkeypatch.setattr(asgi_body, "_write", counted)
    await Client(*[b"x"] * 500).body().save(file, 0, 500)
    assert content(file) == b"x" * 500
    assert len(sizes) <= 3


async def test_a_failed_write_is_raised_and_the_reader_ends(file: Handle, tmp_path: Path) -> None:
    """The storage translates it; no task is left behind."""
    before = asyncio.all_tasks()
    (tmp_path / "file").touch()
    read_only = Handle(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(OSError):
        await Client(b"hello").body().save(read_only, 0, 5)
    read_only.release()
    assert asyncio.all_tasks() == before


async def test_a_short_write_goes_on(file: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may write less than it was given."""
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:2], at))
    assert (await Client(b"hello").body().save(file, 0, 5)).count == 5
    monkeypatch.undo()
    assert content(file) == b"hello"


async def test_fill_takes_what_is_there_and_no_more() -> None:
    """For storage that wants bytes in memory."""
    body = Client(b"hello", b" world").body()
    buffer = bytearray(4)
    got = b""
    while count := await body.fill(memoryview(buffer)):
        got += buffer[:count]
    assert got == b"hello world"
    assert body.ended_by is EndedBy.END
    stopped = Client(end="open").body()
    stopped.interrupt(Reason.SHUTDOWN)
    assert await stopped.fill(memoryview(buffer)) == 0
    assert stopped.ended_by is EndedBy.INTERRUPTED


async def test_fill_with_no_buffer_only_waits() -> None:
    """No memory is taken for a client that sends nothing."""
    body = Client(b"hello").body()
    assert await body.fill(memoryview(b"")) == 0
    assert body.ended_by is None
    buffer = bytearray(9)
    assert await body.fill(memoryview(buffer)) == 5
    assert await body.fill(memoryview(b"")) == 0
    assert body.ended_by is EndedBy.END


async def test_fill_ends_when_it_is_interrupted_while_it_waits() -> None:
    body = Client(b"hello", end="open").body()
    buffer = bytearray(9)
    assert await body.fill(memoryview(buffer)) == 5
    waiting = asyncio.create_task(body.fill(memoryview(buffer)))
    await asyncio.sleep(0)
    body.interrupt(Reason.CONTENDED)
    assert await asyncio.wait_for(waiting, 5) == 0
    assert body.ended_by is EndedBy.INTERRUPTED


async def test_fill_gives_up_a_silent_client() -> None:
    body = Client(b"hello", end="open").body(idle_timeout=0.01)
    buffer = bytearray(9)
    assert await body.fill(memoryview(buffer)) == 5
    assert await body.fill(memoryview(buffer)) == 0
    assert body.ended_by is EndedBy.IDLE
    assert not body.is_ended


async def test_what_fill_waited_for_is_dropped_too() -> None:
    """The message that an interrupted `fill` still waits for is nobody's second one."""
    client = Client(b"hello", end="open")
    body = client.body()
    buffer = bytearray(9)
    assert await body.fill(memoryview(buffer)) == 5
    waiting = asyncio.create_task(body.fill(memoryview(buffer)))
    await asyncio.sleep(0)
    body.interrupt(Reason.CONTENDED)
    assert await waiting == 0
    client.feed(b"late")
    client.feed(b"later", more=False)
    assert await body.drop(10, 5.0)
    assert client.handed == 14


@pytest.mark.parametrize(
    ("pieces", "end", "at_most", "ended"),
    [
        ((b"a" * 10,), "end", 100, True),
        ((b"a" * 10, b"b" * 10), "vanish", 100, True),
        ((b"a" * 60, b"b" * 60, b"c" * 60), "end", 100, False),
        ((b"a" * 10,), "open", 100, False),
    ],
)
async def test_drop(pieces: tuple[bytes, ...], end: str, at_most: int, ended: bool) -> None:
    """A body that nobody will read is read a little, so that the answer arrives."""
    client = Client(*pieces, end=end)
    assert await client.body().drop(at_most, 0.05) is ended
    assert client.handed <= at_most + 60


async def test_drop_can_be_spread_over_its_time() -> None:
    """A client that sends fast would else be cut off before it looks up."""
    client = Client(*[bytes(50)] * 100, end="open")
    begun = time.monotonic()
    assert await client.body().drop(1000, 0.2, spread=True) is False
    assert time.monotonic() - begun >= 0.19
    assert client.handed <= 1050


@given(
    pieces=st.lists(st.binary(max_size=50), max_size=12),
    at_most=st.integers(0, 300),
    offset=st.integers(0, 20),
    vanishes=st.booleans(),
)
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
    database=None,
)
def test_any_chunking_stores_the_same_bytes(
    tmp_path: Path, pieces: list[bytes], at_most: int, offset: int, vanishes: bool
) -> None:
    """How the network cuts a body must not show in the file."""
    expected = b"".join(pieces)[:at_most]
    is_over = len(b"".join(pieces)) > at_most

    async def run() -> Received:
        client = Client(*pieces, end="open")
        if vanishes:
            client.vanish()
        else:
            client.feed(b"", more=False)
        file = Handle(tmp_path / "any", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            received = await client.body().save(file, offset, at_most)
            assert content(file)[offset:] == expected
        finally:
            file.release()
        return received

    received = anyio.run(run)
    last = EndedBy.DISCONNECT if vanishes else EndedBy.END
    assert received == Received(count=len(expected), ended_by=EndedBy.LIMIT if is_over else last)


async def test_nothing_is_stored_in_place_of_what_a_middleware_swallowed(file: Handle) -> None:
    """Starlette's `BaseHTTPMiddleware` loses the message it holds when `receive` is cancelled: the
    next one would be stored where that one belongs.
    """
    client = Client()
    holds = asyncio.Event()

    async def receive() -> Message:
        message = await client.receive()
        if message["body"] == b"held":
            holds.set()
            await asyncio.sleep(0.2)
        return message

    body = ReceiveBody(receive, idle_timeout=5.0)
    for piece in (b"one,", b"held", b"two,"):
        client.feed(piece)
    saving = asyncio.create_task(body.save(file, 0, 100))
    await asyncio.wait_for(holds.wait(), 5)
    body.interrupt(Reason.CONTENDED)
    received = await saving
    assert received.ended_by is EndedBy.INTERRUPTED
    assert b"one,heldtwo,".startswith(content(file))
    assert received.count == len(content(file))


async def test_a_server_that_raises_is_a_client_that_left(file: Handle) -> None:
    """And not a wait for as long as a silent client is waited for."""
    client = Client()
    client.feed(b"hello")

    async def receive() -> Message:
        if client.queue.empty():
            raise RuntimeError("no more")
        return await client.receive()

    body = ReceiveBody(receive, idle_timeout=60.0)
    received = await asyncio.wait_for(body.save(file, 0, 100), 5)
    assert (received.count, received.ended_by) == (5, EndedBy.DISCONNECT)


async def dribble(client: Client, pieces: int, every: float) -> None:
    for _ in range(pieces):
        await asyncio.sleep(every)
        client.feed(b"x" * 10)


async def test_a_client_below_the_slowest_speed_is_ended(
    file: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then is no upload; what came is kept."""
    monkeypatch.setattr(asgi_body, "_MEASURE_FOR", 0.2)
    monkeypatch.setattr(asgi_body, "_GATHER_FOR", 0.01)
    client = Client(end="open")
    feeding = asyncio.create_task(dribble(client, 100, 0.02))
    received = await client.body(slowest_speed=2000).save(file, 0, 10_000)
    assert received.ended_by is EndedBy.TOO_SLOW
    assert 0 < received.count == len(content(file)) < 300
    feeding.cancel()


@pytest.mark.parametrize("slowest_speed", [0.0, 100.0])
async def test_a_client_above_the_slowest_speed_is_not(
    file: Handle, monkeypatch: pytest.MonkeyPatch, slowest_speed: float
) -> None:
    """It may be slow, as long as it is not slower than that."""
    monkeypatch.setattr(asgi_body, "_MEASURE_FOR", 0.1)
    monkeypatch.setattr(asgi_body, "_GATHER_FOR", 0.01)
    client = Client(end="open")
    feeding = asyncio.create_task(dribble(client, 30, 0.02))
    received = await client.body(slowest_speed=slowest_speed).save(file, 0, 300)
    await feeding
    assert received.count == 300


async def test_a_slow_disk_makes_no_slow_client(
    file: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sent all that it was let to send."""
    monkeypatch.setattr(asgi_body, "_MEASURE_FOR", 0.05)
    write = asgi_body._write

    def slow(*args: Any) -> int:
        time.sleep(0.2)
        return write(*args)

    monkeypatch.setattr(asgi_body, "_write", slow)
    client = Client(*[bytes(300_000)] * 6)
    received = await client.body(slowest_speed=10e6).save(file, 0, 1_800_000)
    assert received == Received(count=1_800_000, ended_by=EndedBy.END)


async def test_trailers_are_there_when_the_body_has_ended(file: Handle) -> None:
    """And nobody can take an earlier look for the whole of them."""
    trailers = [(b"upload-checksum", b"sha1 x")]
    client = Client(b"abc", end="open")
    body = ReceiveBody(client.receive, idle_timeout=5.0, trailers=trailers)
    assert not body.trailers
    assert body.whole() is None
    client.feed(b"")
    client.feed(b"", more=False)
    await body.save(file, 0, 10)
    assert body.trailers == trailers
    cut = ReceiveBody(Client(b"abc", end="vanish").receive, idle_timeout=5.0, trailers=trailers)
    await cut.save(file, 0, 10)
    assert not cut.trailers
