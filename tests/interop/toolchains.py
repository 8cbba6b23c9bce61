"""The clients that are not Python: fetched and built once, outside the repository.

Each build lies in `$XDG_CACHE_HOME/tusd-py-interop/<name>-<hash of its sources>`, made by whoever
comes first (a file lock keeps pytest's workers apart). A toolchain that is not on this machine and
a registry that cannot be reached skip the tests; sources that do not build fail them.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.programs import run

HERE = Path(__file__).parent
FETCH_WITHIN = 240.0  # seconds
BUILD_WITHIN = 480.0
UNREACHABLE = re.compile(
    r"ENOTFOUND|ECONNREFUSED|ECONNRESET|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|"
    r"no such host|unknown host|could not (resolve|connect|transfer)|connection refused|"
    r"connect(ion)? timed out|i/o timeout|network is unreachable|"
    r"\b(403 Forbidden|407 Proxy|502 Bad Gateway|503 Service)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a client is built: `fetch` may use the network, `build` may not need it."""

    name: str
    source: str  # a folder beside this file
    tools: tuple[str, ...]
    fetch: tuple[tuple[str, ...], ...]
    build: tuple[tuple[str, ...], ...] = ()


COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"

NODE = Recipe(
    name="js",
    source="js",
    tools=("node", "npm"),
    fetch=(("npm", "ci", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error"),),
)
JAVA = Recipe(
    name="java",
    source="java",
    tools=("java", "javac", "mvn"),
    fetch=(("mvn", "-q", "-B", COPY_DEPENDENCIES, "-DoutputDirectory=jars"),),
    build=(("javac", "-Xlint:all,-processing", "-cp", "jars/*", "-d", "classes", "src/Send.java"),),
)
TUSGO = Recipe(
    name="tusgo",
    source="tusgo",
    tools=("go",),
    fetch=(("go", "mod", "download", "github.com/bdragon300/tusgo"),),
    build=(("go", "build", "-o", "send", "."),),
)
GO_TUS = Recipe(
    name="gotus",
    source="gotus",
    tools=("go",),
    fetch=(("go", "mod", "download", "github.com/eventials/go-tus"),),
    build=(("go", "build", "-o", "send", "."),),
)
RUST = Recipe(
    name="rust",
    source="rust",
    tools=("cargo",),
    fetch=(("cargo", "fetch", "--locked"),),
    build=(("cargo", "build", "--locked", "--offline"),),
)

ENVIRONMENT = {"GOFLAGS": "-mod=mod -buildvcs=false", "GOWORK": "off"}


def built(recipe: Recipe) -> Path:
    """The folder with the built client; skips the test when it cannot be had on this machine."""
    for tool in recipe.tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{recipe.name}: {tool} is not on this machine")
    folder = cache_folder() / f"{recipe.name}-{fingerprint(HERE / recipe.source)}"
    done = folder / ".built"
    with locked(folder.with_suffix(".lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(HERE / recipe.source, folder)
            for command in recipe.fetch:
                fetch(recipe, command, folder)
            for command in recipe.build:
                run(command, cwd=folder, within=BUILD_WITHIN, env=ENVIRONMENT).lines()
            done.touch()
    return folder


def cache_folder() -> Path:
    """Where the builds lie, made when it is missing."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "tusd-py-interop"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fetch(recipe: Recipe, command: Sequence[str], folder: Path) -> None:
    """Runs a command that needs the network, and skips the test when there is none."""
    try:
        ended = run(command, cwd=folder, within=FETCH_WITHIN, env=ENVIRONMENT)
    except AssertionError as late:
        pytest.skip(f"{recipe.name}: the registry cannot be reached ({str(late)[:200]})")
    if ended.status != 0 and (found := UNREACHABLE.search(ended.tail())):
        pytest.skip(f"{recipe.name}: the registry cannot be reached ({found.group()})")
    ended.lines()


def fingerprint(folder: Path) -> str:
    """A hash over the names and the bytes of the sources."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder)} {content}\n".encode())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time is in here."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
