"""tuspy, the Python client of the tus project. It cannot defer a length."""

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed
from tusclient.storage.filestorage import FileStorage
from tusclient.uploader.baseuploader import BaseUploader
from tusclient.uploader.uploader import Uploader

from tests.interop import plain_http
from tests.interop.conftest import MIB, watched
from tests.interop.proxy import CuttingProxy
from tests.serving import Served


@pytest.fixture
def stream(small: Path) -> Iterator[BinaryIO]:
    """The file, opened: by a path, tuspy opens it for every request and closes none of them."""
    with small.open("rb") as opened:
        yield opened


def url_of(uploader: BaseUploader) -> str:
    """Where the upload lies."""
    url: object = uploader.url
    assert isinstance(url, str)
    return url


def test_whole_file_in_one_patch(server: Served, small: Path, stream: BinaryIO) -> None:
    uploader = TusClient(server.url).uploader(file_stream=stream)
    uploader.upload()
    assert plain_http.download(url_of(uploader)) == small.read_bytes()


def test_in_chunks(server: Served, small: Path, stream: BinaryIO) -> None:
    uploader = TusClient(server.url).uploader(file_stream=stream, chunk_size=MIB // 2 + 1)
    uploader.upload()
    assert plain_http.download(url_of(uploader)) == small.read_bytes()


def test_empty_file(server: Served, tmp_path: Path) -> None:
    with (tmp_path / "empty").open("w+b") as stream:
        uploader = TusClient(server.url).uploader(file_stream=stream)
        uploader.upload()
    assert plain_http.download(url_of(uploader)) == b""


def test_metadata_come_back_as_sent(server: Served, small: Path, stream: BinaryIO) -> None:
    sent = {"filename": small.name, "empty": "", "type": "application/octet-stream"}
    uploader = TusClient(server.url).uploader(file_stream=stream, metadata=sent)
    uploader.upload()
    encoded: list[str] = uploader.encode_metadata()  # type: ignore[no-untyped-call]
    assert plain_http.metadata(url_of(uploader)) == sent
    assert plain_http.metadata_header(url_of(uploader)) == ",".join(encoded)


def test_sha1_on_every_chunk(server: Served, small: Path, stream: BinaryIO) -> None:
    client = TusClient(server.url)
    uploader = client.uploader(file_stream=stream, chunk_size=MIB, upload_checksum=True)
    uploader.upload()
    assert plain_http.download(url_of(uploader)) == small.read_bytes()


class OtherDigest(Uploader):
    """Sends the digest of other bytes."""

    CHECKSUM_ALGORITHM_PAIR = (
        "sha1",
        lambda data: hashlib.sha1(bytes(data) + b"damage"),  # type: ignore[assignment,misc]
    )


def test_damaged_chunk_is_discarded(server: Served, small: Path, stream: BinaryIO) -> None:
    client = TusClient(server.url)
    damaged = OtherDigest(file_stream=stream, client=client, chunk_size=MIB, upload_checksum=True)
    with pytest.raises(TusUploadFailed) as failed:
        damaged.upload()
    assert failed.value.status_code == 460
    assert plain_http.offset(url_of(damaged)) == 0
    again = Uploader(file_stream=stream, url=url_of(damaged), upload_checksum=True)
    again.upload()
    assert plain_http.download(url_of(damaged)) == small.read_bytes()


@contextlib.contextmanager
def stored_urls(path: Path) -> Iterator[FileStorage]:
    """A file of URLs, opened as a process of its own would."""
    storage = FileStorage(str(path))  # type: ignore[no-untyped-call]
    yield storage
    storage.close()  # type: ignore[no-untyped-call]


# Its fingerprint closes the stream it is given, so here the leak of a path has to be borne.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_resumes_from_the_stored_url(server: Served, small: Path, tmp_path: Path) -> None:
    client = TusClient(server.url)
    with stored_urls(tmp_path / "urls.json") as urls:
        first = client.uploader(str(small), chunk_size=MIB, store_url=True, url_storage=urls)
        first.upload(stop_at=MIB)
    with stored_urls(tmp_path / "urls.json") as urls:
        second = client.uploader(str(small), chunk_size=MIB, store_url=True, url_storage=urls)
        assert (url_of(second), second.offset) == (url_of(first), MIB)
        second.upload()
    assert plain_http.download(url_of(second)) == small.read_bytes()


def test_goes_on_after_a_cut(
    server: Served, proxy: CuttingProxy, small: Path, stream: BinaryIO
) -> None:
    proxy.cut_after(MIB + 17)
    client = TusClient(proxy.url(server.url))
    uploader = client.uploader(file_stream=stream, retries=3, retry_delay=1)
    uploader.upload()
    assert plain_http.download(url_of(uploader)) == small.read_bytes()
    size = small.stat().st_size
    assert size < proxy.passed < size + 16 * 1024, "bytes that the server had were sent again"


def test_async_uploader(server: Served, small: Path, stream: BinaryIO) -> None:
    uploader = TusClient(server.url).async_uploader(file_stream=stream, chunk_size=MIB)
    asyncio.run(uploader.upload())
    assert plain_http.download(url_of(uploader)) == small.read_bytes()


def test_a_refused_creation_is_an_error(tmp_path: Path, stream: BinaryIO) -> None:
    # tuspy does not look at the status of POST: a Location would be taken for success.
    with watched(tmp_path / "uploads", "--max-size", str(MIB)) as server:
        uploader = TusClient(server.url).uploader(file_stream=stream)
        with pytest.raises(TusCommunicationError) as refused:
            uploader.upload()
    assert refused.value.status_code == 413
