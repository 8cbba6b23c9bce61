"""aiotus, a client for asyncio (aiohttp)."""

import asyncio
import contextlib
from pathlib import Path

import aiohttp
import aiotus
import pytest
import yarl
from aiotus import core, creation

from tests.interop import plain_http
from tests.interop.conftest import MIB
from tests.interop.proxy import CuttingProxy
from tests.serving import Served

# aiotus hands its chunks to aiohttp as bytes, which warns above 1 MiB.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

QUICKLY = aiotus.RetryConfiguration(retry_attempts=8, max_retry_period_seconds=0.25)


def upload(
    endpoint: str, path: Path, metadata: dict[str, bytes | None] | None = None, chunk: int = MIB
) -> str:
    """Uploads as aiotus's users do, and returns the upload's URL."""
    with path.open("rb") as file:
        url = asyncio.run(aiotus.upload(endpoint, file, metadata, config=QUICKLY, chunksize=chunk))
    assert url is not None, "aiotus gave up; its log tells why"
    return str(url)


@pytest.mark.parametrize("chunk", [64 * MIB, MIB, 100_001], ids=["one", "MiB", "odd"])
def test_upload(server: Served, small: Path, chunk: int) -> None:
    url = upload(server.url, small, chunk=chunk)
    assert plain_http.download(url) == small.read_bytes()


def test_endpoint_without_slash(server: Served, small: Path) -> None:
    url = upload(server.url.removesuffix("/"), small)
    assert plain_http.download(url) == small.read_bytes()


def test_empty_file(server: Served, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert plain_http.download(upload(server.url, tmp_path / "empty")) == b""


def test_metadata_read_back(server: Served, small: Path) -> None:
    sent = {"filename": small.name.encode(), "binary": bytes(range(256)), "flag": None}
    url = upload(server.url, small, sent)
    assert asyncio.run(aiotus.metadata(url, config=QUICKLY)) == sent
    assert plain_http.metadata_header(url) == creation.encode_metadata(sent)


@pytest.mark.parametrize("slash", ["/", ""], ids=["slash", "no slash"])
def test_multiple_files_become_one(server: Served, tmp_path: Path, small: Path, slash: str) -> None:
    # The final's list holds paths; Upload-Concat goes along on HEAD and PATCH of the parts.
    content = small.read_bytes()
    parts = [content[:MIB], content[MIB : 2 * MIB + 5], content[2 * MIB + 5 :]]
    endpoint = server.url.removesuffix("/") + slash
    with contextlib.ExitStack() as files:
        opened = []
        for number, part in enumerate(parts):
            (tmp_path / str(number)).write_bytes(part)
            opened.append(files.enter_context((tmp_path / str(number)).open("rb")))
        url = asyncio.run(
            aiotus.upload_multiple(
                endpoint, opened, {"filename": b"whole.bin"}, config=QUICKLY, chunksize=MIB // 2
            )
        )
    assert url is not None, "aiotus gave up; its log tells why"
    assert plain_http.download(str(url)) == content
    assert plain_http.metadata(str(url)) == {"filename": "whole.bin"}


async def resume(url: str, path: Path) -> None:
    """Goes on with an upload, as a second process would."""
    async with aiohttp.ClientSession() as session:
        with path.open("rb") as file:
            await core.upload_buffer(session, yarl.URL(url), file, chunksize=MIB)


def test_resumes_where_the_server_is(server: Served, small: Path) -> None:
    content = small.read_bytes()
    url = plain_http.create(server.url, len(content))
    assert plain_http.append(url, 0, content[: MIB + 3]).status_code == 204
    asyncio.run(resume(url, small))
    assert plain_http.download(url) == content


def test_goes_on_after_a_cut(server: Served, proxy: CuttingProxy, small: Path) -> None:
    proxy.cut_after(MIB + 17)
    url = upload(proxy.url(server.url), small, chunk=64 * MIB)
    assert plain_http.download(url) == small.read_bytes()
    size = small.stat().st_size
    assert size < proxy.passed < size + 16 * 1024, "bytes that the server had were sent again"


async def configuration(endpoint: str) -> core.ServerConfiguration:
    """What aiotus reads from OPTIONS."""
    async with aiohttp.ClientSession() as session:
        return await core.configuration(session, yarl.URL(endpoint))


def test_configuration(server: Served) -> None:
    found = asyncio.run(configuration(server.url))
    assert found.protocol_versions == ["1.0.0"]
    assert {"creation", "concatenation", "termination"} <= set(found.protocol_extensions)
