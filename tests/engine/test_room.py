"""Room is kept free: refused before anything is stored, and only what stores is refused."""

import time
from dataclasses import replace

import pytest

from tests.asgi.in_process import Running, until
from tusd_py.engine.keeper import tick
from tusd_py.engine.room import Room
from tusd_py.protocol.errors import StorageFailed
from tusd_py.protocol.upload import Phase

pytestmark = pytest.mark.anyio

HELLO = b"hello world"
FLOOR = 1000


def leave(server: Running, free: int) -> None:
    """From now on so much is free above the floor, for whoever asks."""
    services = server.tus.services
    services.limits = replace(services.limits, min_free_disk=FLOOR)
    services.room = Room(lambda: FLOOR + free)


def test_it_is_looked_at_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of the system for each small upload costs more than it tells."""
    found = iter((7, 8, 9))
    room = Room(lambda: next(found))
    now = time.monotonic()
    seen = []
    for after in (0.0, 0.5, 0.99, 1.01, 1.9, 2.1):
        monkeypatch.setattr(time, "monotonic", lambda after=after: now + after)
        seen.append(room.free())
    assert seen == [7, 7, 7, 8, 8, 9]


async def test_without_a_floor_nobody_looks(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> int:
        raise StorageFailed

    services = server.tus.services
    services.limits, services.room = replace(services.limits, min_free_disk=0), Room(never)
    path = await server.create(11)
    assert (await server.patch(path, 0, HELLO)).status_code == 204


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Upload_Length": "11"}, b"", 507),
        ({"Upload_Length": "10"}, b"", 201),
        ({"Upload_Length": "10"}, b"hello", 201),
        ({"Upload_Length": "11"}, b"hello", 507),
        ({"Upload_Defer_Length": "1"}, b"", 201),
        ({"Upload_Defer_Length": "1"}, b"hello worl", 201),
        ({"Upload_Defer_Length": "1"}, HELLO, 507),
    ],
)
async def test_a_creation_needs_all_it_tells_of(
    server: Running, headers: dict[str, str], body: bytes, status: int
) -> None:
    leave(server, 10)
    answer = await server.post(body, **headers)
    assert answer.status_code == status
    assert len(await server.records()) == (status == 201)
    if status == 507:
        assert answer.text.startswith(f"ERR_STORAGE_FULL: the server keeps {FLOOR} bytes")


@pytest.mark.parametrize(("free", "status"), [(6, 204), (5, 507), (-1, 507)])
@pytest.mark.parametrize("length", [100, None])
async def test_an_append_needs_what_it_brings(
    server: Running, length: int | None, free: int, status: int
) -> None:
    path = await server.create(length)
    await server.patch(path, 0, b"hello")
    leave(server, free)
    assert (await server.patch(path, 5, b" world")).status_code == status
    assert await server.offset(path) == server.size(path) == (11 if status == 204 else 5)


async def test_what_stores_nothing_goes_on(server: Running) -> None:
    """Whoever wants to make room, or to know where he stands, needs none."""
    whole, path = await server.whole(HELLO), await server.create(11)
    await server.patch(path, 0, b"hello")
    leave(server, -1)
    assert await server.offset(path) == 5
    assert await server.bytes_of(whole) == HELLO
    assert (await server.patch(whole, 11, b"")).status_code == 204
    assert (await server.delete(path)).status_code == 204
    assert (await server.delete(whole)).status_code == 204


async def test_a_final_needs_room_beside_its_parts(server: Running) -> None:
    part, late = [await server.create(5, Upload_Concat="partial") for _ in range(2)]
    await server.patch(part, 0, b"hello")
    waiting = await server.final(part, late)
    leave(server, 9)
    refused = await server.post(Upload_Concat=f"final;{part} {late}")
    assert refused.status_code == 507
    await server.patch(late, 0, b"world")
    assert (await server.head(waiting)).status_code == 423
    assert (await server.record(waiting)).phase is Phase.RECEIVING
    leave(server, 10)
    assert await server.offset(waiting) == 10


async def test_an_append_that_does_not_fit_disturbs_no_live_one(server: Running) -> None:
    path = await server.create(11)
    asked = server.patching(path, 0, 11)
    asked.feed(b"hello")
    await until(lambda: server.size(path) == 5)
    leave(server, 10)
    assert (await server.patch(path, 0, HELLO)).status_code == 507
    asked.feed(b" world", more=False)
    assert await asked.answered() == 204


@pytest.mark.parametrize("length", [11, None])
async def test_a_body_under_way_ends_where_room_does(server: Running, length: int | None) -> None:
    path = await server.create(11)
    asked = server.patching(path, 0, length)
    asked.feed(b"hello")
    await until(lambda: server.size(path) == 5)
    leave(server, 0)
    await tick(server.tus.services)
    assert not asked.status
    leave(server, -1)
    await tick(server.tus.services)
    assert await asked.answered() == 507
    assert b"keeps 1000 bytes" in asked.body
    assert await server.offset(path) == 5


async def test_room_that_cannot_be_told_ends_no_body(server: Running) -> None:
    def never() -> int:
        raise StorageFailed

    path = await server.create(11)
    asked = server.patching(path, 0, 11)
    asked.feed(b"hello")
    await until(lambda: server.size(path) == 5)
    server.tus.services.room = Room(never)
    await tick(server.tus.services)
    asked.feed(b" world", more=False)
    assert await asked.answered() == 204
