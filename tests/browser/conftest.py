"""A browser, a page that may do nothing wrong, and files to send."""

import asyncio
import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserType, Page, Playwright, sync_playwright

from tests.browser.page import UploadPage, find_chromium, list_uploads
from tests.browser.proxy import DamagingProxy
from tests.serving import Served, serving
from tusd_py.asgi.ui import find_page

SHOTS = Path(__file__).parent / "shots"
VIOLATIONS = """
    globalThis.violations = [];
    addEventListener("securitypolicyviolation", (event) =>
        violations.push(`${event.effectiveDirective} ${event.blockedURI}`));
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--large-upload", action="store_true", help="send 200 MB where 30 are sent")
    parser.addoption("--shots", action="store_true", help=f"leave pictures of the page in {SHOTS}")


@pytest.fixture(scope="session")
def shots(request: pytest.FixtureRequest) -> Path | None:
    """Where pictures of the page go."""
    return SHOTS if request.config.getoption("--shots") else None


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program."""
    return find_chromium() or pytest.skip("no browser to test the page in: install chromium")


@pytest.fixture(scope="session")
def built() -> Path:
    """The page; it is built with the package, see `web/build.py`."""
    folder = find_page()
    if folder is None:
        pytest.skip("the page is not built: pip install -e . where npm's registry can be reached")
    return folder


class Steering:
    """Playwright, whose event loop counts as running only while a test uses it.

    It is one that is left in the middle between calls; to asyncio it would run on for the whole
    session, and refuse every other test its own.
    """

    def __init__(self, playwright: Playwright) -> None:
        self.chromium = playwright.chromium
        self._loop = asyncio.get_running_loop()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        asyncio._set_running_loop(self._loop)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)


@pytest.fixture(scope="session")
def steering() -> Iterator[Steering]:
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    with sync_playwright() as playwright:
        steering = Steering(playwright)
        asyncio._set_running_loop(None)
        yield steering
        asyncio._set_running_loop(steering._loop)


@pytest.fixture(scope="session")
def browser(steering: Steering, chromium: str, built: Path) -> Iterator[Browser]:
    """One for all tests of this process; each has a profile of its own in it."""
    with steering():
        arguments = ["--no-sandbox", "--use-fake-device-for-media-stream"]
        browser = steering.chromium.launch(executable_path=chromium, args=arguments)
    yield browser
    with steering():
        browser.close()


@pytest.fixture
def driver(steering: Steering) -> Iterator[BrowserType]:
    """To start or to find another browser with."""
    with steering():
        yield steering.chromium


@pytest.fixture(scope="session")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("server") / "uploads") as served:
        yield served


@pytest.fixture
def server(one_server: Served) -> Iterator[Served]:
    """One with its defaults, without any upload; a test may kill it, and start it again."""
    yield one_server
    if one_server.process is None:
        one_server.start()
    with httpx.Client(headers={"Tus-Resumable": "1.0.0"}, trust_env=False) as client:
        while uploads := list_uploads(one_server):
            for upload in uploads:
                client.delete(one_server.url + upload["id"])


@pytest.fixture
def proxy(server: Served) -> Iterator[DamagingProxy]:
    """Stands before `server`, and counts."""
    with DamagingProxy(server) as damaging:
        yield damaging


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """Makes files of a given size (bytes); no two of them are alike."""

    def make(size: int, name: str = "film.bin") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(f"{name} {size}").randbytes(size))
        return path

    return make


@pytest.fixture
def large(make_file: Callable[..., Path], request: pytest.FixtureRequest) -> Path:
    """What is broken off in the middle."""
    megabytes = 200 if request.config.getoption("--large-upload") else 30
    return make_file(megabytes * 1_000_000)


Open = Callable[..., UploadPage]


@contextlib.contextmanager
def well_behaved(page: Page) -> Iterator[None]:
    """A page that asks no other host, breaks no rule of its policy, and has no error of its own."""
    hosts: set[str] = set()
    errors: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname or ""))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(VIOLATIONS)
    yield
    assert hosts - {""} == {"127.0.0.1"}  # blob: has none
    assert errors == []
    assert page.evaluate("globalThis.violations") == []


@pytest.fixture
def open_page(steering: Steering, browser: Browser, shots: Path | None) -> Iterator[Open]:
    """Opens the page in a profile of its own; options are those of a context."""
    with steering(), contextlib.ExitStack() as stack:

        def open_at(url: str, **options: Any) -> UploadPage:
            context = browser.new_context(locale="en-GB", **options)
            stack.callback(context.close)
            page = context.new_page()
            stack.enter_context(well_behaved(page))
            shown = UploadPage(page, shots)
            shown.open(url)
            return shown

        yield open_at
