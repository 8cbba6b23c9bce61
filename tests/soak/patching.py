"""A request that brings bytes: how it is framed, and how it is sent."""

import base64
import hashlib
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tests.soak.oracle import Attempt, Counts, Known
from tests.wire.fuzz_connection import Answer, Connection

HEAD = "Host: x\r\nTus-Resumable: 1.0.0\r\n"
TYPE = "Content-Type: application/offset+octet-stream\r\n"
ALGORITHMS = ("sha1", "md5", "sha256", "sha512", "crc32")


@dataclass
class Request:
    """A `PATCH`, or a `POST` with content.

    Attributes:
        kind: For the table.
        head: With its empty line.
        attempt: What it brings.
        chunks: Sizes of the chunks, None for a body of a known length.
        trailer: Behind the chunks.
    """

    kind: str
    head: bytes
    attempt: Attempt
    chunks: list[int] | None = None
    trailer: bytes = b""

    def wire(self) -> Iterator["Piece"]:
        """What follows the head."""
        attempt, at = self.attempt, 0
        if self.chunks is None:
            for piece in attempt.stream.pieces(0, attempt.length):
                at += len(piece)
                yield Piece(piece, at, is_last=at == attempt.length)
            return
        for size in self.chunks:
            data = b"".join(attempt.stream.pieces(at, at + size))
            at += size
            yield Piece(b"%x\r\n%b\r\n" % (size, data), at)
        yield Piece(b"0\r\n%b\r\n" % self.trailer, at, is_last=True)

    @property
    def size(self) -> int:
        """Bytes behind the head."""
        return sum(len(piece.data) for piece in self.wire())


@dataclass(frozen=True)
class Piece:
    """Some of what follows a head.

    Attributes:
        data: As it is sent.
        upto: Bytes of the attempt that are out when all of it is.
        is_last: Whether the request ends with it.
    """

    data: bytes | memoryview
    upto: int
    is_last: bool = False


@dataclass
class Sending:
    """A request on its way.

    Attributes:
        request: What is sent.
        connection: By which.
        goes_on: Whether it does not look up when an answer comes.
    """

    request: Request
    connection: Connection
    goes_on: bool = False
    _wire: Iterator[Piece] = field(init=False)
    _left: Piece = field(default=Piece(b"", 0))
    _is_out: bool = False
    _behind: list[Exception] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._wire = self.request.wire()

    def send(self, most: int | None = None, pause: Callable[[], float] = lambda: 0.0) -> None:
        """Goes on sending, the head first, until an answer comes.

        Args:
            most: Bytes behind the head, None for all.
            pause: Seconds to wait after each piece.
        """
        if self.request.head:
            head, self.request.head = self.request.head, b""
            if not self.request.attempt.length and self.request.chunks is None:
                self.request.attempt.is_whole = True
            self._hand_over(head)
        while (most is None or most > 0) and self._may_send():
            piece, self._left = self._next(most)
            if not piece.data:
                self._is_out = True
                return
            if most is not None:
                most -= len(piece.data)
            self._send(piece)
            if wait := pause():
                time.sleep(wait)

    def send_beside(self) -> None:
        """Goes on sending in a thread, some milliseconds at least; `join` waits for it."""
        some = max(1 << 14, self.request.attempt.length >> 7)

        def run() -> None:
            try:
                while self._may_send() and not self._is_out:
                    self.send(some)
                    time.sleep(0.003)
            except Exception as error:
                self._behind.append(error)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def join(self) -> None:
        """Waits for `send_beside`, and raises what it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._behind:
            raise self._behind.pop()

    def answer(self) -> Answer | None:
        """The answer; None if the connection ended without one."""
        return self.connection.wait(1)

    def _may_send(self) -> bool:
        connection = self.connection
        return not connection.is_ended and (self.goes_on or not connection.answers)

    def _next(self, most: int | None) -> tuple[Piece, Piece]:
        """What is to be sent, and what is left of the same piece."""
        whole = self._left if self._left.data else next(self._wire, Piece(b"", 0))
        if most is None or len(whole.data) <= most:
            return whole, Piece(b"", 0)
        is_plain = self.request.chunks is None
        upto = whole.upto - (len(whole.data) - most if is_plain else 0)
        return Piece(whole.data[:most], upto), replace(whole, data=whole.data[most:])

    def _send(self, piece: Piece) -> None:
        attempt = self.request.attempt
        # The server may have it before the call returns.
        attempt.sent, attempt.is_whole = piece.upto, piece.is_last
        missing = len(piece.data) - self._hand_over(piece.data)
        if missing:
            attempt.is_whole = False
            if self.request.chunks is None:
                attempt.sent -= missing

    def _hand_over(self, piece: bytes | memoryview) -> int:
        return self.connection.send(piece, until=2 if self.goes_on else 1)


class Framing:
    """Makes requests at random.

    Args:
        source: Of all that is random.
        known: Of the upload that they bring bytes to.
    """

    def __init__(self, source: random.Random, known: Known) -> None:
        self._random = source
        self._known = known

    def plain(self, line: str, length: int, extra: str) -> Request:
        """Counts as far as it comes."""
        attempt = self._known.attempt(length, Counts.AS_FAR_AS_IT_CAME)
        head = f"{line}{extra}Content-Length: {length}\r\n\r\n"
        return Request("plain", head.encode(), attempt)

    def summed(self, line: str, length: int, extra: str) -> Request:
        """With a checksum in a header."""
        attempt, checksum = self._verified(length)
        head = f"{line}{extra}Content-Length: {length}\r\n{checksum}\r\n"
        return Request("checksum", head.encode(), attempt)

    def chunked(self, line: str, length: int, extra: str) -> Request:
        """In chunks; counts as far as it comes."""
        attempt = self._known.attempt(length, Counts.AS_FAR_AS_IT_CAME)
        head = f"{line}{extra}Transfer-Encoding: chunked\r\n\r\n"
        return Request("chunked", head.encode(), attempt, self._chunks(length))

    def trailed(self, line: str, length: int, extra: str) -> Request:
        """In chunks, with a checksum behind them."""
        attempt, checksum = self._verified(length)
        head = f"{line}{extra}Transfer-Encoding: chunked\r\nTrailer: Upload-Checksum\r\n\r\n"
        return Request(
            "trailer", head.encode(), attempt, self._chunks(length), f"{checksum}".encode()
        )

    def _verified(self, length: int) -> tuple[Attempt, str]:
        is_right = self._random.random() < 0.7
        counts = Counts.ONLY_WHOLE if is_right else Counts.NOT
        attempt = self._known.attempt(length, counts)
        name = self._random.choice(ALGORITHMS)
        digest = bytearray(_digest(name, attempt.stream.pieces(0, length)))
        if not is_right:
            digest[self._random.randrange(len(digest))] ^= 1 + self._random.randrange(255)
        return attempt, f"Upload-Checksum: {name} {base64.b64encode(digest).decode()}\r\n"

    def _chunks(self, length: int) -> list[int]:
        sizes: list[int] = []
        while length:
            some = self._random.choice([1, 1000, 70_000, length])
            sizes.append(min(length, some if len(sizes) < 40 else 1 << 20, 1 << 22))
            length -= sizes[-1]
        return sizes


def _digest(name: str, pieces: Iterator[memoryview]) -> bytes:
    if name == "crc32":
        value = 0
        for piece in pieces:
            value = zlib.crc32(piece, value)
        return value.to_bytes(4, "big")
    digest = hashlib.new(name)
    for piece in pieces:
        digest.update(piece)
    return digest.digest()
