"""The WebSocket as a page has it that somebody built: in a browser, with its rules."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser.conftest import Open
from tests.browser.page import WITHIN, UploadPage, list_uploads, page_url
from tests.interop.plain_http import append, create
from tests.serving import Served, serving

TOKEN = "the-token-of-alice_1234"
CONNECTS = """([name, url, protocols]) => new Promise((resolve) => {
    const heard = [];
    const socket = new WebSocket(url, protocols);
    globalThis[name] = { socket, heard };
    socket.onmessage = ({ data }) => heard.push(JSON.parse(data));
    socket.onopen = () => resolve("open");
    socket.onclose = ({ code }) => {
        heard.push({ event: "closed", code });
        resolve(`closed with ${code}`);
    };
})"""
HEARS = """([name, event, ref]) => globalThis[name].heard
    .find((each) => each.event === event && (ref === null || each.ref === ref)) ?? null"""


class Socket:
    """One that a page has opened.

    Attributes:
        came: What came of that.
    """

    def __init__(self, shown: UploadPage, name: str, url: str, *protocols: str) -> None:
        self._page = shown.page
        self._name = name
        at = url.replace("http:", "ws:")
        self.came = self._page.evaluate(CONNECTS, [name, at, protocols])

    def hears(self, event: str, ref: str | None = None) -> dict[str, Any]:
        """Waits for a message: the first one of that name."""
        found = self._page.wait_for_function(HEARS, arg=[self._name, event, ref], timeout=WITHIN)
        message: dict[str, Any] = found.json_value()
        return message

    def says(self, **message: object) -> dict[str, Any]:
        """Gives a command, whose `ref` is the command: what it did, or why it did not."""
        self._page.evaluate(
            "([name, message]) => globalThis[name].socket.send(JSON.stringify(message))",
            [self._name, {**message, "ref": message["command"]}],
        )
        data: dict[str, Any] = self.hears("done", str(message["command"]))["data"]
        return data


def test_a_page_listens_and_commands(server: Served, open_page: Open) -> None:
    shown = open_page(page_url(server.url))
    everything = Socket(shown, "everything", page_url(server.url) + "events")
    assert everything.came == "open"
    everything.hears("ready")
    url = create(server.url, 10)
    upload_id = url.rpartition("/")[2]
    assert everything.hears("created")["data"]["id"] == upload_id
    one = Socket(shown, "one", f"{url}/events")
    assert one.hears("ready")["data"]["upload"]["length"] == 10
    assert append(url, 0, b"12345").status_code == 204
    assert one.hears("progress")["data"]["offset"] == 5
    assert one.says(command="pause")["state"] == "paused"
    assert append(url, 5, b"6").status_code == 423
    assert everything.hears("paused")["data"]["id"] == upload_id
    assert one.says(command="resume")["state"] == "receiving"
    assert append(url, 5, b"6").status_code == 204
    limited = everything.says(command="speed", upload=upload_id, max_speed=2048)
    assert limited["max_speed"] == 2048
    one.says(command="terminate")
    one.hears("terminated")
    assert one.hears("closed")["code"] == 1000
    assert everything.hears("terminated")["data"]["id"] == upload_id
    assert list_uploads(server) == []


@pytest.fixture
def guarded(tmp_path: Path, server: Served) -> Iterator[Served]:
    """Knows Alice, and lets pages of no other origin in."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN} alice\n")
    flags = ("--auth-tokens", str(tokens), "--cors-allow-origin", "https://nobody.example")
    with serving(tmp_path / "uploads", *flags) as served:
        yield served


def test_pages_of_other_origins(server: Served, guarded: Served, open_page: Open) -> None:
    """They are let in where CORS lets them, and nobody without a token that is good."""
    shown = open_page(page_url(guarded.url))
    ours, theirs = (page_url(each.url) + "events" for each in (guarded, server))
    bearer = "bearer.dGhlLXRva2VuLW9mLWFsaWNlXzEyMzQ"
    own = Socket(shown, "own", ours, "tusd-py", bearer)
    assert own.came == "open"
    assert shown.page.evaluate("own.socket.protocol") == "tusd-py"
    own.hears("ready")
    assert Socket(shown, "nobody", ours, "tusd-py").came == "closed with 1006"
    assert Socket(shown, "wrong", ours, "tusd-py", "bearer.d3Jvbmc").came == "closed with 1006"
    # What answers with no page has no policy that would keep its page from connecting elsewhere.
    shown.page.goto(page_url(server.url) + "healthz")
    assert Socket(shown, "foreign", ours, "tusd-py", bearer).came == "closed with 1006"
    shown.page.goto(page_url(guarded.url) + "healthz")
    assert Socket(shown, "allowed", theirs).came == "open"
    counted = httpx.get(page_url(guarded.url) + "metrics", trust_env=False).text
    assert 'tusd_errors_total{code="ERR_NOT_ALLOWED",status="403"} 1.0' in counted
    assert 'status="401"} 2.0' in counted
