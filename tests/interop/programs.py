"""Programs that a test runs: each has a time limit, and dies with its children when it is over."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

WITHIN = 60.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended."""

    command: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    def lines(self) -> list[str]:
        """What it printed, when it went well."""
        assert self.status == 0, f"{self.command} ended with {self.status}:\n{self.tail()}"
        return self.stdout.split("\n")[:-1]

    def facts(self) -> dict[str, str]:
        """What it printed as lines of `name value`, when it went well."""
        parts = (line.partition(" ") for line in self.lines())
        return {name: value for name, _, value in parts}

    def report(self) -> object:
        """The last line that it printed, which is JSON, when it went well."""
        return json.loads(self.lines()[-1])

    def tail(self) -> str:
        """The end of its output, for people."""
        return f"{self.stdout[-4000:]}\n{self.stderr[-4000:]}"


class Started:
    """A program that runs, and to which the test can speak."""

    def __init__(self, command: tuple[str, ...], process: subprocess.Popen[str]) -> None:
        self._command = command
        self._process = process

    def tell(self, line: str) -> None:
        """Writes one line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def end(self, within: float = WITHIN) -> Ended:
        """Waits for its end, at most `within` seconds."""
        try:
            stdout, stderr = self._process.communicate(timeout=within)
        except subprocess.TimeoutExpired as late:
            self.kill()
            stdout, stderr = self._process.communicate()
            raise AssertionError(
                f"not done after {within} s: {self._command}\n{stdout}\n{stderr}"
            ) from late
        return Ended(
            command=self._command, status=self._process.returncode, stdout=stdout, stderr=stderr
        )

    def kill(self) -> None:
        """Kills it, and what it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)


@contextlib.contextmanager
def started(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Started]:
    """Runs a program in a process group of its own for the length of a `with` block."""
    words = tuple(str(part) for part in command)
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    program = Started(words, process)
    with process:  # closes the pipes, and waits
        try:
            yield program
        finally:
            program.kill()


def run(
    command: Sequence[str | Path],
    *,
    within: float = WITHIN,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Ended:
    """Runs a program to its end, at most `within` seconds."""
    with started(command, cwd=cwd, env=env) as program:
        return program.end(within)
