"""A sample of `python -m tests.faults.injected kills`: a kill, and nothing is lost."""

from pathlib import Path

import pytest

from tests.faults.injected.kills import kill_each
from tests.faults.injected.scenarios import SCENARIOS

pytestmark = [pytest.mark.disk, pytest.mark.usefixtures("watching"), pytest.mark.slow]

SAMPLE = {
    "plain": "never",
    "small": "complete",
    "small-with-upload": "always",
    "checksummed": "complete",
    "unfinished-final": "complete",
    "terminated": "always",
    "expired": "complete",
    "templated": "complete",
    "taken": "never",
    "first-start": "complete",
}


MORE = ("checksummed", "terminated", "templated", "small-with-upload", "unfinished-final")
"""Left out of a usual run."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in MORE)) for name in SAMPLE]
)
def test_nothing_is_lost_by_a_kill(tmp_path: Path, name: str) -> None:
    """Otherwise: a process dies, and with it bytes that a client will not send again."""
    report = kill_each(SCENARIOS[name], SAMPLE[name], tmp_path, most=2)
    assert not report.losses
    assert report.points
