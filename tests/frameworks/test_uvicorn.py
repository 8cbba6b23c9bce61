"""FastAPI in a real uvicorn, below a root path."""

import contextlib
import os
from itertools import islice
from pathlib import Path

import httpx
import pytest

from tests.frameworks.journey import BYTES, TUS
from tests.frameworks.uvicorned import uvicorned


@pytest.mark.parametrize("http", ["auto", "tusd_py.wire.http:HttpProtocol"])
def test_fastapi_in_uvicorn(tmp_path: Path, http: str) -> None:
    content = os.urandom(3_000_000)
    with (
        uvicorned(tmp_path / "uploads", "--root-path", "/app", "--http", http) as base,
        httpx.Client(headers=TUS) as client,
    ):
        for endpoint in ("/api/files", "/api/files/"):
            created = client.post(base + endpoint, headers={"Upload-Length": str(len(content))})
            url = created.headers["Location"]
            # The proxy in front takes /app away; here there is none.
            assert url.startswith(f"{base}/app/api/files/")
            url = url.replace("/app/", "/")
            begun = client.patch(
                url, content=content[:1_000_000], headers=BYTES | {"Upload-Offset": "0"}
            )
            assert (begun.status_code, begun.headers["Upload-Offset"]) == (204, "1000000")
            done = client.patch(
                url, content=content[1_000_000:], headers=BYTES | {"Upload-Offset": "1000000"}
            )
            assert (done.status_code, done.headers["X-Name"]) == (204, url.rpartition("/")[2])
            assert client.get(url).content == content
            assert client.get(url, headers={"Range": "bytes=7-9"}).content == content[7:10]
            is_ours = b"Upload-Offset" in [name for name, _ in done.headers.raw]
            assert is_ours is (http != "auto"), "ours keeps the canonical case"
        assert "without its lifespan" not in (tmp_path / "uploads.log").read_text()


def test_uvicorn_ends_while_somebody_listens(tmp_path: Path) -> None:
    """It tells nobody before every request has ended, and a stream would never."""
    with (
        httpx.Client(headers=TUS, timeout=60) as client,
        contextlib.ExitStack() as listening,
    ):
        with uvicorned(tmp_path / "uploads") as base:
            created = client.post(f"{base}/api/files", headers={"Upload-Length": "5"})
            url = created.headers["Location"]
            stream = listening.enter_context(client.stream("GET", url + "/events"))
            lines = stream.iter_lines()
            assert "event: ready" in islice(lines, 5)
        assert list(lines)[-1] == "", "it has ended in order"
