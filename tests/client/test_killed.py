"""The command as a process of its own, killed in the middle, on a server that counts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.scripted import Hold, ScriptedServer
from tests.serving import eventually
from tusd_py.client.resume import state_directory

UPLOAD = [sys.executable, "-c", "from tusd_py.client.command import upload; upload()"]
SIZE = 30_000_000


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(SIZE))
    return path


def _start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*UPLOAD, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _stop_in_the_middle(
    server: ScriptedServer, number: signal.Signals, *arguments: object
) -> tuple[int, str]:
    """Sends a signal when the server has some of the bytes; returns exit status and stderr."""
    process = _start(*arguments)
    assert server.holding.wait(20)
    assert list(state_directory().glob("*.json")), "the URL is stored before the first byte"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    server.go_on.set()
    return process.returncode, stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_after_the_end_of_the_process_only_the_rest_is_sent(
    server: ScriptedServer, large: Path, number: signal.Signals
) -> None:
    server.fault("PATCH", Hold(after=1_000_000))
    status, stderr = _stop_in_the_middle(server, number, large, server.url)
    if number == signal.SIGINT:
        assert (status, stderr.count("\n")) == (130, 1)
        assert "run the same command again" in stderr
    else:
        assert status == -number
    eventually("the server has what was under way", lambda: not server.busy)
    stored = server.received()
    assert 1_000_000 <= stored < SIZE
    again = _start(large, server.url)
    stdout, stderr = again.communicate(timeout=20)
    assert (again.returncode, stderr) == (0, "")
    assert server.received() == SIZE, "not one byte twice"
    assert bytes(server.upload(stdout.strip()).data) == large.read_bytes()


def test_parts_of_a_killed_process_are_gone_on_with(server: ScriptedServer, large: Path) -> None:
    server.fault("PATCH", Hold(after=1_000_000), Hold(after=2_000_000))
    flags = ("--parallel", 2)
    _stop_in_the_middle(server, signal.SIGKILL, large, server.url, *flags)
    eventually("the server has what was under way", lambda: not server.busy)
    assert server.received() < SIZE
    again = _start(large, server.url, *flags)
    stdout, _ = again.communicate(timeout=20)
    assert again.returncode == 0
    assert server.received() == SIZE
    assert bytes(server.upload(stdout.strip()).data) == large.read_bytes()
