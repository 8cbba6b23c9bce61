"""The page comes with the package, as it is installed on a machine that has no Node."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.conftest import Open
from tests.browser.page import page_url
from tests.interop.toolchains import UNREACHABLE
from tests.serving import serving

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
NOT_OF_THE_SOURCE = ("node_modules", "dist", ".venv", ".git", ".*_cache", "__pycache__")


@pytest.fixture
def without_node(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with nothing but Python; npm's scripts need a shell."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sh").symlink_to("/bin/sh")
    assert shutil.which("node", path=str(programs)) is None
    return {**os.environ, "PATH": str(programs), "TUSD_PY_REQUIRE_PAGE": "1"}


def run(*arguments: str, env: dict[str, str]) -> None:
    """Runs pip, and skips the test where it gets nothing from the network."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    made = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if made.returncode != 0 and (found := UNREACHABLE.search(made.stdout + made.stderr)):
        pytest.skip(f"a registry cannot be reached ({found.group()})")
    assert made.returncode == 0, made.stderr[-4000:]


@pytest.mark.timeout(900)
def test_installed_without_node_it_has_the_page(
    tmp_path: Path, without_node: dict[str, str], open_page: Open
) -> None:
    """Built from the sources, and opened: `well_behaved` sees to it that it asks no other host."""
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_OF_THE_SOURCE))
    run("wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(source), env=without_node)
    [wheel] = tmp_path.glob("*.whl")
    # What it depends on is here already; of us, this environment has the checkout.
    run("install", "--no-deps", "--target", str(site), str(wheel), env=without_node)
    shutil.rmtree(source)
    assert not list(site.rglob("node_modules"))
    own = {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    file = tmp_path / "film.bin"
    file.write_bytes(os.urandom(1_000_000))
    with serving(tmp_path / "uploads", env=own) as served:
        shown = open_page(page_url(served.url))
        shown.choose(file)
        shown.arrives(file)
