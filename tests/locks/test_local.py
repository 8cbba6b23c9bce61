"""Hand-over within one process, which holds against the others all the while."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.locks.conftest import OtherProcess
from tusd_py.locks.host import HostLocks
from tusd_py.locks.local import LocalLocks
from tusd_py.protocol.errors import UploadLocked

pytestmark = pytest.mark.anyio

NewHost = Callable[[], HostLocks]


@asynccontextmanager
async def refused(locks: LocalLocks, upload_id: str = "a") -> AsyncIterator[None]:
    """Neither way leads to the lock, and nothing is waited for."""
    with pytest.raises(UploadLocked):
        async with locks.attempt(upload_id):
            pytest.fail("two hold it")
    with pytest.raises(UploadLocked):
        async with asyncio.timeout(5), locks.hold(upload_id, within=30):
            pytest.fail("two hold it")
    yield


async def test_another_process_is_not_waited_for(
    host: HostLocks, other_process: OtherProcess
) -> None:
    locks = LocalLocks(host)
    process = other_process("a")
    async with refused(locks):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    async with locks.hold("a", within=0):
        assert not HostLocks(host.directory).acquire("a")


async def test_two_instances_in_one_process(new_host: NewHost) -> None:
    first, second = LocalLocks(new_host()), LocalLocks(new_host())
    async with first.hold("a", within=0), refused(second), second.hold("b", within=0):
        pass
    async with second.hold("a", within=0), refused(first):
        pass


async def test_the_host_lock_is_not_let_go_between_two_holders(new_host: NewHost) -> None:
    locks, outside = LocalLocks(new_host()), new_host()
    seen: list[bool] = []

    async def request() -> None:
        async with locks.hold("a", within=30):
            seen.append(outside.acquire("a"))
            await asyncio.sleep(0)
            seen.append(outside.acquire("a"))

    await asyncio.gather(*(request() for _ in range(5)))
    assert seen == [False] * 10
    assert outside.acquire("a")


async def test_nothing_is_kept_of_locks_that_are_free(host: HostLocks) -> None:
    locks = LocalLocks(host)
    for number in range(100):
        async with locks.hold(str(number), within=0):
            pass
    assert locks._held == {}


async def test_hand_over_takes_no_time(host: HostLocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """No timer is involved: neither a pause nor a poll."""
    locks, loop = LocalLocks(host), asyncio.get_running_loop()
    end = asyncio.Event()

    async def first() -> None:
        async with locks.hold("a", within=0, on_contended=lambda reason: end.set()):
            await end.wait()

    task = asyncio.create_task(first())
    await asyncio.sleep(0)
    timers: list[float] = []
    call_later = loop.call_later

    def noting_later(delay: float, *args: object, **kwargs: object) -> asyncio.TimerHandle:
        timers.append(delay)
        return call_later(delay, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_later", noting_later)
    async with locks.hold("a", within=1234.0):
        assert task.done()
    assert timers == [1234.0], "the time-out, and nothing else"
