"""How this and another application share one door: by path, without a redirect, and in time."""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("tusd_py")

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


def with_slashes(path: str) -> str:
    """A path as it stands in a URL: `files`, `/files` and `//files/` are all `/files/`."""
    return "/" + "".join(f"{part}/" for part in path.split("/") if part)


class TusRoute(BaseRoute):
    """A route of Starlette's: everything at and below a path goes to one application.

    Args:
        prefix: Such as `/files`; empty for everything.
        app: Gets `root_path` with the prefix at its end.
        has_sockets: Whether it gets a WebSocket too, by what its path has behind the prefix.
    """

    def __init__(
        self, prefix: str, app: ASGIApp, has_sockets: Callable[[str], bool] = lambda path: False
    ) -> None:
        self.path = prefix
        self._app = app
        self._has_sockets = has_sockets

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for here, whatever its method."""
        changed = _changed_below(scope, self.path, self._has_sockets)
        if changed is None:
            return Match.NONE, {}
        return Match.FULL, {**changed, "endpoint": self._app}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """No name of the application's is here; it goes on looking in its other routes."""
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request that matches."""
        await self._app(scope, receive, send)


def beside(
    ours: ASGIApp,
    lifespan: Lifespan,
    other: ASGIApp,
    prefix: str,
    has_sockets: Callable[[str], bool] = lambda path: False,
) -> ASGIApp:
    """Two applications behind one door.

    Args:
        ours: Gets what lies at or under `prefix`.
        lifespan: Of ours; runs around the other's, if that has one.
        other: Gets everything else.
        prefix: A path without a slash at its end; empty for everything.
        has_sockets: See `TusRoute`.
    """

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_lifespan(lifespan, other, scope, receive, send)
            return
        changed = _changed_below(scope, prefix, has_sockets)
        if changed is None:
            await other(scope, receive, send)
        else:
            await ours({**scope, **changed}, receive, send)

    return dispatch


def _changed_below(
    scope: Scope, prefix: str, has_sockets: Callable[[str], bool]
) -> dict[str, str] | None:
    """`root_path` and `path` for the application at `prefix`, None if a request is not for it.

    Servers disagree on whether `path` still has what `root_path` names; behind this it has.
    """
    if scope["type"] not in ("http", "websocket"):
        return None
    root, path = str(scope.get("root_path", "")).rstrip("/"), str(scope["path"])
    if path == root or path.startswith(root + "/"):
        path = path[len(root) :]
    if path != prefix and not path.startswith(prefix + "/"):
        return None
    if scope["type"] == "websocket" and not has_sockets(path[len(prefix) :]):
        return None
    return {"root_path": root + prefix, "path": root + path}


async def no_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that has no lifespan."""


async def serve_lifespan(
    lifespan: Lifespan, other: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answers an ASGI `lifespan` connection.

    Args:
        lifespan: Entered first and left last.
        other: Another application, whose lifespan runs within.
        scope: Of the connection.
        receive: Likewise.
        send: Likewise.
    """
    waiting = [await receive()]
    said: list[str] = []

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    async def pass_on(message: Message) -> None:
        said.append(message["type"])
        if said[-1] != "lifespan.shutdown.complete":
            await send(message)

    try:
        async with lifespan():
            await _run_other(other, scope, receive_again, pass_on, said)
    except Exception as error:  # the root of the lifespan: the server reports it
        if said:
            raise
        logger.debug("the start failed", exc_info=error)
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    if not said[-1].endswith("failed"):
        await send({"type": "lifespan.shutdown.complete"})


async def _run_other(
    other: ASGIApp, scope: Scope, receive: Receive, send: Send, said: list[str]
) -> None:
    """To the end of the shutdown, also if the other application has no lifespan.

    ASGI, Lifespan Protocol: "If an exception is raised when calling the application callable with
    a lifespan.startup message or a scope of type lifespan, the server must continue".
    """
    try:
        await other(scope, receive, send)
    except Exception:  # the root of the other application
        if said:
            raise
        logger.debug("the application beside the uploads has no lifespan", exc_info=True)
    if not said:
        await send({"type": "lifespan.startup.complete"})
        while (await receive())["type"] != "lifespan.shutdown":
            continue
