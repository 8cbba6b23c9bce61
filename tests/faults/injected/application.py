"""An application with hooks, as a process that is watched.

    python -m tests.faults.injected.application PORT DIRECTORY FSYNC WHAT

WHAT is `finish` (on_finish only looks), `take` (it takes the file away), `expire` (uploads expire
after a moment) or `sync` (bytes are synced soon behind an append). Each hook writes a line to
DIRECTORY/../told: `finish ID SHA256`, `terminated ID`, `expired ID`. `POST /sweep` sweeps.
"""

import asyncio
import hashlib
import os
import sys
from pathlib import Path

import fastapi
import uvicorn

from tusd_py import DiskStorage, FinishedUpload, Settings, Timing, TusApp, UploadEvent
from tusd_py.wire.http import HttpProtocol

EXPIRES_AFTER = 1.0


def build(directory: Path, fsync: str, what: str) -> fastapi.FastAPI:
    """The application."""
    told, taken = directory.with_name("told"), directory.with_name("taken")

    def tell(line: str) -> None:
        with told.open("a") as file:
            file.write(line + "\n")

    async def on_finish(upload: FinishedUpload) -> None:
        there = upload.path.exists()
        digest = hashlib.sha256(upload.path.read_bytes()).hexdigest() if there else "taken"
        tell(f"finish {upload.id} {digest}")
        if what == "take":
            await tus.take(upload.id, taken / upload.id)

    async def on_terminate(upload: UploadEvent) -> None:
        tell(f"{upload.phase.value} {upload.id}")

    taken.mkdir(exist_ok=True)
    tus = TusApp(
        DiskStorage(directory),
        fsync=fsync,
        expire_after=EXPIRES_AFTER if what == "expire" else 86_400.0,
        on_finish=None if what == "expire" else on_finish,
        on_terminate=on_terminate,
        settings=Settings(timing=Timing(sync_after=0.0 if what == "sync" else 5.0)),
    )
    app = fastapi.FastAPI(lifespan=tus.lifespan)
    tus.mount(app, "/files")

    @app.post("/sweep")
    async def sweep() -> dict[str, list[str]]:
        return {"expired": (await tus.sweep()).expired}

    return app


async def serve(port: int, app: fastapi.FastAPI) -> None:
    """Until it is killed, or told to stop."""
    config = uvicorn.Config(app, port=port, http=HttpProtocol, ws="none", log_level="warning")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
        assert not serving.done(), serving.result()
    number = server.servers[0].sockets[0].getsockname()[1]
    print(f"listens at http://127.0.0.1:{number}/files/", flush=True)
    await serving
    os._exit(0)


if __name__ == "__main__":
    made = build(Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    asyncio.run(serve(int(sys.argv[1]), made))
