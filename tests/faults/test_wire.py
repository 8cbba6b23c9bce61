"""The wire of the real server under load, as `shared/TRAPS.md` has it."""

import contextlib
import http.client
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.asgi import raw
from tests.serving import Served, eventually, serving

MIB = 1 << 20
CLIENTS = 100


def file_of(served: Served, path: str) -> Path:
    (found,) = served.upload_dir.glob(f"data/*/{path.rpartition('/')[2]}")
    return found


def size_of(served: Served, path: str) -> int:
    """Bytes that are stored; the file is made with the first of them."""
    found = list(served.upload_dir.glob(f"data/*/{path.rpartition('/')[2]}"))
    return found[0].stat().st_size if found else 0


def has(served: Served, path: str, size: int) -> bool:
    return size_of(served, path) == size


def descriptors(served: Served) -> int:
    return len(os.listdir(f"/proc/{served.pid}/fd"))


def threads(served: Served) -> int:
    return len(os.listdir(f"/proc/{served.pid}/task"))


@contextlib.contextmanager
def patching(served: Served, count: int, length: int) -> Iterator[dict[str, raw.Raw]]:
    """So many uploads of which only the head of the PATCH was sent."""
    found: dict[str, raw.Raw] = {}
    try:
        for _ in range(count):
            path = raw.create(served.port, length)
            found[path] = raw.Raw(served.port)
            found[path].patch(path, 0, length)
        yield found
    finally:
        for connection in found.values():
            connection.close()


def test_a_hundred_clients_with_a_byte_now_and_then_hold_nobody_up(tmp_path: Path) -> None:
    """All 32 threads were held, and a fast client stored nothing for 6 s (seen)."""
    stop = threading.Event()
    content = os.urandom(MIB) * 64
    with (
        serving(tmp_path / "uploads", "--fsync", "never") as served,
        patching(served, CLIENTS, 1_000_000) as slow,
    ):

        def trickle() -> None:
            while not stop.is_set():
                for connection in slow.values():
                    connection.send(b"x")
                time.sleep(0.006)

        trickling = threading.Thread(target=trickle)
        trickling.start()
        try:
            time.sleep(0.5)
            begun = time.monotonic()
            fast = raw.create(served.port, len(content))
            assert raw.patch(served.port, fast, 0, content).status == 204
            assert time.monotonic() - begun < 10, "half a second on a quiet machine"
        finally:
            stop.set()
            trickling.join()
        assert raw.get(served.port, fast) == content


def test_slow_clients_cost_a_socket_each(tmp_path: Path) -> None:
    """Ten thousand of them would else take all threads and all descriptors."""
    with serving(tmp_path / "uploads") as served:
        if "TUSD_PY_TEST_BODY" in os.environ:
            pytest.skip("only the socket body lets go of its file")
        raw.create(served.port, 1)
        before = descriptors(served)
        with patching(served, CLIENTS, 1000) as slow:
            for connection in slow.values():
                connection.send(b"hello")
            for path in slow:
                eventually("stored", partial(has, served, path, 5))
            eventually("let go", lambda: descriptors(served) - before <= CLIENTS + 10)
            assert threads(served) < 50
            for path, connection in slow.items():
                connection.send(b"!" * 995)
                assert connection.answer().status == 204
                assert raw.get(served.port, path) == b"hello" + b"!" * 995


def test_a_second_request_stops_a_fast_one_in_milliseconds(tmp_path: Path) -> None:
    """And what it is told holds: the first stores nothing any more."""
    content = os.urandom(MIB)
    # Its length is more than many a machine has room for.
    anyway = ("--fsync", "never", "--min-free-disk", "0")
    with serving(tmp_path / "uploads", *anyway) as served:
        path = raw.create(served.port, 1 << 34)
        first = raw.Raw(served.port)
        first.patch(path, 0, 1 << 34)
        stop = threading.Event()

        def send() -> None:
            with contextlib.suppress(OSError):
                for _ in range(2000):
                    first.send(content)
                    if stop.is_set():
                        return

        sending = threading.Thread(target=send)
        sending.start()
        try:
            eventually("it comes in", lambda: size_of(served, path) > 20 * MIB)
            begun = time.monotonic()
            offset = raw.offset_of(served.port, path)
            assert time.monotonic() - begun < 1.0
            assert raw.offset_of(served.port, path) == offset
            assert size_of(served, path) == offset
        finally:
            stop.set()
            sending.join()
            first.close()
        with file_of(served, path).open("rb") as file:
            while block := file.read(MIB):
                assert block == content[: len(block)]


@pytest.mark.parametrize("sent", [5, 3 * MIB])
def test_sigterm_in_mid_body(tmp_path: Path, sent: int) -> None:
    """503 with a Retry-After, what came is kept, and the end is an orderly one."""
    content = os.urandom(sent)
    with serving(tmp_path / "uploads", "--shutdown-timeout", "6s") as served:
        path = raw.create(served.port, 10 * MIB)
        with raw.connected(served.port) as patched:
            patched.patch(path, 0, 10 * MIB)
            patched.send(content)
            eventually("stored", lambda: size_of(served, path) == sent)
            ended: list[int] = []
            stopping = threading.Thread(target=lambda: ended.append(served.stop()))
            stopping.start()
            answer = patched.answer()
            stopping.join()
        assert answer.status == 503
        assert answer.headers["Retry-After"]
        assert ended == [0]
        served.start()
        assert raw.offset_of(served.port, path) == sent
        assert file_of(served, path).read_bytes() == content


def test_sigterm_under_a_hundred_bodies(tmp_path: Path) -> None:
    """A restart at noon: of no upload is a stored byte lost, and the end comes in time."""
    first, piece = 100_000, 10_000
    with serving(tmp_path / "uploads", "--shutdown-timeout", "6s") as served:
        with patching(served, CLIENTS, MIB) as bodies:
            contents = {path: os.urandom(MIB) for path in bodies}
            for path, body in bodies.items():
                body.send(contents[path][:first])
            for path in bodies:
                eventually("stored", partial(has, served, path, first))

            def send() -> None:
                for at in range(first, MIB, piece):
                    for path, body in bodies.items():
                        with contextlib.suppress(OSError):
                            body.send(contents[path][at : at + piece])

            sending = threading.Thread(target=send)
            sending.start()
            begun = time.monotonic()
            status = served.stop()
            took = time.monotonic() - begun
            sending.join()
        assert status == 0
        assert took < 8
        served.start()
        for path, content in contents.items():
            offset = raw.offset_of(served.port, path)
            assert offset >= first
            assert file_of(served, path).read_bytes() == content[:offset]


def test_sigterm_while_nobody_takes_a_download(tmp_path: Path) -> None:
    """The end is in time, the client sees that it is not all, and the log holds no stack trace."""
    with serving(tmp_path / "uploads", "--shutdown-timeout", "2s") as served:
        path = raw.create(served.port, 32 * MIB)
        assert raw.patch(served.port, path, 0, bytes(32 * MIB)).status == 204
        with raw.connected(served.port) as stalled:
            stalled.start("GET", path, {})
            assert stalled.is_readable(raw.WITHIN)
            assert served.stop() == 0
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                stalled.answer()
    assert "Traceback" not in served.log.read_text()


def test_what_a_body_hides_is_not_done(served: Served) -> None:
    """java.net.http asks for an upgrade to HTTP/2 with its first request: the parser took the body
    behind such a head for the next request.
    """
    victim, path = raw.create(served.port, 5), raw.create(served.port, 200)
    hidden = f"DELETE {victim} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()
    body = hidden.ljust(200, b" ")
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEA"}
    with raw.connected(served.port) as connection:
        connection.patch(path, 0, 200, **upgrade)
        connection.send(body)
        assert connection.answer().status == 204
        assert connection.ask("HEAD", victim, {"Tus-Resumable": "1.0.0"}).status == 200
    assert raw.get(served.port, path) == body
