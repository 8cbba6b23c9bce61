"""The real server, as a process of its own: what a user starts with `tusd-py serve`."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

STARTS_WITHIN = 20.0
STOPS_WITHIN = 20.0


def module(env: Mapping[str, str]) -> str:
    """What `python -m` runs for `tusd-py` in an environment: itself, or `tests.launch`."""
    is_switched = env.keys() & {"TUSD_PY_TEST_BODY", "TUSD_PY_TEST_LOOP"}
    return "tests.launch" if is_switched else "tusd_py"


@dataclass
class Served:
    """A `tusd-py serve` on loopback that can be killed and started again at the same URL.

    Attributes:
        program: What `python -m` runs in place of `tusd-py`, if anything.
    """

    upload_dir: Path
    flags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    url: str = ""
    process: subprocess.Popen[str] | None = None
    program: str = ""

    def start(self) -> None:
        """Starts the server and waits for the line that tells its URL."""
        assert self.process is None, "still running"
        env = {**os.environ, **self.env}
        command = [sys.executable, "-m", self.program or module(env), "serve"]
        command += ["--port", str(self.port), "--upload-dir", str(self.upload_dir), *self.flags]
        log = self.log.open("a")
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=env,
        )
        log.close()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"(http://[^\s]+)", line)
        if found is None:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"no URL in {line!r}; the log: {self.log.read_text()[-2000:]}")
        self.url = found.group(1)
        port = re.search(r":(\d+)/", self.url)
        assert port is not None
        self.port = int(port.group(1))

    @property
    def log(self) -> Path:
        """What the server wrote to stderr, over all its lives."""
        return self.upload_dir.with_name(self.upload_dir.name + ".log")

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> int:
        """Sends a signal, waits for the end, and returns the exit status (negative: a signal)."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(number)
        try:
            return process.wait(STOPS_WITHIN)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""
        self.signal(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM: the exit status of an orderly end."""
        return self.signal(signal.SIGTERM)

    def restart(self) -> None:
        """SIGKILL, and up again at the same URL."""
        self.kill()
        self.start()


@contextlib.contextmanager
def serving(
    upload_dir: Path, *flags: str, env: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """A server for the length of a `with` block; it is stopped whatever happens in it."""
    server = Served(upload_dir=upload_dir, flags=flags, env=env or {})
    server.start()
    try:
        yield server
    finally:
        if server.process is not None:
            server.stop()


def eventually(what: str, holds: Callable[[], object], *, within: float = 30.0) -> None:
    """Waits until `holds()` is true; fails with `what` when it never is."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
