"""HTTP/1.1 as our own server speaks it: uvicorn's protocol class, without its surprises.

The rules:
- A head is read within the limits of `wire.head`.
- While a body has taken the connection over, its bytes do not pass the parser; a fresh parser
  begins behind the last of them, and never before it: that would be request smuggling.
- A client that ends its side behind a whole request still gets the answer.
- A connection that asks for a WebSocket is handed over (`wire.websocket`).
- A connection that asks for nothing is closed after a while. One timer looks at that, and is not
  set anew for each request.
- An application may answer a request whose small body is there at once, as long as nothing is to be
  waited for: `answer_at_once(scope, body)` gives status, headers and body of the answer, or None to
  be called as ever. For a small upload a task, and all that serves to wait, is a third of the work.

Run by uvicorn, also by itself: `uvicorn app:app --http tusd_py.wire.http:HttpProtocol`.
"""

import asyncio
import urllib.parse
import weakref
from functools import partial
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.server import ServerState

from tusd_py.wire.body import WHOLE, SocketBody
from tusd_py.wire.cycle import Cycle
from tusd_py.wire.head import HeadReader, leave
from tusd_py.wire.sendfile import EXTENSIONS
from tusd_py.wire.websocket import build_handshake, is_handshake
from tusd_py.wire.workshop import Workshop

_WHOLE_WITHIN = 0.01
"""Seconds that a small body is waited for."""

_INTERIM: dict[str, Any] = {"http.response.informational": {}}
_FAILED = 500, [(b"Content-Type", b"text/plain; charset=utf-8")], b"Internal Server Error"
_EARLY_SAYS = b"ERR_INVALID_REQUEST: wait for the answer to the handshake, and then send\n"
_SENDFILE: dict[str, Any] = {name: {} for name in EXTENSIONS}

_WORKSHOPS: "weakref.WeakKeyDictionary[ServerState, Workshop]" = weakref.WeakKeyDictionary()


class HttpProtocol(HeadReader):
    """One connection; see the rules above.

    Attributes:
        taker: The body that takes what comes, None for the parser.
        lost: Done when the connection is.
        workshop: Shared with the other connections of this server.
    """

    __slots__ = ("_held", "_held_at", "_idle_since", "_is_half_closed", "lost", "taker")

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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        self.taker: SocketBody | None = None
        self._is_half_closed = False
        self._idle_since = 0.0
        self._held: tuple[Cycle, Any] | None = None
        self._held_at: str | None = None
        super().connection_made(transport)
        self.lost: asyncio.Future[None] = self.loop.create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was let go."""
        self.lost.set_result(None)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._start_held()
        if self.taker is not None:
            self.taker.lost()
        self._forget()

    def _forget(self) -> None:
        """Of what refers to this, at the end: a circle would wait for the garbage collector."""
        self.taker = None
        self.parser = self.cycle = self.scope = None  # type: ignore[assignment]
        self.pipeline.clear()

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
            if self._held is not None and self._held_at is None:
                self._hold(self._held[0].scope["path"])

    def hand_to(self, body: SocketBody) -> None:
        """Gives what comes to a body, until `parse_again`: a parser would wait, of a KiB."""
        self.taker = body
        self.parser = None  # type: ignore[assignment]  # as uvicorn, of a connection that is lost

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

    def on_headers_complete(self) -> None:
        """What comes from now on is the body, or a trailer."""
        if self._is_head_known:
            self._is_head_known = False
            return
        is_old, length = self._end_head()
        self._is_handshake = self._asks_for_socket(is_old)
        if self._is_handshake:
            return
        before, self.cycle = self.cycle, self._begin_cycle(is_old, length)
        self._head_is_complete = True
        app = self._app()
        if before is None or before.response_complete:
            self._start_when_whole(length, app)
        else:
            self.flow.pause_reading()
            self.pipeline.insert(0, (self.cycle, app))

    def _asks_for_socket(self, is_old: bool) -> bool:
        if self.ws_protocol_class is None or not self.parser.should_upgrade():
            return False
        # Behind an answer that is still due, or with a body, it is a request as any other.
        is_alone = not (is_old or self._framing or self._is_busy() or self.pipeline)
        return is_alone and is_handshake(self.parser.get_method(), self.headers)

    def _hand_over(self, is_early: bool) -> None:
        if is_early:
            self._respond(400, _EARLY_SAYS)
            return
        self._unset_keepalive_if_required()
        self.watch(None)
        self.connections.discard(self)
        assert self.ws_protocol_class is not None, "otherwise it was no handshake"
        protocol: Any = self.ws_protocol_class(self.config, self.server_state, self.app_state)  # type: ignore[call-arg]
        protocol.leave = partial(leave, self.workshop.addresses, self._address)
        self._address = ""
        protocol.connection_made(self.transport)
        protocol.data_received(build_handshake(self.url, self.headers))
        self.transport.set_protocol(protocol)
        self._forget()

    def _begin_cycle(self, is_old: bool, length: int | None) -> Cycle:
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        # See the ASGI specification.
        scope: Any = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.0" if is_old else "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": self.parser.get_method().decode("ascii"),
            "root_path": self.root_path,
            "path": self.root_path + (urllib.parse.unquote(path) if "%" in path else path),
            "raw_path": self.root_path.encode("ascii") + url.path,
            "query_string": url.query or b"",
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        self.scope = scope
        return Cycle(
            self,
            scope,
            self._trailers,
            expects_continue=self.expect_100_continue,
            keep_alive=not is_old and self.parser.should_keep_alive(),
            length=length,
        )

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        # What this server can do beyond the core of that specification.
        extensions = {**_INTERIM, "tusd_py.trailers": cycle.trailers}
        if self.scheme == "http":
            extensions.update(_SENDFILE)
            extensions["tusd_py.send"] = cycle.send
            if cycle.length is not None:
                # A body of known length on a plain socket can be taken straight from it.
                extensions["tusd_py.body"] = partial(_make_body, cycle, cycle.length, self.workshop)
        cycle.scope["extensions"] = extensions
        super()._start_asgi_task(cycle, app)

    def _app(self) -> Any:
        most = self.limit_concurrency
        if most is not None and max(len(self.connections), len(self.tasks)) >= most:
            return service_unavailable
        return self.app

    def _start_when_whole(self, length: int | None, app: Any) -> None:
        """Starts the application, for a small body when it has come: most clients send it apart."""
        held = self.workshop.held
        if held and self.scope["method"] != "POST":
            # Whoever asks for an upload comes behind those that have come for it before.
            for start in list(held.get(self.scope["path"], ())):
                start()
        self._held = self.cycle, app
        if length is not None and length > WHOLE:
            # Whoever wants the body reads on; what has come with the head goes through the parser.
            self.flow.pause_reading()
            self._start_held()
        elif length is None or self.expect_100_continue:
            self._start_held()

    def _hold(self, path: str) -> None:
        self._held_at = path
        self.workshop.held.setdefault(path, []).append(self._start_held)
        self.loop.call_later(_WHOLE_WITHIN, self._start_held)

    def _start_held(self) -> None:
        if self._held is None:
            return
        (cycle, app), self._held = self._held, None
        if self._held_at is not None:
            held, path = self.workshop.held, self._held_at
            self._held_at = None
            held[path].remove(self._start_held)
            if not held[path]:
                del held[path]
        if cycle.more_body or not self._is_answered_at_once(cycle, app):
            self._start_asgi_task(cycle, app)

    def _is_answered_at_once(self, cycle: Cycle, app: Any) -> bool:
        answer_at_once = getattr(app, "answer_at_once", None)
        if answer_at_once is None or len(cycle.body) > WHOLE or self.flow.write_paused:
            return False
        try:
            answer = answer_at_once(cycle.scope, bytes(cycle.body))
        except Exception:  # the root of a request
            self.logger.exception("Exception in ASGI application")
            answer = _FAILED
        if answer is None:
            return False
        cycle.answer(*answer)
        return True

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._has_progressed = True
        if not self.cycle.response_complete:
            self.cycle.add(body)

    def on_message_complete(self) -> None:
        """What comes from now on is another request."""
        if self._framing or self._is_handshake:
            return
        self._has_progressed = True
        self._head_is_complete = False
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()
        self._start_held()

    def on_response_complete(self) -> None:
        """The next request is served, if there is one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        if self._is_half_closed and self.cycle.response_complete:
            self.close()
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again_in(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Lets a connection go that asks for nothing; empty lines are nothing."""
        self.timeout_keep_alive_task = None
        if self.transport.is_closing() or self._is_in_head or self._is_busy():
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._look_again_in(left)
        else:
            self.close()

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )


def _make_body(
    cycle: Cycle, length: int, workshop: Workshop, idle_timeout: float, slowest_speed: float
) -> SocketBody | None:
    """The body straight from its socket; None if a middleware has begun to read it."""
    if cycle.is_touched:
        return None
    return SocketBody(
        cycle, length, workshop, idle_timeout=idle_timeout, slowest_speed=slowest_speed
    )
