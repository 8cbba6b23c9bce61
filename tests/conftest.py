"""What all tests share."""

import signal

import pytest

# A run that a shell put into the background ignores SIGINT, and so would every process it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of the async tests."""
    return "asyncio"
