"""What the page shows of the server: its uploads, whoever sent them, and how busy it is."""

from collections.abc import Callable
from pathlib import Path

import httpx
from playwright.sync_api import Locator

from tests.browser.conftest import Open
from tests.browser.page import HEADS, HELD_AT, UploadPage, list_uploads, page_url, statuses
from tests.browser.proxy import DamagingProxy
from tests.serving import Served, eventually

TUS = {"Tus-Resumable": "1.0.0"}
OFFSET = {**TUS, "Content-Type": "application/offset+octet-stream"}
NAME = {"Upload-Metadata": "filename ZmlsbS5iaW4="}  # film.bin
MB = 1 << 20  # as the page counts
TRIES_NO_MORE = """
    const later = globalThis.setTimeout;
    globalThis.setTimeout = (call, after) =>
        later(() => globalThis.triesNoMore && after >= 500 ? undefined : call(), after);
"""
"""A page whose next tries never come once `triesNoMore` is set."""


def sent(server: Served, content: bytes, length: int, name: dict[str, str] = NAME) -> str:
    """By somebody else, and perhaps not whole: the URL."""
    headers = {**OFFSET, **name, "Upload-Length": str(length)}
    made = httpx.post(server.url, headers=headers, content=content, trust_env=False)
    assert made.status_code == 201
    return made.headers["location"]


def wish(server: Served, **wanted: object) -> None:
    """What somebody elsewhere wants of the one upload."""
    [upload] = list_uploads(server)
    url = f"{page_url(server.url)}api/uploads/{upload['id']}"
    assert httpx.put(url, json=wanted, trust_env=False).status_code == 200


def speed_of(server: Served) -> object:
    """The limit of the one upload."""
    [upload] = httpx.get(f"{page_url(server.url)}api/uploads", trust_env=False).json()["uploads"]
    return upload["max_speed"]


def rows(shown: UploadPage) -> Locator:
    return shown.page.locator(".server li")


def test_uploads_of_others(server: Served, open_page: Open) -> None:
    half = sent(server, b"a" * 1000, 2000)
    sent(server, b"whole", 5, {"Upload-Metadata": "filename d2hvbGU="})
    shown = open_page(page_url(server.url))
    asked: list[str] = []
    shown.page.on("request", lambda request: asked.append(request.url))
    shown.unfolds("Uploads on the server")
    rows(shown).nth(1).wait_for()
    newest, oldest = rows(shown).all_inner_texts()
    assert "whole" in newest
    assert "finished" in newest
    assert "film.bin" in oldest
    assert "1,000 bytes of 2 kB" in oldest
    assert "kept until" in oldest, "what nobody continues expires"
    assert oldest.count("Delete") == 1
    shown.shoot("uploads on the server")
    assert shown.complaints_of_axe() == []
    link = shown.page.locator(".server a", has_text="whole").get_attribute("href")
    assert link is not None
    assert httpx.get(link, trust_env=False).content == b"whole"
    # What happens there is seen here.
    headers = {**OFFSET, "Upload-Offset": "1000"}
    done = httpx.patch(half, headers=headers, content=b"b" * 1000, trust_env=False)
    assert done.status_code == 204
    shown.page.locator(".server li.complete", has_text="film.bin").wait_for()
    shown.press("Delete: film.bin")
    shown.page.get_by_role("dialog").get_by_role("button", name="Delete on the server").click()
    eventually("it is still there", lambda: len(list_uploads(server)) == 1)
    shown.page.locator(".server li", has_text="film.bin").wait_for(state="detached")
    assert sum("api/uploads" in url for url in asked) <= 2, "it is told, and need not ask"


def test_older_ones_are_shown_when_asked_for(server: Served, open_page: Open) -> None:
    with httpx.Client(headers=TUS, trust_env=False) as client:
        for number in range(52):
            made = client.post(server.url, headers={"Upload-Length": str(number)})
            assert made.status_code == 201
    shown = open_page(page_url(server.url))
    shown.unfolds("Uploads on the server")
    rows(shown).nth(49).wait_for()
    assert rows(shown).count() == 50
    shown.press("Show older ones")
    rows(shown).nth(51).wait_for()
    assert shown.page.get_by_role("button", name="Show older ones").count() == 0


def test_how_busy_it_is(server: Served, open_page: Open, make_file: Callable[..., Path]) -> None:
    sent(server, b"a", 2)
    assert httpx.head(f"{server.url}none", headers=TUS, trust_env=False).status_code == 404
    shown = open_page(page_url(server.url))
    shown.unfolds("How busy the server is")
    shown.sees("404 ERR_UPLOAD_NOT_FOUND")
    shown.sees("1, 0 of them moving")
    memory = shown.page.locator("figure", has_text="Memory").locator("strong").inner_text()
    assert memory.endswith("MB")
    # Over time: a curve has a point for each time it was asked.
    shown.page.wait_for_function(
        "() => document.querySelector('polyline').getAttribute('points').split(' ').length >= 3"
    )
    shown.choose(make_file(20_000_000))
    shown.finishes("film.bin")
    shown.shoot("operator")
    assert shown.complaints_of_axe() == []


def test_watched_and_paused_from_another_browser(
    server: Served, proxy: DamagingProxy, open_page: Open, large: Path
) -> None:
    other = open_page(page_url(server.url))
    other.unfolds("Uploads on the server")
    other.page.locator(".server").get_by_text("None yet.").wait_for()
    shown = open_page(proxy.page)
    shown.sends_half(large, proxy)
    # Far more than the first request of the list could have told.
    other.page.wait_for_function(
        "(count) => document.querySelector('.server progress')?.value > count", arg=HELD_AT - HEADS
    )
    other.press("Pause: film.bin", exact=True)
    other.page.locator(".server li.paused").wait_for()
    other.shoot("paused on the server")
    proxy.release()
    notice = shown.page.locator(".notice", has_text="This upload was paused on the server")
    notice.wait_for()
    assert notice.get_attribute("class") == "notice", "nothing is wrong"
    shown.shoot("paused by another browser")
    assert len(list_uploads(server)) == 1
    other.press("Resume: film.bin", exact=True)
    shown.arrives(large)
    other.page.locator(".server li.complete").wait_for()
    assert len(list_uploads(server)) == 1, "it began anew"


def test_it_goes_on_as_soon_as_it_is_resumed_elsewhere(
    server: Served, proxy: DamagingProxy, open_page: Open, large: Path
) -> None:
    """And does not wait for its next try."""
    shown = open_page("about:blank")
    shown.page.add_init_script(TRIES_NO_MORE)
    shown.open(proxy.page)
    shown.sends_half(large, proxy)
    wish(server, paused=True)
    proxy.release()
    shown.sees("This upload was paused on the server")
    shown.page.evaluate("globalThis.triesNoMore = true")
    wish(server, paused=False)
    shown.arrives(large)


def test_a_limit_of_speed(server: Served, open_page: Open) -> None:
    """By keyboard, and as it is known elsewhere."""
    sent(server, b"a", 2)
    shown = open_page(page_url(server.url))
    answered = statuses(shown.page, "PUT")
    shown.unfolds("Uploads on the server")
    limit = shown.page.get_by_label("At most, MB/s: film.bin")
    assert limit.input_value() == ""
    shown.tabs_to("Pause: film.bin")
    shown.page.keyboard.press("Shift+Tab")
    shown.page.keyboard.type("2.5")
    shown.page.keyboard.press("Enter")
    eventually("it has no limit", lambda: speed_of(server) == 2.5 * MB)
    shown.shoot("a limit of speed")
    assert shown.complaints_of_axe() == []
    shown.page.keyboard.press("Control+A")
    shown.page.keyboard.type("0")
    shown.page.keyboard.press("Enter")
    assert limit.evaluate("(input) => input.validity.rangeUnderflow")
    wish(server, max_speed=3_000_000)
    shown.reload()
    shown.unfolds("Uploads on the server")
    limit.wait_for()
    assert limit.input_value() == "2.86"
    limit.fill("")
    limit.press("Enter")
    eventually("it has a limit", lambda: speed_of(server) is None)
    shown.page.wait_for_function("(input) => input.value === ''", arg=limit.element_handle())
    assert answered == [200, 200], "what is too low is not sent"


def test_the_list_goes_on_when_the_server_is_back(server: Served, open_page: Open) -> None:
    half = sent(server, b"a", 2)
    shown = open_page(page_url(server.url))
    shown.unfolds("Uploads on the server")
    rows(shown).first.wait_for()
    server.kill()
    shown.sees("The server does not answer")
    server.start()
    headers = {**OFFSET, "Upload-Offset": "1"}
    assert httpx.patch(half, headers=headers, content=b"b", trust_env=False).status_code == 204
    shown.page.locator(".server li.complete").wait_for()
    shown.page.locator(".server .problem:empty").wait_for(state="attached")
