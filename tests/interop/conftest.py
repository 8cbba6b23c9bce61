"""The real server, and files to send to it."""

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.proxy import CuttingProxy
from tests.serving import Served, serving

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def no_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here is on loopback, whatever the environment says of proxies."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


@contextlib.contextmanager
def watched(upload_dir: Path, *flags: str) -> Iterator[Served]:
    """A server that must not write a traceback, whatever its clients do."""
    with serving(upload_dir, *flags) as served:
        yield served
    log = served.log.read_text()
    assert "Traceback" not in log, log[-4000:]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server with its defaults for the tests of a module."""
    with watched(tmp_path_factory.mktemp("server") / "uploads") as served:
        yield served


@pytest.fixture
def proxy(server: Served) -> Iterator[CuttingProxy]:
    """A proxy before that server."""
    with CuttingProxy(server.port) as cutting:
        yield cutting


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[[int], Path]:
    """Makes files of a given size (bytes); no two of them are alike."""

    def make(size: int) -> Path:
        path = tmp_path / f"payload {size} ü.bin"
        path.write_bytes(random.Random(f"{tmp_path.name} {size}").randbytes(size))
        return path

    return make


@pytest.fixture
def small(make_file: Callable[[int], Path]) -> Path:
    """A few MiB, and not a round number of them."""
    return make_file(3 * MIB + 4711)
