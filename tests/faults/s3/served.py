"""A server over a bucket, behind a proxy that makes its calls fail, and what its sweep leaves."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.faults.injected.sender import Broken
from tests.faults.s3 import serve
from tests.faults.s3.proxy import Call, S3Proxy
from tests.serving import Served
from tests.storage.s3_place import S3Place
from tests.storage.s3_servers import S3Server
from tusd_py import Settings, TusApp
from tusd_py.engine.sweep import recover
from tusd_py.protocol.upload import Phase
from tusd_py.storage.s3 import S3Settings
from tusd_py.storage.s3_info import Names

NAMES = Names(prefix="")

_A_YEAR = 366 * 86_400.0
_ENDS_WITHIN = 60.0


@dataclass(kw_only=True)
class S3Served(Served):
    """A `tusd-py serve --s3-bucket`, which can be killed and started again.

    Attributes:
        place: Its bucket.
        proxy: Through which it calls the store.
        lives: How often it was started.
    """

    place: S3Place
    proxy: S3Proxy
    lives: int = 0
    _tool: subprocess.Popen[str] | None = None
    _struck: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """See `Served.start`."""
        super().start()
        self.lives += 1

    def strike(self) -> None:
        """SIGKILL to whoever works on the bucket now."""
        self._struck = struck = self._tool or self.process
        assert struck is not None, "somebody made the call"
        os.kill(struck.pid, signal.SIGKILL)
        struck.wait(_ENDS_WITHIN)

    def revive(self) -> bool:
        """Starts it again if it was killed: whether it was."""
        if self.process is not None:
            if self.process is self._struck:
                self.process.wait(_ENDS_WITHIN)
            elif self.process.poll() is None:
                return False
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None
        self.start()
        return True

    def clean_up(self) -> int:
        """`tusd-py cleanup`, by way of the proxy: its exit status."""
        command = [sys.executable, "-m", self.program, "cleanup"]
        command += ["--upload-dir", str(self.upload_dir), *bucket_flags(self.place, self.proxy)]
        with self.log.open("a") as log:
            self._tool = subprocess.Popen(command, stdout=log, stderr=log, text=True)
        try:
            return self._tool.wait(_ENDS_WITHIN)
        finally:
            self._tool.kill()
            self._tool.wait()
            self._tool = None

    def state(self) -> TusApp:
        """What the server works with, straight at the store."""
        settings = S3Settings(access=self.place.access)
        return TusApp(
            serve.small(self.place.bucket, settings),
            settings=Settings(state_dir=self.upload_dir / "state", min_free_disk=0),
        )


def bucket_flags(place: S3Place, proxy: S3Proxy) -> tuple[str, ...]:
    """For `tusd-py`."""
    return ("--s3-bucket", place.bucket, "--s3-endpoint", proxy.endpoint)


@contextlib.contextmanager
def s3_serving(
    store: S3Server, folder: Path, *flags: str, program: str = "tests.faults.s3.serve"
) -> Iterator[S3Served]:
    """A server over a new bucket for the length of a `with` block; not started yet.

    Args:
        store: Its credentials are those of the environment.
        folder: For the state and the log.
        flags: For `tusd-py serve`.
        program: See `Served`.
    """
    place = S3Place(store)
    folder.mkdir(parents=True, exist_ok=True)
    with S3Proxy(target=int(store.endpoint.rpartition(":")[2])) as proxy:
        server = S3Served(
            upload_dir=folder / "uploads",
            flags=(*bucket_flags(place, proxy), *flags),
            program=program,
            place=place,
            proxy=proxy,
        )
        proxy.on_kill = server.strike
        proxy.on_abort = partial(_abort, place)
        try:
            yield server
        finally:
            if server.process is not None:
                server.kill()


def _abort(place: S3Place, call: Call) -> None:
    with contextlib.suppress(place.client.exceptions.ClientError):
        place.client.abort_multipart_upload(
            Bucket=place.bucket, Key=call.key, UploadId=call.multipart
        )


def check_left(server: S3Served) -> None:
    """Sweeps now, then as in some years, and looks what lies in the bucket.

    Raises:
        Broken: Something is left that nobody will ever remove, or is not there.
    """
    asyncio.run(_check(server))


async def _check(server: S3Served) -> None:
    tus = server.state()
    await tus.open()
    try:
        for years in range(4):
            tus.services.clock = partial(_later, years)
            await recover(tus.services, again=(0.1, 0.2, 0.4, 0.8))
            await tus.services.jobs.close(10.0)
            await tus.sweep()
        records = await tus.state.page("", 100_000)
        stuck = [upload for upload in records if upload.phase is not Phase.COMPLETE]
        if stuck:
            raise Broken(f"records are left: {[(each.id, each.phase.value) for each in stuck]}")
        objects = {str(tus.storage.locate(upload)).split("/", 3)[3] for upload in records}
        instance = await tus.state.instance()
        assert instance is not None, "it is open"
        known = objects | {NAMES.info(upload.id) for upload in records} | {NAMES.instance(instance)}
    finally:
        await tus.stop()
    found = set(_keys(server.place))
    if found != known:
        raise Broken(f"in the bucket: {sorted(found - known)}, not there: {sorted(known - found)}")
    if begun := server.place.multiparts():
        raise Broken(f"multipart uploads are left: {begun}")


def _later(years: int) -> float:
    return time.time() + years * _A_YEAR


def _keys(place: S3Place) -> Iterator[str]:
    pages = place.client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket)
    for page in pages:
        yield from (each["Key"] for each in page.get("Contents", ()))
