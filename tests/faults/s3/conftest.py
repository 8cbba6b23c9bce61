"""A store that takes small parts, and servers over it."""

from collections.abc import Iterator

import pytest

from tests.storage.s3_keeper import kept_store
from tests.storage.s3_servers import S3Server

# Whoever tests something else may have no client for such a store.
pytest.importorskip("aiobotocore")

from tests.faults.s3.served import S3Served, s3_serving


@pytest.fixture(scope="session")
def small_store() -> S3Server:
    """One for all tests of a run."""
    return kept_store("ceph of small parts")


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
