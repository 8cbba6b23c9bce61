"""All that a client does, one request after the other; a redirect anywhere is a failure."""

import re
from base64 import b64encode
from collections.abc import Mapping

import httpx

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {"Content-Type": "application/offset+octet-stream"}


async def ask(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    content: bytes = b"",
    expect: int = 204,
    headers: Mapping[str, str] | None = None,
    **more: str,
) -> httpx.Response:
    """A request of a tus client; more headers by their name with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in more.items()} | dict(headers or {})
    body = BYTES if content else {}
    response = await client.request(method, url, content=content, headers=TUS | body | named)
    assert response.status_code == expect, (method, url, response.status_code, response.text)
    return response


def metadata(**pairs: str) -> str:
    return ",".join(f"{key} {b64encode(text.encode()).decode()}" for key, text in pairs.items())


async def create(client: httpx.AsyncClient, endpoint: str, length: int, **headers: str) -> str:
    """The URL of a new upload: absolute, and below where it was asked for."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await ask(
        client, "POST", endpoint, expect=201, headers=more, Upload_Length=str(length)
    )
    location = response.headers["Location"]
    base = f"{client.base_url}".rstrip("/") + endpoint.rstrip("/")
    assert re.fullmatch(re.escape(base) + r"/[0-9a-f]{32}", location), location
    return str(location)


async def whole_journey(client: httpx.AsyncClient, endpoint: str) -> list[tuple[str, str]]:
    """From `OPTIONS` to `DELETE`: verb and id of all that needs to be allowed, in order."""
    asked: list[tuple[str, str]] = []

    answer = await ask(client, "OPTIONS", endpoint, Origin="https://page.test")
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert "creation" in answer.headers["Tus-Extension"].split(",")
    assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"

    url = await create(client, endpoint, 11, Upload_Metadata=metadata(filename="a b.txt"))
    upload_id = url.rpartition("/")[2]
    asked += [("create", "")]
    assert (await ask(client, "HEAD", url, expect=200)).headers["Upload-Offset"] == "0"
    first = await ask(client, "PATCH", url, b"hello ", Upload_Offset="0")
    assert first.headers["Upload-Offset"] == "6"
    last = await ask(client, "PATCH", url, b"world", Upload_Offset="6")
    assert last.headers["Upload-Offset"] == "11"
    found = await ask(client, "HEAD", url, expect=200)
    assert found.headers["Upload-Offset"] == found.headers["Upload-Length"] == "11"
    got = await client.get(url, headers={"Origin": "https://page.test"})
    assert (got.status_code, got.content) == (200, b"hello world")
    assert "Upload-Offset" in got.headers["Access-Control-Expose-Headers"]
    await ask(client, "DELETE", url)
    assert (await client.get(url)).status_code in (404, 410)
    verbs = ("query", "append", "append", "query", "download", "terminate", "download")
    asked += [(verb, upload_id) for verb in verbs]

    asked += await _with_upload_and_concatenation(client, endpoint)
    return asked


async def _with_upload_and_concatenation(
    client: httpx.AsyncClient, endpoint: str
) -> list[tuple[str, str]]:
    asked, parts = [], []
    for content in (b"one, ", b"two"):
        created = await ask(
            client,
            "POST",
            endpoint,
            content,
            expect=201,
            Upload_Length=str(len(content)),
            Upload_Concat="partial",
        )
        assert created.headers["Upload-Offset"] == str(len(content))
        parts.append(created.headers["Location"])
        asked.append(("create", ""))
    # One as an absolute URL, as tus-js-client does, and one as a path, as aiotus does.
    listed = f"final;{parts[0]} {httpx.URL(parts[1]).path}"
    final = await ask(client, "POST", endpoint, expect=201, Upload_Concat=listed)
    asked += [("create", ""), *(("concatenate", part.rpartition("/")[2]) for part in parts)]
    url = final.headers["Location"]
    got = await client.get(url)
    assert (got.status_code, got.content) == (200, b"one, two")
    asked.append(("download", url.rpartition("/")[2]))
    return asked
