"""A final upload is put together inside the store, from the objects that its parts are.

The rules:
- What is long enough for a part is copied, in ranges; its bytes do not come by here. What is too
  short is joined with what follows it, and only that is read and sent again.
- Each attempt has a multipart upload of its own, so that a late copy of an earlier attempt changes
  nothing.
- The plan talks to no store; a source is copied by a range only if it is longer than the shortest
  part, since AWS takes no ranges of shorter ones.
"""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from tusd_py.protocol.errors import StorageFailed
from tusd_py.storage.s3_failures import Gone
from tusd_py.storage.s3_parts import MIB, OutOfParts, PartRules
from tusd_py.storage.s3_placement import Part
from tusd_py.storage.s3_writer import Shared

_COPY_AT_ONCE = 256 * MIB
"""Bytes of one copy, if the numbers last: several at once are quicker, and none takes as long as a
slow store may be silent.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An object to be copied: its key, and its bytes, at least one."""

    key: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Bytes of one source, which is named by its place among them."""

    source: int
    offset: int
    size: int


Plan = list[tuple[Span, ...]]
"""Parts in order: one span is copied, several are read and joined."""


def plan_parts(rules: PartRules, sizes: Sequence[int], *, joined: int) -> Plan:
    """How objects become one.

    Args:
        rules: What the store takes.
        sizes: Bytes of each, at least one of each.
        joined: Bytes of the longest part that fits into memory, at least the shortest part.

    Raises:
        OutOfParts: The store takes no object that is so long, or in so many parts.
    """
    length = sum(sizes)
    if length > rules.largest_object:
        raise OutOfParts
    if rules.equal:
        # No number is kept for a crash: the next attempt begins with all of them.
        size = max(rules.preferred, -(-length // rules.most_parts))
        if size > joined:
            raise OutOfParts
        return _cut_equal(sizes, size)
    least, most = rules.smallest, min(rules.largest, max(_COPY_AT_ONCE, 2 * rules.smallest))
    while len(plan := _cut(sizes, least, most)) > rules.most_parts:
        if (least, most) == (joined, rules.largest):
            raise OutOfParts
        least, most = min(2 * least, joined), min(2 * most, rules.largest)
    return plan


def _cut(sizes: Sequence[int], least: int, most: int) -> Plan:
    """Parts of at least `least` bytes, but for the last; joined ones have less than twice that."""
    plan: Plan = []
    short: list[Span] = []
    for source, size in enumerate(sizes):
        offset, held = 0, sum(span.size for span in short)
        if held:
            wanted = least - held
            # No rest is left that would be too short again.
            offset = wanted if size - wanted >= least else size
            short.append(Span(source=source, offset=0, size=offset))
            if held + offset < least:
                continue
            plan.append(tuple(short))
            short = []
        rest = size - offset
        if rest >= least:
            plan += [(span,) for span in _split(source, offset, rest, most)]
        elif rest:
            short.append(Span(source=source, offset=offset, size=rest))
    return [*plan, tuple(short)] if short else plan


def _split(source: int, offset: int, size: int, most: int) -> list[Span]:
    """Spans of about one size, at most `most`."""
    count = -(-size // most)
    bounds = [size * number // count for number in range(count + 1)]
    return [
        Span(source=source, offset=offset + first, size=end - first)
        for first, end in itertools.pairwise(bounds)
    ]


def _cut_equal(sizes: Sequence[int], part: int) -> Plan:
    """Parts of `part` bytes each, but for the last."""
    plan: Plan = []
    spans: list[Span] = []
    missing = part
    for source, size in enumerate(sizes):
        offset = 0
        while offset < size:
            taken = min(missing, size - offset)
            spans.append(Span(source=source, offset=offset, size=taken))
            offset, missing = offset + taken, missing - taken
            if not missing:
                plan.append(tuple(spans))
                spans, missing = [], part
    return [*plan, tuple(spans)] if spans else plan


async def store_parts(
    shared: Shared, key: str, multipart: str, sources: Sequence[Source], plan: Plan
) -> tuple[Part, ...]:
    """Makes all parts of a multipart upload, some at once.

    Returns:
        They, in order, numbered from 1.

    Raises:
        StorageFailed: A source or the multipart upload is gone, or the store failed.
    """
    stored: dict[int, Part] = {}

    async def store(number: int) -> None:
        spans = plan[number - 1]
        try:
            stored[number] = await _store(shared, key, multipart, number, sources, spans)
        except Gone as error:
            raise StorageFailed from error

    await for_each(range(1, len(plan) + 1), store, at_once=shared.parallel)
    return tuple(stored[number] for number in sorted(stored))


async def _store(
    shared: Shared,
    key: str,
    multipart: str,
    number: int,
    sources: Sequence[Source],
    spans: tuple[Span, ...],
) -> Part:
    first, bucket = spans[0], shared.bucket
    source = sources[first.source]
    is_whole = first.size == source.size
    if len(spans) == 1 and (is_whole or source.size > shared.rules.smallest):
        offset = None if is_whole else first.offset
        async with shared.at_once:
            return await bucket.copy_part(
                source.key, key, multipart, number, offset=offset, count=first.size
            )
    size = sum(span.size for span in spans)
    # Waited for before a turn is, which those who have memory need to give it back.
    await shared.memory.wait(size)
    try:
        data, at = memoryview(bytearray(size)), 0
        async with shared.at_once:
            for span in spans:
                into = data[at : at + span.size]
                await bucket.load(sources[span.source].key, into, offset=span.offset)
                at += span.size
            return await bucket.upload_part(key, multipart, number, data)
    finally:
        shared.memory.give(size)


async def for_each(
    numbers: Sequence[int], work: Callable[[int], Coroutine[Any, Any, None]], *, at_once: int
) -> None:
    """Works on all numbers, some at once; the first failure ends the others, and is raised."""
    todo = iter(numbers)

    async def some() -> None:
        for number in todo:
            await work(number)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(numbers))):
                group.create_task(some())
    except BaseExceptionGroup as failures:
        first = failures.exceptions[0]
        raise first from first.__cause__
