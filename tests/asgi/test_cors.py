"""Cross-origin requests: which page may call, and that it sees what it needs, on errors too."""

from pathlib import Path

import pytest

from tests.asgi.in_process import BASE, OFFSET_TYPE, TUS, Running, running
from tusd_py.app import Settings
from tusd_py.asgi.settings import HttpSettings
from tusd_py.protocol.cors import CorsPolicy

pytestmark = pytest.mark.anyio

PAGE = "https://app.example.com"


def settings(**policy: object) -> Settings:
    cors = CorsPolicy(**policy)  # type: ignore[arg-type]
    return Settings(base_path=BASE, http=HttpSettings(cors=cors))


async def test_any_page_by_default(server: Running) -> None:
    """Every answer has the headers: without them a page cannot read a 409, nor a download."""
    path = await server.create(11)
    whole = await server.whole(b"hello")
    origin = {"Origin": PAGE}
    answers = [
        await server.client.post(BASE, headers=TUS | origin | {"Upload-Length": "5"}),
        await server.client.post(BASE, headers=origin),
        await server.client.head(path, headers=TUS | origin),
        await server.client.patch(
            path, headers=TUS | OFFSET_TYPE | origin | {"Upload-Offset": "9"}
        ),
        await server.client.get(whole, headers=origin),
        await server.client.get(whole, headers=origin | {"Range": "bytes=99-"}),
        await server.client.delete(path, headers=TUS | origin),
        await server.client.get(BASE + "never", headers=origin),
        await server.client.options(BASE, headers=origin),
    ]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        exposed = answer.headers["Access-Control-Expose-Headers"].lower().split(", ")
        assert {"location", "upload-offset", "upload-length", "tus-resumable"} <= set(exposed)
        ours = {name for name in answer.headers if name.startswith(("upload-", "tus-"))}
        assert ours <= set(exposed)
        assert "Vary" not in answer.headers
    assert "Access-Control-Allow-Origin" not in (await server.head(whole)).headers


async def test_a_preflight_is_answered_before_anybody_is_asked(tmp_path: Path) -> None:
    """A browser sends it without the page's `Authorization`."""
    from tusd_py import Access, Reject

    async def nobody(_: Access) -> None:
        raise Reject(401, "who are you?")

    options = settings(allow_headers="X-Mine, X-Yours", max_age=60)
    async with running(tmp_path, authorize=nobody, settings=options) as server:
        for where in (BASE, BASE + "some-id"):
            asked = {"Origin": PAGE, "Access-Control-Request-Method": "PATCH"}
            answer = await server.client.options(where, headers=asked)
            assert answer.status_code == 204
            allowed = answer.headers["Access-Control-Allow-Methods"]
            assert allowed == "POST, HEAD, PATCH, OPTIONS, GET, DELETE"
            headers = answer.headers["Access-Control-Allow-Headers"]
            assert headers.startswith("Authorization, ")
            assert headers.endswith(", X-Mine, X-Yours")
            assert answer.headers["Access-Control-Max-Age"] == "60"
        sent = TUS | {"Origin": PAGE, "Upload-Length": "1"}
        refused = await server.client.post(BASE, headers=sent)
        assert refused.status_code == 401
        assert refused.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.com", True),
        ("http://app.example.com", True),
        ("https://app.example.com.evil", False),
        ("https://evil.com/https://app.example.com", False),
        ("https://app_example.com", False),
        ("null", False),
        ("", False),
    ],
)
async def test_a_pattern_holds_for_the_whole_origin(
    tmp_path: Path, origin: str, allowed: bool
) -> None:
    """PEERS, tusd: `https?://example.com` lets `example.com.evil` in."""
    options = settings(allow_origin=r"https?://app\.example\.com", allow_credentials=True)
    async with running(tmp_path, settings=options) as server:
        answer = await server.client.options(BASE, headers={"Origin": origin})
        assert answer.headers["Vary"] == "Origin"
        assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
        assert ("Access-Control-Allow-Methods" in answer.headers) is allowed
        credentials = answer.headers.get("Access-Control-Allow-Credentials")
        assert credentials == ("true" if allowed else None)


async def test_with_credentials_the_origin_is_echoed(tmp_path: Path) -> None:
    """Fetch forbids `*` there."""
    async with running(
        tmp_path, settings=settings(allow_credentials=True, allow_origin=PAGE)
    ) as server:
        answer = await server.client.get(BASE + "x", headers={"Origin": PAGE})
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert answer.headers["Vary"] == "Origin"
