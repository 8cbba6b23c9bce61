"""Uploads that are paused from outside: clients are told to try again, and nothing is lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.asgi.in_process import App, Running, id_of, running, until
from tests.asgi.test_api import ALICE, BOB, by_name, listed, serving
from tests.asgi.test_events import Stream
from tests.asgi.whole import with_whole_bodies

pytestmark = pytest.mark.anyio


async def put(server: Running, path: str, wish: Any, **options: Any) -> httpx.Response:
    return await server.client.put(f"/api/uploads/{id_of(path)}", json=wish, **options)


async def pause(server: Running, path: str) -> None:
    answer = await put(server, path, {"paused": True})
    assert (answer.status_code, answer.json()["state"]) == (200, "paused"), answer.text


@pytest.mark.parametrize("over", [lambda app: app, with_whole_bodies])
async def test_a_paused_upload_takes_no_bytes_until_it_goes_on(
    tmp_path: Path, over: Callable[[App], App]
) -> None:
    async with serving(tmp_path, over=over) as server:
        path = await server.create(6)
        await server.patch(path, 0, b"123")
        await pause(server, path)
        refused = await server.patch(path, 3, b"456")
        assert (refused.status_code, refused.text.partition(":")[0]) == (423, "ERR_UPLOAD_PAUSED")
        assert refused.headers["Retry-After"] == "5"
        assert await server.offset(path) == 3
        assert await listed(server, "state=paused") == [id_of(path)]
        assert await listed(server, "state=receiving") == []
        answer = await put(server, path, {"paused": False})
        assert (answer.status_code, answer.json()["state"]) == (200, "receiving")
        assert (await server.patch(path, 3, b"456")).status_code == 204
        assert await server.bytes_of(path) == b"123456"


async def test_an_append_under_way_ends_with_what_came(tmp_path: Path) -> None:
    """In whichever process it is."""
    async with serving(tmp_path) as here, serving(tmp_path) as there:
        for server in (here, there):
            path = await server.create(9)
            asked = server.patching(path, 0, 9)
            asked.feed(b"1234")
            await until(lambda each=server, at=path: each.size(at) == 4)
            await pause(here, path)
            assert await asked.answered() == 423
            assert asked.body.startswith(b"ERR_UPLOAD_PAUSED: ")
            assert (await server.record(path)).upload_offset == 4
            assert (await there.patch(path, 4, b"56789")).status_code == 423
            await put(there, path, {"paused": False})
            assert (await here.patch(path, 4, b"56789")).status_code == 204


async def test_one_that_was_let_in_a_moment_before_ends_too(tmp_path: Path) -> None:
    """It was asked whether the upload is paused, and is not among those that are interrupted."""
    async with running(tmp_path) as server:
        path = await server.create(9)
        server.tus.services.paused.add(id_of(path))
        asked = server.patching(path, 0, 9)
        asked.feed(b"1234")
        assert await asked.answered() == 423
        assert asked.body.startswith(b"ERR_UPLOAD_PAUSED: ")


async def test_it_stays_paused_over_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        path = await server.create(3)
        await pause(server, path)
    async with serving(tmp_path) as server:
        assert (await server.patch(path, 0, b"123")).status_code == 423
        await server.delete(path)
        (record,) = await server.records()
        await server.tus.state.delete(record)
        await server.tus.state.insert(record._replace(generation=0))
        assert not (await server.record(path)).paused


async def test_whoever_listens_is_told_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        paths = [await server.create(3) for _ in range(2)]
        await put(server, paths[1], {"paused": False})
        stream = Stream(server)
        await stream.has("ready")
        for path in paths:
            for paused in (True, True, False, False):
                await put(server, path, {"paused": paused})
        await stream.has("ready", *["paused", "resumed"] * 2)
        assert stream.names(of=paths[0]) == ["paused", "resumed"]
        await stream.leave()


async def test_what_takes_no_bytes_cannot_be_paused(tmp_path: Path) -> None:
    async with serving(tmp_path, authorize=by_name) as server:
        done = await server.whole(b"1", X_Who="alice")
        answer = await put(server, done, {"paused": True}, headers=ALICE)
        assert (answer.status_code, answer.text.partition(":")[0]) == (
            409,
            "ERR_UPLOAD_NOT_RECEIVING",
        )
        assert (await server.client.get(done, headers=ALICE)).status_code == 200
        gone = await server.create(1)
        await server.delete(gone)
        assert (await put(server, gone, {"paused": True})).status_code == 410
        hers = await server.create(1, X_Who="alice")
        refused = await put(server, hers, {"paused": True}, headers=BOB)
        nothing = await put(server, "none", {"paused": True}, headers=BOB)
        assert refused.status_code == nothing.status_code == 404
        assert not (await server.record(hers)).paused


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (b'{"paused": 1}', "application/json", "paused is true or false"),
        (b'{"paused": true, "x": 1}', "application/json", 'send {"paused": true or false'),
        (b"[]", "application/json", 'send {"paused": true or false'),
        (b"{", "application/json", 'send {"paused": true or false'),
        (b"\xff", "application/json", 'send {"paused": true or false'),
        (b" " * 5000, "application/json", "longer than 4096 bytes"),
        (b'{"paused": true}', "text/plain", "Content-Type: application/json"),
    ],
)
async def test_what_cannot_be_read(tmp_path: Path, content: bytes, kind: str, says: str) -> None:
    async with serving(tmp_path) as server:
        path = await server.create(1)
        answer = await server.client.put(
            f"/api/uploads/{id_of(path)}", content=content, headers={"Content-Type": kind}
        )
        assert (answer.status_code, answer.text.partition(":")[0]) == (400, "ERR_INVALID_REQUEST")
        assert says in answer.text
        assert not (await server.record(path)).paused
