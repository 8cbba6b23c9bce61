"""A reserve of real blocks, let go of when a commit finds no room: otherwise nobody could remove
anything from a disk that is full.
"""

import asyncio
import errno
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.filesystems import Small, small_disk
from tests.state.samples import UPLOAD
from tusd_py.protocol.errors import StorageFailed, StorageFull
from tusd_py.state.ballast import Ballast, wants_room
from tusd_py.state.sqlite import SqliteState

pytestmark = pytest.mark.anyio

MIB = 1 << 20
DISK = 32 * MIB
RESERVE = DISK // 16


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Small]:
    with small_disk(tmp_path / "small", DISK) as made:
        yield made


@pytest.fixture
def ballast(disk: Small) -> Ballast:
    return Ballast(disk.path / "ballast")


def blocks(path: Path) -> int:
    return path.stat().st_blocks * 512


def is_short(one: Ballast | SqliteState) -> bool:
    """Asked anew each time, which a type checker cannot know."""
    return one.is_short


def is_out(ballast: Ballast) -> bool:
    return ballast.is_out


def full(name: str = "SQLITE_FULL") -> sqlite3.Error:
    error = sqlite3.OperationalError(name)
    error.sqlite_errorcode = getattr(sqlite3, name)
    return error


class TestBallast:
    def test_has_real_blocks(self, ballast: Ballast, disk: Small) -> None:
        before = disk.free
        ballast.build()
        assert blocks(ballast.path) == before - disk.free == RESERVE
        ballast.build()
        assert blocks(ballast.path) == RESERVE

    def test_is_not_large_where_there_is_much_room(self, tmp_path: Path) -> None:
        Ballast(tmp_path / "ballast").build()
        assert blocks(tmp_path / "ballast") == 8 * MIB

    def test_is_made_only_where_as_much_again_stays_free(
        self, ballast: Ballast, disk: Small
    ) -> None:
        disk.fill(leave=2 * RESERVE - 65536)
        ballast.build()
        assert blocks(ballast.path) == 0
        disk.clear()
        disk.fill(leave=2 * RESERVE + 65536)
        ballast.build()
        assert blocks(ballast.path) == RESERVE

    @pytest.mark.parametrize("how", ["cut", "sparse"])
    def test_is_made_anew_where_it_is_not_whole(self, ballast: Ballast, how: str) -> None:
        """A copy of the folder may have left holes in it."""
        ballast.build()
        os.truncate(ballast.path, 0)
        if how == "sparse":
            os.truncate(ballast.path, RESERVE)
        ballast.build()
        assert blocks(ballast.path) == RESERVE

    def test_is_let_go_of_once_and_told_once(
        self, ballast: Ballast, disk: Small, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        ballast.build()
        disk.fill()
        assert not is_short(ballast)
        assert ballast.relieve(full())
        assert (disk.free, is_out(ballast), is_short(ballast)) == (RESERVE, True, True)
        assert not ballast.relieve(full())
        ballast.build()
        assert is_short(ballast), "what was let go of is not taken back at once"
        disk.clear()
        assert not is_short(ballast), "before it is made anew, too"
        ballast.build()
        assert (is_out(ballast), blocks(ballast.path)) == (False, RESERVE)
        assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]

    def test_of_several_processes_one_lets_it_go_and_any_makes_it_anew(
        self, ballast: Ballast, disk: Small
    ) -> None:
        other = Ballast(ballast.path)
        ballast.build()
        other.build()
        disk.fill()
        assert ballast.relieve(full())
        assert other.relieve(full()), "there is room, whoever made it"
        disk.clear()
        for one in (other, ballast):
            one.build()
            assert not is_out(one)
        assert blocks(ballast.path) == RESERVE

    def test_what_sqlite_cannot_tell_is_tried(self, ballast: Ballast, disk: Small) -> None:
        """SQLITE_IOERR_WRITE: of a quota, or of a broken disk."""
        ballast.build()
        assert ballast.relieve(full("SQLITE_IOERR_WRITE"))
        assert not is_out(ballast), "there was room"
        assert ballast.can_write()
        disk.fill()
        assert not ballast.can_write()
        assert ballast.relieve(full("SQLITE_IOERR_WRITE"))
        assert is_out(ballast)
        assert sorted(path.name for path in disk.path.iterdir()) == ["ballast", "filler"]

    @pytest.mark.parametrize(
        ("error", "wants"),
        [
            (full(), True),
            (full("SQLITE_IOERR_WRITE"), True),
            (full("SQLITE_IOERR_SHMSIZE"), True),
            (full("SQLITE_IOERR_FSYNC"), False),
            (full("SQLITE_BUSY"), False),
            (OSError(errno.EDQUOT, "quota"), True),
            (OSError(errno.EIO, "broken"), False),
            (None, False),
        ],
    )
    def test_which_errors_are_for_want_of_room(
        self, error: BaseException | None, wants: bool
    ) -> None:
        """A failed sync is never repeated as if it could succeed."""
        assert wants_room(error) is wants

    def test_a_folder_that_cannot_be_written_to(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        ballast = Ballast(tmp_path / "file" / "ballast")
        (tmp_path / "file").write_text("")
        ballast.build()
        assert "no room can be kept" in caplog.text
        assert ballast.can_write(), "that it cannot be written has another reason"


class TestCommits:
    async def test_on_a_full_disk(self, disk: Small) -> None:
        """Without it SQLite refuses UPDATE and DELETE alike (TRAPS)."""
        state = SqliteState(disk.path / "state.sqlite3")
        await state.open()
        uploads = [UPLOAD._replace(id=f"{number}") for number in range(40)]
        for upload in uploads:
            await state.insert(upload)
        disk.fill()
        for _ in range(10):
            uploads = [await state.commit(upload, durable=True) for upload in uploads]
        assert is_short(state)
        for upload in uploads:
            await state.delete(upload)
        assert await state.page("", 10) == []
        await state.tend()
        assert is_short(state)
        disk.clear()
        await state.tend()
        assert not is_short(state)
        assert blocks(disk.path / "ballast") == RESERVE
        await state.close()

    async def test_in_a_batch(self, disk: Small) -> None:
        """SQLite gives the whole transaction up; each must have its own fate all the same."""
        state = SqliteState(disk.path / "state.sqlite3")
        await state.open()
        disk.fill()
        many = [UPLOAD._replace(id=f"{number}") for number in range(300)]
        await asyncio.gather(*map(state.insert, many))
        assert is_short(state)
        assert len(await state.page("", 500)) == 300
        await state.close()

    async def test_when_the_reserve_is_used_up(self, disk: Small) -> None:
        """A clear error then, and everything is well when there is room."""
        state = SqliteState(disk.path / "state.sqlite3")
        await state.open()
        disk.fill()
        number = 0
        with pytest.raises(StorageFull):  # noqa: PT012
            while True:
                number += 1
                metadata = "key " + "A" * 40_000
                await state.insert(UPLOAD._replace(id=f"{number}", upload_metadata=metadata))
                disk.fill()
        other = SqliteState(disk.path / "state.sqlite3")
        await other.open()  # on a disk that has no room for a commit
        assert await other.load("0") is None
        await other.close()
        disk.clear()
        await state.insert(UPLOAD._replace(id="again"))
        await state.close()

    async def test_a_new_database_needs_room(self, disk: Small) -> None:
        disk.fill()
        with pytest.raises((StorageFull, StorageFailed)):
            await SqliteState(disk.path / "state.sqlite3").open()
