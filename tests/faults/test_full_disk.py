"""A disk that is filled to the brim and freed again: what came is told truly, nobody is stuck."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.asgi import raw
from tests.faults.test_traps import size_of
from tests.filesystems import Small, small_disk
from tests.serving import Served, eventually, serving

KIB = 1024
MIB = 1024 * KIB
TUS = {"Tus-Resumable": "1.0.0"}
ANY_ROOM = ("--min-free-disk", "0")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Small]:
    with small_disk(tmp_path / "small", 32 * MIB) as made:
        yield made


def post(port: int, length: int) -> raw.Answer:
    with raw.connected(port) as connection:
        return connection.ask("POST", "/files/", TUS | {"Upload-Length": str(length)})


def delete(port: int, path: str) -> int:
    with raw.connected(port) as connection:
        return connection.ask("DELETE", path, TUS).status


def send_rest(served: Served, path: str, content: bytes) -> raw.Answer:
    offset = raw.offset_of(served.port, path)
    return raw.patch(served.port, path, offset, content[offset:])


def test_many_fill_the_disk_and_what_is_removed_lets_the_others_go_on(disk: Small) -> None:
    """State and data on one disk: the bodies compete with the commits for the last of it."""
    with serving(disk.path / "uploads", *ANY_ROOM) as served:
        contents = {raw.create(served.port, 7 * MIB): os.urandom(7 * MIB) for _ in range(6)}
        answers: dict[str, raw.Answer] = {}

        def send(path: str) -> None:
            answers[path] = send_rest(served, path, contents[path])

        def send_all() -> None:
            threads = [threading.Thread(target=send, args=(path,)) for path in contents]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        send_all()
        refused = {path for path, answer in answers.items() if answer.status == 507}
        assert refused
        assert {answer.status for answer in answers.values()} <= {204, 507}
        disk.fill()
        for path in refused:
            offset = raw.offset_of(served.port, path)
            assert offset == size_of(served.upload_dir, path), "an append there would be taken"
            assert raw.patch(served.port, path, offset, contents[path][offset:]).status == 507
        kept = sorted(refused)[:3]  # there is no room for more
        for path in contents.keys() - set(kept):
            assert delete(served.port, path) == 204, "or nobody could make room"
            del contents[path]
        disk.clear()

        def all_came() -> bool:
            answers.clear()
            send_all()
            statuses = {answer.status for answer in answers.values()}
            assert statuses <= {204, 507}
            return statuses == {204}

        eventually("the room is seen", all_came)  # it is looked for once a second
        for path, content in contents.items():
            assert raw.get(served.port, path) == content
        assert served.stop() == 0
    assert "Traceback" not in served.log.read_text()


def test_a_server_starts_on_a_full_disk(disk: Small) -> None:
    """It is what an operator does first, and clients are to learn where they stand."""
    content = os.urandom(MIB)
    with serving(disk.path / "uploads", *ANY_ROOM) as served:
        path = raw.create(served.port, len(content))
        assert raw.patch(served.port, path, 0, content[: 300 * KIB]).status == 204
        for _ in range(3):
            disk.fill()
            served.restart()
            assert raw.offset_of(served.port, path) == 300 * KIB
        assert raw.patch(served.port, path, 300 * KIB, content[300 * KIB :]).status == 507
        disk.clear()
        assert send_rest(served, path, content).status == 204
        assert raw.get(served.port, path) == content


def test_only_the_state_has_no_room(disk: Small, tmp_path: Path) -> None:
    """Nothing new is taken that could not be put on record; what is there can end, and go."""
    content = os.urandom(MIB)
    flags = ("--state-dir", str(disk.path / "state"), "--log-level", "error")
    with serving(tmp_path / "uploads", *flags) as served:
        path, other, last = (raw.create(served.port, MIB) for _ in range(3))
        assert raw.patch(served.port, path, 0, content[: 300 * KIB]).status == 204
        disk.fill()
        with raw.connected(served.port) as connection:
            connection.patch(last, 0, MIB)
            connection.send(content[:5])
            eventually("it began", lambda: size_of(served.upload_dir, last) == 5)
            for _ in range(2000):
                if post(served.port, 5).status == 507:
                    break
            assert connection.answer().status == 507, "ended, before more comes in vain"
        assert raw.patch(served.port, path, 300 * KIB, content[300 * KIB :]).status == 507
        assert raw.offset_of(served.port, last) == 5
        assert raw.offset_of(served.port, path) == 300 * KIB
        assert delete(served.port, other) == 204
        assert raw.head(served.port, other).status == 410
        disk.clear()
        assert send_rest(served, path, content).status == 204
        assert raw.get(served.port, path) == content
        reserve = disk.path / "state" / "ballast"
        eventually("it is kept again", lambda: reserve.stat().st_blocks * 512 == 2 * MIB)
    assert served.log.read_text().count("the disk of the state is full") == 1


def test_two_servers_on_one_full_disk(disk: Small) -> None:
    """Either may let go of the one reserve."""
    content = os.urandom(MIB)
    uploads = disk.path / "uploads"
    with serving(uploads, *ANY_ROOM) as one, serving(uploads, *ANY_ROOM) as two:
        paths = [raw.create(one.port, MIB) for _ in range(4)]
        for path in paths:
            assert raw.patch(two.port, path, 0, content[: 100 * KIB]).status == 204
        disk.fill()
        for served in (one, two) * 20:
            post(served.port, 5)
        for served, path in zip((one, two), paths[:2], strict=True):
            assert raw.offset_of(served.port, path) == 100 * KIB
            assert delete(served.port, path) == 204
        disk.clear()
        for served, path in zip((two, one), paths[2:], strict=True):
            assert send_rest(served, path, content).status == 204
            assert raw.get(served.port, path) == content


def test_a_floor_is_kept_free(disk: Small, tmp_path: Path) -> None:
    """Refused with a sentence before anything is stored, so that the rest of the host goes on."""
    flags = ("--min-free-disk", "10MiB", "--state-dir", str(tmp_path / "state"))
    with serving(disk.path / "uploads", *flags) as served:
        refused = post(served.port, 23 * MIB)
        assert refused.status == 507
        assert b"ERR_STORAGE_FULL: the server keeps 10485760 bytes" in refused.body
        assert refused.headers["Retry-After"] == "60"
        content = os.urandom(12 * MIB)
        path = raw.create(served.port, len(content))
        assert raw.patch(served.port, path, 0, content[: 4 * MIB]).status == 204
        disk.fill(leave=11 * MIB)
        eventually("it is seen", lambda: post(served.port, 2 * MIB).status == 507)
        assert raw.create(served.port, 100), "what fits is taken"
        assert raw.patch(served.port, path, 4 * MIB, content[4 * MIB :]).status == 507
        assert raw.patch(served.port, path, 4 * MIB, content[4 * MIB :][:1000]).status == 204
        assert raw.offset_of(served.port, path) == 4 * MIB + 1000
        disk.clear()
        eventually("it goes on", lambda: send_rest(served, path, content).status == 204)
        assert raw.get(served.port, path) == content


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_under_way_ends_at_the_floor(disk: Small, tmp_path: Path, chunked: bool) -> None:
    """Nobody knows how much is to come, or somebody else fills the disk; what came counts."""
    flags = ("--min-free-disk", "10MiB", "--state-dir", str(tmp_path / "state"))
    with serving(disk.path / "uploads", *flags) as served:
        content = os.urandom(2 * MIB)
        path = raw.create(served.port, None if chunked else len(content))
        with raw.connected(served.port) as connection:
            if chunked:
                size = {"Upload-Offset": "0", "Transfer-Encoding": "chunked"}
                connection.start("PATCH", path, raw.PATCH_HEAD | size)
                connection.send(b"%x\r\n%b\r\n" % (MIB, content[:MIB]))
            else:
                connection.patch(path, 0, len(content))
                connection.send(content[:MIB])
            eventually("it came", lambda: size_of(served.upload_dir, path) == MIB)
            disk.fill(leave=9 * MIB)
            answer = connection.answer()
        assert answer.status == 507
        assert b"keeps 10485760 bytes" in answer.body
        assert raw.offset_of(served.port, path) == MIB
        disk.clear()
        told = {"Upload_Length": str(len(content))} if chunked else {}

        def goes_on() -> bool:
            return raw.patch(served.port, path, MIB, content[MIB:], **told).status == 204

        eventually("it goes on", goes_on)
        assert raw.get(served.port, path) == content
