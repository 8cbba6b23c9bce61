"""tusd itself, to stand beside us: skipped, with a word, where it cannot be had."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.benchmarks.peers import TUSD, NotHere, catalogue
from tests.benchmarks.servers import free_port
from tests.interop.toolchains import cache_folder, locked

STARTS_WITHIN = 30.0


def tusd_program() -> Path:
    """Tusd's program: one that is on this machine, or built once from its own module."""
    peer = catalogue(None)[TUSD]
    home = cache_folder()
    try:
        with locked(home / "tusd.lock"):
            return Path(peer.command(peer.ready(home), 0, home)[0])
    except NotHere as error:
        pytest.skip(f"tusd: {error}")


@contextlib.contextmanager
def running_tusd(program: Path, uploads: Path, *flags: str, port: int = 0) -> Iterator[str]:
    """Tusd on loopback: the URL of its uploads."""
    port = port or free_port()
    where = ["-host", "127.0.0.1", "-port", str(port), "-base-path", "/files/"]
    command = [str(program), *where, "-upload-dir", str(uploads), *flags]
    with (uploads.with_name(uploads.name + ".log")).open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(port)
        yield f"http://127.0.0.1:{port}/files/"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(port: int) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
        except httpx.TransportError:
            assert time.monotonic() < deadline, "tusd does not start"
            time.sleep(0.05)
        else:
            return
