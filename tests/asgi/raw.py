"""Bytes over a real socket, where a client library would be too polite."""

import contextlib
import http.client
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass

WITHIN = 20.0
PATCH_HEAD = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response that was read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Raw:
    """One connection to a server on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket = socket.create_connection(("127.0.0.1", port), WITHIN)

    def start(self, method: str, target: str, headers: dict[str, str]) -> None:
        """Sends a head, exactly as given, with `Host` before it."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def patch(self, target: str, offset: int, length: int, **headers: str) -> None:
        """Sends the head of a `PATCH` of a known length."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        size = {"Upload-Offset": str(offset), "Content-Length": str(length)}
        self.start("PATCH", target, PATCH_HEAD | size | named)

    def send(self, data: bytes) -> None:
        """Sends these bytes."""
        self.socket.sendall(data)

    def offer(self, data: bytes) -> int:
        """Sends, and stops when an answer comes, as event-driven clients do: bytes sent."""
        sent = 0
        self.socket.setblocking(False)
        try:
            while sent < len(data):
                can_read, can_write, _ = select.select([self.socket], [self.socket], [], WITHIN)
                if can_read or not can_write:
                    break
                sent += self.socket.send(memoryview(data)[sent : sent + 65536])
        finally:
            self.socket.settimeout(WITHIN)
        return sent

    def answer(self, method: str = "GET") -> Answer:
        """The next response, after any interim one."""
        response = http.client.HTTPResponse(self.socket, method=method)
        response.begin()
        return Answer(status=response.status, headers=response.headers, body=response.read())

    def ask(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        """A request, and the response to it."""
        self.start(method, target, headers)
        self.send(body)
        return self.answer(method)

    def is_readable(self, within: float) -> bool:
        """Whether something comes, be it the end of the connection."""
        return bool(select.select([self.socket], [], [], within)[0])

    def is_closed(self, within: float = WITHIN) -> bool:
        """Whether the server ends the connection and sends nothing more."""
        if not self.is_readable(within):
            return False
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Ends it."""
        self.socket.close()


@contextlib.contextmanager
def connected(port: int) -> Iterator[Raw]:
    """A connection for the length of a `with` block."""
    raw = Raw(port)
    try:
        yield raw
    finally:
        raw.close()


def create(port: int, length: int | None, **headers: str) -> str:
    """A new upload on the server: its path."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    size = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    with connected(port) as raw:
        answer = raw.ask("POST", "/files/", {"Tus-Resumable": "1.0.0"} | size | named)
    assert answer.status == 201, answer.body
    return "/" + answer.headers["Location"].partition("://")[2].partition("/")[2]


def head(port: int, path: str) -> Answer:
    """`HEAD`, on a connection of its own."""
    with connected(port) as raw:
        return raw.ask("HEAD", path, {"Tus-Resumable": "1.0.0"})


def offset_of(port: int, path: str) -> int:
    """Where an upload stands."""
    answer = head(port, path)
    assert answer.status == 200, answer.status
    return int(answer.headers["Upload-Offset"])


def patch(port: int, path: str, offset: int, body: bytes, **headers: str) -> Answer:
    """A whole `PATCH`, on a connection of its own."""
    with connected(port) as raw:
        raw.patch(path, offset, len(body), **headers)
        raw.offer(body)
        return raw.answer()


def get(port: int, path: str) -> bytes:
    """The bytes of a finished upload."""
    with connected(port) as raw:
        answer = raw.ask("GET", path, {})
    assert answer.status == 200, answer.body
    return answer.body
