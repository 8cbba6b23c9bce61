"""Limits of speed: how exactly they are kept, and whether others are held up.

What is sent would last for some seconds at the allowed speed; the rate that it came with is divided
by that.
"""

import http.client
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.aside import Aside, beside
from tests.benchmarks.bucket import new_store
from tests.benchmarks.cases import WITHIN, Bench, Case, Column, Scale
from tests.benchmarks.link import Link, LoadFailed, Target, append, create
from tests.benchmarks.meter import Figures, in_threads
from tests.benchmarks.peers import Peer
from tests.benchmarks.servers import folder, running
from tests.benchmarks.uploading import Stream, stream

MB = 1_000_000
KB = 1_000
_BODIES = ("socket", "receive")
_RATIO = (
    Column(key="speed", heading="MB/s", digits=3),
    Column(key="ratio", heading="measured : limit", digits=4),
)


class Kind(NamedTuple):
    """A limit, and who sends.

    Attributes:
        flag: Of the server; empty to limit each upload with `PUT`.
        rate: Bytes per second that are allowed, in all.
        clients: Connections, each with an upload of its own.
        chunk: Bytes of a PATCH, 0 for all.
        from_anywhere: Whether each connection comes from another address.
        workers: Processes of the server.
        changes: Whether the limit is doubled when half of the bytes are there.
    """

    flag: str
    rate: int
    clients: int = 1
    chunk: int = 0
    from_anywhere: bool = False
    workers: int = 1
    changes: bool = False


_PER_UPLOAD, _PER_CLIENT = "--max-speed-per-upload", "--max-speed-per-client"
KINDS = {
    "upload, 100 KB/s": Kind(_PER_UPLOAD, 100 * KB),
    "upload, 10 MB/s": Kind(_PER_UPLOAD, 10 * MB),
    "upload, 100 MB/s": Kind(_PER_UPLOAD, 100 * MB),
    "upload, 1 MB/s, PATCH of 32 KiB": Kind(_PER_UPLOAD, MB, chunk=32 << 10),
    "upload, 10 MB/s, PATCH of 5 MB": Kind(_PER_UPLOAD, 10 * MB, chunk=5 * MB),
    "client, 10 MB/s, 3 uploads": Kind(_PER_CLIENT, 10 * MB, clients=3),
    "all, 10 MB/s, 4 clients": Kind("--max-speed", 10 * MB, clients=4, from_anywhere=True),
    "all, 10 MB/s, 8 clients, 2 workers": Kind(
        "--max-speed", 10 * MB, clients=8, from_anywhere=True, workers=2
    ),
    "client, 10 MB/s, 8 uploads, 2 workers": Kind(_PER_CLIENT, 10 * MB, clients=8, workers=2),
    "by PUT, 10 MB/s": Kind("", 10 * MB),
    "by PUT, 10 MB/s, doubled on the way": Kind("", 10 * MB, changes=True),
}


def speed_limits(scale: Scale) -> Iterator[Case]:
    """Each kind of limit, over both bodies; and what is left for others."""
    kinds = list(KINDS)[: scale.speeds]
    yield Case(
        title=f"Speed limits, what lasts for {scale.limited_seconds:g} s, in memory",
        servers=tuple(f"{kind}; {body}" for body in _BODIES for kind in kinds),
        measure=partial(_measure, scale.limited_seconds),
        columns=_RATIO,
        reference=f"{kinds[0]}; {_BODIES[0]}",
        is_of_ours=True,
    )
    yield Case(
        title="An upload without a limit, beside 20 that are limited to 1 MB/s each, in memory",
        servers=_BODIES,
        measure=partial(_measure_neighbour, scale),
        columns=(
            Column(key="quiet", heading="alone MB/s", digits=0),
            Column(key="beside", heading="beside MB/s", digits=0),
            Column(key="ratio", heading="the 20, measured : limit", digits=4),
        ),
        reference=_BODIES[0],
        is_of_ours=True,
    )


def bucket_speed_limits(scale: Scale) -> Iterator[Case]:
    """An upload to a bucket that is limited."""
    yield Case(
        title=f"An upload to a bucket at 10 MB/s, {scale.limited_seconds:g} s",
        servers=_BODIES,
        measure=partial(_measure_bucket, scale.limited_seconds),
        columns=_RATIO,
        reference=_BODIES[0],
        is_of_ours=True,
    )


def _measure(seconds: float, peer: Peer, bench: Bench) -> Figures:
    name, _, body = peer.name.rpartition("; ")
    kind = KINDS[name]
    flags = [kind.flag, str(kind.rate)] if kind.flag else []
    ours = _over(peer, body, *flags, "--workers", str(kind.workers))
    with folder(bench.memory) as uploads, running(ours, bench.home, uploads) as server:
        return beside(WITHIN, send, server.target, kind, seconds)


def _measure_bucket(seconds: float, peer: Peer, bench: Bench) -> Figures:
    kind = Kind(_PER_UPLOAD, 10 * MB)
    with new_store(int(kind.rate * seconds)), folder(bench.disk) as uploads:
        ours = _over(peer, peer.name, kind.flag, str(kind.rate))
        with running(ours, bench.home, uploads) as server:
            return beside(WITHIN, send, server.target, kind, seconds)


def _measure_neighbour(scale: Scale, peer: Peer, bench: Bench) -> Figures:
    seconds = scale.limited_seconds
    plan = Stream(size=scale.big, chunk=scale.big)
    kind = Kind("", 20 * MB, clients=20)
    ours = _over(peer, peer.name)
    with folder(bench.memory) as uploads, running(ours, bench.home, uploads) as server:
        quiet = beside(WITHIN, stream, server.target, plan)
        limited = Aside(send, server.target, kind, seconds)
        time.sleep(seconds / 4)
        busy = beside(WITHIN, stream, server.target, plan)
        if limited.is_done:
            raise LoadFailed("those that are limited were done before: give more seconds")
        found = limited.result(WITHIN)
    return {"quiet": quiet["speed"], "beside": busy["speed"], "ratio": found["ratio"]}


def _over(peer: Peer, body: str, *flags: str) -> Peer:
    """Our server with more flags, and over one of the bodies."""

    def command(place: Path, port: int, uploads: Path) -> list[str]:
        given = [*peer.command(place, port, uploads), *flags]
        if body == "socket":
            return given
        at = given.index("tusd_py")
        given[at] = "tests.launch"
        return ["env", "TUSD_PY_TEST_BODY=receive", *given]

    return replace(peer, command=command)


def send(target: Target, kind: Kind, seconds: float) -> Figures:
    """Sends what would last for some seconds.

    Returns:
        `speed` in MB/s, and `ratio` to what is allowed.
    """
    size = int(kind.rate * seconds) // kind.clients
    with ExitStack() as stack:
        links = [
            stack.enter_context(Link(target, 1 + number * kind.from_anywhere))
            for number in range(kind.clients)
        ]
        paths = [create(link, size) for link in links]
        if not kind.flag:
            for path in paths:
                _limit(target, path, kind.rate // kind.clients)
        pairs = zip(links, paths, strict=True)
        jobs: list[Callable[[], None]] = [partial(_send, *pair, size, kind.chunk) for pair in pairs]
        if kind.changes:
            jobs.append(partial(_double_later, target, paths, kind, seconds / 2))
        begun = time.perf_counter()
        in_threads(jobs)
        took = time.perf_counter() - begun
    # The second half came twice as quickly.
    due = seconds * (0.75 if kind.changes else 1.0)
    return {"speed": size * kind.clients / took / MB, "ratio": due / took}


def _send(link: Link, path: str, size: int, chunk: int) -> None:
    for start in range(0, size, chunk or size):
        append(link, path, start, min(size, start + (chunk or size)))


def _double_later(target: Target, paths: Sequence[str], kind: Kind, seconds: float) -> None:
    time.sleep(seconds)
    for path in paths:
        _limit(target, path, 2 * kind.rate // kind.clients)


def _limit(target: Target, path: str, max_speed: int) -> None:
    upload_id = path.rpartition("/")[2]
    with closing(http.client.HTTPConnection("127.0.0.1", target.port)) as connection:
        headers = {"Content-Type": "application/json"}
        wish = json.dumps({"max_speed": max_speed})
        connection.request("PUT", f"/api/uploads/{upload_id}", wish, headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise LoadFailed(f"PUT was answered {answer.status}: {answer.read(300)!r}")
