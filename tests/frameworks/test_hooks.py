"""What applications do with the hooks, in FastAPI with middleware around it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import fastapi
import httpx
import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import Response

from tests.frameworks.hosts import alive, browser
from tests.frameworks.journey import TUS, ask, create, metadata
from tusd_py import (
    Access,
    Changes,
    DiskStorage,
    FinishedUpload,
    NewUpload,
    Phase,
    Progress,
    Reject,
    Reply,
    TusApp,
    UploadEvent,
    UploadNotFinished,
    UploadNotFound,
)

pytestmark = pytest.mark.anyio


async def _stamp(
    request: fastapi.Request, call_next: Callable[[fastapi.Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers["X-Stamped"] = "yes"
    return response


@asynccontextmanager
async def site(tus: TusApp) -> AsyncIterator[httpx.AsyncClient]:
    app = fastapi.FastAPI(lifespan=tus.lifespan)
    app.add_middleware(BaseHTTPMiddleware, dispatch=_stamp)
    tus.mount(app, "/files")
    async with alive(cast("Any", app)), browser(cast("Any", app)) as client:
        yield client


async def eventually(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def test_uploads_pass_through_middleware(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    async with site(TusApp(DiskStorage(tmp_path))) as client:
        url = await create(client, "/files", len(content))

        async def pieces() -> AsyncIterator[bytes]:
            for begin in range(0, len(content), 65_536):
                yield content[begin : begin + 65_536]

        sent = await client.patch(
            url,
            content=pieces(),
            headers=TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"},
        )
        assert (sent.status_code, sent.headers["X-Stamped"]) == (204, "yes")
        assert (await client.get(url)).content == content


VERBS = {
    "create": ("POST", "/files", b"", {"Upload-Length": "3"}),
    "append": ("PATCH", "{url}", b"abc", {"Upload-Offset": "0"}),
    "query": ("HEAD", "{url}", b"", {}),
    "terminate": ("DELETE", "{url}", b"", {}),
    "download": ("GET", "{url}", b"", {}),
    "concatenate": ("POST", "/files", b"", {"Upload-Concat": "final;{url}"}),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_stranger_may_do_nothing(tmp_path: Path, verb: str) -> None:
    """Each verb is asked for, with the upload that it is about; a refusal is the end."""
    asked: list[Access] = []

    async def authorize(access: Access) -> None:
        asked.append(access)
        if access.verb == verb and "authorization" not in access.request.headers:
            raise Reject(401, "who are you?", {"WWW-Authenticate": "Bearer"})

    async with site(TusApp(DiskStorage(tmp_path), authorize=authorize)) as client:
        key = {"Authorization": "Bearer of the key"}
        part = await create(client, "/files", 3, Upload_Concat="partial", **key)
        method, target, content, headers = VERBS[verb]
        asked.clear()
        refused = await ask(
            client,
            method,
            target.format(url=part),
            content,
            expect=401,
            headers={name: value.format(url=part) for name, value in headers.items()},
        )
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert "Location" not in refused.headers
        assert ("who are you?" in refused.text) is (method != "HEAD")
        access = asked[-1]
        about = None if verb == "create" else part.rpartition("/")[2]
        assert (access.verb, access.upload_id, access.request.method) == (verb, about, method)
        left = await ask(client, "HEAD", part, expect=200, headers=key)
        assert left.headers["Upload-Offset"] == "0"


async def test_a_stranger_is_refused_before_the_body_is_read(tmp_path: Path) -> None:
    """Otherwise anyone can fill the server's network with bytes that nobody wants."""

    async def authorize(access: Access) -> None:
        if access.verb == "append":
            raise Reject(401, "no")

    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 65_536
            yield bytes(65_536)

    tus = TusApp(DiskStorage(tmp_path), authorize=authorize)
    async with alive(tus), browser(tus) as client:
        url = await create(client, "/", 65_536_000)
        refused = await client.patch(
            url,
            content=endless(),
            headers=TUS
            | {
                "Content-Type": "application/offset+octet-stream",
                "Upload-Offset": "0",
                "Content-Length": "65536000",
            },
        )
    assert refused.status_code == 401
    assert taken < 2 << 20, "it goes on reading only as far as the client needs for the answer"


async def test_on_create_changes_id_metadata_and_place(tmp_path: Path) -> None:
    async def on_create(new: NewUpload) -> Changes:
        assert new.metadata == {"filename": b"mine.txt"}
        return Changes(id="invoice-7", metadata={"filename": b"7.txt"}, target="2026/7.txt")

    finished: list[FinishedUpload] = []

    async def on_finish(upload: FinishedUpload) -> None:
        finished.append(upload)

    tus = TusApp(DiskStorage(tmp_path), on_create=on_create, on_finish=on_finish)
    async with site(tus) as client:
        sent = metadata(filename="mine.txt")
        created = await ask(
            client, "POST", "/files", expect=201, Upload_Length="3", Upload_Metadata=sent
        )
        url = created.headers["Location"]
        assert url == "http://files.test/files/invoice-7"
        await ask(client, "PATCH", url, b"abc", Upload_Offset="0")
        found = await ask(client, "HEAD", url, expect=200)
        assert found.headers["Upload-Metadata"] == sent
    assert (tmp_path / "files/2026/7.txt").read_bytes() == b"abc"
    assert finished[0].path == tmp_path / "files/2026/7.txt"
    assert (finished[0].id, finished[0].metadata) == ("invoice-7", {"filename": b"7.txt"})


async def test_an_id_of_the_applications_own(tmp_path: Path) -> None:
    async def new_id(new: NewUpload) -> str:
        return f"n-{new.length}"

    async with site(TusApp(DiskStorage(tmp_path), new_id=new_id)) as client:
        created = await ask(client, "POST", "/files", expect=201, Upload_Length="42")
        assert created.headers["Location"] == "http://files.test/files/n-42"


async def test_on_create_refuses(tmp_path: Path) -> None:
    async def on_create(new: NewUpload) -> None:
        raise Reject(422, "only invoices, please")

    async with site(TusApp(DiskStorage(tmp_path), on_create=on_create)) as client:
        refused = await ask(client, "POST", "/files", expect=422, Upload_Length="3")
        assert "only invoices, please" in refused.text
        assert "Location" not in refused.headers
    assert not list(tmp_path.glob("data/*/*"))


@pytest.mark.parametrize("with_post", [True, False])
async def test_on_finish_adds_to_the_answer(tmp_path: Path, with_post: bool) -> None:
    async def on_finish(_: FinishedUpload) -> Reply:
        return Reply(headers={"X-Invoice": "7"}, body="it is number 7")

    async with site(TusApp(DiskStorage(tmp_path), on_finish=on_finish)) as client:
        if with_post:
            answer = await ask(client, "POST", "/files", b"abc", expect=201, Upload_Length="3")
        else:
            url = await create(client, "/files", 3)
            answer = await ask(client, "PATCH", url, b"abc", expect=200, Upload_Offset="0")
        assert (answer.headers["X-Invoice"], answer.text) == ("7", "it is number 7")


async def test_on_finish_refuses_for_good(tmp_path: Path) -> None:
    """A virus: whoever asks again gets the same answer, and the bytes are gone."""
    calls = 0

    async def on_finish(upload: FinishedUpload) -> None:
        nonlocal calls
        calls += 1
        assert upload.path.read_bytes() == b"EICAR"
        raise Reject(422, "a virus")

    async with site(TusApp(DiskStorage(tmp_path), on_finish=on_finish)) as client:
        url = await create(client, "/files", 5)
        for _ in range(2):
            refused = await ask(client, "PATCH", url, b"EICAR", expect=422, Upload_Offset="0")
            assert "a virus" in refused.text
        await ask(client, "HEAD", url, expect=422)
    assert calls == 1
    assert not list(tmp_path.glob("data/*/*"))


async def test_on_finish_takes_the_file(tmp_path: Path) -> None:
    """The client is told that all is well also when it asks later."""

    async def on_finish(upload: FinishedUpload) -> None:
        await tus.take(upload.id, tmp_path / "library" / upload.metadata["filename"].decode())

    tus = TusApp(DiskStorage(tmp_path / "uploads"), on_finish=on_finish)
    async with site(tus) as client:
        url = await create(client, "/files", 3, Upload_Metadata=metadata(filename="book.epub"))
        await ask(client, "PATCH", url, b"abc", Upload_Offset="0")
        assert (tmp_path / "library/book.epub").read_bytes() == b"abc"
        found = await ask(client, "HEAD", url, expect=200)
        assert found.headers["Upload-Offset"] == "3"
        assert (await client.get(url)).status_code == 404
        taken = await tus.state.load(url.rpartition("/")[2])
        assert taken is not None
        assert taken.path is None
        with pytest.raises(UploadNotFound):
            await tus.take(taken.id, tmp_path / "again")


async def test_a_file_is_taken_later(tmp_path: Path) -> None:
    tus = TusApp(DiskStorage(tmp_path / "uploads"))
    async with site(tus) as client:
        url = await create(client, "/files", 3)
        upload_id = url.rpartition("/")[2]
        with pytest.raises(UploadNotFinished):
            await tus.take(upload_id, tmp_path / "taken")
        await ask(client, "PATCH", url, b"abc", Upload_Offset="0")
        (tmp_path / "other").write_bytes(b"another file")
        with pytest.raises(FileExistsError):
            await tus.take(upload_id, tmp_path / "other")
        assert (tmp_path / "other").read_bytes() == b"another file"
        await tus.take(upload_id, str(tmp_path / "taken"))
        assert (tmp_path / "taken").read_bytes() == b"abc"
        taken = await tus.state.load(upload_id)
        assert taken is not None
        assert taken.path is None
        await ask(client, "HEAD", url, expect=200)
        with pytest.raises(UploadNotFound):
            await tus.take("no-such-upload", tmp_path / "x")


async def test_progress_is_told_while_bytes_come(tmp_path: Path) -> None:
    told: list[Progress] = []

    async def on_progress(progress: Progress) -> None:
        told.append(progress)

    tus = TusApp(DiskStorage(tmp_path), on_progress=on_progress)
    async with alive(tus), browser(tus) as client:
        url = await create(client, "/", 6)

        async def slow() -> AsyncIterator[bytes]:
            yield b"abc"
            await eventually(lambda: any(progress.offset == 3 for progress in told))
            yield b"def"

        headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        sent = await client.patch(
            url, content=slow(), headers=TUS | headers | {"Content-Length": "6"}
        )
        assert sent.status_code == 204
    assert {(progress.id, progress.length) for progress in told} == {(url.rpartition("/")[2], 6)}


async def test_the_end_of_an_upload_is_told(tmp_path: Path) -> None:
    """Also when the function fails at first: nothing that depends on it is left behind."""
    told: list[UploadEvent] = []

    async def on_terminate(ended: UploadEvent) -> None:
        told.append(ended)
        if len(told) == 1:
            raise RuntimeError("the database is away")

    async with site(TusApp(DiskStorage(tmp_path), on_terminate=on_terminate)) as client:
        url = await create(client, "/files", 6, Upload_Metadata=metadata(filename="x"))
        await ask(client, "PATCH", url, b"abc", Upload_Offset="0")
        await ask(client, "DELETE", url)
        await eventually(lambda: len(told) == 2)
    first, second = told
    assert first == second
    assert (first.id, first.phase, first.offset) == (url.rpartition("/")[2], Phase.TERMINATED, 3)
    assert first.metadata == {"filename": b"x"}


async def test_a_hook_that_fails_is_a_500_and_the_client_can_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = True

    async def on_finish(_: FinishedUpload) -> None:
        if broken:
            raise RuntimeError("the queue is away")

    async with site(TusApp(DiskStorage(tmp_path), on_finish=on_finish)) as client:
        url = await create(client, "/files", 3)
        failed = await ask(client, "PATCH", url, b"abc", expect=500, Upload_Offset="0")
        assert "the queue is away" not in failed.text
        assert "the queue is away" in caplog.text
        broken = False
        await ask(client, "HEAD", url, expect=200)
        assert (await client.get(url)).content == b"abc"
