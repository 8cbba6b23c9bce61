"""`uvicorn` as a process, with the embedder in it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.serving import STARTS_WITHIN, STOPS_WITHIN, eventually

ROOT = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def uvicorned(uploads: Path, *flags: str) -> Iterator[str]:
    """The base URL of a server that answers; it is stopped, and must end in order."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "tests.frameworks.embedder:app"]
    command += ["--host", "127.0.0.1", "--port", str(port), *flags]
    log = uploads.with_name(uploads.name + ".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "UPLOADS": str(uploads)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    base = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{base}/own").status_code == 200
        return False

    try:
        eventually("the server never answered", answers, within=STARTS_WITHIN)
        yield base
        process.send_signal(signal.SIGTERM)
        process.wait(STOPS_WITHIN)
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
