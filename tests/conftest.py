"""What all tests share."""

import os
import signal

import pytest

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
