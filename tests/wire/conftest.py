"""Both event loops: they buffer, pause and close in their own ways."""

import pytest


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The event loop of the async tests of this room."""
    return "asyncio", {"use_uvloop": request.param}
