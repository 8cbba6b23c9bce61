"""What a user can do on the page of `tusd-py serve`, and what breaks off in the middle of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser.conftest import Open
from tests.browser.page import (
    AXE,
    HEADS,
    HELD_AT,
    MIB,
    has_stored,
    is_same,
    list_uploads,
    page_url,
    statuses,
)
from tests.browser.proxy import DamagingProxy
from tests.serving import Served, eventually, serving

MakeFile = Callable[..., Path]
MOVING = """() => {
    const inside = document.querySelector("tusd-py-upload").shadowRoot;
    return [...document.querySelectorAll("*"), ...inside.querySelectorAll("*")]
        .filter((element) => {
            const { animationName, transitionDuration } = getComputedStyle(element);
            return animationName !== "none" || !/^0s(, 0s)*$/.test(transitionDuration);
        })
        .map((element) => `${element.tagName} ${element.getAttribute("class")}`);
}"""
"""A function that says what does not change at once."""
LACKING = """() => {
    const { uppy } = document.querySelector("tusd-py-upload").uploader;
    const parts = ["Dashboard", "Webcam", "ImageEditor"].map((name) => uppy.getPlugin(name));
    if (!parts.every(Boolean)) return null;
    const german = uppy.opts.locale.strings;
    const blanks = (text) => [...new Set(JSON.stringify(text).match(/%{\\w+}/g))].sort().join();
    return parts
        .flatMap(({ defaultLocale }) => Object.entries(defaultLocale.strings))
        .filter(([name, text]) => !(name in german) || blanks(text) !== blanks(german[name]))
        .map(([name]) => name);
}"""
"""A function that says which texts the page lacks in its language, or has with other blanks."""


def test_four_files_are_dropped_at_once(
    server: Served, open_page: Open, make_file: MakeFile
) -> None:
    names = [f"film {number} ü.bin" for number in range(4)]
    files = [make_file(3 * MIB + number, name) for number, name in enumerate(names)]
    shown = open_page(page_url(server.url))
    shown.shoot("empty")
    shown.drop(*files)
    shown.finishes(*names)
    shown.shoot("four finished")
    for name, file in zip(names, files, strict=True):
        assert is_same(shown.downloads(name), file)
    shown.reload()
    shown.finishes(*names)


def test_a_folder_is_dropped(server: Served, open_page: Open, make_file: MakeFile) -> None:
    top = make_file(1000, "folder/one.bin")
    below = make_file(2000, "folder/deeper/two.bin")
    shown = open_page(page_url(server.url))
    shown.drop(top.parent)
    shown.finishes("one.bin", "two.bin")
    assert is_same(shown.downloads("two.bin"), below)


def test_paused_and_resumed(
    server: Served, proxy: DamagingProxy, open_page: Open, large: Path
) -> None:
    shown = open_page(proxy.page)
    shown.unfolds("Chunks")
    proxy.hold_after(HELD_AT)
    shown.drop(large)
    assert proxy.held.wait(60)
    shown.sees("in flight, of")
    shown.shoot("uploading")
    shown.press("Pause upload")
    proxy.lose()
    eventually("not stored", lambda: has_stored(server, HELD_AT - HEADS))
    shown.press("Resume upload")
    shown.arrives(large)
    shown.shoot("resumed")
    assert proxy.passed < large.stat().st_size + HEADS, "bytes were sent twice"


def test_reloaded_in_the_middle(
    server: Served, proxy: DamagingProxy, open_page: Open, large: Path
) -> None:
    shown = open_page(proxy.page)
    shown.sends_half(large, proxy)
    shown.keeps_the_file()
    shown.page.goto("about:blank")
    proxy.lose()
    eventually("not stored", lambda: has_stored(server, HELD_AT - HEADS))
    shown.open(proxy.page)
    shown.arrives(large)
    shown.shoot("after a reload")
    assert proxy.passed < large.stat().st_size + HEADS, "bytes were sent twice"


def test_the_server_is_killed_in_the_middle(
    server: Served, proxy: DamagingProxy, open_page: Open, large: Path
) -> None:
    shown = open_page(proxy.page)
    shown.sends_half(large, proxy)
    eventually("not stored", lambda: has_stored(server, HELD_AT - HEADS))
    server.kill()
    proxy.release()
    shown.sees("The server does not answer")
    shown.shoot("server killed")
    server.start()
    shown.arrives(large)
    # Some were sent to a server that was dead already.
    assert proxy.passed < large.stat().st_size + HEADS + MIB, "bytes were sent twice"
    assert len(list_uploads(server)) == 1, "it began anew"


def test_offline_and_back(
    server: Served, proxy: DamagingProxy, open_page: Open, large: Path
) -> None:
    shown = open_page(proxy.page)
    shown.sends_half(large, proxy)
    heard = shown.page.locator(".notices [aria-live=polite]")
    heard.wait_for(state="attached")  # before there is anything in it, or it is not read out
    shown.page.context.set_offline(True)
    heard.filter(has_text="The network is gone").wait_for()
    shown.shoot("offline")
    proxy.lose()
    eventually("not stored", lambda: has_stored(server, HELD_AT - HEADS))
    shown.page.context.set_offline(False)
    shown.arrives(large)
    assert proxy.passed < large.stat().st_size + HEADS, "bytes were sent twice"


def test_what_is_begun_before_the_page_hears_that_it_is_back_goes_on(
    proxy: DamagingProxy, open_page: Open, large: Path
) -> None:
    shown = open_page(proxy.page)
    begun: list[str] = []
    shown.page.on("request", lambda request: begun.append(request.method))
    shown.page.evaluate("dispatchEvent(new Event('offline'))")
    shown.sends_half(large, proxy)
    shown.page.evaluate("dispatchEvent(new Event('online'))")
    shown.sees("The network is back")
    proxy.release()
    shown.arrives(large)
    assert begun.count("PATCH") == 1


def test_a_file_that_is_too_large(tmp_path: Path, open_page: Open, make_file: MakeFile) -> None:
    with serving(tmp_path / "uploads", "--max-size", "1MB") as served:
        shown = open_page(page_url(served.url))
        created = statuses(shown.page, "POST")
        shown.choose(make_file(2_000_000))
        shown.sees("film.bin is larger than the server takes (977 KB). Ask whoever runs it")
        shown.shoot("too large")
        assert created == []


def test_cancelled_it_is_gone_from_the_server(
    server: Served, proxy: DamagingProxy, open_page: Open, large: Path
) -> None:
    shown = open_page(proxy.page)
    shown.sends_half(large, proxy)
    assert len(list_uploads(server)) == 1
    shown.press("Remove file")
    proxy.lose()
    eventually("it is still there", lambda: not list_uploads(server))
    shown.sees("None yet.")


def test_parts_in_parallel(proxy: DamagingProxy, open_page: Open, large: Path) -> None:
    shown = open_page(proxy.page)
    shown.sets("Parts at the same time", "4")
    shown.unfolds("Chunks")
    created = statuses(shown.page, "POST")
    shown.sends_half(large, proxy, large.stat().st_size // 2)
    shown.sees("in flight, of")
    shown.shoot("in parallel")
    proxy.release()
    shown.arrives(large)
    assert created == [201] * 5, "four parts, and what they make"


def test_parts_are_cancelled(
    server: Served, proxy: DamagingProxy, open_page: Open, large: Path
) -> None:
    """They have no URL in common that Uppy could delete."""
    shown = open_page(proxy.page)
    shown.sets("Parts at the same time", "4")
    shown.sends_half(large, proxy, large.stat().st_size // 2)
    eventually("four parts", lambda: len(list_uploads(server)) == 4)
    shown.press("Remove file")
    proxy.lose()
    eventually("some parts are still there", lambda: not list_uploads(server))


def test_the_same_file_is_recognised(
    server: Served, proxy: DamagingProxy, open_page: Open, large: Path
) -> None:
    shown = open_page(proxy.page)
    shown.choose(large)
    shown.finishes(large.name)
    shown.reload()
    before = proxy.passed
    shown.choose(large)
    shown.sees("is on the server already")
    shown.shoot("the same file again")
    shown.finishes(large.name)
    assert proxy.passed < before + HEADS
    assert len(list_uploads(server)) == 1


def test_nothing_keeps_anybody_out(server: Served, open_page: Open, make_file: MakeFile) -> None:
    """As far as a program can tell: names, contrast, roles, order."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: run npm ci in web/")
    shown = open_page(page_url(server.url), color_scheme="light", reduced_motion="reduce")

    def looks(name: str) -> None:
        """What one can see differs between light and dark; all else does not."""
        shown.page.emulate_media(color_scheme="dark")
        assert shown.complaints_of_axe("color-contrast") == []
        shown.shoot(f"{name}, dark")
        shown.page.emulate_media(color_scheme="light")
        assert shown.complaints_of_axe() == []
        shown.shoot(f"{name}, light")

    assert shown.page.evaluate(MOVING) == []
    shown.page.emulate_media(reduced_motion="no-preference")
    assert shown.page.evaluate(MOVING) != []
    shown.page.emulate_media(reduced_motion="reduce")
    looks("nothing yet")
    shown.sets("Size of a request", "auto")
    shown.unfolds("Chunks")
    shown.choose(make_file(2_000_000))
    shown.finishes("film.bin")
    looks("everything unfolded")
    shown.press("Help")
    looks("help")


def test_on_a_phone_in_german(server: Served, open_page: Open, make_file: MakeFile) -> None:
    shown = open_page(page_url(server.url), viewport={"width": 360, "height": 740}, has_touch=True)
    shown.page.get_by_label("Language").select_option("de")
    shown.sees("Dateien hochladen")
    shown.choose(make_file(2_000_000, "ein Film mit einem recht langen Namen.bin"))
    shown.sees("fertig")
    new = {"Tus-Resumable": "1.0.0", "Upload-Length": "2000000"}
    assert httpx.post(server.url, headers=new, trust_env=False).status_code == 201
    for title in ("Einstellungen", "Stücke", "Uploads auf dem Server"):
        shown.unfolds(title)
    shown.page.get_by_label("Höchstens, MB/s").wait_for()
    shown.shoot("phone, German")
    assert shown.page.evaluate("document.scrollingElement.scrollWidth") <= 360
    assert shown.page.evaluate("document.documentElement.lang") == "de"
    shown.reload()
    shown.sees("Dateien hochladen")
    shown.page.wait_for_load_state("networkidle")
    loaded: list[dict[str, Any]] = shown.page.evaluate(
        "performance.getEntriesByType('resource').map((entry) => entry.toJSON())"
    )
    scripts = [entry for entry in loaded if entry["name"].endswith(".js")]
    assert len(scripts) >= 4, "the page, the uploader, and what they load later"
    assert sum(entry["encodedBodySize"] for entry in scripts) < 250_000


def test_a_failure_on_a_phone_in_german(
    server: Served, open_page: Open, make_file: MakeFile
) -> None:
    """Its words are the longest, and the room for them the least."""
    shown = open_page(page_url(server.url), viewport={"width": 360, "height": 740}, has_touch=True)
    shown.page.get_by_label("Language").select_option("de")
    shown.sees("Dateien hochladen")
    shown.page.route("**/files/", lambda route: route.fulfill(status=403))
    shown.choose(make_file(1000))
    shown.sees("Der Server erlaubt das nicht")
    shown.shoot("phone, failed, German")
    retry = shown.page.get_by_role("button", name="Hochladen erneut versuchen").bounding_box()
    says = shown.page.locator(".uppy-StatusBar-status").bounding_box()
    assert retry is not None
    assert says is not None
    assert retry["x"] >= says["x"] + says["width"], "it covers what is said"


def test_german_lacks_nothing(server: Served, open_page: Open) -> None:
    """Uppy's own translation lacks some texts, and a button for folders."""
    shown = open_page(page_url(server.url))
    shown.page.get_by_label("Language").select_option("de")
    for what in ("Dateien durchsuchen", "Ordner durchsuchen"):
        shown.page.get_by_role("button", name=what).wait_for()
    lacking = shown.page.wait_for_function(LACKING).json_value()
    assert lacking == []


@pytest.mark.long
def test_a_picture_is_taken_and_edited(server: Served, open_page: Open) -> None:
    """What the page loads last, and what its policy must allow."""
    shown = open_page(page_url(server.url), permissions=["camera", "microphone"])
    shown.unfolds("Settings")
    shown.page.get_by_label("Begin as soon as a file is chosen").uncheck()
    shown.page.get_by_role("tab", name="Camera").click()
    shown.press("Take a picture")
    shown.press("Submit recorded file")
    shown.press("Edit file")
    shown.page.get_by_role("button", name="Rotate 90°").wait_for()
    shown.shoot("editor")
    shown.press("Rotate 90°")
    shown.press("Save", exact=True)
    shown.press("Upload 1 file")
    shown.page.locator(".history li.finished").wait_for()
    shown.shoot("picture")
    [upload] = list_uploads(server)
    content = httpx.get(server.url + upload["id"], trust_env=False).content
    assert content.startswith(b"\xff\xd8"), "a JPEG file"


def test_by_keyboard_alone(server: Served, open_page: Open, make_file: MakeFile) -> None:
    file = make_file(1000)
    shown = open_page(page_url(server.url))
    # The browser is asked to hand the dialogue over before the first Tab, not before Enter: a key
    # may overtake that, and what it opens then is a dialogue of the system that nobody can see.
    with shown.page.expect_file_chooser() as chooser:
        shown.tabs_to("browse files")
        shown.page.keyboard.press("Enter")
    chooser.value.set_files(file)
    shown.finishes(file.name)
    shown.tabs_to(f"Delete on the server: {file.name}")
    shown.page.keyboard.press("Enter")
    shown.sees("It cannot be brought back")
    shown.page.keyboard.press("Escape")
    assert len(list_uploads(server)) == 1, "Escape deletes nothing"
    shown.page.keyboard.press("Enter")
    shown.tabs_to("Delete on the server")
    shown.page.keyboard.press("Enter")
    shown.sees("None yet.")
    eventually("it is still there", lambda: not list_uploads(server))
