"""The main way in Firefox, by puppeteer-core: Playwright drives only a Firefox of its own."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser.page import HEADS, HELD_AT, KEEPS, has_stored, is_same, list_uploads
from tests.browser.proxy import DamagingProxy
from tests.interop import toolchains
from tests.serving import Served, eventually

STEERING = toolchains.Recipe(
    name="firefox",
    source="../browser/firefox",
    tools=("node", "npm"),
    fetch=(("npm", "ci", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error"),),
)
PROGRESS = """
    document.querySelector("tusd-py-upload").shadowRoot
        .querySelector(".uppy-StatusBar-progress")?.getAttribute("aria-valuenow") > 0
"""
FINISHED = """document.querySelector(".history li.finished a") !== null"""

Firefox = Callable[..., Any]


@pytest.fixture
def firefox(tmp_path: Path) -> Iterator[Firefox]:
    """Does something in it, and says what came of that; see `firefox/steer.mjs`."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.skip("no Firefox to test the page in: install firefox-esr")
    profile = tmp_path / "profile"
    profile.mkdir()
    command = ["node", str(toolchains.built(STEERING) / "steer.mjs"), program, str(profile)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None
        assert stdout.readline() == "null\n", "Firefox does not start"

        def do(what: str, how: str = "") -> Any:
            stdin.write(json.dumps([what, how]) + "\n")
            stdin.flush()
            said = stdout.readline()
            try:
                return json.loads(said)
            except ValueError:
                pytest.fail(f"in Firefox: {said}")

        yield do
        stdin.close()
        process.wait(60)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_reloaded_in_the_middle(
    built: Path,
    server: Served,
    proxy: DamagingProxy,
    make_file: Callable[..., Path],
    firefox: Firefox,
    shots: Path | None,
) -> None:
    file = make_file(12_000_000)
    firefox("open", proxy.page)
    proxy.hold_after(HELD_AT)
    firefox("choose", str(file))
    assert proxy.held.wait(60)
    firefox("wait", PROGRESS)
    firefox("wait", f"({KEEPS})()")
    firefox("open", "about:blank")
    proxy.lose()
    eventually("not stored", lambda: has_stored(server, HELD_AT - HEADS))
    firefox("open", proxy.page)
    firefox("wait", FINISHED)
    if shots is not None:
        firefox("shoot", str(shots / "firefox.png"))
    assert proxy.passed < file.stat().st_size + HEADS, "bytes were sent twice"
    [upload] = list_uploads(server)
    content = httpx.get(server.url + upload["id"], trust_env=False).content
    assert is_same(content, file)
    assert firefox("faults") == []
