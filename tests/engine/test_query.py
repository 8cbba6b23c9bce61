"""`HEAD`: a promise, or 423; never what makes a client begin anew for a passing reason."""

import os

import pytest

from tests.asgi.in_process import Running, id_of, sha1
from tusd_py.protocol.errors import StorageFailed, StorageFull, TusError
from tusd_py.protocol.upload import Tail

pytestmark = pytest.mark.anyio

WRONG = {"Upload_Checksum": sha1(b"other bytes")["Upload-Checksum"]}


@pytest.mark.parametrize(
    ("method", "error"),
    [("load", StorageFailed()), ("load", StorageFull()), ("commit", StorageFailed())],
)
async def test_a_passing_trouble_is_423(
    server: Running, monkeypatch: pytest.MonkeyPatch, method: str, error: TusError
) -> None:
    """CLIENTS: tus-js-client makes a new upload after any HEAD that is neither 2xx nor 423."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    with server.file(path).open("ab") as file:
        file.write(b" wo")  # a tail from before a kill, which HEAD wants to adopt

    async def failing(*_: object, **__: object) -> None:
        raise error

    server.takes_disk_for(quick=False)
    monkeypatch.setattr(server.tus.state, method, failing)
    assert (await server.head(path)).status_code == 423
    monkeypatch.undo()
    assert await server.offset(path) == 8


@pytest.mark.parametrize("rebooted", [False, True])
async def test_where_no_commit_has_room_the_committed_offset_is_told(
    server: Running, monkeypatch: pytest.MonkeyPatch, rebooted: bool
) -> None:
    """And it is true: an append there is taken, as the tail that could not be adopted is cut."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    record = (await server.record(path))._replace(synced_offset=2)
    if rebooted:
        where = record.placement.partition(":")[2]
        record = record._replace(placement=f"another boot:{where}")
    await server.tus.state.commit(record)
    with server.file(path).open("ab") as file:
        file.write(b" wo")

    async def failing(*_: object, **__: object) -> None:
        raise StorageFull

    server.takes_disk_for(quick=False)
    monkeypatch.setattr(server.tus.state, "commit", failing)
    offset = 2 if rebooted else 5
    assert await server.offset(path) == await server.offset(path) == offset
    assert server.size(path) == offset
    monkeypatch.undo()
    assert (await server.patch(path, offset, b"hello world"[offset:])).status_code == 204
    assert await server.bytes_of(path) == b"hello world"


@pytest.mark.parametrize("number", [5, 28])
async def test_a_final_that_cannot_be_assembled_now_is_423(
    server: Running, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The disk may have room again later."""
    part = await server.create(5, Upload_Concat="partial")
    final = await server.final(part)

    def failing(*_: object) -> int:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "copy_file_range", failing)
    await server.patch(part, 0, b"hello")
    assert (await server.head(final)).status_code == 423
    monkeypatch.undo()
    assert await server.offset(final) == 5
    assert await server.bytes_of(final) == b"hello"


@pytest.mark.parametrize(("tail", "offset"), [(Tail.OPEN, 8), (Tail.SEALED, 5)])
async def test_a_tail_from_before_a_kill(server: Running, tail: Tail, offset: int) -> None:
    """What came in order counts; what was never verified is cut."""
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    await server.tus.state.commit((await server.record(path))._replace(tail=tail))
    with server.file(path).open("ab") as file:
        file.write(b" wo")
    assert await server.offset(path) == offset
    assert server.size(path) == offset
    assert (await server.patch(path, offset, b"hello world"[offset:])).status_code == 204
    assert await server.bytes_of(path) == b"hello world"


async def test_a_late_length_from_a_refused_request_ends_the_upload(server: Running) -> None:
    """Clients that read offset and length there believe that it is done, and never come back."""
    path = await server.create()
    await server.patch(path, 0, b"hello")
    refused = await server.patch(path, 5, b"", Upload_Length="5", **WRONG)
    assert refused.status_code == 460
    answer = await server.head(path)
    assert (answer.headers["Upload-Offset"], answer.headers["Upload-Length"]) == ("5", "5")
    assert await server.bytes_of(path) == b"hello"


@pytest.mark.parametrize("held", [False, True])
async def test_a_loss_of_power_falls_to_what_was_synced(server: Running, held: bool) -> None:
    """TRAPS: the new boot's name is not stored before that record's recovery; and it is recovered
    once, not at every restart.
    """
    path = await server.create(11)
    await server.patch(path, 0, b"hello")
    record = await server.record(path)
    _, _, where = record.placement.partition(":")
    lost = record._replace(synced_offset=2, placement=f"another-boot:{where}")
    await server.tus.state.commit(lost)
    if held:
        assert (await server.patch(path, 5, b" world")).status_code == 409
    assert await server.offset(path) == 2
    assert server.size(path) == 2
    assert (await server.patch(path, 2, b"llo")).status_code == 204
    assert await server.offset(path) == 5, "this boot's bytes count without a sync"
    assert (await server.record(path)).placement.startswith(record.placement.partition(":")[0])


async def test_a_head_takes_no_lock_that_it_does_not_give_back(server: Running) -> None:
    """Whatever comes of it."""
    for path in (await server.create(11), "/files/never"):
        await server.head(path)
        async with server.tus.services.locks.attempt(id_of(path)):
            pass
