"""An application for the tests of this room."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.asgi.in_process import Running, running
from tests.asgi.whole import with_whole_bodies


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
