"""A state folder of its own for each test, no proxies, and little patience with waiting."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.client.scripted import ScriptedServer, scripted
from tusd_py.client import patience
from tusd_py.client.command import upload


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the URLs of unfinished uploads lie; children see it as well."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setattr(patience, "LONGEST", 0.02)
    return home / "state" / "tusd-py" / "uploads"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted() as running:
        yield running


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of `--json`."""

    file: str
    url: str
    size: int
    seconds: float
    resumed_from: int
    sent: int


def lines(result: Result) -> list[Line]:
    """What `--json` printed, each line of it an object with these keys and no others."""
    return [Line(**json.loads(line)) for line in result.stdout.splitlines()]


Send = Callable[..., Result]


@pytest.fixture
def send() -> Send:
    """`tusd-py upload ...` in this process; gives up on trouble that lasts for 5 seconds."""

    def run(*arguments: str | Path, stdin: bytes | None = None) -> Result:
        given = [str(argument) for argument in arguments]
        if "--retry-for" not in given:
            given = ["--retry-for", "5s", *given]
        return CliRunner().invoke(upload, given, input=stdin, catch_exceptions=False)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three MiB that are nowhere the same."""
    path = tmp_path / "film.mp4"
    path.write_bytes(os.urandom(3 * 1024 * 1024 + 17))
    return path
