"""How designs like this one fail, line by line (shared/TRAPS.md), on a real server."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.asgi import raw
from tests.serving import Served, eventually, serving

pytestmark = pytest.mark.disk

MIB = 1 << 20


def size_of(upload_dir: Path, path: str) -> int:
    found = list(upload_dir.glob(f"data/*/{path.rpartition('/')[2]}"))
    return found[0].stat().st_size if found else 0


@pytest.mark.parametrize("size", [200_000, 900_000, 50 * MIB])
def test_a_refusal_is_read_and_not_a_reset(served: Served, size: int) -> None:
    """With a plain close the client sees a reset and not the 409, in 20 of 20 (seen)."""
    path = raw.create(served.port, 100 * MIB)
    assert raw.patch(served.port, path, 0, b"x").status == 204
    body = bytes(size)
    for _ in range(20):
        with raw.connected(served.port) as refused:
            refused.patch(path, 0, size)
            if size < MIB:
                refused.send(body)  # a client that does not look up before it has sent all
            else:
                refused.offer(body)
            answer = refused.answer()
            assert answer.status == 409
            assert answer.headers["Connection"] == "close"
    assert raw.offset_of(served.port, path) == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_read_after_a_refusal_is_bounded_and_slow(served: Served, chunked: bool) -> None:
    """With keep-alive uvicorn reads on without end: 2 GB after a 401 (seen)."""
    path = raw.create(served.port, 5)
    with raw.connected(served.port) as refused:
        refused.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        size = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(1 << 40)}
        headers = raw.PATCH_HEAD | {"Upload-Offset": "3"} | size
        refused.start("PATCH", path, headers)
        piece = (b"10000\r\n" + bytes(65536) + b"\r\n") if chunked else bytes(65536)
        sent = 0
        begun = time.monotonic()
        try:
            while sent < 1 << 30 and time.monotonic() - begun < 10:
                refused.send(piece)
                sent += len(piece)
        except OSError:
            pass
        # What the kernels of both ends hold counts as sent, too: up to some MiB on loopback.
        assert sent < 16 * MIB
        # A client far away needs that long to read the answer, before a reset takes it away.
        assert time.monotonic() - begun > 1.5


def test_a_slow_client_is_let_go_after_a_refusal(served: Served) -> None:
    """A byte now and then must not keep a connection for ever."""
    path = raw.create(served.port, 5)
    with raw.connected(served.port) as refused:
        refused.patch(path, 3, 1 << 30)
        begun = time.monotonic()
        assert refused.answer().status == 409
        assert refused.is_closed(10)
        assert time.monotonic() - begun < 5


def test_the_connection_goes_on_after_a_small_refused_body(served: Served) -> None:
    """Nothing is parsed as a request before the last byte of the body before it."""
    path = raw.create(served.port, 5)
    smuggled = f"DELETE {path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()
    with raw.connected(served.port) as connection:
        for _ in range(3):
            connection.patch(path, 3, len(smuggled))
            connection.send(smuggled)
            assert connection.answer().status == 409
        connection.patch(path, 0, 5)
        connection.send(b"hello")
        assert connection.answer().status == 204
    assert raw.get(served.port, path) == b"hello"


def test_expect_continue_refused_closes_and_eats_nothing(served: Served) -> None:
    """The next request was eaten as the body (seen)."""
    path = raw.create(served.port, 5)
    with raw.connected(served.port) as connection:
        connection.patch(path, 3, 5000, Expect="100-continue")
        begun = time.monotonic()
        answer = connection.answer()
        assert answer.status == 409
        assert answer.headers["Connection"] == "close"
        assert connection.is_closed()
        assert time.monotonic() - begun < 1
    assert raw.offset_of(served.port, path) == 0


def test_expect_continue_accepted_says_so(served: Served) -> None:
    """CLIENTS: tus-java-client waits for it."""
    path = raw.create(served.port, 5)
    with raw.connected(served.port) as connection:
        connection.patch(path, 0, 5, Expect="100-continue")
        assert connection.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(b"hello")
        assert connection.answer().status == 204


def chunked(body: bytes, *trailers: str) -> bytes:
    return (
        b"%x\r\n%b\r\n0\r\n" % (len(body), body)
        + "".join(f"{line}\r\n" for line in (*trailers, "")).encode()
    )


@pytest.mark.parametrize(
    ("checksum", "status"),
    [
        ("sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=", 204),
        ("sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=", 460),
        ("sha1 AAAA", 400),
    ],
)
def test_a_checksum_in_a_trailer_is_verified(served: Served, checksum: str, status: int) -> None:
    """It was announced, and is told from a header; what does not match is discarded."""
    path = raw.create(served.port, 5)
    headers = {"Upload-Offset": "0", "Transfer-Encoding": "chunked", "Trailer": "Upload-Checksum"}
    with raw.connected(served.port) as connection:
        connection.start("PATCH", path, raw.PATCH_HEAD | headers)
        connection.send(chunked(b"hello", f"Upload-Checksum: {checksum}"))
        answer = connection.answer()
    assert answer.status == status
    assert raw.offset_of(served.port, path) == (5 if status == 204 else 0)


@pytest.mark.parametrize(
    "trailer", ["X-HTTP-Method-Override: DELETE", "Upload-Length: 5", "Content-Type: text/plain"]
)
def test_a_trailer_is_not_taken_for_a_header(served: Served, trailer: str) -> None:
    """Trailers arrive in `scope["headers"]` before the application runs (seen): a proxy that
    checks headers does not look at them.
    """
    path = raw.create(served.port, None)
    head = raw.PATCH_HEAD | {"Upload-Offset": "0", "Transfer-Encoding": "chunked"}
    lines = [f"PATCH {path} HTTP/1.1", "Host: x", *(f"{k}: {v}" for k, v in head.items()), "", ""]
    with raw.connected(served.port) as connection:
        connection.send("\r\n".join(lines).encode() + chunked(b"hello", trailer))
        assert connection.answer().status == 204
    answer = raw.head(served.port, path)
    assert (answer.status, answer.headers["Upload-Offset"]) == (200, "5")
    assert answer.headers["Upload-Length"] is None


def test_two_patches_in_one_segment(served: Served) -> None:
    """The second's bytes went into the first upload (seen)."""
    one, two = (raw.create(served.port, 5) for _ in range(2))
    requests = b""
    for path, body in ((one, b"first"), (two, b"other")):
        head = raw.PATCH_HEAD | {"Upload-Offset": "0", "Content-Length": "5"}
        lines = [f"PATCH {path} HTTP/1.1", "Host: x", *(f"{k}: {v}" for k, v in head.items())]
        requests += "\r\n".join([*lines, "", ""]).encode() + body
    with raw.connected(served.port) as connection:
        connection.send(requests)
        eventually("both", lambda: raw.offset_of(served.port, two) == 5)
    assert raw.get(served.port, one) == b"first"
    assert raw.get(served.port, two) == b"other"


def test_many_slow_clients_do_not_starve_a_fast_one(served: Served) -> None:
    """A byte every 6 ms from each of 100 clients held all threads for 6 s (seen)."""
    paths = [raw.create(served.port, 100_000) for _ in range(40)]
    slow = [raw.Raw(served.port) for _ in paths]
    stop = threading.Event()

    def trickle() -> None:
        while not stop.is_set():
            for connection in slow:
                connection.send(b"x")
            time.sleep(0.006)

    try:
        for path, connection in zip(paths, slow, strict=True):
            connection.patch(path, 0, 100_000)
        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            begun = time.monotonic()
            fast = raw.create(served.port, 10 * MIB)
            assert raw.patch(served.port, fast, 0, bytes(10 * MIB)).status == 204
            assert time.monotonic() - begun < 3.0
        finally:
            stop.set()
            thread.join()
    finally:
        for connection in slow:
            connection.close()


def test_sigterm_during_a_body(tmp_path: Path) -> None:
    """Uvicorn ends with 143, waits without limit, interrupts no body (seen). CLIENTS: a HEAD that
    is answered 503 makes tus-js-client begin anew.
    """
    with serving(tmp_path / "uploads", "--shutdown-timeout", "6s") as served:
        path = raw.create(served.port, 100)
        with raw.connected(served.port) as patching, raw.connected(served.port) as asking:
            # A request half sent, so that its connection is still open when the server ends.
            asking.send(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n".encode())
            patching.patch(path, 0, 100)
            patching.send(b"hello")
            eventually("there", lambda: size_of(served.upload_dir, path) == 5)
            ended: list[int] = []
            begun = time.monotonic()
            stopping = threading.Thread(target=lambda: ended.append(served.stop()))
            stopping.start()
            answer = patching.answer()
            assert answer.status == 503
            assert b"ERR_SERVER_SHUTDOWN" in answer.body
            assert answer.headers["Retry-After"] == "5"
            asking.send(b"Tus-Resumable: 1.0.0\r\n\r\n")
            late = asking.socket.recv(4096)
            assert late == b"" or late.startswith(b"HTTP/1.1 423 ")
            stopping.join()
        assert ended == [0]
        assert time.monotonic() - begun < 7
        served.start()
        assert raw.offset_of(served.port, path) == 5


def test_a_stopped_worker_keeps_what_it_holds(tmp_path: Path) -> None:
    """Another takes the upload over, writes other bytes, answers; the first goes on (seen:
    acknowledged bytes overwritten, although its commit was refused).
    """
    upload_dir = tmp_path / "uploads"
    with serving(upload_dir) as one, serving(upload_dir, "--acquire-lock-timeout", "300ms") as two:
        path = raw.create(one.port, 100_000)
        with raw.connected(one.port) as first:
            first.patch(path, 0, 100_000)
            first.send(b"1" * 1000)
            eventually("there", lambda: size_of(upload_dir, path) == 1000)
            assert one.process is not None
            os.kill(one.pid, signal.SIGSTOP)
            try:
                first.send(b"1" * 49_000)
                for _ in range(3):
                    assert raw.patch(two.port, path, 1000, b"2" * 99_000).status == 423
                    assert raw.head(two.port, path).status == 423
            finally:
                os.kill(one.pid, signal.SIGCONT)
            # It was asked to stop while it could not hear; what had come is kept.
            assert first.answer().status == 423
        offset = raw.offset_of(two.port, path)
        assert 1000 <= offset <= 50_000
        assert raw.patch(two.port, path, offset, b"1" * (100_000 - offset)).status == 204
        assert raw.get(two.port, path) == b"1" * 100_000


def test_a_sealed_tail_is_cut_after_a_kill(tmp_path: Path) -> None:
    """A checksum was never verified: what lies there must not count."""
    with serving(tmp_path / "uploads") as served:
        path = raw.create(served.port, 100)
        assert raw.patch(served.port, path, 0, b"hello").status == 204
        with raw.connected(served.port) as connection:
            checksum = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="
            connection.patch(path, 5, 50, Upload_Checksum=checksum)
            connection.send(b"WRONG BYTES")
            eventually("there", lambda: size_of(served.upload_dir, path) == 16)
            served.restart()
        assert raw.offset_of(served.port, path) == 5
        assert size_of(served.upload_dir, path) == 5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    where = tmp_path / "small"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(where)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """507, what came before is kept and can be asked for, and it goes on when there is room."""
    flags = ("--min-free-disk", "0", "--state-dir", str(tmp_path / "state"))
    with serving(small_disk / "uploads", *flags) as served:
        path = raw.create(served.port, 4 * MIB)
        content = os.urandom(4 * MIB)
        answer = raw.patch(served.port, path, 0, content)
        assert answer.status == 507
        assert b"ERR_STORAGE_FULL" in answer.body
        offset = raw.offset_of(served.port, path)
        assert MIB < offset <= 2 * MIB
        assert offset == size_of(served.upload_dir, path)
        assert raw.patch(served.port, path, offset, content[offset:]).status == 507
        assert raw.offset_of(served.port, path) == offset
        grow = ["mount", "-o", "remount,size=16m", str(small_disk)]
        subprocess.run(grow, check=True)
        assert raw.patch(served.port, path, offset, content[offset:]).status == 204
        assert raw.get(served.port, path) == content
