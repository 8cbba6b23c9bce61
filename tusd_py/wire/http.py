"""HTTP/1.1 as our own server speaks it: uvicorn's protocol class, without its surprises.

The rules:
- The parser keeps a head until it ends, and one header or trailer until that ends, and has no limit
  of its own. Bytes that bring neither the end of a head, nor any body, nor the end of a request are
  therefore counted, and are too many above `MAX_HEAD`. A head that ends is measured besides.
- A head that is too large is answered with 431, when no other answer is due before it. What the
  client still sends is dropped for a while: to close a socket that has unread bytes resets the
  connection, and can take the answer from the client (RFC 9112, 9.6).
"""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD = 64 * 1024
"""Bytes of a request's line and headers, and of the trailers behind a body."""

_LINGER = 2.0
"""Seconds in which a client that was refused may read the answer."""

_MOST_DROPPED = 1024 * 1024
"""Bytes that are dropped of it meanwhile."""

_TOO_LARGE = (
    f"ERR_HEAD_TOO_LARGE: the request line and the headers have more than {MAX_HEAD} bytes\n"
).encode("ascii")


class _HeadTooLarge(Exception):
    """Ends the parser's work on what it was given."""


class HttpProtocol(HttpToolsProtocol):
    """Bounds heads and trailers, and drops the trailers.

    uvicorn puts trailers that came early among the headers of the request. A proxy that checks or
    removes headers does not look at trailers, so what comes there must not pass for one (RFC 9110,
    6.5.1).
    """

    _head_is_complete = False
    _head_size = 0
    _is_refused = False
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
        super().on_headers_complete()

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
            self._send_431_response()

    def _send_431_response(self) -> None:
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(_TOO_LARGE)),
            (b"connection", b"close"),
        ]
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(b"%s%s\r\n%s" % (STATUS_LINE[431], lines, _TOO_LARGE))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER, self.transport.close)

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > _MOST_DROPPED:
            self.transport.close()
