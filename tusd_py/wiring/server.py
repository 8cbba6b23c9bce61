"""A server: the uploads and the pages beside them, in one process or in several workers."""

import asyncio
import logging
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import uvloop
from starlette.types import Receive, Scope, Send

from tusd_py.app import TusApp
from tusd_py.asgi.api import EVENTS_PATH, Api
from tusd_py.asgi.mounting import beside, with_slashes
from tusd_py.asgi.site import HEALTH_PATH, READY_PATH, build_site
from tusd_py.asgi.ui import FILES_PATH, build_ui, find_page
from tusd_py.hooks.events import LimitReached
from tusd_py.metrics import Metrics
from tusd_py.numbers import Board, Numbers
from tusd_py.protocol.client import Proxies, network_of
from tusd_py.wire.server import (
    ServerSettings,
    close,
    listen,
    run,
    run_worker,
)
from tusd_py.wire.workers import Parent, Supervisor
from tusd_py.wiring.deployment import build_app
from tusd_py.wiring.errors import EXPECTED, NotInstalled, explain
from tusd_py.wiring.settings import Place, UploadSettings, listed

logger = logging.getLogger("tusd_py")


class ServerApp:
    """The uploads under `base_path`, and the pages beside them; those go first at their paths.

    With `ui` there is a page for browsers, unless its own paths are those of the uploads. `numbers`
    is where metrics are counted, if other workers are to show them too.
    """

    def __init__(
        self,
        tus: TusApp,
        base_path: str,
        metrics_path: str | None,
        *,
        ui: bool = False,
        numbers: Numbers | None = None,
    ) -> None:
        metrics = Metrics(numbers)
        self.see_connections = metrics.see_connections
        tus.add_observer(metrics.observe)
        shown_at = None if metrics_path is None else with_slashes(metrics_path).rstrip("/") or "/"
        self._tus = tus
        self._told_at: dict[str, float] = {}
        self._endpoint = with_slashes(base_path)
        self._pages = (HEALTH_PATH, READY_PATH, shown_at)
        has_page = ui and _has_room_for_page(self._endpoint)
        page = build_ui(find_page(), self._endpoint) if has_page else []
        self._site = build_site(metrics, shown_at, self._endpoint, tus.why_not_ready, page)
        self._api = Api(
            tus.services, tus.frame, tus.events, tus.routes.sockets, metrics, self._endpoint
        )
        self._both = beside(tus, tus.lifespan, self._site, self._endpoint.rstrip("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection."""
        if scope["type"] == "websocket":
            await self._answer_socket(scope, receive, send)
        elif scope["type"] != "http":
            await self._both(scope, receive, send)
        elif scope["path"] in self._pages:
            await self._site(scope, receive, send)
        elif self._api.has(scope["path"]):
            await self._tus.ready()
            await self._api(scope, receive, send)
        elif scope["path"].startswith(self._endpoint):
            # As it would come to by way of `_both`, which is for what has another path.
            await self._tus.answer(scope, receive, send, self._endpoint)
        else:
            await self._both(scope, receive, send)

    async def _answer_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == EVENTS_PATH and self._api.has(EVENTS_PATH):
            await self._tus.ready()
            await self._api.answer_socket(scope, receive, send)
        else:
            await self._tus.answer_socket(scope, receive, send, self._endpoint)

    def limited(self, server: ServerSettings, uploads: UploadSettings) -> ServerSettings:
        """The settings of a server of this, which tells of what its connections are refused."""
        trusted = Proxies(listed(uploads.trusted_proxies))

        def address_of(peer: str) -> str:
            # All clients behind a proxy have its address.
            return "" if uploads.behind_proxy and trusted.trusts(peer) else network_of(peer)

        limits = replace(server.connections, address_of=address_of, refused=self._note_refused)
        return replace(server, connections=limits)

    def _note_refused(self, limit: str) -> None:
        self._tus.services.observe(LimitReached(limit=limit))
        now = time.monotonic()
        if limit.startswith("connections") and self._told_at.get(limit, -math.inf) + 60 <= now:
            self._told_at[limit] = now
            logger.warning(
                "new connections are closed: there are as many as --max-%s allows", limit
            )

    def answer_at_once(
        self, scope: Scope, data: bytes
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        """See `wire.http`; of pages nothing is known."""
        path = scope["path"]
        if not path.startswith(self._endpoint) or path in self._pages or self._api.has(path):
            return None
        return self._tus.answer_at_once(scope, data, self._endpoint)


def _has_room_for_page(endpoint: str) -> bool:
    return not FILES_PATH.startswith(endpoint)


def page_beside(url: str, server: ServerSettings) -> str | None:
    """The URL of the page for browsers, None where there is none.

    Args:
        url: Of the uploads.
        server: Where it is listened on, and whether a page is wanted.
    """
    origin, endpoint = url[: url.index("/", 8)], url[url.index("/", 8) :]
    is_reached = server.ui and server.unix_sock is None
    has_page = is_reached and _has_room_for_page(endpoint) and find_page() is not None
    return f"{origin}/" if has_page else None


def serve(
    place: Place, server: ServerSettings, uploads: UploadSettings, announce: Callable[[str], None]
) -> None:
    """Serves until SIGTERM or SIGINT; what came is kept.

    Args:
        place: Where everything lies.
        server: Where to listen.
        uploads: What to take.
        announce: Called with the endpoint's URL when it can be used.

    Raises:
        CannotListen: The address is taken or not allowed.
        NotProtected: Other machines can reach it, and nobody would be asked who they are.
        WrongInstance: The bytes and the state do not belong together.
        NewerDatabase: The state was made by a newer release.
        InvalidTemplate: The file template cannot be used.
        InvalidPlace: Something else of the place cannot be.
        InvalidKeys: Nobody can be known by what was given for that.
        NotInstalled: It needs an extra.
        StorageFailed: The directory or the state cannot be used.
        OSError: Likewise.
        WorkersFailed: One of these, as the workers found it; its message is theirs.
    """
    base_path = with_slashes(uploads.base_path)
    server = replace(server, loopback_only=not uploads.asks and not uploads.no_auth)
    if server.workers > 1:
        _serve_by_workers(place, server, uploads, lambda url: announce(url + base_path))
        return
    tus = _build_server_app(place, server, uploads)
    app = ServerApp(tus, uploads.base_path, server.metrics_path, ui=server.ui)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        limited = app.limited(server, uploads)
        runner.run(run(tus, app, limited, lambda url: announce(url + base_path)))


def _build_server_app(place: Place, server: ServerSettings, uploads: UploadSettings) -> TusApp:
    """As `build_app`, in the process that will serve: what traces has a thread of its own."""
    tus = build_app(place, uploads)
    if server.traces is not None:
        try:
            from tusd_py.tracing import Provider

            provider = Provider(server.traces)
        except ModuleNotFoundError as error:
            raise NotInstalled(
                f"--traces needs {error.name}; install it with: pip install 'tusd-py[otel]'"
            ) from error
        tus.trace(provider.tracer)
        tus.at_stop.append(provider.close)
    return tus


def _serve_by_workers(
    place: Place, server: ServerSettings, uploads: UploadSettings, announce: Callable[[str], None]
) -> None:
    listening, url = listen(server)
    board = Board(server.workers)

    def work(parent: Parent) -> None:
        try:
            tus = _build_server_app(place, server, uploads)
            numbers = board.take(parent.place)
            app = ServerApp(
                tus, uploads.base_path, server.metrics_path, ui=server.ui, numbers=numbers
            )
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                limited = app.limited(server, uploads)
                runner.run(run_worker(tus, app, limited, listening, parent))
        except EXPECTED as error:
            parent.tell_failed(explain(error))
            sys.exit(1)

    try:
        Supervisor(
            server.workers,
            work,
            on_ready=lambda: announce(url),
            worker_timeout=server.worker_timeout,
            shutdown_timeout=server.shutdown_timeout,
        ).run()
    finally:
        close(listening, server.unix_sock)
