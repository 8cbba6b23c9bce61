"""tusgo (Go). It does not trim lists, and wants an exact 200, 201 and 204."""

import time
from pathlib import Path

import pytest

from tests.interop import plain_http
from tests.interop.conftest import MIB
from tests.interop.programs import run
from tests.interop.toolchains import TUSGO, built
from tests.serving import Served

pytestmark = pytest.mark.timeout(900)  # the first test of a session may build the client


@pytest.fixture(scope="session")
def client() -> Path:
    return built(TUSGO) / "send"


@pytest.mark.parametrize(
    "mode",
    [
        "upload",
        "checksum",  # sha1 in a header of every chunk
        "trailer",  # sha1 in a trailer after a chunked body
        "deferred",
        "creation",  # the first chunk in the POST
        "parts",  # two partial uploads, concatenated
    ],
)
def test_upload(server: Served, client: Path, small: Path, mode: str) -> None:
    sent = run([client, mode, server.url, small]).facts()
    assert plain_http.download(sent["url"]) == small.read_bytes()
    assert plain_http.metadata(sent["url"]) == {"filename": small.name}


def test_resumes_where_the_server_is(server: Served, client: Path, small: Path) -> None:
    content = small.read_bytes()
    url = plain_http.create(server.url, len(content))
    assert plain_http.append(url, 0, content[: MIB + 3]).status_code == 204
    assert run([client, "resume", server.url, small, url]).facts()["offset"] == str(MIB + 3)
    assert plain_http.download(url) == content


def test_reads_the_expiry(server: Served, client: Path, small: Path) -> None:
    # tusgo ends the upload when it cannot parse the date.
    sent = run([client, "upload", server.url, small]).facts()
    assert float(sent["expires"]) > time.time() + 24 * 3600 - 60


def test_delete(server: Served, client: Path, small: Path) -> None:
    url = run([client, "upload", server.url, small]).facts()["url"]
    run([client, "delete", server.url, small, url]).lines()
    assert plain_http.asked("GET", url).status_code == 404
