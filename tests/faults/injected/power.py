"""A loss of power at each call of a recorded run.

The rules:
- An answer promises from the moment on at which it begins to be sent.
- `--fsync always` promises every offset that was told, that an upload is there, and that it is
  gone; `--fsync complete` only what was told to be complete.
- Whatever was not promised may be lost, but nothing may be wrong: what the server says it has is
  what was sent, and it goes on from there.
"""

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from tests.asgi.in_process import Running, running
from tests.faults.injected.disk_model import Cut, Disk
from tests.faults.injected.recording import Event, RecordedServer
from tests.faults.injected.scenarios import Run, Scenario
from tests.faults.injected.sender import Broken, Exchange, Sender, Sent, first_difference
from tusd_py import DiskStorage
from tusd_py.storage import disk

DATABASE = "uploads/state/tusd-py.sqlite3"
WAL = DATABASE + "-wal"


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What a client may rely on after a loss of power."""

    offset: int = 0
    is_whole: bool = False
    is_gone: bool = False


@dataclass(kw_only=True)
class Recorded:
    """A run that was recorded: what the server did, and what its client was told.

    Attributes:
        folder: `uploads/` lies in it, as it was in the end.
        ready: The line where the server said its URL.
        begun: The disk as it was before the run; None for an empty one.
        before: What was promised before the run.
    """

    scenario: Scenario
    fsync: str
    folder: Path
    events: list[Event]
    exchanges: list[Exchange]
    uploads: list[Sent]
    ready: int
    begun: Callable[[], Disk] | None = None
    before: dict[str, Promise] = field(default_factory=dict)
    _inodes: dict[int, int] | None = None

    def inodes(self) -> dict[int, int]:
        """Inodes, in the folder as it was in the end, by the model's numbers of the files."""
        if self._inodes is None:
            *_, (_, _, model) = replayed(self)
            places = {number: self.folder / path for path, number in model.files().items()}
            self._inodes = {
                number: place.stat().st_ino for number, place in places.items() if place.exists()
            }
        return self._inodes

    def answers(self) -> list[tuple[Event, Exchange]]:
        """Each answer, and what it told; the client asked one thing after the other."""
        sent = [event for event in self.events if event.answer is not None]
        heard = [exchange for exchange in self.exchanges if exchange.status]
        assert len(sent) >= len(heard), f"{len(sent)} answers were sent, {len(heard)} came"
        return list(zip(sent, heard, strict=False))

    def promises(self, until: int) -> dict[str, Promise]:
        """What was promised up to a line of the recording, by path."""
        lengths = {sent.path: sent.length for sent in self.uploads}
        promised = dict(self.before)
        for event, told in self.answers():
            if event.begun <= until and told.path in lengths:
                _promise(promised, told, lengths[told.path], self.fsync)
            elif event.begun > until:
                if told.method == "DELETE":
                    # It may be under way, and then either is right.
                    promised.pop(told.path, None)
                break
        return promised


def _promise(promised: dict[str, Promise], told: Exchange, length: int, fsync: str) -> None:
    always = fsync == "always"
    if told.method == "DELETE" and told.status == 204:
        promised.pop(told.path, None)
        if always:
            promised[told.path] = Promise(is_gone=True)
        return
    if told.status not in (200, 201, 204) or told.method == "GET":
        return
    offset = told.offset or 0
    is_whole = told.offset == length
    if always or is_whole:
        promised[told.path] = Promise(offset=offset, is_whole=is_whole)


def record(scenario: Scenario, fsync: str, folder: Path) -> Recorded:
    """Runs a scenario under strace, from a server's first start on."""
    folder.mkdir(parents=True)
    server = RecordedServer(
        upload_dir=folder / "uploads",
        flags=scenario.flags,
        fsync=fsync,
        application=scenario.application,
    )
    server.start()
    try:
        client = Sender(port=lambda: server.port)
        scenario.work(Run(server=server, client=client))
    finally:
        events = server.end()
    return Recorded(
        scenario=scenario,
        fsync=fsync,
        folder=folder,
        events=events,
        exchanges=client.exchanges,
        uploads=client.uploads,
        ready=server.ready,
    )


def replayed(recorded: Recorded) -> Iterator[tuple[int, Event, Disk]]:
    """The disk behind each line of the recording at which something began to be told, or ended."""
    model = Disk(recorded.folder) if recorded.begun is None else recorded.begun()
    steps = [(event.begun, 0, event) for event in recorded.events]
    steps += [(event.ended, 1, event) for event in recorded.events]
    for line, is_end, event in sorted(steps, key=lambda step: step[:2]):
        if not is_end:
            model.begin(event)
            if event.answer is not None:
                yield line, event, model
        elif event.result is not None and event.answer is None:
            model.end(event)
            if str(recorded.folder) in event.arguments and event.result >= 0:
                yield line, event, model


def cut_off(recorded: Recorded, model: Disk, to: Path, cut: Cut, seed: int) -> None:
    """Makes the folder as a loss of power leaves it.

    The copies are other inodes than those on record, which a reboot does not change.
    """
    shutil.rmtree(to, ignore_errors=True)
    copies = model.write(to, cut, seed)
    state = to / DATABASE
    if not recorded.scenario.template or not state.exists() or not state.stat().st_size:
        return
    with contextlib.closing(sqlite3.connect(state, isolation_level=None)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name='uploads'").fetchall():
            return
        for number, old in recorded.inodes().items():
            if number in copies:
                change = "UPDATE uploads SET placement = ? WHERE placement LIKE ?"
                new = copies[number].stat()
                connection.execute(change, (f"old:{new.st_dev}:{new.st_ino}", f"%:{old}"))


def check_reboot(
    recorded: Recorded, directory: Path, promised: dict[str, Promise], boot: str
) -> None:
    """Starts the server after a loss of power, and lets the client go on.

    Raises:
        Broken: A promise was not kept, or a byte is wrong.
    """
    with mock.patch.object(disk, "boot_id", return_value=boot):
        asyncio.run(_check_reboot(recorded, directory, promised))
    if (directory / "state" / "tusd-py.sqlite3").exists():
        with contextlib.closing(sqlite3.connect(directory / "state/tusd-py.sqlite3")) as connection:
            (found,) = connection.execute("PRAGMA integrity_check").fetchone()
            if found != "ok":
                raise Broken(f"the database is damaged: {found}")


async def _check_reboot(recorded: Recorded, directory: Path, promised: dict[str, Promise]) -> None:
    storage = DiskStorage(directory, file_template=recorded.scenario.template)
    async with running(directory, background=True, storage=storage, fsync=recorded.fsync) as server:
        contents = {sent.path: bytearray(sent.content) for sent in recorded.uploads}
        for sent in recorded.uploads:
            await _go_on(server, sent, contents[sent.path], promised.get(sent.path))


async def _go_on(server: Running, sent: Sent, content: bytearray, promise: Promise | None) -> None:
    status, offset = await _stands(server, sent.path)
    if promise is not None and promise.is_gone:
        if status not in (404, 410):
            raise Broken(f"it was terminated, and is back: {status} at {offset}")
        return
    if status != 200:
        if promise is not None or status not in (404, 410):
            raise Broken(f"HEAD says {status} after {promise}")
        return
    if promise is not None and offset < promise.offset:
        raise Broken(f"it fell back to {offset} after {promise}")
    if sent.concat == "final":
        deadline = asyncio.get_running_loop().time() + 5
        while offset != sent.length and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
            _, offset = await _stands(server, sent.path)
    elif offset < sent.length:
        if not sent.concat:
            content[offset:] = os.urandom(sent.length - offset)
        await _send_rest(server, sent, offset, bytes(content[offset:]))
    found = await server.client.get(sent.path)
    if found.status_code != 200 or found.content != content:
        at = first_difference(found.content, bytes(content))
        raise Broken(
            f"GET says {found.status_code}; it stood at {offset}, and differs at byte {at}"
        )


async def _stands(server: Running, path: str) -> tuple[int, int]:
    for _ in range(500):
        answer = await server.head(path)
        if answer.status_code != 423:
            return answer.status_code, int(answer.headers.get("Upload-Offset", "-1"))
        await asyncio.sleep(0.01)
    raise Broken("HEAD says 423 for ever")


async def _send_rest(server: Running, sent: Sent, offset: int, rest: bytes) -> None:
    answer = await server.head(sent.path)
    is_deferred = "Upload-Defer-Length" in answer.headers
    length = {"Upload_Length": str(sent.length)} if is_deferred else {}
    done = await server.patch(sent.path, offset, rest, **length)
    if done.status_code != 204:
        raise Broken(f"PATCH at {offset}, which HEAD told, says {done.status_code}: {done.text}")
