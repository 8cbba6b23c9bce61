"""Names the implementations: a server, and the tools beside it, from what the operator said."""

import asyncio
import json
import logging
import signal
import socket
import sqlite3
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn
import uvloop

from tusd_py.app import Settings, TusApp
from tusd_py.asgi.mounting import ASGIApp, Receive, Scope, Send, beside, with_slashes
from tusd_py.asgi.routes import HttpSettings
from tusd_py.asgi.site import HEALTH_PATH, build_site
from tusd_py.engine.services import Fsync, Timing
from tusd_py.metrics import Metrics
from tusd_py.protocol.cors import CorsPolicy
from tusd_py.protocol.errors import StorageFailed, TusError
from tusd_py.protocol.upload import GONE, Phase, Tail, Upload
from tusd_py.state.filesystem import NetworkFileSystem
from tusd_py.state.sqlite import NewerDatabase, SqliteState
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.interface import WrongInstance
from tusd_py.storage.template import InvalidTemplate
from tusd_py.wire.http import HttpProtocol

_BACKLOG = 2048
_PAGE = 500


class CannotListen(Exception):
    """The address cannot be listened on; the message says why."""


EXPECTED = (
    CannotListen,
    WrongInstance,
    NewerDatabase,
    NetworkFileSystem,
    InvalidTemplate,
    OSError,
    TusError,
)
"""What an operator can mend; see `explain`."""

FSYNC = tuple(mode.value for mode in Fsync)


def explain(error: BaseException) -> str:
    """One of `EXPECTED` in one line: what is wrong, and with what."""
    cause = error.__cause__ if isinstance(error, TusError) else None
    if isinstance(cause, sqlite3.Error):
        return f"the state cannot be used: {cause}"
    reason = cause or error
    if isinstance(reason, OSError) and reason.strerror:
        where = "" if reason.filename is None else f"{reason.filename}: "
        return f"{where}{reason.strerror}"
    return str(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a deployment keeps its uploads, and its state if that lies elsewhere."""

    upload_dir: Path
    state_dir: Path | None = None
    file_template: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where a server listens, and what it shows beside the uploads.

    Attributes:
        host: An address or a name of this machine.
        port: 0 for a free one.
        unix_sock: Listen on this socket instead, None for TCP.
        metrics_path: None for no metrics.
        shutdown_timeout: Seconds from SIGTERM to the end.
    """

    host: str = "127.0.0.1"
    port: int = 1080
    unix_sock: Path | None = None
    metrics_path: str | None = "/metrics"
    shutdown_timeout: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """What uploads are taken, and how requests are answered; see `TusApp` and its `Settings`."""

    base_path: str = "/files/"
    max_size: int | None = None
    expire_after: float | None = 86_400.0
    fsync: str = Fsync.COMPLETE.value
    behind_proxy: bool = False
    network_timeout: float = 60.0
    acquire_lock_timeout: float = 20.0
    cors_allow_origin: str = "*"
    cors_allow_credentials: bool = False
    cors_allow_headers: str = ""

    def for_app(self, state_dir: Path | None) -> Settings:
        """The part that an application has in its `Settings`; its mount is the base path."""
        cors = CorsPolicy(
            allow_origin=self.cors_allow_origin,
            allow_credentials=self.cors_allow_credentials,
            allow_headers=self.cors_allow_headers,
        )
        return Settings(
            state_dir=state_dir,
            http=HttpSettings(
                cors=cors, behind_proxy=self.behind_proxy, network_timeout=self.network_timeout
            ),
            timing=Timing(acquire_lock=self.acquire_lock_timeout),
        )


def build_app(place: Place, uploads: UploadSettings) -> TusApp:
    """The application of a deployment.

    Raises:
        InvalidTemplate: The file template cannot be used.
    """
    storage = DiskStorage(place.upload_dir, file_template=place.file_template)
    return TusApp(
        storage,
        max_size=uploads.max_size,
        expire_after=uploads.expire_after,
        fsync=uploads.fsync,
        settings=uploads.for_app(place.state_dir),
    )


def build_server_app(tus: TusApp, base_path: str, metrics_path: str | None) -> ASGIApp:
    """The uploads under `base_path`, and the pages beside them; those go first at their paths."""
    metrics = Metrics()
    tus.add_observer(metrics.observe)
    endpoint = with_slashes(base_path)
    shown_at = None if metrics_path is None else with_slashes(metrics_path).rstrip("/") or "/"
    site = build_site(metrics, shown_at, endpoint)
    both = beside(tus, tus.lifespan, site, endpoint.rstrip("/"))

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and scope["path"] in (HEALTH_PATH, shown_at)
        await (site if is_page else both)(scope, receive, send)

    return dispatch


class _Server(uvicorn.Server):
    """uvicorn, with signals that are ours: it would end with 143, and interrupt no body."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals alone."""
        yield


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
        WrongInstance: The bytes and the state do not belong together.
        NewerDatabase: The state was made by a newer release.
        InvalidTemplate: The file template cannot be used.
        StorageFailed: The directory or the state cannot be used.
        OSError: Likewise.
    """
    tus = build_app(place, uploads)
    app = build_server_app(tus, uploads.base_path, server.metrics_path)
    base_path = with_slashes(uploads.base_path)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(tus, app, server, lambda url: announce(url + base_path)))


async def _serve(
    tus: TusApp, app: ASGIApp, server: ServerSettings, announce: Callable[[str], None]
) -> None:
    listening, url = _listen(server)
    try:
        await tus.start()
    except BaseException:
        _close(listening, server.unix_sock)
        raise
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # A client that was told to stop is given two seconds to read it; see asgi/responding.py.
        timeout_graceful_shutdown=max(1, int(server.shutdown_timeout * 3 / 4)),
    )
    uvicorn_server = _Server(config)
    ends_at = _end_on_signals(tus, uvicorn_server, server.shutdown_timeout)
    announce(url)
    try:
        await uvicorn_server.serve(sockets=[listening])
    finally:
        await tus.stop(within=max(0.5, ends_at() - time.monotonic() - 1.0))
        _close(listening, server.unix_sock)


def _end_on_signals(
    tus: TusApp, server: uvicorn.Server, shutdown_timeout: float
) -> Callable[[], float]:
    """Lets SIGTERM and SIGINT end the server: by when, in `time.monotonic()`."""
    deadline = [float("inf")]

    def end() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True
        deadline[0] = time.monotonic() + shutdown_timeout
        tus.interrupt()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    return lambda: min(deadline[0], time.monotonic() + shutdown_timeout)


def _listen(server: ServerSettings) -> tuple[socket.socket, str]:
    """A listening socket, and the URL that it is reached at, without a path."""
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


def _close(listening: socket.socket, unix_sock: Path | None) -> None:
    """Stops listening; the next server's socket may lie at the same path already."""
    listening.close()
    if unix_sock is not None:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(unix_sock)) != 0:
                unix_sock.unlink(missing_ok=True)


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[TusApp]:
    """A deployment that is there already, for a tool beside its servers; nothing runs by itself.

    Raises:
        WrongInstance: There is none, or its bytes and its state do not belong together.
        NewerDatabase: The state was made by a newer release.
    """
    tus = build_app(place, UploadSettings())
    if not tus.state.path.exists():
        raise WrongInstance(
            f"there are no uploads of tusd-py in {place.upload_dir}: "
            f"{tus.state.path} does not exist; give --upload-dir as for the server"
        )
    await tus.open()
    try:
        yield tus
    finally:
        await tus.stop()


async def list_uploads(tus: TusApp) -> AsyncIterator[dict[str, object]]:
    """What is known of each upload that is not gone, for people and programs.

    Args:
        tus: Opened.
    """
    after = ""
    while page := await tus.state.page(after, _PAGE):
        for upload in page:
            if upload.phase not in GONE:
                yield _line(tus, upload)
        after = page[-1].id


def _line(tus: TusApp, upload: Upload) -> dict[str, object]:
    where = tus.storage.locate(upload) if upload.is_unfinished or upload.path else None
    name = upload.metadata.get("filename") or upload.metadata.get("name") or b""
    return {
        "id": upload.id,
        "phase": upload.phase.value,
        "offset": upload.upload_offset,
        "length": upload.upload_length,
        "filename": name.decode("utf-8", "replace"),
        "created_at": upload.created_at,
        "expires_at": upload.expires_at if upload.may_expire else None,
        "path": None if where is None else str(where),
    }


@dataclass(slots=True, kw_only=True)
class BackupReport:
    """What a backup holds; `skipped` are uploads that ended while it was made."""

    copied: int = 0
    skipped: int = 0
    bytes_copied: int = 0


async def back_up(tus: TusApp, to: Path) -> BackupReport:
    """Copies a deployment while servers run on it.

    The state is copied first, as of one moment; then of each upload as many bytes as that state
    acknowledges, which never change. The copy is a deployment of its own, for `--upload-dir`.

    Args:
        tus: Opened.
        to: A new or empty folder.

    Raises:
        FileExistsError: There is something in `to`.
        StorageFull: There is no room for it.
        StorageFailed: A file cannot be read, or the copy not be written.
    """
    state_file = await asyncio.to_thread(_new_folder, to) / tus.state.path.name
    await tus.state.backup(state_file)
    storage, state = DiskStorage(to), SqliteState(state_file)
    report = BackupReport()
    try:
        await storage.open(await state.open(), trust_unsynced=False)
        after = ""
        while page := await state.page(after, _PAGE):
            for upload in page:
                await _copy_one(tus, upload, storage, state, report)
            after = page[-1].id
    finally:
        await state.close()
    return report


def _new_folder(to: Path) -> Path:
    if to.exists() and any(to.iterdir()):
        raise FileExistsError(f"{to} is not empty; a backup needs a new folder")
    folder = to / "state"
    folder.mkdir(parents=True)
    return folder


async def _copy_one(
    tus: TusApp, upload: Upload, storage: DiskStorage, state: SqliteState, report: BackupReport
) -> None:
    if not (upload.is_unfinished or upload.path):
        return
    where = tus.storage.locate(upload)
    try:
        await tus.storage.copy_out(upload, storage)
    except StorageFailed:
        if await asyncio.to_thread(where.exists):
            raise
        moved = await tus.state.load(upload.id)
        if moved is None or not moved.path or tus.storage.locate(moved) == where:
            report.skipped += 1
            await state.delete(upload)
            return
        # It was finished meanwhile, and lies where the template says.
        await tus.storage.copy_out(moved, storage)
        moved = replace(moved, generation=upload.generation)
        upload = await state.commit(moved, durable=True)
    report.copied += 1
    report.bytes_copied += upload.upload_offset
    if upload.phase is Phase.RECEIVING and not upload.is_final:
        # The copy holds what was acknowledged, on the disk, and nothing beyond.
        copied = replace(upload, synced_offset=upload.upload_offset, tail=Tail.OPEN)
        await state.commit(copied, durable=True)


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        for name in ("request_id", "upload_id", "milliseconds"):
            if (value := getattr(record, name, None)) not in (None, ""):
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _TextLines(logging.Formatter):
    """One line for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        found = ((name, getattr(record, name, None)) for name in ("request_id", "upload_id"))
        return super().format(record) + "".join(f" {name}={text}" for name, text in found if text)


def configure_logging(log_format: str, level: str) -> None:
    """Sends the log to stderr.

    Args:
        log_format: `text` or `json`.
        level: Such as `info`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if log_format == "json" else _TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("uvicorn", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
