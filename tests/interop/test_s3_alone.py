"""The state directory is lost, and the bucket alone is enough: clients go on where they were."""

import asyncio
import contextlib
import hashlib
import itertools
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tusclient.client import TusClient

from tests.asgi.in_process import BASE, TUS, Running, id_of, running, sha1
from tests.serving import Served, eventually, serving
from tests.storage.s3_place import S3Place
from tusd_py import Settings
from tusd_py.engine.rebuild import make_all_anew
from tusd_py.hooks.interface import Access, Changes, FinishedUpload, NewUpload
from tusd_py.protocol.errors import StorageFailed
from tusd_py.protocol.upload import Phase, Reply
from tusd_py.storage.s3 import S3Settings
from tusd_py.storage.s3_bucket import Bucket

MIB = 1024 * 1024
HOUR = 3600.0
VERBS = ("HEAD", "GET", "DELETE")

New = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def anew(s3_place: S3Place, tmp_path: Path) -> New:
    """An application over the bucket, with an empty state directory each time."""

    @asynccontextmanager
    async def started(owner: str = "films", **options: Any) -> AsyncIterator[Running]:
        lives = len(list(tmp_path.iterdir()))
        state_dir = tmp_path / f"life-{lives}"
        storage = s3_place.storage(S3Settings(object_prefix="up/", owner=owner))
        settings = Settings(base_path=BASE, state_dir=state_dir)
        options.setdefault("expire_after", HOUR)
        async with running(state_dir, storage=storage, settings=settings, **options) as app:
            yield app

    return started


@pytest.mark.anyio
class TestLookUp:
    async def test_an_upload_goes_on(self, anew: New, s3_place: S3Place) -> None:
        data = random.Random(1).randbytes(7 * MIB)
        async with anew() as server:
            path = await server.create(None, Upload_Metadata="filename Zm9v")
            assert (await server.patch(path, 0, data[:MIB])).status_code == 204
        async with anew() as server:
            answer = await server.head(path)
            assert answer.headers["Upload-Offset"] == str(MIB)
            assert answer.headers["Upload-Metadata"] == "filename Zm9v"
            assert answer.headers["Upload-Defer-Length"] == "1"
            assert "Upload-Expires" in answer.headers
            told = {"Upload_Length": str(len(data))}
            assert (await server.patch(path, MIB, data[MIB : 6 * MIB], **told)).status_code == 204
        async with anew() as server:
            # At once, without a HEAD before.
            answer = await server.patch(path, 6 * MIB, data[6 * MIB :])
            assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(len(data)))
        async with anew() as server:
            assert await server.bytes_of(path) == data
            assert (await server.record(path)).phase is Phase.COMPLETE
        assert list(s3_place.objects()) == [f"up/{id_of(path)}"]

    async def test_what_was_told_after_the_last_byte_is_not_lost(self, anew: New) -> None:
        """A length alone is a promise too."""
        async with anew() as server:
            path = await server.create(None)
            assert (await server.patch(path, 0, b"", Upload_Length="5")).status_code == 204
        async with anew() as server:
            assert (await server.head(path)).headers["Upload-Length"] == "5"

    async def test_of_a_chunk_with_a_wrong_checksum_nothing_counts(self, anew: New) -> None:
        async with anew() as server:
            path = await server.create(100 * MIB)
            first, wrong = b"abc", random.Random(1).randbytes(20 * MIB)
            assert (
                await server.patch(path, 0, first, **underscored(sha1(first)))
            ).status_code == 204
            refused = await server.patch(path, 3, wrong, **underscored(sha1(b"other")))
            assert refused.status_code == 460
        async with anew() as server:
            assert await server.offset(path) == 3
            right = random.Random(2).randbytes(20 * MIB)
            answer = await server.patch(path, 3, right, **underscored(sha1(right)))
            assert answer.status_code == 204
        async with anew() as server:
            assert await server.offset(path) == 3 + 20 * MIB

    async def test_a_final_upload_and_its_parts(self, anew: New) -> None:
        async with anew() as server:
            parts = [await server.create(3, Upload_Concat="partial") for _ in range(2)]
            assert (await server.patch(parts[0], 0, b"abc")).status_code == 204
            final = await server.final(*parts)
        async with anew() as server:
            answer = await server.head(final)
            assert answer.headers["Upload-Concat"] == "final;" + " ".join(parts)
            assert (await server.patch(parts[1], 0, b"def")).status_code == 204
            await until_complete(server, final)
        async with anew() as server:
            assert await server.bytes_of(final) == b"abcdef"

    async def test_parts_that_only_a_new_final_asks_for(self, anew: New) -> None:
        async with anew() as server:
            parts = [await server.whole(b"abc", Upload_Concat="partial") for _ in range(2)]
        async with anew() as server:
            assert await server.bytes_of(await server.final(*parts)) == b"abcabc"

    async def test_a_final_upload_whose_part_is_gone(self, anew: New, s3_place: S3Place) -> None:
        async with anew() as server:
            parts = [await server.create(3, Upload_Concat="partial") for _ in range(2)]
            final = await server.final(*parts)
        key = f"up/.tusd-py/{id_of(parts[0])}.info"
        s3_place.client.delete_object(Bucket=s3_place.bucket, Key=key)
        async with anew() as server:
            assert (await server.head(final)).status_code == 410

    async def test_a_download_and_a_termination(self, anew: New, s3_place: S3Place) -> None:
        async with anew() as server:
            path = await server.whole(b"abc")
        async with anew() as server:
            assert await server.bytes_of(path) == b"abc"
        async with anew() as server:
            assert (await server.delete(path)).status_code == 204
        assert s3_place.objects() == {}
        async with anew() as server:
            assert (await server.head(path)).status_code == 404

    async def test_what_the_application_said_is_known_and_it_is_not_asked_again(
        self, anew: New
    ) -> None:
        asked: list[str] = []

        async def on_create(new: NewUpload) -> Changes:
            return Changes(id="film", target="shows/film-1.mkv", metadata={"title": b"One"})

        async def on_finish(upload: FinishedUpload) -> Reply:
            asked.append(upload.location)
            return Reply(body="thanks")

        async with anew(on_create=on_create, on_finish=on_finish) as server:
            path = await server.whole(b"abc")
        async with anew(on_finish=on_finish) as server:
            assert await server.bytes_of(path) == b"abc"
            record = await server.record(path)
            assert record.path == "up/shows/film-1.mkv"
            assert record.metadata == {"title": b"One"}
            assert record.reply == Reply(body="thanks")
        assert len(asked) == 1

    async def test_an_upload_is_still_whose_it_was(self, anew: New) -> None:
        """Otherwise it would be everybody's, or nobody's, from then on."""

        async def authorize(access: Access) -> str | None:
            return access.request.headers.get("x-user")

        async with anew(authorize=authorize) as server:
            begun = await server.create(6, X_User="ann")
            assert (await server.patch(begun, 0, b"abc", X_User="ann")).status_code == 204
            whole = await server.whole(b"abc", X_User="ann")
        async with anew(authorize=authorize) as server:
            for path in (begun, whole):
                for user, verb in itertools.product(({"X-User": "bob"}, {}), VERBS):
                    answer = await server.client.request(verb, path, headers=TUS | user)
                    assert answer.status_code == 404
            assert (await server.patch(begun, 3, b"xyz", X_User="bob")).status_code == 404
            assert (await server.patch(begun, 3, b"def", X_User="ann")).status_code == 204
            answer = await server.client.get(whole, headers={"X-User": "ann"})
            assert answer.content == b"abc"

    async def test_an_id_that_was_given_before_is_taken(self, anew: New) -> None:
        async def new_id(new: NewUpload) -> str:
            return "film"

        async with anew(new_id=new_id) as server:
            await server.whole(b"abc")
        async with anew(new_id=new_id) as server:
            answer = await server.post(b"def", Upload_Length="3")
            assert answer.status_code >= 400
            assert await server.bytes_of(f"{BASE}film") == b"abc"

    async def test_nobody_is_told_that_it_is_not_there_while_that_is_not_known(
        self, anew: New, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """tus-js-client begins anew after a HEAD that is neither 2xx nor 423."""
        async with anew() as server:
            path = await server.create(3)

        async def failing(*_: object) -> None:
            raise StorageFailed

        async with anew() as server:
            with monkeypatch.context() as patched:
                patched.setattr(Bucket, "get", failing)
                assert (await server.head(path)).status_code == 423
                assert (await server.patch(path, 0, b"abc")).status_code == 500
                with pytest.raises(StorageFailed):
                    await make_all_anew(server.tus.services)
            assert await server.offset(path) == 0

    async def test_nothing_is_left_of_one_that_could_not_be_noted(
        self, anew: New, s3_place: S3Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody is told of an upload that the bucket does not know."""
        real = Bucket.put

        async def lost(*args: Any) -> None:
            await real(*args)
            raise StorageFailed

        async with anew() as server:
            with monkeypatch.context() as patched:
                patched.setattr(Bucket, "put", lost)
                assert (await server.post(Upload_Length="3")).status_code == 500
            (record,) = await server.records()
            assert record.phase is Phase.TERMINATED
            keys = s3_place.client.list_objects_v2(Bucket=s3_place.bucket)["Contents"]
            assert not [each["Key"] for each in keys if record.id in each["Key"]]

    async def test_another_deployment_does_not_see_it(self, anew: New, s3_place: S3Place) -> None:
        async with anew() as server:
            path = await server.create(3)
            await server.patch(path, 0, b"ab")
        before = s3_place.objects()
        async with anew(owner="others") as server:
            assert (await server.head(path)).status_code == 404
            assert await make_all_anew(server.tus.services) == 0
            await server.tus.sweep()
        assert s3_place.objects() == before


@pytest.mark.anyio
class TestAll:
    async def test_are_made_anew_once(self, anew: New) -> None:
        async with anew() as server:
            paths = [await server.create(3) for _ in range(3)] + [await server.whole(b"abc")]
        async with anew(background=True) as server:
            async with asyncio.timeout(20):
                while server.tus.services.recalls:
                    await asyncio.sleep(0.01)
            assert {upload.id for upload in await server.records()} == set(map(id_of, paths))
            assert await make_all_anew(server.tus.services) == 0

    async def test_one_that_is_broken_does_not_keep_the_others(
        self, anew: New, s3_place: S3Place
    ) -> None:
        async with anew() as server:
            paths = [await server.create(3) for _ in range(3)]
            for path in paths:
                await server.patch(path, 0, b"ab")
        (key, *_) = [key for key in s3_place.objects() if id_of(paths[0]) in key]
        s3_place.client.put_object(Bucket=s3_place.bucket, Key=key)
        async with anew() as server:
            assert (await server.head(paths[0])).status_code == 410
            assert await make_all_anew(server.tus.services) == 2
            assert [await server.offset(path) for path in paths[1:]] == [2, 2]

    async def test_what_expired_is_swept_with_all_that_was_begun(
        self, anew: New, s3_place: S3Place
    ) -> None:
        """And nothing of others under the same prefix."""
        other = {"Bucket": s3_place.bucket, "Key": "up/other"}
        s3_place.client.create_multipart_upload(**other)
        async with anew() as server:
            path = await server.create(100 * MIB)
            await server.patch(path, 0, random.Random(1).randbytes(9 * MIB))
        assert len(s3_place.multiparts()) == 2
        async with anew() as server:
            assert await make_all_anew(server.tus.services) == 1
            server.clock.now += HOUR + 1
            report = await server.tus.sweep()
            assert report.expired == [id_of(path)]
        assert [key for key, _ in s3_place.multiparts()] == ["up/other"]
        assert s3_place.objects() == {}
        listed = s3_place.client.list_objects_v2(Bucket=s3_place.bucket)["Contents"]
        assert [each["Key"].rpartition("/")[2][0] for each in listed] == ["!"]


def underscored(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in headers.items()}


async def until_complete(server: Running, path: str) -> None:
    async with asyncio.timeout(20):
        while (await server.record(path)).phase is not Phase.COMPLETE:
            await asyncio.sleep(0.01)


def lose_the_state(server: Served) -> None:
    """SIGKILL, and the same command again with nothing but the bucket."""
    server.kill()
    shutil.rmtree(server.upload_dir)
    server.start()


def test_tuspy_over_a_server_that_is_killed_and_loses_its_state(
    s3_place: S3Place, tmp_path: Path
) -> None:
    data = random.Random(3).randbytes(40 * MIB)
    path = tmp_path / "film.bin"
    path.write_bytes(data)
    flags = ("--s3-bucket", s3_place.bucket, "--s3-endpoint", s3_place.server.endpoint)
    env = s3_place.server.environment
    with serving(tmp_path / "up", *flags, env=env) as server, path.open("rb") as stream:
        uploader = TusClient(server.url).uploader(
            file_stream=stream, chunk_size=9 * MIB, metadata={"filename": "film.bin"}
        )
        # A creation whose answer is lost leaves nothing to go on with.
        uploader.set_url(uploader.create_url())
        offsets = [0]
        while uploader.offset < len(data):
            struck = threading.Timer(0.15, server.kill)
            if len(offsets) < 4:
                struck.start()
            with contextlib.suppress(Exception):  # of many kinds, when the server goes
                uploader.upload_chunk()  # type: ignore[no-untyped-call]
            struck.cancel()
            if struck.is_alive() or server.process is None:
                struck.join()
            if server.process is None:
                shutil.rmtree(server.upload_dir)
                server.start()
            elif len(offsets) < 4:
                lose_the_state(server)
            uploader.offset = uploader.get_offset()
            assert uploader.offset >= offsets[-1]
            offsets.append(uploader.offset)
        (key,) = s3_place.objects()
        stored = s3_place.content(key)
        assert hashlib.sha256(stored).digest() == hashlib.sha256(data).digest()
        eventually("nothing else is left", lambda: s3_place.multiparts() == [])
        lose_the_state(server)
        listed = tool(server, flags, env, "ls")
        assert f"s3://{s3_place.bucket}/{key}" in listed.stdout, listed
        assert "film.bin" in listed.stdout
        assert "free 0 B" in tool(server, flags, env, "cleanup").stdout
        shutil.rmtree(server.upload_dir)
        refused = tool(server, flags, env, "ls")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "it knows from the bucket what was there" in refused.stderr


def tool(
    server: Served, flags: tuple[str, ...], env: dict[str, str], word: str
) -> "subprocess.CompletedProcess[str]":
    """Another command on what the server works with."""
    command = [sys.executable, "-m", "tusd_py", word, "--upload-dir", str(server.upload_dir)]
    return subprocess.run(
        [*command, *flags], env=env | {"PATH": ""}, capture_output=True, text=True, check=False
    )
