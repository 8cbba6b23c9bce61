"""What belongs to which request, when several share a connection, or a connection ends early."""

import asyncio
import contextlib
import functools
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wire.loopback import (
    KIB,
    MIB,
    OPTIONS,
    WITHIN,
    Client,
    Exchange,
    Loopback,
    patch,
    pattern,
    serving,
    store,
    until,
)
from tusd_py.body import EndedBy, Received
from tusd_py.wire import bursts
from tusd_py.wire.http import HttpProtocol

pytestmark = pytest.mark.anyio

CONTENT = pattern(8 * MIB)


@pytest.mark.parametrize("size", [5, 100 * KIB])
@pytest.mark.parametrize("is_late", [False, True])
async def test_two_bodies_in_one_segment(tmp_path: Path, size: int, is_late: bool) -> None:
    """The second's bytes went into the first upload (seen)."""

    async def late(exchange: Exchange) -> None:
        if is_late:  # the parser has gone on to the next one by then
            await asyncio.sleep(0.1)
        await store(exchange)

    first, other = CONTENT[:size], CONTENT[size : 2 * size]
    async with serving(tmp_path, late) as server:
        client = await server.client()
        await client.send(patch(size) + first + patch(size) + other[:-1])
        assert (await client.answer()).endswith(b"%d end" % size)
        await asyncio.sleep(0.05)
        await client.send(other[-1:])
        assert (await client.answer()).endswith(b"%d end" % size)
        assert [exchange.disk.content for exchange in server.exchanges] == [first, other]


@pytest.mark.parametrize("size", [0, 5, 70 * KIB, 3 * MIB])
@pytest.mark.parametrize("cut", [0, 1, 90, 120, 200, 100_000])
async def test_requests_before_in_and_behind_a_body(tmp_path: Path, size: int, cut: int) -> None:
    """Each gets its own answer, in order, wherever the network cuts them."""
    sent = OPTIONS + patch(size) + CONTENT[:size] + OPTIONS + patch(5) + b"hello" + OPTIONS
    async with serving(tmp_path) as server:
        client = await server.client()
        for _ in range(2):
            await client.send(sent[:cut])
            await asyncio.sleep(0.02 if cut else 0)
            await client.send(sent[cut:])
            answers = [await client.answer() for _ in range(5)]
            assert [a[9:12] for a in answers] == [b"204", b"200", b"204", b"200", b"204"]
            assert answers[1].endswith(b"\r\n\r\n%d end" % size)
            assert answers[3].endswith(b"\r\n\r\n5 end")
        assert [e.disk.content for e in server.exchanges if e.body and e.received] == [
            CONTENT[:size],
            b"hello",
        ] * 2


class Poll:
    """Stands in for `select.poll`: tells of bytes, but not before it is let to."""

    waits = threading.Event()
    gate = threading.Event()

    def register(self, *_: object) -> None:
        """See `select.poll`."""

    def poll(self, _: int) -> list[tuple[int, int]]:
        self.waits.set()
        assert self.gate.wait(WITHIN)
        return [(0, select.POLLIN)]


@pytest.fixture
def dry(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Poll]]:
    """A burst whose socket is dry waits until `gate` is set."""

    class Select:
        POLLIN = select.POLLIN
        poll = Poll

    Poll.waits.clear()
    Poll.gate.clear()
    with monkeypatch.context() as patched:
        patched.setattr(bursts, "select", Select)
        try:
            yield Poll
        finally:
            Poll.gate.set()


async def test_another_clients_bytes_are_never_taken(tmp_path: Path, dry: type[Poll]) -> None:
    """The transport is closed in mid-burst, and the number of its descriptor is the next
    client's: whose bytes were stored in this upload (seen).
    """
    async with serving(tmp_path) as server:
        # Their own sides have their numbers before the server's is free.
        others = [Client() for _ in range(8)]
        server.clients += others
        await server.patching(len(CONTENT), CONTENT[: 300 * KIB])
        await until(dry.waits.is_set)
        server.at_exit = dry.gate.set
        victim, protocol = server.last, server.protocols[-1]
        number = number_of(protocol)
        protocol.transport.abort()
        await until(protocol.lost.done)
        await until(lambda: not Path(f"/proc/self/fd/{number}").exists())
        for count, other in enumerate(others, start=2):
            await other.connect(server.port)
            await until(functools.partial(are_made, server, count))
            if number_of(server.protocols[-1]) == number:
                break
        else:
            pytest.fail("nobody got the number")
        server.protocols[-1].transport.pause_reading()  # or the loop may take them first
        await other.send(patch(50_000) + b"x" * 50_000)
        await asyncio.sleep(0.05)
        dry.gate.set()
        await until(lambda: victim.received is not None)
        assert victim.received == Received(count=300 * KIB, ended_by=EndedBy.DISCONNECT)
        assert victim.disk.content == CONTENT[: 300 * KIB]
        server.protocols[-1].transport.resume_reading()
        assert (await other.answer()).endswith(b"50000 end")


def are_made(server: Loopback, count: int) -> bool:
    made = server.protocols
    return len(made) == count and made[-1].transport is not None


def number_of(protocol: HttpProtocol) -> int:
    return int(protocol.transport.get_extra_info("socket").fileno())


@pytest.mark.parametrize("what", ["receive", "answer"])
async def test_only_the_body_lets_the_loop_read(tmp_path: Path, what: str) -> None:
    """`receive()`, or the end of a response, resumed reading during a burst: 204 with bytes
    missing and out of order (seen).
    """

    async def both(exchange: Exchange) -> None:
        saving = asyncio.create_task(exchange.save())
        await until(exchange.disk.waits.is_set)
        call = exchange.receive if what == "receive" else exchange.answer
        other = asyncio.ensure_future(call())
        await asyncio.sleep(0.3)  # the loop would read now
        exchange.disk.gate.set()
        await saving
        await other
        if what == "receive":
            await exchange.answer()

    async with serving(tmp_path, both) as server:
        client = await server.patching(len(CONTENT))
        disk = server.last.disk
        disk.gate.clear()
        await client.send(CONTENT)
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        await until(lambda: server.last.received is not None)
        assert server.last.received == Received(count=len(CONTENT), ended_by=EndedBy.END)
        assert disk.content == CONTENT


async def test_whoever_listens_for_a_disconnect_hears_of_the_end_only(tmp_path: Path) -> None:
    """A middleware may do so while the body goes past it."""
    heard: list[str] = []
    is_stored = asyncio.Event()

    async def listening(exchange: Exchange) -> None:
        async def listen() -> None:
            while True:
                message = await exchange.receive()
                assert not message.get("body")
                heard.append(message["type"])
                if message["type"] == "http.disconnect":
                    return

        task = asyncio.create_task(listen())
        await asyncio.sleep(0)
        storing = asyncio.create_task(store(exchange))
        await asyncio.sleep(0)
        is_stored.set()
        await storing
        await task

    async with serving(tmp_path, listening) as server:
        client = await server.patching(len(CONTENT))
        # What came before it is stored would be the listener's.
        async with asyncio.timeout(30):
            await is_stored.wait()
        await client.send(CONTENT)
        assert (await client.answer()).endswith(b"%d end" % len(CONTENT))
        await until(lambda: heard and heard[-1] == "http.disconnect")
        assert server.last.disk.content == CONTENT


async def test_a_body_that_was_received_in_part_is_not_offered(tmp_path: Path) -> None:
    """A middleware has some of its bytes: the count of the rest would end in the next request."""
    taken: list[Any] = []

    async def touched(exchange: Exchange) -> None:
        make = exchange.scope["extensions"]["tusd_py.body"]
        taken.append((await exchange.receive())["body"])
        taken.append(make(30.0, 0.0))
        while (message := await exchange.receive())["more_body"]:
            taken.append(message["body"])
        await exchange.answer()

    async with serving(tmp_path, touched) as server:
        client = await server.patching(8, b"some")
        await until(lambda: len(taken) == 2)
        assert taken == [b"some", None]
        await client.send(b"more" + OPTIONS)
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize("content", [b"some", b"some" * MIB])
async def test_nothing_is_stored_of_a_body_that_lost_its_beginning(
    tmp_path: Path, content: bytes
) -> None:
    """A middleware waited for a message, and got the first bytes when the body was made already."""

    async def late(exchange: Exchange) -> None:
        assert (await exchange.receive())["body"]
        assert exchange.body is not None
        assert exchange.body.whole() is None
        await store(exchange)

    async with serving(tmp_path, late) as server:
        with contextlib.suppress(ConnectionResetError):  # of what nobody will read
            client = await server.patching(len(content), content)
            await client.rest()
        await until(lambda: server.last.received is not None)
        assert server.last.received == Received(count=0, ended_by=EndedBy.DISCONNECT)
        assert server.last.disk.content == b""


EXPECT = {"Expect": "100-continue"}


@pytest.mark.parametrize("size", [5, 3 * MIB])
async def test_a_client_that_waits_is_told_to_go_on(tmp_path: Path, size: int) -> None:
    """And only once the body is wanted."""
    wanted = asyncio.Event()

    async def late(exchange: Exchange) -> None:
        await wanted.wait()
        await store(exchange)

    async with serving(tmp_path, late) as server:
        client = await server.patching(size, **EXPECT)
        assert await client.is_silent(0.1)
        wanted.set()
        assert await client.answer() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(CONTENT[:size] + OPTIONS)
        assert (await client.answer()).endswith(b"%d end" % size)
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")
        assert server.exchanges[0].disk.content == CONTENT[:size]


async def test_a_client_that_waits_and_is_refused_never_sends(tmp_path: Path) -> None:
    """Its next request was eaten as the body (seen), so there is none on this connection."""

    async def refuse(exchange: Exchange) -> None:
        await exchange.answer(409, Connection="close")

    async with serving(tmp_path, refuse) as server:
        client = await server.patching(len(OPTIONS), **EXPECT)
        assert (await client.answer()).startswith(b"HTTP/1.1 409 ")
        with contextlib.suppress(OSError):
            await client.send(OPTIONS)
        assert await client.rest() == b""
        assert len(server.exchanges) == 1


UPGRADE = (
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
)


@pytest.mark.parametrize("size", [0, 5, 3 * MIB])
async def test_a_client_that_would_rather_speak_http2(tmp_path: Path, size: int) -> None:
    """java.net.http asks for it with its first request: it is answered in HTTP/1.1, and what
    follows is its next request.
    """
    asking = patch(size).replace(b"\r\n\r\n", b"\r\n" + UPGRADE.encode() + b"\r\n")
    options = OPTIONS.replace(b"\r\n\r\n", b"\r\n" + UPGRADE.encode() + b"\r\n")
    async with serving(tmp_path) as server:
        client = await server.client()
        for _ in range(2):
            await client.send(options + asking + CONTENT[:size] + options + OPTIONS)
            answers = [await client.answer() for _ in range(4)]
            assert [answer[9:12] for answer in answers] == [b"204", b"200", b"204", b"204"]
            assert answers[1].endswith(b"\r\n\r\n%d end" % size)
        assert [e.disk.content for e in server.exchanges if e.received] == [CONTENT[:size]] * 2


@pytest.mark.parametrize("is_whole", [True, False])
async def test_such_a_client_with_chunks(tmp_path: Path, is_whole: bool) -> None:
    """Neither are they taken for requests: what another one hides there is not done."""
    received: list[bytes] = []

    async def read(exchange: Exchange) -> None:
        more = True
        while more:
            message = await exchange.receive()
            received.append(message["body"])
            more = message["more_body"]
        trailers = exchange.scope["extensions"]["tusd_py.trailers"]
        assert trailers == [(b"x-last", b"1")]
        await exchange.answer()

    head = f"PATCH / HTTP/1.1\r\nHost: x\r\n{UPGRADE}Transfer-Encoding: chunked\r\n\r\n".encode()
    body = b"%x\r\n%b\r\n0\r\nX-Last: 1\r\n\r\n" % (len(OPTIONS), OPTIONS)
    async with serving(tmp_path, read) as server:
        client = await server.client()
        for _ in range(2):
            await client.send(head + body[: 1000 if is_whole else 9])
            await asyncio.sleep(0.05)
            await client.send(body[1000 if is_whole else 9 :] + OPTIONS)
            assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
            assert (await client.answer()).startswith(b"HTTP/1.1 204 ")
        assert b"".join(received) == OPTIONS * 2


async def test_a_thousand_such_requests_in_one_segment(tmp_path: Path) -> None:
    """Each is parsed behind the one before it, and not within."""
    options = b"OPTIONS / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    async with serving(tmp_path) as server:
        client = await server.client()
        sending = asyncio.create_task(client.send(options * 2000))
        for _ in range(2000):
            assert (await client.answer()).startswith(b"HTTP/1.1 204 ")
        await sending
