"""Applications and servers for the tests of this room."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.asgi.in_process import Running, running
from tests.asgi.whole import with_whole_bodies
from tests.serving import Served, serving


@pytest.fixture(params=["received", "whole"])
async def server(
    request: pytest.FixtureRequest, anyio_backend: str, tmp_path: Path
) -> AsyncIterator[Running]:
    """A new application with a limit, and nothing in the background: as it is under any server, and
    as under one that hands small bodies over in one piece.
    """
    over = with_whole_bodies if request.param == "whole" else lambda app: app
    async with running(tmp_path / "uploads", max_size=1_000_000, over=over) as application:
        yield application


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One real server for the tests of a module, which must not write a traceback."""
    with serving(tmp_path_factory.mktemp("served") / "uploads") as server:
        yield server
    log = server.log.read_text()
    assert "Traceback" not in log, log[-4000:]
