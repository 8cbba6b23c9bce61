"""A body from its socket that is limited: no byte more than is let through, and none is lost."""

import asyncio
from pathlib import Path

import pytest

from tests.wire.loopback import KIB, MIB, OPTIONS, Exchange, pattern, serving, store, until
from tusd_py.body import EndedBy, Reason
from tusd_py.wire import body as wire_body

pytestmark = pytest.mark.anyio


class Tokens:
    """A throttle that lets as many bytes through as a test says, in pieces."""

    def __init__(self, count: int, piece: int) -> None:
        self.count, self.piece = count, piece
        self.spent = 0

    def reserve(self, wanted: int) -> tuple[int, float]:
        count = min(wanted, self.piece)
        self.spent += count
        return count, 0.0 if self.spent <= self.count else 3600.0

    def spend(self, count: int) -> None:
        self.spent += count

    def waited(self, seconds: float) -> None:
        """Not looked at."""


def limited(tokens: Tokens, *, into_memory: bool = False):  # type: ignore[no-untyped-def]
    """An application that stores bodies as they are let through."""

    async def handle(exchange: Exchange) -> None:
        body = exchange.body
        assert body is not None
        body.limit(tokens)
        try:
            if into_memory:
                await fill(exchange)
            else:
                await exchange.save()
        finally:
            body.limit(None)
        close = {} if body.is_ended else {"Connection": "close"}
        await exchange.answer(200, b"%d" % exchange.disk.path.stat().st_size, **close)

    return handle


async def fill(exchange: Exchange) -> None:
    body, buffer = exchange.body, memoryview(bytearray(256 * KIB))
    assert body is not None
    with exchange.disk.path.open("wb") as file:
        while await body.fill(memoryview(bytearray())) == 0 and body.ended_by is None:
            file.write(buffer[: await body.fill(buffer)])
            file.flush()


@pytest.mark.parametrize("into_memory", [False, True])
@pytest.mark.parametrize("piece", [1000, 64 * KIB, 256 * KIB, MIB])
@pytest.mark.parametrize("size", [1, 64 * KIB, 256 * KIB + 1, 3 * MIB + 17])
async def test_every_byte_lands_once_and_is_counted(
    tmp_path: Path, piece: int, size: int, into_memory: bool
) -> None:
    """Whether it came with the head, or later; and the next request is where it belongs."""
    content = pattern(size)
    tokens = Tokens(1 << 60, piece)
    async with serving(tmp_path, limited(tokens, into_memory=into_memory)) as server:
        client = await server.client()
        for number in range(1, 3):
            head = b"PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
            sending = asyncio.create_task(client.send(head + content + OPTIONS))
            assert (await client.answer()).endswith(b"\r\n\r\n%d" % size)
            assert (await client.answer()).startswith(b"HTTP/1.1 204 ")
            await sending
            assert server.exchanges[-2].disk.content == content
            assert tokens.spent == number * size


@pytest.mark.parametrize("into_memory", [False, True])
async def test_no_byte_comes_that_is_not_let_through(tmp_path: Path, into_memory: bool) -> None:
    """Not even of those that were there with the head; and others are not held up."""
    content = pattern(600 * KIB)
    tokens = Tokens(10 * KIB, 1 * KIB)
    async with serving(tmp_path, limited(tokens, into_memory=into_memory)) as server:
        client = await server.patching(len(content), content[: 100 * KIB])
        exchange = server.last
        await until(lambda: exchange.disk.content == content[: 10 * KIB])
        sending = asyncio.create_task(client.send(content[100 * KIB :]))
        other = await server.client()
        await other.send(OPTIONS)
        assert (await other.answer()).startswith(b"HTTP/1.1 204 ")
        await asyncio.sleep(0.05)
        assert exchange.disk.content == content[: 10 * KIB]
        tokens.count += 200 * KIB
        assert exchange.body is not None
        exchange.body.limit(tokens)
        await until(lambda: exchange.disk.content == content[: 210 * KIB])
        assert exchange.body.came == 210 * KIB
        tokens.count += 1 << 40
        exchange.body.limit(tokens)
        assert (await client.answer()).endswith(b"\r\n\r\n%d" % len(content))
        assert exchange.disk.content == content
        await sending


async def test_a_limit_that_comes_in_the_midst_and_goes_again(tmp_path: Path) -> None:
    """A thread may move the bytes just then."""
    size = 64 * MIB
    tokens = Tokens(0, 64 * KIB)
    async with serving(tmp_path) as server:
        client = await server.patching(size)
        exchange = server.last
        assert exchange.body is not None
        block = pattern(MIB)

        async def send() -> None:
            for _ in range(size // MIB):
                await client.send(block)

        sending = asyncio.create_task(send())
        await until(lambda: exchange.body.came > 4 * MIB)  # type: ignore[union-attr]
        exchange.body.limit(tokens)
        await until(lambda: tokens.spent)
        stands = exchange.body.came
        await asyncio.sleep(0.05)
        assert exchange.body.came == stands < size
        exchange.body.limit(None)
        assert (await client.answer()).endswith(b"\r\n\r\n%d end" % size)
        assert exchange.disk.content == block * 64
        await sending


async def test_who_is_held_back_is_not_idle_and_not_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be thrown out for what the server does."""
    monkeypatch.setattr(wire_body, "_SPEED_WINDOW", 0.2)
    content = pattern(100 * KIB)
    tokens = Tokens(1 * KIB, 1 * KIB)

    async def handle(exchange: Exchange) -> None:
        assert exchange.body is not None
        exchange.body._idle_timeout, exchange.body._slowest_speed = 0.5, 1e9
        await limited(tokens)(exchange)

    async with serving(tmp_path, handle) as server:
        client = await server.patching(len(content), content)
        exchange = server.last
        await until(lambda: exchange.disk.content == content[: 1 * KIB])
        await asyncio.sleep(2.5)
        assert not exchange.task.done()  # type: ignore[union-attr]
        tokens.count += 1 << 40
        assert exchange.body is not None
        exchange.body.limit(tokens)
        assert (await client.answer()).endswith(b"\r\n\r\n%d" % len(content))


@pytest.mark.parametrize("piece", [1 * KIB, 256 * KIB])
async def test_who_sends_nothing_is_idle_all_the_same(tmp_path: Path, piece: int) -> None:
    tokens = Tokens(1 << 40, piece)

    async def handle(exchange: Exchange) -> None:
        assert exchange.body is not None
        exchange.body._idle_timeout = 0.5
        exchange.body.limit(tokens)
        received = await exchange.save()
        exchange.body.limit(None)
        assert received.ended_by is EndedBy.IDLE
        await exchange.answer(503, Connection="close")

    async with serving(tmp_path, handle) as server:
        client = await server.patching(100, b"some")
        assert (await client.answer()).startswith(b"HTTP/1.1 503 ")
        assert server.last.disk.content == b"some"


@pytest.mark.parametrize("end", ["interrupted", "lost", "reset"])
async def test_what_is_in_memory_when_it_ends_is_kept_and_counts(tmp_path: Path, end: str) -> None:
    content = pattern(40 * KIB)
    tokens = Tokens(10 * KIB, 1 * KIB)

    async def handle(exchange: Exchange) -> None:
        assert exchange.body is not None
        exchange.body.limit(tokens)
        try:
            await exchange.save()
        finally:
            exchange.body.limit(None)

    async with serving(tmp_path, handle) as server:
        client = await server.patching(100 * KIB, content)
        exchange = server.last
        body = exchange.body
        assert body is not None
        await until(lambda: exchange.disk.content == content[: 10 * KIB])
        held = len(body._held)
        if end == "interrupted":
            body.interrupt(Reason.CONTENDED)
        elif end == "lost":
            body.lost()
        else:
            client.reset()
            await asyncio.sleep(0.05)
            tokens.count += 1 << 40
            body.limit(tokens)
        await until(lambda: exchange.received is not None)
        assert exchange.received is not None
        stored = exchange.received.count
        assert exchange.disk.content == content[:stored]
        assert stored >= 10 * KIB + held
        # What was reserved and not taken is given back when whoever waits for it has ended.
        await until(lambda: tokens.spent == stored)


async def test_a_small_body_that_is_interrupted_before_it_begins(tmp_path: Path) -> None:
    """It is whole and in memory: that it waits for nobody is known at once."""
    tokens = Tokens(0, 1 * KIB)

    async def handle(exchange: Exchange) -> None:
        assert exchange.body is not None
        exchange.body.interrupt(Reason.CONTENDED)
        exchange.body.limit(tokens)
        received = await exchange.save()
        exchange.body.limit(None)
        await exchange.answer(200, received.ended_by.value.encode())

    async with serving(tmp_path, handle) as server:
        client = await server.patching(9, b"123456789")
        assert (await client.answer()).endswith(b"end")
        assert server.last.disk.content == b"123456789"


async def test_the_next_request_has_no_limit(tmp_path: Path) -> None:
    tokens = Tokens(1 << 40, 1 * KIB)
    handlers = [limited(tokens), store]

    async def handle(exchange: Exchange) -> None:
        await handlers.pop(0)(exchange)

    async with serving(tmp_path, handle) as server:
        client = await server.patching(5000, pattern(5000))
        assert (await client.answer()).endswith(b"\r\n\r\n5000")
        content = pattern(3 * MIB)
        await client.send(
            b"PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: 3145728\r\n\r\n" + content
        )
        assert (await client.answer()).endswith(b"3145728 end")
        assert (tokens.spent, server.last.disk.content) == (5000, content)
