"""A store that takes small parts, and servers over it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.s3_servers import CEPH_PROGRAMS, S3Server, ceph, missing

# Whoever tests something else may have no client for such a store.
pytest.importorskip("aiobotocore")
pytest.importorskip("boto3")

from tests.faults.s3 import serve
from tests.faults.s3.served import S3Served, s3_serving


@pytest.fixture(scope="session")
def small_store() -> Iterator[S3Server]:
    """One for all tests of this room."""
    if lacking := missing(CEPH_PROGRAMS):
        pytest.skip(f"no S3 server to test on: {', '.join(lacking)} not installed")
    # Of a short name, since there are sockets in it.
    folder = Path(tempfile.mkdtemp(prefix="ceph-"))
    try:
        with ceph(folder / "c", smallest_part=serve.SMALLEST) as server:
            yield server
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def store(small_store: S3Server) -> Iterator[S3Server]:
    """That one, with its credentials in the environment."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in small_store.environment.items():
            patched.setenv(name, value)
        yield small_store


@pytest.fixture(scope="module")
def running(store: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Served]:
    """One for the tests of a module."""
    with s3_serving(store, tmp_path_factory.mktemp("s3")) as made:
        made.start()
        yield made


@pytest.fixture
def server(running: S3Served) -> Iterator[S3Served]:
    """That one, alive; its calls succeed behind the test, whatever became of it."""
    running.revive()
    yield running
    running.proxy.disarm()
