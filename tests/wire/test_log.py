"""The access log, which uvicorn writes for applications that are served with our protocol class."""

import logging
from pathlib import Path

import pytest

from tests.wire.loopback import serving
from tusd_py.auth.signed import SignedUrls

pytestmark = pytest.mark.anyio


async def test_no_signature_is_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the log could go on with the upload."""
    url = SignedUrls(["a secret key of 32 characters..."]).sign("/files/x?a=b", lasts=60)
    caplog.set_level(logging.INFO, "uvicorn.access")
    async with serving(tmp_path) as server:
        monkeypatch.setattr(logging.getLogger("uvicorn.access"), "propagate", True)
        for target in (url, url + "&c=d", url.replace("a=b&", "")):
            client = await server.client()
            await client.send(f"OPTIONS {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert (await client.answer()).startswith(b"HTTP/1.1 204 ")
    shown = [record.getMessage().partition('"')[2] for record in caplog.records]
    assert shown == [
        f'OPTIONS /files/x{query} HTTP/1.1" 204'
        for query in ("?a=b&tus-signed=...", "?a=b&tus-signed=...&c=d", "?tus-signed=...")
    ]
