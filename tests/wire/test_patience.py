"""A client that does not take its answer is let go; one that takes it slowly is not."""

import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.wire.loopback import KIB, MIB, OPTIONS, Exchange, Loopback, patch, serving, until
from tusd_py.wire import head, patience
from tusd_py.wire.http import HttpProtocol
from tusd_py.wire.limits import ConnectionLimits

pytestmark = pytest.mark.anyio

SMALL = 4 * KIB
"""Bytes that the sockets of these tests buffer, or a little more."""


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: they buffer, and close, in their own ways."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The limits that ended something."""
    limits: list[str] = []
    given = ConnectionLimits(refused=limits.append)
    monkeypatch.setattr(head.HeadReader, "limits", given)
    return limits


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a minute for a test."""
    monkeypatch.setattr(patience, "WINDOW", 0.3)


async def written(exchange: Exchange) -> None:
    with contextlib.suppress(ConnectionError):
        await exchange.answer(200, b"x" * 4 * MIB)


async def file(exchange: Exchange) -> None:
    with exchange.disk.path.open("w+b") as opened:
        opened.truncate(4 * MIB)
        length = (b"content-length", b"%d" % (4 * MIB))
        await exchange.send({"type": "http.response.start", "status": 200, "headers": [length]})
        await exchange.send({"type": "http.response.zerocopysend", "file": opened, "offset": 0})


async def little_and_close(exchange: Exchange) -> None:
    """So little that the transport takes it all; but it cannot be closed while that is left."""
    await exchange.answer(200, b"x" * 60 * KIB, connection="close")


async def little(exchange: Exchange) -> None:
    """Likewise; the connection is closed when it has been idle for a while."""
    await exchange.answer(200, b"x" * 60 * KIB)


async def asked(loopback: Loopback) -> HttpProtocol:
    """A connection that has asked for something, and does not read."""
    client = await loopback.client(SO_RCVBUF=SMALL)
    await until(lambda: loopback.state.connections)
    protocol = loopback.protocols[-1]
    protocol.timeout_keep_alive = 0.1  # type: ignore[assignment]  # a float does as well
    opened = protocol.transport.get_extra_info("socket")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    await client.send(patch(0))
    await until(lambda: loopback.exchanges)
    return protocol


@pytest.mark.parametrize("handler", [written, file, little_and_close, little])
async def test_who_does_not_read_is_let_go(
    tmp_path: Path, refused: list[str], soon: None, handler: Callable[[Exchange], Awaitable[None]]
) -> None:
    """He would have a descriptor, a file and what waits for him for as long as he likes."""
    async with serving(tmp_path, handler) as loopback:
        protocol = await asked(loopback)
        await until(lambda: not loopback.state.connections)
        assert refused == ["slowest-download"]
        assert not protocol.workshop._deadlines
        other = await loopback.client()
        await other.send(OPTIONS)
        assert b" 204 " in await other.answer()


@pytest.mark.parametrize("handler", [written, file])
async def test_who_reads_slowly_is_served(
    tmp_path: Path, refused: list[str], handler: Callable[[Exchange], Awaitable[None]]
) -> None:
    """What came to his machine counts: of its own buffer the kernel tells too late."""
    async with serving(tmp_path, handler) as loopback:
        protocol = await asked(loopback)
        protocol.timeout_keep_alive = 60  # or its end would end the watch as well
        # Before a file goes out the head does, for which it may have to wait as well.
        is_head = handler is file
        await until(
            lambda: (
                protocol._handed is not None
                and (protocol._handed == protocol._count_written) is not is_head
            )
        )
        await until(
            lambda: protocol._handed is not None and taken_by(protocol) < protocol._handed()
        )
        client = loopback.clients[0]
        came = 0
        for _ in range(3):
            stands = protocol._taken
            while taken_by(protocol) - stands < 100 * patience.WINDOW:
                came += len(await client._more())
            protocol._look()
            assert not protocol.transport.is_closing()
        # As its answer does, the watch ends with the last byte.
        while came < 4 * MIB:
            came += len(await client._more())
        await until(lambda: protocol._handed is None)
        await until(lambda: not protocol.workshop._deadlines)
        assert refused == []


async def test_who_leaves_is_not_looked_for(tmp_path: Path, refused: list[str]) -> None:
    async with serving(tmp_path, written) as loopback:
        protocol = await asked(loopback)
        await until(lambda: protocol._handed is not None)
        loopback.clients[0].reset()
        await until(lambda: not loopback.state.connections)
        assert not protocol.workshop._deadlines
        assert refused == []


def taken_by(protocol: HttpProtocol) -> int:
    assert protocol._handed is not None
    return protocol._count_taken(protocol._handed)


async def test_a_limit_of_0_is_none(
    tmp_path: Path, refused: list[str], soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = ConnectionLimits(slowest_download=0, refused=refused.append)
    monkeypatch.setattr(head.HeadReader, "limits", limits)
    async with serving(tmp_path, written) as loopback:
        protocol = await asked(loopback)
        await until(lambda: protocol.flow.write_paused)
        assert protocol._handed is None
        assert not protocol.workshop._deadlines
