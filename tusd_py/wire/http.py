"""HTTP/1.1 as our own server speaks it: uvicorn's protocol class, without its surprises.

The rules:
- The parser keeps a head until it ends, and one header or trailer until that ends, and has no limit
  of its own. Bytes that bring neither the end of a head, nor any body, nor the end of a request are
  therefore counted, and are too many above `MAX_HEAD`. A head that ends is measured besides.
- A head that is too large is answered with 431, when no other answer is due before it. What the
  client still sends is dropped for a while: to close a socket that has unread bytes resets the
  connection, and can take the answer from the client (RFC 9112, 9.6).
"""

from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

MAX_HEAD = 64 * 1024
"""Bytes of a request's line and headers, and of the trailers behind a body."""

_LINGER = 2.0
"""Seconds in which a client that was refused may read the answer."""

_MOST_DROPPED = 1024 * 1024
"""Bytes that are dropped of it meanwhile."""

_TOO_LARGE = (
    f"ERR_HEAD_TOO_LARGE: the request line and the headers have more than {MAX_HEAD} bytes\n"
).encode("ascii")


_UNKNOWN_CODING_SAYS = b"ERR_NOT_IMPLEMENTED: the only transfer coding spoken here is chunked\n"


class _HeadTooLarge(Exception):
    """Ends the parser's work on what it was given."""


class _BadHost(Exception):
    """Likewise."""


class _UnknownCoding(Exception):
    """Likewise."""


class HttpProtocol(HttpToolsProtocol):
    """Bounds heads and trailers, and drops the trailers.

    uvicorn puts trailers that came early among the headers of the request. A proxy that checks or
    removes headers does not look at trailers, so what comes there must not pass for one (RFC 9110,
    6.5.1).
    """

    _head_is_complete = False
    _head_size = 0
    _is_refused = False
    _is_coding_unknown = False
    _has_progressed = False
    _without_progress = 0
    _dropped = 0

    def data_received(self, data: bytes) -> None:
        """Bytes of the client: of a head, a body, trailers, or several of them."""
        if self._is_refused:
            self._drop(len(data))
            return
        self._has_progressed = False
        super().data_received(data)
        self._without_progress = 0 if self._has_progressed else self._without_progress + len(data)
        if self._without_progress > MAX_HEAD and not self._is_refused:
            self._refuse()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head_is_complete = False
        self._head_size = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._measure(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        if not self._head_is_complete:
            self._measure(len(name) + len(value) + len(b": \r\n"))
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """What comes from now on is the body, or a trailer."""
        self._head_is_complete = self._has_progressed = True
        self._check_head()
        super().on_headers_complete()
        self.cycle.receive = _receive_all(self.cycle)  # type: ignore[method-assign, assignment]

    def _check_head(self) -> None:
        """What RFC 9112 asks of a server, and the parser leaves to it."""
        names = [name for name, _ in self.headers]
        if self.parser.get_http_version() == "1.0":
            # RFC 9110, 10.1.1: "MUST ignore that expectation" in an HTTP/1.0 request.
            self.expect_100_continue = False
        elif names.count(b"host") != 1:
            # RFC 9112, 3.2: "MUST respond with a 400 (Bad Request) status code" without a Host
            # header field, or with more than one.
            raise _BadHost
        for name, value in self.headers:
            if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                # RFC 9112, 6.1: "SHOULD respond with 501" to a coding that is not understood.
                self._is_coding_unknown = True
                raise _UnknownCoding

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._has_progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """What comes from now on is another request."""
        self._has_progressed = True
        self._head_is_complete = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What the parser refuses is answered with 400, and with 431 where it is too large."""
        if self._head_size > MAX_HEAD:
            self._refuse()
        elif self._is_coding_unknown:
            self._respond(501, _UNKNOWN_CODING_SAYS)
        else:
            super().send_400_response(msg)

    def _measure(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD:
            raise _HeadTooLarge

    def _refuse(self) -> None:
        self._is_refused = True
        if self._head_is_complete:  # trailers without an end: the request can never be whole
            self.transport.close()
        elif self.cycle is not None and not self.cycle.response_complete:
            # A 431 now would pass for the answer to the request before.
            self.cycle.keep_alive = False
        else:
            self._respond(431, _TOO_LARGE)

    def _respond(self, status: int, body: bytes) -> None:
        """Answers before any application is asked, and lets the connection go."""
        self._is_refused = True
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(b"%s%s\r\n%s" % (STATUS_LINE[status], lines, body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER, self.transport.close)

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > _MOST_DROPPED:
            self.transport.close()


def _receive_all(cycle: RequestResponseCycle) -> Callable[[], Awaitable[Any]]:
    """`receive` of a request, which also gives what came just before the client went away.

    uvicorn drops what it has read, but what was not received yet, when the connection is lost.
    """
    receive = cycle.receive
    is_whole = False

    async def receive_all() -> Any:
        nonlocal is_whole
        message: Any = await receive()
        left = cycle.body or (not cycle.more_body and not is_whole)
        if message["type"] == "http.disconnect" and not cycle.response_complete and left:
            body, cycle.body = bytes(cycle.body), bytearray()
            message = {"type": "http.request", "body": body, "more_body": cycle.more_body}
        if message["type"] == "http.request":
            is_whole = not message["more_body"]
        return message

    return receive_all
