"""Locks of a folder of their own, and other processes that hold some of them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tusd_py.locks.host import HostLocks

HOLD = """
import sys
from pathlib import Path
from tusd_py.locks.host import HostLocks
locks = HostLocks(Path(sys.argv[1]))
print(*(locks.acquire(key) for key in sys.argv[2:]), flush=True)
sys.stdin.read()
"""

OtherProcess = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "locks"


@pytest.fixture
def new_host(folder: Path) -> Iterator[Callable[[], HostLocks]]:
    made: list[HostLocks] = []

    def make() -> HostLocks:
        made.append(HostLocks(folder))
        return made[-1]

    yield make
    for locks in made:
        locks.close()


@pytest.fixture
def host(new_host: Callable[[], HostLocks]) -> HostLocks:
    return new_host()


@pytest.fixture
def other_process(folder: Path) -> Iterator[OtherProcess]:
    """Starts a process that holds some locks until its input ends."""
    started: list[subprocess.Popen[str]] = []

    def start(*keys: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), *keys],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline().split() == ["True"] * len(keys)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        process.stdout.close()
