"""A route of Starlette's that takes a path with and without its slash, and redirects neither."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.routing import BaseRoute, Match

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class TusRoute(BaseRoute):
    """Everything at and below a path goes to one application.

    Args:
        prefix: Such as `/files`.
        app: Gets `root_path` with the prefix at its end.
    """

    def __init__(self, prefix: str, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.path = prefix
        self._app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for here, whatever its method."""
        root = scope.get("root_path", "")
        path = scope["path"].removeprefix(root) if scope["type"] == "http" else ""
        if path == self.path or path.startswith(self.path + "/"):
            return Match.FULL, {"root_path": root + self.path, "endpoint": self._app}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request that matches."""
        await self._app(scope, receive, send)
