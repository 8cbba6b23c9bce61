"""Where the others fall down over S3, line by line (shared/PEERS.md): this server must not."""

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.asgi import raw
from tests.faults.s3.proxy import Call, Fault, How, Kind, When
from tests.faults.s3.serve import PART
from tests.faults.s3.served import NAMES, S3Served, s3_serving
from tests.serving import eventually
from tests.storage.s3_servers import S3Server

KIB = 1024
MIB = 1 << 20
FAILED = 500


@pytest.fixture
def real(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Served]:
    """One with parts and waits as users have them."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    with s3_serving(s3_server, tmp_path, program="") as made:
        made.start()
        yield made


def refused(operation: str, number: int = 0) -> Fault:
    """All calls of an operation fail, or those for one part."""

    def fits(call: Call) -> bool:
        return call.operation == operation and number in (0, call.number)

    kind = Kind(name="500", how=How.REFUSE, status=500, code="InternalError", fits=fits)
    return Fault(kind=kind, lasting=True)


def killed_at(operation: str, when: When = When.BEFORE) -> Fault:
    """The server dies at the first call of an operation."""
    kind = Kind(
        name="killed", how=How.KILL, when=when, fits=lambda call: call.operation == operation
    )
    return Fault(kind=kind)


def lie_in(server: S3Served, path: str) -> dict[str, bytes]:
    """The object of an upload, by no name, and its pieces and marks."""
    upload_id = path.rpartition("/")[2]
    pieces = NAMES.pieces(upload_id)
    found = server.place.objects(upload_id) | server.place.objects(pieces)
    return {key.removeprefix(upload_id).removeprefix(pieces): found[key] for key in found}


def begun(server: S3Served, path: str) -> list[tuple[str, str]]:
    """Multipart uploads of an upload."""
    upload_id = path.rpartition("/")[2]
    return [each for each in server.place.multiparts() if each[0].startswith(upload_id)]


def send_rest(server: S3Served, path: str, data: bytes) -> None:
    """From where the server says that it stands."""
    offset = raw.offset_of(server.port, path)
    if offset < len(data):
        answer = raw.patch(server.port, path, offset, data[offset:])
        assert answer.status == 204, answer.body
    assert raw.offset_of(server.port, path) == len(data)


def check_object(server: S3Served, path: str, data: bytes) -> None:
    """It lies in the bucket, alone."""
    assert lie_in(server, path) == {"": data}
    assert begun(server, path) == []


def test_a_part_that_failed_is_never_a_2xx(server: S3Served) -> None:
    """tuspyserver: a failed UploadPart still answers 204, and 10 of 20 MB are "complete"."""
    data = os.urandom(3 * PART)
    path = raw.create(server.port, len(data))
    server.proxy.arm(refused("UploadPart"))
    assert raw.patch(server.port, path, 0, data).status == FAILED
    assert raw.offset_of(server.port, path) == 0
    server.proxy.disarm()
    send_rest(server, path, data)
    check_object(server, path, data)


def test_a_part_that_failed_before_others(server: S3Served) -> None:
    """In tusd (#1247), part 3 fails with 4 and 5 stored: offset and numbering go wrong."""
    data = os.urandom(6 * PART)
    path = raw.create(server.port, len(data))
    server.proxy.arm(refused("UploadPart", number=3))
    assert raw.patch(server.port, path, 0, data[: 5 * PART]).status == FAILED
    sent = [call for call in server.proxy.calls if call.key == path.rpartition("/")[2]]
    numbers = {call.number for call in sent if call.operation == "UploadPart"}
    assert numbers >= {3, 4, 5}
    assert raw.offset_of(server.port, path) == 2 * PART
    server.proxy.disarm()
    # Other bytes than those that were sent before.
    data = data[: 2 * PART] + os.urandom(4 * PART)
    send_rest(server, path, data)
    check_object(server, path, data)


def test_a_tail_that_cannot_be_read_is_not_empty(server: S3Served) -> None:
    """resumable-upload: a failing read of the buffered tail becomes an empty tail."""
    data = os.urandom(2 * PART)
    path = raw.create(server.port, len(data))
    assert raw.patch(server.port, path, 0, data[: 100 * KIB]).status == 204
    server.proxy.arm(refused("GetObject"))
    assert raw.patch(server.port, path, 100 * KIB, data[100 * KIB :]).status == FAILED
    assert raw.offset_of(server.port, path) == 100 * KIB
    server.proxy.disarm()
    send_rest(server, path, data)
    check_object(server, path, data)


def test_an_offset_that_is_wrong_stores_nothing(server: S3Served) -> None:
    """resumable-upload: it appends and ignores the offset, so a retry gives `abcabcdef`."""
    data = os.urandom(PART + 7)
    path = raw.create(server.port, len(data))
    server.proxy.arm(killed_at("UploadPart", When.AFTER))
    with contextlib.suppress(OSError):
        raw.patch(server.port, path, 0, data[:PART])
    eventually("it is dead", lambda: server.process is not None and server.process.poll())
    server.revive()
    assert raw.patch(server.port, path, 0, data[:PART]).status == 204
    calls = len(server.proxy.calls)
    assert raw.patch(server.port, path, 0, data[:PART]).status == 409
    assert {call.operation for call in server.proxy.calls[calls:]} <= {"ListParts"}
    send_rest(server, path, data)
    check_object(server, path, data)


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
def test_a_tail_goes_only_when_its_bytes_lie_elsewhere(server: S3Served, when: When) -> None:
    """@tus/s3-store, tusd: the tail is deleted before its bytes are stored again: a crash there
    moves the offset back.
    """
    data = os.urandom(PART + 10 * KIB)
    # Longer, so that only one part is on its way.
    path = raw.create(server.port, len(data) + PART)
    offset = 0
    for _ in range(3):
        raw.patch(server.port, path, offset, data[offset : offset + 10 * KIB])
        offset += 10 * KIB
    assert len(lie_in(server, path)) == 3
    server.proxy.arm(killed_at("UploadPart", when))
    with contextlib.suppress(OSError):
        raw.patch(server.port, path, offset, data[offset:])
    eventually("it is dead", lambda: server.process is not None and server.process.poll())
    assert len(lie_in(server, path)) >= 3
    server.revive()
    assert raw.offset_of(server.port, path) == offset
    data += os.urandom(PART)
    send_rest(server, path, data)
    check_object(server, path, data)


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
def test_done_is_not_said_before_there_is_an_object(server: S3Served, when: When) -> None:
    """tusd: killed between the last part and the completion, HEAD says done, and there is no
    object, for ever.
    """
    data = os.urandom(2 * PART)
    path = raw.create(server.port, len(data))
    server.proxy.arm(killed_at("CompleteMultipartUpload", when))
    with contextlib.suppress(OSError):
        raw.patch(server.port, path, 0, data)
    eventually("it is dead", lambda: server.process is not None and server.process.poll())
    server.revive()
    assert raw.offset_of(server.port, path) == len(data)
    check_object(server, path, data)
    assert raw.get(server.port, path) == data


def test_what_is_removed_is_removed_from_the_bucket(server: S3Served) -> None:
    """@tus/server: DELETE of a finished upload is 404, and the object stays."""
    paths = [raw.create(server.port, 2 * PART) for _ in range(2)]
    assert raw.patch(server.port, paths[0], 0, os.urandom(2 * PART)).status == 204
    assert raw.patch(server.port, paths[1], 0, os.urandom(PART + 9)).status == 204
    for path in paths:
        with raw.connected(server.port) as connection:
            answer = connection.ask("DELETE", path, {"Tus-Resumable": "1.0.0"})
        assert answer.status == 204, answer.body
        listed = server.place.client.list_objects_v2(Bucket=server.place.bucket)
        upload_id = path.rpartition("/")[2]
        left = [each["Key"] for each in listed.get("Contents", []) if upload_id in each["Key"]]
        assert not left
        assert begun(server, path) == []


def test_a_sweep_leaves_what_is_not_ours(store: S3Server, tmp_path: Path) -> None:
    """@tus/server: expired clean-up aborts other applications' multipart uploads."""
    with s3_serving(store, tmp_path, "--expire-after", "5s") as server:
        server.start()
        path = raw.create(server.port, 3 * PART)
        upload_id = path.rpartition("/")[2]
        place = server.place
        for key in (f"{upload_id}x", "mine", f"x{upload_id}"):
            place.client.create_multipart_upload(Bucket=place.bucket, Key=key)
            place.client.put_object(Bucket=place.bucket, Key=key, Body=b"mine")
        before = (set(place.objects()), sorted(place.multiparts()))
        # It dies when it has begun one that is not recorded.
        server.proxy.arm(killed_at("CreateMultipartUpload", When.AFTER))
        with contextlib.suppress(OSError):
            raw.patch(server.port, path, 0, os.urandom(PART + 9))
        assert len(place.multiparts()) == len(before[1]) + 1

        def is_swept() -> bool:
            return server.clean_up() == 0 and len(place.multiparts()) == len(before[1])

        eventually("what expired is gone", is_swept, within=30)
        assert (set(place.objects()), sorted(place.multiparts())) == before


def test_appends_that_are_less_than_a_part(real: S3Served) -> None:
    """rustus: one PATCH is one part, so that chunks under 5 MiB fail. Here each costs two calls at
    most, with what is at the beginning and the end.
    """
    data = os.urandom(50 * MIB)
    path = raw.create(real.port, len(data))
    before = len(real.proxy.calls)
    for at in range(0, len(data), MIB):
        assert raw.patch(real.port, path, at, data[at : at + MIB]).status == 204
    calls = len(real.proxy.calls) - before
    assert calls <= 2 * 50, calls
    check_object(real, path, data)


SLOW = 100


def test_slow_clients_whose_calls_stall_keep_no_others(real: S3Served) -> None:
    """In tusd (#1172), ten slow clients hold every upload slot."""

    def of_a_slow_one(call: Call) -> bool:
        return call.operation == "PutObject" and call.key.startswith(slow)

    ids = [raw.create(real.port, 2 * KIB).rpartition("/")[2] for _ in range(SLOW)]
    slow = tuple(map(NAMES.pieces, ids))
    real.proxy.arm(Fault(kind=Kind(name="stalls", how=How.STALL, fits=of_a_slow_one), lasting=True))
    data = os.urandom(40 * MIB)
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(raw.connected(real.port)) for _ in ids]
        for connection, upload_id in zip(waiting, ids, strict=True):
            connection.patch(f"/files/{upload_id}", 0, KIB)
            connection.send(bytes(KIB))
        eventually("all of them wait", lambda: real.proxy.held == SLOW)
        others = [threading.Thread(target=send_whole, args=(real, data)) for _ in range(2)]
        for each in others:
            each.start()
        for each in others:
            each.join(60)
        assert real.proxy.held == SLOW, "they wait as before"
        assert len(real.place.objects()) == 2, "nobody else did"
        real.proxy.disarm()
        for connection in waiting:
            assert connection.answer("PATCH").status == 204


def test_full_parts_that_stall_keep_no_others(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fill the memory, and only their share of it waits on for the store."""
    part, count = 5 * MIB, 8
    monkeypatch.setattr(raw, "WITHIN", 60.0)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    flags = ("--s3-memory", "40MiB", "--s3-part-size", "5MiB")
    with s3_serving(s3_server, tmp_path, *flags, program="") as server:
        server.start()
        ids = [raw.create(server.port, 2 * part).rpartition("/")[2] for _ in range(count)]

        def of_a_slow_one(call: Call) -> bool:
            return call.operation == "UploadPart" and call.key in ids

        stalls = Kind(name="stalls", how=How.STALL, when=When.AFTER, fits=of_a_slow_one)
        server.proxy.arm(Fault(kind=stalls, lasting=True))
        with ThreadPoolExecutor(count) as pool:
            slow = [pool.submit(patch_status, server, each, bytes(part)) for each in ids]
            eventually("all wait", lambda: len(server.proxy.struck) >= count, within=60)
            send_whole(server, os.urandom(20 * MIB))
            assert not all(each.done() for each in slow), "some wait as before"
            server.proxy.disarm()
            statuses = {each.result() for each in slow}
        assert statuses <= {204, 500, 503}
        assert len(server.place.objects()) == 1, "nobody else got on"


def patch_status(server: S3Served, upload_id: str, data: bytes) -> int:
    return raw.patch(server.port, f"/files/{upload_id}", 0, data).status


def send_whole(server: S3Served, data: bytes) -> None:
    """By 10 MiB; whatever fails shows in the bucket."""
    path = raw.create(server.port, len(data))
    for at in range(0, len(data), 10 * MIB):
        assert raw.patch(server.port, path, at, data[at : at + 10 * MIB]).status == 204
