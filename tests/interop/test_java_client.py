"""tus-java-client (Android, desktop).

On a desktop JRE every PATCH is a POST with X-HTTP-Method-Override, chunked, and waits for
100 (Continue); the POST that creates an upload has neither a length nor chunks.
"""

from pathlib import Path

import pytest

from tests.interop import plain_http
from tests.interop.conftest import MIB
from tests.interop.programs import run
from tests.interop.proxy import CuttingProxy
from tests.interop.toolchains import JAVA, built
from tests.serving import Served

pytestmark = pytest.mark.timeout(900)  # the first test of a session may build the client


@pytest.fixture(scope="session")
def client() -> list[str]:
    folder = built(JAVA)
    return ["java", "-Xshare:auto", "-cp", f"{folder}/classes:{folder}/jars/*", "Send"]


@pytest.mark.parametrize("mode", ["upload", "chunks"])
def test_upload(server: Served, client: list[str], small: Path, mode: str) -> None:
    sent = run([*client, mode, server.url, small]).facts()
    assert plain_http.download(sent["url"]) == small.read_bytes()
    assert plain_http.metadata(sent["url"])["filename"] == small.name


def test_resumes_where_the_server_is(server: Served, client: list[str], small: Path) -> None:
    content = small.read_bytes()
    url = plain_http.create(server.url, len(content))
    assert plain_http.append(url, 0, content[: MIB + 3]).status_code == 204
    assert run([*client, "resume", server.url, small, url]).facts()["offset"] == str(MIB + 3)
    assert plain_http.download(url) == content


def test_goes_on_after_a_cut(
    server: Served, proxy: CuttingProxy, client: list[str], small: Path
) -> None:
    proxy.cut_after(MIB + 17)
    sent = run([*client, "retry", proxy.url(server.url), small]).facts()
    assert MIB - 8192 < int(sent["offset"]) < MIB + 17, "what had arrived was not kept"
    assert plain_http.download(sent["url"]) == small.read_bytes()


def test_a_refusal_is_told_before_the_body(server: Served, client: list[str], small: Path) -> None:
    ended = run([*client, "resume", server.url, small, f"{server.url}{'0' * 32}"])
    assert ended.status != 0
    assert "unexpected status code (404)" in ended.stderr
