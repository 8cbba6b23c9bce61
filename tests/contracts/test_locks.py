"""What `locks/interface.py` promises, of every backend."""

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest

from tusd_py.body import Reason
from tusd_py.locks.interface import Locks
from tusd_py.protocol.errors import OffsetMismatch, UploadLocked

pytestmark = pytest.mark.anyio

LONG = 30.0
"""Seconds that no test waits."""


class Holder:
    """A request that holds a lock until it is told to end, or ends when it is asked to."""

    def __init__(self, locks: Locks, upload_id: str = "a", *, polite: bool = False) -> None:
        self._locks, self._upload_id, self._polite = locks, upload_id, polite
        self.asked: list[Reason] = []
        self.holds = asyncio.Event()
        self.end = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    def _on_contended(self, reason: Reason) -> None:
        self.asked.append(reason)
        if self._polite:
            self.end.set()

    async def _run(self) -> None:
        held = self._locks.hold(self._upload_id, within=LONG, on_contended=self._on_contended)
        async with held:
            self.holds.set()
            await self.end.wait()


async def settle() -> None:
    """Lets every task go as far as it comes without any time passing."""
    for _ in range(10):
        await asyncio.sleep(0)


async def holding(locks: Locks, upload_id: str = "a", *, polite: bool = False) -> Holder:
    holder = Holder(locks, upload_id, polite=polite)
    await holder.holds.wait()
    return holder


async def free(locks: Locks, upload_id: str = "a") -> bool:
    with suppress(UploadLocked):
        async with locks.attempt(upload_id):
            return True
    return False


class TestHold:
    async def test_one_holder_for_each_upload(self, locks: Locks) -> None:
        first = await holding(locks)
        await holding(locks, "b", polite=True)
        assert not await free(locks)
        assert await free(locks, "c")
        first.end.set()
        await first.task
        assert await free(locks)
        assert first.asked == []

    async def test_is_freed_by_an_exception(self, locks: Locks) -> None:
        with pytest.raises(ZeroDivisionError):
            async with locks.hold("a", within=LONG):
                raise ZeroDivisionError
        assert await free(locks)

    async def test_a_holder_that_ends_when_asked_hands_over_at_once(self, locks: Locks) -> None:
        first = await holding(locks, polite=True)
        async with asyncio.timeout(5), locks.hold("a", within=LONG):
            assert first.task.done()
        assert first.asked == [Reason.CONTENDED]
        assert await free(locks)

    async def test_goes_over_in_order(self, locks: Locks) -> None:
        order: list[int] = []
        first = await holding(locks)

        async def request(number: int) -> None:
            async with locks.hold("a", within=LONG):
                order.append(number)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(request(number))
                await settle()
            first.end.set()
        assert order == list(range(10))

    async def test_the_holder_is_asked_once(self, locks: Locks) -> None:
        first = await holding(locks)
        waiting = [Holder(locks, polite=True) for _ in range(3)]
        await settle()
        locks.interrupt_all(Reason.SHUTDOWN)
        assert first.asked == [Reason.CONTENDED]
        for ended in (first, waiting[-1]):
            ended.end.set()
        await asyncio.wait([holder.task for holder in waiting])

    async def test_who_gets_it_while_others_wait_is_asked_at_once(self, locks: Locks) -> None:
        """The newest request is the one whose client is still there."""
        first = await holding(locks)
        second, third = Holder(locks), Holder(locks)
        await settle()
        assert (second.asked, third.asked) == ([], []), "they do not hold it yet"
        first.end.set()
        await second.holds.wait()
        assert second.asked == [Reason.CONTENDED]
        second.end.set()
        await third.holds.wait()
        assert third.asked == []
        third.end.set()
        await third.task

    async def test_a_holder_that_cannot_be_asked(self, locks: Locks) -> None:
        async with locks.hold("a", within=LONG):
            with pytest.raises(UploadLocked):
                async with locks.hold("a", within=0):
                    pytest.fail("two hold it")
        assert await free(locks)


class TestTimeout:
    async def test_a_holder_that_does_not_end_in_time(self, locks: Locks) -> None:
        first = await holding(locks)
        with pytest.raises(UploadLocked):
            async with locks.hold("a", within=0.01):
                pytest.fail("two hold it")
        assert first.asked == [Reason.CONTENDED]
        assert not await free(locks)
        first.end.set()
        await first.task
        assert await free(locks)

    async def test_those_behind_go_on_waiting(self, locks: Locks) -> None:
        first = await holding(locks)

        async def impatient() -> None:
            with pytest.raises(UploadLocked):
                async with locks.hold("a", within=0.01):
                    pytest.fail("two hold it")

        late = asyncio.create_task(impatient())
        await settle()
        second = Holder(locks)
        await late
        first.end.set()
        await second.holds.wait()
        assert second.asked == [], "nobody waits behind it"
        second.end.set()
        await second.task

    async def test_those_who_gave_up_ask_nobody(self, locks: Locks) -> None:
        first = await holding(locks)
        second = Holder(locks)
        await settle()
        with pytest.raises(UploadLocked):
            async with locks.hold("a", within=0.01):
                pytest.fail("two hold it")
        first.end.set()
        await second.holds.wait()
        assert second.asked == []
        second.end.set()
        await second.task


class TestAdmit:
    async def test_is_asked_before_the_holder_is_disturbed(self, locks: Locks) -> None:
        first = await holding(locks)
        seen: list[list[Reason]] = []

        async def admit() -> None:
            seen.append(list(first.asked))
            await asyncio.sleep(0)
            first.end.set()

        async with locks.hold("a", within=LONG, admit=admit):
            assert seen == [[]]

    async def test_what_it_raises_goes_to_the_caller_and_disturbs_nobody(
        self, locks: Locks
    ) -> None:
        first = await holding(locks)

        async def admit() -> None:
            raise OffsetMismatch(1, 2)

        with pytest.raises(OffsetMismatch):
            async with locks.hold("a", within=LONG, admit=admit):
                pytest.fail("it was refused")
        assert first.asked == []
        first.end.set()
        await first.task
        assert await free(locks)

    async def test_the_holder_may_end_meanwhile(self, locks: Locks) -> None:
        first = await holding(locks)

        async def admit() -> None:
            first.end.set()
            await first.task

        async with locks.hold("a", within=LONG, admit=admit):
            assert first.asked == []
            assert not await free(locks)

    async def test_is_not_asked_without_a_live_holder(self, locks: Locks) -> None:
        async def admit() -> None:
            pytest.fail("there is nobody to disturb")

        async with locks.hold("a", within=LONG, admit=admit):
            assert not await free(locks)


class TestCancelled:
    async def test_a_waiter_leaves_the_line(self, locks: Locks) -> None:
        first = await holding(locks)
        second, third = Holder(locks), Holder(locks)
        await settle()
        second.task.cancel()
        await asyncio.wait({second.task})
        assert second.task.cancelled()
        first.end.set()
        await third.holds.wait()
        assert third.asked == []
        assert not second.holds.is_set()
        third.end.set()
        await third.task
        assert await free(locks)

    @pytest.mark.parametrize("others", [0, 1, 2])
    async def test_at_the_very_moment_of_the_grant(self, locks: Locks, others: int) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(locks.hold("a", within=LONG))
            second = Holder(locks)
            behind = [Holder(locks, polite=True) for _ in range(others)]
            await settle()
            await stack.aclose()
            second.task.cancel()
        await asyncio.wait({second.task})
        assert second.task.cancelled()
        assert not second.holds.is_set()
        for holder in behind:
            await holder.holds.wait()
            holder.end.set()
            await holder.task
        assert await free(locks)

    async def test_a_holder_frees_it(self, locks: Locks) -> None:
        first = await holding(locks)
        first.task.cancel()
        await asyncio.wait({first.task})
        assert await free(locks)


class TestAttempt:
    async def test_neither_waits_nor_asks(self, locks: Locks) -> None:
        first = await holding(locks)
        assert not await free(locks)
        assert first.asked == []
        first.end.set()
        await first.task
        assert await free(locks)

    async def test_those_who_wait_get_it_behind(self, locks: Locks) -> None:
        async with locks.attempt("a"):
            second = Holder(locks)
            await settle()
            assert not second.holds.is_set()
        await second.holds.wait()
        second.end.set()
        await second.task

    async def test_is_freed_by_an_exception(self, locks: Locks) -> None:
        with pytest.raises(ZeroDivisionError):
            async with locks.attempt("a"):
                raise ZeroDivisionError
        assert await free(locks)


class TestInterruptAll:
    async def test_asks_every_holder_once(self, locks: Locks) -> None:
        locks.interrupt_all(Reason.SHUTDOWN)
        holders = [await holding(locks, name) for name in "abc"]
        async with locks.attempt("d"), locks.hold("e", within=LONG):
            for _ in range(2):
                locks.interrupt_all(Reason.SHUTDOWN)
        assert [holder.asked for holder in holders] == [[Reason.SHUTDOWN]] * 3
        for holder in holders:
            holder.end.set()
            await holder.task
