"""The page as its user sees it."""

import asyncio
import hashlib
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Locator, Page

from tests.browser.proxy import DamagingProxy
from tests.serving import Served
from tusd_py import tools
from tusd_py.wiring.deployment import opened
from tusd_py.wiring.settings import Place

MIB = 1 << 20
WITHIN = 60_000.0  # milliseconds; only a machine that is busy with other things needs them
HELD_AT = 8 * MIB
HEADS = 200_000
"""Bytes that all requests of a test may have besides those of its files."""
AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"

KEEPS = """() => new Promise((resolve) => {
    const asked = indexedDB.open("uppy-blobs");
    asked.onsuccess = () => {
        const db = asked.result;
        const reading = db.transaction(["files", "metadata"]);
        const files = reading.objectStore("files").count();
        const metadata = reading.objectStore("metadata").getAll();
        reading.oncomplete = () => {
            db.close();
            const knows = ({ metadata }) => metadata.includes('"uploadUrl":"http');
            resolve(files.result === 1 && metadata.result.some(knows));
        };
    };
})"""
"""A function that says whether the browser keeps its one file, and the URL of its upload."""


class UploadPage:
    """What a user does there, and what is to be seen.

    Args:
        page: A new one.
        shots: Where pictures of it are put, for a person to look at; None for no pictures.
    """

    def __init__(self, page: Page, shots: Path | None) -> None:
        self.page = page
        page.set_default_timeout(WITHIN)
        self._shots = shots

    def open(self, url: str) -> None:
        """Opens a page that has an uploader, or an empty one."""
        self.page.goto(url)
        if url != "about:blank":
            self.dashboard.wait_for()

    def reload(self) -> None:
        self.page.reload()
        self.dashboard.wait_for()

    @property
    def dashboard(self) -> Locator:
        return self.page.locator(".uppy-Dashboard-inner")

    def choose(self, *paths: Path) -> None:
        """By the dialogue of the system."""
        self.page.locator("input[type=file]:not([webkitdirectory])").first.set_input_files(paths)

    def sends_half(self, path: Path, proxy: DamagingProxy, held_at: int = HELD_AT) -> None:
        """Chooses a file, which is held on its way to the server."""
        proxy.hold_after(held_at)
        self.choose(path)
        assert proxy.held.wait(60)

    def drop(self, *paths: Path) -> None:
        """From the desktop; folders, too."""
        box = self.dashboard.bounding_box()
        assert box is not None
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        where = {"x": box["x"] + 200, "y": box["y"] + 200, "data": data}
        session = self.page.context.new_cdp_session(self.page)
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, **where})
        session.detach()

    def press(self, name: str, *, exact: bool = False) -> None:
        """A button, by what a screen reader calls it."""
        self.page.get_by_role("button", name=name, exact=exact).first.click()

    def tabs_to(self, name: str) -> None:
        """Goes there with the Tab key alone."""
        wanted = self.page.get_by_role("button", name=name, exact=True)
        for _ in range(60):
            self.page.keyboard.press("Tab")
            focused = "(all) => all.some((each) => each.matches(':focus'))"
            if wanted.evaluate_all(focused):
                return
        raise AssertionError(f"the keyboard does not get to {name!r}")

    def sees(self, text: str) -> None:
        """Waits until a text is there."""
        self.page.get_by_text(text).first.wait_for()

    def unfolds(self, title: str) -> None:
        self.page.locator("summary", has_text=title).click()

    def sets(self, label: str, value: str) -> None:
        """Chooses in the settings."""
        if self.page.locator("details.settings[open]").count() == 0:
            self.unfolds("Settings")
        self.page.get_by_label(label).select_option(value)

    def finishes(self, *names: str) -> None:
        """Waits until these, and no others, are in the history as finished."""
        for name in names:
            self.page.locator(".history li.finished", has_text=name).wait_for()
        assert self.page.locator(".history li").count() == len(names)

    def arrives(self, path: Path) -> None:
        """Waits until this file alone is finished; it is the same on the server."""
        self.finishes(path.name)
        assert is_same(self.downloads(path.name), path)

    def downloads(self, name: str) -> bytes:
        """What the link in the history leads to."""
        link = self.page.locator(".history a", has_text=name).get_attribute("href")
        assert link is not None
        return httpx.get(link, trust_env=False).raise_for_status().content

    def keeps_the_file(self) -> None:
        """Waits until it would go on with its one file after a kill."""
        self.page.wait_for_function(KEEPS)

    def shoot(self, name: str) -> None:
        """A picture for a person to look at."""
        if self._shots is not None:
            self._shots.mkdir(exist_ok=True)
            self.page.screenshot(path=self._shots / f"{name}.png", full_page=True)

    def complaints_of_axe(self, *rules: str) -> list[str]:
        """What keeps some people from using the page as it is now, by these rules or by all."""
        self.page.evaluate(AXE.read_text("utf-8"))
        options = {"runOnly": rules} if rules else {}
        found: dict[str, Any] = self.page.evaluate("(options) => axe.run(options)", options)
        return [
            f"{violation['id']}: {node['target']} {node['failureSummary']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]


def find_chromium() -> str | None:
    """The program, None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def page_url(url: str) -> str:
    """The page of a server, by the URL of its uploads."""
    return url.removesuffix("files/")


def list_uploads(server: Served) -> list[dict[str, Any]]:
    """What `tusd-py ls` tells the operator."""

    async def run() -> list[dict[str, Any]]:
        async with opened(Place(upload_dir=server.upload_dir)) as tus:
            return [line async for line in tools.list_uploads(tus)]

    # In a thread, since the loop of Playwright counts as running in this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, run()).result()


def has_stored(server: Served, count: int) -> bool:
    """Whether the server has so many bytes of its one upload."""
    return [upload["offset"] >= count for upload in list_uploads(server)] == [True]


def is_same(content: bytes, path: Path) -> bool:
    """Compared by digest: the difference of two large files is of no use to anybody."""
    return hashlib.sha256(content).digest() == hashlib.sha256(path.read_bytes()).digest()


def statuses(page: Page, method: str) -> Sequence[int]:
    """Of the answers to a method, from now on."""
    found: list[int] = []
    page.on(
        "response",
        lambda response: (
            found.append(response.status) if response.request.method == method else None
        ),
    )
    return found
