"""What a sweep leaves: finished uploads with their files, and nothing else."""

import asyncio
import contextlib
import sqlite3
import time
from functools import partial
from pathlib import Path

from tests.faults.injected.sender import Broken
from tests.serving import eventually
from tusd_py import DiskStorage, TusApp
from tusd_py.engine.sweep import recover
from tusd_py.protocol.upload import Phase

_A_YEAR = 366 * 86_400.0


def check_swept(directory: Path, template: str | None = None) -> None:
    """Sweeps now, then as in some years, and looks what is left.

    Raises:
        Broken: A file was set aside too early, or something is left that nobody will ever remove.
    """
    eventually("recovery has ended", lambda: not _count_finishing(directory), within=20.0)
    asyncio.run(_check(directory, template))


def _count_finishing(directory: Path) -> int:
    path = directory / "state" / "tusd-py.sqlite3"
    with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as connection:
        query = "SELECT count(*) FROM uploads WHERE phase = 'finishing'"
        (count,) = connection.execute(query).fetchone()
    return int(count)


async def _check(directory: Path, template: str | None) -> None:
    tus = TusApp(DiskStorage(directory, file_template=template))
    await tus.open()
    try:
        report = await tus.sweep()
        if report.quarantined:
            raise Broken(f"a file was set aside that is a moment old: {report.quarantined}")
        for years in (1, 2, 3):
            tus.services.clock = partial(_later, years)
            await tus.sweep()
            # What a lost answer left whole is finished, as a server does that sweeps.
            await recover(tus.services)
            await tus.services.jobs.close(10.0)
        await _look(tus, directory)
    finally:
        await tus.stop()


def _later(years: int) -> float:
    return time.time() + years * _A_YEAR


async def _look(tus: TusApp, directory: Path) -> None:
    records = await tus.state.page("", 100_000)
    stuck = [upload for upload in records if upload.phase is not Phase.COMPLETE]
    if stuck:
        raise Broken(f"records are left: {[(each.id, each.phase.value) for each in stuck]}")
    known = {tus.storage.locate(upload) for upload in records if upload.path}
    folders = ("data/*/*", "files/**/*", "quarantine/*")
    found = {path for each in folders for path in directory.glob(each) if path.is_file()}
    if found != known:
        raise Broken(
            f"files without a record: {sorted(map(str, found - known))}, "
            f"records without a file: {sorted(map(str, known - found))}"
        )
    if waiting := await tus.state.waiting_finals():
        raise Broken(f"final uploads still wait: {waiting}")
