"""A server of our own: where it listens, and how it ends.

The rules:
- The signals are ours: uvicorn would end with 143, wait without limit, and interrupt no body.
- A unix socket that nobody listens on any more is replaced; one that lives is left alone.
- The garbage collector seldom looks at everything: that stops all work for 0.1 s for each thousand
  clients. What a connection or a request leaves behind has to need no collector.
"""

import asyncio
import gc
import ipaddress
import signal
import socket
import stat
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import uvicorn

from tusd_py.wire.http import HttpProtocol
from tusd_py.wire.limits import ConnectionLimits
from tusd_py.wire.websocket import MAX_MESSAGE, WebSocketProtocol
from tusd_py.wire.workers import Parent

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_BACKLOG = 2048

_YOUNG_COLLECTIONS = 1000
"""Before one of everything; each is of some ten thousand objects more than have been let go of."""


class CannotListen(Exception):
    """The address cannot be listened on; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where a server listens, and what it shows beside the uploads.

    Attributes:
        host: An address or a name of this machine.
        port: 0 for a free one.
        unix_sock: Listen on this socket instead, None for TCP.
        loopback_only: Refuse an address that other machines can reach.
        metrics_path: None for no metrics.
        ui: Whether there is a page for browsers.
        traces: Where traces of requests go, `otlp` or `console`; None for none.
        shutdown_timeout: Seconds from SIGTERM to the end.
        workers: Processes that serve; more than one have a parent, which keeps them running.
        connections: What connections may take; of each worker.
        worker_timeout: Seconds after which one of several that does not answer is killed.
    """

    host: str = "127.0.0.1"
    port: int = 1080
    unix_sock: Path | None = None
    loopback_only: bool = False
    metrics_path: str | None = "/metrics"
    ui: bool = True
    traces: str | None = None
    shutdown_timeout: float = 10.0
    workers: int = 1
    worker_timeout: float = 30.0
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)


class NotProtected(CannotListen):
    """Everyone who reaches the address could do everything."""


class Uploads(Protocol):
    """What has to be begun before the server, and ended with it."""

    async def start(self) -> None:
        """Makes ready; what it raises ends the server before it listens for long."""
        ...

    def interrupt(self) -> None:
        """Ends every request soon, with what came so far."""
        ...

    async def stop(self, within: float) -> None:
        """Ends what is left, in some seconds."""
        ...


class App(Protocol):
    """What is served."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        ...

    def see_connections(self, count: int) -> None:
        """Told once a second how many there are."""
        ...


class _Server(uvicorn.Server):
    """uvicorn, with signals that are ours: it would end with 143, and interrupt no body."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals alone."""
        yield


async def run(
    uploads: Uploads, app: App, server: ServerSettings, announce: Callable[[str], None]
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        uploads: Started before the first request, and stopped after the last.
        app: Answers the requests.
        server: Where to listen, and how long the end may take.
        announce: Called with the URL of the server, without a path, when it can be used.

    Raises:
        CannotListen: The address is taken or not allowed.
        NotProtected: It is not on loopback, and only that was to be listened on.
    """
    listening, url = listen(server)
    signals = (signal.SIGTERM, signal.SIGINT)
    try:
        await _serve(uploads, app, server, listening, signals, lambda: announce(url))
    finally:
        close(listening, server.unix_sock)


async def run_worker(
    uploads: Uploads, app: App, server: ServerSettings, listening: socket.socket, parent: Parent
) -> None:
    """As `run`, in one of several processes that share a socket; until SIGTERM."""
    parent.attend()
    await _serve(uploads, app, server, listening, (signal.SIGTERM,), parent.tell_ready)


async def _serve(
    uploads: Uploads,
    app: App,
    server: ServerSettings,
    listening: socket.socket,
    signals: Sequence[signal.Signals],
    on_ready: Callable[[], None],
) -> None:
    async def look() -> None:
        app.see_connections(len(uvicorn_server.server_state.connections))

    await uploads.start()
    config = uvicorn.Config(
        app,
        http=type("HttpProtocol", (HttpProtocol,), {"limits": server.connections}),
        ws=WebSocketProtocol,
        ws_max_size=MAX_MESSAGE,
        ws_per_message_deflate=False,  # it takes as much memory as all else of a connection
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # A client that was told to stop is given two seconds to read it; see asgi/responding.py.
        timeout_graceful_shutdown=max(1, int(server.shutdown_timeout * 3 / 4)),
        callback_notify=look,
        timeout_notify=1,
    )
    uvicorn_server = _Server(config)
    ends_at = _end_on_signals(uploads, uvicorn_server, server.shutdown_timeout, signals)
    on_ready()
    try:
        with few_collections():
            await uvicorn_server.serve(sockets=[listening])
    finally:
        await uploads.stop(within=max(0.5, ends_at() - time.monotonic() - 1.0))


@contextmanager
def few_collections() -> Iterator[None]:
    """Lets the garbage collector look at everything seldom, and never at what is there already."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*before[:2], _YOUNG_COLLECTIONS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _end_on_signals(
    uploads: Uploads,
    server: uvicorn.Server,
    shutdown_timeout: float,
    signals: Sequence[signal.Signals],
) -> Callable[[], float]:
    """Lets some signals end the server: by when, in `time.monotonic()`."""
    deadline = [float("inf")]

    def end() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True
        deadline[0] = time.monotonic() + shutdown_timeout
        uploads.interrupt()

    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, end)
    return lambda: min(deadline[0], time.monotonic() + shutdown_timeout)


def listen(server: ServerSettings) -> tuple[socket.socket, str]:
    """A listening socket, and the URL that it is reached at, without a path.

    Raises:
        CannotListen: See `run`.
        NotProtected: Likewise.
    """
    try:
        if server.unix_sock is not None:
            return _listen_unix(server.unix_sock), "http://localhost"
        family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
        address = (server.host, server.port)
        listening = socket.create_server(address, family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:  # the latter for a host that no name can be
        where = server.unix_sock or f"{server.host}:{server.port}"
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (while")[0]
        raise CannotListen(f"cannot listen on {where}: {reason}; choose another one") from error
    # As it was bound: a name may stand for any address.
    bound = listening.getsockname()[0]
    if server.loopback_only and not ipaddress.ip_address(bound).is_loopback:
        listening.close()
        raise NotProtected(f"{server.host or bound} can be reached from other machines")
    host = f"[{server.host}]" if ":" in server.host else server.host
    return listening, f"http://{host}:{listening.getsockname()[1]}"


def _listen_unix(path: Path) -> socket.socket:
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise OSError(None, "another server listens there")
        path.unlink()
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(str(path))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def close(listening: socket.socket, unix_sock: Path | None) -> None:
    """Stops listening; the next server's socket may lie at the same path already."""
    listening.close()
    if unix_sock is not None:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(unix_sock)) != 0:
                unix_sock.unlink(missing_ok=True)
