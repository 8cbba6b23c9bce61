"""The memory of bytes on their way: bounded, in turn, and never waited for in a circle."""

import asyncio

import pytest

from tusd_py.storage.s3_memory import PAGE, Memory

pytestmark = pytest.mark.anyio


async def test_is_taken_in_pages() -> None:
    memory = Memory(3 * PAGE + 1)
    assert memory.total == 3 * PAGE
    assert memory.take(1)
    assert memory.free == 2 * PAGE
    assert not memory.take(2 * PAGE + 1)
    assert memory.take(2 * PAGE)
    memory.give(1)
    memory.give(2 * PAGE)
    assert memory.free == memory.total


async def test_more_is_taken_at_a_time_while_there_is_much() -> None:
    memory = Memory(16 * PAGE)
    assert memory.take_some(3 * PAGE) == 3 * PAGE
    assert memory.take_some(4 * PAGE) == 3 * PAGE
    assert memory.take(7 * PAGE)
    assert memory.take_some(4 * PAGE) == PAGE
    assert memory.take(2 * PAGE)
    assert memory.take_some(4 * PAGE) == 0


async def test_whoever_waits_is_served_in_turn() -> None:
    memory = Memory(2 * PAGE)
    assert memory.take(2 * PAGE)
    served: list[str] = []

    async def wait(name: str, count: int) -> None:
        await memory.wait(count)
        served.append(name)

    tasks = [asyncio.create_task(wait(*each)) for each in (("big", 2 * PAGE), ("small", 1))]
    await asyncio.sleep(0)
    memory.give(PAGE)
    await asyncio.sleep(0)
    # A small one that came later does not keep a large one waiting for ever.
    assert not served
    assert not memory.take(1)
    memory.give(PAGE)
    await tasks[0]
    assert served == ["big"]
    memory.give(2 * PAGE)
    await tasks[1]
    assert memory.free == PAGE


async def test_none_is_kept_while_somebody_waits() -> None:
    """A fast upload that went on with its own would pass them by, until its end."""
    memory = Memory(4 * PAGE)
    looks = [memory.is_plenty]
    assert memory.take(2 * PAGE)
    looks.append(memory.is_plenty)
    waiting = asyncio.create_task(memory.wait(3 * PAGE))
    await asyncio.sleep(0)
    looks.append(memory.is_plenty)
    memory.give(2 * PAGE)
    await waiting
    looks.append(memory.is_plenty)
    assert looks == [True, True, False, False], "whole, half, half and waited for, a quarter"


@pytest.mark.parametrize("is_served", [True, False])
async def test_nothing_is_lost_with_one_who_gives_up(is_served: bool) -> None:
    memory = Memory(PAGE)
    assert memory.take(PAGE)
    task = asyncio.create_task(memory.wait(PAGE))
    await asyncio.sleep(0)
    if is_served:
        memory.give(PAGE)
    task.cancel()
    await asyncio.wait({task})
    if not is_served:
        memory.give(PAGE)
    assert memory.free == PAGE
    assert memory.take(PAGE)


async def test_what_never_fits_is_an_error() -> None:
    with pytest.raises(ValueError, match="budget"):
        await Memory(PAGE).wait(PAGE + 1)


async def test_the_one_that_was_silent_for_longest_is_asked_first() -> None:
    memory = Memory(PAGE)
    first, second = asyncio.Event(), asyncio.Event()
    with memory.idling(first), memory.idling(second):
        assert memory.take(PAGE)
        assert not first.is_set()
        assert not memory.take(PAGE)
        assert (first.is_set(), second.is_set()) == (True, False)
        assert not memory.take(PAGE)
        assert second.is_set()


async def test_one_that_falls_silent_while_others_wait_is_asked_at_once() -> None:
    memory, late = Memory(PAGE), asyncio.Event()
    assert memory.take(PAGE)
    task = asyncio.create_task(memory.wait(PAGE))
    await asyncio.sleep(0)
    with memory.idling(late):
        assert late.is_set()
    memory.give(PAGE)
    await task
