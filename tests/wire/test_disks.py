"""A disk that is slow, full or failing, and a process without descriptors."""

import asyncio
import errno
import fcntl
import os
import struct
import termios
from pathlib import Path
from typing import Any

import pytest

from tests.wire.loopback import (
    KIB,
    MIB,
    OPTIONS,
    Exchange,
    Loopback,
    descriptors,
    patch,
    pattern,
    serving,
    until,
)

pytestmark = [pytest.mark.disk, pytest.mark.anyio]

CONTENT = pattern(8 * MIB)


async def keep_or_refuse(exchange: Exchange) -> None:
    """As the application does: 507, the rest is dropped, and the connection goes on."""
    assert exchange.body is not None
    try:
        received = await exchange.save()
    except OSError as error:
        assert await exchange.body.drop(64 * MIB, 10.0)
        await exchange.answer(507, errno.errorcode[error.errno or 0].encode())
    else:
        await exchange.answer(200, b"%d" % received.count)


class Full:
    """Stands in for `os.pwrite` on a disk that has room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._pwrite = os.pwrite

    def __call__(self, descriptor: int, data: Any, offset: int) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = self._pwrite(descriptor, memoryview(data)[: self.room], offset)
        self.room -= count
        return count


@pytest.mark.parametrize("room", [0, 1, 100_000, 5 * MIB + 3])
async def test_a_disk_that_gets_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """What was written before stays, and not a byte of the next request is taken for this body."""
    async with serving(tmp_path, keep_or_refuse) as server:
        client = await server.client()
        monkeypatch.setattr(os, "pwrite", Full(room))
        await client.send(patch(len(CONTENT)) + CONTENT + OPTIONS)
        assert (await client.answer()).endswith(b"\r\n\r\nENOSPC")
        assert server.exchanges[0].disk.content == CONTENT[:room]
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")


async def test_a_slow_clients_write_that_fails_is_told(tmp_path: Path) -> None:
    """What came meanwhile must not be written in the place of what could not be."""
    async with serving(tmp_path, keep_or_refuse) as server:
        client = await server.patching(20, b"lost")
        disk = server.last.disk
        disk.gate.clear()
        disk.fails = OSError(errno.EIO, "the disk")
        await until(disk.waits.is_set)
        await client.send(b"next")
        await asyncio.sleep(0.05)
        disk.gate.set()
        await until(lambda: disk.fails is None)
        await client.send(b"!" * 12 + OPTIONS)
        assert (await client.answer()).endswith(b"\r\n\r\nEIO")
        assert disk.content == b""
        assert (await client.answer()).startswith(b"HTTP/1.1 204 ")


async def test_a_short_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may write less than it was given."""
    pwrite = os.pwrite
    async with serving(tmp_path) as server:
        client = await server.client()
        monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:70_001], at))
        await client.send(patch(2 * MIB) + CONTENT[: 2 * MIB])
        assert (await client.answer()).endswith(b"%d end" % (2 * MIB))
        assert server.last.disk.content == CONTENT[: 2 * MIB]


def taken(server: Loopback, sent: int) -> int:
    """Bytes that are in the memory of the process, or on its disk."""
    connection = server.protocols[-1].transport.get_extra_info("socket")

    def queued(socket: int, request: int) -> int:
        (count,) = struct.unpack("i", fcntl.ioctl(socket, request, b"\0\0\0\0"))
        return int(count)

    on_the_way = queued(server.clients[-1].socket.fileno(), termios.TIOCOUTQ)
    return sent - on_the_way - queued(connection.fileno(), termios.FIONREAD)


@pytest.mark.parametrize("is_fast", [True, False])
async def test_a_slow_disk_holds_its_client_back(tmp_path: Path, is_fast: bool) -> None:
    """Or the memory of the server grows with the body."""
    content = pattern(24 * MIB)
    async with serving(tmp_path) as server:
        client = await server.patching(len(content))
        disk = server.last.disk
        disk.gate.clear()
        begin = 200 * KIB if is_fast else 40 * KIB
        await client.send(content[:begin])
        if not is_fast:
            await asyncio.sleep(0.05)
            await client.send(content[begin : 2 * begin])
            begin *= 2
        await until(disk.waits.is_set)
        sent = begin

        async def send() -> None:
            nonlocal sent
            loop = asyncio.get_running_loop()
            while sent < len(content):
                piece = content[sent : sent + 64 * KIB]
                await loop.sock_sendall(client.socket, piece)
                sent += len(piece)

        sending = asyncio.create_task(send())
        before = -1
        while sent != before:  # until the client is held back
            before = sent
            await asyncio.sleep(0.3)
        assert sent < len(content)
        assert taken(server, sent) < 2 * MIB
        disk.gate.set()
        await sending
        assert (await client.answer()).endswith(b"%d end" % len(content))
        assert disk.content == content


async def test_without_descriptors_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server at its limit is slower, but loses nothing."""

    def none_left(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with serving(tmp_path) as server:
        client = await server.client()
        monkeypatch.setattr(os, "dup", none_left)
        await client.send(patch(len(CONTENT)) + CONTENT)
        assert (await client.answer()).endswith(b"%d end" % len(CONTENT))
        assert server.last.disk.content == CONTENT


async def test_a_file_that_cannot_be_opened_again_is_told(tmp_path: Path) -> None:
    """Its client was slow, and meanwhile no descriptor was left."""
    async with serving(tmp_path, keep_or_refuse) as server:
        client = await server.patching(20, b"hello")
        disk = server.last.disk
        await until(lambda: disk.content == b"hello" and not disk.is_open)
        disk.fails = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        await client.send(b" there")
        await until(lambda: disk.fails is None)
        await client.send(b"!" * 9)
        assert (await client.answer()).endswith(b"\r\n\r\nEMFILE")
        assert disk.content == b"hello"


async def test_slow_clients_have_a_socket_each_and_nothing_else(tmp_path: Path) -> None:
    """At most one descriptor per client, also when they began fast."""
    async with serving(tmp_path) as server:
        before = descriptors()
        clients = [await server.patching(MIB) for _ in range(30)]
        for client in clients:
            await client.send(CONTENT[: 100 * KIB])
        await until(lambda: all(len(e.disk.content) == 100 * KIB for e in server.exchanges))
        await until(lambda: not any(exchange.disk.is_open for exchange in server.exchanges))
        assert descriptors() - before <= 2 * len(clients), "one on either side"
        for client in clients:
            await client.send(CONTENT[100 * KIB : MIB])
            assert (await client.answer()).endswith(b"%d end" % MIB)
        assert all(exchange.disk.content == CONTENT[:MIB] for exchange in server.exchanges)
