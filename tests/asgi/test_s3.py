"""A bucket under an application: downloads through it, and keys of the application's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.asgi.in_process import BASE, Running, running
from tests.asgi.test_download import metadata
from tests.storage.s3_place import S3Place
from tests.storage.test_s3 import SETTINGS, content_of
from tusd_py.app import Settings
from tusd_py.hooks.interface import Changes, NewUpload
from tusd_py.storage.s3 import S3Settings
from tusd_py.storage.s3_parts import MIB

pytestmark = pytest.mark.anyio

HELLO = b"hello world"


@asynccontextmanager
async def over(
    place: S3Place, folder: Path, settings: S3Settings = SETTINGS, **options: Any
) -> AsyncIterator[Running]:
    kept = Settings(base_path=BASE, state_dir=folder / "state")
    storage = place.storage(settings)
    async with running(folder, storage=storage, settings=kept, **options) as server:
        yield server


class TestThrough:
    @pytest.mark.parametrize(
        ("wanted", "status", "content"),
        [
            (None, 200, HELLO),
            ("bytes=0-4", 206, b"hello"),
            ("bytes=-5", 206, b"world"),
            ("bytes=99-", 416, None),
            # "A server MAY ignore the Range header field" (RFC 9110, 14.2).
            ("bytes=0-1,6-7", 200, HELLO),
        ],
    )
    async def test_a_range(
        self,
        s3_place: S3Place,
        tmp_path: Path,
        wanted: str | None,
        status: int,
        content: bytes | None,
    ) -> None:
        async with over(s3_place, tmp_path) as server:
            path = await server.whole(HELLO, Upload_Metadata=metadata(filename="a.txt"))
            headers = {} if wanted is None else {"Range": wanted}
            answer = await server.client.get(path, headers=headers)
            assert answer.status_code == status
            if content is not None:
                assert answer.content == content
                assert answer.headers["Content-Disposition"].startswith('attachment; filename="a.')

    async def test_comes_in_pieces(
        self, s3_place: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The memory of the server is not that of the largest file in the bucket."""
        data = content_of(12 * MIB)
        async with over(s3_place, tmp_path) as server:
            path = await server.whole(data)
            pieces: list[int] = []
            read = server.tus.storage.read

            async def noted(*args: Any) -> AsyncIterator[bytes]:
                async for piece in read(*args):
                    pieces.append(len(piece))
                    yield piece

            monkeypatch.setattr(server.tus.storage, "read", noted)
            answer = await server.client.get(path, headers={"Range": "bytes=1000000-11000000"})
            assert answer.content == data[1_000_000:11_000_001]
            assert max(pieces) <= 256 << 10


class TestTarget:
    async def test_that_no_object_can_have_is_refused_at_once(
        self, s3_place: S3Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def on_create(new: NewUpload) -> Changes:
            return Changes(target=new.metadata["to"].decode())

        async with over(s3_place, tmp_path, on_create=on_create) as server:
            for target in ("a\nb", "x" * 1025, ".tusd-py/b.info", "../up"):
                answer = await server.post(Upload_Length="3", Upload_Metadata=metadata(to=target))
                assert answer.status_code == 500
            for why in ("no listing", "1025 bytes", "kept beside", "no relative path"):
                assert why in caplog.text
            assert await server.records() == []
            await server.whole(b"abc", Upload_Metadata=metadata(to="films/a b.mp4"))
            assert s3_place.objects() == {"films/a b.mp4": b"abc"}
