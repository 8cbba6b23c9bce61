"""What goes over a connection of the mutant server: requests with their bodies, and replies."""

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


class Cut(Exception):
    """The client is gone in the middle of a request."""


@dataclass(slots=True)
class Reply:
    status: int
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    close: bool = False

    def drop(self, name: str) -> None:
        self.fields = [one for one in self.fields if one[0].lower() != name.lower()]

    def put(self, name: str, value: str) -> None:
        self.drop(name)
        self.fields.append((name, value))

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, *, close: bool = False) -> None:
        super().__init__(status)
        self.reply = Reply(status, close=close)


@dataclass(slots=True)
class Request:
    method: str
    actual: str
    target: str
    version: str
    fields: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None


Rewrite = Callable[[Request, Reply], None]


class Reader:
    """Buffered reads from one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = bytearray()

    def more(self) -> bool:
        with contextlib.suppress(OSError):
            data = self.connection.recv(65536)
            self.buffer += data
            return bool(data)
        return False

    def until(self, end: bytes) -> bytes:
        """Up to and with `end`; raises `Cut` when the client stops before it."""
        while (at := self.buffer.find(end)) < 0:
            if not self.more():
                raise Cut
        taken = bytes(self.buffer[: at + len(end)])
        del self.buffer[: at + len(end)]
        return taken

    def some(self, size: int) -> bytes:
        """Between 1 and `size` bytes."""
        if not self.buffer and not self.more():
            raise Cut
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken


class Body:
    """The content of one request, as it arrives."""

    def __init__(self, on: Callable[[str], bool], request: Request, reader: Reader) -> None:
        self.on = on
        self.reader = reader
        self.trailers: list[tuple[str, str]] = []
        self.chunked = False
        self.length = 0
        self.both = False
        self._frame(request)
        self.done = not self.chunked and self.length == 0
        old = request.version == "HTTP/1.0" and not on("continue-to-http-1.0")
        self.expects = (request.get("Expect") or "").lower() == "100-continue" and not old

    def _frame(self, request: Request) -> None:
        codings = ",".join(request.all("Transfer-Encoding")).lower()
        lengths = request.all("Content-Length")
        if codings:
            known = codings == "chunked" or self.on("unknown-coding-ignored")
            if not known:
                raise Refused(501, close=True)
            self.chunked = not self.on("chunked-unknown")
            self.both = bool(lengths) and not self.on("both-lengths-kept-open")
            return
        if len(set(lengths)) > 1 and not self.on("two-lengths-taken"):
            raise Refused(400, close=True)
        if lengths and not lengths[0].isascii():
            raise Refused(400, close=True)
        if lengths and not re.fullmatch("[0-9]+", lengths[0]):
            if not self.on("invalid-length-taken"):
                raise Refused(400, close=True)
            lengths = ["5"]
        self.length = int(lengths[0]) if lengths else 0

    def pieces(self) -> Iterator[bytes]:
        if self.expects and not self.done and not self.on("never-100"):
            self.reader.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        yield from self._chunks() if self.chunked else self._counted()
        self.done = True
        if self.expects and self.on("no-final-after-100"):
            time.sleep(3)

    def _counted(self) -> Iterator[bytes]:
        if self.on("body-reads-beyond") and self.length == 5:
            time.sleep(0.02)
            yield self.reader.some(65536)
            return
        left = self.length
        while left:
            piece = self.reader.some(left)
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while size := self._size(self.reader.until(b"\r\n")):
            left = size
            while left:
                piece = self.reader.some(left)
                left -= len(piece)
                yield piece
            if self.reader.until(b"\r\n") != b"\r\n":
                raise Refused(400, close=True)
        while (line := self.reader.until(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower().startswith("x-tus") and self.on("unknown-trailer-refused"):
                raise Refused(400, close=True)
            self.trailers.append((name, value.strip()))

    def _size(self, line: bytes) -> int:
        text, _, extension = line.decode("latin-1").strip().partition(";")
        if extension and self.on("chunk-extension-refused"):
            raise Refused(400, close=True)
        if text != text.lower() and self.on("hex-lower-only"):
            raise Refused(400, close=True)
        if not re.fullmatch("[0-9A-Fa-f]+", text):
            raise Refused(400, close=True)
        size = int(text, 16)
        if self.on("chunk-size-32-bit"):
            return size & 0xFFFFFFFF
        if size >= 2**63:
            raise Refused(400, close=True)
        return size
