"""Mounted in other ways, below other paths, and behind proxies."""

import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import fastapi
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.frameworks.hosts import ASGIApp, alive, browser, host, in_fastapi, in_litestar
from tests.frameworks.journey import ask, create, whole_journey
from tusd_py import DiskStorage, Settings, TusApp

pytestmark = pytest.mark.anyio


def _starlette_mount(tus: TusApp) -> ASGIApp:
    return Starlette(routes=[Mount("/files", tus)])


def _fastapi_mount(tus: TusApp) -> ASGIApp:
    app = fastapi.FastAPI()
    app.mount("/files", tus)
    return cast("ASGIApp", app)


@pytest.mark.parametrize("mounts", [_starlette_mount, _fastapi_mount])
async def test_without_its_lifespan_it_serves_and_warns_once(
    tmp_path: Path, mounts: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tus = TusApp(DiskStorage(tmp_path))
    async with browser(mounts(tus)) as client:
        await whole_journey(client, "/files/")
    await tus.stop()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1, warnings
    assert "not swept" in warnings[0]
    assert "events not delivered" in warnings[0]


async def test_a_lifespan_that_is_entered_twice_is_refused_and_changes_nothing(
    tmp_path: Path,
) -> None:
    tus = TusApp(DiskStorage(tmp_path))
    app = tus.mount(Starlette(lifespan=tus.lifespan), "/files")
    async with tus.lifespan():
        with pytest.raises(RuntimeError, match="enter its lifespan once"):
            async with tus.lifespan():
                pass
        async with browser(app) as client:
            await whole_journey(client, "/files/")


async def test_the_application_finds_its_own_routes_by_name(tmp_path: Path) -> None:
    """`url_for` asks each route in turn: ours must not end the search."""

    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(request.url_for("page")))

    app = Starlette(routes=[Route("/page", page, name="page")])
    TusApp(DiskStorage(tmp_path)).mount(app, "/files")
    async with browser(app) as client:
        assert (await client.get("/page")).text == "http://files.test/page"


async def test_fastapi_still_describes_itself(tmp_path: Path) -> None:
    app = in_fastapi(host(tmp_path))
    async with browser(app) as client:
        assert (await client.get("/openapi.json")).json()["paths"].keys() == {"/own"}
        assert (await client.get("/docs")).status_code == 200


async def test_websockets_below_the_path_stay_with_the_application(tmp_path: Path) -> None:
    reached = []

    async def socket(websocket: WebSocket) -> None:
        reached.append(websocket.url.path)
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/files/live", socket)])
    TusApp(DiskStorage(tmp_path)).mount(app, "/files")
    sent: list[Any] = []
    scope = {"type": "websocket", "path": "/files/live", "headers": [], "query_string": b""}

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app(scope, receive, send)
    assert reached == ["/files/live"]


async def test_what_nobody_speaks_is_an_error(tmp_path: Path) -> None:
    async def nothing(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(ValueError, match="not 'telepathy'"):
        await TusApp(DiskStorage(tmp_path))({"type": "telepathy"}, nothing, nothing)


@pytest.mark.parametrize("mounts", [in_fastapi, in_litestar])
async def test_below_the_root_path_of_the_server(tmp_path: Path, mounts: Any) -> None:
    """`uvicorn --root-path /app`: the path has it in front, and so must `Location`."""
    app = mounts(host(tmp_path))
    async with alive(app), browser(app, root_path="/app") as client:
        for endpoint in ("/app/api/files", "/app/api/files/"):
            await whole_journey(client, endpoint)


async def test_below_a_root_path_that_the_server_has_cut_off(tmp_path: Path) -> None:
    """Other servers leave `path` without it; the URL has it nevertheless."""
    app = in_fastapi(host(tmp_path))

    async def cut(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "path": scope["path"].removeprefix("/app")}, receive, send)

    async with alive(app), browser(cut, root_path="/app") as client:
        url = await create(client, "/app/api/files", 5)
        await ask(client, "PATCH", url, b"12345", Upload_Offset="0")


@pytest.mark.parametrize("path", ["/", ""])
@pytest.mark.parametrize("framework", ["starlette", "other"])
async def test_mounted_at_the_root(tmp_path: Path, path: str, framework: str) -> None:
    """A host name of its own for uploads: everything is ours."""
    tus = TusApp(DiskStorage(tmp_path))

    async def other(scope: Any, _: Any, __: Any) -> None:
        raise AssertionError(f"{scope['type']} is not for here")

    inner: ASGIApp = Starlette(lifespan=tus.lifespan) if framework == "starlette" else other
    app = tus.mount(inner, path)
    async with alive(app), browser(app) as client:
        await whole_journey(client, "/")


@pytest.mark.parametrize("base_path", ["up", "/up", "up/", "/up/", "/up//"])
async def test_a_path_of_its_own_below_the_mount(tmp_path: Path, base_path: str) -> None:
    tus = TusApp(DiskStorage(tmp_path), settings=Settings(base_path=base_path))
    async with alive(tus), browser(tus) as client:
        for endpoint in ("/up", "/up/"):
            url = await create(client, endpoint, 3)
            await ask(client, "PATCH", url, b"abc", Upload_Offset="0")


FORWARDED = [
    ({"Forwarded": "for=1.2.3.4;host=pub.test;proto=https"}, "https://pub.test/api/files/"),
    (
        {"X-Forwarded-Host": "pub.test", "X-Forwarded-Proto": "https"},
        "https://pub.test/api/files/",
    ),
    (
        {"X-Forwarded-Host": "pub.test", "X-Forwarded-Port": "8443", "X-Forwarded-Proto": "https"},
        "https://pub.test:8443/api/files/",
    ),
    ({"X-Forwarded-Prefix": "/shop"}, "http://files.test/shop/api/files/"),
    ({"X-Forwarded-Proto": "https"}, "https://files.test/api/files/"),
    ({}, "http://files.test/api/files/"),
]


@pytest.mark.parametrize(("headers", "base"), FORWARDED)
@pytest.mark.parametrize("behind_proxy", [True, False])
async def test_location_behind_a_proxy_and_without_one(
    tmp_path: Path, headers: dict[str, str], base: str, behind_proxy: bool
) -> None:
    """Only a proxy may say where we are: anyone else would send clients to a host of theirs."""
    app = in_fastapi(host(tmp_path, behind_proxy=behind_proxy))
    async with alive(app), browser(app) as client:
        created = await ask(
            client,
            "POST",
            "/api/files",
            expect=201,
            headers=headers,
            Upload_Length="5",
        )
    expected = base if behind_proxy else "http://files.test/api/files/"
    assert created.headers["Location"].rpartition("/")[0] + "/" == expected


@pytest.mark.parametrize(
    ("trusted", "base"),
    [("127.0.0.0/8", "http://pub.test"), ("10.0.0.0/8", "http://files.test")],
)
async def test_only_a_trusted_proxy_is_believed(tmp_path: Path, trusted: str, base: str) -> None:
    """Whoever reaches the server beside its proxy can send the same headers."""
    app = in_fastapi(host(tmp_path, behind_proxy=True, trusted_proxies=(trusted,)))
    headers = {"X-Forwarded-Host": "pub.test"}
    async with alive(app), browser(app) as client:
        created = await ask(
            client, "POST", "/api/files", expect=201, headers=headers, Upload_Length="5"
        )
    assert created.headers["Location"].startswith(base + "/api/files/")


async def test_finals_name_their_parts_as_the_proxy_does(tmp_path: Path) -> None:
    app = in_fastapi(host(tmp_path, behind_proxy=True))
    async with alive(app), browser(app) as client:
        part = await ask(
            client,
            "POST",
            "/api/files",
            b"part",
            expect=201,
            Upload_Length="4",
            Upload_Concat="partial",
            X_Forwarded_Prefix="/shop",
        )
        url = part.headers["Location"]
        assert url.startswith("http://files.test/shop/api/files/")
        await ask(client, "POST", "/api/files", expect=201, Upload_Concat=f"final;{url}")


async def test_a_start_that_fails_is_told_to_the_server(tmp_path: Path) -> None:
    """The process must not come up as if all were well."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "holiday.jpg").touch()
    for app in (in_litestar(host(tmp_path)), TusApp(DiskStorage(tmp_path))):
        with pytest.raises(AssertionError, match=r"startup\.failed.*was not made by tusd-py"):
            async with alive(app):
                pass


@pytest.mark.parametrize("when", ["startup", "shutdown"])
async def test_a_lifespan_of_the_application_that_fails_is_told_too(
    tmp_path: Path, when: str
) -> None:
    """Ours ends nevertheless: what came is synced, and the state is closed."""

    @contextlib.asynccontextmanager
    async def broken(_: object) -> AsyncIterator[None]:
        if when == "startup":
            raise RuntimeError("no database")
        yield
        raise RuntimeError("no database")

    tus = host(tmp_path).tus
    inner = Starlette(lifespan=broken)

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    app = tus.mount(wrapped, "/files")
    with pytest.raises(AssertionError, match=rf"{when}\.failed.*no database"):
        async with alive(app):
            pass
    assert not [thread for thread in threading.enumerate() if "tusd-py" in thread.name]


async def test_an_application_that_ends_without_a_word_has_no_lifespan(tmp_path: Path) -> None:
    async def mute(scope: Any, receive: Any, _: Any) -> None:
        assert (await receive())["type"] == "lifespan.startup"

    app = TusApp(DiskStorage(tmp_path)).mount(mute, "/files")
    async with alive(app), browser(app) as client:
        await create(client, "/files", 3)


async def test_a_failure_at_the_end_of_the_application_reaches_the_server(tmp_path: Path) -> None:
    """Also where it says nothing itself: it must not look like an end in order."""

    async def dies(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise RuntimeError("the pool was gone")

    app = TusApp(DiskStorage(tmp_path)).mount(dies, "/files")
    asked = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    said: list[str] = []

    async def receive() -> Any:
        return next(asked)

    async def send(message: Any) -> None:
        said.append(message["type"])

    with pytest.raises(RuntimeError, match="the pool was gone"):
        await app({"type": "lifespan"}, receive, send)
    assert said == ["lifespan.startup.complete"]
