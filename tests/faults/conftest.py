"""A real server for the tests of this room."""

from collections.abc import Iterator

import pytest

from tests.serving import Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for the tests of a module, which must not write a traceback."""
    with serving(tmp_path_factory.mktemp("served") / "uploads") as server:
        yield server
    log = server.log.read_text()
    assert "Traceback" not in log, log[-4000:]
