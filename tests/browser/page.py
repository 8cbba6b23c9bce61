"""The page as its user sees it."""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from json import loads
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Locator, Page

from tests.serving import Served

WITHIN = 60_000.0  # milliseconds; only a machine that is busy with other things needs them
AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"


class UploadPage:
    """What a user does there, and what is to be seen.

    Args:
        page: A new one.
        shots: Where pictures of it are put, for a person to look at.
    """

    def __init__(self, page: Page, shots: Path) -> None:
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

    def press(self, name: str) -> None:
        """A button, by what a screen reader calls it."""
        self.page.get_by_role("button", name=name).first.click()

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

    def downloads(self, name: str) -> bytes:
        """What the link in the history leads to."""
        link = self.page.locator(".history a", has_text=name).get_attribute("href")
        assert link is not None
        return httpx.get(link, trust_env=False).raise_for_status().content

    def keeps_files(self, count: int) -> None:
        """Waits until the browser has so many files in its own storage."""
        self.page.wait_for_function(
            """(count) => new Promise((resolve) => {
                const asked = indexedDB.open("uppy-blobs");
                asked.onsuccess = () => {
                    const db = asked.result;
                    const stores = [...db.objectStoreNames];
                    const reading = db.transaction(stores);
                    const counts = stores.map((name) => reading.objectStore(name).count());
                    reading.oncomplete = () => {
                        db.close();
                        resolve(counts.every((each) => each.result >= count));
                    };
                };
            })""",
            arg=count,
        )

    def shoot(self, name: str) -> None:
        """A picture for a person to look at."""
        self._shots.mkdir(exist_ok=True)
        self.page.screenshot(path=self._shots / f"{name}.png", full_page=True)

    def complaints_of_axe(self) -> list[str]:
        """What keeps some people from using the page as it is now."""
        self.page.evaluate(AXE.read_text("utf-8"))
        found: dict[str, Any] = self.page.evaluate("axe.run()")
        return [
            f"{violation['id']}: {node['target']} {node['failureSummary']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]


def page_url(url: str) -> str:
    """The page of a server, by the URL of its uploads."""
    return url.removesuffix("files/")


def list_uploads(server: Served) -> list[dict[str, Any]]:
    """What the operator sees."""
    command = [sys.executable, "-m", "tusd_py", "ls", "--json", "--upload-dir"]
    listed = subprocess.run(
        [*command, str(server.upload_dir)], capture_output=True, text=True, check=True
    )
    return [loads(line) for line in listed.stdout.splitlines()]


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
