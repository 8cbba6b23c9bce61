"""The tools beside the servers: listing and backing up a deployment."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.hosts import browser
from tests.frameworks.journey import ask, create, metadata
from tusd_py.protocol.errors import StorageFailed, StorageFull
from tusd_py.storage.disk import DiskStorage
from tusd_py.tools import back_up, list_uploads
from tusd_py.wiring.deployment import build_app, opened
from tusd_py.wiring.settings import Place, UploadSettings

pytestmark = pytest.mark.anyio


async def _with_uploads(tmp_path: Path, count: int, template: str | None = None) -> list[str]:
    place = Place(upload_dir=tmp_path / "u", file_template=template)
    tus = build_app(place, UploadSettings())
    async with tus.lifespan(), browser(tus) as client:
        urls = [await create(client, "/", 3) for _ in range(count)]
        for url in urls:
            await ask(client, "PATCH", url, b"ab", Upload_Offset="0")
    return [url.rpartition("/")[2] for url in urls]


async def test_all_pages_of_a_large_deployment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tusd_py.tools._PAGE", 2)
    ids = await _with_uploads(tmp_path, 5)
    async with opened(Place(upload_dir=tmp_path / "u")) as tus:
        assert [line["id"] async for line in list_uploads(tus)] == sorted(ids)
        report = await back_up(tus, tmp_path / "copy")
    assert (report.copied, report.skipped, report.bytes_copied) == (5, 0, 10)
    async with opened(Place(upload_dir=tmp_path / "copy")) as copy:
        assert [line["id"] async for line in list_uploads(copy)] == sorted(ids)


async def test_an_upload_that_is_finished_while_a_backup_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has moved to where the template says: that is no reason to leave it out."""
    (upload_id,) = await _with_uploads(tmp_path, 1, "{id}.bin")
    place = Place(upload_dir=tmp_path / "u", file_template="{id}.bin")
    async with opened(place) as tus:
        original = tus.state.backup

        async def backup(to: Path) -> None:
            await original(to)
            async with browser(tus) as client:
                await ask(client, "PATCH", f"/{upload_id}", b"c", Upload_Offset="2")

        monkeypatch.setattr(tus.state, "backup", backup)
        report = await back_up(tus, tmp_path / "copy")
    assert (report.copied, report.skipped, report.bytes_copied) == (1, 0, 3)
    tus = build_app(Place(upload_dir=tmp_path / "copy"), UploadSettings())
    async with tus.lifespan(), browser(tus) as client:
        assert (await client.get(f"/{upload_id}")).content == b"abc"


async def test_an_upload_that_is_terminated_while_a_backup_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (upload_id,) = await _with_uploads(tmp_path, 1)
    async with opened(Place(upload_dir=tmp_path / "u")) as tus:
        original = tus.state.backup

        async def backup(to: Path) -> None:
            await original(to)
            async with browser(tus) as client:
                await ask(client, "DELETE", f"/{upload_id}")

        monkeypatch.setattr(tus.state, "backup", backup)
        report = await back_up(tus, tmp_path / "copy")
    assert (report.copied, report.skipped) == (0, 1)
    tus = build_app(Place(upload_dir=tmp_path / "copy"), UploadSettings())
    async with tus.lifespan(), browser(tus) as client:
        await ask(client, "HEAD", f"/{upload_id}", expect=404)


async def test_finished_files_of_a_backup_are_its_own(tmp_path: Path) -> None:
    """They lie at other inodes; and a name that came to another upload is copied once."""
    place = Place(upload_dir=tmp_path / "u", file_template="{filename}")
    tus, urls = build_app(place, UploadSettings()), []
    async with tus.lifespan(), browser(tus) as client:
        for content in (b"first", b"second", b"", b"third"):
            named = metadata(filename="empty" if content == b"" else "report.pdf")
            url = await create(client, "/", len(content), Upload_Metadata=named)
            if content:
                await ask(client, "PATCH", url, content, Upload_Offset="0")
            urls.append(url)
            if len(urls) == 1:
                (tmp_path / "u/files/report.pdf").rename(tmp_path / "archived.pdf")
        report = await back_up(tus, tmp_path / "copy")
    assert (report.copied, report.skipped, report.bytes_copied) == (3, 1, 11)
    copy = build_app(Place(upload_dir=tmp_path / "copy"), UploadSettings())
    async with copy.lifespan(), browser(copy) as client:
        assert (await client.get(urls[0])).status_code == 404
        assert [(await client.get(url)).content for url in urls[1:]] == [b"second", b"", b"third"]
        for url in urls[1:]:
            await ask(client, "DELETE", url)
    assert not list((tmp_path / "copy/files").iterdir())


@pytest.mark.parametrize("error", [StorageFailed(), StorageFull()])
async def test_a_backup_that_cannot_be_written_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A backup that says it is done, and has nothing in it, is found out too late."""
    await _with_uploads(tmp_path, 1)

    async def copy_out(*_: Any) -> None:
        raise error

    monkeypatch.setattr(DiskStorage, "copy_out", copy_out)
    async with opened(Place(upload_dir=tmp_path / "u")) as tus:
        with pytest.raises(type(error)):
            await back_up(tus, tmp_path / "copy")


async def test_metadata_names_the_file_under_either_key(tmp_path: Path) -> None:
    """tus-js-client says `filename`, Uppy `name`."""
    tus = build_app(Place(upload_dir=tmp_path), UploadSettings())
    async with tus.lifespan(), browser(tus) as client:
        for key in ("filename", "name", "other"):
            value = f"{key} {b64encode(key.encode()).decode()}"
            await create(client, "/", 3, Upload_Metadata=value)
        names = sorted([str(line["filename"]) async for line in list_uploads(tus)])
    assert names == ["", "filename", "name"]
