"""One connection of a client: raw and blocking, at little cost to the client itself."""

import random
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from tests.benchmarks.measuring import MIB

PATIENCE = 120.0
OFFSET_STREAM = "Content-Type: application/offset+octet-stream\r\n"
METADATA = "Upload-Metadata: filename ZmlsbS5ta3Y=,filetype dmlkZW8vbXA0\r\n"
"""Real clients send it, and tuspyserver cannot do without."""

_BIND_ADDRESS_NO_PORT = 24
_MOST_IN_ONE_SEND = 64 * 1024


class LoadFailed(Exception):
    """A request was not answered as it has to be, or bytes are missing; the message says what."""


class Unable(Exception):
    """The server has no such feature; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server under load.

    Attributes:
        port: On loopback.
        path: Of its upload creation URL.
        pid: Of its first process.
    """

    port: int
    path: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The head of a response, and how much body was read with it."""

    status: int
    headers: dict[str, str]

    def expect(self, status: int, offset: int | None = None) -> "Answer":
        """The same answer.

        Raises:
            LoadFailed: It has another status, or another `Upload-Offset`.
        """
        if self.status != status:
            raise LoadFailed(f"answered {self.status} where {status} was due: {self.headers}")
        found = self.headers.get("upload-offset")
        if offset is not None and found != str(offset):
            raise LoadFailed(f"Upload-Offset is {found} where {offset} bytes were sent")
        return self


@cache
def block() -> memoryview:
    """The MiB that all uploads repeat; no two of its pages are alike."""
    return memoryview(random.Random(1).randbytes(MIB))


def pieces(start: int, end: int) -> Iterator[memoryview]:
    """The bytes of an upload from `start` to `end`."""
    while start < end:
        at = start % MIB
        piece = block()[at : at + min(MIB - at, end - start)]
        yield piece
        start += len(piece)


_LINE = re.compile(rb"([^\r\n:]+):[ \t]*([^\r\n]*)\r\n")


def parse_answer(head: bytes) -> Answer:
    """A head, up to and with its empty line."""
    line, _, rest = head.partition(b"\r\n")
    try:
        status = int(line.split(b" ", 2)[1])
    except (IndexError, ValueError) as error:
        raise LoadFailed(f"no HTTP answer: {line!r}") from error
    found = _LINE.findall(rest)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in found}
    return Answer(status=status, headers=headers)


class Link:
    """A keep-alive connection; it is opened again when the server has closed it.

    Args:
        target: Whom to talk to.
        source: The last byte of the 127.0.0.x that it comes from.
    """

    def __init__(self, target: Target, source: int = 1) -> None:
        self.target = target
        self._source = source
        self.socket = self._connect()
        self._rest = b""
        self._is_over = False

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _connect(self) -> socket.socket:
        sock = socket.socket()
        sock.settimeout(PATIENCE)
        # Otherwise the kernel picks a port that must be free towards everybody.
        sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        try:
            sock.bind((f"127.0.0.{self._source}", 0))
            sock.connect(("127.0.0.1", self.target.port))
        except OSError:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def head(self, method: str, path: str, headers: str, length: int | None) -> bytes:
        """The head of a request; `headers` are whole lines."""
        content = "" if length is None else f"Content-Length: {length}\r\n"
        host = f"Host: 127.0.0.1:{self.target.port}\r\nTus-Resumable: 1.0.0\r\n"
        return f"{method} {path} HTTP/1.1\r\n{host}{content}{headers}\r\n".encode("latin-1")

    def ask(
        self, method: str, path: str, headers: str = "", span: tuple[int, int] | None = None
    ) -> Answer:
        """One request and its answer, whose body is read and dropped.

        Args:
            method: Of HTTP.
            path: Of the URL.
            headers: Further lines, each with its end.
            span: Which bytes of an upload are the body, or None for no body.
        """
        length = None if span is None else span[1] - span[0]
        if length is None and method == "POST":
            length = 0
        self._reopen()
        head = self.head(method, path, headers, length)
        try:
            self._send(head, span or (0, 0))
        except (ConnectionResetError, BrokenPipeError) as error:
            raise LoadFailed(f"refused in the middle of the body: {self._last_words()}") from error
        return self.answer(has_body=method != "HEAD")

    def _reopen(self) -> None:
        if self._is_over:
            self.socket.close()
            self.socket, self._rest, self._is_over = self._connect(), b"", False

    def _send(self, head: bytes, span: tuple[int, int]) -> None:
        start, end = span
        if end - start <= _MOST_IN_ONE_SEND:
            self.socket.sendall(head + b"".join(pieces(start, end)))
            return
        self.socket.sendall(head)
        for piece in pieces(start, end):
            self.socket.sendall(piece)

    def _last_words(self) -> str:
        try:
            return str(self.socket.recv(4096)[:300])
        except OSError as error:
            return str(error)

    def answer(self, *, has_body: bool = True) -> Answer:
        """Reads an answer, and its body if there can be one."""
        answer = self.answer_head()
        if has_body and answer.status not in (204, 304):
            self._skip(answer.headers)
        # An HTTP/1.0 server keeps nothing alive unless it says so.
        self._is_over |= answer.headers.get("connection", "").lower() == "close"
        return answer

    def answer_head(self) -> Answer:
        """Reads the head of an answer; `read_into` gives its body."""
        while True:
            head = self._until(b"\r\n\r\n")
            self._is_over = head.startswith(b"HTTP/1.0")
            answer = parse_answer(head)
            if answer.status >= 200:
                return answer

    def _until(self, mark: bytes) -> bytes:
        data = self._rest
        while (end := data.find(mark)) < 0:
            piece = self.socket.recv(65536)
            if not piece:
                raise LoadFailed(f"the server closed the connection after {data[:200]!r}")
            data += piece
        end += len(mark)
        self._rest = data[end:]
        return data[:end]

    def _skip(self, headers: dict[str, str]) -> None:
        if "chunked" in headers.get("transfer-encoding", ""):
            while size := int(self._until(b"\r\n"), 16):
                self._drop(size + 2)
            self._until(b"\r\n")
        else:
            self._drop(int(headers.get("content-length", "0")))

    def _drop(self, size: int) -> None:
        buffer = memoryview(bytearray(max(1, min(size, MIB))))
        while size:
            size -= self.read_into(buffer[:size])

    def read_into(self, buffer: memoryview) -> int:
        """Bytes of a body, at least one.

        Raises:
            LoadFailed: The server closed the connection.
        """
        if self._rest:
            count = min(len(self._rest), len(buffer))
            buffer[:count] = self._rest[:count]
            self._rest = self._rest[count:]
            return count
        count = self.socket.recv_into(buffer)
        if count == 0:
            raise LoadFailed("the server closed the connection in the middle of a body")
        return count


def location(answer: Answer) -> str:
    """The path of the upload that was created."""
    return urlsplit(answer.headers["location"]).path


def create(link: Link, size: int) -> str:
    """Creates an upload of `size` bytes and gives its path."""
    answer = link.ask("POST", link.target.path, f"Upload-Length: {size}\r\n{METADATA}")
    return location(answer.expect(201))


def append(link: Link, path: str, start: int, end: int, extra: str = "") -> None:
    """One PATCH with the bytes from `start` to `end`; its answer must say that all are in."""
    headers = f"Upload-Offset: {start}\r\n{OFFSET_STREAM}{extra}"
    link.ask("PATCH", path, headers, (start, end)).expect(204, offset=end)


def extensions(target: Target) -> dict[str, list[str]]:
    """What a server offers: of `tus-extension`, and of `tus-checksum-algorithm`."""
    with Link(target) as link:
        headers = link.ask("OPTIONS", target.path).headers
    names = ("tus-extension", "tus-checksum-algorithm")
    return {name: re.findall(r"[^,\s]+", headers.get(name, "")) for name in names}
