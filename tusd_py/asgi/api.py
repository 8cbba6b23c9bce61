"""What pages and programs ask beside tus: which uploads there are, and how the server is doing.

The rules:
- Whoever asks is asked who they are, as for everything else, before anything is looked at. Uploads
  of others are not there.
- No lock is taken, and no upload is disturbed but one that is to be paused or limited.
"""

import urllib.parse

from starlette.types import Receive, Scope, Send

from tusd_py.asgi.control import control
from tusd_py.asgi.events import Events, audience_for
from tusd_py.asgi.frame import NO_STORE, Frame
from tusd_py.asgi.responding import Exchange
from tusd_py.asgi.shown import Show, build_json
from tusd_py.asgi.sse import stream
from tusd_py.asgi.stats import Stats
from tusd_py.asgi.websocket import Sockets
from tusd_py.engine.listing import THERE, State, find_all, find_one
from tusd_py.engine.rebuild import look_up
from tusd_py.engine.services import Services
from tusd_py.metrics import Metrics
from tusd_py.protocol import abnf
from tusd_py.protocol.commands import Query
from tusd_py.protocol.errors import InvalidQuestion, MethodNotAllowed, UploadNotFound
from tusd_py.protocol.tus1 import Response

UPLOADS_PATH = "/api/uploads"
STATS_PATH = "/api/stats"
EVENTS_PATH = "/events"

_MOST = 500


class Api:
    """Answers what lies at `UPLOADS_PATH`, below it, at `STATS_PATH` and at `EVENTS_PATH`.

    Args:
        services: What the engine works with.
        frame: What every request has.
        events: What happens to uploads.
        sockets: What answers WebSockets.
        metrics: What has happened here.
        base_path: The path that uploads lie under, with a slash at its end.
    """

    def __init__(
        self,
        services: Services,
        frame: Frame,
        events: Events,
        sockets: Sockets,
        metrics: Metrics,
        base_path: str,
    ) -> None:
        self._services = services
        self._frame = frame
        self._events = events
        self._sockets = sockets
        self._stats = Stats(services, metrics, events.watching)
        self._base_path = base_path

    def has(self, path: str) -> bool:
        """Whether a path is for here."""
        if self._base_path != "/" and path.startswith(self._base_path):
            return False  # uploads lie there
        known = (UPLOADS_PATH, STATS_PATH, EVENTS_PATH)
        return path in known or path.startswith(UPLOADS_PATH + "/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection: `http`."""
        upload_id = _find_upload_id(scope["path"])
        await self._frame.run(scope, receive, send, self._serve, upload_id, NO_STORE)

    async def answer_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection: `websocket`, at `EVENTS_PATH`."""
        await self._sockets.answer(scope, receive, send, self._base_path, None)

    async def _serve(self, exchange: Exchange) -> None:
        path, method, upload_id = exchange.scope["path"], exchange.method, exchange.upload_id
        answer, allowed = self._list, "GET"
        if path == STATS_PATH:
            answer = self._tell_stats
        elif path == EVENTS_PATH:
            answer = self._tell_events
        elif path != UPLOADS_PATH:
            answer, allowed = self._tell_one, "GET, PUT"
            if not abnf.UPLOAD_ID.fullmatch(upload_id):
                raise UploadNotFound(upload_id)
        if method == "OPTIONS":
            allow = f"{allowed}, OPTIONS"
            preflight = self._frame.preflight(exchange, allow)
            await exchange.respond(Response(204, (("Allow", allow), *preflight)))
        elif method == "PUT" and answer == self._tell_one:
            await self._control(exchange)
        elif method != "GET":
            raise MethodNotAllowed(method, f"{allowed}, OPTIONS")
        else:
            await answer(exchange)

    async def _list(self, exchange: Exchange) -> None:
        asked = _Asked(exchange.scope)
        states = asked.states()
        after, limit, parts = asked.place("after"), asked.number("limit", 50), asked.yes("parts")
        grant = await self._frame.admit(exchange, "list")
        page = await find_all(
            self._services, grant, states, parts=parts, after=after, limit=min(limit, _MOST)
        )
        show = self._show_for(exchange)
        uploads = [show(upload) for upload in page.uploads]
        following = None if page.next is None else f"{page.next[0]!r},{page.next[1]}"
        await exchange.respond(build_json({"uploads": uploads, "next": following}))

    async def _tell_one(self, exchange: Exchange) -> None:
        upload_id = exchange.upload_id
        grant = await self._frame.admit(exchange, "query", upload_id)
        command = Query(upload_id=upload_id, grant=grant)
        if self._services.recalls:
            await look_up(self._services, command)
        upload = await find_one(self._services, command)
        await exchange.respond(build_json(self._show_for(exchange)(upload)))

    async def _control(self, exchange: Exchange) -> None:
        await control(self._services, self._frame, exchange, self._base_path)

    async def _tell_events(self, exchange: Exchange) -> None:
        audience = audience_for(self._frame, exchange, self._base_path, None)
        await stream(exchange, self._events, audience)

    async def _tell_stats(self, exchange: Exchange) -> None:
        await self._frame.admit(exchange, "stats")
        await exchange.respond(build_json(await self._stats.collect()))

    def _show_for(self, exchange: Exchange) -> Show:
        return self._frame.callers.show_for(exchange.scope, exchange.headers, self._base_path)


def _find_upload_id(path: str) -> str | None:
    """What stands behind the path of uploads; None for all other paths."""
    upload_id = path.removeprefix(UPLOADS_PATH + "/")
    return None if upload_id == path else upload_id


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
