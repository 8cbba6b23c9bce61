"""A sample of `python -m tests.faults.s3 kills` and `gateway`: a kill, and nothing is lost."""

from collections.abc import Iterator

import pytest

from tests.faults.s3.kills import KINDS, run_killed
from tests.faults.s3.scenarios import SCENARIOS
from tests.faults.s3.served import S3Served
from tests.storage.s3_keeper import kept_cluster
from tests.storage.s3_servers import SMALL_PART, S3Server, gateway

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small_store() -> Iterator[S3Server]:
    """One whose gateway nobody else uses."""
    with gateway(kept_cluster(), smallest_part=SMALL_PART) as store:
        yield store


@pytest.mark.parametrize(
    ("name", "kind", "at"),
    [
        ("plain", "killed before", 7),
        ("in-one", "killed, but done", 2),
        ("checksummed", "killed, but done", 3),
        ("plain", "gateway killed in", 3),
        ("in-one", "gateway killed, but done", 4),
    ],
)
def test_nothing_is_lost_by_a_kill(server: S3Served, name: str, kind: str, at: int) -> None:
    """Otherwise: a process dies, and with it bytes that a client will not send again."""
    (wanted,) = (each for each in KINDS if each.name == kind)
    assert run_killed(server, SCENARIOS[name], wanted, at), "it came to that call"
