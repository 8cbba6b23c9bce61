"""Where faults cannot be injected, these tests say so and are not run."""

import pytest

from tests.faults.injected import recording, watch


@pytest.fixture(scope="session")
def watching() -> None:
    """For tests whose servers are watched."""
    if (reason := watch.why_not()) is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def tracing(watching: None) -> None:
    """For tests whose servers are recorded, too."""
    if (reason := recording.why_not()) is not None:
        pytest.skip(reason)
