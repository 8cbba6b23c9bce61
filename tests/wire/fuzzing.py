"""A client that does at random what networks and people do, and knows what must come of it.

What an upload holds beyond the offset that was told last is made anew for each attempt: a writer
that is late, and bytes in the wrong place, show in the comparison at the end.
"""

import base64
import hashlib
import http.client
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.wire.fuzz_connection import WITHIN, Answer, Connection, Gone, Server, Wrong

KIB, MIB = 1 << 10, 1 << 20
AROUND = (0, 1, 64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, MIB, 2 * MIB)
"""The sizes at which the code changes its mind."""

HEAD = b"\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n"
OPTIONS = b"OPTIONS /files/ HTTP/1.1\r\nHost: x\r\n\r\n"
TYPE = b"Content-Type: application/offset+octet-stream\r\n"


@dataclass
class Body:
    """A PATCH to be sent.

    Attributes:
        head: With its empty line.
        framed: What follows it.
        data: What is to be stored of it.
        counts: Whether a part of it may count.
        statuses: Of the answer when all goes well.
    """

    head: bytes
    framed: bytes
    data: bytes
    counts: bool
    statuses: tuple[int, ...] = (204,)
    expects: bool = False


class Upload:
    """One upload from its creation to the comparison.

    Args:
        server: Where.
        source: Of all that is random.
        note: Takes a line of the script.
    """

    def __init__(self, server: Server, source: random.Random, note: Callable[[str], None]) -> None:
        self._server, self._random, self._note = server, source, note
        self.size = self._some_size()
        self.content = b""
        self._told = self._attempts = 0
        self._path = ""

    def run(self) -> None:
        """All of it.

        Raises:
            Wrong: The server failed.
        """
        while not self._path:
            self._survive(self._create)
        for _ in range(60):
            if self._told == self.size:
                break
            self._survive(self._append, tries=1)
            self._survive(self._ask)
        else:
            raise Wrong("60 attempts were not enough")
        self._survive(self._compare)

    def _survive(self, act: Callable[[], None], *, tries: int = 20) -> None:
        """Does it, again and again as long as the server is killed meanwhile."""
        for _ in range(tries):
            self._server.is_up.wait(WITHIN)
            lives = self._server.lives
            try:
                act()
            except Gone as error:
                if lives == self._server.lives:
                    raise Wrong("the connection ended without an answer") from error
                self._note("  the server was killed")
            else:
                return

    def _some_size(self) -> int:
        if self._random.random() < 0.2:
            return self._random.randrange(4 * MIB)
        near = self._random.choice(AROUND) + self._random.choice(AROUND)
        return max(0, near + self._random.randrange(-2, 3))

    def _request(self, method: str, path: str, *, wants: tuple[int, ...]) -> Answer:
        for _ in range(200):
            connection = Connection(self._server)
            try:
                connection.expect(method)
                connection.send(
                    b"%b %b HTTP/1.1%b\r\n" % (method.encode(), path.encode(), HEAD), until=1
                )
                answer = connection.wait(1)
            finally:
                connection.leave("close")
            if answer is None:
                raise Gone
            if answer.status in wants:
                return answer
            if answer.status != 423:
                raise Wrong(f"{method} {path} was answered with {answer}")
            time.sleep(0.05)
        raise Wrong(f"{method} {path} is answered with 423 for ever")

    def _create(self) -> None:
        self._note(f"POST of {self.size}")
        connection = Connection(self._server)
        connection.expect("POST")
        head = b"POST /files/ HTTP/1.1" + HEAD
        first = self._random.randrange(self.size + 1) if self._random.random() < 0.3 else 0
        self.content = self._random.randbytes(first)
        head += b"Upload-Length: %d\r\nContent-Length: %d\r\n" % (self.size, first)
        head += (TYPE if first else b"") + b"\r\n"
        connection.send(head + self.content, until=1)
        answer = connection.wait(1)
        connection.leave("close")
        if answer is None:
            raise Gone
        if answer.status != 201:
            raise Wrong(f"POST was answered with {answer}")
        self._path = "/" + answer.headers["location"].partition("://")[2].partition("/")[2]
        self._told = first
        self._note(f"  {self._path}, with {first}")

    def _ask(self) -> None:
        """`HEAD`: what is told holds from now on."""
        answer = self._request("HEAD", self._path, wants=(200,))
        offset = int(answer.headers["upload-offset"])
        self._note(f"  HEAD says {offset}")
        if not self._told <= offset <= len(self.content):
            raise Wrong(f"{offset} is not within {self._told} and {len(self.content)}")
        self._told, self.content = offset, self.content[:offset]

    def _plain(self, size: int) -> Body:
        data = self._random.randbytes(size)
        return Body(self._head(b"Content-Length: %d" % size), data, data, counts=True)

    def _summed(self, size: int) -> Body:
        body = self._plain(size)
        name = self._random.choice(["sha1", "md5", "sha256"])
        is_right = self._random.random() < 0.7
        checksum = _checksum(name, body.data + (b"" if is_right else b"?"))
        body.head = self._head(b"Content-Length: %d\r\nUpload-Checksum: %b" % (size, checksum))
        body.counts, body.statuses = False, (204,) if is_right else (460,)
        return body

    def _chunked(self, size: int) -> Body:
        data = self._random.randbytes(size)
        body = Body(self._head(b"Transfer-Encoding: chunked"), b"", data, counts=True)
        trailers = b""
        if self._random.random() < 0.5:
            is_right = self._random.random() < 0.7
            checksum = _checksum("sha1", data + (b"" if is_right else b"?"))
            trailers = b"X-Some: 1\r\nUpload-Checksum: %b\r\n" % checksum
            body.head = self._head(b"Transfer-Encoding: chunked\r\nTrailer: Upload-Checksum")
            body.counts, body.statuses = False, (204,) if is_right else (460,)
        elif self._random.random() < 0.2:
            trailers = b"Upload-Checksum: sha1 AAAA\r\nUpload-Offset: 0\r\n"
        at = 0
        while at < len(data):
            count = self._random.choice([1, 1000, 70_000, len(data)])
            piece = data[at : at + count]
            body.framed += b"%x\r\n%b\r\n" % (len(piece), piece)
            at += len(piece)
            if len(body.framed) > 3 * len(data) + 10_000:
                count = len(data)
        body.framed += b"0\r\n%b\r\n" % trailers
        return body

    def _head(self, framing: bytes) -> bytes:
        offset = b"Upload-Offset: %d\r\n" % self._told
        return (
            b"PATCH %b HTTP/1.1" % self._path.encode()
            + HEAD
            + TYPE
            + offset
            + framing
            + b"\r\n\r\n"
        )

    def _append(self) -> None:
        left = self.size - self._told
        self._attempts += 1
        size = left if self._random.random() < 0.5 else self._random.randrange(left + 1)
        make = self._random.choices([self._plain, self._summed, self._chunked], [6, 2, 2])[0]
        body = make(size)
        if self._random.random() < 0.15:
            body.expects = True
            body.head = body.head[:-2] + b"Expect: 100-continue\r\n\r\n"
        # In the end it has to come through.
        weights = [4, 4, 3] if self._attempts < 30 else [1, 0, 0]
        act = self._random.choices([self._whole, self._cut, self._overtaken], weights)[0]
        self._note(f"{act.__name__} {make.__name__} of {size} at {self._told}")
        act(body)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """Some of it, and then a pause, or none."""
        at = 0
        for _ in range(40):
            count = self._random.choice([1, 100, 1460, 64 * KIB, 200 * KIB, MIB, 4 * MIB])
            yield data[at : at + count]
            at += count
            if at >= len(data):
                return
            pause = self._random.choices([0, 0.003, 0.019, 0.03, 1.2], [60, 20, 10, 10, 1])[0]
            time.sleep(pause)
        yield data[at:]

    def _send(self, connection: Connection, body: Body, framed: bytes, until: int = 1) -> None:
        """Sends the head and some of what follows it, until there are so many answers."""
        start = body.head
        if body.expects:
            connection.send(start, until=until)
            connection.wait_invited()
            start = b""
        for piece in self._pieces(start + framed):
            if len(connection.answers) >= until or connection.is_ended:
                return
            connection.send(piece, until=until)

    def _whole(self, body: Body) -> None:
        """To its end, perhaps among other requests of the same connection."""
        before = (
            []
            if body.expects
            else self._random.choices(["OPTIONS", "HEAD"], k=self._random.choice([0, 0, 1, 2]))
        )
        behind = self._random.choices(["OPTIONS", "HEAD"], k=self._random.choice([0, 0, 1, 3]))
        connection = Connection(self._server)
        connection.expect(*before, "PATCH", *behind)
        wire = {
            "OPTIONS": OPTIONS,
            "HEAD": b"HEAD %b HTTP/1.1" % self._path.encode() + HEAD + b"\r\n",
        }
        body.head = b"".join(wire[method] for method in before) + body.head
        self._may_hold(body)
        self._send(
            connection,
            body,
            body.framed + b"".join(wire[m] for m in behind),
            len(before) + 1 + len(behind),
        )
        if self._random.random() < 0.1:
            self._note("  half-close behind it")
            connection.leave("half-close")
        answer = connection.wait(len(before) + 1)
        if answer is None:
            connection.leave("close")
            raise Gone
        self._note(f"  among {before} and {behind}: {answer.status}")
        if answer.status not in body.statuses:
            raise Wrong(f"PATCH was answered with {answer}")
        start = self._told
        if answer.status == 204:
            if int(answer.headers["upload-offset"]) != start + len(body.data):
                raise Wrong(f"PATCH was answered with {answer}")
            self._told += len(body.data)
            self.content = self.content[:start] + body.data
        else:
            self.content = self.content[:start]
        if not connection.is_ended and connection.wait(len(before) + 1 + len(behind)) is None:
            connection.leave("close")
            raise Gone
        for method, found in zip(behind, connection.answers[len(before) + 1 :], strict=False):
            if method == "HEAD" and found.headers.get("upload-offset") != str(self._told):
                raise Wrong(f"HEAD behind it was answered with {found}")
        connection.leave("close")

    def _may_hold(self, body: Body, *, sent: int | None = None) -> None:
        """What the server may have from now on."""
        self.content = self.content[: self._told] + body.data[:sent]

    def _cut(self, body: Body) -> None:
        """The connection ends somewhere."""
        at = self._random.randrange(len(body.framed) + 1)
        how = self._random.choice(["close", "reset", "half-close"])
        connection = Connection(self._server)
        connection.expect("PATCH")
        is_whole = at == len(body.framed)
        self._may_hold(body, sent=None if is_whole or body.counts else 0)
        self._send(connection, body, body.framed[:at])
        connection.leave(how)
        self._note(f"  {how} after {at} of {len(body.framed)}")
        if how == "half-close":
            connection.wait(1)
            connection.leave("close")
        if at < len(body.data) and body.framed is body.data:
            self._may_hold(body, sent=at if body.counts else 0)

    def _overtaken(self, body: Body) -> None:
        """Somebody else asks while it is sent; whatever is sent then must not count."""
        at = self._random.randrange(len(body.framed) + 1)
        connection = Connection(self._server)
        connection.expect("PATCH")
        is_whole = at == len(body.framed)
        self._may_hold(body, sent=None if is_whole or body.counts else 0)
        self._send(connection, body, body.framed[:at])
        self._note(f"  overtaken after {at} of {len(body.framed)}")
        start = self._told
        try:
            self._ask()
            if self._random.random() < 0.5:
                connection.send(body.framed[at:], until=1)
            if self._random.random() < 0.5 or self._told == start + len(body.data):
                answer = connection.wait(1)
                self._note(f"  it was told {answer and answer.status}")
                expected = body.statuses if is_whole else (423,)
                if answer is not None and answer.status not in (*expected, 423):
                    raise Wrong(f"PATCH was answered with {answer}")
        finally:
            connection.leave("close")

    def _compare(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=WITHIN)
        try:
            connection.request("GET", self._path)
            found = connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise Gone from error
        finally:
            connection.close()
        self._note(f"  compared {self.size}")
        if found != self.content:
            at = next(
                (n for n, (a, b) in enumerate(zip(found, self.content, strict=False)) if a != b), -1
            )
            raise Wrong(f"{len(found)} bytes are not the {self.size} that were sent, from {at} on")


def _checksum(name: str, data: bytes) -> bytes:
    return name.encode() + b" " + base64.b64encode(hashlib.new(name, data).digest())
