"""What nobody will finish goes, and nothing else; what a crash left in the middle is taken up."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.asgi.in_process import Running, id_of, running, sha1, until
from tusd_py import FinishedUpload, Reject, WrongInstance
from tusd_py.body import Reason
from tusd_py.engine import sweep as sweep_room
from tusd_py.engine.sweep import recover
from tusd_py.protocol.errors import StorageFailed
from tusd_py.protocol.upload import Phase, Upload, buried
from tusd_py.state.sqlite import SqliteState
from tusd_py.storage.disk import DiskStorage

pytestmark = pytest.mark.anyio

HELLO = b"hello world"
DAY = 86_400.0


async def test_what_expired_goes_and_what_is_finished_stays(server: Running) -> None:
    """PEERS, resumable-upload: clean-up deletes finished uploads."""
    whole = await server.whole(HELLO)
    part = await server.whole(HELLO, Upload_Concat="partial")
    half, fresh = await server.create(11), await server.create(11)
    await server.patch(half, 0, b"hello")
    server.clock.now += DAY - 1
    await server.patch(fresh, 0, b"he")
    server.clock.now += 2
    dry = await server.tus.sweep(dry_run=True)
    assert sorted(dry.expired) == sorted(map(id_of, (part, half)))
    assert dry.bytes_freed == 16
    assert len(server.files()) == 4, "a dry run removes nothing"
    report = await server.tus.sweep()
    assert sorted(report.expired) == sorted(dry.expired)
    assert (report.bytes_freed, report.busy, report.quarantined) == (16, 0, [])
    assert await server.bytes_of(whole) == HELLO
    assert await server.offset(fresh) == 2
    assert (await server.head(half)).status_code == 410
    assert (await server.tus.sweep()).expired == []


async def test_a_live_upload_is_passed_over_and_not_interrupted(server: Running) -> None:
    """TRAPS: expiry while bytes flow; sweepers never interrupt."""
    path = await server.create(11)
    asked = server.patching(path, 0, 11)
    asked.feed(b"hello")
    await until(lambda: server.size(path) == 5)
    server.clock.now += DAY + 1
    report = await server.tus.sweep()
    assert (report.busy, report.expired) == (1, [])
    asked.feed(b" world", more=False)
    assert await asked.answered() == 204
    assert await server.bytes_of(path) == HELLO


async def test_an_upload_that_is_touched_in_between_stays(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is old by the time its end is reached."""
    path = await server.create(11)
    server.clock.now += DAY + 1
    expired = server.tus.state.expired

    async def then_back(
        now: float, after: tuple[float, str], limit: int
    ) -> list[tuple[float, str]]:
        found = await expired(now, after, limit)
        server.clock.now -= DAY
        return found

    monkeypatch.setattr(server.tus.state, "expired", then_back)
    report = await server.tus.sweep()
    assert report.expired == []
    assert await server.offset(path) == 0


async def test_one_that_cannot_be_swept_does_not_keep_the_others(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that somebody removed by hand must not end all clean-up for ever."""
    lost, stubborn, other = [await server.create(11) for _ in range(3)]
    for path in (lost, stubborn, other):
        await server.patch(path, 0, b"hello")
    server.file(lost).unlink()
    remove = server.tus.storage.remove

    async def failing(upload: Upload) -> int:
        if upload.id == id_of(stubborn):
            raise StorageFailed
        return await remove(upload)

    monkeypatch.setattr(server.tus.storage, "remove", failing)
    server.clock.now += DAY + 1
    report = await server.tus.sweep()
    assert set(report.expired) == {id_of(lost), id_of(other)}
    assert report.bytes_freed == 5
    assert (await server.record(lost)).phase is Phase.EXPIRED
    assert not (await server.record(stubborn)).released


async def test_all_bytes_in_an_expired_upload_are_a_finish_not_a_loss(server: Running) -> None:
    """A kill between the last byte and its commit: the file is whole."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    with server.file(path).open("ab") as file:
        file.write(b" world")
    server.clock.now += DAY + 1
    report = await server.tus.sweep()
    assert (report.expired, report.whole) == ([], [id_of(path)])
    # The sweep may be a tool's, which knows nothing of on_finish: a server finishes it.
    assert (await server.record(path)).phase is Phase.FINISHING
    await recover(server.tus.services)
    await until(lambda: not server.tus.services.jobs._tasks)
    assert await server.bytes_of(path) == HELLO


async def test_files_that_no_record_knows_are_set_aside_then_removed(server: Running) -> None:
    """Only if the name is an id, an hour has passed, and no record knows it."""
    known = await server.create(11)
    await server.patch(known, 0, b"hello")
    stray = await server.create(11)
    await server.patch(stray, 0, b"hello")
    young = await server.create(11)
    await server.patch(young, 0, b"hello")
    for path in (stray, young):
        await server.tus.state.delete(await server.record(path))
    folder = server.file(stray).parent
    (folder / "my notes.txt").write_text("mine")
    old = server.clock.now - 7200
    for file in (server.file(stray), server.file(known), folder / "my notes.txt"):
        os.utime(file, (old, old))
    assert (await server.tus.sweep(dry_run=True)).quarantined == [id_of(stray)]
    assert len(server.files()) == 4
    report = await server.tus.sweep()
    assert (report.quarantined, report.bytes_freed) == ([id_of(stray)], 0)
    assert server.file(known).exists()
    assert server.file(young).exists()
    assert (folder / "my notes.txt").exists()
    aside = server.directory / "quarantine" / id_of(stray)
    assert aside.read_bytes() == b"hello"
    server.clock.now += 8 * DAY
    dry = await server.tus.sweep(dry_run=True)
    assert aside.exists()
    report = await server.tus.sweep()
    assert report.bytes_freed == dry.bytes_freed >= 5
    assert not aside.exists()


async def test_a_stray_whose_id_is_chosen_just_now_is_left_alone(server: Running) -> None:
    """Otherwise: the file of a new upload is taken away from under its first byte."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    os.utime(server.file(path), (0, 0))
    record = await server.record(path)
    await server.tus.state.delete(record)
    async with server.tus.services.locks.attempt(record.id):
        report = await server.tus.sweep()
    assert (report.quarantined, report.busy) == ([], 1)
    assert server.file(path).read_bytes() == b"hello"


async def test_an_empty_database_beside_a_full_directory_removes_nothing(tmp_path: Path) -> None:
    """TRAPS: whoever moved the state away must not lose the bytes."""
    async with running(tmp_path) as server:
        await server.whole(HELLO)
    for file in (tmp_path / "state").glob("*.sqlite3*"):
        file.unlink()
    with pytest.raises(WrongInstance, match="the state is new"):
        async with running(tmp_path):
            pass
    assert len([file for file in tmp_path.glob("data/*/*") if file.is_file()]) == 1


async def test_a_part_stays_while_a_final_waits_for_it(server: Running) -> None:
    """TRAPS: a part that expires under a final; finals {a, b} and {b, a}."""
    a, b = [await server.create(5, Upload_Concat="partial") for _ in range(2)]
    await server.patch(a, 0, b"hello")
    server.clock.now += DAY - 10
    await server.patch(b, 0, b"wo")
    ab, ba = await server.final(a, b), await server.final(b, a)
    server.clock.now += 20
    assert (await server.record(a)).has_expired(server.clock.now)
    assert (await server.tus.sweep()).expired == []
    assert (await server.patch(b, 2, b"rld")).status_code == 204
    await until(lambda: not server.tus.services.jobs._tasks)
    assert await server.bytes_of(ab) == b"helloworld"
    assert await server.bytes_of(ba) == b"worldhello"
    assert (await server.tus.sweep()).expired == [id_of(a)], "nobody waits for it any more"


async def test_finals_of_the_same_parts_finish_both_ways(server: Running) -> None:
    """TRAPS: finals {a, b} and {b, a}, {a, a}: they lock only themselves, and are woken."""
    a, b = [await server.create(5, Upload_Concat="partial") for _ in range(2)]
    finals = [await server.final(*parts) for parts in ((a, b), (b, a), (a, a))]
    await asyncio.gather(server.patch(a, 0, b"hello"), server.patch(b, 0, b"world"))
    await until(lambda: not server.tus.services.jobs._tasks)
    phases = [(await server.record(final)).phase for final in finals]
    assert phases == [Phase.COMPLETE] * 3, "nobody had to ask for it"
    found = [await server.bytes_of(final) for final in finals]
    assert found == [b"helloworld", b"worldhello", b"hellohello"]


async def test_a_final_whose_part_was_removed_fails_for_good(server: Running) -> None:
    """It could never be finished; whoever asks hears why."""
    a, b = [await server.create(5, Upload_Concat="partial") for _ in range(2)]
    final = await server.final(a, b)
    await server.delete(a)
    assert (await server.head(final)).status_code == 410
    answer = await server.patch(final, 0, b"")
    assert (answer.status_code, id_of(a) in answer.text) == (410, True)
    server.clock.now += 8 * DAY
    await server.tus.sweep()
    assert (await server.head(final)).status_code == 404


async def test_a_final_that_fails_leaves_nothing_of_an_earlier_attempt(server: Running) -> None:
    """A kill while it was assembled, then a part was removed: gigabytes lay there for a week."""
    part = await server.create(5, Upload_Concat="partial")
    final = await server.final(part)
    Path(server.tus.storage.locate(await server.record(final))).write_bytes(b"hal")
    await server.delete(part)
    assert (await server.head(final)).status_code == 410
    assert server.files() == []


async def test_a_final_that_grows_too_large_fails(server: Running) -> None:
    """The length of a part came after that of the others was checked."""
    a, b = [await server.create(None, Upload_Concat="partial") for _ in range(2)]
    final = await server.final(a, b)
    for part in (a, b):
        await server.patch(part, 0, b"", Upload_Length="600000")
    assert (await server.head(final)).status_code == 413
    assert (await server.record(final)).phase is Phase.FAILED


async def test_a_final_that_nobody_finishes_expires_and_frees_its_parts(server: Running) -> None:
    """TRAPS: a final nobody finishes."""
    part = await server.create(5, Upload_Concat="partial")
    final = await server.final(part)
    server.clock.now += DAY + 1
    first = await server.tus.sweep()
    second = await server.tus.sweep()
    assert {*first.expired, *second.expired} == {id_of(final), id_of(part)}


class FailingState:
    """A state whose nth commit fails, before or after it was written; then all of them do."""

    def __init__(self, server: Running, n: int, *, written: bool) -> None:
        self._commit = server.tus.state.commit
        self._n = n
        self._written = written
        self.commits = 0

    async def commit(self, upload: Upload, **how: object) -> Upload:
        self.commits += 1
        if self.commits < self._n:
            return await self._commit(upload, **how)  # type: ignore[arg-type]
        if self.commits == self._n and self._written:
            await self._commit(upload, **how)  # type: ignore[arg-type]
        raise StorageFailed


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("checked", [False, True])
async def test_a_kill_at_each_commit_is_recovered_from(
    tmp_path: Path, written: bool, checked: bool
) -> None:
    """Fail the nth commit for rising n, start again, go on by HEAD: byte-exact, and told."""
    n, failed = 0, True
    while failed:
        n += 1
        told: list[str] = []

        async def on_finish(done: FinishedUpload, told: list[str] = told) -> None:
            told.append(done.id)

        folder = tmp_path / f"{n}"
        async with running(folder, on_finish=on_finish) as server:
            server.takes_disk_for(quick=False)
            path = await server.create(11)
            state = FailingState(server, n, written=written)
            server.tus.state.commit = state.commit  # type: ignore[method-assign]
            for at, piece in ((0, b"hello"), (5, b" world")):
                headers = sha1(piece) if checked else {}
                answer = await server.patch(path, at, piece, **headers)
                if answer.status_code != 204:
                    break
            failed = state.commits >= n
            server.tus.services.unsynced.clear()
        async with running(folder, on_finish=on_finish, background=True) as server:
            await until(lambda server=server: not server.tus.services.jobs._tasks)
            at = await server.offset(path)
            if at < 11:
                assert (await server.patch(path, at, HELLO[at:])).status_code == 204
            assert await server.bytes_of(path) == HELLO
            assert told
            assert set(told) == {id_of(path)}
            assert len(told) == 1 or failed
    assert n >= 5


async def test_a_terminated_upload_is_let_go_of_after_a_kill(tmp_path: Path) -> None:
    """The tombstone came first; the bytes go when the server is back."""
    async with running(tmp_path) as server:
        path = await server.create(11)
        await server.patch(path, 0, b"hello")

        async def failing(_: Upload) -> int:
            raise StorageFailed

        server.tus.storage.remove = failing  # type: ignore[method-assign, assignment]
        assert (await server.delete(path)).status_code == 500
        assert (await server.head(path)).status_code == 410
    async with running(tmp_path, background=True) as server:
        await until(lambda: server.files() == [])
        assert (await server.head(path)).status_code == 410


async def test_recovery_takes_up_finals_and_passes_over_what_is_busy(tmp_path: Path) -> None:
    """The part was complete when the process died; nobody had woken the final."""
    async with running(tmp_path) as server:
        part = await server.create(5, Upload_Concat="partial")
        final = await server.final(part)
        gone = await server.create(5)
        server.tus.services.jobs.wake = lambda *_: None  # type: ignore[method-assign]
        await server.patch(part, 0, b"hello")
        assert (await server.record(final)).phase is Phase.RECEIVING
        await server.delete(gone)
    async with running(tmp_path, background=True) as server:

        async def done() -> bool:
            return (await server.record(final)).phase is Phase.COMPLETE

        while not await done():
            await asyncio.sleep(0.01)
        assert await server.bytes_of(final) == b"hello"


async def test_recovery_passes_over_a_tombstone_that_is_being_let_go_of(server: Running) -> None:
    """Another process is at it; and a dry run only counts what is to be forgotten."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    remove = server.tus.storage.remove

    async def failing(_: Upload) -> int:
        raise StorageFailed

    server.tus.storage.remove = failing  # type: ignore[method-assign, assignment]
    assert (await server.delete(path)).status_code == 500
    server.tus.storage.remove = remove  # type: ignore[method-assign]
    async with server.tus.services.locks.attempt(id_of(path)):
        await recover(server.tus.services, again=())
    assert len(server.files()) == 1
    server.clock.now += 8 * DAY
    assert (await server.tus.sweep(dry_run=True)).forgotten == 1
    assert len(server.files()) == 1
    await recover(server.tus.services)
    assert server.files() == []


async def test_recovery_comes_back_soon_to_what_is_busy(tmp_path: Path) -> None:
    """Seen: after a restart of two servers one waited ten minutes for what the other was at."""
    calls: list[str] = []

    async def on_finish(done: FinishedUpload) -> None:
        calls.append(done.id)

    async with running(tmp_path, on_finish=on_finish) as server:
        services = server.tus.services
        paths = [await server.create(5) for _ in range(3)]
        finishing, other, tombstone = [await server.record(path) for path in paths]
        for upload in (finishing, other, tombstone):
            await server.patch(f"/files/{upload.id}", 0, b"hell")
        for upload in (finishing, other):
            server.file(f"/files/{upload.id}").write_bytes(b"hello")
            record = await server.record(f"/files/{upload.id}")
            whole = record._replace(upload_offset=5, phase=Phase.FINISHING)
            await server.tus.state.commit(whole)
        record = await server.record(f"/files/{tombstone.id}")
        await server.tus.state.commit(buried(record, Phase.TERMINATED, server.clock.now + DAY))
        asked: list[Reason] = []
        async with (
            services.locks.hold(finishing.id, within=0, on_contended=asked.append),
            services.locks.hold(tombstone.id, within=0, on_contended=asked.append),
        ):
            recovering = asyncio.create_task(recover(services, again=(0.05, 0.05, 60.0)))
            await until(lambda: calls == [other.id])
            await asyncio.sleep(0.08)
            assert not recovering.done()
            assert asked == [], "a live holder is never disturbed"
            assert len(server.files()) == 3
        await until(recovering.done)
        assert calls == [other.id, finishing.id]
        assert len(server.files()) == 2
        assert (await server.record(f"/files/{finishing.id}")).phase is Phase.COMPLETE
        await recovering


async def test_recovery_gives_up_until_the_next_sweep(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = await server.create(5)
    record = await server.record(path)
    await server.tus.state.commit(record._replace(phase=Phase.FINISHING))
    async with server.tus.services.locks.attempt(record.id):
        await recover(server.tus.services, again=(0.01, 0.01))
    assert "1 uploads are still busy" in caplog.text


async def unnoticed(server: Running) -> tuple[str, Upload]:
    """An upload whose last byte lies in its file, and is in no record, as after a kill."""
    path = await server.create(5)
    await server.patch(path, 0, b"hell")
    server.file(path).write_bytes(b"hello")
    return path, await server.record(path)


async def test_recovery_does_not_wait_for_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep of a million files takes its time, and clients wait for what is whole."""
    async with running(tmp_path) as server:
        path, record = await unnoticed(server)
        whole = record._replace(upload_offset=5, phase=Phase.FINISHING)
        await server.tus.state.commit(whole)

    async def hanging(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(SqliteState, "expired", hanging)
    async with running(tmp_path, background=True) as server, asyncio.timeout(10):
        while (await server.record(path)).phase is not Phase.COMPLETE:
            await asyncio.sleep(0.01)


async def test_a_server_finishes_what_its_sweep_finds_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its recovery looks at the same time, and may have found nothing: the next is far away."""
    async with running(tmp_path) as server:
        path, record = await unnoticed(server)
        await server.tus.state.commit(record._replace(expires_at=server.clock.now - 1))

    async def looked_before(*_: object) -> None:
        """Nothing was to be recovered."""

    monkeypatch.setattr("tusd_py.app.recover", looked_before)
    async with running(tmp_path, background=True) as server, asyncio.timeout(10):
        while (await server.record(path)).phase is not Phase.COMPLETE:
            await asyncio.sleep(0.01)


async def test_many_strays_are_set_aside_page_by_page(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million files are not one question to the database."""
    monkeypatch.setattr(sweep_room, "_PAGE", 2)
    paths = [await server.create(5) for _ in range(5)]
    old = server.clock.now - 7200
    for path in paths:
        await server.patch(path, 0, b"x")
        os.utime(server.file(path), (old, old))
        await server.tus.state.delete(await server.record(path))
    assert len((await server.tus.sweep()).quarantined) == 5


async def test_a_final_expires_no_sooner_than_a_part_that_is_being_sent(server: Running) -> None:
    """Otherwise: a large parallel upload whose final was asked for first dies after a day."""
    part = await server.create(11, Upload_Concat="partial")
    final = await server.final(part)
    for offset, body in ((0, b"hello"), (5, b" worl")):
        server.clock.now += DAY * 0.7
        assert (await server.patch(part, offset, body)).status_code == 204
        assert (await server.head(final)).status_code == 200
    server.clock.now += DAY * 0.7
    assert (await server.patch(part, 10, b"d")).status_code == 204
    await until(lambda: not server.tus.services.jobs._tasks)
    assert await server.bytes_of(final) == HELLO


@pytest.mark.parametrize("is_refused", [False, True])
async def test_a_file_that_has_the_name_of_one_that_was_removed_stays(
    tmp_path: Path, is_refused: bool
) -> None:
    """A week later the record of that one goes; the file may even lie in the same inode."""
    refuses = [is_refused]

    async def on_finish(upload: FinishedUpload) -> None:
        if refuses[0]:
            raise Reject(422, "not this one")

    name = {"Upload_Metadata": "filename cmVwb3J0LnBkZg=="}
    uploads = tmp_path / "uploads"
    storage = DiskStorage(uploads, file_template="{filename}")
    async with running(uploads, storage=storage, on_finish=on_finish) as server:
        first = await server.create(5, **name)
        answer = await server.patch(first, 0, b"first")
        assert answer.status_code == (422 if is_refused else 204)
        assert (await server.delete(first)).status_code == 204
        refuses[0] = False
        path = await server.create(11, **name)
        assert (await server.patch(path, 0, HELLO)).status_code == 204
        # The file system gives an inode again when it likes; here it always did.
        target = uploads / "files" / "report.pdf"
        record = await server.tus.state.load(id_of(first))
        assert record is not None
        place, _, _ = record.placement.rpartition(":")
        same = record._replace(placement=f"{place}:{target.stat().st_ino}")
        await server.tus.state.commit(same)
        server.clock.now += 7 * DAY + 1
        report = await server.tus.sweep()
        assert report.forgotten == 1
        assert await server.bytes_of(path) == HELLO
