"""What all tests share."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.storage.s3_keeper import keeping, kept_store
from tests.storage.s3_servers import S3Server

if TYPE_CHECKING:
    from tests.storage.s3_place import S3Place

MEMORY = Path("/dev/shm")
"""Where `.ci/run` lets tests write: hundreds of servers sync their new folders there at once."""

# A run that a shell put into the background ignores SIGINT, and so would every process it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of the async tests."""
    return "asyncio"


def pytest_addoption(parser: pytest.Parser) -> None:
    """How the servers that tests start as processes are run; see `tests/launch.py`."""
    parser.addoption("--body", choices=["socket", "receive"], help="how bodies come in")
    parser.addoption("--loop", choices=["uvloop", "asyncio"], help="the event loop")


def pytest_configure(config: pytest.Config) -> None:
    """Hands the options on by the environment, as processes of processes need them, too."""
    for option, default in (("body", "socket"), ("loop", "uvloop")):
        given = config.getoption(option)
        if given == default:
            os.environ.pop(f"TUSD_PY_TEST_{option.upper()}", None)
        elif given is not None:
            os.environ[f"TUSD_PY_TEST_{option.upper()}"] = given
    if not hasattr(config, "workerinput"):
        # The process that the run begins with; see `keeping`.
        kept = ExitStack()
        kept.enter_context(keeping())
        config.add_cleanup(kept.close)


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """As ever; on a disk for tests that are marked so, where the others' folders are in memory."""
    in_memory = MEMORY.exists() and tmp_path.stat().st_dev == MEMORY.stat().st_dev
    if request.node.get_closest_marker("disk") is None or not in_memory:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="tusd-py-", dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def s3_server() -> S3Server:
    """A real S3 store, one for all tests of a run."""
    return kept_store("ceph")


@pytest.fixture
def s3_place(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> "S3Place":
    """A bucket of its own, and its credentials in the environment."""
    # It skips the test where there is no client for such a store.
    from tests.storage.s3_place import S3Place

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return S3Place(s3_server)
