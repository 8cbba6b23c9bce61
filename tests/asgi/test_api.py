"""What pages and programs ask beside tus: uploads, and how the server is doing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.asgi.in_process import BASE, TUS, App, Running, id_of, running, until
from tusd_py import Access, FinishedUpload, Grant, Reject
from tusd_py.state import listing
from tusd_py.wiring.server import ServerApp

pytestmark = pytest.mark.anyio

ALICE, BOB = {"X-Who": "alice"}, {"X-Who": "bob"}


async def by_name(access: Access) -> Grant:
    """Believes what a request says of itself."""
    who = access.request.headers.get("x-who", "")
    return Grant(principal=who, has_all=who == "root")


@asynccontextmanager
async def serving(
    tmp_path: Path,
    base_path: str = BASE,
    *,
    over: Callable[[App], App] = lambda app: app,
    **options: Any,
) -> AsyncIterator[Running]:
    """An application, and a client of the whole site; `over` stands between them."""
    async with running(tmp_path, **options) as server:
        app = ServerApp(server.tus, base_path, None)
        transport = httpx.ASGITransport(over(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            server.client = client
            yield server


async def listed(server: Running, query: str = "", **who: str) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    after = ""
    while True:
        headers = {name.replace("_", "-"): value for name, value in who.items()}
        answer = await server.client.get(f"/api/uploads?{query}{after}", headers=headers)
        assert answer.status_code == 200, answer.text
        found += [upload["id"] for upload in answer.json()["uploads"]]
        if answer.json()["next"] is None:
            return found
        after = f"&after={answer.json()['next']}"


async def test_an_upload_as_it_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        path = await server.create(5, Upload_Metadata="filename YS50eHQ=,type dGV4dC9wbGFpbg==,x")
        await server.patch(path, 0, b"123")
        answer = await server.client.get(f"/api/uploads/{id_of(path)}")
        assert answer.headers["Cache-Control"] == "no-store"
        record = await server.record(path)
        assert answer.json() == {
            "id": id_of(path),
            "url": f"http://testserver{path}",
            "state": "receiving",
            "offset": 3,
            "length": 5,
            "max_speed": None,
            "filename": "a.txt",
            "filetype": "text/plain",
            "metadata": {"filename": "a.txt", "type": "text/plain", "x": ""},
            "created_at": record.created_at,
            "expires_at": record.expires_at,
            "partial": False,
            "final": False,
            "download": False,
            "principal": None,
        }
        assert (await server.client.get("/api/uploads")).json() == {
            "uploads": [answer.json()],
            "next": None,
        }
        await server.patch(path, 3, b"45")
        (done,) = (await server.client.get("/api/uploads")).json()["uploads"]
        assert (done["state"], done["offset"], done["download"]) == ("complete", 5, True)
        assert done["expires_at"] is None


async def test_the_newest_come_first_and_in_pages(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        ids = []
        for _ in range(5):
            server.clock.now += 1
            ids.append(id_of(await server.create(1)))
        server.clock.now += 1
        await server.whole(b"1", Upload_Concat="partial")
        assert await listed(server, "limit=2") == ids[::-1]
        assert await listed(server, "limit=5") == ids[::-1]
        assert len(await listed(server, "limit=5&parts=1")) == 6


async def test_by_state(tmp_path: Path) -> None:
    async def on_finish(upload: FinishedUpload) -> None:
        if upload.length == 2:
            raise Reject(400, "not this one")

    async with serving(tmp_path, on_finish=on_finish) as server:
        paths = {"expired": await server.create(1)}
        server.clock.now += 90_000  # nobody has swept it
        paths["complete"] = await server.whole(b"1")
        server.clock.now += 1
        paths["terminated"] = await server.create(1)
        await server.delete(paths["terminated"])
        paths["failed"] = await server.create(2)
        await server.patch(paths["failed"], 0, b"12")
        paths["receiving"] = await server.create(1)
        for state, path in paths.items():
            assert await listed(server, f"state={state}") == [id_of(path)], state
        there = {id_of(paths[state]) for state in ("receiving", "complete", "failed")}
        assert {*await listed(server)} == there
        both = await listed(server, "state=terminated,complete")
        assert both == [id_of(paths["terminated"]), id_of(paths["complete"])]


async def test_others_uploads_are_not_there(tmp_path: Path) -> None:
    async with serving(tmp_path, authorize=by_name) as server:
        hers = id_of(await server.create(1, X_Who="alice"))
        server.clock.now += 1
        nobodys = id_of(await server.create(1))
        server.clock.now += 1
        his = id_of(await server.create(1, X_Who="bob"))
        assert await listed(server, "limit=1", X_Who="alice") == [nobodys, hers]
        assert await listed(server, "limit=1", X_Who="bob") == [his, nobodys]
        assert await listed(server, "limit=1", X_Who="root") == [his, nobodys, hers]
        assert await listed(server, "limit=1") == [nobodys]
        get = server.client.get
        assert (await get(f"/api/uploads/{hers}", headers=ALICE)).status_code == 200
        refused = await get(f"/api/uploads/{hers}", headers=BOB)
        nothing = await get("/api/uploads/none", headers=BOB)
        assert refused.status_code == nothing.status_code == 404
        assert refused.text.replace(hers, "none") == nothing.text


async def test_what_a_page_examines_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or one who looks for what is rare among a million would let all others wait."""
    monkeypatch.setattr(listing, "_MOST_EXAMINED", 3)
    async with serving(tmp_path) as server:
        rare = id_of(await server.whole(b"1"))
        for _ in range(7):
            server.clock.now += 1
            await server.create(1)
        answer = await server.client.get("/api/uploads?state=complete")
        assert answer.json()["uploads"] == []
        assert answer.json()["next"] is not None
        assert await listed(server, "state=complete") == [rare]
        assert len(await listed(server)) == 8


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/uploads?state=done", 400, "state is one or more of receiving, "),
        ("/api/uploads?limit=0", 400, "limit is a number above 0"),
        ("/api/uploads?limit=+1", 400, "limit is a number above 0"),
        ("/api/uploads?after=x", 400, "after is the `next` of the page before"),
        ("/api/uploads?parts=yes", 400, "parts is 1 or 0"),
        ("/api/uploads/none", 404, "ERR_UPLOAD_NOT_FOUND"),
        ("/api/uploads/a/b", 404, "ERR_UPLOAD_NOT_FOUND"),
    ],
)
async def test_wrong_questions(tmp_path: Path, path: str, status: int, says: str) -> None:
    async with serving(tmp_path) as server:
        answer = await server.client.get(path)
        assert answer.status_code == status
        assert says in answer.text
        assert len(answer.text.splitlines()) == 1


async def test_another_method(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for path, allowed in (
            ("/api/uploads", "GET, OPTIONS"),
            ("/api/uploads/none", "GET, PUT, OPTIONS"),
            ("/api/stats", "GET, OPTIONS"),
        ):
            answer = await server.client.post(path)
            assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)


async def test_a_page_of_another_origin(tmp_path: Path) -> None:
    asks = {"Origin": "https://page.test", "Access-Control-Request-Method": "GET"}
    async with serving(tmp_path) as server:
        answer = await server.client.options("/api/uploads", headers=asks)
        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Methods"] == "GET, OPTIONS"
        answer = await server.client.get("/api/stats", headers=asks)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_how_the_server_is_doing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.whole(b"12345")
        path = await server.create(100)
        await server.patch(path, 7, b"1")
        asked = server.patching(path, 0, 100)
        asked.feed(b"x" * 40)
        await until(lambda: server.tus.services.live)
        stats = (await server.client.get("/api/stats")).json()
        assert stats["workers"] == stats["active"] == stats["open"] == 1
        assert stats["since_start"] == {
            "created": 2,
            "finished": 1,
            "terminated": 0,
            "expired": 0,
            "received": 5,
        }
        assert stats["errors"] == [{"status": 409, "code": "ERR_MISMATCHED_OFFSET", "count": 1}]
        assert 1 << 20 < stats["memory"] < 1 << 32
        assert 0 < stats["disk"]["free"] <= stats["disk"]["total"]
        asked.feed(b"x" * 60, more=False)
        await asked.answered()
        async with asyncio.timeout(10):
            while not (await server.client.get("/api/stats")).json()["speed"]:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(("base_path", "is_there"), [("/", True), ("/api/", False)])
async def test_uploads_keep_their_paths(tmp_path: Path, base_path: str, is_there: bool) -> None:
    async with serving(tmp_path, base_path) as server:
        answer = await server.client.get("/api/uploads")
        assert (answer.status_code == 200) is is_there
        assert (await server.client.post(base_path, headers=TUS)).status_code == 400


async def test_all_processes_are_asked(tmp_path: Path) -> None:
    """Whichever of them a request comes to, it hears of the whole server."""
    async with serving(tmp_path) as one, serving(tmp_path) as other:
        path = await one.create(100)
        asked = other.patching(path, 0, 100)
        asked.feed(b"x")
        await until(lambda: other.tus.services.live)
        stats = (await one.client.get("/api/stats")).json()
        assert (stats["workers"], stats["active"]) == (2, 1)
        asked.vanish()
        await asked.answered()
    async with serving(tmp_path) as one:
        assert (await one.client.get("/api/stats")).json()["workers"] == 1
