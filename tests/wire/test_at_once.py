"""Requests that are begun before there is a task for them, and get one when they wait."""

import asyncio
from pathlib import Path

import pytest

from tests.wire.loopback import OPTIONS, Exchange, patch, serving, until

pytestmark = pytest.mark.anyio

BODY = b"all of it"


async def whole(exchange: Exchange) -> None:
    assert exchange.body is not None
    await exchange.answer(200, exchange.body.whole() or b"")


async def test_what_does_not_wait_gets_no_task(tmp_path: Path) -> None:
    """The task would cost more than most of what it does."""
    async with serving(tmp_path, whole, at_once=True) as server:
        client = await server.client()
        for _ in range(3):
            await client.send(patch(len(BODY)) + BODY)
            assert (await client.answer()).endswith(BODY)
        assert [exchange.task for exchange in server.exchanges] == [None] * 3
        assert server.state.total_requests == 3


@pytest.mark.parametrize("length", [len(BODY), 100_000])
async def test_what_has_not_come_gets_a_task(tmp_path: Path, length: int) -> None:
    """Who knows how long it waits."""

    async def received(exchange: Exchange) -> None:
        assert (await exchange.receive())["body"] == BODY
        await exchange.answer()

    async with serving(tmp_path, received, at_once=True) as server:
        client = await server.patching(length)
        await client.send(BODY)
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        assert server.last.task is not None


async def test_what_waits_gets_a_task_then(tmp_path: Path) -> None:
    """From the first wait on it is as any other, also with whatever belongs to a task."""
    tasks: list[object] = []

    async def waiting(exchange: Exchange) -> None:
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(10):
            await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.get_running_loop().create_future()
        tasks.append(asyncio.current_task())
        await whole(exchange)

    async with serving(tmp_path, waiting, at_once=True) as server:
        client = await server.client()
        await client.send(patch(len(BODY)) + BODY)
        assert (await client.answer()).endswith(BODY)
        assert server.last.task is None
        assert tasks[0] is tasks[1] is not None


@pytest.mark.parametrize("spins", [False, True])
async def test_the_server_waits_for_what_waits_and_may_cancel_it(
    tmp_path: Path, spins: bool
) -> None:
    """As uvicorn does when it ends: it knows such a request by its task."""
    cancelled: list[bool] = []

    async def hanging(exchange: Exchange) -> None:
        try:
            while spins:
                await asyncio.sleep(0)
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async with serving(tmp_path, hanging, at_once=True) as server:
        client = await server.client()
        await client.send(patch(len(BODY)) + BODY)
        await until(lambda: server.state.tasks)
        (task,) = server.state.tasks
        task.cancel()
        await client.rest()
        assert cancelled == [True]


@pytest.mark.parametrize("late", [False, True])
async def test_a_defect_is_answered_with_500(
    tmp_path: Path, late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Before it waits, and after."""

    async def broken(_: Exchange) -> None:
        if late:
            await asyncio.sleep(0)
        raise ValueError("a defect")

    async with serving(tmp_path, broken, at_once=True) as server:
        client = await server.client()
        await client.send(patch(len(BODY)) + BODY)
        assert (await client.rest()).startswith(b"HTTP/1.1 500 ")
        assert "a defect" in caplog.text


async def test_a_thousand_requests_in_a_row_are_answered_in_order(tmp_path: Path) -> None:
    """Each begun within the answer to the one before would be too deep."""
    async with serving(tmp_path, whole, at_once=True) as server:
        client = await server.client()
        bodies = [b"%d" % number for number in range(1000)]
        await client.send(b"".join(patch(len(body)) + body for body in bodies) + OPTIONS)
        for body in bodies:
            assert (await client.answer()).endswith(b"\r\n\r\n" + body)
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")


async def test_those_behind_one_that_waits_are_answered_in_order(tmp_path: Path) -> None:
    """They stand in line behind it, and begin when it is answered."""
    first = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        if exchange.disk.path.name == "0":
            await first.wait()
        await whole(exchange)

    async with serving(tmp_path, slow, at_once=True) as server:
        client = await server.client()
        bodies = [b"%d" % number for number in range(300)]
        await client.send(b"".join(patch(len(body)) + body for body in bodies))
        await until(lambda: server.exchanges)
        assert await client.is_silent(0.05)
        first.set()
        for body in bodies:
            assert (await client.answer()).endswith(b"\r\n\r\n" + body)
