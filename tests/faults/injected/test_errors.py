"""A sample of `python -m tests.faults.injected errors`, and a disk that is really full."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.asgi import raw
from tests.faults.injected.errors import meet_each
from tests.faults.injected.fates import table
from tests.faults.injected.scenarios import SCENARIOS
from tests.serving import Served, serving

pytestmark = pytest.mark.disk

KIB = 1024
ROOM = 3 * 1024 * KIB


@pytest.mark.slow
@pytest.mark.usefixtures("watching")
@pytest.mark.parametrize(
    ("name", "fsync"),
    [
        ("small-steps", "complete"),
        pytest.param("templated", "always", marks=pytest.mark.long),
        ("taken", "complete"),
    ],
)
def test_an_error_is_told_and_nothing_is_lost(tmp_path: Path, name: str, fsync: str) -> None:
    """507 or 500 with a sentence, HEAD never more than 423, and the service goes on."""
    report = meet_each(SCENARIOS[name], fsync, tmp_path, most=2)
    assert report.losses == []
    assert len(report.fates) > 10, table(report.fates)


@pytest.fixture
def full(tmp_path: Path) -> Iterator["Full"]:
    """Data and state on one file system of 3 MiB."""
    where = tmp_path / "small"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(where)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount")
    try:
        with serving(where / "uploads", "--min-free-disk", "0") as served:
            yield Full(served, where / "filler")
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


class Full:
    """A server whose disk can be filled by somebody else, and freed again."""

    def __init__(self, served: Served, filler: Path) -> None:
        self.served = served
        self.port = served.port
        self._filler = filler

    def fill(self) -> None:
        """Leaves no byte."""
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            while os.write(descriptor, bytes(64 * KIB)):
                pass
        except OSError:
            pass
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """There is room again."""
        self._filler.unlink()


def test_service_goes_on_when_there_is_room_again(full: Full) -> None:
    """State and data on a full disk: 507 with a sentence, nothing acknowledged is lost."""
    content = os.urandom(300 * KIB)
    path = raw.create(full.port, len(content))
    assert raw.patch(full.port, path, 0, content[:5000]).status == 204
    full.fill()
    for _ in range(3):
        offset = 5000
        answer = raw.patch(full.port, path, offset, content[offset:])
        assert answer.status in (409, 507), answer.body
        refused = raw.head(full.port, path)
        assert refused.status in (200, 423)
        assert refused.status == 423 or int(refused.headers["Upload-Offset"]) >= 5000
    with raw.connected(full.port) as creating:
        size = {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}
        answer = creating.ask("POST", "/files/", size)
    assert answer.status in (201, 507), "SQLite may have had a page left"
    full.free()
    offset = raw.offset_of(full.port, path)
    assert offset >= 5000
    assert raw.patch(full.port, path, offset, content[offset:]).status == 204
    assert raw.get(full.port, path) == content
    assert full.served.stop() == 0


def fill_to_the_brim(full: Full) -> tuple[str, bytes]:
    """A disk on which SQLite has no page left either: an upload on it, and its content."""
    content = os.urandom(600 * KIB)
    path = raw.create(full.port, len(content))
    assert raw.patch(full.port, path, 0, content[:5000]).status == 204
    full.fill()
    for _ in range(40):
        with raw.connected(full.port) as creating:
            size = {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}
            if creating.ask("POST", "/files/", size).status == 507:
                break
    return path, content


def test_an_upload_can_be_terminated_on_a_full_disk(full: Full) -> None:
    """Otherwise nobody can make room by the protocol's own means."""
    path, _ = fill_to_the_brim(full)
    with raw.connected(full.port) as deleting:
        assert deleting.ask("DELETE", path, {"Tus-Resumable": "1.0.0"}).status == 204


def test_head_answers_the_offset_on_a_full_disk(full: Full) -> None:
    """Any other answer makes some clients begin anew."""
    path, content = fill_to_the_brim(full)
    raw.patch(full.port, path, 5000, content[5000:])
    assert raw.head(full.port, path).status == 200
