"""The pages beside the uploads."""

import httpx
import pytest

from tusd_py.asgi.site import build_site
from tusd_py.metrics import Metrics

pytestmark = pytest.mark.anyio


async def is_ready() -> str:
    return ""


@pytest.mark.parametrize("metrics_path", ["/metrics", None])
async def test_the_pages(metrics_path: str | None) -> None:
    """Whoever opens the server in a browser learns where uploads go; a probe and a scraper too."""
    transport = httpx.ASGITransport(build_site(Metrics(), metrics_path, "/files", is_ready))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert "/files" in (await client.get("/")).text
        assert (await client.get("/healthz")).text == "ok\n"
        metrics = await client.get("/metrics")
        assert metrics.status_code == (404 if metrics_path is None else 200)
        assert ("tusd_requests_total" in metrics.text) is (metrics_path is not None)
