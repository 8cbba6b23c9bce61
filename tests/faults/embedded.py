"""A server with hooks of its own, run as a process: `python -m tests.faults.embedded DIR MODE`.

Its `on_finish` writes a line to DIR/../told before it does what MODE says: `ok`, or `hang`.
"""

import asyncio
import sys
from pathlib import Path

import uvicorn

from tusd_py import DiskStorage, FinishedUpload, Settings, TusApp


def main() -> None:
    """Serves on a free port, and prints it."""
    directory, mode = Path(sys.argv[1]), sys.argv[2]

    async def on_finish(finished: FinishedUpload) -> None:
        with (directory.parent / "told").open("a") as file:
            file.write(f"{finished.id} {finished.path.stat().st_size}\n")
        if mode == "hang":
            await asyncio.sleep(3600)

    tus = TusApp(
        DiskStorage(directory), on_finish=on_finish, settings=Settings(base_path="/files/")
    )
    server = uvicorn.Server(uvicorn.Config(tus, port=0, log_level="error"))

    async def run() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await serving

    asyncio.run(run())


if __name__ == "__main__":
    main()
