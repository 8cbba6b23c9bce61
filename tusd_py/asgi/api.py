"""What pages and programs ask beside tus: which uploads there are, and how the server is doing.

The rules:
- Whoever asks is asked who they are, as for everything else, before anything is looked at. Uploads
  of others are not there.
- No lock is taken, and no upload is disturbed but one that is to be paused.
"""

import json
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tusd_py.asgi.responding import Exchange
from tusd_py.asgi.routes import TusRoutes
from tusd_py.asgi.stats import Stats
from tusd_py.body import EndedBy
from tusd_py.engine.control import set_paused
from tusd_py.engine.listing import THERE, State, find_all, find_one
from tusd_py.engine.rebuild import look_up
from tusd_py.engine.services import Services
from tusd_py.metrics import Metrics
from tusd_py.protocol import abnf
from tusd_py.protocol.commands import Query
from tusd_py.protocol.errors import Header, InvalidQuestion, MethodNotAllowed, UploadNotFound
from tusd_py.protocol.headers import parse_media_type
from tusd_py.protocol.tus1 import Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

UPLOADS_PATH = "/api/uploads"
STATS_PATH = "/api/stats"
EVENTS_PATH = "/events"

_MOST = 500
_LONGEST = 4096
"""Bytes of a body."""


class Api:
    """Answers what lies at `UPLOADS_PATH`, below it, at `STATS_PATH` and at `EVENTS_PATH`.

    Args:
        services: What the engine works with.
        routes: Those of the uploads, which know how requests are answered.
        metrics: What has happened here.
        base_path: The path that uploads lie under, with a slash at its end.
    """

    def __init__(
        self, services: Services, routes: TusRoutes, metrics: Metrics, base_path: str
    ) -> None:
        self._services = services
        self._routes = routes
        self._stats = Stats(services, metrics, routes.watching)
        self._base_path = base_path

    def has(self, path: str) -> bool:
        """Whether a path is for here."""
        if self._base_path != "/" and path.startswith(self._base_path):
            return False  # uploads lie there
        known = (UPLOADS_PATH, STATS_PATH, EVENTS_PATH)
        return path in known or path.startswith(UPLOADS_PATH + "/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection: `http`."""

        async def serve(exchange: Exchange) -> None:
            await self._serve(scope, exchange)

        await self._routes.answer_beside(scope, receive, send, serve)

    async def _serve(self, scope: Scope, exchange: Exchange) -> None:
        path = str(scope["path"])
        upload_id = path.removeprefix(UPLOADS_PATH + "/")
        answer, allowed = self._list, "GET"
        if path == STATS_PATH:
            answer = self._tell_stats
        elif path == EVENTS_PATH:
            answer = self._tell_events
        elif upload_id != path:
            answer, allowed = self._tell_one, "GET, PUT"
            if not abnf.UPLOAD_ID.fullmatch(upload_id):
                raise UploadNotFound(upload_id)
            exchange.upload_id = upload_id
        if scope["method"] == "OPTIONS":
            allow = f"{allowed}, OPTIONS"
            preflight = self._routes.preflight(exchange.headers, allow)
            await exchange.respond(Response(204, (("Allow", allow), *preflight)))
        elif scope["method"] == "PUT" and answer == self._tell_one:
            await self._control(scope, exchange)
        elif scope["method"] != "GET":
            raise MethodNotAllowed(scope["method"], f"{allowed}, OPTIONS")
        else:
            await answer(scope, exchange)

    async def _list(self, scope: Scope, exchange: Exchange) -> None:
        asked = _Asked(scope)
        states = asked.states()
        after, limit, parts = asked.place("after"), asked.number("limit", 50), asked.yes("parts")
        grant = await self._routes.admit(scope, exchange.headers, "list")
        page = await find_all(
            self._services, grant, states, parts=parts, after=after, limit=min(limit, _MOST)
        )
        show = self._routes.show_for(scope, exchange.headers, self._base_path)
        uploads = [show(upload) for upload in page.uploads]
        following = None if page.next is None else f"{page.next[0]!r},{page.next[1]}"
        await exchange.respond(_json({"uploads": uploads, "next": following}))

    async def _tell_one(self, scope: Scope, exchange: Exchange) -> None:
        upload_id = exchange.upload_id
        grant = await self._routes.admit(scope, exchange.headers, "query", upload_id)
        command = Query(upload_id=upload_id, grant=grant)
        if self._services.recalls:
            await look_up(self._services, command)
        upload = await find_one(self._services, command)
        show = self._routes.show_for(scope, exchange.headers, self._base_path)
        await exchange.respond(_json(show(upload)))

    async def _control(self, scope: Scope, exchange: Exchange) -> None:
        upload_id = exchange.upload_id
        grant = await self._routes.admit(scope, exchange.headers, "control", upload_id)
        paused = _parse_wish(await _read(exchange))
        if self._services.recalls:
            await look_up(self._services, Query(upload_id=upload_id, grant=grant))
        upload = await set_paused(self._services, upload_id, grant, paused=paused)
        show = self._routes.show_for(scope, exchange.headers, self._base_path)
        await exchange.respond(_json(show(upload)))

    async def _tell_events(self, scope: Scope, exchange: Exchange) -> None:
        await self._routes.stream(scope, exchange, self._base_path, None)

    async def _tell_stats(self, scope: Scope, exchange: Exchange) -> None:
        await self._routes.admit(scope, exchange.headers, "stats")
        await exchange.respond(_json(await self._stats.collect()))


class _Asked:
    """The query string."""

    def __init__(self, scope: Scope) -> None:
        query = scope.get("query_string", b"").decode("latin-1")
        self._values = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))

    def states(self) -> frozenset[State]:
        """`state`: some of them, separated by commas."""
        given = self._values.get("state", "")
        if not given:
            return THERE
        try:
            return frozenset(map(State, given.split(",")))
        except ValueError:
            raise InvalidQuestion(f"state is one or more of {', '.join(State)}") from None

    def number(self, name: str, usual: int) -> int:
        """A number above 0."""
        given = self._values.get(name)
        if given is None:
            return usual
        if not abnf.INTEGER.fullmatch(given) or not int(given):
            raise InvalidQuestion(f"{name} is a number above 0")
        return int(given)

    def yes(self, name: str) -> bool:
        """`1` or `0`."""
        given = str(self._values.get(name, "0"))
        if given not in ("0", "1"):
            raise InvalidQuestion(f"{name} is 1 or 0")
        return given == "1"

    def place(self, name: str) -> tuple[float, str] | None:
        """Where a page ended."""
        given = self._values.get(name)
        if given is None:
            return None
        moment, _, upload_id = given.partition(",")
        try:
            return float(moment), upload_id
        except ValueError:
            raise InvalidQuestion(f"{name} is the `next` of the page before") from None


async def _read(exchange: Exchange) -> bytes:
    """The body of a request, which is small."""
    if parse_media_type(exchange.headers.first("Content-Type")) != "application/json":
        # Also so that no page of another origin can send it without asking first.
        raise InvalidQuestion("send JSON, with 'Content-Type: application/json'")
    whole = exchange.body.whole()
    if whole is not None:
        return whole
    buffer, count = memoryview(bytearray(_LONGEST + 1)), 0
    while came := await exchange.body.fill(buffer[count:]):
        count += came
    if count > _LONGEST or exchange.body.ended_by is not EndedBy.END:
        raise InvalidQuestion(f"the body is longer than {_LONGEST} bytes, or did not come whole")
    return bytes(buffer[:count])


def _parse_wish(body: bytes) -> bool:
    """Whether an upload shall be paused."""
    try:
        wish = json.loads(body)
    except (ValueError, RecursionError):
        wish = None
    match wish:
        case {"paused": bool(paused), **others} if not others:
            return paused
    raise InvalidQuestion('send {"paused": true} or {"paused": false}')


def _json(content: dict[str, object]) -> Response:
    headers: tuple[Header, ...] = (("Content-Type", "application/json"),)
    return Response(200, headers, json.dumps(content).encode())
