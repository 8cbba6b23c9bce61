"""A server whose system calls are watched, which can be killed and started again."""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.injected.watch import Fault, Watch
from tests.serving import Served


@dataclass
class WatchedServer(Served):
    """A `tusd-py serve`, or an application of the tests' own, at one URL over all its lives.

    Attributes:
        fsync: What outlives a loss of power.
        application: What `tests.faults.injected.application` is to do, None for `tusd-py serve`.
        instead: See `Watch`.
        lives: How often it was started.
    """

    fsync: str = "complete"
    application: str | None = None
    instead: Mapping[str, Path] = field(default_factory=dict)
    lives: int = 0
    watch: Watch = field(default_factory=Watch)

    def command(self) -> list[str]:
        """What is started."""
        where = ["--port", str(self.port), "--upload-dir", str(self.upload_dir)]
        if self.application is None:
            head = [sys.executable, "-m", "tusd_py", "serve", *where, "--fsync", self.fsync]
            return [*head, "--log-level", "warning", *self.flags]
        module = "tests.faults.injected.application"
        arguments = [str(self.port), str(self.upload_dir), self.fsync, self.application]
        return [sys.executable, "-m", module, *arguments]

    def start(self, fault: Fault | None = None) -> None:
        """As `Served.start`; with a fault, it is armed before the first call of the process."""
        self.process = None
        self.watch = Watch(self.upload_dir, self.taken, instead=self.instead)
        if fault is not None:
            self.watch.arm(fault)
        self.lives += 1
        with self.log.open("a") as log:
            process = self.watch.start(self.command(), stdout=subprocess.PIPE, stderr=log)
        self.process = process
        assert process.stdout is not None
        found = re.search(r"(http://\S+:(\d+)/\S*)", process.stdout.readline())
        if found is not None:
            self.url, self.port = found[1], int(found[2])
            return
        self.bury()
        if fault is None or not self.watch.struck:
            raise AssertionError(f"the server did not start: {self.log.read_text()[-3000:]}")

    def restart(self) -> None:
        """SIGKILL, and up again."""
        assert self.process is not None
        self.process.kill()
        self.bury()
        self.start()

    @property
    def taken(self) -> Path:
        """Where the application takes finished files to."""
        return self.upload_dir.with_name("taken")

    @property
    def told(self) -> Path:
        """What the application was told, a line each."""
        return self.upload_dir.with_name("told")

    def bury(self) -> None:
        """Waits for the end of a process that was killed."""
        process, self.process = self.process, None
        if process is None:
            return
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        self.watch.join()

    def revive(self) -> bool:
        """Starts it again if it was killed: whether it was."""
        is_dead = self.process is None or self.watch.has_killed or self.process.poll() is not None
        if not is_dead:
            return False
        self.bury()
        self.start()
        return True
