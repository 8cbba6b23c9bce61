"""A small body and a process that is killed between any two steps of it; then a restart, or a
reboot: what was acknowledged is there, and the upload goes on.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.asgi.in_process import BASE, Running, running
from tests.faults.killed_small import DATA, ROUTES, STEPS, WHATS
from tusd_py.engine.services import Timing
from tusd_py.protocol.upload import Phase
from tusd_py.storage import disk

pytestmark = pytest.mark.anyio


def killed(directory: Path, *arguments: str) -> tuple[list[str], int | None, bool]:
    """Ids that were told, the last offset that was, and whether the process came to its end."""
    command = [sys.executable, "-m", "tests.faults.killed_small", str(directory), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in (0, -9), done.stderr
    told = [line.split() for line in done.stdout.splitlines()]
    ids = [value for name, value in told if name == "created"]
    offsets = [int(value) for name, value in told if name == "offset"]
    return ids, offsets[-1] if offsets else None, done.returncode == 0


async def goes_on(server: Running, path: str, at_least: int) -> None:
    """What HEAD tells is there, and what follows it makes the file whole."""
    offset = await server.offset(path)
    assert offset >= at_least, "an acknowledged byte was lost"
    if offset:
        assert server.file(path).read_bytes() == DATA[:offset]
    if (await server.record(path)).phase is Phase.RECEIVING:
        answer = await server.patch(path, offset, DATA[offset:])
        assert answer.status_code == 204, answer.text
    assert await server.bytes_of(path) == DATA


@pytest.mark.parametrize("rebooted", [False, True])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_between_any_two_steps(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    step: str,
    what: str,
    route: str,
    rebooted: bool,
) -> None:
    """One commit tells of the bytes; before it nothing was acknowledged, behind it all is there."""
    ids, told, ended = killed(tmp_path, "complete", route, what, step)
    assert ended is (step == "never")
    if rebooted:
        monkeypatch.setattr(disk, "boot_id", lambda: "another-boot")
    async with running(tmp_path) as server:
        records = await server.records()
        if what == "create" and step not in ("committed", "never"):
            assert records == [], "no record tells of bytes that are not all there"
            await is_swept(tmp_path, server)
            return
        (record,) = records
        if step in ("committed", "never"):
            assert (record.phase, record.synced_offset) == (Phase.COMPLETE, len(DATA))
        acknowledged = told or 0
        # In this mode only a whole upload is promised to outlive a loss of power.
        survives = acknowledged if not rebooted or acknowledged == len(DATA) else 0
        assert ids in ([], [record.id])
        await goes_on(server, BASE + record.id, survives)


async def is_swept(directory: Path, server: Running) -> None:
    """A file that no record knows is no upload, and is set aside when it is old, not before."""
    files = server.files()
    report = await server.tus.sweep()
    assert report.quarantined == []
    assert server.files() == files
    past = time.time() - 2 * Timing().stray
    for file in files:
        assert (await server.head(BASE + file.name)).status_code == 404
        os.utime(file, (past, past))
    report = await server.tus.sweep()
    assert report.quarantined == [file.name for file in files]
    assert server.files() == []


@pytest.mark.parametrize("route", ROUTES)
async def test_a_killed_process_loses_nothing_where_nothing_is_synced(
    tmp_path: Path, route: str
) -> None:
    """`--fsync never` promises nothing for a loss of power; a kill is none."""
    _, told, _ = killed(tmp_path, "never", route, "second patch", "written")
    assert told == 5
    async with running(tmp_path, fsync="never") as server:
        (record,) = await server.records()
        assert await server.offset(BASE + record.id) == len(DATA), "an open tail is adopted"
        assert await server.bytes_of(BASE + record.id) == DATA
