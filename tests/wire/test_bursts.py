"""Threads belong to whoever has bytes waiting, and everybody gets a turn."""

import asyncio
import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.wire.loopback import KIB, MIB, Disk, Exchange, pattern, serving, store, until
from tusd_py.wire import bursts
from tusd_py.wire.bursts import Burst, FileBurst, Threads
from tusd_py.wire.workshop import Workshop

CONTENT = pattern(4 * MIB)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "file")
    yield made
    made.release()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A server's side, and its client."""
    server, client = socket.socketpair()
    server.setblocking(False)
    yield server, client
    server.close()
    client.close()


def reading(
    disk: Disk, server: socket.socket, at_most: int, threads: Threads | None = None
) -> Burst:
    burst = FileBurst(disk, 0, bytearray(b"head"), None)
    burst.reads(os.dup(server.fileno()), at_most, threads or Threads(1))
    return burst


def running(burst: Burst) -> threading.Thread:
    thread = threading.Thread(target=burst.run)
    thread.start()
    return thread


def test_a_burst_ends_when_the_socket_is_dry(
    disk: Disk, pair: tuple[socket.socket, socket.socket]
) -> None:
    """The thread is for others then."""
    server, client = pair
    client.send(b"hello")
    burst = reading(disk, server, 1000)
    begun = time.monotonic()
    burst.run()
    assert time.monotonic() - begun < 1.0
    assert (burst.written, burst.taken, burst.is_lost) == (9, 5, False)
    assert disk.content == b"headhello"


def test_a_burst_takes_no_more_than_its_body(
    disk: Disk, pair: tuple[socket.socket, socket.socket]
) -> None:
    """What is behind it is the next request."""
    server, client = pair
    client.send(b"hellonext")
    burst = reading(disk, server, 5)
    burst.run()
    assert disk.content == b"headhello"
    assert server.recv(100) == b"next"


def test_a_write_ends_where_a_piece_of_the_file_does(
    disk: Disk, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems keep such a piece as one; and the disk hears how much is about to come."""
    # However long a busy machine keeps the client waiting, the burst goes on.
    monkeypatch.setattr(bursts, "_DRY", 10_000)
    monkeypatch.setattr(bursts, "_WINDOW", 10.0)
    offset, size = 1000, 700 * KIB
    ends = []

    def written(descriptor: int, data: memoryview, at: int) -> int:
        ends.append(at + len(data))
        return pwrite(descriptor, data, at)

    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", written)
    server, client = pair
    burst = FileBurst(disk, offset, bytearray(b"head"), None)
    burst.reads(os.dup(server.fileno()), size, Threads(1))
    thread = running(burst)
    client.sendall(CONTENT[:size])
    thread.join(20)
    assert ends == [offset + 4, 256 * KIB, 512 * KIB, offset + 4 + size]
    behind = [offset + 4, 256 * KIB, 512 * KIB]
    assert disk.room == [(at, offset + 4 + size - at) for at in behind]
    assert disk.content[offset:] == b"head" + CONTENT[:size]


@pytest.mark.parametrize("size", [0, 5])
def test_a_burst_hears_that_the_client_left(
    disk: Disk, pair: tuple[socket.socket, socket.socket], size: int
) -> None:
    """And what it left is written."""
    server, client = pair
    client.send(b"x" * size)
    client.close()
    burst = reading(disk, server, 1000)
    burst.run()
    assert burst.is_lost
    assert disk.content == b"head" + b"x" * size


def test_a_burst_does_not_wait_for_a_byte_now_and_then(
    disk: Disk, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte every 6 ms from each of 100 clients held all threads (seen)."""
    monkeypatch.setattr(bursts, "_DRY", 5000)  # on a busy machine a pause may be long
    server, client = pair
    thread = running(reading(disk, server, 1 << 40))
    begun = time.monotonic()
    while thread.is_alive() and time.monotonic() - begun < 10:
        client.send(b"x")
        time.sleep(0.004)
    assert time.monotonic() - begun < 5
    thread.join()


def test_a_burst_can_be_stopped(disk: Disk, pair: tuple[socket.socket, socket.socket]) -> None:
    """Also while its client sends as fast as it can."""
    server, client = pair
    burst = reading(disk, server, 1 << 40)
    disk.path = Path(os.devnull)
    thread = running(burst)
    client.settimeout(10)
    begun = 0.0
    with contextlib.suppress(TimeoutError):
        while thread.is_alive():
            client.send(CONTENT[: 64 * KIB])
            if burst.taken > 8 * MIB and not begun:
                begun = time.monotonic()
                burst.stop = True
                client.settimeout(0.5)
    thread.join(5)
    assert not thread.is_alive()
    assert begun


@pytest.mark.parametrize("error", [OSError(errno.EIO, "disk"), MemoryError(), ValueError("what?")])
def test_whatever_fails_in_a_thread_is_told(
    tmp_path: Path, pair: tuple[socket.socket, socket.socket], error: Exception
) -> None:
    """Or the request waits, and holds its lock, for ever."""

    class Failing(Disk):
        def descriptor(self) -> int:
            raise error

    burst = reading(Failing(tmp_path / "file"), pair[0], 1000)
    before = len(os.listdir("/proc/self/fd"))
    burst.run()
    assert burst.error is error
    assert burst.written == 0
    assert len(os.listdir("/proc/self/fd")) == before - 1, "its socket is closed"


def test_there_are_never_more_threads_than_that() -> None:
    """And all jobs are done, in the order in which they came."""
    threads = Threads(3)
    lock, most, now, done = threading.Lock(), 0, 0, []

    def job(number: int) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
            done.append(number)
        time.sleep(0.002)
        with lock:
            now -= 1

    def nth(number: int) -> Callable[[], None]:
        return lambda: job(number)

    for number in range(50):
        threads.submit(nth(number))
    deadline = time.monotonic() + 10
    while len(done) < 50 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(done) == list(range(50))
    assert most == 3
    threads.close()


@pytest.mark.anyio
async def test_a_late_client_gets_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are more who send without end than there are threads."""
    monkeypatch.setattr(bursts, "MOST_THREADS", 2)

    async def sink(exchange: Exchange) -> None:
        if len(exchange.scope["headers"]) > 2:
            exchange.disk.path = Path(os.devnull)
        await store(exchange)

    async with serving(tmp_path, sink) as server:
        first = await server.client()
        await until(lambda: server.protocols and server.protocols[0].transport is not None)
        server.protocols[0].workshop.threads = Threads(2)
        first.close()
        greedy = [await server.patching(1 << 40, X_Sink="1") for _ in range(4)]

        async def endless(number: int) -> None:
            with contextlib.suppress(OSError):
                while True:
                    await greedy[number].send(CONTENT[:MIB])
                    await asyncio.sleep(0)

        sending = [asyncio.create_task(endless(number)) for number in range(4)]
        await asyncio.sleep(0.2)
        late = await server.patching(len(CONTENT))
        await late.send(CONTENT)
        assert (await late.answer()).endswith(b"%d end" % len(CONTENT))
        assert all(exchange.received is None for exchange in server.exchanges[:4])
        for task in sending:
            task.cancel()
        await asyncio.wait(sending)


class Slow:
    """A body of which there is always something to be written."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.settled = 0

    def look_after(self, now: float) -> Burst | None:
        burst = FileBurst(self._disk, 0, bytearray(b"slow"), None)
        burst.releases()
        return burst

    def settle(self, burst: Burst) -> None:
        assert burst.written == 4
        self.settled += 1


@pytest.mark.anyio
async def test_all_slow_bodies_are_written_by_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hop and a timer for each of two thousand took 39 % of a core (seen)."""
    from tusd_py.wire import workshop as module

    monkeypatch.setattr(module, "_TICK", 0.05)
    workshop = Workshop(asyncio.get_running_loop())
    submitted: list[int] = []
    submit = workshop.threads.submit

    def counted(job: Callable[[], None]) -> None:
        submitted.append(1)
        submit(job)

    monkeypatch.setattr(workshop.threads, "submit", counted)
    bodies = [Slow(Disk(tmp_path / f"{number}")) for number in range(150)]
    for body in bodies:
        workshop.add(body)
    await until(lambda: all(body.settled for body in bodies))
    for body in bodies:
        workshop.discard(body)
    assert len(submitted) <= 3
    assert all(not body._disk.is_open for body in bodies)
    workshop.close()


@pytest.mark.anyio
async def test_a_deadline_that_was_cleared_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that came in time is not answered with 408."""
    from tusd_py.wire import workshop as module

    monkeypatch.setattr(module, "_TICK", 0.05)
    workshop = Workshop(asyncio.get_running_loop())
    late: list[str] = []

    def one() -> None:
        late.append("one")

    def two() -> None:
        late.append("two")

    workshop.set_deadline(one, 0.1)
    workshop.set_deadline(two, 0.1)
    workshop.clear_deadline(one)
    workshop.clear_deadline(one)
    await until(lambda: late)
    assert late == ["two"]
    workshop.close()
