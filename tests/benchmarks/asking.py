"""Clients that send no bytes: they create, ask, and read back."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from tests.benchmarks.link import Link, LoadFailed, Target, Unable, append, block, create
from tests.benchmarks.measuring import MIB
from tests.benchmarks.meter import Figures, Meter, quantile

_HEADS_PER_SECOND = 10


def _milliseconds(name: str, latencies: Sequence[float]) -> Figures:
    in_ms = [latency * 1e3 for latency in latencies]
    return {f"{name}p50": quantile(in_ms, 0.5), f"{name}p99": quantile(in_ms, 0.99)}


def heads(target: Target, *, after: float, seconds: float) -> Figures:
    """HEAD of an upload of its own, ten times a second.

    Returns:
        `p50` and `p99`, in ms.
    """
    begins = time.perf_counter() + after
    latencies = []
    with Link(target) as link:
        path = create(link, MIB)
        for number in range(int(seconds * _HEADS_PER_SECOND)):
            due = begins + number / _HEADS_PER_SECOND
            early = due - time.perf_counter()
            if early > 0:
                time.sleep(early)
            # One that was held up by the one before has waited since it was due.
            begun = time.perf_counter() if early > 0 else due
            link.ask("HEAD", path).expect(200, offset=0)
            latencies.append(time.perf_counter() - begun)
    return _milliseconds("", latencies)


def creations(target: Target, count: int) -> Figures:
    """POSTs without a body, one after the other.

    Returns:
        `post_p50`, `post_p99` (ms), `post_cpu` (ms each).
    """
    return _each(target, "post_", [lambda link: create(link, MIB)] * count)


def queries(target: Target, paths: Sequence[str]) -> Figures:
    """HEADs of uploads that have no byte yet, one after the other.

    Returns:
        `head_p50`, `head_p99` (ms), `head_cpu` (ms each).
    """
    return _each(target, "head_", [partial(_head, path) for path in paths])


def _head(path: str, link: Link) -> None:
    link.ask("HEAD", path).expect(200, offset=0)


def _each(target: Target, name: str, requests: Sequence[Callable[[Link], object]]) -> Figures:
    """Latency and CPU of each; the first tenth only warms the server up."""
    warming, latencies = len(requests) // 10, []
    with Link(target) as link:
        for request in requests[:warming]:
            request(link)
        with Meter(target.pid) as meter:
            for request in requests[warming:]:
                begun = time.perf_counter()
                request(link)
                latencies.append(time.perf_counter() - begun)
    cpu = meter.per_item(len(latencies))["cpu"]
    return _milliseconds(name, latencies) | {f"{name}cpu": cpu}


def prepare(target: Target, size: int) -> str:
    """Sends one upload whole, and gives its path."""
    with Link(target) as link:
        path = create(link, size)
        append(link, path, 0, size)
    return path


def download(target: Target, path: str, size: int, ranges: int) -> Figures:
    """Reads an upload back: whole if `ranges` is 0, or else in so many ranges of 16 MiB.

    Returns:
        See `Meter.per_byte`.
    """
    spans = [
        (n * 16 * MIB % size, min(n * 16 * MIB % size + 16 * MIB, size)) for n in range(ranges)
    ]
    buffer = memoryview(bytearray(MIB))
    with Link(target) as link, Meter(target.pid) as meter:
        for start, end in spans or [(0, size)]:
            _read(link, path, start, end, buffer, is_range=ranges > 0)
    return meter.per_byte(sum(end - start for start, end in spans) or size)


def _read(
    link: Link, path: str, start: int, end: int, buffer: memoryview, *, is_range: bool
) -> None:
    headers = f"Range: bytes={start}-{end - 1}\r\n" if is_range else ""
    link.socket.sendall(link.head("GET", path, headers, None))
    answer = link.answer_head()
    if answer.status in (404, 405, 501) or (is_range and answer.status == 200):
        raise Unable("it has no ranges" if answer.status == 200 else "it has no downloads")
    answer.expect(206 if is_range else 200)
    if answer.headers.get("content-length") != str(end - start):
        raise LoadFailed(f"not {end - start} bytes: {answer.headers}")
    while start < end:
        count = link.read_into(buffer[: end - start])
        at = start % MIB
        # Only the start of each piece: to compare all of it would slow the client down.
        probe = min(64, count, MIB - at)
        if buffer[:probe] != block()[at : at + probe]:
            raise LoadFailed(f"other bytes came back at {start}")
        start += count
