"""What a user deploys: `uvicorn tests.frameworks.embedder:app`, with uploads in $UPLOADS."""

import os
from pathlib import Path

import fastapi

from tusd_py import DiskStorage, FinishedUpload, HttpSettings, Reply, Settings, Timing, TusApp


async def on_finish(upload: FinishedUpload) -> Reply:
    """Tells which worker it was."""
    return Reply(headers={"X-Worker": str(os.getpid()), "X-Name": upload.id})


tus = TusApp(
    DiskStorage(Path(os.environ["UPLOADS"])),
    on_finish=on_finish,
    settings=Settings(
        http=HttpSettings(network_timeout=10.0), timing=Timing(acquire_lock=5.0, sync_after=0.1)
    ),
)
app = fastapi.FastAPI(lifespan=tus.lifespan)
tus.mount(app, "/api/files")


@app.get("/own")
async def own() -> dict[str, int]:
    """A route of the application's own."""
    return {"pid": os.getpid()}
