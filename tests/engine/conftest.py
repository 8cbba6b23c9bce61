"""An application for the tests of this room."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.asgi.in_process import Running, running


@pytest.fixture
async def server(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Running]:
    """A new application with a limit, and nothing in the background."""
    async with running(tmp_path / "uploads", max_size=1_000_000) as application:
        yield application
