"""The page for browsers, as it is served; `tests/browser` looks at what it does."""

import gzip
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from tusd_py.asgi.ui import build_ui

pytestmark = pytest.mark.anyio

SCRIPT = b"import './assets/more-aB3.js';" * 50


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a build leaves."""
    assets = tmp_path / "dist/ui/assets"
    assets.mkdir(parents=True)
    (assets / "more-aB3.js").write_bytes(SCRIPT)
    (assets / "more-aB3.js.gz").write_bytes(gzip.compress(SCRIPT))
    (assets.parent / "tusd-py-upload.js").write_bytes(SCRIPT)
    (tmp_path / "dist/index.html").write_text('<div data-endpoint="%ENDPOINT%"></div>')
    (tmp_path / "dist/.sources").write_text("hash")
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "dist"


def browser(folder: Path | None, endpoint: str = "/files/") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Starlette(routes=build_ui(folder, endpoint)))
    return httpx.AsyncClient(transport=transport, base_url="http://files.test")


@pytest.mark.parametrize(
    ("endpoint", "told"), [("/files/", "files/"), ('/a"b/c/', "a&quot;b/c/"), ("/u/p/", "u/p/")]
)
async def test_the_page_knows_its_endpoint_wherever_a_proxy_puts_it(
    folder: Path, endpoint: str, told: str
) -> None:
    async with browser(folder, endpoint) as client:
        page = await client.get("/")
    assert page.text == f'<div data-endpoint="{told}"></div>'
    assert page.headers["content-type"] == "text/html; charset=utf-8"


async def test_the_page_may_load_nothing_from_elsewhere(folder: Path) -> None:
    async with browser(folder) as client:
        policy = (await client.get("/")).headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'self'"
    sources = {source for rule in policy for source in rule.split()[1:]}
    assert sources == {"'self'", "'none'", "blob:", "data:"}
    assert {"img-src 'self' blob: data:", "media-src 'self' blob:"} < {*policy}, "not for scripts"


@pytest.mark.parametrize("path", ["/", "/ui/tusd-py-upload.js"])
async def test_what_keeps_its_name_is_asked_for_again(folder: Path, path: str) -> None:
    """Or a browser would show the page of the release before, or fail on its scripts."""
    async with browser(folder) as client:
        first = await client.get(path)
        assert first.headers["cache-control"] == "no-cache"
        tag = first.headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}'):
            again = await client.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        assert (await client.get(path, headers={"If-None-Match": '"other"'})).status_code == 200
        assert (await client.head(path)).status_code == 200
        assert (await client.post(path)).status_code == 405


async def test_what_has_a_hash_in_its_name_is_kept(folder: Path) -> None:
    async with browser(folder) as client:
        asset = await client.get("/ui/assets/more-aB3.js")
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert asset.headers["x-content-type-options"] == "nosniff"
    assert "javascript" in asset.headers["content-type"]


async def test_a_browser_gets_what_it_can_unpack(folder: Path) -> None:
    tags = set()
    async with browser(folder) as client:
        for accepted, encoding in (("br, gzip", "gzip"), ("identity", None), ("xgzip", None)):
            asset = await client.get(
                "/ui/assets/more-aB3.js", headers={"Accept-Encoding": accepted}
            )
            assert asset.content == SCRIPT
            assert asset.headers.get("content-encoding") == encoding
            assert asset.headers["vary"] == "Accept-Encoding"
            tags.add(asset.headers["etag"])
    assert len(tags) == 2, "a cache would mix them up"


async def test_a_page_of_another_host_may_run_the_uploader(folder: Path) -> None:
    async with browser(folder) as client:
        for path in ("/ui/tusd-py-upload.js", "/ui/assets/more-aB3.js"):
            assert (await client.get(path)).headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-origin" not in (await client.get("/")).headers


@pytest.mark.parametrize(
    "path",
    ["/ui/", "/ui/none.js", "/ui/../secret", "/ui/%2e%2e/%2e%2e/secret", "/ui/..%2f.sources"],
)
async def test_nothing_else_is_served(folder: Path, path: str) -> None:
    async with browser(folder) as client:
        assert (await client.get(path)).status_code == 404


async def test_without_the_page_a_sentence_says_so(folder: Path) -> None:
    async with browser(None) as client:
        said = (await client.get("/")).text
        assert "/files/" in said
        assert "not installed" in said
