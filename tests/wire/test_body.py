"""A body straight from its socket: every byte lands once, at its place, whatever ends it."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from tests.wire.loopback import (
    KIB,
    MIB,
    OPTIONS,
    Exchange,
    patch,
    pattern,
    serving,
    store,
    until,
)
from tusd_py.body import EndedBy, Reason, Received
from tusd_py.wire import body as wire_body
from tusd_py.wire.body import WHOLE, SocketBody
from tusd_py.wire.bursts import MemoryBurst

pytestmark = pytest.mark.anyio

SIZES = [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 256 * KIB, MIB - 1, MIB, 5 * MIB + 17]


@pytest.mark.parametrize("size", SIZES)
async def test_a_body_at_once(tmp_path: Path, size: int) -> None:
    """The sizes lie around every constant of the code; the next request follows directly."""
    content = pattern(size)
    async with serving(tmp_path) as server:
        client = await server.client()
        for _ in range(3):
            await client.send(patch(size) + content + OPTIONS)
            assert (await client.answer()).endswith(b"\r\n\r\n%d end" % size)
            exchange = server.exchanges[-1 if server.last.scope["method"] == "PATCH" else -2]
            assert exchange.disk.content == content
            assert (await client.answer()).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize("piece", [1, 7, 1400, 64 * KIB, 300_000])
async def test_a_body_in_pieces(tmp_path: Path, piece: int) -> None:
    """How the network cuts a body must not show in the file."""
    content = pattern(min(5 * MIB + 17, piece * 400))
    async with serving(tmp_path) as server:
        client = await server.patching(len(content))
        for number, at in enumerate(range(0, len(content), piece)):
            await client.send(content[at : at + piece])
            if number % 50 == 0:
                await asyncio.sleep(0.03)  # long enough that a burst runs dry
        assert (await client.answer()).endswith(b"%d end" % len(content))
        assert server.last.disk.content == content


async def test_a_slow_client_has_no_parser_and_no_dictionary(tmp_path: Path) -> None:
    """Each is about a KiB: up to thirty attributes lie within the connection itself."""
    async with serving(tmp_path) as server:
        client = await server.patching(10, b"01234")
        connection = server.protocols[0]
        await until(lambda: connection.parser is None)
        assert len(vars(connection)) <= 30
        await client.send(b"56789" + OPTIONS)
        assert (await client.answer()).endswith(b"10 end")
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")


async def test_a_slow_client_has_no_open_file_and_no_thread(tmp_path: Path) -> None:
    """Ten thousand of them would take all descriptors; what came is on the disk all the same."""
    async with serving(tmp_path) as server:
        client = await server.patching(100, b"slow")
        disk = server.last.disk
        await until(lambda: disk.content == b"slow")
        await until(lambda: not disk.is_open)
        await client.send(b"er")
        await until(lambda: disk.content == b"slower" and not disk.is_open)
        assert disk.opened == 2
        await client.send(b"!" * 94)
        assert (await client.answer()).endswith(b"100 end")
        assert disk.content == b"slower" + b"!" * 94


@pytest.mark.parametrize("is_filled", [False, True])
async def test_what_waits_in_the_socket_is_taken_by_a_thread_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_filled: bool
) -> None:
    """Read by the loop, it would be copied three times before it is written."""
    read, ready, got = list[int](), asyncio.Event(), bytearray()
    feed = SocketBody.feed

    def note(self: SocketBody, data: bytes) -> None:
        read.append(len(data))
        feed(self, data)

    monkeypatch.setattr(SocketBody, "feed", note)
    monkeypatch.setattr(wire_body, "_WORTH_A_BURST", 16 * KIB)
    content = pattern(4 * WHOLE)

    async def late(exchange: Exchange) -> None:
        async with asyncio.timeout(30):
            await ready.wait()
        if not is_filled:
            await store(exchange)
            return
        assert exchange.body is not None
        buffer = memoryview(bytearray(len(content)))
        while exchange.body.ended_by is None:
            got.extend(buffer[: await exchange.body.fill(buffer)])
        await exchange.answer(200, b"%d end" % len(got))

    async with serving(tmp_path, late) as server:
        client = await server.patching(len(content))
        sending = asyncio.create_task(client.send(content))
        await until(lambda: server.protocols[-1].cycle.ready >= 16 * KIB)
        assert not server.protocols[-1].cycle.waiting
        ready.set()
        await sending
        assert (await client.answer()).endswith(b"%d end" % len(content))
        assert (bytes(got) if is_filled else server.last.disk.content) == content
    assert not read


@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_small_body_is_handed_over_if_it_is_whole(tmp_path: Path, is_whole: bool) -> None:
    """A file of 16 KiB costs no thread; one that is still coming must not be taken for whole."""
    taken: list[bytes | None] = []

    async def whole(exchange: Exchange) -> None:
        assert exchange.body is not None
        taken.append(exchange.body.whole())
        if taken[-1] is None:
            await store(exchange)
        else:
            await exchange.answer(200, b"whole")

    content = pattern(16 * KIB)
    async with serving(tmp_path, whole) as server:
        client = await server.patching(len(content), content if is_whole else content[:-1])
        if is_whole:
            assert (await client.answer()).endswith(b"whole")
            assert taken == [content]
            return
        await until(lambda: taken == [None])
        await client.send(content[-1:] + OPTIONS)
        assert (await client.answer()).endswith(b"%d end" % len(content))
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")


async def test_a_request_for_the_same_upload_comes_behind_one_that_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be told an offset that rises behind its back."""
    monkeypatch.setattr("tusd_py.wire.http._WHOLE_WITHIN", 60)
    async with serving(tmp_path, store) as server:
        client, second, other = [await server.client() for _ in range(3)]
        await client.send(patch(9, "/one"))
        await other.send(patch(9, "/other"))
        await asyncio.sleep(0.01)
        assert not server.exchanges
        await second.send(OPTIONS.replace(b" / ", b" /one "))
        await until(lambda: len(server.exchanges) == 2)
        paths = [exchange.scope["path"] for exchange in server.exchanges]
        assert paths == ["/one", "/one"]
        await client.send(b"x" * 9)
        assert (await client.answer()).endswith(b"9 end")


@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_small_body_that_comes_behind_its_head_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    """Most clients send the two apart, and their files would cost what large ones do."""
    taken: list[bytes | None] = []

    async def whole(exchange: Exchange) -> None:
        assert exchange.body is not None
        taken.append(exchange.body.whole())
        await (store(exchange) if is_lost else exchange.answer(200, b"whole"))

    monkeypatch.setattr("tusd_py.wire.http._WHOLE_WITHIN", 60)
    content = pattern(16 * KIB)
    async with serving(tmp_path, whole) as server:
        client = await server.client()
        await client.send(patch(len(content)))
        await client.send(content[:9])
        await asyncio.sleep(0.01)
        assert not taken
        if is_lost:
            client.close()
            await until(lambda: bool(server.exchanges) and server.last.disk.content == content[:9])
            return
        await client.send(content[9:])
        assert (await client.answer()).endswith(b"whole")
        assert taken == [content]


async def test_a_large_body_is_not_handed_over(tmp_path: Path) -> None:
    """It would lie in memory twice."""
    size = wire_body.WHOLE + 1

    async def whole(exchange: Exchange) -> None:
        assert exchange.body is not None
        while not exchange.body.is_ended:
            await asyncio.sleep(0.001)
        assert exchange.body.whole() is None
        await store(exchange)

    async with serving(tmp_path, whole) as server:
        client = await server.patching(size, pattern(size))
        assert (await client.answer()).endswith(b"%d end" % size)
        assert server.last.disk.content == pattern(size)


@pytest.mark.parametrize("room", [100_000, 3 * MIB, 20 * MIB])
async def test_fill_takes_what_is_there(tmp_path: Path, room: int) -> None:
    """For storage that wants bytes in memory."""
    got = bytearray()

    async def fill(exchange: Exchange) -> None:
        assert exchange.body is not None
        buffer = memoryview(bytearray(room))
        while exchange.body.ended_by is None:
            got.extend(buffer[: await exchange.body.fill(buffer)])
        await exchange.answer(200, b"%d" % len(got))

    content = pattern(12 * MIB + 5)
    async with serving(tmp_path, fill) as server:
        client = await server.client()
        await client.send(patch(len(content)) + content + OPTIONS)
        assert (await client.answer()).endswith(b"\r\n\r\n%d" % len(content))
        assert got == content
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize("ended_by", [EndedBy.INTERRUPTED, EndedBy.DISCONNECT, EndedBy.END])
async def test_fill_with_no_buffer_only_waits_and_tells_the_end(
    tmp_path: Path, ended_by: EndedBy
) -> None:
    """No memory is taken for a client that sends nothing, and its end is told apart."""
    buffer, waits, ends = memoryview(bytearray(100)), asyncio.Event(), list[EndedBy | None]()

    async def fill(exchange: Exchange) -> None:
        body = exchange.body
        assert body is not None
        assert await body.fill(buffer[:0]) == 0
        ends.append(body.ended_by)
        assert await body.fill(buffer) == 5
        ends.append(body.ended_by)
        waits.set()
        assert await body.fill(buffer[:0]) == 0
        if ended_by is EndedBy.END:
            assert body.ended_by is None
            assert await body.fill(buffer) == 3
        ends.append(body.ended_by)
        await exchange.answer(200, b"end")

    async with serving(tmp_path, fill) as server:
        client = await server.patching(8, b"hello")
        await asyncio.wait_for(waits.wait(), 5)
        if ended_by is EndedBy.INTERRUPTED:
            assert server.last.body is not None
            server.last.body.interrupt(Reason.CONTENDED)
        elif ended_by is EndedBy.END:
            await client.send(b"you")
        else:
            client.close()
        await until(lambda: len(ends) == 3)
        assert ends == [None, None, ended_by]


@pytest.fixture
def bursts(monkeypatch: pytest.MonkeyPatch) -> list[MemoryBurst]:
    """Those of threads that fill memory; every client that has much in its socket is fast."""
    made = list[MemoryBurst]()

    def burst(into: memoryview, head: bytearray) -> MemoryBurst:
        made.append(MemoryBurst(into, head))
        return made[-1]

    monkeypatch.setattr(wire_body, "MemoryBurst", burst)
    monkeypatch.setattr(wire_body, "_FAST_WITHIN", 60.0)
    return made


@pytest.mark.parametrize("ended_by", [EndedBy.INTERRUPTED, EndedBy.DISCONNECT, EndedBy.END])
async def test_fill_goes_on_by_threads_until_the_socket_is_dry(
    tmp_path: Path, bursts: list[MemoryBurst], ended_by: EndedBy
) -> None:
    """What the loop read in between would be copied; a dry socket holds nobody's memory."""
    zeros, got = list[int](), bytearray()
    ends, dry = list[EndedBy | None](), asyncio.Event()

    async def fill(exchange: Exchange) -> None:
        body, buffer = exchange.body, memoryview(bytearray(512 * KIB))
        assert body is not None
        while body.ended_by is None:
            before = len(bursts)
            count = await body.fill(buffer)
            got.extend(buffer[:count])
            if not count:
                zeros.append(len(got))
            elif len(bursts) > before and count == len(buffer) and body.ended_by is None:
                assert server.protocols[-1].flow.read_paused
                assert await body.fill(buffer[:0]) == 0, "at once"
            if len(got) >= 3 * MIB:
                dry.set()
        ends.append(body.ended_by)
        await exchange.answer(200, b"end")

    content = pattern(4 * MIB)
    async with serving(tmp_path, fill) as server:
        client = await server.patching(len(content), content[: 3 * MIB])
        await asyncio.wait_for(dry.wait(), 30)
        await until(lambda: not server.protocols[-1].flow.read_paused)
        if ended_by is EndedBy.INTERRUPTED:
            assert server.last.body is not None
            server.last.body.interrupt(Reason.CONTENDED)
        elif ended_by is EndedBy.END:
            await client.send(content[3 * MIB :])
        else:
            client.close()
        await until(lambda: bool(ends))
    assert ends == [ended_by]
    assert got == content[: None if ended_by is EndedBy.END else 3 * MIB]
    assert len(bursts) > 3
    assert len(zeros) < len(bursts) / 2, "one for each time that it ran dry, and one at the end"


async def test_fill_of_a_fast_client_can_be_interrupted(
    tmp_path: Path, bursts: list[MemoryBurst]
) -> None:
    """Though there is more in the socket, and nobody waits."""
    counts, ends = list[int](), list[EndedBy | None]()

    async def fill(exchange: Exchange) -> None:
        body, buffer = exchange.body, memoryview(bytearray(256 * KIB))
        assert body is not None
        before = count = 0
        while count < len(buffer) or len(bursts) == before:
            before, count = len(bursts), await body.fill(buffer)
        body.interrupt(Reason.CONTENDED)
        counts.append(await body.fill(buffer))
        ends.append(body.ended_by)
        await exchange.answer(200, b"end", Connection="close")

    async with serving(tmp_path, fill) as server:
        client = await server.client()
        sending = asyncio.create_task(client.send(patch(12 * MIB) + pattern(12 * MIB)))
        await until(lambda: bool(ends))
        sending.cancel()
        await asyncio.wait([sending])
        client.close()
    assert (counts, ends) == ([0], [EndedBy.INTERRUPTED])


async def test_fill_measures_a_client_only_while_it_waits(tmp_path: Path) -> None:
    """A store that takes its time must not make a client look idle."""
    buffer, ends = memoryview(bytearray(100)), list[EndedBy | None]()

    async def fill(exchange: Exchange) -> None:
        body, loop = exchange.body, asyncio.get_running_loop()
        assert body is not None
        assert await body.fill(buffer) == 5
        await asyncio.sleep(0.3)
        waiting = asyncio.create_task(body.fill(buffer))
        await asyncio.sleep(0)
        body.look_after(loop.time())
        ends.append(body.ended_by)
        await waiting
        ends.append(body.ended_by)
        await exchange.answer(200, b"end")

    async with serving(tmp_path, fill, idle_timeout=0.2, slowest_speed=0.0) as server:
        await server.patching(8, b"hello")
        await until(lambda: len(ends) == 2)
        assert ends == [None, EndedBy.IDLE]


@pytest.mark.parametrize(
    ("size", "at_most", "ended"), [(10, 100, True), (MIB, 2 * MIB, True), (5 * MIB, MIB, False)]
)
@pytest.mark.parametrize("spread", [False, True])
async def test_drop(tmp_path: Path, size: int, at_most: int, ended: bool, spread: bool) -> None:
    """A refused body is read a little, so that the answer arrives; what is behind it is not."""
    found: list[bool] = []

    async def drop(exchange: Exchange) -> None:
        assert exchange.body is not None
        found.append(await exchange.body.drop(at_most, 1.0, spread=spread))
        await exchange.answer(409, Connection="keep-alive" if found[0] else "close")

    async with serving(tmp_path, drop) as server:
        client = await server.client()
        sending = asyncio.create_task(client.send(patch(size) + pattern(size) + OPTIONS))
        assert (await client.answer()).startswith(b"HTTP/1.1 409 ")
        assert found == [ended]
        if ended:
            await sending
            assert (await client.answer()).startswith(b"HTTP/1.1 204 ")
        else:
            await asyncio.wait({sending})
            sending.exception()


async def test_drop_is_bounded_in_time(tmp_path: Path) -> None:
    """A byte now and then would keep the connection for ever."""

    async def drop(exchange: Exchange) -> None:
        assert exchange.body is not None
        assert not await exchange.body.drop(1000, 0.2)
        await exchange.answer(409, Connection="close")

    async with serving(tmp_path, drop) as server:
        client = await server.patching(1000, b"x")
        assert (await client.answer()).startswith(b"HTTP/1.1 409 ")
        assert await client.rest() == b""


@pytest.mark.parametrize("at_most", [0, 5, 100_000, 2 * MIB])
@pytest.mark.parametrize("over", [1, 3 * MIB])
async def test_more_than_may_be_taken(tmp_path: Path, at_most: int, over: int) -> None:
    """Not a byte above the limit is written, also when it comes fast."""

    async def limited(exchange: Exchange) -> None:
        received = await exchange.save(at_most)
        assert exchange.body is not None
        await exchange.body.drop(8 * MIB, 10.0)
        await exchange.answer(413, received.ended_by.value.encode())

    content = pattern(at_most + over)
    async with serving(tmp_path, limited) as server:
        client = await server.client()
        await client.send(patch(len(content)) + content + OPTIONS)
        assert (await client.answer()).endswith(b"\r\n\r\nlimit")
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")
        assert server.exchanges[0].received == Received(count=at_most, ended_by=EndedBy.LIMIT)
        assert server.exchanges[0].disk.content == content[:at_most]


@pytest.mark.parametrize("size", [3, 100_000, 4 * MIB + 3])
async def test_a_digest_is_of_the_same_bytes(tmp_path: Path, size: int) -> None:
    """In the same pass: a second one over the file would double the cost."""
    digest = hashlib.sha1(usedforsecurity=False)

    async def digested(exchange: Exchange) -> None:
        await exchange.save(digest=digest)
        await exchange.answer()

    content = pattern(size)
    async with serving(tmp_path, digested) as server:
        client = await server.patching(size)
        for at in range(0, size, 700_001):
            await client.send(content[at : at + 700_001])
            await asyncio.sleep(0.03)
        await client.answer()
        assert server.last.disk.content == content
    assert digest.digest() == hashlib.sha1(content, usedforsecurity=False).digest()


async def test_a_silent_client_is_let_go(tmp_path: Path) -> None:
    """And what it sent before is kept."""
    async with serving(tmp_path, idle_timeout=0.5, slowest_speed=0.0) as server:
        client = await server.patching(100, b"hello")
        assert (await client.answer()).endswith(b"5 idle")
        assert server.last.disk.content == b"hello"


async def test_a_client_that_is_too_slow_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then is no upload; one above the limit goes on."""
    monkeypatch.setattr(wire_body, "_SPEED_WINDOW", 1.5)
    async with serving(tmp_path, idle_timeout=30.0, slowest_speed=2000.0) as server:
        slow, fast = await server.patching(1 * MIB), await server.patching(1 * MIB)

        async def trickle() -> None:
            while True:
                await slow.send(b"x")
                await fast.send(b"x" * 1000)
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        assert (await slow.answer()).endswith(b" too slow")
        trickling.cancel()
        received = server.exchanges[0].received
        assert received is not None
        assert server.exchanges[0].disk.content == b"x" * received.count
        assert server.exchanges[1].received is None
