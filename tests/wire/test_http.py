"""A head or a trailer without an end costs no memory, and what is allowed still works."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving import Served, eventually, serving
from tusd_py.wire.limits import MAX_HEAD

OPTIONS = b"OPTIONS /files/ HTTP/1.1\r\nHost: x\r\n"
CREATE = b"POST /files/ HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n"
TYPE = b"Content-Type: application/offset+octet-stream\r\n"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("wire") / "uploads") as served:
        yield served


@contextmanager
def connected(server: Served) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    came = b""
    while piece := connection.recv(65_536):
        came += piece
    return came


def answer(connection: socket.socket) -> bytes:
    """One response without a body, or with one of a known length."""
    came = b""
    while b"\r\n\r\n" not in came:
        piece = connection.recv(1)
        assert piece, f"closed after {came!r}"
        came += piece
    length = re.search(rb"content-length: (\d+)", came.lower())
    while length and len(came.partition(b"\r\n\r\n")[2]) < int(length[1]):
        came += connection.recv(65_536)
    return came


def send_until_closed(connection: socket.socket, piece: bytes, most: int) -> int:
    """How many bytes the server's side took before it closed; `most` if it never did."""
    sent = 0
    try:
        while sent < most:
            sent += connection.send(piece)
    except (ConnectionResetError, BrokenPipeError):
        pass
    return sent


def memory(server: Served) -> int:
    """Bytes that the process has resident."""
    pages = Path(f"/proc/{server.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def offset(server: Served, created: bytes) -> int:
    location = re.search(rb"(?i)location: http://[^/]+(/\S+)", created)
    assert location, created
    with connected(server) as connection:
        connection.sendall(
            b"HEAD %s HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nConnection: close\r\n\r\n"
            % location[1]
        )
        found = re.search(rb"(?i)upload-offset: (\d+)", rest(connection))
    assert found
    return int(found[1])


def assert_refused(response: bytes) -> None:
    head, _, body = response.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"http/1.1 431 request header fields too large", response[:200]
    assert b"connection: close" in lines
    assert b"content-length: %d" % len(body) in lines
    assert body.startswith(b"ERR_HEAD_TOO_LARGE: ")


TOO_LARGE = {
    "one header": OPTIONS + b"X-Large: " + b"a" * 70_000 + b"\r\n\r\n",
    "one header without an end": OPTIONS + b"X-Large: " + b"a" * 70_000,
    "one name without an end": OPTIONS + b"a" * 70_000,
    "many headers": OPTIONS
    + b"".join(b"X-%04d: %042d\r\n" % (n, n) for n in range(2000))
    + b"\r\n",
    "many headers without an end": OPTIONS + b"X-Small: 1234567890\r\n" * 4000,
    "a request line": b"GET /files/" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a request line without an end": b"GET /files/" + b"a" * 70_000,
    "spaces before a value": OPTIONS + b"X-Large:" + b" " * 70_000,
    "empty lines before a request": b"\r\n" * 40_000,
    "a header of a request with a body": CREATE + b"Content-Length: 3\r\nX-Large: " + b"a" * 70_000,
}


@pytest.mark.parametrize("head", TOO_LARGE.values(), ids=TOO_LARGE)
@pytest.mark.parametrize("size", [1_000, 1_000_000], ids=["in pieces", "at once"])
def test_a_head_that_is_too_large_is_refused(server: Served, head: bytes, size: int) -> None:
    """The client can read why, although it has not sent all of it yet."""
    with connected(server) as connection:
        for start in range(0, len(head), size):
            connection.sendall(head[start : start + size])
        assert_refused(rest(connection))


def test_a_head_without_an_end_is_refused_early(server: Served) -> None:
    """One of 210 MB took the server from 43 to 244 MB."""
    before = memory(server)
    with connected(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        connection.sendall(OPTIONS + b"X-Large: ")
        taken = send_until_closed(connection, b"a" * 65_536, 20 * MIB)
        assert taken < 10 * MIB, "1 MiB, and what the kernel keeps on its way"
        assert memory(server) - before < 4 * MIB


def test_a_client_that_stays_after_it_was_refused_is_let_go(server: Served) -> None:
    with connected(server) as connection:
        connection.sendall(TOO_LARGE["one header without an end"])
        assert_refused(rest(connection))
        eventually("it is closed", lambda: send_until_closed(connection, b"a", 1) == 0)


@pytest.mark.parametrize("ends", [b"\r\n\r\n", b"\r\nX-More: 1\r\n\r\n"])
def test_a_head_up_to_the_limit_is_taken(server: Served, ends: bytes) -> None:
    room = MAX_HEAD - len(OPTIONS + b"X-Large: " + ends)
    with connected(server) as connection:
        for _ in range(3):
            connection.sendall(OPTIONS + b"X-Large: " + b"a" * room + ends)
            assert answer(connection).startswith(b"HTTP/1.1 204 ")


def test_a_head_in_pieces_of_one_byte_is_taken(server: Served) -> None:
    with connected(server) as connection:
        for byte in OPTIONS + b"X-Some: " + b"a" * 2000 + b"\r\n\r\n":
            connection.sendall(bytes([byte]))
        assert answer(connection).startswith(b"HTTP/1.1 204 ")


BODY = b"b" * (3 * MIB)
CHUNKS = b"".join(b"10000\r\n" + b"b" * 65_536 + b"\r\n" for _ in range(48)) + b"0\r\n\r\n"
TINY = b"1\r\nb\r\n" * 50_000 + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("framing", "body", "length"),
    [
        (b"Content-Length: %d\r\n" % len(BODY), BODY, len(BODY)),
        (b"Transfer-Encoding: chunked\r\n", CHUNKS, len(BODY)),
        (b"Transfer-Encoding: chunked\r\n", TINY, 50_000),
    ],
    ids=["length", "chunks", "tiny chunks"],
)
def test_a_body_is_no_head(server: Served, framing: bytes, body: bytes, length: int) -> None:
    head = CREATE + TYPE + framing + b"Upload-Length: %d\r\n\r\n" % length
    with connected(server) as connection:
        connection.sendall(head + body)
        created = answer(connection)
        assert created.startswith(b"HTTP/1.1 201 ")
        assert offset(server, created) == length
        connection.sendall(OPTIONS + b"\r\n")
        assert answer(connection).startswith(b"HTTP/1.1 204 ")


def test_pipelined_requests_are_measured_one_by_one(server: Served) -> None:
    large = OPTIONS + b"X-Large: " + b"a" * 40_000 + b"\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(large * 4 + OPTIONS + b"\r\n")
        for _ in range(5):
            assert answer(connection).startswith(b"HTTP/1.1 204 ")


def test_a_request_before_one_that_is_refused_has_its_answer(server: Served) -> None:
    """A 431 in its place would tell the client that its upload was not created."""
    head = CREATE + TYPE + b"Content-Length: 3\r\nUpload-Length: 3\r\n\r\nabc"
    with connected(server) as connection:
        connection.sendall(head + TOO_LARGE["one header"])
        response = rest(connection)
    assert response.startswith(b"HTTP/1.1 201 ")
    assert response.count(b"HTTP/1.1 ") == 1, "no second answer in front of the first"
    assert offset(server, response) == 3


CHUNKED = CREATE + TYPE + b"Transfer-Encoding: chunked\r\nUpload-Length: 9\r\n\r\n3\r\nabc\r\n"


@pytest.mark.parametrize("start", [b"0\r\nX-Large: ", b"0\r\n", b"1;extension="])
@pytest.mark.parametrize("piece", [b"a" * 32_768, b"a: bcdefg\r\n" * 3_000], ids=["one", "many"])
def test_trailers_without_an_end_close_the_connection(
    server: Served, start: bytes, piece: bytes
) -> None:
    before = memory(server)
    with connected(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        connection.sendall(CHUNKED + start)
        assert send_until_closed(connection, piece, 20 * MIB) < 10 * MIB
    assert memory(server) - before < 4 * MIB


def test_trailers_are_dropped_and_the_next_request_works(server: Served) -> None:
    with connected(server) as connection:
        trailers = b"0\r\nUpload-Length: 5\r\nX-Last: 1\r\n\r\n"
        connection.sendall(CHUNKED + trailers + OPTIONS + b"\r\n")
        created = answer(connection)
        assert created.startswith(b"HTTP/1.1 201 ")
        assert offset(server, created) == 3
        assert answer(connection).startswith(b"HTTP/1.1 204 ")


def test_what_is_no_http_is_still_told_so(server: Served) -> None:
    with connected(server) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert rest(connection).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"OPTIONS /files/ HTTP/1.1\r\n\r\n", b"400"),
        (OPTIONS + b"Host: y\r\n\r\n", b"400"),
        (OPTIONS + b"\r\n", b"204"),
        (b"OPTIONS /files/ HTTP/1.0\r\n\r\n", b"204"),
        (CREATE + b"Transfer-Encoding: gzip, chunked\r\n\r\n", b"501"),
    ],
)
def test_a_head_that_http_forbids_is_refused(server: Served, head: bytes, status: bytes) -> None:
    """RFC 9112, 3.2 and 6.1: what a proxy before us reads otherwise can be smuggled past it."""
    with connected(server) as connection:
        connection.sendall(head)
        assert answer(connection).startswith(b"HTTP/1.1 " + status)


def test_an_old_client_gets_no_interim_answer(server: Served) -> None:
    """RFC 9110, 10.1.1: an HTTP/1.0 client would take the 100 for the answer."""
    head = CREATE.replace(b"1.1", b"1.0") + TYPE + b"Upload-Length: 5\r\nContent-Length: 5\r\n"
    with connected(server) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\n\r\nhello")
        assert rest(connection).startswith(b"HTTP/1.1 201")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("sent", [1, 9, 16])
def test_what_came_just_before_the_client_left_is_kept(
    server: Served, framing: str, sent: int
) -> None:
    """Uvicorn drops what it has read but not handed over; "The Server SHOULD always attempt to
    store as much of the received data as possible" (Core Protocol, PATCH).
    """
    with connected(server) as connection:
        connection.sendall(CREATE + b"Upload-Length: 16\r\nContent-Length: 0\r\n\r\n")
        found = re.search(rb"(?i)location: http://[^/]+(\S+)", answer(connection))
        assert found is not None
    begin = b" HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n"
    body, size = b"x" * sent, b"Content-Length: 16\r\n"
    if framing == "chunked":
        body, size = b"%x\r\n%s\r\n" % (sent, body), b"Transfer-Encoding: chunked\r\n"
    with connected(server) as connection:
        head = b"PATCH " + found[1] + begin + TYPE + size + b"Upload-Offset: 0\r\n\r\n"
        connection.sendall(head + body)
    ask = b"HEAD " + found[1] + begin + b"\r\n"

    def stands() -> bool:
        with connected(server) as connection:
            connection.sendall(ask)
            return b"upload-offset: %d\r\n" % sent in answer(connection).lower()

    eventually("all is kept", stands, within=5)
