"""Clients that send as fast as they can: large uploads, and many small ones."""

import base64
import hashlib
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial

from tests.benchmarks.link import (
    METADATA,
    OFFSET_STREAM,
    Link,
    Target,
    append,
    create,
    pieces,
)
from tests.benchmarks.meter import Figures, Meter, Sampler, in_threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Large uploads.

    Attributes:
        size: Bytes of each.
        chunk: Bytes of each PATCH: a number of MiB, or all.
        connections: How many at once, each on a connection of its own.
        checksum: The algorithm of an `Upload-Checksum`, or None.
        sampled: Whether memory is looked at all the time, which costs the client something.
    """

    size: int
    chunk: int
    connections: int = 1
    checksum: str | None = None
    sampled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """Small uploads.

    Attributes:
        size: Bytes of each.
        count: How many are measured.
        connections: How many connections share them.
        at_once: Whether the bytes come with the POST.
        warming: How many are sent before, for the compilers that work at run time.
    """

    size: int
    count: int
    connections: int
    at_once: bool
    warming: int


def stream(target: Target, plan: Stream) -> Figures:
    """Sends large uploads; the server must say that it has them whole.

    Returns:
        See `Meter.per_byte` and, if sampled, `Sampler.figures`.
    """
    extra = "" if plan.checksum is None else _checksum(plan.checksum, plan.chunk)
    sampler = Sampler(target.pid) if plan.sampled else None
    with ExitStack() as stack:
        links = [stack.enter_context(Link(target)) for _ in range(plan.connections)]
        paths = [create(link, plan.size) for link in links]
        pairs = list(zip(links, paths, strict=True))
        with sampler or nullcontext(), Meter(target.pid) as meter:
            in_threads([partial(_send, link, path, plan, extra) for link, path in pairs])
        for link, path in pairs:
            link.ask("HEAD", path).expect(200, offset=plan.size)
    figures = meter.per_byte(plan.size * plan.connections)
    return figures | (sampler.figures() if sampler else {})


def _send(link: Link, path: str, plan: Stream, extra: str) -> None:
    for start in range(0, plan.size, plan.chunk):
        append(link, path, start, min(start + plan.chunk, plan.size), extra)


def _checksum(algorithm: str, size: int) -> str:
    digest = hashlib.new(algorithm)
    for piece in pieces(0, size):
        digest.update(piece)
    return f"Upload-Checksum: {algorithm} {base64.b64encode(digest.digest()).decode()}\r\n"


def small(target: Target, plan: Small) -> Figures:
    """Sends small uploads, and checks the offset in each answer.

    Returns:
        See `Meter.per_item`.
    """
    with ExitStack() as stack:
        links = [stack.enter_context(Link(target)) for _ in range(plan.connections)]
        share = plan.count // plan.connections
        for link in links:
            _send_small(link, plan, plan.warming // plan.connections)
        with Meter(target.pid) as meter:
            in_threads([partial(_send_small, link, plan, share) for link in links])
    return meter.per_item(share * plan.connections)


def _send_small(link: Link, plan: Small, count: int) -> None:
    if not plan.at_once:
        for _ in range(count):
            append(link, create(link, plan.size), 0, plan.size)
        return
    headers = f"Upload-Length: {plan.size}\r\n{METADATA}{OFFSET_STREAM}"
    for _ in range(count):
        answer = link.ask("POST", link.target.path, headers, (0, plan.size))
        answer.expect(201, offset=plan.size)
