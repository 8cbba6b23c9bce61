"""What outlives the page: a browser that is killed, a second tab, a line that dies silently."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from playwright.sync_api import BrowserType, Error

from tests.browser.conftest import MIB, SHOTS, Open
from tests.browser.page import UploadPage, has_stored, is_same, list_uploads, page_url
from tests.browser.proxy import DamagingProxy
from tests.serving import Served, eventually

HEADS = 200_000


@contextlib.contextmanager
def own_browser(
    driver: BrowserType, chromium: str, profile: Path, url: str
) -> Iterator[UploadPage]:
    """The page in a browser of its own, which may be killed meanwhile."""
    with contextlib.suppress(Error):
        context = driver.launch_persistent_context(
            profile, executable_path=chromium, args=["--no-sandbox"], locale="en-GB"
        )
        try:
            shown = UploadPage(context.pages[0], SHOTS)
            shown.open(url)
            yield shown
        finally:
            context.close()


def kill(profile: Path) -> None:
    """The browser of this profile: the one process of ours that has no other part in it."""
    for process in psutil.Process().children(recursive=True):
        command = process.cmdline()
        if f"--user-data-dir={profile}" in command and not any(
            "--type=" in each for each in command
        ):
            process.kill()
            process.wait(20)


def test_the_browser_is_killed(
    driver: BrowserType,
    chromium: str,
    built: Path,
    own_server: Served,
    proxy: DamagingProxy,
    large: Path,
    tmp_path: Path,
) -> None:
    url, profile = page_url(proxy.url(own_server.url)), tmp_path / "profile"
    proxy.hold_after(20 * MIB)
    with own_browser(driver, chromium, profile, url) as shown:
        shown.choose(large)
        assert proxy.held.wait(60)
        shown.keeps_files(1)
        kill(profile)
    proxy.lose()
    eventually("not stored", lambda: has_stored(own_server, 20 * MIB - HEADS))
    finished = False
    with own_browser(driver, chromium, profile, url) as shown:
        shown.finishes(large.name)
        shown.shoot("after a kill of the browser")
        finished = is_same(shown.downloads(large.name), large)
    assert finished
    assert proxy.passed < large.stat().st_size + HEADS, "bytes were sent twice"
    assert len(list_uploads(own_server)) == 1


def test_two_tabs(own_server: Served, proxy: DamagingProxy, open_page: Open, large: Path) -> None:
    """The second sends its own files, and does not take those of the first."""
    url = page_url(proxy.url(own_server.url))
    shown = open_page(url)
    proxy.hold_after(20 * MIB)
    shown.choose(large)
    assert proxy.held.wait(60)
    shown.keeps_files(1)
    other = UploadPage(shown.page.context.new_page(), SHOTS)
    other.open(url)
    other.sees("unfinished")
    assert other.page.locator(".uppy-Dashboard-Item").count() == 0
    proxy.release()
    shown.finishes(large.name)
    assert is_same(shown.downloads(large.name), large)
    assert len(list_uploads(own_server)) == 1


def test_a_line_that_dies_silently(
    own_server: Served, proxy: DamagingProxy, open_page: Open, large: Path
) -> None:
    """No error comes from a cable that is pulled somewhere on the way."""
    shown = open_page("about:blank")
    shown.page.clock.install()
    shown.open(page_url(proxy.url(own_server.url)))
    proxy.hold_after(20 * MIB)
    shown.choose(large)
    assert proxy.held.wait(60)
    shown.page.clock.run_for(31_000)
    shown.page.clock.run_for(31_000)
    shown.finishes(large.name)
    assert is_same(shown.downloads(large.name), large)


def test_deleted_from_the_list(
    server: Served, open_page: Open, make_file: Callable[..., Path]
) -> None:
    before = list_uploads(server)
    shown = open_page(page_url(server.url))
    shown.choose(make_file(1000, "one.bin"))
    shown.finishes("one.bin")
    shown.press("Delete on the server: one.bin")
    shown.sees("It cannot be brought back")
    shown.shoot("delete")
    shown.page.get_by_role("dialog").get_by_role("button", name="Delete on the server").click()
    shown.sees("None yet.")
    eventually("it is still there", lambda: list_uploads(server) == before)


def test_a_head_that_cannot_be_answered_begins_nothing_anew(
    own_server: Served, proxy: DamagingProxy, open_page: Open, large: Path
) -> None:
    """tus-js-client would forget what the server has."""
    shown = open_page(page_url(proxy.url(own_server.url)))
    proxy.hold_after(20 * MIB)
    shown.choose(large)
    assert proxy.held.wait(60)
    shown.press("Pause")
    proxy.lose()
    proxy.spoils_heads = True
    shown.press("Resume")
    shown.sees("The server refused the file (412)")
    shown.shoot("refused")
    proxy.spoils_heads = False
    shown.press("Retry")
    shown.finishes(large.name)
    assert len(list_uploads(own_server)) == 1, "it began anew"
