"""One connection, byte for byte: what is sent is what was given, what comes is what h11 reads.

Requests are composed here without a client library, because a library mends: it adds a
Content-Length, folds duplicates, waits for `100 Continue`, and retries. Answers are read with
h11, which tells a malformed answer from a good one and leaves names and duplicates as they came.
"""

import contextlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import h11

from tus_conformance.verdict import Hangup, NotApplicable, Silence, Violation

Fields = Sequence[tuple[str, str]]

RECEIVE_SIZE = 65536
LARGEST_HEAD = 262144
RESTARTS_WITHIN = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """An absolute http(s) URL, taken apart once.

    Attributes:
        scheme: `http` or `https`.
        host: Host name or address, without the brackets of IPv6.
        port: Port number.
        target: Path and query, as they stand in a request line.
    """

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> "Url":
        """Takes a URL apart.

        Raises:
            ValueError: It is not an absolute http(s) URL.
        """
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{text!r} is not an absolute http or https URL")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(scheme=parts.scheme, host=parts.hostname, port=port, target=target)

    @property
    def authority(self) -> str:
        """The value of the Host header field."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"

    def resolve(self, reference: str) -> "Url":
        """The URL that a `Location`, absolute or relative to this one, stands for."""
        return Url.parse(urljoin(str(self), reference))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response as it came, with its interim responses before it.

    Attributes:
        status: The final status.
        reason: The reason phrase.
        fields: Header fields in order, names in the case they were sent in.
        body: The content.
        interim: The statuses of the 1xx responses that came first.
    """

    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    body: bytes = b""
    interim: tuple[int, ...] = ()

    def all(self, name: str) -> list[str]:
        """Every value of a field, one for each line."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The field's value, its lines joined as RFC 9110 5.2 says; None when it is absent."""
        values = self.all(name)
        return ", ".join(values) if values else None

    @property
    def ok(self) -> bool:
        """True for a status of the 2xx class."""
        return 200 <= self.status < 300

    @property
    def head(self) -> str:
        """Status line and header fields, for people."""
        lines = [f"HTTP/1.1 {code} (interim)" for code in self.interim]
        lines.append(f"HTTP/1.1 {self.status} {self.reason}".rstrip())
        return "\n".join([*lines, *(f"{name}: {value}" for name, value in self.fields)])

    def __str__(self) -> str:
        return f"{self.status} {self.reason}".rstrip()


def compose(
    method: str, url: Url, fields: Fields, *, version: str = "HTTP/1.1", target: str | None = None
) -> bytes:
    """The head of a request, exactly these lines and the empty one that ends it."""
    lines = [f"{method} {target or url.target} {version}"]
    lines += [f"{name}: {value}" for name, value in fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes, extension: str = "") -> bytes:
    """One chunk of a chunked body (RFC 9112 7.1)."""
    return f"{len(data):X}{extension}\r\n".encode() + data + b"\r\n"


def last_chunk(trailers: Iterable[tuple[str, str]] = ()) -> bytes:
    """The end of a chunked body, with its trailer section."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in trailers)
    return b"0\r\n" + lines.encode("latin-1") + b"\r\n"


def describe(data: bytes) -> str:
    """Sent bytes for people: heads as lines, bodies as their size."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end or b" HTTP/1." not in head:
        return f"> [{len(data)} bytes]"
    lines = [f"> {line}" for line in head.decode("latin-1").split("\r\n")]
    return "\n".join([*lines, *([f"> [{len(body)} bytes]"] if body else [])])


def _connected(url: Url, timeout: float) -> socket.socket:
    """A plain connection; a server that is being started again gets a moment for it."""
    stop = time.monotonic() + min(timeout, RESTARTS_WITHIN)
    while True:
        try:
            return socket.create_connection((url.host, url.port), timeout=timeout)
        except ConnectionRefusedError:
            if time.monotonic() >= stop:
                raise
            time.sleep(0.05)


def _dial(url: Url, timeout: float) -> socket.socket:
    """A connected socket, encrypted for https, that sends every write at once."""
    plain = _connected(url, timeout)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if url.scheme == "http":
        return plain
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=url.host)
    except BaseException:
        plain.close()
        raise


@dataclass(slots=True, kw_only=True)
class _Reading:
    """What was read of an answer so far, kept over time-outs."""

    parser: h11.Connection
    interim: list[int]
    head: h11.Response | None = None
    body: bytearray


class Wire:
    """One connection to the server.

    Args:
        url: Where to connect.
        timeout: How long an answer may take, in seconds.
        deadline: When the case is over, on the monotonic clock.
        record: Told what was sent and what came, for the report.

    Raises:
        Violation: The server does not accept the connection.
    """

    def __init__(
        self,
        url: Url,
        *,
        timeout: float,
        deadline: float,
        record: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.url = url
        self._record = record
        self._timeout = timeout
        self._deadline = deadline
        self._rest = b""
        self._eof = False
        self._reading: _Reading | None = None
        try:
            self._socket = _dial(url, self._left())
        except OSError as error:
            raise Violation(f"a connection to {url.authority}", f"{error}") from error

    def _left(self, wait: float | None = None) -> float:
        """Seconds until this wait has to end; never zero, which would mean not to wait."""
        left = self._deadline - time.monotonic()
        return max(0.001, min(self._timeout if wait is None else wait, left))

    def send(self, data: bytes) -> bool:
        """Writes bytes; stops when the server has already answered or gone.

        Returns:
            False when the server answered or closed before everything was written, which a
            client learns by reading.
        """
        self._record(describe(data))
        view = memoryview(data)
        deadline = time.monotonic() + self._left()
        self._socket.settimeout(self._left())
        while view:
            try:
                sent = self._socket.send(view[:RECEIVE_SIZE])
            except TimeoutError as error:
                raise Silence("the body to be read", "the server reads no more") from error
            except OSError:
                return False
            view = view[sent:]
            if view and (self._readable() or time.monotonic() > deadline):
                return False
        return True

    def _readable(self) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def half_close(self) -> None:
        """Sends FIN and goes on reading.

        Raises:
            NotApplicable: The connection is encrypted: TLS has no half-closed state to rely on.
        """
        if isinstance(self._socket, ssl.SSLSocket):
            raise NotApplicable("a TLS connection cannot be half-closed")
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Sends RST: the connection is gone for both sides at once."""
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()

    def close(self) -> None:
        """Closes the connection; harmless when it is closed already."""
        self._socket.close()

    def read(self, method: str) -> Answer:
        """Reads the next final answer.

        Args:
            method: Of the request it answers; an answer to HEAD has no content.

        Raises:
            Silence: It did not come in time.
            Hangup: The connection ended first.
            Violation: It is not HTTP.
        """
        answer = self._advance(method, until_interim=False, wait=None)
        if answer is None:  # pragma: no cover - only an interim answer gives None
            raise AssertionError("a final answer was asked for")
        return answer

    def read_interim(self, method: str, wait: float | None = None) -> Answer | None:
        """Reads up to the next interim answer, or to the final one.

        Returns:
            None after a 1xx answer (the final one is still to come), else the final answer.
        """
        return self._advance(method, until_interim=True, wait=wait)

    def ended(self, wait: float | None = None) -> bool:
        """True when the server closes its side within the time; bytes before that are kept."""
        return self.drain(wait) is not None

    def drain(self, wait: float | None = None) -> bytes | None:
        """Whatever still comes until the server closes; None when it does not close in time."""
        stop = time.monotonic() + self._left(wait)
        while not self._eof:
            left = stop - time.monotonic()
            if left <= 0:
                return None
            try:
                self._rest += self._receive(left)
            except Silence:
                return None
        return self._rest

    def _receive(self, wait: float | None = None) -> bytes:
        self._socket.settimeout(self._left(wait))
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except TimeoutError as error:
            raise Silence(f"an answer within {self._timeout:g} s", "nothing") from error
        except OSError:
            data = b""
        self._eof = not data
        return data

    def _begin(self, method: str) -> _Reading:
        """A parser that believes it sent the request which this answer is for."""
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        parser.send(h11.EndOfMessage())
        if self._rest:
            parser.receive_data(self._rest)
            self._rest = b""
        if self._eof:
            parser.receive_data(b"")
        return _Reading(parser=parser, interim=[], body=bytearray())

    def _advance(self, method: str, *, until_interim: bool, wait: float | None) -> Answer | None:
        reading = self._reading or self._begin(method)
        self._reading = reading
        try:
            while True:
                event = reading.parser.next_event()
                if event is h11.NEED_DATA:
                    reading.parser.receive_data(self._receive(wait))
                elif isinstance(event, h11.InformationalResponse):
                    reading.interim.append(event.status_code)
                    if until_interim:
                        return None
                elif isinstance(event, h11.Response):
                    reading.head = event
                elif isinstance(event, h11.Data):
                    reading.body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    return self._finish(reading)
                else:
                    raise Hangup("an answer", "the connection was closed without one")
        except h11.RemoteProtocolError as error:
            if self._eof:
                raise Hangup("an answer", "the connection was closed without one") from error
            raise Violation("an answer that is HTTP/1.1", f"what h11 refuses: {error}") from error

    def _finish(self, reading: _Reading) -> Answer:
        assert reading.head is not None
        self._rest = reading.parser.trailing_data[0]
        self._reading = None
        answer = Answer(
            status=reading.head.status_code,
            reason=reading.head.reason.decode("latin-1"),
            fields=tuple(
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in reading.head.headers.raw_items()
            ),
            body=bytes(reading.body),
            interim=tuple(reading.interim),
        )
        self._record("\n".join(f"< {line}" for line in answer.head.splitlines()))
        return answer
