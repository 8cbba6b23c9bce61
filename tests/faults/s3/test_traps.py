"""The S3 lines of shared/TRAPS.md that a client of the whole server can see."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.asgi import raw
from tests.faults.s3.proxy import Fault, How, Kind, When
from tests.faults.s3.serve import PART
from tests.faults.s3.served import S3Served, s3_serving
from tests.serving import eventually
from tests.storage.s3_keeper import kept_store

MIB = 1 << 20


@pytest.fixture
def over_swift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Served]:
    """A store that takes gaps in the numbers of parts, and a server with parts of 8 MiB."""
    store = kept_store("swift")
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    with s3_serving(store, tmp_path / "tusd-py", program="") as made:
        made.start()
        yield made


def replaced_late(
    server: S3Served, part: int, when: When = When.BEFORE, *, are_others: bool = True
) -> tuple[str, bytes]:
    """An upload of two parts and a half, all but the half of which has come: its server was killed
    at the second part; other bytes came for it, or the same ones, and then that part reached the
    store.
    """
    data = os.urandom(2 * part + part // 2)
    late = os.urandom(part) if are_others else data[part : 2 * part]
    path = raw.create(server.port, len(data))
    assert raw.patch(server.port, path, 0, data[:part]).status == 204

    kind = Kind(
        name="killed", how=How.KILL, when=when, fits=lambda call: call.operation == "UploadPart"
    )
    server.proxy.arm(Fault(kind=kind))
    with contextlib.suppress(OSError):
        raw.patch(server.port, path, part, late)
    eventually("it is dead", lambda: server.process is not None and server.process.poll())
    server.revive()
    assert raw.offset_of(server.port, path) == part
    assert raw.patch(server.port, path, part, data[part : 2 * part]).status == 204
    (call,) = server.proxy.struck
    server.place.client.upload_part(
        Bucket=server.place.bucket,
        Key=call.key,
        UploadId=call.multipart,
        PartNumber=call.number,
        Body=late,
    )
    return path, data


def test_a_late_part_of_a_former_holder_replaces_nothing(over_swift: S3Served) -> None:
    path, data = replaced_late(over_swift, 8 * MIB)
    assert raw.patch(over_swift.port, path, 16 * MIB, data[16 * MIB :]).status == 204
    assert raw.get(over_swift.port, path) == data


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
def test_what_comes_late_is_the_same_where_a_store_takes_no_gaps(
    server: S3Served, when: When
) -> None:
    """There it would be in the way under a number of its own."""
    path, data = replaced_late(server, PART, when, are_others=False)
    assert raw.patch(server.port, path, 2 * PART, data[2 * PART :]).status == 204
    assert raw.get(server.port, path) == data


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
def test_where_a_store_takes_no_gaps_it_is_told(server: S3Served, when: When) -> None:
    """There what comes late is in the way, or replaces what is recorded if its number had to be
    used again. That cannot be helped, but is never told as done, nor as busy for ever.
    """
    path, data = replaced_late(server, PART, when)
    assert raw.patch(server.port, path, 2 * PART, data[2 * PART :]).status == 410
    assert raw.head(server.port, path).status == 410
    assert path.rpartition("/")[2] not in server.place.objects()
