"""Calls that stall keep their share of what others need, and no more."""

import asyncio
from contextlib import suppress

import pytest

from tusd_py.protocol.errors import StorageBusy
from tusd_py.storage import s3_patience
from tusd_py.storage.s3_patience import Call, Patience

pytestmark = pytest.mark.anyio

WITHIN = 60.0


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_patience, "_STALLED_AFTER", 0.02)


class Calls:
    """Some that begin one after the other, and say nothing until they are let go."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self.begun: list[Call] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._answer = asyncio.Event()

    async def begin(self, size: int, *, is_part: bool = True) -> None:
        count = len(self.begun)
        self.tasks.append(asyncio.create_task(self._run(size, is_part)))
        while len(self.begun) == count:
            await asyncio.sleep(0)

    async def _run(self, size: int, is_part: bool) -> None:
        async with Call(self.patience, size, WITHIN, is_part=is_part) as call:
            self.begun.append(call)
            await self._answer.wait()

    async def given_up(self, count: int) -> list[int]:
        """Which are, as soon as they are so many."""
        async with asyncio.timeout(10):
            while sum(task.done() for task in self.tasks) < count:
                await asyncio.sleep(0.01)
        found = [number for number, task in enumerate(self.tasks) if task.done()]
        assert all(isinstance(self.tasks[each].exception(), StorageBusy) for each in found)
        return found

    async def end(self) -> None:
        self._answer.set()
        with suppress(StorageBusy):
            await asyncio.gather(*self.tasks)


async def test_more_than_their_share_of_the_memory_is_given_up() -> None:
    """Those that began to stall before are perhaps about to be answered."""
    calls = Calls(Patience(memory=20, places=100))
    for _ in range(4):
        await calls.begin(10)
    assert await calls.given_up(2) == [2, 3]
    await calls.end()
    assert [task.exception() for task in calls.tasks[:2]] == [None, None]


async def test_and_of_the_places() -> None:
    """Small objects have none."""
    calls = Calls(Patience(memory=100, places=1))
    await calls.begin(1, is_part=False)
    await calls.begin(1)
    await calls.begin(1)
    await calls.begin(1, is_part=False)
    assert await calls.given_up(1) == [2]
    await calls.end()


async def test_who_moves_does_not_stall() -> None:
    calls = Calls(Patience(memory=10, places=1))
    for _ in range(3):
        await calls.begin(10)
    calls.begun[1].moved += 1_000
    assert await calls.given_up(1) == [2]
    await calls.end()
    assert calls.tasks[1].exception() is None


async def test_where_answers_take_long_so_do_others() -> None:
    """A store under load would never get a part whole otherwise."""
    patience = Patience(memory=10, places=1)
    first = Calls(patience)
    await first.begin(10)
    first.begun[0].moved -= 1_000
    await first.end()
    calls = Calls(patience)
    await calls.begin(10)
    await calls.begin(10)
    await asyncio.sleep(0.2)
    assert not any(task.done() for task in calls.tasks)
    await calls.end()


async def test_who_does_not_move_at_all_ends() -> None:
    with pytest.raises(TimeoutError):
        async with Call(Patience(memory=10, places=1), 1, 0.01, is_part=False):
            await asyncio.sleep(WITHIN)
