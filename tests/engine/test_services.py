"""Work that must not stop half-way."""

import asyncio
from typing import Any

import anyio
import pytest

from tusd_py.engine.services import Jobs, to_the_end
from tusd_py.protocol.upload import Upload

pytestmark = pytest.mark.anyio


async def test_a_cancelled_scope_waits_without_spinning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancel scope cancels again in every round of the loop: that would burn a core meanwhile."""
    waits, told = [0], [0]
    wait = asyncio.wait
    gate = asyncio.Event()

    async def counted(*given: Any, **how: Any) -> Any:
        waits[0] += 1
        return await wait(*given, **how)

    monkeypatch.setattr(asyncio, "wait", counted)

    def on_cancel() -> None:
        told[0] += 1
        asyncio.get_running_loop().call_later(0.05, gate.set)

    async def work() -> str:
        await gate.wait()
        return "done"

    with anyio.CancelScope() as scope:
        scope.cancel()
        await to_the_end(work(), on_cancel)
    assert scope.cancelled_caught
    assert gate.is_set(), "the work had ended before"
    assert told == [1]
    assert waits[0] <= 3


@pytest.mark.parametrize("how", ["raises", "is cancelled"])
async def test_a_cancelled_request_hears_of_its_cancellation(how: str) -> None:
    """Whatever became of the work, which nobody waits for any more."""
    begun = asyncio.Event()
    stop = asyncio.Event()

    async def work() -> None:
        begun.set()
        await stop.wait()
        raise RuntimeError("late") if how == "raises" else asyncio.CancelledError

    task = asyncio.create_task(to_the_end(work(), stop.set))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_woken_while_it_works_works_again() -> None:
    """A final that has just read its last part as unfinished would wait for ever."""
    jobs, gate, runs = Jobs(), asyncio.Event(), [0]

    async def work() -> Upload:
        runs[0] += 1
        await gate.wait()
        return Upload(id="a", created_at=0)

    for _ in range(2):
        jobs.wake("a", work)
    first = jobs.start("a", work)
    await asyncio.sleep(0)
    assert runs == [1]
    gate.set()
    await first
    while jobs._tasks:
        await asyncio.sleep(0)
    assert runs == [2]
    gate.clear()
    jobs.wake("a", work)
    jobs.wake("a", work)
    await jobs.close(0.01)
    assert jobs._tasks == {}
