"""One small application in each framework, with uploads at `/api/files` as a user mounts them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import django.conf  # type: ignore[import-untyped]
import fastapi
import httpx
import litestar
import starlette.applications
from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
from django.http import HttpRequest, HttpResponse  # type: ignore[import-untyped]
from django.urls import path as django_path  # type: ignore[import-untyped]
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tusd_py import Access, DiskStorage, FinishedUpload, HttpSettings, NewUpload, Settings, TusApp

ASGIApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]

HOST = "http://files.test"
OWN = "a route of the application's own"


@dataclass
class Host:
    """An application with uploads, and what it noticed.

    Attributes:
        tus: What is mounted in it.
        lived: What its own lifespan did.
        asked: Verb and id of each `authorize`.
        created: What `on_create` got.
        finished: What `on_finish` got, with the bytes of the file.
    """

    tus: TusApp
    lived: list[str] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    created: list[NewUpload] = field(default_factory=list)
    finished: list[tuple[FinishedUpload, bytes]] = field(default_factory=list)

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """The application's own."""
        self.lived.append("up")
        yield
        self.lived.append("down")

    @asynccontextmanager
    async def both(self, app: object = None) -> AsyncIterator[None]:
        """The application's own, with ours in it."""
        async with self.tus.lifespan(app), self.lifespan(app):
            yield


def host(directory: Path, **http: Any) -> Host:
    """What is noticed goes into the host; `http` as in `HttpSettings`."""

    async def authorize(access: Access) -> None:
        noticed.asked.append((access.verb, access.upload_id))

    async def on_create(new: NewUpload) -> None:
        noticed.created.append(new)

    async def on_finish(upload: FinishedUpload) -> None:
        noticed.finished.append((upload, await asyncio.to_thread(upload.path.read_bytes)))

    tus = TusApp(
        DiskStorage(directory),
        settings=Settings(http=HttpSettings(**http)),
        authorize=authorize,
        on_create=on_create,
        on_finish=on_finish,
    )
    noticed = Host(tus)
    return noticed


def in_fastapi(noticed: Host) -> ASGIApp:
    app = fastapi.FastAPI(lifespan=noticed.both)

    @app.get("/own")
    async def own() -> fastapi.responses.PlainTextResponse:
        return fastapi.responses.PlainTextResponse(OWN)

    noticed.tus.mount(app, "/api/files")
    return cast("ASGIApp", app)


def in_starlette(noticed: Host) -> ASGIApp:
    async def own(_: Request) -> PlainTextResponse:
        return PlainTextResponse(OWN)

    app = starlette.applications.Starlette(routes=[Route("/own", own)], lifespan=noticed.both)
    noticed.tus.mount(app, "/api/files")
    return app


def in_litestar(noticed: Host) -> ASGIApp:
    @litestar.get("/own", media_type=litestar.MediaType.TEXT)
    async def own() -> str:
        return OWN

    app = litestar.Litestar([own], lifespan=[noticed.lifespan], logging_config=None)
    return noticed.tus.mount(app, "/api/files")


def in_django(noticed: Host) -> ASGIApp:
    return noticed.tus.mount(get_asgi_application(), "/api/files")


def _own_of_django(_: HttpRequest) -> HttpResponse:
    return HttpResponse(OWN, content_type="text/plain")


urlpatterns = [django_path("own", _own_of_django)]

if not django.conf.settings.configured:
    django.conf.settings.configure(
        ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="for tests", LOGGING_CONFIG=None
    )


@asynccontextmanager
async def alive(app: ASGIApp) -> AsyncIterator[None]:
    """Runs an application's lifespan as a server does."""
    asked: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    said: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}

    async def run() -> None:
        await app(scope, asked.get, said.put)

    task = asyncio.create_task(run())
    try:
        for message in ("startup", "shutdown"):
            await asked.put({"type": f"lifespan.{message}"})
            async with asyncio.timeout(10):
                answer = await said.get()
            assert answer["type"] == f"lifespan.{message}.complete", answer
            if message == "startup":
                yield
        await task
    finally:
        asked.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait({task}, timeout=10)
        if not task.cancel():
            task.exception()
        assert said.empty(), f"the server would stumble over {said.get_nowait()}"


def browser(app: ASGIApp, base: str = HOST, **transport: Any) -> httpx.AsyncClient:
    """A client in this process, which follows no redirects."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(cast("Any", app), **transport), base_url=base
    )
