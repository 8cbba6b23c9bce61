"""A short run of the fuzz, always with the same seed; see `fuzz`."""

from pathlib import Path

from tests.wire.fuzz import CLIENTS, fuzz


def test_no_byte_is_lost_or_doubled(tmp_path: Path) -> None:
    """Whatever the network does, and although the server is killed in between."""
    run = fuzz(tmp_path, seed=4, seconds=30, most=12, kill_every=3.0, env={})
    assert not run.failed, "\n".join(run.failed)
    assert len(run.done) >= CLIENTS, "a busy machine may not come to all of them"
