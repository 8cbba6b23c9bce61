"""The sender against the server of this project, both as their users run them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.client.conftest import Send, lines
from tests.serving import Served, eventually, serving

SIZE = 30_000_000


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path / "uploads") as server:
        yield server


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


def _stored(url: str) -> bytes:
    return httpx.get(url, trust_env=False).raise_for_status().content


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--chunk-size", "7MB"],
        ["--checksum", "sha1"],
        ["--checksum", "crc32", "--chunk-size", "7MB"],
        ["--parallel", "3"],
        ["--parallel", "3", "--checksum", "sha256", "--jobs", "2"],
    ],
    ids=repr,
)
def test_a_file_arrives_whole(live: Served, send: Send, large: Path, flags: list[str]) -> None:
    result = send("--json", *flags, large, live.url)
    assert (result.exit_code, result.stderr) == (0, "")
    (line,) = lines(result)
    assert (line.size, line.sent) == (SIZE, SIZE)
    assert _stored(line.url) == large.read_bytes()


def test_an_empty_file_a_folder_and_stdin(live: Served, send: Send, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "empty").touch()
    (folder / "sub" / "text.txt").write_text("text")
    result = send("--json", folder, "-", live.url, stdin=b"x" * 20_000_000)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.size for line in lines(result)] == [0, 4, 20_000_000]
    assert [len(_stored(line.url)) for line in lines(result)] == [0, 4, 20_000_000]


def test_a_file_above_the_limit_of_the_server(tmp_path: Path, send: Send, large: Path) -> None:
    with serving(tmp_path / "uploads", "--max-size", "1000000") as server:
        result = send(large, server.url)
    assert result.exit_code == 1
    assert result.stderr.endswith(
        "large.bin: the file has 30000000 bytes, and the server takes at most 1000000\n"
    )


def test_a_server_that_is_killed_again_and_again(live: Served, large: Path) -> None:
    """Whatever was acknowledged stays; the sender finds its way without help."""
    process = _start(large, live.url)
    for _ in range(3):
        _wait_for_more(live)
        live.restart()
    stdout, stderr = process.communicate(timeout=90)
    assert process.returncode == 0, stderr
    assert "trying again" in stderr
    line = json.loads(stdout)
    assert line["resumed_from"] == 0, "it is one run"
    assert line["sent"] < 2 * SIZE
    assert _stored(line["url"]) == large.read_bytes()


@pytest.mark.parametrize("flags", [[], ["--parallel", "2"]], ids=repr)
def test_a_killed_sender_goes_on_where_the_server_stands(
    live: Served, large: Path, flags: list[str]
) -> None:
    process = _start(large, live.url, *flags)
    _wait_for_more(live)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    again = _start(large, live.url, *flags)
    stdout, stderr = again.communicate(timeout=90)
    assert again.returncode == 0, stderr
    line = json.loads(stdout)
    assert line["resumed_from"] > 0
    assert line["resumed_from"] + line["sent"] == SIZE
    assert _stored(line["url"]) == large.read_bytes()


def _wait_for_more(server: Served) -> None:
    before = _bytes_on_disk(server)
    eventually("bytes arrive", lambda: _bytes_on_disk(server) > before + 1_000_000)


def _bytes_on_disk(server: Served) -> int:
    data = server.upload_dir / "data"
    return sum(path.stat().st_size for path in data.rglob("*") if path.is_file())


SLOWLY = """
import time
from tusd_py.client import source
real = source.Stretch.pieces
def slowly(self, span):
    for piece in real(self, span):
        time.sleep(0.01)
        yield piece
source.Stretch.pieces = slowly
from tusd_py.client.command import upload
upload()
"""


def _start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SLOWLY, "--json", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
