"""A bucket under an application: downloads through it or by a link, and a caller's client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from tests.asgi.in_process import BASE, OFFSET_TYPE, TUS, Running, running
from tests.asgi.test_download import metadata
from tests.storage.s3_place import S3Place
from tests.storage.s3_servers import KMS_KEY
from tests.storage.test_s3 import SETTINGS, content_of
from tusd_py.app import Settings, TusApp
from tusd_py.hooks.interface import Changes, NewUpload
from tusd_py.storage.s3 import S3Settings, S3Storage
from tusd_py.storage.s3_objects import ObjectSettings
from tusd_py.storage.s3_parts import MIB

pytest.importorskip("aiobotocore")
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

pytestmark = pytest.mark.anyio

HELLO = b"hello world"
LINKS = replace(SETTINGS, links_for=60.0)


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


def say_otherwise(place: S3Place, upload_id: str) -> None:
    """Lets an object tell another type and name than its upload does, as one of before may."""
    place.client.copy_object(
        Bucket=place.bucket,
        Key=upload_id,
        CopySource={"Bucket": place.bucket, "Key": upload_id},
        MetadataDirective="REPLACE",
        Metadata={"tusd-py-id": upload_id},
        ContentType="text/html",
        ContentDisposition='inline; filename="x"',
    )


class TestLink:
    @pytest.mark.parametrize(
        ("told", "media_type", "disposition"),
        [
            (
                {"filename": "Ü.mp4", "filetype": "video/mp4"},
                "video/mp4",
                'inline; filename="_.mp4"',
            ),
            # The bucket has it as what it was told to be; nobody is shown it.
            (
                {"filename": "x.html", "filetype": "text/html"},
                "application/octet-stream",
                'attachment; filename="x.html"',
            ),
        ],
    )
    async def test_a_download_is_sent_to_the_bucket(
        self,
        s3_place: S3Place,
        tmp_path: Path,
        told: dict[str, str],
        media_type: str,
        disposition: str,
    ) -> None:
        async with over(s3_place, tmp_path, LINKS) as server, httpx.AsyncClient() as client:
            path = await server.whole(HELLO, Upload_Metadata=metadata(**told))
            say_otherwise(s3_place, path.rpartition("/")[2])
            answer = await server.client.get(path, headers={"Range": "bytes=0-4"})
            assert answer.status_code == 307
            assert answer.content == b""
            # An old link is of no use to anybody.
            assert answer.headers["Cache-Control"] == "private, no-store"
            link = answer.headers["Location"]
            assert link.startswith(f"{s3_place.server.endpoint}/{s3_place.bucket}/")
            assert "X-Amz-Expires=60" in link
            found = await client.get(link)
            assert found.content == HELLO
            assert found.headers["Content-Type"] == media_type
            assert found.headers["Content-Disposition"].startswith(disposition)
            part = await client.get(link, headers={"Range": "bytes=0-4"})
            assert (part.status_code, part.content) == (206, b"hello")
            assert (await client.get(link.replace("X-Amz-Expires=60", "X-Amz-Expires=61"))).is_error

    async def test_what_was_encrypted_too(self, s3_place: S3Place, tmp_path: Path) -> None:
        objects = ObjectSettings(encryption="aws:kms", kms_key=KMS_KEY)
        settings = replace(LINKS, objects=objects)
        async with over(s3_place, tmp_path, settings) as server, httpx.AsyncClient() as client:
            answer = await server.client.get(await server.whole(HELLO))
            assert (await client.get(answer.headers["Location"])).content == HELLO

    @pytest.mark.parametrize("method", ["HEAD", "POST"])
    async def test_no_client_of_tus_is_sent_away(
        self, s3_place: S3Place, tmp_path: Path, method: str
    ) -> None:
        """It asks how far its upload is, and the bucket does not know the protocol."""
        async with over(s3_place, tmp_path, LINKS) as server:
            path = await server.whole(HELLO)
            headers = TUS if method == "HEAD" else TUS | {"X-HTTP-Method-Override": "HEAD"}
            answer = await server.client.request(method, path, headers=headers)
            assert answer.status_code == 200
            assert answer.headers["Upload-Offset"] == "11"
            assert "Location" not in answer.headers

    async def test_only_what_is_there_has_one(self, s3_place: S3Place, tmp_path: Path) -> None:
        async with over(s3_place, tmp_path, LINKS) as server:
            unfinished = await server.create(11)
            assert (await server.client.get(unfinished)).status_code == 400
            path = await server.whole(HELLO)
            etag = f'"{path.rpartition("/")[2]}-11"'
            known = await server.client.get(path, headers={"If-None-Match": etag})
            assert known.status_code == 304
            for key in s3_place.objects():
                s3_place.client.delete_object(Bucket=s3_place.bucket, Key=key)
            assert (await server.client.get(path)).status_code == 404

    @pytest.mark.parametrize("seconds", [0.5, 7 * 86_400 + 1])
    async def test_lasts_as_long_as_s3_lets_it(self, seconds: float) -> None:
        with pytest.raises(ValueError, match="604800 seconds"):
            S3Settings(links_for=seconds)


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


class TestClient:
    """`S3Storage(bucket, client=...)`: the caller made it, and goes on using it."""

    @asynccontextmanager
    async def client(self, place: S3Place, **words: Any) -> AsyncIterator[Any]:
        config = AioConfig(s3={"addressing_style": "path"}, **words)
        async with get_session().create_client(
            "s3", endpoint_url=place.server.endpoint, region_name="us-east-1", config=config
        ) as client:
            yield client

    async def test_is_used_and_not_closed(self, s3_place: S3Place, tmp_path: Path) -> None:
        data = content_of(11 * MIB)
        kept = Settings(base_path=BASE, state_dir=tmp_path / "state")
        async with self.client(s3_place, request_checksum_calculation="when_required") as client:
            for _ in range(2):
                storage = S3Storage(s3_place.bucket, SETTINGS, client=client)
                async with running(tmp_path, storage=storage, settings=kept) as server:
                    path = await server.whole(data)
                    assert await server.bytes_of(path) == data
                    assert (await server.delete(path)).status_code == 204
            # Nothing of ours is left on it, and it works.
            sent: list[dict[str, str]] = []
            client.meta.events.register(
                "before-send.s3.DeleteObjects", lambda request, **_: sent.append(request.headers)
            )
            await client.put_object(Bucket=s3_place.bucket, Key="x", Body=b"y")
            await client.delete_objects(Bucket=s3_place.bucket, Delete={"Objects": [{"Key": "x"}]})
            assert "Content-MD5" not in sent[0]

    async def test_whose_checksums_forbid_gaps_is_refused(self, s3_place: S3Place) -> None:
        """Or the first upload that is gone on with after a crash could not be completed."""
        async with self.client(s3_place) as client:
            with pytest.raises(ValueError, match="when_required"):
                S3Storage(s3_place.bucket, client=client)

    async def test_and_an_application_made_in_a_lifespan(
        self, s3_place: S3Place, tmp_path: Path
    ) -> None:
        """As the README has it: the client is there before the uploads, and goes after them."""

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with self.client(
                s3_place, request_checksum_calculation="when_required"
            ) as client:
                storage = S3Storage(s3_place.bucket, client=client)
                tus = TusApp(storage, settings=Settings(state_dir=tmp_path / "state"))
                tus.mount(app, "/files")
                async with tus.lifespan():
                    yield

        app = Starlette(lifespan=lifespan)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://testserver") as asking,
        ):
            headers = TUS | OFFSET_TYPE | {"Upload-Length": "11"}
            made = await asking.post("/files", headers=headers, content=HELLO)
            assert made.status_code == 201
            assert (await asking.get(made.headers["Location"])).content == HELLO
