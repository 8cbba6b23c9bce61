"""What those cost who listen to uploads: many to one, and one to each of many."""

import re
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.aside import Aside, beside
from tests.benchmarks.cases import WITHIN, Bench, Case, Column, Scale
from tests.benchmarks.crowd import SLOW_RATE, Crowd
from tests.benchmarks.link import PATIENCE, Link, LoadFailed, Target
from tests.benchmarks.measuring import KIB, cpu_seconds, resident
from tests.benchmarks.meter import Figures, quantile
from tests.benchmarks.peers import OURS, Peer
from tests.benchmarks.servers import folder, running
from tests.benchmarks.uploading import Stream, stream

_NOBODY, _SSE, _SOCKET = "nobody listens", "streams (SSE)", "WebSockets"
_COLUMNS = (
    Column(key="core", heading="% of a core", ratio="nobody : this, CPU"),
    Column(key="each", heading="KiB each"),
    Column(key="told", heading="progress/s each", digits=2),
    Column(key="p50", heading="age p50 ms"),
    Column(key="p99", heading="age p99 ms"),
    Column(key="speed", heading="PATCH MB/s", digits=0, ratio="nobody : this, MB/s"),
)
_SOURCES = 8
_OPENS_WITHIN = 20.0
_STAYS_FOR = 15.0
"""Seconds for the PATCH that is sent while they still listen."""

_UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: tusd-py\r\n"
)
_HEARD = re.compile(rb'"at": ([0-9.]+), "offset"|\x89\x04(.{4})', re.DOTALL)
"""Progress, or a ping with what it brings; no event has such bytes in it."""

_PONG = b"\x8a\x84\x00\x00\x00\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Who listens.

    Attributes:
        headers: Of each request, whole lines.
        count: How many.
        begins: Moment of the monotonic clock at which all have to be there.
        seconds: From then on what comes is counted.
    """

    headers: str
    count: int
    begins: float
    seconds: float


@dataclass(slots=True)
class _Listener:
    socket: socket.socket
    is_ready: bool = False
    rest: bytes = b""
    ages: list[float] = field(default_factory=list)

    def read(self, *, counts: bool) -> None:
        """Takes what has come; what is counted is how old each progress is."""
        piece = self.socket.recv(65536)
        if not piece:
            raise LoadFailed(f"a listener was let go after {self.rest[-200:]!r}")
        self.rest, now = self.rest + piece, time.time()
        self.is_ready |= b"ready" in self.rest
        end = 0
        for found in _HEARD.finditer(self.rest):
            end = found.end()
            if found[2]:
                self.socket.sendall(_PONG + found[2])
            elif counts:
                self.ages.append(1e3 * (now - float(found[1])))
        self.rest = self.rest[end:]


def listen(target: Target, paths: Sequence[str], plan: Listening) -> Figures:
    """Listens to uploads, some on each, for a while longer than is counted.

    Returns:
        `told` (progress for each listener in a second), `p50` and `p99` of its age (ms).
    """
    listeners: dict[int, _Listener] = {}
    ends = plan.begins + plan.seconds
    with select.epoll() as epoll:
        for number in range(plan.count):
            link = Link(target, source=1 + number % _SOURCES)
            path = f"{paths[number % len(paths)]}/events"
            link.socket.sendall(link.head("GET", path, plan.headers, None))
            listeners[link.socket.fileno()] = _Listener(link.socket)
            epoll.register(link.socket, select.EPOLLIN)
        while (now := time.monotonic()) < ends + _STAYS_FOR:
            counts = plan.begins <= now < ends
            if counts and not all(listener.is_ready for listener in listeners.values()):
                raise LoadFailed(f"not all listeners were let in within {_OPENS_WITHIN:.0f} s")
            for descriptor, _ in epoll.poll(0.05, 256):
                listeners[descriptor].read(counts=counts)
    for listener in listeners.values():
        listener.socket.close()
    ages = [age for listener in listeners.values() for age in listener.ages]
    return {
        "told": len(ages) / plan.count / plan.seconds,
        "p50": quantile(ages, 0.5),
        "p99": quantile(ages, 0.99),
    }


def serve(target: Target, uploads: int, listening: Listening, large: Stream) -> Figures:
    """Uploads that trickle in, those who listen to them, and in the end a PATCH beside.

    Args:
        target: The server.
        uploads: How many trickle.
        listening: Who listens; none if `count` is 0. `begins` is not looked at.
        large: What is sent beside.

    Returns:
        `core` (% of one), `each` (KiB of the server's memory), `speed` (MB/s of the PATCH), and
        what `listen` returns.
    """
    beside(PATIENCE, stream, target, large)  # what the first one makes a server load
    lasts = 2 * _OPENS_WITHIN + listening.seconds + _STAYS_FOR
    with Crowd(target, uploads, int(2 * SLOW_RATE * lasts)) as crowd:
        crowd.trickle(1.0)
        idle = resident(target.pid)
        begins = time.monotonic() + _OPENS_WITHIN
        plan = Listening(
            headers=listening.headers,
            count=listening.count,
            begins=begins,
            seconds=listening.seconds,
        )
        heard = Aside(listen, target, crowd.paths, plan) if plan.count else None
        crowd.trickle(begins - time.monotonic())
        begun, used = time.perf_counter(), cpu_seconds(target.pid)
        crowd.trickle(plan.seconds)
        used = cpu_seconds(target.pid) - used
        figures = {"core": 100 * used / (time.perf_counter() - begun)}
        if plan.count:
            figures["each"] = (resident(target.pid) - idle) * KIB / plan.count
        sending = Aside(stream, target, large)
        while not sending.is_done:
            crowd.trickle(0.2)
        figures["speed"] = sending.result(PATIENCE)["speed"]
        if time.perf_counter() - begun > plan.seconds + _STAYS_FOR:
            raise LoadFailed("the PATCH took longer than the listeners stayed")
        if heard is not None:
            while not heard.is_done:
                crowd.trickle(0.2)
            figures |= heard.result(PATIENCE)
    return figures


def listeners(scale: Scale) -> Iterator[Case]:
    """Those who listen to one upload, and to as many as there are of them."""
    count = scale.listeners
    headers = {_NOBODY: "", _SSE: "", _SOCKET: _UPGRADE}
    large = Stream(size=scale.big, chunk=scale.big)
    for uploads in (1, count):

        def measure(peer: Peer, bench: Bench, uploads: int = uploads) -> Figures:
            plan = Listening(
                headers=headers[peer.name],
                count=0 if peer.name == _NOBODY else count,
                begins=0.0,
                seconds=scale.listened_seconds,
            )
            own = Peer(name=OURS, command=peer.command)
            with folder(bench.memory) as place, running(own, bench.home, place) as server:
                return beside(WITHIN, serve, server.target, uploads, plan, large)

        title = f"{count:,} listeners to one upload of 5 KiB/s, in memory"
        if uploads > 1:
            title = f"{count:,} uploads of 5 KiB/s, and a listener to each, in memory"
        yield Case(
            title=title,
            servers=(_NOBODY, _SSE, _SOCKET),
            measure=measure,
            columns=_COLUMNS,
            reference=_NOBODY,
            rounds=3,
            is_of_ours=True,
        )
