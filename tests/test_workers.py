"""Several processes on one directory: workers, two servers, and the tools beside them."""

import hashlib
import os
import random
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx

from tests.frameworks.journey import BYTES, TUS
from tests.frameworks.uvicorned import uvicorned
from tests.serving import Served, eventually, serving

UPLOADS = 40
THREADS = 8
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Not used on loopback, but httpx takes long to make one for each connection."""


def ask(
    client: httpx.Client, method: str, url: str, content: bytes = b"", **headers: str
) -> httpx.Response:
    """A request as a real client makes it: what is busy for the moment is asked for again."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    deadline = time.monotonic() + 20
    while True:
        body = BYTES if content else {}
        answer = client.request(method, url, content=content, headers=TUS | body | named)
        if answer.status_code != 423 or time.monotonic() > deadline:
            return answer
        time.sleep(0.02)


def send_one(endpoints: list[str], number: int) -> tuple[str, bytes, set[str]]:
    """One upload in pieces, each over a connection of its own: URL, bytes, workers met."""
    source = random.Random(number)
    content = source.randbytes(source.randrange(1, 60_000))
    met: set[str] = set()
    with httpx.Client(verify=NO_TLS) as client:
        created = ask(client, "POST", endpoints[0], Upload_Length=str(len(content)))
    assert created.status_code == 201, created.text
    upload_id = created.headers["Location"].rpartition("/")[2]
    offset = 0
    while offset < len(content):
        piece = content[offset : offset + source.randrange(1, 30_000)]
        url = source.choice(endpoints) + upload_id
        with httpx.Client(verify=NO_TLS) as client:
            sent = ask(client, "PATCH", url, piece, Upload_Offset=str(offset))
            if sent.status_code == 409:
                found = ask(client, "HEAD", url)
                offset = int(found.headers["Upload-Offset"])
                continue
            assert sent.status_code == 204, (sent.status_code, sent.text)
            offset = int(sent.headers["Upload-Offset"])
            met.add(sent.headers.get("X-Worker", ""))
    return upload_id, content, met - {""}


def send_many(endpoints: list[str]) -> tuple[dict[str, bytes], set[str]]:
    with ThreadPoolExecutor(THREADS) as threads:
        done = list(threads.map(lambda number: send_one(endpoints, number), range(UPLOADS)))
    met: set[str] = set().union(*(workers for _, _, workers in done))
    sent = {upload_id: content for upload_id, content, _ in done}
    assert len(sent) == UPLOADS
    return sent, met


def check_all(endpoint: str, sent: dict[str, bytes]) -> None:
    with httpx.Client(verify=NO_TLS) as client:
        for upload_id, content in sent.items():
            got = client.get(endpoint + upload_id)
            assert got.status_code == 200
            assert hashlib.sha256(got.content).digest() == hashlib.sha256(content).digest()


def check_state(upload_dir: Path) -> None:
    with sqlite3.connect(upload_dir / "state/tusd-py.sqlite3") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        phases = connection.execute("SELECT DISTINCT phase FROM uploads").fetchall()
    connection.close()
    assert phases == [("complete",)]


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "tusd_py", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def hanging_patch(url: str, offset: int, content: bytes, length: int) -> socket.socket:
    """A client that has sent the head of a `PATCH` and some of its bytes, and goes on waiting."""
    parsed = httpx.URL(url)
    connection = socket.create_connection((parsed.host, parsed.port or 80), timeout=20)
    connection.sendall(
        f"PATCH {parsed.path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n"
        f"Content-Type: application/offset+octet-stream\r\nUpload-Offset: {offset}\r\n"
        f"Content-Length: {length}\r\n\r\n".encode()
        + content
    )
    return connection


def stored(upload_dir: Path, url: str) -> int:
    """Bytes that lie on the disk."""
    found = upload_dir.glob(f"data/*/{url.rpartition('/')[2]}")
    return sum(path.stat().st_size for path in found)


def is_stored(upload_dir: Path, url: str, size: int) -> bool:
    """Whether so many bytes lie there."""
    return stored(upload_dir, url) == size


def test_workers_of_one_server_share_a_directory(tmp_path: Path) -> None:
    """`uvicorn --workers 4`: whichever worker a connection meets, nothing is lost or mixed up."""
    uploads = tmp_path / "uploads"
    with uvicorned(uploads, "--workers", "4") as base:
        sent, met = send_many([f"{base}/api/files/"])
        assert len(met) > 1, "all connections met one worker: nothing was tested"
        check_all(f"{base}/api/files/", sent)
    check_state(uploads)


def test_two_servers_share_a_directory(tmp_path: Path) -> None:
    uploads = tmp_path / "uploads"
    with serving(uploads) as one, serving(uploads) as other:
        sent, _ = send_many([one.url, other.url])
        check_all(other.url, sent)
    check_state(uploads)


def test_two_servers_that_start_at_once_on_a_new_directory(tmp_path: Path) -> None:
    """An orchestrator does this; they must agree on who they are."""
    uploads = tmp_path / "uploads"
    servers = [Served(upload_dir=uploads) for _ in range(3)]
    try:
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(Served.start, servers))
        with httpx.Client(verify=NO_TLS) as client:
            for server in servers:
                assert ask(client, "POST", server.url, Upload_Length="1").status_code == 201
    finally:
        for server in servers:
            if server.process is not None:
                server.stop()


def answer_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    answer = b""
    while data := connection.recv(65_536):
        answer += data
    return answer


def test_a_request_takes_over_from_another_process(tmp_path: Path) -> None:
    """The client that hangs is dead as a rule, and the one that asks is the same user's."""
    uploads = tmp_path / "uploads"
    with serving(uploads) as one, serving(uploads) as other, httpx.Client(verify=NO_TLS) as client:
        for method, status in (("HEAD", 200), ("PATCH", 204), ("DELETE", 204)):
            url = ask(client, "POST", one.url, Upload_Length="10").headers["Location"]
            there = other.url + url.rpartition("/")[2]
            with hanging_patch(url, 0, b"01234", 10) as connection:
                eventually("the bytes never came", partial(is_stored, uploads, url, 5))
                content = b"56789" if method == "PATCH" else b""
                headers = TUS | (BYTES | {"Upload-Offset": "5"} if content else {})
                taken = client.request(method, there, headers=headers, content=content)
                assert taken.status_code == status, method
                answer = answer_of(connection)
            assert answer.startswith(b"HTTP/1.1 423 ")
            assert b"ERR_UPLOAD_INTERRUPTED" in answer
            if method == "DELETE":
                assert client.head(url, headers=TUS).status_code == 410
            elif method == "HEAD":
                assert taken.headers["Upload-Offset"] == "5"
            else:
                assert client.get(url).content == b"0123456789"


def test_a_doomed_request_disturbs_no_other_process(tmp_path: Path) -> None:
    uploads = tmp_path / "uploads"
    with serving(uploads) as one, serving(uploads) as other, httpx.Client(verify=NO_TLS) as client:
        url = ask(client, "POST", one.url, b"01", Upload_Length="10").headers["Location"]
        there = other.url + url.rpartition("/")[2]
        with hanging_patch(url, 2, b"234", 8) as connection:
            eventually("the bytes never came", lambda: stored(uploads, url) == 5)
            refused = client.patch(
                there, headers=TUS | BYTES | {"Upload-Offset": "1"}, content=b"x"
            )
            assert refused.status_code == 409
            connection.sendall(b"56789")
            assert connection.recv(100).startswith(b"HTTP/1.1 204")
        assert client.get(there).content == b"0123456789"


def test_a_stopped_process_keeps_what_it_holds(tmp_path: Path) -> None:
    """Nobody knows what it does when it goes on: taking over would mix two clients' bytes."""
    uploads = tmp_path / "uploads"
    patient = ("--acquire-lock-timeout", "500ms")
    with (
        serving(uploads) as one,
        serving(uploads, *patient) as other,
        httpx.Client(verify=NO_TLS) as client,
    ):
        url = ask(client, "POST", one.url, Upload_Length="10").headers["Location"]
        there = other.url + url.rpartition("/")[2]
        with hanging_patch(url, 0, b"01234", 10) as connection:
            eventually("the bytes never came", lambda: stored(uploads, url) == 5)
            os.kill(one.pid, signal.SIGSTOP)
            for method, headers in (
                ("HEAD", {}),
                ("DELETE", {}),
                ("PATCH", BYTES | {"Upload-Offset": "5"}),
            ):
                busy = client.request(method, there, headers=TUS | headers)
                assert busy.status_code == 423, method
                assert "Upload-Offset" not in busy.headers
            os.kill(one.pid, signal.SIGCONT)
            # It was asked to stop while it could not.
            assert b"ERR_UPLOAD_INTERRUPTED" in answer_of(connection)
        assert ask(client, "PATCH", there, b"56789", Upload_Offset="5").status_code == 204
        assert client.get(there).content == b"0123456789"


def test_a_killed_process_frees_what_it_held(tmp_path: Path) -> None:
    uploads = tmp_path / "uploads"
    with serving(uploads) as one, serving(uploads) as other, httpx.Client(verify=NO_TLS) as client:
        url = ask(client, "POST", one.url, Upload_Length="10").headers["Location"]
        there = other.url + url.rpartition("/")[2]
        with hanging_patch(url, 0, b"01234", 10):
            eventually("the bytes never came", lambda: stored(uploads, url) == 5)
            one.kill()
        found = client.head(there, headers=TUS)
        assert (found.status_code, found.headers["Upload-Offset"]) == (200, "5")
        assert ask(client, "PATCH", there, b"56789", Upload_Offset="5").status_code == 204
        assert client.get(there).content == b"0123456789"


def test_cleanup_beside_a_server_spares_what_lives(tmp_path: Path) -> None:
    """Its time has run out on paper, but its bytes are coming in right now."""
    uploads = tmp_path / "uploads"
    with serving(uploads, "--expire-after", "1s") as server, httpx.Client(verify=NO_TLS) as client:
        dead = ask(client, "POST", server.url, Upload_Length="10").headers["Location"]
        ask(client, "PATCH", dead, b"01234", Upload_Offset="0")
        done = ask(client, "POST", server.url, b"all", Upload_Length="3").headers["Location"]
        live = ask(client, "POST", server.url, Upload_Length="10").headers["Location"]
        with hanging_patch(live, 0, b"01234", 10) as connection:
            eventually("the bytes never came", lambda: stored(uploads, live) == 5)
            time.sleep(1.1)
            cleaned = command("cleanup", "--upload-dir", uploads)
            assert cleaned.returncode == 0, cleaned.stderr
            assert f"remove {dead.rpartition('/')[2]}: expired" in cleaned.stdout
            assert "1 expired, 0 stray, 0 forgotten, 1 busy" in cleaned.stdout
            connection.sendall(b"56789")
            assert connection.recv(100).startswith(b"HTTP/1.1 204")
        assert client.get(live).content == b"0123456789"
        assert client.get(done).content == b"all"
        assert client.head(dead, headers=TUS).status_code == 410
        assert not list(uploads.glob(f"data/*/{dead.rpartition('/')[2]}"))


def test_a_backup_beside_a_server_that_takes_uploads(tmp_path: Path) -> None:
    """The copy is served, and a client goes on there where it was told that it stands."""
    uploads, copy = tmp_path / "uploads", tmp_path / "copy"
    content = os.urandom(400_000)
    with serving(uploads) as server, httpx.Client(verify=NO_TLS) as client:
        url = ask(client, "POST", server.url, Upload_Length="400000").headers["Location"]
        ask(client, "PATCH", url, content[:100_000], Upload_Offset="0")
        done = ask(client, "POST", server.url, b"all", Upload_Length="3").headers["Location"]
        with (
            hanging_patch(url, 100_000, content[100_000:150_000], 300_000),
            ThreadPoolExecutor(1) as threads,
        ):
            busy = threads.submit(lambda: send_many([server.url]))
            backed_up = command("backup", "--upload-dir", uploads, copy)
            assert backed_up.returncode == 0, backed_up.stderr
            assert backed_up.stdout.startswith("copied ")
            busy.result()
    with serving(copy) as second, httpx.Client(verify=NO_TLS) as client:
        there = second.url + url.rpartition("/")[2]
        offset = int(client.head(there, headers=TUS).headers["Upload-Offset"])
        assert 100_000 <= offset <= 150_000
        rest = ask(client, "PATCH", there, content[offset:], Upload_Offset=str(offset))
        assert rest.status_code == 204
        assert client.get(there).content == content
        assert client.get(second.url + done.rpartition("/")[2]).content == b"all"
