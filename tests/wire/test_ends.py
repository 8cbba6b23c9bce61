"""How a body ends before its end: what came counts exactly, and nobody waits."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.wire.loopback import (
    KIB,
    MIB,
    OPTIONS,
    Client,
    Exchange,
    Loopback,
    patch,
    pattern,
    serving,
    store,
    until,
)
from tusd_py.body import EndedBy, Reason, Received

pytestmark = pytest.mark.anyio

CONTENT = pattern(8 * MIB)

Leave = Callable[[Client], None]
LEAVE = {"close": Client.close, "half-close": Client.half_close, "reset": Client.reset}


async def saved(exchange: Exchange) -> Received:
    await until(lambda: exchange.received is not None)
    assert exchange.received is not None
    return exchange.received


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
@pytest.mark.parametrize("size", [0, 1, 100 * KIB, 3 * MIB + 7])
async def test_what_came_before_the_client_left_is_kept(
    tmp_path: Path, leave: Leave, size: int
) -> None:
    """Whether it came fast or slowly, and however the client goes."""
    async with serving(tmp_path) as server:
        client = await server.patching(len(CONTENT), CONTENT[:size])
        disk = server.last.disk
        if leave is Client.reset:
            # What a kernel holds when a reset comes may be lost, here as everywhere.
            await until(lambda: len(disk.content) == size)
        leave(client)
        assert await saved(server.last) == Received(count=size, ended_by=EndedBy.DISCONNECT)
        assert disk.content == CONTENT[:size]


@pytest.mark.parametrize("size", [5, 3 * MIB])
@pytest.mark.parametrize("late", [False, True])
async def test_a_client_that_ends_its_side_behind_the_body_gets_the_answer(
    tmp_path: Path, size: int, late: bool
) -> None:
    """It has said all it had to say, and waits to hear that it arrived."""

    async def slowly(exchange: Exchange) -> None:
        received = await exchange.save()
        await asyncio.sleep(0.2)
        await exchange.answer(200, b"%d" % received.count)

    async with serving(tmp_path, slowly) as server:
        client = await server.client()
        if late:
            await client.send(patch(size) + CONTENT[: size - 1])
            await asyncio.sleep(0.1)
            await client.send(CONTENT[size - 1 : size])
        else:
            await client.send(patch(size) + CONTENT[:size])
        client.half_close()
        assert (await client.answer()).endswith(b"\r\n\r\n%d" % size)
        begun = time.monotonic()
        assert await client.rest() == b""
        assert time.monotonic() - begun < 4, "nothing more can come, so it is not kept alive"


Interrupted = Callable[[Loopback, Client], Awaitable[int]]


async def before_the_first_byte(server: Loopback, client: Client) -> int:
    return 0


async def with_all_in_line(server: Loopback, client: Client) -> int:
    await client.send(CONTENT[: 300 * KIB])
    return 300 * KIB


async def while_slow(server: Loopback, client: Client) -> int:
    await client.send(b"\0" * 8)
    await until(lambda: server.last.disk.content)
    await client.send(CONTENT[8:20])
    return 20


async def after_a_burst(server: Loopback, client: Client) -> int:
    await client.send(CONTENT[: 3 * MIB])
    await until(lambda: len(server.last.disk.content) == 3 * MIB)
    return 3 * MIB


@pytest.mark.parametrize(
    "state", [before_the_first_byte, with_all_in_line, while_slow, after_a_burst]
)
async def test_an_interruption_takes_milliseconds(tmp_path: Path, state: Interrupted) -> None:
    """The one who waits for the lock has a client behind it; and what was in line counts."""
    async with serving(tmp_path) as server:
        client = await server.patching(len(CONTENT))
        size = await state(server, client)
        body = server.last.body
        assert body is not None
        begun = time.monotonic()
        body.interrupt(Reason.CONTENDED)
        body.interrupt(Reason.SHUTDOWN)
        assert await saved(server.last) == Received(count=size, ended_by=EndedBy.INTERRUPTED)
        assert time.monotonic() - begun < 0.5
        assert server.last.disk.content == CONTENT[:size]
        assert body.interrupted_by is Reason.CONTENDED


async def test_an_interruption_does_not_follow_a_client_that_goes_on(tmp_path: Path) -> None:
    """A fast sender would hold the lock as long as it likes."""
    async with serving(tmp_path) as server:
        client = await server.patching(1 << 40)
        server.last.disk.path = Path("/dev/null")

        async def endless() -> None:
            with contextlib.suppress(OSError):
                while True:
                    await client.send(CONTENT[:MIB])
                    await asyncio.sleep(0)

        sending = asyncio.create_task(endless())
        body = server.last.body
        assert body is not None
        await asyncio.sleep(0.3)
        begun = time.monotonic()
        body.interrupt(Reason.CONTENDED)
        assert (await saved(server.last)).ended_by is EndedBy.INTERRUPTED
        assert time.monotonic() - begun < 0.5
        sending.cancel()
        await asyncio.wait({sending})


async def test_an_interruption_before_it_is_saved_is_kept(tmp_path: Path) -> None:
    """A request may be interrupted while it waits for the lock itself."""

    async def late(exchange: Exchange) -> None:
        assert exchange.body is not None
        exchange.body.interrupt(Reason.CONTENDED)
        await store(exchange)

    async with serving(tmp_path, late) as server:
        client = await server.patching(100, b"hello")
        assert (await client.answer()).endswith(b"5 interrupted")


@pytest.mark.parametrize("size", [5, 300 * KIB])
async def test_an_interruption_at_the_last_byte_is_an_end(tmp_path: Path, size: int) -> None:
    """Everything is there: the client need not hear that it was stopped."""

    async def interrupted(exchange: Exchange) -> None:
        assert exchange.body is not None
        await asyncio.sleep(0.05)
        exchange.body.interrupt(Reason.CONTENDED)
        await store(exchange)

    async with serving(tmp_path, interrupted) as server:
        client = await server.client()
        await client.send(patch(size) + CONTENT[:size] + OPTIONS)
        assert (await client.answer()).endswith(b"%d end" % size)
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")


async def test_fill_can_be_interrupted(tmp_path: Path) -> None:
    """Storage that takes bytes in memory is stopped as well."""
    counts: list[int] = []

    async def fill(exchange: Exchange) -> None:
        assert exchange.body is not None
        counts.append(await exchange.body.fill(memoryview(bytearray(10))))
        await exchange.answer(423, Connection="close")

    async with serving(tmp_path, fill) as server:
        client = await server.patching(100)
        await asyncio.sleep(0.05)
        body = server.last.body
        assert body is not None
        body.interrupt(Reason.CONTENDED)
        assert (await client.answer()).startswith(b"HTTP/1.1 423 ")
        assert counts == [0]


@pytest.mark.parametrize("size", [5, 100 * KIB, 2 * MIB])
async def test_a_cancelled_save_ends_behind_its_thread(tmp_path: Path, size: int) -> None:
    """The lock is let go then: 73,000 bytes were written after it (seen)."""
    async with serving(tmp_path) as server:
        client = await server.patching(len(CONTENT))
        disk = server.last.disk
        disk.gate.clear()
        await client.send(CONTENT[:size])
        await until(disk.waits.is_set)
        task = server.last.task
        assert task is not None
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.02)
        assert not task.done(), "it goes on while a thread writes"
        assert disk.content == b""
        disk.gate.set()
        await until(task.done)
        assert isinstance(server.last.error, asyncio.CancelledError)
        stored = len(disk.content)
        assert disk.content == CONTENT[:stored]
        with contextlib.suppress(OSError):
            await client.send(CONTENT[size : 2 * size])
        await asyncio.sleep(0.1)
        assert len(disk.content) == stored, "nothing is written after it"


@pytest.mark.parametrize("size", [5, 100 * KIB, 2 * MIB])
async def test_an_interruption_waits_for_its_thread(tmp_path: Path, size: int) -> None:
    """Or the next one's bytes are overwritten by those that are still on their way."""
    async with serving(tmp_path) as server:
        client = await server.patching(len(CONTENT))
        exchange, disk = server.last, server.last.disk
        disk.gate.clear()
        await client.send(CONTENT[:size])
        await until(disk.waits.is_set)
        assert exchange.body is not None
        exchange.body.interrupt(Reason.CONTENDED)
        await asyncio.sleep(0.1)
        assert exchange.received is None
        disk.gate.set()
        received = await saved(exchange)
        assert received.ended_by is EndedBy.INTERRUPTED
        assert disk.content == CONTENT[: received.count]
        assert received.count >= min(size, MIB), "what was in line counts, within a bound"
