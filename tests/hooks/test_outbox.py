"""The application is told at least once, in order for each upload, by one process at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.asgi.in_process import Clock, id_of, running, until
from tusd_py import UploadEvent
from tusd_py.hooks import outbox as room
from tusd_py.hooks.events import OutboxEvent
from tusd_py.hooks.outbox import Outbox
from tusd_py.locks.host import HostLocks
from tusd_py.locks.local import LocalLocks
from tusd_py.protocol.errors import StorageFailed, StorageFull
from tusd_py.protocol.upload import Phase, Upload
from tusd_py.state.sqlite import SqliteState

pytestmark = pytest.mark.anyio


@dataclass
class Application:
    """An `on_terminate` that notes its calls, and fails as often as it is told."""

    told: list[UploadEvent] = field(default_factory=list)
    fails: int = 0

    async def __call__(self, ended: UploadEvent) -> None:
        self.told.append(ended)
        if self.fails:
            self.fails -= 1
            raise RuntimeError("no")


class Process:
    """A process of its own, as far as locks and state go."""

    def __init__(self, folder: Path, clock: Clock, application: Application) -> None:
        self.state = SqliteState(folder / "tusd-py.sqlite3")
        self.locks = LocalLocks(HostLocks(folder / "locks"))
        self.outbox = Outbox(self.state, self.locks, clock, application)
        self.generations: dict[str, Upload] = {}

    async def happens(self, upload_id: str, *offsets: int) -> None:
        """Events of an upload, committed one after the other."""
        upload = self.generations.get(upload_id)
        if upload is None:
            upload = await self.state.insert(Upload(id=upload_id, created_at=0.0))
        for offset in offsets:
            event = OutboxEvent(
                upload_id=upload_id,
                phase=Phase.TERMINATED,
                at=1.0,
                upload_offset=offset,
                metadata="name YQ==",
            )
            upload = await self.state.commit(upload, events=(event,))
        self.generations[upload_id] = upload


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
async def process(
    anyio_backend: str, tmp_path: Path, clock: Clock, application: Application
) -> AsyncIterator[Process]:
    one = Process(tmp_path, clock, application)
    await one.state.open()
    yield one
    await one.state.close()


async def all_due(process: Process) -> None:
    while await process.outbox.deliver_due():
        continue


async def test_events_come_in_order_for_each_upload(
    process: Process, application: Application
) -> None:
    """PEERS, tusd: hooks repeat or come out of order."""
    await process.happens("a", 1, 2)
    await process.happens("b", 7)
    await process.happens("a", 3)
    await all_due(process)
    assert [one.offset for one in application.told if one.id == "a"] == [1, 2, 3]
    assert [one.offset for one in application.told if one.id == "b"] == [7]
    assert len({one.event_id for one in application.told}) == 4
    first = application.told[0]
    assert (first.phase, first.at, first.metadata) == (Phase.TERMINATED, 1.0, {"name": b"a"})
    assert await process.outbox.deliver_due() == 0


async def test_a_failure_is_tried_again_with_growing_pauses(
    process: Process, application: Application, clock: Clock
) -> None:
    """Those behind it wait, so that the order holds; other uploads do not."""
    application.fails = 3
    await process.happens("a", 1, 2)
    begun = clock.now
    moments: list[float] = []
    for _ in range(2000):
        before = len(application.told)
        await all_due(process)
        moments += [clock.now - begun] * (len(application.told) - before)
        if len(application.told) == 5:
            break
        clock.now += 0.5
    assert moments == [0.0, 1.0, 3.0, 7.0, 7.0]
    assert [one.offset for one in application.told] == [1, 1, 1, 1, 2]
    assert len({one.event_id for one in application.told}) == 2, "repeated under the same id"


async def test_another_upload_does_not_wait(process: Process, application: Application) -> None:
    """One that fails holds up nobody else."""
    application.fails = 1
    await process.happens("a", 1)
    await process.happens("b", 2)
    await all_due(process)
    assert [one.id for one in application.told] == ["a", "b"]


async def test_another_upload_does_not_wait_for_a_state_that_cannot_be_written(
    process: Process, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told again when what was told can be noted."""
    await process.happens("a", 1)
    await process.happens("b", 1)

    async def full(number: int) -> None:
        raise StorageFull

    with monkeypatch.context() as patched:
        patched.setattr(process.state, "event_delivered", full)
        with pytest.raises(StorageFull):
            await process.outbox.deliver_due()
    assert [told.id for told in application.told] == ["a", "b"]
    assert await process.outbox.deliver_due() == 2
    assert [told.id for told in application.told] == ["a", "b"] * 2


async def test_after_the_last_attempt_it_is_a_dead_letter(
    process: Process, application: Application, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays for the operator to look at, and those behind it go on."""
    application.fails = 20
    await process.happens("a", 1, 2)
    for _ in range(30):
        await all_due(process)
        clock.now += 3601
    assert [one.offset for one in application.told] == [1] * 20 + [2]
    assert "for the last time" in caplog.text
    assert await process.state.next_event_at() is None


async def test_two_processes_one_claimant(
    tmp_path: Path, process: Process, clock: Clock, application: Application
) -> None:
    """While one process tells, another passes over that upload."""
    inside, gate = asyncio.Event(), asyncio.Event()

    class Slow(Application):
        async def __call__(self, ended: UploadEvent) -> None:
            await super().__call__(ended)
            inside.set()
            await gate.wait()

    slow = Slow()
    other = Process(tmp_path, clock, slow)
    await other.state.open()
    try:
        await process.happens("a", 1, 2)
        telling = asyncio.create_task(all_due(other))
        await inside.wait()
        await all_due(process)
        assert application.told == []
        gate.set()
        await telling
        assert [one.offset for one in slow.told] == [1, 2]
    finally:
        await other.state.close()


async def test_what_another_process_delivered_meanwhile_is_not_told_again(
    tmp_path: Path, process: Process, clock: Clock, application: Application
) -> None:
    """Between the look and the claim another process may have gone on: 1, 2, 1 is out of order."""
    other = Process(tmp_path, clock, application)
    await other.state.open()
    await process.happens("a", 1, 2)
    attempt = process.locks.attempt
    went_on = [False]

    def late(key: str) -> AbstractAsyncContextManager[None]:
        return claimed(key)

    @asynccontextmanager
    async def claimed(key: str) -> AsyncIterator[None]:
        if not went_on[0]:
            went_on[0] = True
            await all_due(other)
        async with attempt(key):
            yield

    process.locks.attempt = late  # type: ignore[method-assign, assignment]
    await all_due(process)
    await other.state.close()
    assert [one.offset for one in application.told] == [1, 2]


async def test_run_waits_for_what_is_due_and_for_what_is_new(
    process: Process, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No polling: an event wakes it; and a state that fails for a moment does not end it."""
    due = process.state.due_events
    failures = [1]

    async def failing(now: float, limit: int) -> object:
        if failures:
            failures.pop()
            raise StorageFailed
        return await due(now, limit)

    monkeypatch.setattr(process.state, "due_events", failing)
    monkeypatch.setattr(room, "_LOOK_AGAIN", 0.02)
    running_task = asyncio.create_task(process.outbox.run())
    await process.happens("a", 1)
    await until(lambda: len(application.told) == 1)
    monkeypatch.setattr(room, "_LOOK_AGAIN", 60.0)
    await asyncio.sleep(0.05)
    await process.happens("a", 2)
    process.outbox.wake()
    await until(lambda: len(application.told) == 2)
    running_task.cancel()
    await asyncio.wait({running_task})


@pytest.mark.parametrize("how", ["delete", "expire"])
async def test_an_upload_that_ends_is_told(tmp_path: Path, how: str) -> None:
    """In the same transaction as its end, so it is told after a kill too."""
    application = Application()
    async with running(tmp_path, on_terminate=application, background=True) as server:
        path = await server.create(11, Upload_Metadata="name YQ==")
        await server.patch(path, 0, b"hello")
        if how == "delete":
            await server.delete(path)
        else:
            server.clock.now += 86_401
            await server.tus.sweep()
        await until(lambda: application.told)
    (ended,) = application.told
    assert (ended.id, ended.offset, ended.metadata) == (id_of(path), 5, {"name": b"a"})
    assert ended.phase is (Phase.TERMINATED if how == "delete" else Phase.EXPIRED)
