"""The way of a request of tus: its head becomes a command, the outcome becomes a response."""

import time
from dataclasses import replace
from functools import partial

from starlette.types import Receive, Scope, Send

from tusd_py.asgi.callers import ask
from tusd_py.asgi.download import send_file
from tusd_py.asgi.events import Events, audience_for
from tusd_py.asgi.frame import NO_STORE, Frame
from tusd_py.asgi.request_log import find_request_id
from tusd_py.asgi.responding import Exchange, raw
from tusd_py.asgi.settings import HttpSettings
from tusd_py.asgi.sse import stream
from tusd_py.asgi.websocket import Sockets
from tusd_py.engine.append import Confirm, append
from tusd_py.engine.create import create, create_at_once
from tusd_py.engine.query import download, query
from tusd_py.engine.rebuild import look_up
from tusd_py.engine.services import Services, to_the_end
from tusd_py.engine.small import append_now
from tusd_py.engine.terminate import terminate
from tusd_py.hooks.interface import Access, RequestInfo
from tusd_py.protocol import abnf, commands, tus1
from tusd_py.protocol.cors import build_cors_headers, build_preflight_headers
from tusd_py.protocol.errors import (
    Header,
    ServerShutdown,
    TusError,
    UploadLocked,
    UploadNotFound,
)
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.headers import Headers
from tusd_py.protocol.tus1 import Capabilities, Request, Response
from tusd_py.protocol.upload import GONE, Reply

_EVENTS = "/events"
"""Behind the URL of an upload; no id has a slash."""


class TusRoutes:
    """Answers everything below the path that uploads lie under.

    Args:
        services: What the engine works with.
        settings: How requests are read and answered.
        frame: What every request has.
        events: What happens to uploads.

    Attributes:
        sockets: What answers WebSockets.
    """

    def __init__(
        self, services: Services, settings: HttpSettings, frame: Frame, events: Events
    ) -> None:
        self._services = services
        self._settings = settings
        self._frame = frame
        self._events = events
        self.sockets = Sockets(services, settings, frame, events, self._serve)

    async def answer(self, scope: Scope, receive: Receive, send: Send, base_path: str) -> None:
        """Serves one request.

        Args:
            scope: Of an ASGI `http` connection.
            receive: Likewise.
            send: Likewise.
            base_path: The path, as in the URL, that uploads lie under, with a slash at its end.
        """
        path = scope["path"]
        upload_id = find_watched(path, base_path) if scope["method"] == "GET" else None
        if upload_id is not None:
            serve, extra = self._tell_events, NO_STORE
        else:
            serve, extra, upload_id = self._serve, (), _find_upload_id(path, base_path)
        work = partial(serve, base_path=base_path)
        await self._frame.run(scope, receive, send, work, upload_id, extra)

    async def answer_socket(
        self, scope: Scope, receive: Receive, send: Send, base_path: str
    ) -> None:
        """Serves one WebSocket, at the events of an upload.

        Args:
            scope: Of an ASGI `websocket` connection.
            receive: Likewise.
            send: Likewise.
            base_path: As for `answer`.
        """
        # What lies elsewhere is no upload, and told so.
        upload_id = find_watched(scope["path"], base_path) or "/"
        await self.sockets.answer(scope, receive, send, base_path, upload_id)

    async def _tell_events(self, exchange: Exchange, base_path: str) -> None:
        upload_id = exchange.upload_id
        if not abnf.UPLOAD_ID.fullmatch(upload_id):
            raise UploadNotFound(upload_id)
        audience = audience_for(self._frame, exchange, base_path, upload_id)
        await stream(exchange, self._events, audience)

    def answer_at_once(
        self, scope: Scope, data: bytes, base_path: str
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        """Serves a small upload whose bytes are there, without waiting for anything.

        Args:
            scope: As for `answer`, the names of headers in lower case.
            data: The body of the request.
            base_path: As for `answer`.

        Returns:
            Status, headers and body of the answer. None for whatever is not just as usual, a
            refusal included: nothing was changed then, and `answer` is to be asked.
        """
        services, sent_method, path = self._services, scope["method"], scope["path"]
        if sent_method not in ("POST", "PATCH"):
            return None
        if services.is_ending or services.hooks.authorize or services.trace:
            return None
        begun = time.monotonic()
        headers = Headers(scope["headers"], are_lower=True)
        rates, callers = self._frame.rates, self._frame.callers
        client = "" if rates is None else callers.address(scope, headers)
        if rates is not None and rates.wait(client, begun):
            return None
        try:
            upload_id = _find_upload_id(path, base_path)
            command = tus1.parse_request(Request(sent_method, upload_id, headers, base_path))
            if isinstance(command, commands.Append):
                method, upload = "PATCH", append_now(services, command, data)
            elif isinstance(command, commands.Create):
                if self._names_client(command):
                    command = command._replace(client=callers.address(scope, headers))
                method, upload = "POST", create_at_once(services, command, data)
            else:
                return None
        except TusError:
            return None
        if upload is None:
            return None
        if rates is not None:
            rates.add(client, begun)
        if upload_id is None:
            location = callers.locate(scope, headers, base_path + upload.id)
            response = tus1.build_created(upload, location)
        else:
            response = tus1.build_appended(upload)
        request_id = find_request_id(headers)
        said = response.headers + build_cors_headers(self._settings.cors, headers)
        status = response.status
        self._frame.note(path, method, status, "", begun, request_id, upload.id)
        return response.status, raw((*said, ("X-Request-ID", request_id))), response.body

    async def _serve(self, exchange: Exchange, base_path: str) -> None:
        scope, upload_id = exchange.scope, _find_upload_id(exchange.scope["path"], base_path)
        request = Request(
            method=scope["method"],
            upload_id=upload_id,
            headers=exchange.headers,
            base_path=base_path,
            trailers="tusd_py.trailers" in (scope.get("extensions") or ()),
        )
        exchange.method = tus1.effective_method(request)
        try:
            await self._serve_known(exchange, request)
        except TusError:
            if exchange.method == "PATCH" and upload_id is not None:
                exchange.extra += await self._expires(upload_id, exchange.grant)
            raise

    async def _serve_known(self, exchange: Exchange, request: Request) -> None:
        method = exchange.method
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
        callers = self._frame.callers
        info = callers.describe(exchange.scope, method, request.headers)
        authorize, confirm = self._services.hooks.authorize, None
        if authorize is not None:
            access = Access(verb=_verb(command), upload_id=request.upload_id, request=info)
            exchange.grant = await ask(authorize, access)
            command = _granted(command, exchange.grant)
            confirm = partial(ask, authorize, access)
        self._frame.count(exchange)
        if isinstance(command, commands.Create | commands.Append) and self._names_client(command):
            address = self._frame.callers.address(exchange.scope, request.headers)
            command = command._replace(client=address)
        if self._services.recalls:
            await look_up(self._services, command)
        if isinstance(command, commands.Download):
            upload = await download(self._services, command)
            services = self._services
            at_once = services.pace.is_quick(durable=False)
            await send_file(services.storage, upload, request.headers, exchange, at_once=at_once)
            return
        if self._services.is_ending:
            raise UploadLocked(request.upload_id or "") if method == "HEAD" else ServerShutdown()
        await exchange.respond(await self._carry_out(command, info, request, exchange, confirm))

    async def _carry_out(
        self,
        command: commands.Create | commands.Append | commands.Query | commands.Terminate,
        info: RequestInfo,
        request: Request,
        exchange: Exchange,
        confirm: Confirm | None,
    ) -> Response:
        services, body = self._services, exchange.body
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
                await ask(services.hooks.authorize, access)

        replies: list[Reply] = []
        upload = await create(
            services, command, body, info, authorize_part, confirm, replies.append
        )
        exchange.upload_id = upload.id
        path = request.base_path + upload.id
        location = self._frame.callers.locate(exchange.scope, request.headers, path)
        if command.grant is not None and command.grant.query_for is not None:
            location += "?" + command.grant.query_for(upload.id)
        return tus1.build_created(upload, location, *replies)

    def _names_client(self, command: commands.Create | commands.Append) -> bool:
        """Whether its client's address is needed, as a limit holds for each."""
        limits = self._services.limits
        is_counted = isinstance(command, commands.Create) and limits.max_open_per_client is not None
        return is_counted or limits.speed_of_client(command.grant) is not None

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


def find_watched(path: str, base_path: str) -> str | None:
    """What stands before `/events` behind the base path; None if the path is for something else."""
    if path.endswith(_EVENTS) and path.startswith(base_path):
        return path.removeprefix(base_path).removesuffix(_EVENTS)
    return None


def _find_upload_id(path: str, base_path: str) -> str | None:
    """What stands behind the base path; None for the URL where uploads are created."""
    if path in (base_path, base_path.removesuffix("/")):
        return None
    # What lies elsewhere has a slash in it, and so is no id.
    return path.removeprefix(base_path)
