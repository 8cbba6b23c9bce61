"""Several processes on one directory: workers, two servers, and the tools beside them."""

import contextlib
import hashlib
import os
import random
import re
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
import psutil

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
    """Its time has run out on paper, as its server was stopped; but it holds the upload."""
    uploads = tmp_path / "uploads"
    with serving(uploads, "--expire-after", "1s") as server, httpx.Client(verify=NO_TLS) as client:
        dead = ask(client, "POST", server.url, Upload_Length="10").headers["Location"]
        ask(client, "PATCH", dead, b"01234", Upload_Offset="0")
        done = ask(client, "POST", server.url, b"all", Upload_Length="3").headers["Location"]
        live = ask(client, "POST", server.url, Upload_Length="10").headers["Location"]
        with hanging_patch(live, 0, b"01234", 10) as connection:
            eventually("the bytes never came", lambda: stored(uploads, live) == 5)
            os.kill(server.pid, signal.SIGSTOP)  # or it would push the expiry
            try:
                time.sleep(1.1)
                cleaned = command("cleanup", "--upload-dir", uploads)
            finally:
                os.kill(server.pid, signal.SIGCONT)
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


def workers_of(parent: int) -> set[int]:
    """The workers that live, without those that wait to be reaped."""
    workers = set()
    for child in psutil.Process(parent).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                workers.add(child.pid)
    return workers


def is_gone(parent: int, worker: int) -> bool:
    return worker not in workers_of(parent)


def worker_of(server: Served, connection: socket.socket) -> int | None:
    """The worker that has accepted a connection, None if none has yet."""
    ours = connection.getsockname()
    for pid in workers_of(server.pid):
        with contextlib.suppress(psutil.NoSuchProcess):  # it was killed just now
            for found in psutil.Process(pid).net_connections("tcp"):
                if found.raddr and tuple(found.raddr) == ours:
                    return pid
    return None


def accepted(server: Served, connection: socket.socket) -> int:
    """The worker that a connection came to."""
    eventually("nobody accepted", lambda: worker_of(server, connection) is not None)
    worker = worker_of(server, connection)
    assert worker is not None
    return worker


def via_another(server: Served, worker: int, request: bytes) -> bytes:
    """The answer of any other worker than one; what comes to that one by chance is dropped."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            if accepted(server, connection) != worker:
                connection.sendall(request)
                return answer_of(connection)
    raise AssertionError("no connection came to another worker")


def head_of(url: str) -> bytes:
    return (
        f"HEAD {httpx.URL(url).path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n"
        "Connection: close\r\n\r\n"
    ).encode()


def test_workers_of_serve_hand_over_and_share_a_directory(tmp_path: Path) -> None:
    uploads = tmp_path / "uploads"
    with serving(uploads, "--workers", "4") as server, httpx.Client(verify=NO_TLS) as client:
        stats = httpx.URL(server.url).join("/api/stats")
        eventually("not all answer", lambda: client.get(stats).json()["workers"] == 4)
        sent, _ = send_many([server.url])
        check_all(server.url, sent)
        url = ask(client, "POST", server.url, Upload_Length="10").headers["Location"]
        with hanging_patch(url, 0, b"01234", 10) as connection:
            eventually("the bytes never came", partial(is_stored, uploads, url, 5))
            answer = via_another(server, accepted(server, connection), head_of(url))
            assert b"ERR_UPLOAD_INTERRUPTED" in answer_of(connection)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Upload-Offset: 5\r\n" in answer
        assert ask(client, "PATCH", url, b"56789", Upload_Offset="5").status_code == 204
        assert client.get(url).content == b"0123456789"
        assert server.process is not None
        assert server.process.stdout is not None
        announced = server.process.stdout
        server.process.send_signal(signal.SIGTERM)
        assert "takes uploads at" not in announced.read(), "the URL was announced again"
        assert server.stop() == 0
    check_state(uploads)
    log = server.log.read_text()
    assert "Traceback" not in log
    requests = re.findall(r" request_id=(\w+)", log)
    assert len(requests) > 3 * UPLOADS
    assert len({request[:16] for request in requests}) > 1, "all came to one worker"
    assert len(requests) == len(set(requests)), "two requests have the same id"


def test_events_over_the_wire_and_two_workers(tmp_path: Path) -> None:
    """Whichever worker has the stream, and whichever the bytes; and no end waits for a stream."""
    flags = ("--workers", "2", "--shutdown-timeout", "60s")
    with serving(tmp_path / "uploads", *flags) as server, httpx.Client(verify=NO_TLS) as client:
        url = ask(client, "POST", server.url, Upload_Length="6").headers["Location"]
        with client.stream("GET", url + "/events") as stream:
            lines = stream.iter_lines()
            assert "event: ready" in lines
            for offset in (0, 3):
                with httpx.Client(verify=NO_TLS) as sender:
                    sent = ask(sender, "PATCH", url, b"123", Upload_Offset=str(offset))
                    assert sent.status_code == 204
            assert "event: finished" in lines
            assert [line for line in lines if line.startswith("event: ")] == []
        with client.stream("GET", httpx.URL(server.url).join("/events")) as stream:
            lines = stream.iter_lines()
            assert "event: ready" in lines
            assert server.stop() == 0
            assert [line for line in lines if line.startswith("event: ")] == []


def test_a_worker_that_is_killed_or_hangs_is_replaced(tmp_path: Path) -> None:
    """Its uploads go on in another worker where they stand."""
    uploads = tmp_path / "uploads"
    flags = ("--workers", "3", "--worker-timeout", "2s")
    with serving(uploads, *flags) as server, httpx.Client(verify=NO_TLS) as client:
        for number in (signal.SIGKILL, signal.SIGSTOP):
            eventually("there are not three", lambda: len(workers_of(server.pid)) == 3)
            url = ask(client, "POST", server.url, Upload_Length="10").headers["Location"]
            with hanging_patch(url, 0, b"01234", 10) as connection:
                eventually("the bytes never came", partial(is_stored, uploads, url, 5))
                worker = accepted(server, connection)
                os.kill(worker, number)
                found = via_another(server, worker, head_of(url))
            # It waited for the lock until the worker was dead.
            assert found.startswith(b"HTTP/1.1 200 ")
            assert b"Upload-Offset: 5\r\n" in found
            assert worker not in workers_of(server.pid)
            assert ask(client, "PATCH", url, b"56789", Upload_Offset="5").status_code == 204
            assert client.get(url).content == b"0123456789"
            log = server.log.read_text()
            assert f"worker {worker} was killed by SIGKILL; another one takes its place" in log
        assert f"worker {worker} has not answered for 2.0 s, and is killed" in log
        eventually("it was not replaced", lambda: len(workers_of(server.pid)) == 3)
        assert server.stop() == 0


def test_a_parent_that_ends_loses_nothing(tmp_path: Path) -> None:
    """SIGTERM with uploads under way, and a worker that is stopped just then."""
    uploads = tmp_path / "uploads"
    flags = ("--workers", "3", "--shutdown-timeout", "3s")
    content = os.urandom(100_000)
    with serving(uploads, *flags) as server, httpx.Client(verify=NO_TLS) as client:
        urls = [
            ask(client, "POST", server.url, Upload_Length="200000").headers["Location"]
            for _ in range(12)
        ]
        connections = [hanging_patch(url, 0, content, 200_000) for url in urls]
        for url in urls:
            eventually("the bytes never came", partial(is_stored, uploads, url, len(content)))
        stopped = accepted(server, connections[0])
        others = [one for one in connections if accepted(server, one) != stopped]
        os.kill(stopped, signal.SIGSTOP)
        for worker in workers_of(server.pid) - {stopped}:
            os.kill(worker, signal.SIGTERM)  # as systemd does, to all at once
        assert server.stop() == 0
        for connection in others:
            assert b"ERR_SERVER_SHUTDOWN" in answer_of(connection)
        for connection in connections:
            connection.close()
        assert f"worker {stopped} has not ended in time: killed" in server.log.read_text()
        server.start()
        for url in urls:
            assert ask(client, "HEAD", url).headers["Upload-Offset"] == "100000"
            rest = ask(client, "PATCH", url, content[::-1], Upload_Offset="100000")
            assert rest.status_code == 204
            assert client.get(url).content == content + content[::-1]


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """Otherwise the address stays taken, and nobody sees to them any more."""
    uploads = tmp_path / "uploads"
    with serving(uploads, "--workers", "2") as server:
        workers = [psutil.Process(pid) for pid in workers_of(server.pid)]
        server.kill()
        _, alive = psutil.wait_procs(workers, timeout=15)
        assert not alive
        server.start()


def test_a_worker_that_cannot_start_ends_everything_in_one_line(tmp_path: Path) -> None:
    """As with one worker: what an operator can mend is said once, and not tried for ever."""
    uploads = tmp_path / "uploads"
    many = ("--workers", "3", "--upload-dir", uploads)
    with serving(uploads, "--workers", "3") as server:
        taken = command("serve", *many, "--port", str(server.port))
        assert (taken.returncode, taken.stdout) == (1, "")
        assert re.fullmatch(r"Error: cannot listen on .*; choose another one\n", taken.stderr)
        with sqlite3.connect(uploads / "state/tusd-py.sqlite3") as connection:
            connection.execute("PRAGMA user_version=99")
        connection.close()
        for pid in workers_of(server.pid):
            os.kill(pid, signal.SIGKILL)
        assert server.process is not None
        process, server.process = server.process, None
        assert process.wait(20) == 1
        assert process.stdout is not None
        process.stdout.close()
        log = server.log.read_text()
    last = log.splitlines()[-1]
    assert last.startswith("Error: ")
    assert "Traceback" not in log
    alone = command("serve", "--port", "0", "--upload-dir", uploads)
    failed = command("serve", *many, "--port", "0")
    for ended in (alone, failed):
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.splitlines()[-1] == last


def test_workers_on_a_unix_socket(tmp_path: Path) -> None:
    """They may end one after another, and at last all of them, by Ctrl-C in a terminal."""
    path = tmp_path / "socket"
    words = [sys.executable, "-m", "tusd_py", "serve", "--workers", "2", "--unix-sock", str(path)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*words, "--upload-dir", str(tmp_path / "uploads")], stdout=subprocess.PIPE, stderr=log
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"tusd-py takes uploads at http://localhost/files/\n"
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://localhost") as client:
            for worker in workers_of(process.pid):
                os.kill(worker, signal.SIGTERM)
                eventually("it goes on", partial(is_gone, process.pid, worker))
                answer = client.post("/files/", headers=TUS | {"Upload-Length": "1"})
                assert answer.status_code == 201
        eventually("they are not replaced", lambda: len(workers_of(process.pid)) == 2)
        for pid in (*workers_of(process.pid), process.pid):
            os.kill(pid, signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout.read() == b""
        assert not path.exists()
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.communicate()


def test_of_four_workers_one_sweeps(tmp_path: Path) -> None:
    uploads = tmp_path / "uploads"
    with serving(uploads) as server, httpx.Client(verify=NO_TLS) as client:
        for _ in range(200):
            assert client.post(server.url, headers=TUS | {"Upload-Length": "5"}).status_code == 201
    with sqlite3.connect(uploads / "state/tusd-py.sqlite3") as connection:
        connection.execute("UPDATE uploads SET expires_at = 1.0")
    connection.close()
    with serving(uploads, "--workers", "4", "--log-level", "debug") as server:

        def swept() -> list[int]:
            found = re.findall(r"swept (\d+) expired uploads", server.log.read_text())
            return [int(count) for count in found]

        eventually("nobody swept", swept)
        eventually(
            "they did not take turns", lambda: "another process sweeps" in server.log.read_text()
        )
        assert sum(swept()) == 200
