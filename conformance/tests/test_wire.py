"""The wire mends nothing: what is sent is what was written, what came is what is seen."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tus_conformance.verdict import Hangup, Silence, Violation
from tus_conformance.wire import Url, Wire, chunk, compose, describe, last_chunk


@contextmanager
def answering(script: Callable[[socket.socket], None], family: str = "127.0.0.1") -> Iterator[Url]:
    """A server that does this with its first connection."""
    kind = socket.AF_INET6 if ":" in family else socket.AF_INET
    listener = socket.create_server((family, 0), family=kind)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            script(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    host = f"[{family}]" if ":" in family else family
    yield Url.parse(f"http://{host}:{port}/files")
    listener.close()


def wire(url: Url, timeout: float = 2.0) -> Wire:
    return Wire(url, timeout=timeout, deadline=time.monotonic() + 5)


def says(data: bytes) -> Callable[[socket.socket], None]:
    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    return script


def test_requests_go_out_as_they_were_written() -> None:
    came = []

    def script(connection: socket.socket) -> None:
        came.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with answering(script) as url:
        line = wire(url)
        line.send(compose("pAtCh", url, [("hOsT", "a"), ("Host", "b"), ("X-Y ", "")]))
        line.read("PATCH")
        line.close()
    assert came == [b"pAtCh /files HTTP/1.1\r\nhOsT: a\r\nHost: b\r\nX-Y : \r\n\r\n"]


def test_case_and_duplicates_and_interim_answers_are_seen() -> None:
    data = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Fine\r\nUPLOAD-offset: 5\r\n"
        b"Upload-Offset: 6\r\nContent-Length: 2\r\n\r\nok"
    )
    with answering(says(data)) as url:
        line = wire(url)
        line.send(b"x")
        answer = line.read("PATCH")
        line.close()
    assert answer.fields[:2] == (("UPLOAD-offset", "5"), ("Upload-Offset", "6"))
    assert answer.all("upload-offset") == ["5", "6"]
    assert answer.get("upload-offset") == "5, 6"
    assert (answer.status, answer.reason, answer.body) == (200, "Fine", b"ok")
    assert answer.interim == (100,)
    assert answer.get("absent") is None


def test_an_interim_answer_is_given_before_the_final_one() -> None:
    with answering(
        says(b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 409 No\r\nContent-Length: 0\r\n\r\n")
    ) as url:
        line = wire(url)
        line.send(b"x")
        assert line.read_interim("PATCH") is None
        assert line.read("PATCH").status == 409
        line.close()


def test_answers_to_pipelined_requests_are_read_one_after_the_other() -> None:
    data = b"".join(b"HTTP/1.1 20%d X\r\nContent-Length: 7\r\n\r\n" % i for i in (0, 1))
    with answering(says(data)) as url:
        line = wire(url)
        line.send(b"x")
        assert [line.read("HEAD").status, line.read("HEAD").status] == [200, 201]
        assert line.drain(1.0) == b""
        line.close()


def test_content_after_an_answer_to_head_is_kept_for_the_case_to_see() -> None:
    with answering(says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\noops")) as url:
        line = wire(url)
        line.send(b"x")
        line.read("HEAD")
        assert line.drain(1.0) == b"oops"
        line.close()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", Hangup),
        (b"HTTP/1.1 200 OK\r\nContent-Le", Hangup),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", Hangup),
        (b"HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 0\r\n\r\n", Violation),
        (b"ICY 200 OK\r\n\r\n", Violation),
    ],
)
def test_what_is_no_answer_is_the_servers_fault(data: bytes, error: type[Violation]) -> None:
    with answering(says(data)) as url:
        line = wire(url)
        line.send(b"x")
        with pytest.raises(error):
            line.read("GET")
        line.close()


def test_a_server_that_says_nothing_is_silent_not_an_error() -> None:
    with answering(lambda connection: time.sleep(1.0)) as url:
        line = wire(url, timeout=0.1)
        line.send(b"x")
        with pytest.raises(Silence):
            line.read("GET")
        assert not line.ended(0.05)
        line.close()


def test_a_server_that_closes_has_ended() -> None:
    with answering(says(b"")) as url:
        line = wire(url)
        line.send(b"x")
        assert line.ended()
        line.close()


def test_sending_stops_when_the_answer_is_there() -> None:
    def script(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 409 No\r\nContent-Length: 0\r\n\r\n")
        time.sleep(0.3)

    with answering(script) as url:
        line = wire(url)
        assert line.send(bytes(8 * 1024 * 1024)) is False
        assert line.read("PATCH").status == 409
        line.close()


def test_nobody_listening_is_a_violation() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(Violation, match="connection"):
        wire(Url.parse(f"http://127.0.0.1:{port}/"))


def test_ipv6_is_spoken() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with answering(says(b"HTTP/1.1 204 X\r\n\r\n"), "::1") as url:
        line = wire(url)
        line.send(compose("HEAD", url, [("Host", url.authority)]))
        assert line.read("HEAD").status == 204
        line.close()


@pytest.mark.parametrize(
    ("text", "authority", "target"),
    [
        ("http://a.example/files", "a.example", "/files"),
        ("https://a.example:443/", "a.example", "/"),
        ("http://a.example:8080", "a.example:8080", "/"),
        ("http://[::1]:80/f?x=1#y", "[::1]", "/f?x=1"),
    ],
)
def test_urls(text: str, authority: str, target: str) -> None:
    url = Url.parse(text)
    assert (url.authority, url.target) == (authority, target)


@pytest.mark.parametrize("text", ["", "files", "ftp://a/", "http://", "http:///x"])
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(ValueError, match="absolute"):
        Url.parse(text)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://b.example/u/1", "http://b.example/u/1"),
        ("/u/1", "http://a.example:1080/u/1"),
        ("1", "http://a.example:1080/files/1"),
        ("//c.example/u", "http://c.example/u"),
        ("1?sig=a/b", "http://a.example:1080/files/1?sig=a/b"),
    ],
)
def test_locations_are_resolved(location: str, expected: str) -> None:
    assert str(Url.parse("http://a.example:1080/files/").resolve(location)) == expected


def test_chunks() -> None:
    body = chunk(b"x" * 26, ";a") + last_chunk([("A", "b")])
    assert body == b"1A;a\r\n" + b"x" * 26 + b"\r\n0\r\nA: b\r\n\r\n"


def test_the_log_shows_heads_and_sizes() -> None:
    assert describe(b"GET / HTTP/1.1\r\nA: b\r\n\r\nxyz") == "> GET / HTTP/1.1\n> A: b\n> [3 bytes]"
    assert describe(b"xyz") == "> [3 bytes]"
