"""`<tusd-py-upload>` in somebody else's page, on another origin, with a policy of its own."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from tests.browser.conftest import Open
from tests.browser.page import UploadPage, list_uploads, page_url
from tests.serving import Served, eventually

PAGE = """<!doctype html>
<html lang="de"><title>Team</title>
<style nonce="page">h1 {{ color: rgb(1, 2, 3); }} p {{ font-size: 40px; }}</style>
<h1>Team</h1>
<tusd-py-upload endpoint="{endpoint}" chunk-size="auto" checksum="sha256"></tusd-py-upload>
<p id="told"></p>
<script type="module" src="{script}"></script>
<script nonce="page">
  const uploader = document.querySelector("tusd-py-upload");
  // As in the README: the module is not there yet.
  uploader.headers = {{ Authorization: "Bearer it" }};
  uploader.addEventListener("upload-finished", (event) => {{
    document.getElementById("told").textContent = `${{event.detail.name}} at ${{event.detail.url}}`;
  }});
</script></html>
"""


@contextlib.contextmanager
def team(endpoint: str) -> Iterator[str]:
    """A FastAPI application of another origin: its URL."""
    app = FastAPI()
    script = page_url(endpoint) + "ui/tusd-py-upload.js"
    origin = page_url(endpoint).rstrip("/")
    policy = (
        f"default-src 'none'; script-src 'nonce-page' {origin}; style-src 'nonce-page'; "
        f"connect-src {origin}; worker-src blob:; img-src data: blob:"
    )

    @app.get("/")
    async def page() -> HTMLResponse:
        content = PAGE.format(endpoint=endpoint, script=script)
        return HTMLResponse(content, headers={"Content-Security-Policy": policy})

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually("the other host does not start", lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("is_late", [False, True])
def test_in_a_page_of_another_origin(
    server: Served, open_page: Open, make_file: Callable[..., Path], is_late: bool
) -> None:
    with team(server.url) as url:
        shown: UploadPage = open_page(url)
        if is_late:
            shown.page.evaluate(
                "document.querySelector('tusd-py-upload').headers = { Authorization: 'Bearer me' }"
            )
        sent: list[str | None] = []
        shown.page.on(
            "request",
            lambda request: (
                sent.append(request.headers.get("authorization"))
                if request.method in ("POST", "PATCH")
                else None
            ),
        )
        shown.sees("Stücke")
        shown.choose(make_file(3_000_000, "one.bin"))
        shown.sees(f"one.bin at {server.url}")
        shown.shoot("in another page")
        assert sent == ["Bearer me" if is_late else "Bearer it"] * len(sent)
        assert len(sent) >= 3, "a POST, and chunks"
        size = shown.page.locator("tusd-py-upload .facts").evaluate(
            "(element) => getComputedStyle(element).fontSize"
        )
        assert size == "14px", "its styles and those of the page are apart"
    assert len(list_uploads(server)) == 1
