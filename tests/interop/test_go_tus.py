"""go-tus (Go). It sends an empty Upload-Metadata, and takes nothing but 201, 200 and 204."""

from pathlib import Path

import pytest

from tests.interop import plain_http
from tests.interop.conftest import MIB
from tests.interop.programs import run
from tests.interop.proxy import CuttingProxy
from tests.interop.toolchains import GO_TUS, built
from tests.serving import Served

pytestmark = pytest.mark.timeout(900)  # the first test of a session may build the client


@pytest.fixture(scope="session")
def client() -> Path:
    return built(GO_TUS) / "send"


@pytest.mark.parametrize(
    "mode",
    [
        "upload",
        "bare",  # an empty Upload-Metadata
        "override",  # POST with X-HTTP-Method-Override: PATCH
    ],
)
def test_upload(server: Served, client: Path, small: Path, mode: str) -> None:
    sent = run([client, mode, server.url, small]).facts()
    assert plain_http.download(sent["url"]) == small.read_bytes()
    expected = {} if mode == "bare" else {"filename": small.name}
    assert plain_http.metadata(sent["url"]) == expected


def test_resumes_where_the_server_is(server: Served, client: Path, small: Path) -> None:
    content = small.read_bytes()
    url = plain_http.create(server.url, len(content))
    assert plain_http.append(url, 0, content[: MIB + 3]).status_code == 204
    assert run([client, "resume", server.url, small, url]).facts()["offset"] == str(MIB + 3)
    assert plain_http.download(url) == content


def test_goes_on_after_a_cut(
    server: Served, proxy: CuttingProxy, client: Path, small: Path
) -> None:
    proxy.cut_after(MIB + MIB // 2)
    sent = run([client, "retry", proxy.url(server.url), small]).facts()
    assert MIB < int(sent["offset"]) < MIB + MIB // 2, "what had arrived was not kept"
    assert plain_http.download(sent["url"]) == small.read_bytes()
    size = small.stat().st_size
    assert size < proxy.passed < size + 16 * 1024, "bytes that the server had were sent again"
