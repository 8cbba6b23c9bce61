"""What `--fsync` promises, by what the server did before it answered, and by cutting the power."""

from pathlib import Path

import pytest

from tests.faults.injected.evidence import evidence
from tests.faults.injected.power import WAL, record, replayed
from tests.faults.injected.rebooting import MODES, cut_each, recover_twice
from tests.faults.injected.scenarios import SCENARIOS

pytestmark = [pytest.mark.disk, pytest.mark.usefixtures("tracing"), pytest.mark.slow]


@pytest.mark.parametrize("fsync", MODES)
@pytest.mark.parametrize(
    "name", ["small", "small-with-upload", "large-with-upload", "templated", "terminated"]
)
def test_what_is_told_was_synced(tmp_path: Path, name: str, fsync: str) -> None:
    """Bytes, names and the commit: or the power goes off, and the promise with it."""
    recorded = record(SCENARIOS[name], fsync, tmp_path / "run")
    shown = evidence(recorded)
    assert shown, "nothing was promised"
    for each in shown:
        assert any("sqlite3-wal" in sync for sync in each.syncs), each
    assert fsync == "complete" or len(shown) > 1 or "with-upload" in name
    report = cut_each(recorded, tmp_path / "cut", most=1, since=recorded.ready)
    assert report.losses == []


def test_the_very_first_upload_outlives_a_loss_of_power(tmp_path: Path) -> None:
    """The folders of the service were new themselves, and their names on no disk (seen)."""
    recorded = record(SCENARIOS["small"], "always", tmp_path / "run")
    assert cut_each(recorded, tmp_path / "cut", most=12).losses == []


@pytest.mark.long
def test_the_power_goes_off_again_while_the_server_recovers(tmp_path: Path) -> None:
    """The new boot id must not be stored before that record was recovered."""
    recorded = record(SCENARIOS["small-steps"], "always", tmp_path / "run")
    report = recover_twice(recorded, tmp_path / "again", most=1, every=17)
    assert report.losses == []
    assert report.kills
    assert report.reboots


@pytest.mark.parametrize(
    ("name", "call", "where", "times"),
    [("templated", "link", "/files/", 2), ("terminated", "unlink", "/data/", 1)],
)
def test_a_name_goes_only_when_the_record_that_knows_of_it_is_on_the_disk(
    tmp_path: Path, name: str, call: str, where: str, times: int
) -> None:
    """A file lay where the template says, and its record waited for bytes: nobody could ever finish
    it, for its name was taken by itself. Another was removed, and back as complete, without bytes
    (both seen).
    """
    recorded = record(SCENARIOS[name], "complete", tmp_path / "run")
    whole = {sent.id for sent in recorded.uploads if sent.is_finished}
    synced = [
        model.file(WAL, synced=True) == model.file(WAL, synced=False)
        for _, event, model in replayed(recorded)
        if event.name.startswith(call)
        and where in event.paths[-1]
        and any(event.paths[0].endswith(upload_id) for upload_id in whole)
    ]
    assert synced == [True] * times
