"""Requests that the application answers at once, without a task; and those that it does not."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.wire.loopback import OPTIONS, Exchange, patch, serving, until

pytestmark = pytest.mark.anyio

BODY = b"all of it"

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


def echo(_: Any, body: bytes) -> Answer:
    return 200, [(b"x-way", b"short")], body


def nothing(_: Any, __: bytes) -> None:
    return None


async def whole(exchange: Exchange) -> None:
    assert exchange.body is not None
    await exchange.answer(200, exchange.body.whole() or b"", **{"x-way": "long"})


async def test_what_is_answered_at_once_gets_no_task(tmp_path: Path) -> None:
    """The task, and all that serves to wait, would be a third of the work."""
    async with serving(tmp_path, whole, at_once=echo) as server:
        client = await server.client()
        for number in range(3):
            await client.send(patch(len(BODY)) + BODY)
            answer = await client.answer()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nX-Way: short\r\nContent-Length: 9\r\n\r\nall of it" in answer
            assert server.state.total_requests == number + 1
        assert server.exchanges == []


async def test_an_answer_without_content_has_no_length(tmp_path: Path) -> None:
    """RFC 9110, 8.6: "MUST NOT send a Content-Length header field in any response with a status
    code of 1xx (Informational) or 204 (No Content)".
    """
    async with serving(tmp_path, at_once=lambda *_: (204, [], b"")) as server:
        client = await server.client()
        await client.send(patch(len(BODY)) + BODY + patch(0))
        for _ in range(2):
            assert await client.answer() == b"HTTP/1.1 204 No Content\r\n\r\n"


async def test_the_connection_ends_where_the_client_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, at_once=echo) as server:
        client = await server.client()
        await client.send(patch(len(BODY), Connection="close") + BODY)
        answer = await client.rest()
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(BODY)


async def test_what_is_not_answered_at_once_is_served_as_ever(tmp_path: Path) -> None:
    """The body is still there for it."""
    async with serving(tmp_path, whole, at_once=nothing) as server:
        client = await server.client()
        await client.send(patch(len(BODY)) + BODY)
        answer = await client.answer()
        assert b"\r\nX-Way: long\r\n" in answer
        assert answer.endswith(BODY)
        assert server.last.task is not None


@pytest.mark.parametrize("length", [len(BODY) + 1, 100_000])
async def test_what_has_not_come_is_served_as_ever(tmp_path: Path, length: int) -> None:
    """Who knows how long it waits."""

    async def received(exchange: Exchange) -> None:
        assert (await exchange.receive())["body"] == BODY
        await exchange.answer()

    async with serving(tmp_path, received, at_once=echo) as server:
        client = await server.patching(length)
        await client.send(BODY)
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        assert server.last.task is not None


async def test_a_defect_is_answered_with_500(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the next request is served."""

    def broken(scope: Any, body: bytes) -> Answer:
        if scope["path"] == "/broken":
            raise ValueError("a defect")
        return echo(scope, body)

    async with serving(tmp_path, at_once=broken) as server:
        client = await server.client()
        await client.send(patch(len(BODY), "/broken") + BODY + patch(len(BODY)) + BODY)
        assert (await client.answer()).startswith(b"HTTP/1.1 500 ")
        assert (await client.answer()).endswith(BODY)
        assert "a defect" in caplog.text


async def test_a_thousand_requests_in_a_row_are_answered_in_order(tmp_path: Path) -> None:
    """Each begun within the answer to the one before would be too deep."""
    async with serving(tmp_path, at_once=echo) as server:
        client = await server.client()
        bodies = [b"%d" % number for number in range(1000)]
        await client.send(b"".join(patch(len(body)) + body for body in bodies) + OPTIONS)
        for body in bodies:
            assert (await client.answer()).endswith(b"\r\n\r\n" + body)


async def test_those_behind_one_that_waits_are_answered_in_order(tmp_path: Path) -> None:
    """They stand in line behind it, and begin when it is answered."""
    first = asyncio.Event()

    def but_the_first(scope: Any, body: bytes) -> Answer | None:
        return None if body == b"0" else echo(scope, body)

    async def slow(exchange: Exchange) -> None:
        if exchange.disk.path.name == "0":
            await first.wait()
        await whole(exchange)

    async with serving(tmp_path, slow, at_once=but_the_first) as server:
        client = await server.client()
        bodies = [b"%d" % number for number in range(300)]
        await client.send(b"".join(patch(len(body)) + body for body in bodies))
        await until(lambda: server.exchanges)
        assert await client.is_silent(0.05)
        first.set()
        for body in bodies:
            assert (await client.answer()).endswith(b"\r\n\r\n" + body)
