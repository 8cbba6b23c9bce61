"""`TusApp`: the rooms put together, as an ASGI application and for those who embed it."""

import asyncio
import logging
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Receive, Scope, Send

from tusd_py.asgi.events import Events
from tusd_py.asgi.frame import Frame
from tusd_py.asgi.mounting import TusRoute, beside, no_lifespan, serve_lifespan, with_slashes
from tusd_py.asgi.routes import TusRoutes, find_watched
from tusd_py.asgi.settings import HttpSettings
from tusd_py.body import Reason
from tusd_py.engine.control import obey
from tusd_py.engine.finish import resume
from tusd_py.engine.keeper import flush, keep, tell_progress
from tusd_py.engine.query import download
from tusd_py.engine.rebuild import make_all_anew
from tusd_py.engine.services import Fsync, Services, Timing
from tusd_py.engine.sweep import SweepReport, recover, sweep
from tusd_py.engine.talk import Talk
from tusd_py.engine.watching import Watching
from tusd_py.hooks.events import Observed
from tusd_py.hooks.interface import (
    Authorize,
    Changes,
    FinishedUpload,
    Hooks,
    NewUpload,
    Progress,
    UploadEvent,
    UploadInfo,
)
from tusd_py.hooks.outbox import Outbox
from tusd_py.locks.host import HostLocks
from tusd_py.locks.local import LocalLocks
from tusd_py.locks.neighbours import Neighbours
from tusd_py.protocol.commands import Download
from tusd_py.protocol.decide import Limits
from tusd_py.protocol.errors import StorageFailed, TusError, UploadLocked
from tusd_py.protocol.upload import Phase, Reply
from tusd_py.state.filesystem import check_local
from tusd_py.state.sqlite import SqliteState
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.interface import Storage

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

logger = logging.getLogger("tusd_py")

_SWEEP_EVERY = 600.0
_PROBE_WITHIN = 5.0
_PROBE_EVERY = 1.0
_LOOK_EVERY = 0.5
_SWEEPER = "sweeper!"
"""A lock that is no upload's: one process sweeps."""


class NobodyIsTold(TusError):
    """This process has no function for an event that was committed, maybe by an earlier one."""

    def __str__(self) -> str:
        return "no function of this process is told of such events"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an application seldom needs to say; see `TusApp` for the rest.

    Attributes:
        base_path: Where uploads lie, below where the application is mounted.
        state_dir: Where the state lies; None for `state/` beside the data, if those are files.
        http: How requests are read and answered.
        timing: How long things may take.
        max_metadata: Characters of `Upload-Metadata`.
        max_open_uploads: Uploads that wait for bytes at the same time, None for no limit. What
            other processes do counts within ten seconds.
        max_open_per_client: Likewise, of one principal, or of one address where nobody is asked;
            that is on record with the upload then.
        max_speed: Bytes per second of all uploads together, also over several processes, at least
            1,024; None for no limit.
        max_speed_per_client: Likewise, of all uploads of one principal, or of one address where
            nobody is asked.
        max_speed_per_upload: Likewise, of each upload.
        min_free_disk: Bytes that stay free where the uploads lie, looked at once a second: what
            would leave less is refused with 507, and a body that comes to it ends there; 0 to take
            whatever fits.
    """

    base_path: str = "/"
    state_dir: Path | None = None
    http: HttpSettings = field(default_factory=HttpSettings)
    timing: Timing = field(default_factory=Timing)
    max_metadata: int = 16_384
    min_free_disk: int = 64 << 20
    max_open_uploads: int | None = 100_000
    max_open_per_client: int | None = None
    max_speed: int | None = None
    max_speed_per_client: int | None = None
    max_speed_per_upload: int | None = None


class TusApp:
    """A tus 1.0 server as an ASGI application.

    Args:
        storage: Where the bytes lie.
        max_size: Bytes of one upload, None for no limit.
        expire_after: Seconds without an append after which an unfinished upload expires, None for
            never.
        fsync: What outlives a loss of power: `never`, `complete` or `always`; see `Fsync`.
        settings: What is seldom needed.
        authorize: See `Hooks`, as all that follow.

    Attributes:
        frame: What every request has.
        routes: What answers those of tus.
        events: What happens to uploads, for those who listen.
        watching: Those who listen to what happens to uploads.
        at_stop: Called at the end of `stop`, to let go of what the functions work with.

    Example:
        ```
        tus = TusApp(DiskStorage("uploads"), on_finish=import_file)
        app = FastAPI(lifespan=tus.lifespan)
        tus.mount(app, "/files")
        ```
    """

    def __init__(
        self,
        storage: Storage,
        *,
        max_size: int | None = None,
        expire_after: float | None = 86_400.0,
        fsync: Fsync | str = Fsync.COMPLETE,
        settings: Settings | None = None,
        authorize: Authorize | None = None,
        new_id: Callable[[NewUpload], Awaitable[str]] | None = None,
        on_create: Callable[[NewUpload], Awaitable[Changes | None]] | None = None,
        on_created: Callable[[UploadEvent], Awaitable[None]] | None = None,
        on_progress: Callable[[Progress], Awaitable[None]] | None = None,
        on_finish: Callable[[FinishedUpload], Awaitable[Reply | None]] | None = None,
        on_finished: Callable[[UploadEvent], Awaitable[None]] | None = None,
        on_terminating: Callable[[UploadInfo], Awaitable[Reply | None]] | None = None,
        on_terminate: Callable[[UploadEvent], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings or Settings()
        state_dir = self._settings.state_dir
        if state_dir is None:
            if not isinstance(storage, DiskStorage):
                raise ValueError(
                    "uploads lie elsewhere: say where the state is, Settings.state_dir"
                )
            state_dir = storage.directory / "state"
        self._host_locks = HostLocks(state_dir / "locks")
        self._neighbours = Neighbours(self._host_locks.directory)
        self.storage = storage
        self.state = SqliteState(state_dir / "tusd-py.sqlite3")
        self.services = Services(
            storage=storage,
            state=self.state,
            locks=LocalLocks(self._host_locks, self._neighbours),
            clock=time.time,
            hooks=Hooks(
                authorize=authorize,
                new_id=new_id,
                on_create=on_create,
                on_created=on_created,
                on_progress=on_progress,
                on_finish=on_finish,
                on_finished=on_finished,
                on_terminating=on_terminating,
                on_terminate=on_terminate,
            ),
            limits=Limits(
                max_size=max_size,
                max_metadata=self._settings.max_metadata,
                expire_after=expire_after,
                min_free_disk=self._settings.min_free_disk,
                max_open_uploads=self._settings.max_open_uploads,
                max_open_per_client=self._settings.max_open_per_client,
                max_speed=self._settings.max_speed,
                max_speed_per_client=self._settings.max_speed_per_client,
                max_speed_per_upload=self._settings.max_speed_per_upload,
            ),
            fsync=Fsync(fsync),
            timing=self._settings.timing,
            talk=Talk(self._neighbours),
            wake_outbox=self._wake_outboxes,
        )
        self._base_path = with_slashes(self._settings.base_path)
        self.watching = Watching(self.services)
        obey(self.services)
        self.events = Events(self.services, self.watching)
        self.frame = Frame(self.services, self._settings.http)
        self.routes = TusRoutes(self.services, self._settings.http, self.frame, self.events)
        self._opening: asyncio.Task[None] | None = None
        self._is_open = False
        self._probing: asyncio.Task[str] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self.at_stop: list[Callable[[], Awaitable[None]]] = []

    def add_observer(self, observer: Callable[[Observed], None]) -> None:
        """Lets `observer` be told at once of everything that happens; it must be quick."""
        self.services.observers.append(observer)

    def trace(self, tracer: "Tracer | None" = None) -> None:
        """Makes spans of OpenTelemetry from now on, of each request and its steps.

        Args:
            tracer: Makes them; None for one of the provider that is configured.

        Raises:
            ModuleNotFoundError: The extra `otel` is not installed.
        """
        from tusd_py.tracing import Traces

        traces = Traces(tracer)
        self.services.trace = traces.request
        self.add_observer(traces.observe)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection: `http`, `websocket` or `lifespan`."""
        if scope["type"] == "lifespan":
            await serve_lifespan(self.lifespan, no_lifespan, scope, receive, send)
        elif scope["type"] == "http":
            whole, base_path = _located(scope, self._base_path)
            await self.answer(whole, receive, send, base_path)
        elif scope["type"] == "websocket":
            whole, base_path = _located(scope, self._base_path)
            await self.answer_socket(whole, receive, send, base_path)
        else:
            raise ValueError(f"tusd-py serves http and websocket, not {scope['type']!r}")

    async def answer(self, scope: Scope, receive: Receive, send: Send, base_path: str) -> None:
        """Serves a request.

        Args:
            scope: With the whole path, as in the URL.
            receive: See the ASGI specification.
            send: Likewise.
            base_path: What uploads lie under, with a slash at its end.
        """
        if not self._is_open:
            await self.ready()
        await self.routes.answer(scope, receive, send, base_path)

    async def answer_socket(
        self, scope: Scope, receive: Receive, send: Send, base_path: str
    ) -> None:
        """Serves a WebSocket, at the events of an upload; arguments as for `answer`."""
        if not self._settings.http.websockets:
            await receive()
            await send({"type": "websocket.close"})
            return
        if not self._is_open:
            await self.ready()
        await self.routes.answer_socket(scope, receive, send, base_path)

    def answer_at_once(
        self, scope: Scope, data: bytes, base_path: str | None = None
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        """Serves a small upload whose bytes are there, without waiting for anything.

        See `wire.http`, which calls it where this is its application.

        Args:
            scope: Of an ASGI `http` connection, the names of headers in lower case.
            data: The body of the request.
            base_path: As for `answer`, and the scope then too; None for what `__call__` would find.

        Returns:
            Status, headers and body of the answer; None if `__call__` or `answer` is to be asked.
        """
        if not self._is_open:
            return None
        if base_path is None:
            scope, base_path = _located(scope, self._base_path)
        return self.routes.answer_at_once(scope, data, base_path)

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Opens everything, sweeps and syncs in the background, and closes in the end.

        Give it to your application as its lifespan, or enter it within your own.

        Args:
            app: As frameworks pass it; not looked at.

        Raises:
            WrongInstance: The bytes and the state do not belong together.
            NewerDatabase: The state was made by a newer release.
            NetworkFileSystem: The state lies where locks do not hold.
        """
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    async def start(self) -> None:
        """The first half of `lifespan`."""
        await self.open()
        services = self.services
        if services.hooks.on_terminate is not None:
            await self.state.listen()
            services.tells = True
        self._run(keep(services))
        if services.hooks.on_progress is not None:
            self._run(tell_progress(services, services.hooks.on_progress))
        self._run(self._sweep_now_and_then())
        self._run(self._end_with_uvicorn())
        if services.hooks.hear_events:
            outbox = Outbox(
                self.state, services.locks, services.clock, self._deliver, services.observe
            )
            self._neighbours.on_notice = outbox.wake
            self._run(outbox.run())

    async def _end_with_uvicorn(self) -> None:
        """It ends the lifespan behind the last request only, which a stream of events never is."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if _is_uvicorn_ending():
                self.interrupt()
                return

    async def open(self) -> None:
        """Opens storage and state, and starts nothing in the background; `stop` closes them.

        Raises:
            WrongInstance: The bytes and the state do not belong together.
            NewerDatabase: The state was made by a newer release.
            NetworkFileSystem: The state lies where locks do not hold.
            RuntimeError: It is open already.
        """
        if self._is_open:
            raise RuntimeError(
                "this TusApp runs already: enter its lifespan once; tus.mount(), where it returns "
                "a new application, enters it by itself"
            )
        self.services.is_ending = False
        self._opening = asyncio.create_task(self._open())
        await self._opening

    async def stop(self, within: float = 10.0) -> None:
        """The second half of `lifespan`: what came is kept, and synced.

        Args:
            within: Seconds for the requests and the work on finished uploads that are still under
                way; the next start resumes what does not end in time.
        """
        self.interrupt()
        self._is_open = False
        background = list(self._background)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        begun = time.monotonic()
        is_idle = await self.frame.idle(within)
        self.watching.close()
        await self.services.jobs.close(max(0.1, within - (time.monotonic() - begun)))
        await flush(self.services, until=begun + within)
        await self.state.close()
        await self.storage.close()
        if is_idle:
            # A request that hangs, say in a write to a disk that hangs, keeps its lock until this
            # process ends: ownership never passes by time.
            self._host_locks.close()
        # Only now: who waits for a lock of ours tries again when it finds us gone.
        self._neighbours.close()
        for close in self.at_stop:
            await close()
        self._opening = None

    def interrupt(self) -> None:
        """Ends every append with what came so far, and takes no new one: the server is to end."""
        self.services.is_ending = True
        self.watching.end_all()
        self.services.locks.interrupt_all(Reason.SHUTDOWN)

    async def why_not_ready(self) -> str:
        """Why uploads cannot be taken now, in one line for operators; empty if they can."""
        if self.services.is_ending:
            return "the server ends"
        if not self._is_open:
            return "the server has not opened its uploads yet"
        if self._probing is None:
            # Anybody may ask, as often as they like: what is found holds for all within a second.
            self._probing = asyncio.create_task(self._probe())
            asyncio.get_running_loop().call_later(_PROBE_EVERY, self._forget_probe)
        return await asyncio.shield(self._probing)

    def _forget_probe(self) -> None:
        self._probing = None

    async def _probe(self) -> str:
        what = "no record"
        try:
            self.services.check_room(1)
            await asyncio.wait_for(self.state.probe(), _PROBE_WITHIN)
            what = "no byte"
            await asyncio.wait_for(self.storage.probe(), _PROBE_WITHIN)
        except TimeoutError:
            return f"{what} could be written within {_PROBE_WITHIN:g} s"
        except TusError as error:
            cause = error.__cause__
            # Of an OSError without its path, which is nobody's business.
            reason = getattr(cause, "strerror", None) or cause
            return f"{error}: {reason}" if reason else str(error)
        return ""

    async def sweep(self, *, dry_run: bool = False) -> SweepReport:
        """Removes what nobody will finish, as the server does by itself every ten minutes."""
        await self.ready()
        return await sweep(self.services, dry_run=dry_run)

    async def take(self, upload_id: str, to: str | Path) -> None:
        """Moves a finished file to `to`, durably, and forgets where it lay.

        It may be called from `on_finish` or later, and repeated after a crash. The upload's URL
        goes on answering `HEAD`, so that its client learns that all is well.

        Raises:
            UploadNotFound: There is no such upload, or its file was taken to another place.
            UploadNotFinished: It is not complete.
            FileExistsError: Another file lies at `to`; nothing was moved.
        """
        await self.ready()
        services = self.services
        if upload_id in services.finishing:
            upload = await self.state.load(upload_id)
            assert upload is not None, "it is being finished"
            path = upload.path or await self.storage.finish(upload, durable=True)
            await self.storage.take(upload._replace(path=path), Path(to))
            services.finishing[upload_id] = True
            return
        within = services.timing.acquire_lock
        async with services.locks.hold(upload_id, within=within):
            upload = await download(services, Download(upload_id=upload_id))
            await self.storage.take(upload, Path(to))
            await services.publish(upload._replace(path=None), durable=True)

    def mount(self, app: Any, path: str) -> ASGIApp:
        """Puts this under `path` of another application, which answers with and without a slash.

        Args:
            app: A Starlette or FastAPI application, which gets a route; or any other ASGI
                application, such as Litestar's or Django's.
            path: Such as `/files`.

        Returns:
            The application to serve: `app` itself if it got a route, and otherwise a new one that
            passes on to `app` whatever does not lie under `path`, and runs both lifespans.
        """
        prefix = with_slashes(path).rstrip("/")
        routes = getattr(getattr(app, "router", None), "routes", None)
        if isinstance(routes, list):
            routes.insert(0, TusRoute(prefix, self, self._has_sockets))
            mounted: ASGIApp = app
            return mounted
        return beside(self, self.lifespan, app, prefix, self._has_sockets)

    def _has_sockets(self, below: str) -> bool:
        """Whether WebSockets at a path below where this is mounted are for here."""
        is_ours = find_watched(below, self._base_path) is not None
        return is_ours and self._settings.http.websockets

    async def ready(self) -> None:
        """Waits until everything is open, which it opens by itself where nobody else does."""
        if self._opening is None:
            logger.warning(
                "TusApp serves without its lifespan: expired uploads are not swept, and events "
                "not delivered. Pass lifespan=tus.lifespan to your application"
            )
            self._opening = asyncio.create_task(self._open())
        try:
            await asyncio.shield(self._opening)
        except Exception:
            self._opening = None  # the next request tries again
            raise

    async def _open(self) -> None:
        await asyncio.to_thread(check_local, self.state.path.parent)
        try:
            await self._open_storage(await self.state.open())
            await asyncio.to_thread(self._host_locks.open)
            self._meet_neighbours()
            self.services.tells = await self.state.has_listener()
            await self.services.count_open()
            self._is_open = True
        except BaseException:
            self._neighbours.close()
            await self.state.close()
            await self.storage.close()
            raise

    def _meet_neighbours(self) -> None:
        try:
            self._neighbours.open()
        except OSError as error:
            logger.warning(
                "no upload is handed over to another process, nor taken over from one: "
                "no socket can be made in %s: %s",
                self._host_locks.directory,
                error.strerror,
            )

    def _wake_outboxes(self) -> None:
        self._neighbours.on_notice()
        if self.services.tells or self.services.hooks.hear_events:
            self._neighbours.give_notice()

    async def _deliver(self, event: UploadEvent) -> None:
        hooks = self.services.hooks
        function = {Phase.RECEIVING: hooks.on_created, Phase.COMPLETE: hooks.on_finished}.get(
            event.phase, hooks.on_terminate
        )
        if function is not None:
            await function(event)
        elif not hooks.drop_events:
            # Another process has one, or the next start; dropped, it would never be told.
            raise NobodyIsTold

    async def _open_storage(self, instance: str | None) -> None:
        # Whose the state is, for storage that remembers more than one: see `S3Storage`.
        owner = f"{socket.gethostname()}:{self.state.path.parent.resolve()}"
        if instance is None:
            # The state chooses, before any bytes do: of several processes the first one's counts.
            lost = await self.storage.instance(owner)
            await self.state.tie(lost or secrets.token_hex(16))
            instance = await self.state.instance()
            assert instance is not None, "it was just tied"
        await self.storage.open(
            instance,
            is_new=not await self.state.page("", 1),
            trust_unsynced=self.services.fsync is Fsync.NEVER,
            owner=owner,
            observe=self.services.observe,
        )
        self.services.recalls = self.storage.is_enough and not await self.state.is_whole()

    async def _sweep_now_and_then(self) -> None:
        recovering: asyncio.Task[None] | None = None
        while True:
            try:
                async with self.services.locks.attempt(_SWEEPER):
                    await self._make_records_anew()
                    if recovering is None or recovering.done():
                        recovering = self._run(recover(self.services))
                    report = await sweep(self.services)
                    for upload_id in report.whole:
                        # Recovery may have looked before; the next one is far away.
                        work = partial(resume, self.services, upload_id)
                        self.services.jobs.wake(upload_id, work)
                    await self.watching.trim()
                if report.expired or report.quarantined:
                    logger.info(
                        "swept %d expired uploads and %d stray files: %d bytes are free again",
                        len(report.expired),
                        len(report.quarantined),
                        report.bytes_freed,
                    )
            except UploadLocked:
                logger.debug("another process sweeps")
            except Exception:  # the root of a task
                logger.exception("the sweep failed; it is tried again")
            await asyncio.sleep(_SWEEP_EVERY)

    async def _make_records_anew(self) -> None:
        try:
            await make_all_anew(self.services)
        except StorageFailed:
            # Those that somebody asks for are looked up all the same.
            logger.exception("not all records could be made anew; it is tried again")

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(_report)
        task.add_done_callback(self._background.discard)
        self._background.add(task)
        return task


def _is_uvicorn_ending() -> bool:
    """Whether a uvicorn that runs this was told to end; SIGTERM is handled by a method of it."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True


def _report(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("a task in the background ended", exc_info=task.exception())


def _located(scope: Scope, base_path: str) -> tuple[Scope, str]:
    """The scope, and the path as in the URL that uploads lie under.

    Some frameworks leave the mount's path in `path`, others take it out; `root_path` has it.
    """
    root = scope.get("root_path", "").rstrip("/")
    path = scope["path"]
    if root and path != root and not path.startswith(root + "/"):
        scope = {**scope, "path": root + path}
    return scope, root + base_path
