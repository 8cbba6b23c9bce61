"""The way of a request: its head becomes a command, the engine's outcome becomes a response."""

import asyncio
import itertools
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import quote

import anyio

from tusd_py.asgi.body import MakeBody, ReceiveBody, RequestBody
from tusd_py.asgi.download import send_file
from tusd_py.asgi.events import Events
from tusd_py.asgi.rates import Rates
from tusd_py.asgi.responding import Exchange, raw
from tusd_py.asgi.shown import Show, build_upload
from tusd_py.engine.append import Confirm, append
from tusd_py.engine.create import create, create_at_once
from tusd_py.engine.query import download, query
from tusd_py.engine.rebuild import look_up
from tusd_py.engine.services import Services, to_the_end
from tusd_py.engine.small import append_now
from tusd_py.engine.terminate import terminate
from tusd_py.engine.watching import Watching
from tusd_py.hooks.events import LimitReached, RequestEnded
from tusd_py.hooks.interface import NO_REQUEST, Access, Authorize, RequestInfo
from tusd_py.protocol import abnf, commands, tus1
from tusd_py.protocol.client import Proxies, network_of
from tusd_py.protocol.cors import CorsPolicy, build_cors_headers, build_preflight_headers
from tusd_py.protocol.errors import (
    Header,
    ServerShutdown,
    TooManyRequests,
    TusError,
    UploadLocked,
    UploadNotFound,
)
from tusd_py.protocol.forwarded import parse_origin
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.headers import Headers
from tusd_py.protocol.tus1 import Capabilities, Request, Response
from tusd_py.protocol.upload import GONE, Reply, Upload

logger = logging.getLogger("tusd_py")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LONGEST_LOGGED = 512
"""Characters of a path; the log has to last as long as the disk does."""

_EVENTS = "/events"
"""Behind the URL of an upload; no id has a slash."""

_METHODS = frozenset({"OPTIONS", "HEAD", "PATCH", "POST", "DELETE", "GET", "PUT"})


class InternalError(TusError):
    """A defect of this server, or of the application's functions; it is in the log."""

    code, status = "ERR_INTERNAL_SERVER_ERROR", 500

    def __str__(self) -> str:
        return "the server met an error of its own, which is in its log; try again"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """How requests are read and answered.

    Attributes:
        cors: Which pages may call.
        behind_proxy: Whether the headers that a proxy sets are trusted.
        trusted_proxies: From which addresses then; None for all, where something before the
            application has put the client's address in its place already, as uvicorn does.
        max_requests: Requests per second of one client, ten seconds' worth of them at once, None
            for no limit. `HEAD` and `OPTIONS` are always answered.
        network_timeout: Seconds without a byte of a body after which it ends.
        slowest_speed: Bytes per second, averaged over about half a minute, below which a body ends;
            0 for no limit.
    """

    cors: CorsPolicy = field(default_factory=CorsPolicy)
    behind_proxy: bool = False
    trusted_proxies: tuple[str, ...] | None = None
    max_requests: float | None = None
    network_timeout: float = 60.0
    slowest_speed: float = 100.0


class TusRoutes:
    """Answers everything below the path that uploads lie under.

    Args:
        services: What the engine works with.
        settings: How requests are read and answered.
        watching: Those who listen to what happens.
    """

    def __init__(self, services: Services, settings: HttpSettings, watching: Watching) -> None:
        self.watching = watching
        self._events = Events(services, watching)
        self._services = services
        self._settings = settings
        most = settings.max_requests
        self._rates = None if most is None else Rates(most)
        self._proxies: Proxies | None = None
        if settings.behind_proxy:
            self._proxies = Proxies(settings.trusted_proxies)
        self._under_way = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def idle(self, within: float) -> bool:
        """Waits until no request is under way, at most some seconds: whether that is so."""
        with anyio.move_on_after(within):
            await self._is_idle.wait()
        return self._is_idle.is_set()

    async def answer(self, scope: Scope, receive: Receive, send: Send, base_path: str) -> None:
        """Serves one request.

        Args:
            scope: Of an ASGI `http` connection.
            receive: Likewise.
            send: Likewise.
            base_path: The path, as in the URL, that uploads lie under, with a slash at its end.
        """
        path = scope["path"]
        if scope["method"] == "GET" and path.endswith(_EVENTS) and path.startswith(base_path):
            await self.answer_beside(
                scope, receive, send, partial(self._stream_one, scope, base_path)
            )
            return
        self._begin()
        try:
            if self._services.trace is None:
                await self._answer(scope, receive, send, base_path)
            else:
                upload_id = _upload_id(scope["path"], base_path)
                trace = self._services.trace
                with trace(scope["method"], scope["path"], upload_id, scope["headers"]):
                    await self._answer(scope, receive, send, base_path)
        finally:
            self._end()

    async def _stream_one(self, scope: Scope, base_path: str, exchange: Exchange) -> None:
        upload_id = (_upload_id(scope["path"], base_path) or "").removesuffix(_EVENTS)
        if not abnf.UPLOAD_ID.fullmatch(upload_id):
            raise UploadNotFound(upload_id)
        exchange.upload_id = upload_id
        await self.stream(scope, exchange, base_path, upload_id)

    async def stream(
        self, scope: Scope, exchange: Exchange, base_path: str, upload_id: str | None
    ) -> None:
        """Tells what happens to one upload, or to all that are there for whoever asks."""
        admit = partial(self.admit, scope, exchange.headers, "watch", upload_id)
        show = self.show_for(scope, exchange.headers, base_path)
        await self._events.stream(exchange, admit, show, upload_id)

    def show_for(self, scope: Scope, headers: Headers, base_path: str) -> Show:
        """How uploads are told to whoever asks."""

        def show(upload: Upload) -> dict[str, object]:
            url = self.locate(scope, headers, base_path + upload.id)
            return build_upload(upload, url, self._services.clock())

        return show

    async def answer_beside(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        serve: Callable[[Exchange], Awaitable[None]],
    ) -> None:
        """Serves a request that is no part of tus, with the same errors, log and end.

        Args:
            scope: Of an ASGI `http` connection.
            receive: Likewise.
            send: Likewise.
            serve: Answers it, or raises.
        """
        self._begin()
        try:
            await self._answer_beside(scope, receive, send, serve)
        finally:
            self._end()

    def _begin(self) -> None:
        if not self._under_way:
            self._is_idle.clear()
        self._under_way += 1

    def _end(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._is_idle.set()

    def answer_at_once(
        self, scope: Scope, data: bytes, base_path: str
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        """Serves a small upload whose bytes are there, without waiting for anything.

        Args:
            scope: As for `answer`.
            data: The body of the request.
            base_path: As for `answer`.

        Returns:
            Status, headers and body of the answer. None for whatever is not just as usual, a
            refusal included: nothing was changed then, and `answer` is to be asked.
        """
        services, method = self._services, scope["method"]
        if method not in ("POST", "PATCH"):
            return None
        if services.is_ending or services.hooks.authorize or services.trace:
            return None
        begun = time.monotonic()
        headers = Headers(scope["headers"])
        client = "" if self._rates is None else self._client(scope, headers)
        if self._rates is not None and self._rates.wait(client, begun):
            return None
        try:
            request = Request(
                method=method,
                upload_id=_upload_id(scope["path"], base_path),
                headers=headers,
                base_path=base_path,
            )
            method = tus1.effective_method(request)
            command = tus1.parse_request(request)
            if isinstance(command, commands.Append):
                upload = append_now(services, command, data)
            elif isinstance(command, commands.Create):
                upload = create_at_once(services, self._with_client(command, scope, headers), data)
            else:
                return None
        except TusError:
            return None
        if upload is None:
            return None
        if self._rates is not None:
            self._rates.add(client, begun)
        if request.upload_id is None:
            location = self.locate(scope, headers, request.base_path + upload.id)
            response = tus1.build_created(upload, location)
        else:
            response = tus1.build_appended(upload)
        request_id = _request_id(headers)
        said = response.headers + build_cors_headers(self._settings.cors, headers)
        self._note(scope, method, response.status, "", begun, request_id, upload.id)
        return response.status, raw((*said, ("X-Request-ID", request_id))), response.body

    async def _answer(self, scope: Scope, receive: Receive, send: Send, base_path: str) -> None:
        begun = time.monotonic()
        headers = Headers(scope["headers"])
        body = self._body(scope, receive)
        exchange = Exchange(scope, receive, send, body, headers, _request_id(headers))
        exchange.extra = build_cors_headers(self._settings.cors, headers)
        upload_id = _upload_id(scope["path"], base_path)
        method = str(scope["method"])
        code = ""
        try:
            request = Request(
                method=method,
                upload_id=upload_id,
                headers=headers,
                base_path=base_path,
                trailers="tusd_py.trailers" in (scope.get("extensions") or ()),
            )
            method = tus1.effective_method(request)
            try:
                await self._serve(scope, request, method, body, exchange)
            except TusError:
                # Also what was refused before it was known whose it is.
                self._count(scope, headers, method, exchange)
                raise
        except TusError as error:
            code = error.code
            if error.limit:
                self._services.observe(LimitReached(limit=error.limit))
            if method == "PATCH" and upload_id is not None:
                exchange.extra += await self._expires(upload_id, exchange.grant)
            await exchange.refuse(error, is_head=method == "HEAD")
        except Exception:  # the root of a request
            logger.exception("request %s failed", exchange.request_id)
            passing: TusError = UploadLocked(upload_id or "")
            failure = passing if method == "HEAD" else InternalError()
            code = failure.code
            await exchange.refuse(failure, is_head=method == "HEAD")
        named = upload_id or exchange.upload_id
        self._note(scope, method, exchange.status, code, begun, exchange.request_id, named)

    async def _answer_beside(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        serve: Callable[[Exchange], Awaitable[None]],
    ) -> None:
        begun = time.monotonic()
        headers = Headers(scope["headers"])
        body = self._body(scope, receive)
        exchange = Exchange(scope, receive, send, body, headers, _request_id(headers))
        exchange.extra = (
            *build_cors_headers(self._settings.cors, headers),
            ("Cache-Control", "no-store"),
        )
        code = ""
        try:
            await serve(exchange)
        except TusError as error:
            code = error.code
            await exchange.refuse(error, is_head=False)
        except Exception:  # the root of a request
            logger.exception("request %s failed", exchange.request_id)
            failure = InternalError()
            code = failure.code
            await exchange.refuse(failure, is_head=False)
        method = str(scope["method"])
        named = exchange.upload_id
        self._note(scope, method, exchange.status, code, begun, exchange.request_id, named)

    def _note(
        self,
        scope: Scope,
        method: str,
        status: int,
        code: str,
        begun: float,
        request_id: str,
        upload_id: str,
    ) -> None:
        """Tells the observers and the log how a request ended."""
        ended = RequestEnded(
            method=method if method in _METHODS else "OTHER",
            status=status,
            code=code,
            seconds=time.monotonic() - begun,
        )
        self._services.observe(ended)
        _log(ended, scope, request_id, upload_id)

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

    async def _serve(
        self,
        scope: Scope,
        request: Request,
        method: str,
        body: RequestBody,
        exchange: Exchange,
    ) -> None:
        known = request.upload_id is None or abnf.UPLOAD_ID.fullmatch(request.upload_id)
        if not known and method != "OPTIONS":
            raise UploadNotFound(request.upload_id or "")
        command = tus1.parse_request(request)
        if isinstance(command, commands.Discover):
            # A preflight asks on behalf of a page that has not been let in yet.
            preflight = build_preflight_headers(self._settings.cors, request.headers)
            extensions = tus1.WITH_TRAILERS if request.trailers else tus1.EXTENSIONS
            max_size = self._services.limits.max_size
            answer = tus1.build_capabilities(Capabilities(extensions=extensions, max_size=max_size))
            await exchange.respond(answer._replace(headers=answer.headers + preflight))
            return
        info = self.describe(scope, method, request.headers)
        authorize, confirm = self._services.hooks.authorize, None
        if authorize is not None:
            access = Access(verb=_verb(command), upload_id=request.upload_id, request=info)
            exchange.grant = await _ask(authorize, access)
            command = _granted(command, exchange.grant)
            confirm = partial(_ask, authorize, access)
        self._count(scope, request.headers, method, exchange)
        if isinstance(command, commands.Create):
            command = self._with_client(command, scope, request.headers)
        if self._services.recalls:
            await look_up(self._services, command)
        if isinstance(command, commands.Download):
            upload = await download(self._services, command)
            await send_file(self._services.storage, upload, request.headers, exchange)
            return
        if self._services.is_ending:
            raise UploadLocked(request.upload_id or "") if method == "HEAD" else ServerShutdown()
        outcome = self._carry_out(command, body, info, scope, request, exchange, confirm)
        await exchange.respond(await outcome)

    async def _carry_out(
        self,
        command: commands.Create | commands.Append | commands.Query | commands.Terminate,
        body: RequestBody,
        info: RequestInfo,
        scope: Scope,
        request: Request,
        exchange: Exchange,
        confirm: Confirm | None,
    ) -> Response:
        services = self._services
        if isinstance(command, commands.Append):
            return tus1.build_appended(await append(services, command, body, info, confirm))
        if isinstance(command, commands.Query):
            return tus1.build_found(await to_the_end(query(services, command), lambda: None))
        if isinstance(command, commands.Terminate):
            work = terminate(services, command, info)
            return tus1.build_terminated(await to_the_end(work, lambda: None))

        async def authorize_part(upload_id: str) -> None:
            if services.hooks.authorize is not None:
                access = Access(verb="concatenate", upload_id=upload_id, request=info)
                await _ask(services.hooks.authorize, access)

        replies: list[Reply] = []
        upload = await create(
            services, command, body, info, authorize_part, confirm, replies.append
        )
        exchange.upload_id = upload.id
        location = self.locate(scope, request.headers, request.base_path + upload.id)
        if command.grant is not None and command.grant.query_for is not None:
            location += "?" + command.grant.query_for(upload.id)
        return tus1.build_created(upload, location, *replies)

    def _count(self, scope: Scope, headers: Headers, method: str, exchange: Exchange) -> None:
        """Counts a request, once: for its principal, or else for its address.

        Raises:
            TooManyRequests: Of the same came too many lately.
        """
        # After a refused HEAD tus-js-client begins anew, and after a refused preflight never.
        if self._rates is None or exchange.is_counted or method in ("HEAD", "OPTIONS"):
            return
        exchange.is_counted = True
        principal = "" if exchange.grant is None else exchange.grant.principal
        client, now = principal or self._client(scope, headers), time.monotonic()
        if seconds := self._rates.wait(client, now):
            raise TooManyRequests(self._rates.per_second, seconds)
        self._rates.add(client, now)

    def _with_client(
        self, command: commands.Create, scope: Scope, headers: Headers
    ) -> commands.Create:
        """The command with its client's address, if that is to be on record."""
        if self._services.limits.max_open_per_client is None:
            return command
        return command._replace(client=self._client(scope, headers))

    def _client(self, scope: Scope, headers: Headers) -> str:
        """The client's address, or its network."""
        peer = _peer(scope)
        return network_of(peer) if self._proxies is None else self._proxies.client(headers, peer)

    async def admit(
        self, scope: Scope, headers: Headers, verb: str, upload_id: str | None = None
    ) -> Grant | None:
        """What whoever asks is let in with, None where nobody is asked.

        Raises:
            TusError: They are not let in.
        """
        authorize = self._services.hooks.authorize
        if authorize is None:
            return None
        info = self.describe(scope, scope.get("method", "GET"), headers)
        return await _ask(authorize, Access(verb=verb, upload_id=upload_id, request=info))

    def preflight(self, headers: Headers, allow_methods: str) -> tuple[Header, ...]:
        """What a browser is told that asks beforehand."""
        return build_preflight_headers(self._settings.cors, headers, allow_methods)

    def locate(self, scope: Scope, headers: Headers, path: str) -> str:
        """The absolute URL of a path, as the client sees it."""
        host, port = scope.get("server") or ("localhost", None)
        origin = parse_origin(
            headers,
            scope.get("scheme", "http"),
            host if port is None else f"{host}:{port}",
            behind_proxy=self._proxies is not None and self._proxies.trusts(_peer(scope)),
        )
        return origin.url(path)

    def describe(self, scope: Scope, method: str, headers: Headers) -> RequestInfo:
        """The request for the application, if that will look at it."""
        if not self._services.hooks.look_at_requests:
            return NO_REQUEST
        client, port = scope.get("client") or ("", 0)
        return RequestInfo(
            method=method,
            path=scope["path"],
            query=scope.get("query_string", b"").decode("latin-1"),
            headers=headers.as_mapping(),
            client=client,
            port=port or 0,
            sent_method=scope["method"],
            uri=_uri(scope),
            header_lines=tuple(
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in scope["headers"]
            ),
        )

    async def _expires(self, upload_id: str, grant: Grant | None) -> tuple[Header, ...]:
        """What also the refusal of an append tells, if it can be known just now."""
        if grant is None and self._services.hooks.authorize is not None:
            return ()
        try:
            upload = await self._services.state.load(upload_id)
        except TusError:
            return ()
        if upload is None or (grant is not None and not grant.reaches(upload.principal)):
            return ()
        if upload.has_expired(self._services.clock()) or upload.phase in GONE:
            return ()
        return tus1.build_expires(upload)


async def _ask(authorize: Authorize, access: Access) -> Grant:
    """What whoever asks is let in with."""
    found = await authorize(access)
    if isinstance(found, Grant):
        return found
    if found is None or isinstance(found, str):
        return Grant(principal=found or "")
    raise TypeError(f"authorize returned {type(found)}, which is no name, no Grant and not None")


Asked = commands.Create | commands.Append | commands.Query | commands.Terminate | commands.Download
"""What somebody may be asked for."""


def _granted(command: Asked, grant: Grant) -> Asked:
    if isinstance(command, commands.Create | commands.Append):
        return command._replace(grant=grant)
    return replace(command, grant=grant)


_VERBS: dict[type[commands.Command], str] = {
    commands.Create: "create",
    commands.Append: "append",
    commands.Query: "query",
    commands.Terminate: "terminate",
    commands.Download: "download",
}


def _verb(command: commands.Command) -> str:
    return _VERBS[type(command)]


def _upload_id(path: str, base_path: str) -> str | None:
    """What stands behind the base path; None for the URL where uploads are created."""
    if path in (base_path, base_path.removesuffix("/")):
        return None
    # What lies elsewhere has a slash in it, and so is no id.
    return path.removeprefix(base_path)


def _peer(scope: Scope) -> str:
    """The address at the other end of the connection, empty on a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _uri(scope: Scope) -> str:
    """The path as it was sent, with its query."""
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
    query: bytes = scope.get("query_string") or b""
    return (path + b"?" + query if query else path).decode("latin-1")


def _request_id(headers: Headers) -> str:
    """The client's id for the request, if it is harmless, or a new one."""
    given = headers.first("X-Request-ID")
    if given is not None and abnf.UPLOAD_ID.fullmatch(given):
        return given
    return f"{_own_ids[0]}{next(_numbers):08x}"


_own_ids = [secrets.token_hex(8)]
"""What tells this process's ids from those of others, such as the one that it was forked from."""


def _renew_ids() -> None:
    _own_ids[0] = secrets.token_hex(8)


os.register_at_fork(after_in_child=_renew_ids)

_numbers = itertools.count()


def _log(ended: RequestEnded, scope: Scope, request_id: str, upload_id: str) -> None:
    if not logger.isEnabledFor(logging.INFO):
        return
    # What is no id is a part of the path, which stands there escaped and once.
    named = upload_id if abnf.UPLOAD_ID.fullmatch(upload_id) else ""
    # As `logger.info`, which first looks through the stack for who called it.
    record = logger.makeRecord(
        logger.name,
        logging.INFO,
        __file__,
        0,
        "%s %r %d %s",
        (ended.method, scope["path"][:_LONGEST_LOGGED], ended.status, ended.code),
        None,
        "_log",
        {
            "request_id": request_id,
            "upload_id": named,
            "milliseconds": round(ended.seconds * 1000, 1),
        },
    )
    logger.handle(record)
