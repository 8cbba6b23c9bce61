"""Very many connections that do nothing but stay, and what is left of the server for others."""

import resource
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.benchmarks.aside import Aside, beside
from tests.benchmarks.asking import heads
from tests.benchmarks.link import OFFSET_STREAM, PATIENCE, Link, LoadFailed, Target, create
from tests.benchmarks.measuring import KIB, MIB, cpu_seconds, resident
from tests.benchmarks.meter import Figures
from tests.benchmarks.uploading import Stream, stream

_SOURCES = 8
_TICKS = 100
"""In a second, in which each connection sends one byte."""

_HEAD = b"GET /files/ HTTP/1.1\r\nHost: a\r\nX-Long: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A siege.

    Attributes:
        heads: Connections that send a head, a byte each second.
        bodies: Likewise, the body of a PATCH.
        seconds: That HEADs are asked for; before that, and once more beside the siege.
        size: Bytes of a PATCH; likewise.
    """

    heads: int
    bodies: int
    seconds: float
    size: int


@dataclass(slots=True)
class _Member:
    socket: socket.socket
    is_body: bool
    sent: int = 0

    def send(self) -> None:
        """The next byte."""
        byte = b"x" if self.is_body or self.sent >= len(_HEAD) else _HEAD[self.sent :][:1]
        # Of a connection that has ended the poll tells, and this cannot.
        with suppress(ConnectionError, BlockingIOError):
            self.sent += self.socket.send(byte)


class Siege:
    """Connections that each send a byte a second; one that the server ends is made anew.

    Args:
        target: Whom they talk to.
        plan: How many.

    Attributes:
        ended: How many the server has ended.
    """

    def __init__(self, target: Target, plan: Plan) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.ended = 0
        self._target = target
        self._made = self._sent = 0
        self._poll = select.epoll()
        self._members: list[_Member] = []
        self._places: dict[int, int] = {}
        for number in range(plan.heads + plan.bodies):
            self._members.append(self._join(number, is_body=number >= plan.heads))

    def __enter__(self) -> "Siege":
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.socket.close()
        self._poll.close()

    def go_on(self, until: Callable[[], bool]) -> float:
        """Each sends a byte a second, for at least a second.

        Returns:
            Bytes that each sent in a second.

        Raises:
            LoadFailed: It takes too long.
        """
        begun, sent, ticks = time.perf_counter(), self._sent, 0
        while ticks < _TICKS or not until():
            for member in self._members[ticks % _TICKS :: _TICKS]:
                before = member.sent
                member.send()
                self._sent += member.sent - before
            self._renew()
            ticks += 1
            ahead = begun + ticks / _TICKS - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
            elif ahead < -PATIENCE:
                raise LoadFailed("the client of the siege is too slow for so many connections")
        return (self._sent - sent) / len(self._members) / (time.perf_counter() - begun)

    def _join(self, number: int, *, is_body: bool) -> _Member:
        self._made += 1
        link = Link(self._target, source=1 + self._made % _SOURCES)
        if is_body:
            headers = f"Upload-Offset: 0\r\n{OFFSET_STREAM}"
            link.socket.sendall(link.head("PATCH", create(link, MIB), headers, MIB))
        link.socket.setblocking(False)
        self._places[link.socket.fileno()] = number
        self._poll.register(link.socket, select.EPOLLIN)
        return _Member(link.socket, is_body)

    def _renew(self) -> None:
        for descriptor, _ in self._poll.poll(0, 256):
            number = self._places[descriptor]
            member = self._members[number]
            with suppress(ConnectionError):
                if member.socket.recv(65536):
                    continue  # a refusal; the end follows
            self.ended += 1
            self._poll.unregister(descriptor)
            del self._places[descriptor]
            member.socket.close()
            self._members[number] = self._join(number, is_body=member.is_body)


def siege(target: Target, plan: Plan) -> Figures:
    """What a HEAD and a large PATCH take without a siege, and in it.

    Returns:
        `quiet_p50`, `quiet_p99`, `p50`, `p99` (ms) of a HEAD, `quiet_speed`, `speed` (MB/s) of a
        PATCH, `each` (KiB of the server's memory), `core` (% of one, while only HEADs are asked
        for), `achieved` (% of a byte a second), `ended` (connections that the server has ended).
    """
    large = Stream(size=plan.size, chunk=plan.size)
    quiet = beside(PATIENCE, heads, target, after=0.0, seconds=plan.seconds)
    figures = {f"quiet_{name}": value for name, value in quiet.items()}
    figures["quiet_speed"] = beside(PATIENCE, stream, target, large)["speed"]
    idle = resident(target.pid)
    with Siege(target, plan) as besieging:
        besieging.go_on(lambda: True)
        begun, used = time.perf_counter(), cpu_seconds(target.pid)
        asking = Aside(heads, target, after=1.0, seconds=plan.seconds)
        achieved = besieging.go_on(lambda: asking.is_done)
        used = cpu_seconds(target.pid) - used
        figures |= {
            "each": (resident(target.pid) - idle) * KIB / (plan.heads + plan.bodies),
            "core": 100 * used / (time.perf_counter() - begun),
            "achieved": 100 * achieved,
        }
        figures |= asking.result(PATIENCE)
        sending = Aside(stream, target, large)
        besieging.go_on(lambda: sending.is_done)
        figures["speed"] = sending.result(PATIENCE)["speed"]
        figures["ended"] = besieging.ended
    return figures
