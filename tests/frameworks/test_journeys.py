"""The whole journey in each framework, at a path below the root, with and without a slash."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.frameworks.hosts import (
    HOST,
    OWN,
    ASGIApp,
    Host,
    alive,
    browser,
    host,
    in_django,
    in_fastapi,
    in_litestar,
    in_starlette,
)
from tests.frameworks.journey import create, whole_journey

FRAMEWORKS = [in_fastapi, in_starlette, in_litestar, in_django]
Mounts = Callable[[Host], ASGIApp]

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("endpoint", ["/api/files", "/api/files/"])
@pytest.mark.parametrize("mounts", FRAMEWORKS)
async def test_everything_works_in_a_framework(
    tmp_path: Path, mounts: Mounts, endpoint: str
) -> None:
    noticed = host(tmp_path)
    app = mounts(noticed)
    async with alive(app), browser(app) as client:
        allowed = await whole_journey(client, endpoint)
        own = await client.get("/own")
        assert (own.status_code, own.text) == (200, OWN)
        neighbour = await client.get("/api/filesystem")
        assert neighbour.status_code == 404
        assert "X-Request-ID" not in neighbour.headers, "it is not for the uploads to answer"
    assert [(verb, upload_id or "") for verb, upload_id in noticed.asked] == allowed
    assert [content for _, content in noticed.finished] == [b"hello world", b"one, two"]
    finished, _ = noticed.finished[0]
    assert (finished.length, finished.metadata) == (11, {"filename": b"a b.txt"})
    new = noticed.created[0]
    assert (new.id, new.length, new.is_partial, new.is_final) == (finished.id, 11, False, False)
    assert new.metadata == {"filename": b"a b.txt"}
    assert (new.request.method, new.request.path) == ("POST", endpoint)
    assert new.request.client == "127.0.0.1"
    assert new.request.headers["host"] == HOST.removeprefix("http://")
    assert [upload.is_partial for upload in noticed.created] == [False, True, True, False]
    assert noticed.created[-1].is_final


@pytest.mark.parametrize("mounts", [in_fastapi, in_starlette, in_litestar])
async def test_the_lifespans_of_both_run(
    tmp_path: Path, mounts: Mounts, caplog: pytest.LogCaptureFixture
) -> None:
    """Without ours nothing is swept; without theirs their database pool is missing."""
    noticed = host(tmp_path)
    app = mounts(noticed)
    async with alive(app):
        assert noticed.lived == ["up"]
        async with browser(app) as client:
            await create(client, "/api/files", 5)
    assert noticed.lived == ["up", "down"]
    assert "without its lifespan" not in caplog.text


async def test_django_has_no_lifespan_and_ours_runs_nevertheless(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noticed = host(tmp_path)
    app = in_django(noticed)
    async with alive(app), browser(app) as client:
        await create(client, "/api/files", 5)
    assert "without its lifespan" not in caplog.text
