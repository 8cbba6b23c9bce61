"""Behind nginx, haproxy and Caddy as `tusd_py/docs` has them: servers restarted in turn."""

import contextlib
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from websockets.sync.client import connect

from tests.asgi import raw
from tests.interop import plain_http
from tests.interop.conftest import MIB, watched
from tests.interop.programs import started
from tests.interop.proxies import PROXIES, proxy_before
from tests.interop.proxy import CuttingProxy
from tests.interop.test_tus_js import Client, reported
from tests.interop.toolchains import NODE, built
from tests.serving import Served, eventually

pytestmark = pytest.mark.timeout(400)  # as in test_tus_js


@pytest.fixture(params=[4, 5], ids=["v4", "v5"])
def client(request: pytest.FixtureRequest) -> Client:
    return Client(folder=built(NODE), version=request.param)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    """Two on one directory."""
    uploads = tmp_path_factory.mktemp("servers") / "uploads"
    with watched(uploads, "--behind-proxy") as one, watched(uploads, "--behind-proxy") as other:
        yield one, other


@pytest.fixture(scope="module", params=PROXIES)
def proxy_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def endpoint(
    proxy_name: str, servers: tuple[Served, Served], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL that clients are given."""
    ports = [server.port for server in servers]
    with proxy_before(proxy_name, ports, tmp_path_factory.mktemp(proxy_name)) as url:
        yield url


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def stored(servers: tuple[Served, Served]) -> set[Path]:
    """Files of all uploads."""
    return set(servers[0].upload_dir.glob("data/*/*"))


def size_of(server: Served, url: str) -> int:
    """Bytes of an upload that are stored."""
    found = server.upload_dir.glob(f"data/*/{url.rpartition('/')[2]}")
    return sum(path.stat().st_size for path in found)


def test_servers_restarted_in_turn_are_not_noticed(
    servers: tuple[Served, Served], endpoint: str, client: Client, make_file: Callable[[int], Path]
) -> None:
    """An update at noon: no upload fails, none begins anew, and no byte is wrong."""
    file = make_file(12 * MIB + 3)
    before = stored(servers)
    with CuttingProxy(port_of(endpoint)) as proxy:
        proxy.hold_after(6 * MIB)
        with started(client.command(proxy.url(endpoint), file, {})) as program:
            # It is with one of the two now, and hangs in the middle of its body.
            eventually("the upload hangs", proxy.held.is_set, within=30)
            eventually(
                "what has passed is stored",
                lambda: any(path.stat().st_size > 5 * MIB for path in stored(servers) - before),
            )
            for server in servers:
                assert server.stop() == 0
                server.start()
            proxy.release()
            ended = reported(program.end())
        assert plain_http.download(ended.url) == file.read_bytes()
    assert ended.outcome == "success"
    assert ended.methods().count("POST") == 1, "the upload began anew"
    told = [int(each.offset) for each in ended.requests if each.method == "HEAD" and each.offset]
    assert told, "neither server was at work on it"
    assert told == sorted(told)
    assert told[0] > 5 * MIB, "bytes that were there are sent again"


def test_while_one_is_down_the_other_answers(servers: tuple[Served, Served], endpoint: str) -> None:
    """Whichever it is, also right after the other was: no client sees a 502."""
    for server in servers:
        assert server.stop() == 0
        for _ in range(4):
            plain_http.offset(plain_http.create(endpoint, 5))
        server.start()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_bytes_count_as_they_come(
    servers: tuple[Served, Served], endpoint: str, framing: str
) -> None:
    """Otherwise: a client that breaks off behind it has nothing to resume."""
    port = port_of(endpoint)
    path = raw.create(port, 2 * MIB)
    with raw.connected(port) as patching:
        if framing == "length":
            patching.patch(path, 0, 2 * MIB)
            patching.send(b"1" * MIB)
        else:
            head = {"Upload-Offset": "0", "Transfer-Encoding": "chunked"}
            patching.start("PATCH", path, raw.PATCH_HEAD | head)
            patching.send(b"%x\r\n%b\r\n" % (MIB, b"1" * MIB))
        eventually("it is stored", lambda: size_of(servers[0], path) == MIB)
    eventually("the server sees the end", lambda: raw.head(port, path).status == 200)
    assert raw.offset_of(port, path) == MIB


FORGED = {
    "Forwarded": "host=forged.test;proto=https",
    "X-Forwarded-Host": "forged.test",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "666",
    "X-Forwarded-Prefix": "/forged",
}


@pytest.mark.parametrize("host", ["uploads.example.com:8443", "uploads.example.com"])
@pytest.mark.parametrize("forged", [{}, FORGED], ids=["honest", "forged"])
def test_urls_are_those_that_the_client_sees(
    servers: tuple[Served, Served], endpoint: str, host: str, forged: dict[str, str]
) -> None:
    """Whatever the client says that a proxy has said."""
    headers = {**plain_http.TUS, "Upload-Length": "5", "Host": host}
    created = plain_http.asked("POST", endpoint, headers | forged)
    assert created.headers["Location"].startswith(f"http://{host}/files/")


def test_events_come_through(servers: tuple[Served, Served], endpoint: str) -> None:
    """As a stream, and by a WebSocket, which takes commands as well."""
    url = plain_http.create(endpoint, 5)
    at = urlsplit(url)
    with (
        httpx.stream("GET", url + "/events", timeout=30) as stream,
        connect(f"ws://{at.netloc}{at.path}/events", proxy=None, open_timeout=30) as socket,
    ):
        lines = stream.iter_lines()
        assert "event: ready" in (next(lines) for _ in range(5))
        assert json.loads(socket.recv(30))["event"] == "ready"
        # Each comes while the stream goes on, however short it is.
        for command, event in (("pause", "paused"), ("resume", "resumed")):
            socket.send(json.dumps({"command": command}))
            assert {json.loads(socket.recv(30))["event"] for _ in range(2)} == {event, "done"}
            assert f"event: {event}" in lines
        socket.send('{"command": "terminate"}')
        told = {json.loads(socket.recv(30))["event"] for _ in range(2)}
        assert told == {"terminated", "done"}
        assert "event: terminated" in lines


def test_a_refusal_comes_through(servers: tuple[Served, Served], endpoint: str) -> None:
    """A 409 is what a client resumes after; it must not become a 502."""
    url = plain_http.create(endpoint, 9 * MIB)
    answer = plain_http.append(url, 5, bytes(8 * MIB))
    assert (answer.status_code, answer.text.partition(":")[0]) == (409, "ERR_MISMATCHED_OFFSET")


def test_a_body_is_sent_to_one_server_only(servers: tuple[Served, Served], endpoint: str) -> None:
    """Sent again to another, it would meet an offset that it has moved itself."""
    url = plain_http.create(endpoint, 2 * MIB)
    with raw.connected(port_of(endpoint)) as patching:
        patching.patch(urlsplit(url).path, 0, 2 * MIB)
        patching.send(b"1" * MIB)
        eventually("it is stored", lambda: size_of(servers[0], url) == MIB)
        for server in servers:
            server.kill()
            server.start()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            patching.send(b"1" * MIB)  # it may have answered and hung up already
        assert patching.answer().status == 502
    assert plain_http.offset(url) == MIB


def test_downloads_come_in_ranges(endpoint: str) -> None:
    """A film is looked at from its middle, and a broken download goes on."""
    content = random.Random(7).randbytes(3 * MIB)
    url = plain_http.create(endpoint, len(content))
    assert plain_http.append(url, 0, content).status_code == 204
    part = plain_http.asked("GET", url, {"Range": f"bytes={MIB}-{2 * MIB - 1}"})
    assert part.status_code == 206
    assert part.headers["Content-Range"] == f"bytes {MIB}-{2 * MIB - 1}/{len(content)}"
    assert part.content == content[MIB : 2 * MIB]
    assert plain_http.download(url) == content


def test_what_is_no_upload_is_not_shown(endpoint: str) -> None:
    """The numbers and the list of all uploads are for those inside."""
    for path in ("metrics", "readyz", "events", "api/uploads"):
        shown = plain_http.asked("GET", endpoint.replace("files/", path))
        assert shown.status_code == 404, path


def test_a_head_that_a_server_took_with_it_is_asked_of_the_other(
    servers: tuple[Served, Served], endpoint: str
) -> None:
    """tus-js-client begins anew after a HEAD that is answered with 502."""
    path, port = urlsplit(plain_http.create(endpoint, 5)).path, port_of(endpoint)
    one, other = servers
    for server in servers:
        os.kill(server.pid, signal.SIGSTOP)
    try:
        with contextlib.ExitStack() as stack:
            asking = [stack.enter_context(raw.connected(port)) for _ in range(4)]
            for each in asking:
                each.start("HEAD", path, plain_http.TUS)
            eventually("they are with the servers", lambda: established(servers) >= len(asking))
            one.kill()
            one.start()
            os.kill(other.pid, signal.SIGCONT)
            assert [each.answer("HEAD").status for each in asking] == [200] * 4
    finally:
        os.kill(other.pid, signal.SIGCONT)


def established(servers: tuple[Served, Served]) -> int:
    """Connections that somebody has to servers."""
    ports = {server.port for server in servers}
    return sum(
        each.raddr.port in ports and each.status == psutil.CONN_ESTABLISHED
        for each in psutil.net_connections("tcp4")
        if each.raddr
    )


def test_a_checksum_in_a_trailer(proxy_name: str, endpoint: str) -> None:
    """As the README says: two drop it. The chunk is refused there, and nothing counts."""
    is_dropped = proxy_name in {"nginx", "caddy"}
    port = port_of(endpoint)
    path = raw.create(port, 5)
    head = {"Upload-Offset": "0", "Transfer-Encoding": "chunked", "Trailer": "Upload-Checksum"}
    with raw.connected(port) as patching:
        patching.start("PATCH", path, raw.PATCH_HEAD | head)
        checksum = b"Upload-Checksum: sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00="
        patching.send(b"5\r\nhello\r\n0\r\n" + checksum + b"\r\n\r\n")
        assert patching.answer().status == (400 if is_dropped else 204)
    assert raw.offset_of(port, path) == (0 if is_dropped else 5)
