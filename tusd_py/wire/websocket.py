"""A connection that becomes a WebSocket: uvicorn's protocol class, and how it gets there.

The rules:
- What does not ask for a WebSocket in every way that RFC 6455, 4.2.1 names is a request like any
  other, and what follows it is the next one.
- The client "MUST wait for a response from the server before sending any further data" (4.1): what
  comes behind a handshake at once is refused, and what comes before the answer is not read.
- Whoever does not answer a ping, or does not take the last that is sent, is let go in the end.
- The connection counts for its address as long as it lasts.

uvicorn, pinned to tested versions, speaks the protocol by way of the library websockets.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MAX_MESSAGE = 64 * 1024
"""Bytes of a message of a client."""

_LINGER = 15.0
"""Seconds for the last that is sent; uvicorn waits ten of them for the client's own end."""

Headers = Iterable[tuple[bytes, bytes]]


def is_handshake(method: bytes, headers: Headers) -> bool:
    """Whether a request asks for a WebSocket; its names are in lower case."""
    sent = dict(headers)
    upgrade = sent.get(b"upgrade", b"").strip().lower()
    has_key = {b"sec-websocket-key", b"sec-websocket-version"} <= sent.keys()
    return method == b"GET" and upgrade == b"websocket" and has_key


def build_handshake(target: bytes, headers: Headers) -> bytes:
    """The request as it came, for whoever reads it next."""
    lines = (b"%b: %b\r\n" % header for header in headers)
    return b"GET %b HTTP/1.1\r\n%b\r\n" % (target, b"".join(lines))


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection; see the rules above.

    Attributes:
        leave: Called when it is lost.
    """

    leave: Callable[[], None]
    _is_lost = False
    _last: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The request has been read, and nothing else."""
        super().connection_made(transport)
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """At first the request, and frames later."""
        super().data_received(data)
        if not self.handshake_initiated:  # it is not as websockets wants it
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    async def send(self, message: Any) -> None:
        """See the ASGI specification."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            # uvicorn takes a refusal that has a body for none, and complains in the log.
            self.handshake_complete = self.handshake_complete or not message.get("more_body")
        if message["type"] == "websocket.accept" and not self.transport.is_closing():
            self.transport.resume_reading()

    def on_task_complete(self, task: "asyncio.Task[None]") -> None:
        """The application has ended, and so does the connection."""
        super().on_task_complete(task)
        self._let_go()

    def keepalive_timeout(self) -> None:
        """A ping was not answered."""
        super().keepalive_timeout()
        self._let_go()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was let go."""
        super().connection_lost(exc)
        self._is_lost = True
        if self._last is not None:
            self._last.cancel()
        self.leave()

    def _let_go(self) -> None:
        # An orderly end waits for a client that takes nothing, as long as its machine is there.
        if self._last is None and not self._is_lost:
            self._last = self.loop.call_later(_LINGER, self.transport.abort)
