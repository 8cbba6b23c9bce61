"""A connection that sends and reads at the same time, as the fuzz needs it."""

import contextlib
import http.client
import io
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

WITHIN = 40.0
_AT_ONCE = 1 << 18


class Wrong(AssertionError):
    """The server did what it must not do."""


class Gone(Exception):
    """The connection ended before the answer."""


@dataclass
class Server:
    """Where the server is, and how often it was killed.

    Attributes:
        port: On loopback.
        lives: Counted up by whoever kills it, before that.
        is_up: Cleared while it is down.
    """

    port: int
    lives: int = 0
    is_up: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Answer:
    """A response that was read to its end."""

    status: int
    headers: dict[str, str]


class Connection:
    """Sends and reads at the same time; answers come in the order of `expect`."""

    def __init__(self, server: Server) -> None:
        try:
            self._socket = socket.create_connection(("127.0.0.1", server.port), WITHIN)
        except OSError as error:
            raise Gone from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._came = b""
        self._methods: list[str] = []
        self.answers: list[Answer] = []
        self.is_ended = self.is_invited = False

    def expect(self, *methods: str) -> None:
        """There will be an answer to each."""
        self._methods += methods

    def send(self, data: bytes | memoryview, *, until: int) -> int:
        """Sends until so many answers are there: how many bytes."""
        sent = 0
        deadline = time.monotonic() + WITHIN
        while sent < len(data) and len(self.answers) < until and not self.is_ended:
            self._wait([self._socket], deadline)
            try:
                sent += self._socket.send(memoryview(data)[sent : sent + _AT_ONCE])
            except BlockingIOError:
                continue
            except OSError:
                self._read()
                self.is_ended = True
        return sent

    def wait(self, count: int) -> Answer | None:
        """Until there are so many answers, or there is an end: the last one."""
        deadline = time.monotonic() + WITHIN
        while len(self.answers) < count and not self.is_ended:
            self._wait([], deadline)
        return self.answers[count - 1] if len(self.answers) >= count else None

    def wait_invited(self) -> None:
        """Until there is a 100 (Continue), or an answer."""
        deadline = time.monotonic() + WITHIN
        while not (self.is_invited or self.answers or self.is_ended):
            self._wait([], deadline)

    def leave(self, how: str) -> None:
        """Ends it: `close`, `reset` or `half-close`."""
        with contextlib.suppress(OSError):  # it has ended already
            if how == "half-close":
                self._socket.shutdown(socket.SHUT_WR)
            if how == "reset":
                linger = struct.pack("ii", 1, 0)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if how != "half-close":
            self._socket.close()

    def _wait(self, writable: list[socket.socket], deadline: float) -> None:
        left = deadline - time.monotonic()
        readable, can_write, _ = select.select([self._socket], writable, [], max(0, left))
        if not readable and not can_write:
            raise Wrong(f"nothing happened for {WITHIN} s, after {self.answers}")
        if readable:
            self._read()

    def _read(self) -> None:
        try:
            while piece := self._socket.recv(_AT_ONCE):
                self._came += piece
            self.is_ended = True
        except BlockingIOError:
            pass
        except OSError:
            self.is_ended = True
        while self._parse():
            continue

    def _parse(self) -> bool:
        head, end, rest = self._came.partition(b"\r\n\r\n")
        if not end:
            return False
        line, _, lines = head.partition(b"\r\n")
        headers = dict(http.client.parse_headers(io.BytesIO(lines + b"\r\n\r\n")).items())
        status = int(line.split()[1])
        if status < 200:
            self.is_invited, self._came = True, rest
            return True
        if not self._methods:
            raise Wrong(f"an answer that nobody asked for: {head!r}")
        bodiless = self._methods[0] == "HEAD" or status == 204
        length = 0 if bodiless else int(headers.get("Content-Length", "0"))
        if len(rest) < length:
            return False
        self._came = rest[length:]
        self._methods.pop(0)
        self.answers.append(Answer(status, {k.lower(): v for k, v in headers.items()}))
        return True
