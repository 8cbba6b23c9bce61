"""What outlives the page: a browser that is killed, a second tab, a line that dies silently."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from playwright.sync_api import BrowserType, Error

from tests.browser.conftest import Open
from tests.browser.page import (
    HEADS,
    HELD_AT,
    UploadPage,
    has_stored,
    list_uploads,
    page_url,
)
from tests.browser.proxy import DamagingProxy
from tests.serving import Served, eventually


@contextlib.contextmanager
def own_browser(
    driver: BrowserType, chromium: str, profile: Path, url: str, shots: Path | None
) -> Iterator[UploadPage]:
    """The page in a browser of its own, which may be killed meanwhile."""
    context = driver.launch_persistent_context(
        profile, executable_path=chromium, args=["--no-sandbox"], locale="en-GB"
    )
    try:
        shown = UploadPage(context.pages[0], shots)
        shown.open(url)
        yield shown
    finally:
        with contextlib.suppress(Error):  # it may be gone
            context.close()


def is_on_disk(profile: Path, text: str) -> bool:
    """Whether a text stands in what a page has stored, in its database or beside it."""
    logs = (profile / "Default").glob("*/*leveldb/*.log")
    return any(text.encode() in log.read_bytes() for log in logs)


def kill(profile: Path) -> None:
    """The browser of this profile: the one process of ours that has no other part in it."""
    [browser] = [
        process
        for process in psutil.Process().children(recursive=True)
        if f"--user-data-dir={profile}" in (command := command_of(process))
        and not any("--type=" in each for each in command)
    ]
    browser.kill()
    browser.wait(20)


def command_of(process: psutil.Process) -> list[str]:
    """Empty for one that has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_the_browser_is_killed(
    driver: BrowserType,
    chromium: str,
    built: Path,
    server: Served,
    proxy: DamagingProxy,
    large: Path,
    shots: Path | None,
    tmp_path: Path,
) -> None:
    profile = tmp_path / "profile"
    with own_browser(driver, chromium, profile, proxy.page, shots) as shown:
        shown.sends_half(large, proxy)
        shown.keeps_the_file()
        [upload] = list_uploads(server)
        # A browser has in memory for some seconds what its pages have stored.
        eventually("not kept", lambda: is_on_disk(profile, upload["id"]), within=60)
        kill(profile)
    proxy.lose()
    eventually("not stored", lambda: has_stored(server, HELD_AT - HEADS))
    with own_browser(driver, chromium, profile, proxy.page, shots) as shown:
        shown.arrives(large)
        shown.shoot("after a kill of the browser")
    assert proxy.passed < large.stat().st_size + HEADS, "bytes were sent twice"
    assert len(list_uploads(server)) == 1


def test_two_tabs(
    server: Served, proxy: DamagingProxy, open_page: Open, large: Path, shots: Path | None
) -> None:
    """The second sends its own files, and does not take those of the first."""
    shown = open_page(proxy.page)
    shown.sends_half(large, proxy)
    shown.keeps_the_file()
    other = UploadPage(shown.page.context.new_page(), shots)
    other.open(proxy.page)
    other.sees("unfinished")
    assert other.page.locator(".uppy-Dashboard-Item").count() == 0
    proxy.release()
    shown.arrives(large)
    assert len(list_uploads(server)) == 1


def test_a_line_that_dies_silently(proxy: DamagingProxy, open_page: Open, large: Path) -> None:
    """No error comes from a cable that is pulled somewhere on the way."""
    shown = open_page("about:blank")
    shown.page.clock.install()
    shown.open(proxy.page)
    shown.sends_half(large, proxy)
    shown.page.clock.run_for(31_000)
    shown.page.clock.run_for(31_000)
    shown.arrives(large)


def test_deleted_from_the_list(
    server: Served, open_page: Open, make_file: Callable[..., Path]
) -> None:
    shown = open_page(page_url(server.url))
    shown.choose(make_file(1000, "one.bin"))
    shown.finishes("one.bin")
    shown.press("Delete on the server: one.bin")
    shown.sees("It cannot be brought back")
    shown.shoot("delete")
    shown.page.get_by_role("dialog").get_by_role("button", name="Delete on the server").click()
    shown.sees("None yet.")
    eventually("it is still there", lambda: not list_uploads(server))


def test_a_head_that_cannot_be_answered_begins_nothing_anew(
    server: Served, proxy: DamagingProxy, open_page: Open, large: Path
) -> None:
    """tus-js-client would forget what the server has."""
    shown = open_page(proxy.page)
    shown.sends_half(large, proxy)
    shown.press("Pause", exact=True)
    proxy.lose()
    proxy.spoils_heads = True
    shown.press("Resume", exact=True)
    shown.sees("The server refused the file (412)")
    shown.shoot("refused")
    proxy.spoils_heads = False
    shown.press("Retry")
    shown.finishes(large.name)
    assert len(list_uploads(server)) == 1, "it began anew"
