"""What every request has, whatever it asks for: an id, its limit, its errors, a trace, a log line.

The rules:
- A request is counted once: for its principal, or for its address where that is not known. `HEAD`
  and `OPTIONS` are not counted: after a refused `HEAD` tus-js-client begins anew, and after a
  refused preflight never.
- Whatever is raised becomes an answer; a defect says nothing of itself to the client.
- How it ended is told to the observers and to the log, once.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

import anyio
from starlette.types import Receive, Scope, Send

from tusd_py.asgi.body import MakeBody, ReceiveBody, RequestBody
from tusd_py.asgi.callers import Callers, ask
from tusd_py.asgi.rates import Rates
from tusd_py.asgi.request_log import find_request_id, log
from tusd_py.asgi.responding import Exchange
from tusd_py.asgi.settings import HttpSettings
from tusd_py.engine.services import Services
from tusd_py.hooks.events import LimitReached, RequestEnded
from tusd_py.hooks.interface import Access
from tusd_py.protocol.cors import build_cors_headers, build_preflight_headers
from tusd_py.protocol.errors import Header, TooManyRequests, TusError, UploadLocked
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.headers import Headers

logger = logging.getLogger("tusd_py")

Serve = Callable[[Exchange], Awaitable[None]]
"""Answers a request, or raises."""

NO_STORE: tuple[Header, ...] = (("Cache-Control", "no-store"),)

_METHODS = frozenset({"OPTIONS", "HEAD", "PATCH", "POST", "DELETE", "GET", "PUT"})


class InternalError(TusError):
    """A defect of this server, or of the application's functions; it is in the log."""

    code, status = "ERR_INTERNAL_SERVER_ERROR", 500

    def __str__(self) -> str:
        return "the server met an error of its own, which is in its log; try again"


class Frame:
    """Serves requests; see the rules above.

    Args:
        services: What the engine works with.
        settings: How requests are read and answered.

    Attributes:
        callers: Who asks.
        rates: How often each may; None for no limit.
    """

    def __init__(self, services: Services, settings: HttpSettings) -> None:
        self._services = services
        self._settings = settings
        self.callers = Callers(services, settings)
        self.rates = None if settings.max_requests is None else Rates(settings.max_requests)
        self._under_way = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def idle(self, within: float) -> bool:
        """Waits until no request is under way, at most some seconds: whether that is so."""
        with anyio.move_on_after(within):
            await self._is_idle.wait()
        return self._is_idle.is_set()

    async def run(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        serve: Serve,
        upload_id: str | None = None,
        extra: tuple[Header, ...] = (),
    ) -> None:
        """Serves one request.

        Args:
            scope: Of an ASGI `http` connection.
            receive: Likewise.
            send: Likewise.
            serve: What answers it.
            upload_id: As the URL has it, if it is for an upload.
            extra: Headers that go on any answer, besides those for pages of other origins.
        """
        if not self._under_way:
            self._is_idle.clear()
        self._under_way += 1
        trace, headers = self._services.trace, scope["headers"]
        try:
            with (
                nullcontext()
                if trace is None
                else trace(scope["method"], scope["path"], upload_id, headers)
            ):
                await self._run(self._exchange(scope, receive, send, upload_id, extra), serve)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._is_idle.set()

    def _exchange(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        upload_id: str | None,
        extra: tuple[Header, ...],
    ) -> Exchange:
        headers = Headers(scope["headers"])
        body = self._body(scope, receive)
        exchange = Exchange(scope, receive, send, body, headers, find_request_id(headers))
        exchange.extra = (*build_cors_headers(self._settings.cors, headers), *extra)
        exchange.upload_id = upload_id or ""
        return exchange

    async def _run(self, exchange: Exchange, serve: Serve) -> None:
        begun = time.monotonic()
        try:
            try:
                await serve(exchange)
            except TusError:
                # Also what was refused before it was known whose it is.
                self.count(exchange)
                raise
        except TusError as error:
            if error.limit:
                self._services.observe(LimitReached(limit=error.limit))
            await exchange.refuse(error, is_head=exchange.method == "HEAD")
        except Exception:  # the root of a request
            logger.exception("request %s failed", exchange.request_id)
            is_head = exchange.method == "HEAD"
            said = UploadLocked(exchange.upload_id) if is_head else InternalError()
            await exchange.refuse(said, is_head=is_head)
        path, method, status = exchange.scope["path"], exchange.method, exchange.status
        code = "" if exchange.refusal is None else exchange.refusal.code
        self.note(
            path,
            method,
            status,
            code,
            begun,
            exchange.request_id,
            exchange.upload_id,
            is_stream=exchange.is_stream,
        )

    def note(
        self,
        path: str,
        method: str,
        status: int,
        code: str,
        begun: float,
        request_id: str,
        upload_id: str,
        *,
        is_stream: bool = False,
    ) -> None:
        """Tells the observers and the log how a request ended."""
        seconds = time.monotonic() - begun
        known = method if method in _METHODS else "OTHER"
        ended = RequestEnded(known, status, code, seconds, is_stream)
        self._services.observe(ended)
        log(ended, path, request_id, upload_id)

    def count(self, exchange: Exchange) -> None:
        """Counts a request, if it was not.

        Raises:
            TooManyRequests: Of the same came too many lately.
        """
        if self.rates is None or exchange.is_counted or exchange.method in ("HEAD", "OPTIONS"):
            return
        exchange.is_counted = True
        principal = "" if exchange.grant is None else exchange.grant.principal
        client = principal or self.callers.address(exchange.scope, exchange.headers)
        now = time.monotonic()
        if seconds := self.rates.wait(client, now):
            raise TooManyRequests(self.rates.per_second, seconds)
        self.rates.add(client, now)

    async def admit(
        self, exchange: Exchange, verb: str, upload_id: str | None = None
    ) -> Grant | None:
        """What whoever asks is let in with, None where nobody is asked; it is counted then.

        Raises:
            TusError: They are not let in, or come too often.
        """
        authorize = self._services.hooks.authorize
        if authorize is not None:
            info = self.callers.describe(exchange.scope, exchange.method, exchange.headers)
            access = Access(verb=verb, upload_id=upload_id, request=info)
            exchange.grant = await ask(authorize, access)
        self.count(exchange)
        return exchange.grant

    def preflight(self, exchange: Exchange, allow_methods: str) -> tuple[Header, ...]:
        """What a browser is told that asks beforehand."""
        return build_preflight_headers(self._settings.cors, exchange.headers, allow_methods)

    def _body(self, scope: Scope, receive: Receive) -> RequestBody:
        """The server's own body, if it offers one, or one over `receive`."""
        idle_timeout, slowest_speed = self._settings.network_timeout, self._settings.slowest_speed
        extensions = scope.get("extensions") or {}
        make: MakeBody | None = extensions.get("tusd_py.body")
        made = None if make is None else make(idle_timeout, slowest_speed)
        if made is not None:
            return made
        return ReceiveBody(
            receive,
            idle_timeout=idle_timeout,
            slowest_speed=slowest_speed,
            trailers=extensions.get("tusd_py.trailers", ()),
        )
