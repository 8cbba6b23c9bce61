"""Limits of speed as an operator sets them: at least as slow as they say, whoever does the work.

How exact they are, and whether others are held up, is measured by
`python -m tests.benchmarks speed-limits`: a busy machine would be no evidence here.
"""

import concurrent.futures
import time
from pathlib import Path

import httpx
import pytest

from tests.serving import serving

TUS = {"Tus-Resumable": "1.0.0"}
SENT = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
BODIES = {"socket": {}, "receive": {"TUSD_PY_TEST_BODY": "receive"}}


def upload(url: str, size: int) -> bytes:
    """Sends an upload by a connection of its own: what the server has of it."""
    content = bytes(range(256)) * (size // 256)
    with httpx.Client(timeout=60) as client:
        made = client.post(url, headers=TUS | {"Upload-Length": str(size)})
        where = made.headers["Location"]
        assert client.patch(where, headers=SENT, content=content).status_code == 204
        return client.get(where).content


@pytest.mark.parametrize(
    ("flag", "body"), [("--max-speed", "receive"), ("--max-speed-per-client", "socket")]
)
def test_workers_keep_a_limit_together(tmp_path: Path, flag: str, body: str) -> None:
    """Eight uploads come to both of them, nearly always."""
    rate, size, count = 100_000, 25_600, 8
    flags = (flag, str(rate), "--workers", "2")
    with serving(tmp_path / "u", *flags, env=BODIES[body]) as server:
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            for content in pool.map(upload, [server.url] * count, [size] * count):
                assert content == bytes(range(256)) * 100
        # A tenth of a second's worth in each worker, and as much before it is told of the other.
        assert time.monotonic() - begun >= (size * count - 0.6 * rate) / rate
