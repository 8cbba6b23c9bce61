"""HTTP/1.1 by hand: requests of exactly the shape that a client sends."""

import contextlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

WITHIN = 10.0  # seconds for any single read
CHUNKED = ("Transfer-Encoding", "chunked")

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One response, its headers in the order and the spelling that came."""

    status: int
    headers: Headers
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The value of a header; values of several lines are joined with commas."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None

    def members(self, name: str) -> set[str]:
        """The members of a comma list, in lower case."""
        value = self.header(name) or ""
        return {member.strip().lower() for member in value.split(",") if member.strip()}


class Connection:
    """One connection to a server on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port), WITHIN)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        """Ends it; may be repeated."""
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Sends these bytes and nothing else."""
        self._socket.sendall(data)

    def start(self, method: str, path: str, *headers: tuple[str, str]) -> None:
        """Sends the head of a request; nothing is added but Host."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}".rstrip() for name, value in headers]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def answer(self, method: str = "") -> Answer:
        """The next response, which may be an interim one; `method` is that of its request."""
        status = self._status()
        headers = tuple(self._fields())
        if method == "HEAD" or status < 200 or status in (204, 304):
            return Answer(status=status, headers=headers)
        head = Answer(status=status, headers=headers)
        return Answer(status=status, headers=headers, body=self._body(head))

    def ask(self, method: str, path: str, *headers: tuple[str, str], body: bytes = b"") -> Answer:
        """One request, and the response to it."""
        if body:
            headers = (*headers, ("Content-Length", str(len(body))))
        self.start(method, path, *headers)
        self.send(body)
        return self.answer(method)

    def quiet(self, seconds: float) -> bool:
        """Whether nothing comes within that time, not even the end of the connection."""
        self._socket.settimeout(seconds)
        try:
            self._file.peek(1)
        except TimeoutError:
            # The buffered reader refuses to go on after a time-out, so it is made anew.
            self._file.close()
            self._file = self._socket.makefile("rb")
            return True
        else:
            return False
        finally:
            self._socket.settimeout(WITHIN)

    def _line(self) -> str:
        line = self._file.readline(65536)
        assert line.endswith(b"\r\n"), f"the connection ended in {line!r}"
        return line[:-2].decode("latin-1")

    def _status(self) -> int:
        line = self._line()
        found = re.match(r"HTTP/1\.1 ([0-9]{3})( |$)", line)
        assert found is not None, line
        return int(found[1])

    def _fields(self) -> Iterator[tuple[str, str]]:
        while line := self._line():
            name, _, value = line.partition(":")
            yield name, value.strip()

    def _body(self, head: Answer) -> bytes:
        if "chunked" in head.members("Transfer-Encoding"):
            return b"".join(self._chunks())
        length = head.header("Content-Length")
        return self._file.read() if length is None else self._file.read(int(length))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line().partition(";")[0], 16):
            yield self._file.read(size)
            self._line()
        while self._line():
            continue


@contextlib.contextmanager
def connected(port: int) -> Iterator[Connection]:
    """A connection for the length of a `with` block."""
    connection = Connection(port)
    try:
        yield connection
    finally:
        connection.close()


def in_chunks(body: bytes, size: int = 1000, *trailers: tuple[str, str]) -> bytes:
    """A body in the chunked coding, in pieces of `size` bytes."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    fields = "".join(f"{name}: {value}\r\n" for name, value in trailers)
    return framed + b"0\r\n" + fields.encode("latin-1") + b"\r\n"
