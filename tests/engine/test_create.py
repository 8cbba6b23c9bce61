"""A new upload: what the application may change, and that a refusal leaves nothing."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.asgi.in_process import BASE, Running, id_of, path_of, running, sha1
from tusd_py import Access, Changes, FinishedUpload, NewUpload, Reject
from tusd_py.protocol.upload import Phase

pytestmark = pytest.mark.anyio

HELLO = b"hello world"


async def test_the_application_sees_what_is_asked_for(tmp_path: Path) -> None:
    """It decides by metadata, size, kind, and who asks."""
    seen: list[NewUpload] = []

    async def on_create(new: NewUpload) -> None:
        seen.append(new)

    async with running(tmp_path, on_create=on_create) as server:
        await server.create(11, Upload_Metadata="name YQ==,flag", X_Who="me")
        part = await server.create(None, Upload_Concat="partial")
        await server.final(part)
    first, partial, final = seen
    assert first.metadata == {"name": b"a", "flag": b""}
    assert (first.length, first.is_partial, first.is_final) == (11, False, False)
    assert first.request.method == "POST"
    assert first.request.path == BASE
    assert first.request.headers["x-who"] == "me"
    assert first.request.client == "127.0.0.1"
    assert (partial.length, partial.is_partial) == (None, True)
    assert (final.length, final.is_final) == (None, True)


async def test_the_application_may_change_metadata_id_and_target(tmp_path: Path) -> None:
    """HEAD still repeats what the client sent."""
    finished: list[FinishedUpload] = []

    async def new_id(new: NewUpload) -> str:
        return f"mine-{new.length}"

    async def on_create(new: NewUpload) -> Changes:
        return Changes(id=f"{new.id}.x", metadata={"name": b"b"}, target="deep/er/file.bin")

    async def on_finish(done: FinishedUpload) -> None:
        finished.append(done)

    hooks: dict[str, Any] = {"new_id": new_id, "on_create": on_create, "on_finish": on_finish}
    async with running(tmp_path, **hooks) as server:
        path = await server.create(11, Upload_Metadata="name YQ==")
        assert path == BASE + "mine-11.x"
        await server.patch(path, 0, HELLO)
        assert (await server.head(path)).headers["Upload-Metadata"] == "name YQ=="
        (done,) = finished
        assert done.metadata == {"name": b"b"}
        assert done.path == tmp_path / "files/deep/er/file.bin"
        assert done.path.read_bytes() == HELLO
        assert await server.bytes_of(path) == HELLO
        again = await server.post(Upload_Length="11")
        assert again.status_code == 409
        assert again.text.startswith("ERR_UPLOAD_EXISTS")
        assert "Location" not in again.headers
        assert await server.bytes_of(path) == HELLO


@pytest.mark.parametrize(
    "changes",
    [
        Changes(id="../x"),
        Changes(id=""),
        Changes(id="a/b"),
        Changes(id="ü"),
        Changes(target="../x"),
        Changes(target="/etc/passwd"),
        Changes(target="a//b"),
        Changes(target="a\0b"),
    ],
)
async def test_a_choice_that_cannot_be_is_said_at_once(
    tmp_path: Path, changes: Changes, caplog: pytest.LogCaptureFixture
) -> None:
    """Said only at the finish, it would be too late: the bytes are here, and go nowhere."""

    async def on_create(_: NewUpload) -> Changes:
        return changes

    async with running(tmp_path, on_create=on_create) as server:
        assert (await server.post(Upload_Length="11")).status_code == 500
        assert "the application chose" in caplog.text
        assert await server.records() == []


@pytest.mark.parametrize("hook", ["authorize", "new_id", "on_create"])
async def test_a_refusal_leaves_nothing_and_reads_nothing(tmp_path: Path, hook: str) -> None:
    """PEERS: a 401 still stored 20 bytes."""

    async def refuse(_: object) -> str:
        raise Reject(403, "not you")

    hooks: dict[str, Any] = {hook: refuse}
    async with running(tmp_path, **hooks) as server:
        asked = server.ask(
            "POST",
            BASE,
            Upload_Length="1000000",
            Content_Length="1000000",
            Content_Type="application/offset+octet-stream",
            Expect="100-continue",
        )
        assert await asked.answered() == 403
        assert b"not you" in asked.body
        assert asked.taken == 0
        assert asked.headers["connection"] == "close"
        assert await server.records() == []
        assert server.files() == []


async def test_every_verb_is_asked_for(tmp_path: Path) -> None:
    """PEERS: authority on every request, per upload and per verb."""
    seen: list[tuple[str, str | None]] = []

    async def authorize(access: Access) -> None:
        seen.append((access.verb, access.upload_id))

    async with running(tmp_path, authorize=authorize) as server:
        part = await server.create(1, Upload_Concat="partial")
        await server.patch(part, 0, b"x")
        await server.head(part)
        await server.final(part, part)
        await server.client.get(part)
        await server.delete(part)
        name = id_of(part)
    assert seen == [
        *[("create", None), ("append", name), ("query", name), ("create", None)],
        *[("concatenate", name), ("concatenate", name), ("download", name), ("terminate", name)],
    ]


async def test_someone_elses_part_cannot_be_used(tmp_path: Path) -> None:
    """Otherwise a final upload would be a way to read any other."""

    async def authorize(access: Access) -> None:
        if access.verb == "concatenate":
            raise Reject(403, "not yours")

    async with running(tmp_path, authorize=authorize) as server:
        part = await server.whole(b"secret", Upload_Concat="partial")
        answer = await server.post(Upload_Concat=f"final;{part}")
        assert answer.status_code == 403
        assert len(await server.records()) == 1


async def test_a_checksum_mismatch_in_a_post_leaves_nothing(server: Running) -> None:
    """The client learns of no URL, so nobody could ever go on with it."""
    answer = await server.post(HELLO, Upload_Length="11", **sha1(b"other"))
    assert answer.status_code == 460
    assert "Location" not in answer.headers
    (left,) = await server.records()
    assert (left.phase, left.released) == (Phase.TERMINATED, True)
    assert server.files() == []
    good = await server.post(HELLO, Upload_Length="11", **sha1(HELLO))
    assert await server.bytes_of(path_of(good)) == HELLO


async def test_a_full_disk_in_a_post_leaves_nothing(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a file that nobody can reach would lie on the full disk for a day."""
    pwrite = os.pwrite
    full = [False]

    def filling(fd: int, data: bytes, offset: int) -> int:
        if full[0]:
            raise OSError(28, "No space left on device")
        full[0] = True
        return pwrite(fd, data[:3], offset)

    monkeypatch.setattr(os, "pwrite", filling)
    answer = await server.post(HELLO, Upload_Length="11")
    assert answer.status_code == 507
    assert answer.headers["Retry-After"] == "60"
    assert server.files() == []


async def test_what_came_with_a_post_is_kept_when_the_client_vanishes(server: Running) -> None:
    """Until it expires: the client may have read the Location from an earlier answer of a proxy."""
    asked = server.ask(
        "POST",
        BASE,
        Upload_Length="11",
        Content_Length="11",
        Content_Type="application/offset+octet-stream",
    )
    asked.feed(b"hello")
    asked.vanish()
    assert await asked.answered() == 201
    assert asked.headers["upload-offset"] == "5"
