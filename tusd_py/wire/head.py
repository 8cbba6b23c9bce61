"""The head of a request: read within its limits, or refused.

The rules:
- The parser keeps a head until it ends, and one header or trailer until that ends, and has no limit
  of its own. Bytes that bring neither the end of a head, nor any body, nor the end of a request are
  therefore counted, and are too many above `max_head` (`wire.limits`). A head that ends is measured
  besides, and has to end within `head_within`.
- A head that is too large is answered with 431, when no other answer is due before it. What the
  client still sends is dropped for a while: to close a socket that has unread bytes resets the
  connection, and can take the answer from the client (RFC 9112, 9.6).
- One connection too many is closed without an answer: that would cost what is to be saved, and
  where the client asks with a HEAD, tus-js-client takes an error for the end of the upload.
"""

import asyncio
import contextlib
from itertools import chain

import httptools

from tusd_py.wire.cycle import Cycle, Flow, build_head
from tusd_py.wire.patience import Patient

MAX_TRAILERS = 8 * 1024
"""Bytes of the trailers that are kept."""

_LINGER = 2.0
"""Seconds in which a client that was refused may read the answer."""

_MOST_DROPPED = 1024 * 1024
"""Bytes that are dropped of it meanwhile."""

_LOOKED_AT = frozenset({b"host", b"content-length", b"expect", b"transfer-encoding"})
_UNKNOWN_CODING_SAYS = b"ERR_NOT_IMPLEMENTED: the only transfer coding spoken here is chunked\n"


class _HeadTooLarge(Exception):
    """Ends the parser's work on what it was given."""


class _BadHost(Exception):
    """Likewise."""


class _UnknownCoding(Exception):
    """Likewise."""


class HeadReader(Patient):
    """What a connection does before there is a request; see the rules above.

    uvicorn puts trailers that came early among the headers of the request. A proxy that checks or
    removes headers does not look at trailers, so what comes there must not pass for one (RFC 9110,
    6.5.1): they are kept apart.
    """

    __slots__ = (
        "_address",
        "_dropped",
        "_framing",
        "_has_begun",
        "_has_progressed",
        "_head_is_complete",
        "_head_size",
        "_is_coding_unknown",
        "_is_handshake",
        "_is_head_known",
        "_is_in_head",
        "_is_refused",
        "_is_timed",
        "_trailers",
        "_trailers_size",
        "_without_progress",
    )

    cycle: Cycle
    flow: Flow

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        self._address = ""
        self._framing = b""
        self._has_begun = self._is_in_head = self._is_timed = self._head_is_complete = False
        self._is_refused = self._is_coding_unknown = self._is_head_known = False
        self._is_handshake = self._has_progressed = False
        self._head_size = self._without_progress = self._dropped = self._trailers_size = 0
        self._trailers: list[tuple[bytes, bytes]] = []
        super().connection_made(transport)
        self.flow = Flow(transport)
        self._set_deadline()
        if (limit := self._admit()) is not None:
            self._is_refused = True
            self.limits.refused(limit)
            transport.abort()

    def _admit(self) -> str | None:
        """Counts the connection, or tells the limit that it is beyond."""
        limits, addresses = self.limits, self.workshop.addresses
        if limits.most is not None and len(self.connections) > limits.most:
            return "connections"
        if limits.most_per_address is None or self.client is None:
            return None
        address = limits.address_of(self.client[0])
        count = addresses.get(address, 0)
        if not address:
            return None
        if count >= limits.most_per_address:
            return "connections-per-address"
        addresses[address] = count + 1
        self._address = address
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was let go."""
        self._clear_deadline()
        leave(self.workshop.addresses, self._address)
        super().connection_lost(exc)

    def _set_deadline(self) -> None:
        self._is_timed = True
        self.workshop.set_deadline(self._is_late, self.limits.head_within)

    def _clear_deadline(self) -> None:
        if self._is_timed:
            self._is_timed = False
            self.workshop.clear_deadline(self._is_late)

    def _begin_parser(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(AttributeError):  # as uvicorn
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _parse(self, data: bytes) -> None:
        self._has_progressed = False
        rest: bytes | memoryview = data
        while rest:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                self._has_progressed = True
                rest = memoryview(rest)[upgrade.args[0] :]
                if self._is_handshake:
                    self._hand_over(bool(rest))
                    return
                # Nothing else is spoken here; what follows is the next request.
                if self._framing:
                    self._parse_body()
                continue
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
            break
        if self._has_progressed:
            self._without_progress = 0
        else:
            self._without_progress += len(data)
            if self._without_progress > self.limits.max_head and not self._is_refused:
                self._refuse()
        if self._is_in_head and not self._is_timed:
            self._set_deadline()

    def _hand_over(self, is_early: bool) -> None:
        """Makes the connection a WebSocket.

        Args:
            is_early: Whether the client has sent more than its handshake.
        """
        raise NotImplementedError

    def _parse_body(self) -> None:
        """Lets a parser read the body that the last one would have taken for the next request."""
        framing, self._framing = self._framing, b""
        self._begin_parser()
        self._is_head_known = True
        self.parser.feed_data(b"PATCH / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        self._trailers.clear()
        self._trailers_size = 0

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._is_head_known:
            return
        self._has_begun = self._is_in_head = True
        self._head_is_complete = False
        self._head_size = 0
        self.url = b""
        self.headers = []
        if self._is_timed:  # since the beginning of the connection
            self._set_deadline()

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._head_size += len(url)
        if self._head_size > self.limits.max_head:
            raise _HeadTooLarge
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        if self._head_is_complete:
            self._trailers_size += len(name) + len(value)
            if self._trailers_size <= MAX_TRAILERS:
                self._trailers.append((name.lower(), value))
            return
        self.headers.append((name.lower(), value))

    def _end_head(self) -> tuple[bool, int | None]:
        """What RFC 9112 asks of a server, and the parser leaves to it.

        Returns:
            Whether the request is of HTTP/1.0, and the length of its body, None if not announced.
        """
        headers = self.headers
        self._head_size += sum(map(len, chain.from_iterable(headers)))
        self._head_size += 4 * len(headers)  # with b": \r\n"
        if self._head_size > self.limits.max_head:
            raise _HeadTooLarge
        self._has_progressed = True
        self._is_in_head = False
        self._clear_deadline()
        self._trailers, self._trailers_size = [], 0
        self.expect_100_continue = False
        hosts, length = 0, None
        for name, value in [header for header in headers if header[0] in _LOOKED_AT]:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                length = int(value)
            elif name == b"expect":
                self.expect_100_continue |= value.lower() == b"100-continue"
            elif value.strip().lower() != b"chunked":
                # RFC 9112, 6.1: "SHOULD respond with 501" to a coding that is not understood.
                self._is_coding_unknown = True
                raise _UnknownCoding
        is_old: bool = self.parser.get_http_version() == "1.0"
        if is_old:
            # RFC 9110, 10.1.1: "MUST ignore that expectation" in an HTTP/1.0 request.
            self.expect_100_continue = False
        elif hosts != 1:
            # RFC 9112, 3.2: "MUST respond with a 400 (Bad Request) status code" without a Host
            # header field, or with more than one.
            raise _BadHost
        self._framing = self._find_framing(length) if self.parser.should_upgrade() else b""
        return is_old, length

    def _find_framing(self, length: int | None) -> bytes:
        """The header that frames a body which the parser passes over, empty if there is none.

        It does so where a request asks for an upgrade, as those of java.net.http do.
        """
        if length:
            return b"Content-Length: %d" % length
        is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        return b"Transfer-Encoding: chunked" if is_chunked else b""

    def send_400_response(self, msg: str) -> None:
        """What the parser refuses is answered with 400, and with 431 where it is too large."""
        if self._head_size > self.limits.max_head:
            self._refuse()
        elif self._is_busy() and (self.pipeline or not self._head_is_complete):
            self._let_go()
        elif self._head_is_complete:  # a body that is broken: whoever reads it hears of the end
            if self.cycle.response_started:
                self.transport.close()
            else:
                super().send_400_response(msg)
        elif self._is_coding_unknown:
            self._respond(501, _UNKNOWN_CODING_SAYS)
        else:
            self._respond(400, msg.encode("ascii"))

    def _is_late(self) -> None:
        """The head did not come in time."""
        self._is_timed = False
        if self._is_refused or self.transport.is_closing():
            return
        if not self._has_begun:  # nothing was asked, so nobody waits for an answer
            self.transport.close()
        elif self.flow.read_paused:  # it may have come; it is not read before what is due is sent
            self._set_deadline()
        elif self._is_busy():
            self.limits.refused("head-time")
            self._let_go()
        else:
            self.limits.refused("head-time")
            within = self.limits.head_within
            says = (
                f"ERR_HEAD_TIMEOUT: the request's head was not complete within {within:g} seconds"
            )
            self._respond(408, says.encode("ascii") + b"\n")

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _let_go(self) -> None:
        """Ends the connection behind the answers that are due: another now would pass for one."""
        self._is_refused = True
        self.cycle.keep_alive = False

    def _refuse(self) -> None:
        self._is_refused = True
        self.limits.refused("head-size")
        if self._head_is_complete:  # trailers without an end: the request can never be whole
            self.transport.close()
        elif self._is_busy():
            self._let_go()
        else:
            says = (
                "ERR_HEAD_TOO_LARGE: the request line and the headers have more than "
                f"{self.limits.max_head} bytes\n"
            )
            self._respond(431, says.encode("ascii"))

    def _respond(self, status: int, body: bytes) -> None:
        """Answers before any application is asked, and lets the connection go."""
        self._is_refused = True
        headers = [
            *self.server_state.default_headers,
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Connection", b"close"),
        ]
        self.transport.write(build_head(status, headers) + b"\r\n" + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER, self.close)

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > _MOST_DROPPED:
            self.transport.close()


def leave(addresses: dict[str, int], address: str) -> None:
    """Counts one connection less of an address; none for an empty one."""
    if address:
        addresses[address] -= 1
        if not addresses[address]:
            del addresses[address]
