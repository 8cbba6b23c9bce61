"""Files in chunks: how large each is, its checksum, and one that arrives damaged."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Open
from tests.browser.page import MIB, page_url, statuses
from tests.browser.proxy import DamagingProxy
from tests.serving import Served

MakeFile = Callable[..., Path]


def offsets(page: Page) -> list[int]:
    """Those that the server acknowledges from now on."""
    found = [0]
    page.on(
        "response",
        lambda response: (
            found.append(int(response.headers["upload-offset"]))
            if response.request.method == "PATCH" and response.ok
            else None
        ),
    )
    return found


def sizes(offsets: list[int]) -> list[int]:
    return [after - before for before, after in pairwise(offsets)]


def test_they_are_as_large_as_was_chosen(
    server: Served, open_page: Open, make_file: MakeFile
) -> None:
    file = make_file(3 * MIB + 1000)
    shown = open_page(page_url(server.url))
    shown.sets("Size of a request", str(MIB))
    acknowledged = offsets(shown.page)
    shown.choose(file)
    shown.arrives(file)
    assert sizes(acknowledged) == [MIB, MIB, MIB, 1000]


def test_they_begin_with_what_fits_the_file(
    server: Served, open_page: Open, tmp_path: Path
) -> None:
    """Nothing of the files is sent, and nothing is in them."""
    shown = open_page(page_url(server.url))
    shown.sets("Size of a request", "auto")
    shown.unfolds("Chunks")
    shown.page.route("**/files/", lambda route: None)  # never goes on
    for size, chunk in ((9, 1), (99, 5), (600, 10), (1024, 25)):
        path = tmp_path / f"{size} MB.bin"
        with path.open("wb") as file:
            file.truncate(size * MIB)
        shown.drop(path)
        row = shown.page.locator(".chunks li", has_text=path.name)
        row.filter(has_text=f"chunks of {chunk} MB now").wait_for()


def test_they_follow_the_line(
    server: Served, proxy: DamagingProxy, open_page: Open, make_file: MakeFile
) -> None:
    """A chunk takes between one and ten seconds, if it can."""
    file = make_file(40 * MIB)
    shown = open_page("about:blank")
    shown.page.clock.install()
    shown.open(proxy.page)
    shown.sets("Size of a request", "auto")
    shown.unfolds("Chunks")
    acknowledged = offsets(shown.page)
    shown.sends_half(file, proxy, 7 * MIB)  # in the second chunk, whatever its size
    shown.page.clock.fast_forward(12_000)
    proxy.release()
    shown.arrives(file)
    first, second, third, *_ = sizes(acknowledged)
    assert first == 5 * MIB, "of a file of this size"
    assert second in (5 * MIB, 10 * MIB), "as long as one of them takes less than a second"
    assert third == second // 2, "as one took more than ten"


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_a_damaged_chunk_is_sent_again(
    proxy: DamagingProxy, open_page: Open, make_file: MakeFile, algorithm: str
) -> None:
    file = make_file(20_000_000)
    shown = open_page(proxy.page)
    shown.sets("Checksum of each chunk", algorithm)
    shown.sets("Size of a request", "auto")
    shown.unfolds("Chunks")
    patched = statuses(shown.page, "PATCH")
    proxy.damage_after(8_000_000)
    shown.choose(file)
    shown.arrives(file)
    shown.sees("sent again once")
    shown.shoot(f"damaged {algorithm}")
    assert patched.count(460) == 1
    assert set(patched) == {204, 460}
