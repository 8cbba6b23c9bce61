"""A head that does not end, and a connection on which nothing happens."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.wire.loopback import OPTIONS, Exchange, patch, serving, store, until
from tusd_py.wire import head, workshop
from tusd_py.wire.limits import ConnectionLimits

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits half a minute for a test."""
    monkeypatch.setattr(head.HeadReader, "limits", ConnectionLimits(head_within=0.3))
    monkeypatch.setattr(head, "_LINGER", 0.2)
    monkeypatch.setattr(workshop, "_TICK", 0.05)


@pytest.mark.parametrize("begin", [b"O", b"OPTIONS / HTTP/1.1\r\n", OPTIONS[:-2]])
async def test_a_head_that_never_ends_is_told_so(tmp_path: Path, begin: bytes) -> None:
    """Each would keep a descriptor for as long as it likes."""
    async with serving(tmp_path) as server:
        client = await server.client()
        await client.send(begin)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"ERR_HEAD_TIMEOUT" in answer


async def test_a_head_of_a_byte_now_and_then_is_no_better(tmp_path: Path) -> None:
    """It is the end of the head that counts, and not its last byte."""
    async with serving(tmp_path) as server:
        client = await server.client()

        async def trickle() -> None:
            for byte in OPTIONS[:-2] + b"X-Some: " + b"a" * 1000:
                await client.send(bytes([byte]))
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
        trickling.cancel()
        await asyncio.wait({trickling})


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_whoever_asks_nothing_gets_no_answer(tmp_path: Path, sent: bytes) -> None:
    """It would be taken for the answer to a request that is on its way."""
    async with serving(tmp_path) as server:
        client = await server.client()
        await client.send(sent)
        assert await client.rest() == b""


async def test_the_answer_comes_before_the_end(tmp_path: Path) -> None:
    """A 408 in its place would tell the client that its upload was not stored."""

    async def slowly(exchange: Exchange) -> None:
        await exchange.save()
        await asyncio.sleep(1.0)
        await exchange.answer(200, b"stored")

    async with serving(tmp_path, slowly) as server:
        client = await server.client()
        await client.send(patch(5) + b"hello" + OPTIONS[:10])
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"stored")


@pytest.mark.parametrize(
    "behind",
    [
        b"\x16\x03\x01 no http\r\n\r\n",
        b"OPTIONS / HTTP/1.1\r\n\r\n",  # without Host
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    ],
)
@pytest.mark.parametrize("size", [5, 300_000])
async def test_what_is_refused_behind_a_request_takes_no_answer(
    tmp_path: Path, behind: bytes, size: int
) -> None:
    """The answer to the one before it is due first; then the connection ends."""

    async def slowly(exchange: Exchange) -> None:
        await exchange.save()
        await asyncio.sleep(0.1)
        await exchange.answer(200, b"stored")

    async with serving(tmp_path, slowly) as server:
        client = await server.client()
        await client.send(patch(size) + b"x" * size + behind)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"stored")


async def test_a_broken_body_is_told_so(tmp_path: Path) -> None:
    """And whoever stores it hears that no more comes."""
    ended: list[str] = []

    async def read(exchange: Exchange) -> None:
        while (message := await exchange.receive())["type"] == "http.request":
            continue
        ended.append(message["type"])

    async with serving(tmp_path, read) as server:
        client = await server.client()
        head = b"PATCH / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        await client.send(head + b"5\r\nhello\r\nno size\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        await until(lambda: ended == ["http.disconnect"])


async def test_a_long_answer_and_a_head_behind_it(tmp_path: Path) -> None:
    """The head is whole; nobody reads it yet, which is no fault of its client."""

    async def slowly(exchange: Exchange) -> None:
        await exchange.save()
        await asyncio.sleep(0.8)
        await exchange.answer(200, b"stored")

    async with serving(tmp_path, slowly) as server:
        client = await server.client()
        await client.send(patch(5) + b"hello" + OPTIONS + OPTIONS[:10])
        await asyncio.sleep(0.2)
        await client.send(OPTIONS[10:])
        assert (await client.answer()).endswith(b"stored")
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize("between", [b"", b"\r\n"])
async def test_a_connection_without_requests_is_let_go(tmp_path: Path, between: bytes) -> None:
    """Also when it sends empty lines, which are allowed before a request."""
    async with serving(tmp_path) as server:
        client = await server.client()
        await client.send(OPTIONS)
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")
        await client.send(between)
        begun = time.monotonic()
        assert await client.rest() == b""
        assert time.monotonic() - begun < 8, "five seconds"


async def test_it_goes_on_within_that_time(tmp_path: Path) -> None:
    async with serving(tmp_path, store) as server:
        client = await server.client()
        for _ in range(3):
            await client.send(patch(5) + b"hello")
            assert (await client.answer()).endswith(b"5 end")
            await asyncio.sleep(0.4)
