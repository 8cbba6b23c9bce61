"""Names the implementations: a server, or a deployment for a tool, from what the operator said."""

import asyncio
import json
import logging
import math
import re
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop
from starlette.types import Receive, Scope, Send

from tusd_py.app import Settings, TusApp
from tusd_py.asgi.api import EVENTS_PATH, Api
from tusd_py.asgi.mounting import beside, with_slashes
from tusd_py.asgi.settings import HttpSettings
from tusd_py.asgi.site import HEALTH_PATH, READY_PATH, build_site
from tusd_py.asgi.ui import FILES_PATH, build_ui, find_page
from tusd_py.auth.credentials import Credentials
from tusd_py.auth.interface import Bearers
from tusd_py.auth.interface import InvalidKeys as InvalidKeys
from tusd_py.auth.signed import UPLOADING as UPLOADING
from tusd_py.auth.signed import VERBS as VERBS
from tusd_py.auth.signed import SignedUrls
from tusd_py.auth.source import Source, parse_secrets
from tusd_py.auth.tokens import Tokens
from tusd_py.engine.rebuild import make_all_anew
from tusd_py.engine.services import Fsync, Timing
from tusd_py.hooks.command import CommandCarrier, CommandSettings
from tusd_py.hooks.events import TUSD_HOOKS, LimitReached
from tusd_py.hooks.tusd import Carrier, TusdHooks
from tusd_py.metrics import Metrics
from tusd_py.numbers import Board, Numbers
from tusd_py.protocol.client import PRIVATE, Proxies, network_of
from tusd_py.protocol.cors import CorsPolicy
from tusd_py.protocol.errors import TusError
from tusd_py.state.filesystem import NetworkFileSystem
from tusd_py.state.sqlite import NewerDatabase
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.interface import Storage, WrongInstance
from tusd_py.storage.template import InvalidTemplate
from tusd_py.wire.limits import ConnectionLimits as ConnectionLimits
from tusd_py.wire.limits import connections_by_descriptors as connections_by_descriptors
from tusd_py.wire.server import CannotListen, NotProtected, close, listen, run, run_worker
from tusd_py.wire.server import ServerSettings as ServerSettings
from tusd_py.wire.workers import Parent, Supervisor, WorkersFailed

if TYPE_CHECKING:
    from tusd_py.storage.s3 import S3Settings, S3Storage

logger = logging.getLogger("tusd_py")


class NotInstalled(Exception):
    """What was asked for needs more than a plain installation."""


class InvalidPlace(ValueError):
    """What was said of a place cannot be."""


class NeedsFiles(Exception):
    """A tool for files was asked to work on a bucket."""


class InvalidHooks(ValueError):
    """What was said of hooks cannot be."""


EXPECTED = (
    NotInstalled,
    InvalidHooks,
    NeedsFiles,
    CannotListen,
    WorkersFailed,
    WrongInstance,
    NewerDatabase,
    NetworkFileSystem,
    InvalidTemplate,
    InvalidPlace,
    InvalidKeys,
    OSError,
    TusError,
)
"""What an operator can mend; see `explain`."""

FSYNC = tuple(mode.value for mode in Fsync)


def explain(error: BaseException) -> str:
    """One of `EXPECTED` in one line: what is wrong, and with what."""
    cause = error.__cause__ if isinstance(error, TusError) else None
    if isinstance(error, NotProtected):
        return (
            f"{error}, and nobody would be asked who they are: give --auth-tokens, --auth-jwt-keys "
            "or --auth-signing-key, or --no-auth if something in front of it asks"
        )
    if isinstance(cause, sqlite3.Error):
        return f"the state cannot be used: {cause}"
    reason = cause or error
    if isinstance(reason, OSError) and reason.strerror:
        where = "" if reason.filename is None else f"{reason.filename}: "
        return f"{where}{reason.strerror}"
    return str(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSettings:
    """How a server uses a bucket; sizes in bytes, times in seconds. See `S3Settings`."""

    s3_memory: int = 256 << 20
    s3_part_size: int = 8 << 20
    s3_min_part_size: int = 5 << 20
    s3_max_parts: int = 10_000
    s3_max_object_size: int = 5 << 40
    s3_equal_parts: bool = False
    s3_concurrent_part_uploads: int = 32
    s3_concurrent_parts_per_upload: int = 4
    s3_storage_class: str | None = None
    s3_sse: str | None = None
    s3_sse_kms_key_id: str | None = None
    s3_tags: str = ""
    s3_download: str = "proxy"
    s3_download_expires: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a deployment keeps its uploads, and its state if that lies elsewhere.

    With a bucket, only the state lies in the folder, and the template is that of the keys.
    """

    upload_dir: Path
    state_dir: Path | None = None
    file_template: str | None = None
    s3_bucket: str | None = None
    s3_endpoint: str | None = None
    s3_region: str | None = None
    s3_object_prefix: str = ""
    s3_owner: str | None = None
    s3_addressing_style: str | None = None
    in_bucket: BucketSettings = field(default_factory=BucketSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSettings:
    """Whom tusd's hooks go to, as tusd's flags say it; times are in seconds."""

    hooks_http: str | None = None
    hooks_http_retry: int = 3
    hooks_http_backoff: float = 1.0
    hooks_http_timeout: float = 15.0
    hooks_http_size_limit: int = 5 << 10
    hooks_http_forward_headers: str = ""
    hooks_http_secret_file: Path | None = None
    hooks_dir: Path | None = None
    hooks_dir_timeout: float = 60.0
    hooks_enabled_events: str = "pre-create,post-create,post-receive,post-terminate,post-finish"
    progress_hooks_interval: float = 1.0

    def enabled(self) -> frozenset[str]:
        """The hooks that are called, by tusd's names.

        Raises:
            InvalidHooks: There is no such hook.
        """
        names = _listed(self.hooks_enabled_events) or TUSD_HOOKS
        for name in names:
            if name not in TUSD_HOOKS:
                raise InvalidHooks(
                    f"--hooks-enabled-events: there is no {name!r}; choose from "
                    + ", ".join(TUSD_HOOKS)
                )
        return frozenset(names)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (each.strip() for each in text.split(","))))


def parse_networks(text: str) -> str:
    """A list of addresses and networks, as it came.

    Raises:
        ValueError: It has something else.
    """
    Proxies(_listed(text))
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """What uploads are taken, and how requests are answered; see `TusApp` and its `Settings`."""

    base_path: str = "/files/"
    max_size: int | None = None
    min_free_disk: int = 64 << 20
    max_requests_per_client: int = 0
    max_metadata_size: int = 16 << 10
    max_open_uploads: int = 100_000
    max_open_uploads_per_client: int = 2_000
    max_speed: int | None = None
    max_speed_per_client: int | None = None
    max_speed_per_upload: int | None = None
    expire_after: float | None = 86_400.0
    fsync: str = Fsync.COMPLETE.value
    behind_proxy: bool = False
    trusted_proxies: str = ",".join(PRIVATE)
    network_timeout: float = 60.0
    slowest_speed: float = 100.0
    acquire_lock_timeout: float = 20.0
    cors_allow_origin: str = "*"
    cors_allow_credentials: bool = False
    cors_allow_headers: str = ""
    auth_tokens: str | None = None
    auth_jwt_keys: str | None = None
    auth_jwt_audience: str | None = None
    auth_jwt_issuer: str | None = None
    auth_jwt_leeway: float = 10.0
    auth_signing_key: str | None = None
    no_auth: bool = False
    hooks: HookSettings = field(default_factory=HookSettings)

    @property
    def asks(self) -> bool:
        """Whether somebody is asked who they are."""
        return bool(self.auth_tokens or self.auth_jwt_keys or self.auth_signing_key)

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
                cors=cors,
                behind_proxy=self.behind_proxy,
                trusted_proxies=_listed(self.trusted_proxies),
                max_requests=self.max_requests_per_client or None,
                network_timeout=self.network_timeout,
                slowest_speed=self.slowest_speed,
                websockets=True,
            ),
            timing=Timing(acquire_lock=self.acquire_lock_timeout),
            min_free_disk=self.min_free_disk,
            max_metadata=self.max_metadata_size,
            max_open_uploads=self.max_open_uploads or None,
            max_open_per_client=self.max_open_uploads_per_client or None,
            max_speed=self.max_speed,
            max_speed_per_client=self.max_speed_per_client,
            max_speed_per_upload=self.max_speed_per_upload,
        )


def build_app(place: Place, uploads: UploadSettings) -> TusApp:
    """The application of a deployment.

    Raises:
        InvalidTemplate: The file template cannot be used.
        InvalidPlace: Something else of the place cannot be.
        InvalidHooks: The hooks cannot be.
        InvalidKeys: Nobody can be known by what was given for that.
        NotInstalled: It needs an extra.
    """
    carrier = _build_carrier(uploads.hooks)
    if place.s3_bucket is None:
        storage: Storage = DiskStorage(place.upload_dir, file_template=place.file_template)
        max_size, state_dir = uploads.max_size, place.state_dir
    else:
        bucket = _build_bucket(place, place.s3_bucket)
        sizes = [size for size in (uploads.max_size, bucket.largest_upload) if size is not None]
        storage, max_size = bucket, min(sizes)
        state_dir = place.state_dir or place.upload_dir / "state"
    tus = TusApp(
        storage,
        max_size=max_size,
        expire_after=uploads.expire_after,
        fsync=uploads.fsync,
        settings=uploads.for_app(state_dir),
        authorize=_build_credentials(uploads) if uploads.asks else None,
    )
    if carrier is not None:
        services, interval = tus.services, uploads.hooks.progress_hooks_interval
        hooks = TusdHooks(carrier, uploads.hooks.enabled(), interval, services.observe)
        services.hooks = hooks.over(services.hooks)
        tus.at_stop.append(hooks.close)
    return tus


def _build_carrier(settings: HookSettings) -> Carrier | None:
    if settings.hooks_http is not None and settings.hooks_dir is not None:
        raise InvalidHooks("give either --hooks-http or --hooks-dir, not both")
    if settings.hooks_dir is not None:
        if not settings.hooks_dir.is_dir():
            raise InvalidHooks(f"--hooks-dir: {settings.hooks_dir} is no folder")
        return CommandCarrier(
            CommandSettings(directory=settings.hooks_dir, timeout=settings.hooks_dir_timeout)
        )
    if settings.hooks_http is None:
        return None
    if not re.match(r"https?://[^/?#]", settings.hooks_http):
        raise InvalidHooks("--hooks-http needs a URL that begins with http:// or https://")
    # Here, since its HTTP client takes a third of the time in which a server starts.
    from tusd_py.hooks.http import HttpCarrier
    from tusd_py.hooks.http import HttpSettings as HttpHookSettings

    return HttpCarrier(
        HttpHookSettings(
            url=settings.hooks_http,
            attempts=settings.hooks_http_retry,
            backoff=settings.hooks_http_backoff,
            timeout=settings.hooks_http_timeout,
            size_limit=settings.hooks_http_size_limit,
            forward_headers=_listed(settings.hooks_http_forward_headers),
            secret=_read_secret(settings.hooks_http_secret_file),
        )
    )


def _read_secret(path: Path | None) -> bytes | None:
    if path is None:
        return None
    secret = path.read_bytes().rstrip(b"\r\n")
    if not secret:
        raise InvalidHooks(f"--hooks-http-secret-file: {path} is empty")
    return secret


def _build_credentials(uploads: UploadSettings) -> Credentials:
    bearers: list[Bearers] = []
    if uploads.auth_tokens:
        bearers.append(Tokens(uploads.auth_tokens))
    if uploads.auth_jwt_keys:
        bearers.append(_build_jwt(uploads, uploads.auth_jwt_keys))
    key = uploads.auth_signing_key
    return Credentials(bearers, build_signer(key) if key else None)


def _build_jwt(uploads: UploadSettings, keys: str) -> Bearers:
    try:
        from tusd_py.auth.jwt import JsonWebTokens, JwtSettings
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"--auth-jwt-keys needs {error.name}; install it with: pip install 'tusd-py[jwt]'"
        ) from error
    return JsonWebTokens(
        JwtSettings(
            keys=keys,
            audience=uploads.auth_jwt_audience,
            issuer=uploads.auth_jwt_issuer,
            leeway=uploads.auth_jwt_leeway,
        )
    )


def build_signer(signing_key: str) -> SignedUrls:
    """What signs URLs for a server that was given the same `--auth-signing-key`.

    Raises:
        InvalidKeys: It holds no key that can be used.
        OSError: It cannot be read.
    """
    return SignedUrls(Source(signing_key, parse_secrets))


def _build_bucket(place: Place, name: str) -> "S3Storage":
    try:
        from tusd_py.storage.s3 import S3Storage
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"--s3-bucket needs {error.name}; install it with: pip install 'tusd-py[s3]'"
        ) from error
    try:
        return S3Storage(name, _build_s3_settings(place, place.in_bucket))
    except InvalidTemplate:
        raise
    except ValueError as error:
        raise InvalidPlace(f"the flags --s3-... cannot be used: {error}") from error


def _build_s3_settings(place: Place, bucket: BucketSettings) -> "S3Settings":
    from tusd_py.storage.s3 import S3Settings
    from tusd_py.storage.s3_client import Access
    from tusd_py.storage.s3_objects import ObjectSettings, parse_tags
    from tusd_py.storage.s3_parts import PartRules

    # The name of a bucket is seldom part of a host's name where the host is not AWS.
    usual = "auto" if place.s3_endpoint is None else "path"
    return S3Settings(
        access=Access(
            endpoint=place.s3_endpoint,
            region=place.s3_region,
            addressing=place.s3_addressing_style or usual,
        ),
        object_prefix=place.s3_object_prefix,
        template=place.file_template or "{id}",
        objects=ObjectSettings(
            storage_class=bucket.s3_storage_class,
            encryption=bucket.s3_sse,
            kms_key=bucket.s3_sse_kms_key_id,
            tags=parse_tags(bucket.s3_tags),
        ),
        rules=PartRules(
            preferred=bucket.s3_part_size,
            smallest=bucket.s3_min_part_size,
            most_parts=bucket.s3_max_parts,
            largest_object=bucket.s3_max_object_size,
            equal=bucket.s3_equal_parts,
        ),
        memory=bucket.s3_memory,
        parallel=bucket.s3_concurrent_parts_per_upload,
        at_once=bucket.s3_concurrent_part_uploads,
        owner=place.s3_owner,
        links_for=bucket.s3_download_expires if bucket.s3_download == "redirect" else None,
    )


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
        trusted = Proxies(_listed(uploads.trusted_proxies))

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


@asynccontextmanager
async def opened(
    place: Place, uploads: UploadSettings | None = None, *, is_new: bool = False
) -> AsyncIterator[TusApp]:
    """A deployment for a tool beside its servers; nothing runs by itself.

    Args:
        place: Where it lies.
        uploads: What it takes, if that matters.
        is_new: Whether it may be made; otherwise it must be there already.

    Raises:
        WrongInstance: There is none, or its bytes and its state do not belong together.
        NewerDatabase: The state was made by a newer release.
    """
    tus = build_app(place, uploads or UploadSettings())
    if not is_new and not tus.state.path.exists():
        raise WrongInstance(
            f"there are no uploads of tusd-py in {place.upload_dir}: "
            f"{tus.state.path} does not exist; give --upload-dir as for the server"
            + _or_start_it(place)
        )
    await tus.open()
    try:
        await make_all_anew(tus.services)
        yield tus
    finally:
        await tus.stop()


def _or_start_it(place: Place) -> str:
    if place.s3_bucket is None:
        return ""
    return ", or start that: it knows from the bucket what was there"


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


_NOISY = ("uvicorn", "asyncio", "httpx", "httpcore", "aiobotocore", "botocore", "urllib3")
"""What others log below a warning is no help; botocore's has signatures that work for a while."""


def configure_logging(log_format: str, level: str) -> None:
    """Sends the log to stderr.

    Args:
        log_format: `text` or `json`.
        level: Such as `info`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if log_format == "json" else _TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
