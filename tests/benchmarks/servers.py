"""A server that runs for one measurement, on a folder that is removed after it."""

import contextlib
import random
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.link import LoadFailed, Target, block
from tests.benchmarks.measuring import GIB, MIB
from tests.benchmarks.peers import Peer

ROOT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")
_PORTS = (12_000, 32_000)
_STARTS_WITHIN = 60.0
_STOPS_WITHIN = 20.0
_MOST_DESCRIPTORS = 20_000
_LOOKED_AT_WHOLE = 64 * MIB
_LOOKED_AT = 16


@dataclass(frozen=True, slots=True)
class Running:
    """A server that takes connections, and where its uploads are."""

    target: Target
    uploads: Path
    started_in: float

    def check_files(self, count: int, size: int) -> None:
        """Looks for the files of uploads.

        Raises:
            LoadFailed: There are not `count` files of `size` bytes, or one has other bytes.
        """
        files = [path for path in self.uploads.rglob("*") if path.is_file()]
        whole = [path for path in files if path.stat().st_size == size and _is_ours(path, size)]
        if len(whole) < count:
            raise LoadFailed(f"{len(whole)} files are whole of {count} that were acknowledged")


def _is_ours(path: Path, size: int) -> bool:
    """Whether it has the bytes that were sent; of a large one, whether some of its MiB have."""
    step = 1 if size <= _LOOKED_AT_WHOLE else _LOOKED_AT
    count = -(-size // MIB)
    with path.open("rb") as file:
        for number in {*range(0, count, step), count - 1}:
            file.seek(number * MIB)
            piece = file.read(MIB)
            if block()[: len(piece)] != piece:
                return False
    return True


def free_port() -> int:
    """A port that nobody listens on.

    Below those that the kernel hands out: one of these could be someone's before the server has it.
    """
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def folder(place: Path) -> Iterator[Path]:
    """A new folder, which is removed at the end, and what was written to it forgotten."""
    place.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="tusd-py-benchmark-", dir=place))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def touch_memory(place: Path, count: int) -> None:
    """Has the page cache take memory for a file, and let go of it.

    A virtual machine that gives free memory back to its host waits some microseconds for each page
    that it takes again, more than all else that a page costs; whoever is measured first would.

    Args:
        place: A folder on the disk.
        count: Bytes, of which no more than a GiB are written: more would not be free for long.
    """
    with tempfile.TemporaryFile(dir=place, buffering=0) as file:
        for _ in range(0, min(count, GIB), MIB):
            file.write(bytes(MIB))


@contextlib.contextmanager
def running(peer: Peer, home: Path, uploads: Path) -> Iterator[Running]:
    """A server on loopback, for the length of a `with` block.

    Args:
        peer: Which.
        home: Where it is installed, or shall be.
        uploads: A folder that is there.

    Raises:
        NotHere: It cannot be installed.
        LoadFailed: It does not start, or died.
    """
    place, port = peer.ready(home), free_port()
    log_path = uploads.with_name(uploads.name + ".log")
    begun = time.monotonic()
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            peer.command(place, port, uploads), cwd=ROOT, stdout=log, stderr=log
        )
    try:
        _limit_descriptors(process.pid)
        _wait_until_up(process, port, log_path)
        started_in = time.monotonic() - begun
        yield Running(Target(port=port, path=peer.path, pid=process.pid), uploads, started_in)
        if process.poll() is not None:
            raise LoadFailed(f"it died: {_end_of(log_path)}")
    finally:
        _stop(process)
        log_path.unlink(missing_ok=True)


def _limit_descriptors(pid: int) -> None:
    _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    limit = min(most, _MOST_DESCRIPTORS)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))


def _wait_until_up(process: "subprocess.Popen[bytes]", port: int, log_path: Path) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise LoadFailed(f"it does not start: {_end_of(log_path)}")


def _end_of(log_path: Path) -> str:
    return log_path.read_text(errors="replace").strip()[-300:]


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOPS_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
