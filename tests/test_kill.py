"""The promise as a user would try it: kill the client, kill the server, and compare the bytes."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recorder import Recorder
from tests.serving import Served, eventually, serving

MIB = 1 << 20
SIZE = int(os.environ.get("TUSD_PY_KILL_MIB", "1024")) * MIB


def _write_random(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // MIB):
            block = os.urandom(MIB)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _digest_of(url: str) -> str:
    digest = hashlib.sha256()
    with contextlib.closing(urllib.request.urlopen(url)) as response:
        while block := response.read(MIB):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _sending(file: Path, url: str, state: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tusd_py", "upload", str(file), url, "--json", "--quiet"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(state)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _stored(server: Served) -> int:
    """Bytes in the one file that is being uploaded."""
    files = [path for path in (server.upload_dir / "data").glob("*/*") if path.is_file()]
    return sum(path.stat().st_size for path in files)


def _wait_for(server: Served, size: int) -> None:
    # As long as a client that met a server which was down may pause, and some more.
    eventually("bytes come in", lambda: _stored(server) > size, within=60.0)


def _log_of(server: Served, method: str) -> int:
    return server.log.read_text().count(f"INFO {method} ")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.disk
def test_a_gibibyte_survives_two_killed_clients_and_two_killed_servers(tmp_path: Path) -> None:
    """Otherwise: a night's upload begins again, or ends with a byte wrong."""
    file = tmp_path / "film.mkv"
    expected = _write_random(file, SIZE)
    state = tmp_path / "client"
    with serving(tmp_path / "uploads") as server, Recorder(server.port) as recorder:
        endpoint = server.url.replace(f":{server.port}/", f":{recorder.port}/")
        offsets = []
        for step in (1, 2):
            with _sending(file, endpoint, state) as client:
                _wait_for(server, step * SIZE // 8)
                client.send_signal(signal.SIGKILL)
                client.wait()
            offsets.append(_stored(server))
        with _sending(file, endpoint, state) as client:
            for step in (4, 6):
                _wait_for(server, step * SIZE // 8)
                server.kill()
                offsets.append(_stored(server))
                server.start()
            printed, _ = client.communicate(timeout=200)
        assert client.returncode == 0, printed
        uploads = printed.splitlines()
        assert len(uploads) == 1
        assert _log_of(server, "POST") == 1, "the upload began anew"
        url = json.loads(uploads[0])["url"]
        assert _digest_of(url) == expected
        # No byte that a HEAD had reported was sent again, and none was left out.
        assert len(recorder.told) >= 4
        assert recorder.told == sorted(recorder.told)
        for offset, answers in recorder.begun:
            assert offset == (recorder.told[answers - 1] if answers else 0)
        # A HEAD reports what lay in the file when the client or the server was killed, or more.
        assert offsets == sorted(offsets)
        assert recorder.told[-1] >= offsets[-1]
        assert server.stop() == 0
