"""One request and its response: uvicorn's cycle, with what our connections can do besides.

The rules:
- Names of response headers go out in their canonical case: some clients look them up by it.
- What came just before the client went away is still received.
- While a body has taken the connection over, only the body lets the loop read.
"""

import asyncio
import fcntl
import functools
import os
import re
import sys
import termios
from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    STATUS_LINE,
    RequestResponseCycle,
)
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from tusd_py.wire.body import SocketBody
from tusd_py.wire.sendfile import EXTENSIONS, answer

if TYPE_CHECKING:
    from tusd_py.wire.http import HttpProtocol

Message = MutableMapping[str, Any]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CONTROLS = bytes({*range(0x20), 0x7F} - {ord("\t")})
_FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})
_ODD_NAMES = {b"etag": b"ETag", b"www-authenticate": b"WWW-Authenticate"}
_SIGNED = re.compile(r"(?<=[?&]tus-signed=)[^&]*")
"""What lets in whoever has it, and so is no matter for a log; see `auth/signed.py`."""

_ENDED: Any = {"method": "", "http_version": "1.1"}
"""The scope of a request that has ended."""


class Signal:
    """An `asyncio.Event` in a tenth of its memory, as there are three for every connection."""

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: list[asyncio.Future[None]] | None = None

    def is_set(self) -> bool:
        """See `asyncio.Event`."""
        return self._is_set

    def set(self) -> None:
        """See `asyncio.Event`."""
        self._is_set = True
        if self._waiters is None:
            return
        waiters, self._waiters = self._waiters, None
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        """See `asyncio.Event`."""
        self._is_set = False

    async def wait(self) -> bool:
        """See `asyncio.Event`."""
        if not self._is_set:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters = [*(self._waiters or ()), waiter]
            await waiter
        return True


class Flow(FlowControl):
    """Whether the loop reads; not while its socket is borrowed."""

    is_borrowed = False

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = self.write_paused = False
        self._is_writable_event = Signal()  # type: ignore[assignment]
        self._is_writable_event.set()

    def pause_reading(self) -> None:
        """Reads nothing, until `resume_reading`."""
        if not self._transport.is_closing():
            super().pause_reading()

    def resume_reading(self) -> None:
        """Reads again, unless the socket is borrowed."""
        if self.read_paused and not self.is_borrowed and not self._transport.is_closing():
            super().resume_reading()


class Cycle(RequestResponseCycle):
    """See uvicorn; also the source of a `SocketBody`.

    Args:
        connection: Where the request came.
        scope: See the ASGI specification; let go of in the end, as it refers to this.
        trailers: What comes behind the body; filled later.
        expects_continue: Whether the client waits for `100 (Continue)`.
        keep_alive: Whether the connection may go on behind the response.
        length: Bytes of the body, None if not announced.

    Attributes:
        body: What was read and not received yet; a `bytearray` if it came in several pieces.
        is_touched: Whether somebody has received a part of the body.
    """

    flow: Flow
    body: bytes | bytearray  # type: ignore[assignment]
    disconnected = False
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding: bool | None = None
    expected_content_length = 0
    is_touched = False
    _is_whole_taken = False
    _ends_with_connection = False

    def __init__(
        self,
        connection: "HttpProtocol",
        scope: Any,
        trailers: list[tuple[bytes, bytes]],
        *,
        expects_continue: bool,
        keep_alive: bool,
        length: int | None,
    ) -> None:
        # As in uvicorn, but for what can be looked up in the class.
        self.connection = connection
        self.scope = scope
        self.trailers = trailers
        self.transport = connection.transport
        self.flow = connection.flow
        self.logger = connection.logger
        self.message_event = Signal()  # type: ignore[assignment]
        self.on_response = connection.on_response_complete
        self.keep_alive = keep_alive
        self.length = length
        self.waiting_for_100_continue = expects_continue
        self.body = b""

    async def run_asgi(self, app: Any) -> None:
        """See uvicorn, which takes for an error that a server which ends waits no longer."""

        async def until_cancelled(*given: Any) -> None:
            try:
                await app(*given)
            except asyncio.CancelledError:
                # The client must not take for whole what it has, nor a refusal for an answer.
                self.disconnected = True
                self.transport.abort()

        try:
            await super().run_asgi(until_cancelled)
        finally:
            # What refers to each other in a circle waits for the garbage collector.
            self.scope = _ENDED

    def add(self, data: bytes) -> None:
        """Takes what was read of the body."""
        if not self.body:
            self.body = data
        elif isinstance(self.body, bytearray):
            self.body += data
        else:
            self.body = bytearray(self.body) + data
        if len(self.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.message_event.set()

    @property
    def is_whole(self) -> bool:
        """See `Source.is_whole`."""
        return not self.more_body

    @property
    def waiting(self) -> int:
        """See `Source.waiting`."""
        return len(self.body)

    @property
    def ready(self) -> int:
        """See `Source.ready`."""
        if self.transport.is_closing():
            return 0
        try:
            descriptor = self.transport.get_extra_info("socket").fileno()
            count = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
        except OSError:
            return 0
        return int.from_bytes(count, sys.byteorder)

    def take_over(self, body: SocketBody) -> tuple[bytes | bytearray, bool]:
        """See `Source.take_over`."""
        if self.is_touched:
            # What is left would be stored where the beginning belongs.
            self.logger.error("nothing is stored of a body of which a middleware received a part")
            self.transport.close()
            return b"", True
        self._invite()
        data, self.body = self.body, b""
        if self.more_body and not self.disconnected:
            self.connection.hand_to(body)
        return data, self.disconnected

    def give_back(self, rest: bytes) -> None:
        """See `Source.give_back`."""
        self.more_body = False
        self.message_event.set()
        self.connection.parse_again(rest)

    def pause(self) -> None:
        """See `Source.pause`."""
        self.flow.pause_reading()

    def resume(self) -> None:
        """See `Source.resume`."""
        self.flow.resume_reading()

    def borrow(self) -> int | None:
        """See `Source.borrow`."""
        if self.transport.is_closing():
            return None
        try:
            borrowed = os.dup(self.transport.get_extra_info("socket").fileno())
        except OSError:  # no descriptor is free: the loop reads on
            return None
        self.hold()
        return borrowed

    def hold(self) -> None:
        """See `Source.hold`."""
        self.flow.pause_reading()
        self.flow.is_borrowed = True

    def take_some(self, at_most: int) -> bytes | None:
        """See `Source.take_some`."""
        if self.transport.is_closing():
            return b""
        try:
            return os.read(self.transport.get_extra_info("socket").fileno(), at_most)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def restore(self) -> None:
        """See `Source.restore`."""
        self.flow.is_borrowed = False
        self.flow.resume_reading()

    async def receive(self) -> Any:
        """See the ASGI specification.

        What was read comes before the news that the client is gone.
        """
        self._invite()
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        left = self.body or (not self.more_body and not self._is_whole_taken)
        if self.response_complete or (self.disconnected and not left):
            return {"type": "http.disconnect"}
        self.is_touched = True
        self._is_whole_taken = not self.more_body
        body, self.body = bytes(self.body), b""
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Any) -> None:
        """See the ASGI specification, and its extensions."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        kind = message["type"]
        if self.disconnected:
            return
        if kind == "http.response.informational" and not self.response_started:
            self._send_interim(message)
        elif kind == "http.response.start" and not self.response_started:
            self._send_head(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self.response_started and not self.response_complete:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        elif kind in EXTENSIONS and self.response_started and not self.response_complete:
            await self._send_file(message)
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r} at this point of the response")

    def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Sends a whole response to a request that nobody has begun to serve."""
        self.body = b""
        try:
            if self._is_bodiless(status):
                body = b""
            else:
                headers = [*headers, (b"Content-Length", b"%d" % len(body))]
            self.transport.write(self._begin(status, headers) + body)
            self.expected_content_length = 0
            self._end()
        finally:
            self.scope = _ENDED

    def _invite(self) -> None:
        """Says that the client should send its body, if it waits for that."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(_CONTINUE)
        self.waiting_for_100_continue = False

    def _send_interim(self, message: Message) -> None:
        if self.scope["http_version"] == "1.0":
            return  # RFC 9110, 15.2: "MUST NOT send a 1xx response to an HTTP/1.0 client"
        head = build_head(message["status"], message.get("headers", ()))
        self.transport.write(head + b"\r\n")

    def _send_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.transport.write(self._begin(status, headers))

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The head of the response, from which on it has started."""
        headers = (*self.connection.server_state.default_headers, *headers)
        # It raises before anything is noted, so that the 500 that follows is a response of its own.
        head, framing = _build_head(status, headers)
        says_close = False
        for name, value in framing:
            says_close |= self._note(name, value)
        if self.chunked_encoding is None and not self._is_bodiless(status):
            # RFC 9112, 6.1: "MUST NOT send a response containing Transfer-Encoding unless the
            # corresponding request indicates HTTP/1.1".
            self.chunked_encoding = self.scope["http_version"] != "1.0"
            if self.chunked_encoding:
                head += b"Transfer-Encoding: chunked\r\n"
            else:
                self._ends_with_connection, self.expected_content_length = True, sys.maxsize
        if not self.keep_alive and not says_close:
            head += b"Connection: close\r\n"
        self.response_started = True
        self.waiting_for_100_continue = False
        if self.connection.access_log:
            self._log(status)
        return head + b"\r\n"

    def _note(self, framing: bytes, value: bytes) -> bool:
        """Takes in what a header means for this connection: whether it says `close`."""
        if framing == b"content-length" and self.chunked_encoding is None:
            self.expected_content_length = int(value)
            self.chunked_encoding = False
        elif framing == b"transfer-encoding" and value.lower() == b"chunked":
            self.expected_content_length = 0
            self.chunked_encoding = True
        elif framing == b"connection" and b"close" in value.lower().replace(b" ", b"").split(b","):
            self.keep_alive = False
            return True
        return False

    def _is_bodiless(self, status: int) -> bool:
        return self.scope["method"] == "HEAD" or status in (204, 304)

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        elif self.chunked_encoding:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self.transport.write(chunk if more else chunk + b"0\r\n\r\n")
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the response is longer than its Content-Length")
            if body:
                self.transport.write(body)
        if not more:
            self._end()

    async def _send_file(self, message: Message) -> None:
        connection = self.connection
        threads = connection.workshop.threads
        more = await answer(
            self, message, lost=connection.lost, threads=threads, watch=connection.watch
        )
        if not self.disconnected:
            self._send_body(b"", more=more)

    def _end(self) -> None:
        if self.expected_content_length and not self._ends_with_connection:
            raise RuntimeError("the response is shorter than its Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.connection.close()
        self.on_response()

    def _log(self, status: int) -> None:
        scope = self.scope
        self.connection.access_logger.info(
            '%s - "%s %s HTTP/%s" %d',
            get_client_addr(scope),
            scope["method"],
            _SIGNED.sub("...", get_path_with_query_string(scope)),
            scope["http_version"],
            status,
        )


def build_head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The status line and the headers, without the empty line behind them."""
    return _build_head(status, headers)[0]


def _build_head(
    status: int, headers: Iterable[tuple[bytes, bytes]]
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """As `build_head`, and those of the headers that frame the body, names in lower case."""
    parts, framing = [STATUS_LINE[status][:-2]], []
    for name, value in headers:
        begin, framed_by = _known(name)
        parts += begin, value
        if framed_by is not None:
            framing.append((framed_by, value))
    head = b"".join(parts) + b"\r\n"
    # Each line ends with two control characters, and has no other.
    if len(head) - len(head.translate(None, _CONTROLS)) != len(parts) + 1:
        raise RuntimeError("a response header has an invalid value")
    return head, framing


@functools.lru_cache(maxsize=256)
def _known(name: bytes) -> tuple[bytes, bytes | None]:
    """How a header goes on behind the line before it, and its name in lower case if it frames the
    body.

    The name is written as in the specifications where an application says it in lower case.
    """
    if not name or HEADER_RE.search(name):
        raise RuntimeError(f"a response header has an invalid name: {name!r}")
    written = _ODD_NAMES.get(name) or (name.title() if name.islower() else name)
    framing = name.lower()
    return b"\r\n" + written + b": ", framing if framing in _FRAMING else None
