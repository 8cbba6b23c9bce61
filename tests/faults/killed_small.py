"""Sends small bodies to an application of its own, and kills itself (SIGKILL) at a named step.

    python -m tests.faults.killed_small DIRECTORY FSYNC ROUTE WHAT STEP

It prints what was acknowledged before: `created ID`, `offset N`.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.asgi.in_process import BASE, OFFSET_TYPE, TUS, id_of, path_of
from tests.asgi.whole import with_whole_bodies
from tusd_py.app import Settings, TusApp
from tusd_py.protocol.upload import Upload
from tusd_py.storage.disk import DiskStorage

DATA = b"hello world"

STEPS = ("open", "opened", "written in part", "written", "synced", "commit", "committed", "never")
WHATS = ("create", "patch", "second patch")
ROUTES = ("on the loop", "in threads")


def kill() -> None:
    """As a power cut would, but for the page cache."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(tus: TusApp, step: str) -> None:
    """Lets this process end at a step of the next small body."""
    real_open, real_pwrite, real_sync = os.open, os.pwrite, os.fdatasync

    def opening(path: Any, flags: int, mode: int = 0o777, **kwargs: Any) -> int:
        is_file = "/data/" in str(path) and not flags & os.O_DIRECTORY
        if step == "open" and is_file:
            kill()
        descriptor = real_open(path, flags, mode, **kwargs)
        if step == "opened" and is_file:
            kill()
        return descriptor

    def writing(fd: int, data: bytes, offset: int) -> int:
        if step == "written in part":
            real_pwrite(fd, data[:3], offset)
            kill()
        count = real_pwrite(fd, data, offset)
        if step == "written":
            kill()
        return count

    def syncing(fd: int) -> None:
        real_sync(fd)
        if step == "synced":
            kill()

    os.open, os.pwrite, os.fdatasync = opening, writing, syncing  # type: ignore[assignment]
    now = tus.state.commit_now

    def committing(*args: Any, **kwargs: Any) -> Upload:
        if step == "commit":
            kill()
        committed = now(*args, **kwargs)
        if step == "committed":
            kill()
        return committed

    def around(method: Callable[..., Any]) -> Callable[..., Any]:
        async def committing_apart(*args: Any, **kwargs: Any) -> Upload:
            if step == "commit":
                kill()
            committed: Upload = await method(*args, **kwargs)
            if step == "committed":
                kill()
            return committed

        return committing_apart

    tus.state.commit_now = committing  # type: ignore[method-assign]
    tus.state.commit = around(tus.state.commit)  # type: ignore[method-assign]
    tus.state.insert = around(tus.state.insert)  # type: ignore[method-assign]


async def run(directory: Path, fsync: str, route: str, what: str, step: str) -> None:
    """The requests before the one that is cut, and that one."""
    tus = TusApp(DiskStorage(directory), fsync=fsync, settings=Settings(base_path=BASE))
    is_quick = route == "on the loop"
    tus.services.pace.is_quick = lambda *, durable: is_quick  # type: ignore[method-assign]
    await tus.open()
    transport = httpx.ASGITransport(with_whole_bodies(tus))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        length = {"Upload-Length": str(len(DATA))}
        if what == "create":
            kill_at(tus, step)
            answer = await client.post(BASE, headers=TUS | OFFSET_TYPE | length, content=DATA)
            print("created", id_of(path_of(answer)), flush=True)
            print("offset", answer.headers["Upload-Offset"], flush=True)
            return
        path = path_of(await client.post(BASE, headers=TUS | length))
        print("created", id_of(path), flush=True)
        at = 0
        if what == "second patch":
            at = 5
            await client.patch(
                path, headers=TUS | OFFSET_TYPE | {"Upload-Offset": "0"}, content=DATA[:5]
            )
            print("offset", at, flush=True)
        kill_at(tus, step)
        answer = await client.patch(
            path, headers=TUS | OFFSET_TYPE | {"Upload-Offset": str(at)}, content=DATA[at:]
        )
        print("offset", answer.headers["Upload-Offset"], flush=True)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), *sys.argv[2:]))
