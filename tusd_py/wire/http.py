"""HTTP/1.1 as our own server speaks it: uvicorn's protocol class, without its surprises.

The rules:
- The parser keeps a head until it ends, and one header or trailer until that ends, and has no limit
  of its own. Bytes that bring neither the end of a head, nor any body, nor the end of a request are
  therefore counted, and are too many above `MAX_HEAD`. A head that ends is measured besides, and
  has to end within `HEAD_WITHIN`.
- A head that is too large is answered with 431, when no other answer is due before it. What the
  client still sends is dropped for a while: to close a socket that has unread bytes resets the
  connection, and can take the answer from the client (RFC 9112, 9.6).
- While a body has taken the connection over, its bytes do not pass the parser; a fresh parser
  begins behind the last of them, and never before it: that would be request smuggling.
- A client that ends its side behind a whole request still gets the answer.

Run by uvicorn, also by itself: `uvicorn app:app --http tusd_py.wire.http:HttpProtocol`.
"""

import asyncio
import contextlib
import urllib.parse
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tusd_py.wire.body import WHOLE, SocketBody
from tusd_py.wire.cycle import Cycle, Flow, Signal, build_head
from tusd_py.wire.sendfile import EXTENSIONS
from tusd_py.wire.workshop import Workshop

MAX_HEAD = 64 * 1024
"""Bytes of a request's line and headers, and of the trailers behind a body."""

MAX_TRAILERS = 8 * 1024
"""Bytes of the trailers that are kept."""

HEAD_WITHIN = 30.0
"""Seconds from the first byte of a head, or from the beginning of a connection, to its end."""

_WHOLE_WITHIN = 0.01
"""Seconds that a small body is waited for."""

_LINGER = 2.0
"""Seconds in which a client that was refused may read the answer."""

_MOST_DROPPED = 1024 * 1024
"""Bytes that are dropped of it meanwhile."""

_TOO_LARGE = (
    f"ERR_HEAD_TOO_LARGE: the request line and the headers have more than {MAX_HEAD} bytes\n"
).encode("ascii")
_TOO_LATE = (
    f"ERR_HEAD_TIMEOUT: the request's head was not complete within {HEAD_WITHIN:.0f} seconds\n"
).encode("ascii")
_UNKNOWN_CODING_SAYS = b"ERR_NOT_IMPLEMENTED: the only transfer coding spoken here is chunked\n"

_SENDFILE: dict[str, Any] = {name: {} for name in EXTENSIONS}

_WORKSHOPS: "weakref.WeakKeyDictionary[ServerState, Workshop]" = weakref.WeakKeyDictionary()


class _HeadTooLarge(Exception):
    """Ends the parser's work on what it was given."""


class _BadHost(Exception):
    """Likewise."""


class _UnknownCoding(Exception):
    """Likewise."""


class HttpProtocol(HttpToolsProtocol):
    """One connection; see the rules above.

    uvicorn puts trailers that came early among the headers of the request. A proxy that checks or
    removes headers does not look at trailers, so what comes there must not pass for one (RFC 9110,
    6.5.1): they are handed over apart, as `scope["extensions"]["tusd_py.trailers"]`.

    Attributes:
        taker: The body that takes what comes, None for the parser.
        lost: Done when the connection is.
        workshop: Shared with the other connections of this server.
    """

    taker: SocketBody | None = None
    cycle: Cycle
    flow: Flow
    _has_begun = False
    _is_in_head = False
    _head_is_complete = False
    _head_size = 0
    _is_refused = False
    _is_coding_unknown = False
    _is_head_known = False
    _framing = b""
    _is_half_closed = False
    _has_progressed = False
    _without_progress = 0
    _dropped = 0
    _held: tuple[Cycle, Any] | None = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        if server_state not in _WORKSHOPS:
            _WORKSHOPS[server_state] = workshop = Workshop(self.loop)
            weakref.finalize(server_state, workshop.close)
        self.workshop = _WORKSHOPS[server_state]
        self.pipeline = []  # type: ignore[assignment]  # an empty deque has 760 bytes
        self._trailers: list[tuple[bytes, bytes]] = []
        self._trailers_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self.flow = Flow(transport)
        self.lost: asyncio.Future[None] = self.loop.create_future()
        self.workshop.set_deadline(self._is_late, HEAD_WITHIN)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was let go."""
        self.lost.set_result(None)
        self.workshop.clear_deadline(self._is_late)
        super().connection_lost(exc)
        self._start_held()
        if self.taker is not None:
            self.taker.lost()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends nothing more; it may still read."""
        is_answered = self.cycle is None or self.cycle.response_complete
        if self._is_refused or is_answered or self.cycle.more_body:
            return None
        self._is_half_closed = True
        return True

    def data_received(self, data: bytes) -> None:
        """Bytes of the client: of a head, a body, trailers, or several of them."""
        if self.taker is not None:
            self.taker.feed(data)
        elif self._is_refused:
            self._drop(len(data))
        else:
            self._parse(data)

    def parse_again(self, rest: bytes) -> None:
        """Ends the body that has taken over, with its last byte.

        Args:
            rest: What came behind it.
        """
        self.taker = None
        if self.transport.is_closing():
            return
        self._begin_parser()
        if rest:
            self.data_received(rest)

    def _begin_parser(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(AttributeError):  # as uvicorn
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _parse(self, data: bytes) -> None:
        self._has_progressed = False
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                # Nothing but HTTP/1.1 is spoken here; what follows is the next request.
                self._has_progressed = True
                rest = rest[upgrade.args[0] :]
                if self._framing:
                    self._parse_body()
                continue
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
            break
        if self._held is not None:
            self.loop.call_later(_WHOLE_WITHIN, self._start_held)
        self._without_progress = 0 if self._has_progressed else self._without_progress + len(data)
        if self._without_progress > MAX_HEAD and not self._is_refused:
            self._refuse()

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
        # Not at the first byte: empty lines before a request would keep the connection for ever.
        self._unset_keepalive_if_required()
        self._has_begun = self._is_in_head = True
        self._head_is_complete = False
        self._head_size = 0
        self.workshop.set_deadline(self._is_late, HEAD_WITHIN)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._head_size += len(url)
        if self._head_size > MAX_HEAD:
            raise _HeadTooLarge
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        if self._head_is_complete:
            self._trailers_size += len(name) + len(value)
            if self._trailers_size <= MAX_TRAILERS:
                self._trailers.append((name.lower(), value))
            return
        self._head_size += len(name) + len(value) + len(b": \r\n")
        if self._head_size > MAX_HEAD:
            raise _HeadTooLarge
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """What comes from now on is the body, or a trailer."""
        if self._is_head_known:
            self._is_head_known = False
            return
        self._has_progressed = True
        self._is_in_head = False
        self.workshop.clear_deadline(self._is_late)
        length = self._check_head()
        self._framing = self._find_framing(length)
        self._describe()
        before, self.cycle = self.cycle, self._begin_cycle()
        self._head_is_complete = True
        self._offer(length)
        app = self._app()
        if before is None or before.response_complete:
            self._start_when_whole(length, app)
        else:
            self.flow.pause_reading()
            self.pipeline.insert(0, (self.cycle, app))

    def _start_when_whole(self, length: int | None, app: Any) -> None:
        """Starts the application, for a small body when it has come: most clients send it apart."""
        held, path = self.workshop.held, self.scope["path"]
        if self.scope["method"] != "POST":
            # Whoever asks for an upload comes behind those that have come for it before.
            for start in list(held.get(path, ())):
                start()
        self._held = self.cycle, app
        if not length or length > WHOLE or self.expect_100_continue:
            self._start_held()
        else:
            held.setdefault(path, []).append(self._start_held)

    def _start_held(self) -> None:
        if self._held is None:
            return
        (cycle, app), self._held = self._held, None
        held, path = self.workshop.held, cycle.scope["path"]
        if self._start_held in held.get(path, ()):
            held[path].remove(self._start_held)
            if not held[path]:
                del held[path]
        self._start_asgi_task(cycle, app)

    def _check_head(self) -> int | None:
        """What RFC 9112 asks of a server, and the parser leaves to it: the body's length."""
        hosts, length = 0, None
        is_old = self.parser.get_http_version() == "1.0"
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                # RFC 9112, 6.1: "SHOULD respond with 501" to a coding that is not understood.
                self._is_coding_unknown = True
                raise _UnknownCoding
        if is_old:
            # RFC 9110, 10.1.1: "MUST ignore that expectation" in an HTTP/1.0 request.
            self.expect_100_continue = False
        elif hosts != 1:
            # RFC 9112, 3.2: "MUST respond with a 400 (Bad Request) status code" without a Host
            # header field, or with more than one.
            raise _BadHost
        return length

    def _find_framing(self, length: int | None) -> bytes:
        """The header that frames a body which the parser passes over, empty if there is none.

        It does so where a request asks for an upgrade, as those of java.net.http do.
        """
        if not self.parser.should_upgrade():
            return b""
        if length:
            return b"Content-Length: %d" % length
        is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        return b"Transfer-Encoding: chunked" if is_chunked else b""

    def _describe(self) -> None:
        """Completes the scope; see the ASGI specification."""
        scope: Any = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = self.parser.get_http_version()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"] = self.root_path + (urllib.parse.unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + url.path
        scope["query_string"] = url.query or b""
        self._trailers, self._trailers_size = [], 0

    def _begin_cycle(self) -> Cycle:
        cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=Signal(),  # type: ignore[arg-type]
            expect_100_continue=self.expect_100_continue,
            keep_alive=self.scope["http_version"] != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        cycle.connection = self
        cycle.trailers = self._trailers
        return cycle

    def _offer(self, length: int | None) -> None:
        """Offers what this server can do beyond the ASGI specification's core."""
        cycle = self.cycle
        extensions: Any = {
            "http.response.informational": {},
            "tusd_py.trailers": self._trailers,
        }
        if self.scheme == "http":
            extensions |= _SENDFILE
            extensions["tusd_py.send"] = cycle.send
            if length is not None:
                extensions["tusd_py.body"] = self._offer_body(length)
        self.scope["extensions"] = extensions

    def _offer_body(self, length: int) -> Callable[[float, float], SocketBody | None]:
        """A body of known length on a plain socket can be taken straight from it."""
        return partial(_make_body, self.cycle, length, self.workshop)

    def _app(self) -> Any:
        most = self.limit_concurrency
        if most is not None and max(len(self.connections), len(self.tasks)) >= most:
            return service_unavailable
        return self.app

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._has_progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """What comes from now on is another request."""
        if self._framing:
            return
        self._has_progressed = True
        self._head_is_complete = False
        super().on_message_complete()
        self._start_held()

    def on_response_complete(self) -> None:
        """The next request is served, if there is one."""
        super().on_response_complete()
        if self._is_in_head:
            self._unset_keepalive_if_required()
        if self._is_half_closed and self.cycle.response_complete and not self.pipeline:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What the parser refuses is answered with 400, and with 431 where it is too large."""
        if self._head_size > MAX_HEAD:
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
        if self._is_refused or self.transport.is_closing():
            return
        if not self._has_begun:  # nothing was asked, so nobody waits for an answer
            self.transport.close()
        elif self.flow.read_paused:  # it may have come; it is not read before what is due is sent
            self.workshop.set_deadline(self._is_late, HEAD_WITHIN)
        elif self._is_busy():
            self._let_go()
        else:
            self._respond(408, _TOO_LATE)

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _let_go(self) -> None:
        """Ends the connection behind the answers that are due: another now would pass for one."""
        self._is_refused = True
        self.cycle.keep_alive = False

    def _refuse(self) -> None:
        self._is_refused = True
        if self._head_is_complete:  # trailers without an end: the request can never be whole
            self.transport.close()
        elif self._is_busy():
            self._let_go()
        else:
            self._respond(431, _TOO_LARGE)

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
        self.loop.call_later(_LINGER, self.transport.close)

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > _MOST_DROPPED:
            self.transport.close()


def _make_body(
    cycle: Cycle, length: int, workshop: Workshop, idle_timeout: float, slowest_speed: float
) -> SocketBody | None:
    """The body straight from its socket; None if a middleware has begun to read it."""
    if cycle.is_touched:
        return None
    return SocketBody(
        cycle, length, workshop, idle_timeout=idle_timeout, slowest_speed=slowest_speed
    )
