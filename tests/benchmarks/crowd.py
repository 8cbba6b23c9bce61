"""Very many connections in one process: each in the middle of a PATCH: slow, held or fast."""

import resource
import select
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

from tests.benchmarks.aside import Aside
from tests.benchmarks.asking import heads
from tests.benchmarks.link import (
    OFFSET_STREAM,
    PATIENCE,
    Link,
    LoadFailed,
    Target,
    append,
    block,
    create,
    parse_answer,
)
from tests.benchmarks.measuring import KIB, MIB, cpu_seconds, descriptors, resident, threads
from tests.benchmarks.meter import Figures, Meter

_SOURCES = 8
_TICK = 0.01
_TICKS_PER_PIECE = 20
_PIECE = KIB
SLOW_RATE = _PIECE / (_TICK * _TICKS_PER_PIECE)
"""Bytes that a slow client sends each second."""

_RAMP = 3.0


@dataclass(slots=True)
class _Member:
    socket: socket.socket
    size: int
    sent: int = 0
    answer: bytes = b""

    def send(self, at_most: int) -> int:
        """Sends what the socket takes."""
        start = self.sent % MIB
        end = min(start + at_most, MIB, start + self.size - self.sent)
        count = self.socket.send(block()[start:end])
        self.sent += count
        return count


class Crowd:
    """Connections that have each sent the head of a PATCH, and nothing of its body yet.

    Args:
        target: Whom they talk to.
        count: How many.
        size: Bytes of each upload.

    Attributes:
        paths: Of their uploads.
    """

    def __init__(self, target: Target, count: int, size: int) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self._members: list[_Member] = []
        self.paths: list[str] = []
        for number in range(count):
            link = Link(target, source=1 + number % _SOURCES)
            path = create(link, size)
            self.paths.append(path)
            headers = f"Upload-Offset: 0\r\n{OFFSET_STREAM}"
            link.socket.sendall(link.head("PATCH", path, headers, size))
            link.socket.setblocking(False)
            self._members.append(_Member(link.socket, size))

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.socket.close()

    def send(self, size: int) -> None:
        """Each sends some bytes, which must fit into its socket's buffer."""
        for member in self._members:
            if member.send(size) < size:
                raise LoadFailed("a client could not send; the server does not read")

    def trickle(self, seconds: float) -> float:
        """Each sends at `SLOW_RATE`.

        Returns:
            The rate that came about, in bytes per second.
        """
        begun, sent = time.perf_counter(), 0
        for tick in range(int(seconds / _TICK)):
            for member in self._members[tick % _TICKS_PER_PIECE :: _TICKS_PER_PIECE]:
                sent += member.send(_PIECE)
            ahead = begun + (tick + 1) * _TICK - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
        return sent / len(self._members) / (time.perf_counter() - begun)

    def finish(self) -> None:
        """All send the rest as fast as they can; each answer must say that all bytes are in."""
        with select.epoll() as epoll:
            left = {}
            for member in self._members:
                left[member.socket.fileno()] = member
                epoll.register(member.socket, select.EPOLLIN | select.EPOLLOUT)
            deadline = time.monotonic() + PATIENCE
            while left:
                if time.monotonic() > deadline:
                    raise LoadFailed(f"{len(left)} uploads were not finished in time")
                for number, events in epoll.poll(1.0, 256):
                    if self._step(left[number], events, epoll):
                        epoll.unregister(number)
                        del left[number]

    @staticmethod
    def _step(member: _Member, events: int, epoll: select.epoll) -> bool:
        """Whether its answer is there."""
        if events & select.EPOLLOUT and member.sent < member.size:
            with suppress(BlockingIOError):
                member.send(256 * KIB)
            if member.sent == member.size:
                epoll.modify(member.socket, select.EPOLLIN)
        if events & ~select.EPOLLOUT:
            piece = member.socket.recv(65536)
            if not piece:
                raise LoadFailed(f"a connection was closed after {member.answer[:200]!r}")
            member.answer += piece
        if b"\r\n\r\n" not in member.answer:
            return False
        parse_answer(member.answer).expect(204, offset=member.size)
        return True


def _warm(target: Target) -> None:
    """The first request makes a server load things that no connection has to pay for."""
    with Link(target) as link:
        append(link, create(link, MIB), 0, MIB)


def slow(target: Target, count: int, seconds: float) -> Figures:
    """Clients that send at `SLOW_RATE` for some time, with a HEAD now and then beside them.

    Returns:
        `each` (KiB of the server's memory), `core` and `client` (% of one), `p50` and `p99` of the
        HEADs (ms), `threads` and `descriptors` for each client, `achieved` (% of the rate).
    """
    _warm(target)
    idle, idle_threads = resident(target.pid), threads(target.pid)
    idle_descriptors = descriptors(target.pid)
    size = int(SLOW_RATE * (seconds + 2 * _RAMP))
    with Crowd(target, count, size) as crowd:
        asking = Aside(heads, target, after=_RAMP, seconds=seconds)
        crowd.trickle(_RAMP)
        begun, used, own = time.perf_counter(), cpu_seconds(target.pid), time.process_time()
        rate = crowd.trickle(seconds)
        used, lasted = cpu_seconds(target.pid) - used, time.perf_counter() - begun
        own = time.process_time() - own
        figures = {
            "each": (resident(target.pid) - idle) * KIB / count,
            "core": 100 * used / lasted,
            "client": 100 * own / lasted,
            "threads": (threads(target.pid) - idle_threads) / count,
            "descriptors": (descriptors(target.pid) - idle_descriptors) / count,
            "achieved": 100 * rate / SLOW_RATE,
        }
        # The HEADs began a little later, and must not meet the rush at the end.
        crowd.trickle(1.0)
        figures |= asking.result(PATIENCE)
        crowd.finish()
    return figures


def held(target: Target, count: int, size: int) -> Figures:
    """Clients that send half of a body, stay, and all go on when the last of them is there.

    Returns:
        `each` (KiB of the server's memory), `threads` and `descriptors` for each client, `opening`
        and `finishing` (seconds), `whole` (uploads).
    """
    _warm(target)
    idle, idle_threads = resident(target.pid), threads(target.pid)
    idle_descriptors, begun = descriptors(target.pid), time.perf_counter()
    with Crowd(target, count, size) as crowd:
        crowd.send(size // 2)
        opened = time.perf_counter()
        time.sleep(1)
        figures = {
            "each": (resident(target.pid) - idle) * KIB / count,
            "threads": (threads(target.pid) - idle_threads) / count,
            "descriptors": (descriptors(target.pid) - idle_descriptors) / count,
            "opening": opened - begun,
        }
        with Meter(target.pid) as meter:
            crowd.finish()
    return figures | {"finishing": meter.seconds, "whole": count}


def hurry(target: Target, count: int, total: int) -> Figures:
    """Clients that share `total` bytes, and all send at once.

    Returns:
        See `Meter.per_byte`.
    """
    _warm(target)
    size = total // count
    with Crowd(target, count, size) as crowd, Meter(target.pid) as meter:
        crowd.finish()
    return meter.per_byte(size * count)
