"""How soon the page is there, and how much of it comes over the line: medians over several visits.

    .venv/bin/python -m tests.browser.paint --runs 15

Each visit is to a server on loopback, in a profile of its own, so that nothing comes from a cache.
Run it on a machine that does nothing else.
"""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from playwright.async_api import Browser, async_playwright

from tests.browser.page import find_chromium, page_url
from tests.serving import serving

MEASURED = """() => {
    const [visit] = performance.getEntriesByType("navigation");
    const loaded = performance.getEntriesByType("resource");
    const paints = performance.getEntriesByType("paint");
    const painted = (name) => paints.find((paint) => paint.name === name).startTime;
    const sum = (entries) => entries.reduce((sum, entry) => sum + entry.encodedBodySize, 0);
    return [
        painted("first-paint"),
        painted("first-contentful-paint"),
        sum(loaded.filter((entry) => entry.name.endsWith(".js"))),
        sum([visit, ...loaded]),
        1 + loaded.length,
    ];
}"""


class Visit(NamedTuple):
    """What one cost.

    Attributes:
        first_paint: Milliseconds since the visit began, as all times.
        first_contentful_paint: Something can be read.
        ready: Files can be dropped.
        scripts: Bytes of JavaScript, compressed, also of what is loaded after `ready`.
        everything: Bytes of all that is loaded, compressed.
        requests: How many.
    """

    first_paint: float
    first_contentful_paint: float
    ready: float
    scripts: int
    everything: int
    requests: int


async def visit(browser: Browser, url: str) -> Visit:
    """Opens the page for the first time, and waits until all of it is there."""
    context = await browser.new_context(locale="en-GB")
    page = await context.new_page()
    await page.goto(url)
    await page.locator(".uppy-Dashboard-inner").wait_for()
    ready: float = await page.evaluate("performance.now()")
    await page.wait_for_load_state("networkidle")
    painted, readable, scripts, everything, requests = await page.evaluate(MEASURED)
    await context.close()
    return Visit(painted, readable, ready, scripts, everything, requests)


async def visits(url: str, chromium: str, runs: int) -> list[Visit]:
    """Several; one before them is for the server and the browser to start."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        made = [await visit(browser, url) for _ in range(1 + runs)]
        await browser.close()
    return made[1:]


def report(made: list[Visit]) -> Iterator[str]:
    """A line for each figure."""
    for name, values in zip(Visit._fields, zip(*made, strict=True), strict=True):
        low, middle, high = min(values), statistics.median(values), max(values)
        yield f"{name:24}{middle:>9,.0f}   ({low:,.0f} to {high:,.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.browser.paint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=15, help="visits, 15 by default")
    runs = parser.parse_args().runs
    chromium = find_chromium()
    if chromium is None:
        parser.error("no browser to visit the page with: install chromium")
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "uploads") as served:
        made = asyncio.run(visits(page_url(served.url), chromium, runs))
    print(f"medians of {runs} visits (lowest to highest)")
    for line in report(made):
        print(line)


if __name__ == "__main__":
    main()
