"""Who asks: what they are let in with, where they are, and under which URL they know us."""

from urllib.parse import quote

from starlette.types import Scope

from tusd_py.asgi.settings import HttpSettings
from tusd_py.asgi.shown import Show, build_upload
from tusd_py.engine.services import Services
from tusd_py.hooks.interface import NO_REQUEST, Access, Authorize, RequestInfo
from tusd_py.protocol.client import Proxies, network_of
from tusd_py.protocol.forwarded import Origin, parse_origin
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.headers import Headers
from tusd_py.protocol.upload import Upload


class Callers:
    """Knows those who ask by their requests.

    Args:
        services: What the engine works with.
        settings: How requests are read.
    """

    def __init__(self, services: Services, settings: HttpSettings) -> None:
        self._services = services
        self._proxies: Proxies | None = None
        if settings.behind_proxy:
            self._proxies = Proxies(settings.trusted_proxies)

    def address(self, scope: Scope, headers: Headers) -> str:
        """The client's address, or its network; empty on a Unix socket."""
        peer = _peer(scope)
        return network_of(peer) if self._proxies is None else self._proxies.client(headers, peer)

    def origin(self, scope: Scope, headers: Headers) -> Origin:
        """Where this server is, as the client sees it."""
        host, port = scope.get("server") or ("localhost", None)
        return parse_origin(
            headers,
            scope.get("scheme", "http"),
            host if port is None else f"{host}:{port}",
            behind_proxy=self._proxies is not None and self._proxies.trusts(_peer(scope)),
        )

    def locate(self, scope: Scope, headers: Headers, path: str) -> str:
        """The absolute URL of a path, as the client sees it."""
        return self.origin(scope, headers).url(path)

    def show_for(self, scope: Scope, headers: Headers, base_path: str) -> Show:
        """How uploads are told to whoever asks."""

        def show(upload: Upload) -> dict[str, object]:
            url = self.locate(scope, headers, base_path + upload.id)
            return build_upload(upload, url, self._services.clock())

        return show

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


async def ask(authorize: Authorize, access: Access) -> Grant:
    """What whoever asks is let in with.

    Raises:
        TusError: They are not let in.
    """
    found = await authorize(access)
    if isinstance(found, Grant):
        return found
    if found is None or isinstance(found, str):
        return Grant(principal=found or "")
    raise TypeError(f"authorize returned {type(found)}, which is no name, no Grant and not None")


def _peer(scope: Scope) -> str:
    """The address at the other end of the connection, empty on a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _uri(scope: Scope) -> str:
    """The path as it was sent, with its query."""
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
    query: bytes = scope.get("query_string") or b""
    return (path + b"?" + query if query else path).decode("latin-1")
