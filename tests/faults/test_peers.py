"""Where the others fall down, line by line (shared/PEERS.md): this server must not."""

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.asgi import raw
from tests.asgi.in_process import OFFSET_TYPE, TUS, running
from tests.serving import Served, eventually, serving
from tusd_py import Access, Reject, Settings

pytestmark = pytest.mark.disk

MIB = 1 << 20


def file_of(upload_dir: Path, path: str) -> Path:
    (found,) = upload_dir.glob(f"data/*/{path.rpartition('/')[2]}")
    return found


def memory_of(pid: int) -> int:
    """Bytes of a process that are in memory."""
    found = re.search(r"VmRSS:\s+([0-9]+) kB", Path(f"/proc/{pid}/status").read_text("ascii"))
    assert found is not None
    return int(found[1]) * 1024


def size_of(upload_dir: Path, path: str) -> int:
    found = list(upload_dir.glob(f"data/*/{path.rpartition('/')[2]}"))
    return found[0].stat().st_size if found else 0


def test_memory_is_flat_and_what_came_before_a_cut_is_kept(tmp_path: Path) -> None:
    """resumable-upload, rustus: 400 MB in one PATCH take the process from 61 to 819 MB; a dropped
    client leaves nothing to resume.
    """
    with serving(tmp_path / "uploads", "--fsync", "never") as served:
        raw.patch(served.port, raw.create(served.port, MIB), 0, os.urandom(MIB))
        before = memory_of(served.pid)
        path = raw.create(served.port, 500 * MIB)
        piece = os.urandom(MIB)
        most = 0
        with raw.connected(served.port) as cut:
            cut.patch(path, 0, 500 * MIB)
            for number in range(400):
                cut.send(piece)
                if number % 20 == 0:
                    most = max(most, memory_of(served.pid))
        size = 400 * MIB
        eventually("all of it", lambda: size_of(served.upload_dir, path) == size, within=30)
        assert raw.offset_of(served.port, path) == size
        assert most - before < 64 * MIB
        with file_of(served.upload_dir, path).open("rb") as file:
            assert all(file.read(MIB) == piece for _ in range(400))


def test_of_two_processes_one_writes(tmp_path: Path) -> None:
    """resumable-upload: of two processes the loser gets 409, but its bytes stay in the file."""
    upload_dir = tmp_path / "uploads"
    with serving(upload_dir) as one, serving(upload_dir, env={"X": "2"}) as two:
        path = raw.create(one.port, 4 * MIB)
        statuses: dict[bytes, int] = {}

        def send(port: int, byte: bytes) -> None:
            statuses[byte] = raw.patch(port, path, 0, byte * 4 * MIB).status

        threads = [
            threading.Thread(target=send, args=(server.port, byte))
            for server, byte in ((one, b"1"), (two, b"2"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # The second asks the first to stop, and is at another offset then than it was.
        assert sorted(statuses.values()) in ([204, 409], [204, 423], [409, 423])
        offset = raw.offset_of(two.port, path)
        (file,) = upload_dir.glob("data/*/*")
        winner = file.read_bytes()[:1]
        assert winner in statuses
        assert file.read_bytes() == winner * offset
        assert raw.patch(two.port, path, offset, winner * (4 * MIB - offset)).status == 204
        assert raw.get(two.port, path) == winner * 4 * MIB


@pytest.mark.anyio
@pytest.mark.parametrize("why", ["authority", "version", "type", "method", "offset"])
async def test_a_refusal_reads_no_body_and_stores_nothing(tmp_path: Path, why: str) -> None:
    """Tuspyserver reads and writes the body before authority, version and content type."""

    async def authorize(access: Access) -> None:
        if access.request.headers.get("x-who") == "nobody":
            raise Reject(401, "who are you?")

    settings = Settings(base_path="/files/")
    async with running(tmp_path, authorize=authorize, settings=settings) as server:
        path = await server.create(10 * MIB)
        wrong, status = {
            "authority": ({"X-Who": "nobody"}, 401),
            "version": ({"Tus-Resumable": "0.1"}, 412),
            "type": ({"Content-Type": "text/plain"}, 415),
            "method": ({"X-HTTP-Method-Override": "BREW"}, 405),
            "offset": ({"Upload-Offset": "5"}, 409),
        }[why]
        headers = {"Upload-Offset": "0", "Content-Length": str(10 * MIB), **wrong}
        asked = server.ask("PATCH", path, **(TUS | OFFSET_TYPE | headers))
        asked.vanish()
        assert await asked.answered() == status
        assert asked.taken <= 1, "only to see whether the client is still there"
        assert sum(file.stat().st_size for file in server.files()) == 0


def test_sigkill_and_retry_is_byte_exact(tmp_path: Path) -> None:
    """tuspyserver: SIGKILL and retry gives 1,100 bytes for a length of 1,000."""
    content = os.urandom(3 * MIB)
    with serving(tmp_path / "uploads") as served:
        path = raw.create(served.port, len(content))
        offset, kills = 0, 0
        while offset < len(content):
            end = min(offset + 900_000, len(content))
            with raw.connected(served.port) as connection:
                connection.patch(path, offset, len(content) - offset)
                connection.send(content[offset:end])
                if end == len(content):
                    assert connection.answer().status == 204
                else:
                    at = functools.partial(size_of, served.upload_dir, path)
                    while at() <= offset:
                        time.sleep(0.001)
                    served.restart()
                    kills += 1
            before, offset = offset, raw.offset_of(served.port, path)
            assert offset >= before
        assert kills >= 2
        assert raw.get(served.port, path) == content


def test_a_stalled_patch_holds_up_nobody_else(served: Served) -> None:
    """tuspyserver: a stalled PATCH freezes the whole worker for 30 s."""
    path = raw.create(served.port, 100)
    with raw.connected(served.port) as stalled:
        stalled.patch(path, 0, 100)
        stalled.send(b"x")
        begun = time.monotonic()
        other = raw.create(served.port, 5)
        assert raw.patch(served.port, other, 0, b"hello").status == 204
        assert raw.get(served.port, other) == b"hello"
        assert time.monotonic() - begun < 1.0


def test_a_hanging_download_takes_no_lock(served: Served) -> None:
    """tusd: GET takes the exclusive lock, so downloads conflict."""
    content = bytes(8 * MIB)
    path = raw.create(served.port, len(content))
    assert raw.patch(served.port, path, 0, content).status == 204
    with raw.connected(served.port) as slow:
        slow.start("GET", path, {})
        assert slow.is_readable(5)
        assert raw.offset_of(served.port, path) == len(content)
        assert len(raw.get(served.port, path)) == len(content)


def test_the_filename_is_optional(served: Served) -> None:
    """tuspyserver: HEAD is 400 when there is no filename."""
    path = raw.create(served.port, 5)
    answer = raw.head(served.port, path)
    assert (answer.status, answer.headers["Upload-Metadata"]) == (200, None)


def test_a_body_of_a_megabyte_in_one_piece_is_nothing(served: Served) -> None:
    """rustus: the default body limit is 256 KiB."""
    path = raw.create(served.port, MIB)
    assert raw.patch(served.port, path, 0, bytes(MIB)).status == 204


def test_a_head_that_meets_a_hanging_patch_waits_milliseconds(served: Served) -> None:
    """tusd: the file lock polls, 6 to 7 s; @tus/server dies when the hanging client resets."""
    path = raw.create(served.port, 100)
    with raw.connected(served.port) as hanging:
        hanging.patch(path, 0, 100)
        hanging.send(b"hello")
        eventually("there", lambda: size_of(served.upload_dir, path) == 5)
        begun = time.monotonic()
        assert raw.offset_of(served.port, path) == 5
        assert time.monotonic() - begun < 0.5
        answer = hanging.answer()
        assert answer.status == 423
        assert b"ERR_UPLOAD_INTERRUPTED" in answer.body
    assert raw.head(served.port, path).status == 200


def test_a_lock_of_a_dead_process_is_free_at_once(tmp_path: Path) -> None:
    """tusd: a stale lock after a restart in a container."""
    with serving(tmp_path / "uploads") as served:
        path = raw.create(served.port, 100)
        with raw.connected(served.port) as hanging:
            hanging.patch(path, 0, 100)
            hanging.send(b"hello")
            eventually("there", lambda: size_of(served.upload_dir, path) == 5)
            served.restart()
            assert raw.offset_of(served.port, path) == 5


def test_clean_up_spares_what_is_finished(tmp_path: Path) -> None:
    """resumable-upload: clean-up deletes finished uploads."""
    with serving(tmp_path / "uploads", "--expire-after", "1ms") as served:
        path = raw.create(served.port, 0)
        time.sleep(0.01)
        command = [sys.executable, "-m", "tusd_py", "cleanup", "--upload-dir"]
        done = subprocess.run([*command, str(served.upload_dir)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert raw.get(served.port, path) == b""


@contextlib.contextmanager
def embedded(directory: Path, mode: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A server with an `on_finish`, as a process: its port."""
    command = [sys.executable, "-m", "tests.faults.embedded", str(directory), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


def test_the_finish_is_told_at_least_once_after_a_sigkill_in_it(tmp_path: Path) -> None:
    """tusd: the finish hook is lost if the process dies after the last byte."""
    told = tmp_path / "told"
    with embedded(tmp_path / "uploads", "hang") as (port, process):
        path = raw.create(port, 5)
        with raw.connected(port) as connection:
            connection.patch(path, 0, 5)
            connection.send(b"hello")
            eventually("told", lambda: told.exists() and told.read_text())
            process.send_signal(signal.SIGKILL)
            process.wait()
    line = f"{path.rpartition('/')[2]} 5\n"
    assert told.read_text() == line
    with embedded(tmp_path / "uploads", "ok") as (port, _):
        eventually("told again", lambda: told.read_text() == line * 2)
        eventually("complete", lambda: raw.head(port, path).headers["Upload-Offset"] == "5")
        assert raw.get(port, path) == b"hello"
