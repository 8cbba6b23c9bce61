"""A file that is let go of while its client is slow, and what is found when it is opened again."""

import asyncio
import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.storage.bodies import Bytes
from tests.storage.conftest import NewTmpfs
from tests.storage.samples import MANY, UPLOAD, committed, store
from tests.storage.test_disk import open_files
from tusd_py.body import EndedBy, File, Received
from tusd_py.protocol.checksum import Digest
from tusd_py.protocol.errors import StoredBytesLost
from tusd_py.storage import disk, room
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.writer import DiskFile

pytestmark = pytest.mark.anyio


class Resting(Bytes):
    """A body that lets go of its file behind each piece, as that of a slow client does."""

    async def save(
        self, file: File, offset: int, at_most: int, digest: Digest | None = None
    ) -> Received:
        count = 0
        for piece in self.pieces:
            file.release()
            file.release()
            self.stored.set()
            if self.goes_on is not None:
                await self.goes_on.wait()
            count += os.pwrite(file.descriptor(), piece, offset + count)
        return Received(count=count, ended_by=EndedBy.END)


async def test_a_file_that_was_released_goes_on(storage: DiskStorage) -> None:
    """Ten thousand slow clients are not ten thousand open files."""
    async with storage.writer(UPLOAD) as writer:
        body = Resting([b"abc", b"def"], goes_on=asyncio.Event())
        assert body.goes_on is not None
        taking = asyncio.create_task(writer.take(body, MANY, None, committed))
        await body.stored.wait()
        assert open_files(storage.locate(UPLOAD)) == 0
        assert await writer.size() == 0, "size and sync need no descriptor of the append"
        assert await writer.sync() == 0
        body.goes_on.set()
        assert (await taking).count == 6
        assert open_files(storage.locate(UPLOAD)) == 1
        assert await writer.size() == 6
    assert open_files(storage.locate(UPLOAD)) == 0
    assert storage.locate(UPLOAD).read_bytes() == b"abcdef"


@pytest.mark.parametrize("replaced", [False, True])
async def test_another_file_is_never_written_to(storage: DiskStorage, *, replaced: bool) -> None:
    """Somebody moved the bytes away, and maybe put others there: the upload is lost, not mixed."""
    upload = await store(storage, UPLOAD, b"abc")
    path = storage.locate(upload)
    async with storage.writer(upload) as writer:
        body = Resting([b"def"], goes_on=asyncio.Event())
        assert body.goes_on is not None
        taking = asyncio.create_task(writer.take(body, MANY, None, committed))
        await body.stored.wait()
        path.rename(path.with_name("away"))
        if replaced:
            path.write_bytes(b"another file")
        body.goes_on.set()
        for failing in (taking, writer.size(), writer.sync(), writer.cut(0)):
            with pytest.raises(StoredBytesLost):
                await failing
    assert path.with_name("away").read_bytes() == b"abc"
    assert not replaced or path.read_bytes() == b"another file"
    assert open_files(path) == open_files(path.with_name("away")) == 0


async def test_a_look_at_the_size_while_the_file_is_let_go(storage: DiskStorage) -> None:
    """A descriptor's number may be another upload's the moment after it is closed."""
    upload = await store(storage, UPLOAD, b"abc")
    other = await store(storage, UPLOAD._replace(id="other"), b"of another length")
    over = threading.Event()

    def churn(file: DiskFile) -> None:
        while not over.is_set():
            os.pwrite(file.descriptor(), b"d", 3)
            file.release()
            with storage.locate(other).open("rb") as takes_the_number:
                assert takes_the_number.read(2) == b"of"

    path = storage.locate(upload)
    file = DiskFile(str(path.parent), str(path))
    file.open(create=False)
    async with storage.writer(upload) as writer:
        churning = asyncio.create_task(asyncio.to_thread(churn, writer._file))  # type: ignore[attr-defined]
        try:
            sizes = {await writer.size() for _ in range(300)} | {await writer.sync()}
        finally:
            over.set()
            await churning
    file.release()
    assert sizes <= {3, 4}


def test_the_path_of_a_file_that_cannot_be_opened_any_more(tmp_path: Path) -> None:
    """The error is the system's: a body knows nothing of uploads."""
    file = DiskFile(str(tmp_path), str(tmp_path / "file"))
    file.open(create=True)
    file.release()
    (tmp_path / "file").unlink()
    with pytest.raises(FileNotFoundError):
        file.descriptor()


MIB = 1 << 20


class Quick(Bytes):
    """A body that comes quickly, of which `announced` bytes were promised."""

    announced = 10 * MIB

    async def save(
        self, file: File, offset: int, at_most: int, digest: Digest | None = None
    ) -> Received:
        file.make_room(offset, self.announced)
        return await super().save(file, offset, at_most, digest)


@pytest.fixture
def on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests keep their files, in memory too, counts as a large ext4."""
    monkeypatch.setattr(room, "is_worth_it", lambda descriptor: True)
    monkeypatch.setattr(room, "_PARTS", 1)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[DiskFile]:
    made = DiskFile(str(tmp_path), str(tmp_path / "file"))
    made.open(create=True)
    yield made
    made.release()


def allocated(path: Path | str) -> int:
    """Bytes of the disk that a file takes."""
    return os.stat(path).st_blocks * 512


@pytest.mark.usefixtures("on_a_disk")
async def test_room_that_was_not_used_is_given_back(storage: DiskStorage) -> None:
    """The blocks of what a client did not send after all are for others, and its bytes stay."""
    path = storage.locate(UPLOAD)
    async with storage.writer(UPLOAD) as writer:
        received = await writer.take(Quick([b"abc", b"def"]), MANY, None, committed)
        assert received.count == 6
        assert allocated(path) >= 8 * MIB
        assert await writer.size() == 6, "the size says how far the bytes came"
    assert allocated(path) < MIB
    assert path.read_bytes() == b"abcdef"


@pytest.mark.usefixtures("on_a_disk")
async def test_room_that_was_used_is_left_alone(
    storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that came whole costs no call, and no thread, in the end."""
    monkeypatch.setattr(os, "ftruncate", None)
    monkeypatch.setattr(disk, "in_thread", None)
    data = bytes(MIB)
    body = Quick([data])
    body.announced = MIB
    async with storage.writer(UPLOAD, at_once=True) as writer:
        await writer.take(body, MIB, None, committed)
    assert storage.locate(UPLOAD).read_bytes() == data


@pytest.mark.usefixtures("on_a_disk")
def test_a_file_that_is_let_go_of_keeps_no_room(file: DiskFile) -> None:
    """Its client has become slow; where it goes on quickly, room is made again."""
    for offset in (0, MIB):
        file.make_room(offset, 4 * MIB)
        assert allocated(file.path) >= offset + 4 * MIB
        os.pwrite(file.descriptor(), bytes(MIB), offset)
        file.release()
        assert allocated(file.path) == offset + MIB
        file.descriptor()


@pytest.mark.usefixtures("on_a_disk")
@pytest.mark.parametrize(
    ("count", "made"),
    [
        (MIB - 1, []),
        (5 * MIB, [(0, 5)]),
        (100 * MIB, [(0, 8), (8, 8), (16, 16), (32, 32), (64, 36)]),
        (260 * MIB, [(0, 8), (8, 8), (16, 16), (32, 32), (64, 64), (128, 64), (192, 64), (256, 4)]),
    ],
)
def test_how_much_room_is_made(
    file: DiskFile, monkeypatch: pytest.MonkeyPatch, count: int, made: list[tuple[int, int]]
) -> None:
    """No more than has come, but for a first piece."""
    calls = []

    def allocate(descriptor: int, offset: int, count: int) -> int:
        assert descriptor == file.descriptor()
        calls.append((offset // MIB, count // MIB))
        return count

    monkeypatch.setattr(room, "allocate", allocate)
    for offset in range(0, count, MIB):
        file.make_room(offset, count - offset)
    assert calls == made


@pytest.mark.parametrize("place", [pytest.param("disk", marks=pytest.mark.disk), "memory"])
def test_where_room_is_made(file: DiskFile, place: str) -> None:
    """Where it serves: on ext4, which `stat` names by what came before it."""
    command = ["stat", "--file-system", "--format", "%T", file.path]
    kind = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    file.make_room(0, 10 * MIB)
    assert (allocated(file.path) > 0) == (kind == "ext2/ext3")


@pytest.mark.usefixtures("on_a_disk")
@pytest.mark.parametrize(("free", "made"), [(100, 100), (5, 5), (1, 1), (0.9, 0)])
def test_room_is_a_small_part_of_what_is_free(
    file: DiskFile, monkeypatch: pytest.MonkeyPatch, free: float, made: int
) -> None:
    """Or a few who announce much, and send little, would take the disk from all others."""
    disk_of = SimpleNamespace(f_bavail=int(free * MIB) // 4096, f_frsize=4096)
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: disk_of)
    assert room.allocate(file.descriptor(), 0, 100 * MIB) == made * MIB
    assert allocated(file.path) == made * MIB


@pytest.mark.usefixtures("on_a_disk")
@pytest.mark.parametrize("trusted", [False, True])
async def test_room_that_a_killed_process_left(storage: DiskStorage, trusted: bool) -> None:
    """Whoever looks at the upload gives it back; not where that could note a size too early."""
    await storage.open("mine", is_new=True, trust_unsynced=trusted)
    upload = await store(storage, UPLOAD, b"abcdef")
    path = storage.locate(upload)
    with path.open("r+b") as left:
        assert room.allocate(left.fileno(), 0, 8 * MIB)
    assert await storage.settle(upload) == upload
    assert (allocated(path) < MIB) == (not trusted)
    async with storage.writer(upload) as writer:
        assert await writer.size() == 6
        assert (allocated(path) < MIB) == (not trusted)
    assert path.read_bytes() == b"abcdef"


@pytest.mark.usefixtures("on_a_disk")
async def test_room_is_kept_where_sizes_are_trusted(storage: DiskStorage) -> None:
    """After a loss of power the size must not tell of bytes that were not written yet."""
    await storage.open("mine", is_new=True, trust_unsynced=True)
    async with storage.writer(UPLOAD) as writer:
        await writer.take(Quick([b"abc"]), MANY, None, committed)
    assert allocated(storage.locate(UPLOAD)) >= 8 * MIB
    assert storage.locate(UPLOAD).read_bytes() == b"abc"


@pytest.mark.usefixtures("on_a_disk")
async def test_a_file_whose_room_cannot_be_looked_at(
    storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that has shut down: what came is told, and the descriptor closed."""

    def fails(_: int) -> os.stat_result:
        raise OSError(errno.EIO, "shut down")

    opened = storage.writer(UPLOAD)
    writer = await opened.__aenter__()
    received = await writer.take(Quick([b"abc"]), MANY, None, committed)
    before = open_files(storage.locate(UPLOAD))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", fails)
        await opened.__aexit__(None, None, None)
    assert received.count == 3
    assert (before, open_files(storage.locate(UPLOAD))) == (1, 0)


@pytest.mark.usefixtures("on_a_disk")
def test_a_disk_without_room_is_filled_to_the_last_byte(new_tmpfs: NewTmpfs) -> None:
    """Writing says that a disk is full, and not the attempt to make room."""
    folder = new_tmpfs(2 * MIB)
    file = DiskFile(str(folder), str(folder / "file"))
    file.open(create=True)
    file.make_room(0, 8 * MIB)
    for offset in (0, MIB):
        assert os.pwrite(file.descriptor(), bytes(MIB), offset) == MIB
        file.make_room(offset + MIB, 8 * MIB)
    with pytest.raises(OSError, match="No space"):
        os.pwrite(file.descriptor(), b"x", 2 * MIB)
    file.release()


@pytest.mark.usefixtures("on_a_disk")
def test_a_file_system_that_makes_no_room_is_asked_once(
    file: DiskFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def refuse(*call: int) -> int:
        calls.append(call)
        return 0

    monkeypatch.setattr(room, "allocate", refuse)
    for offset in range(0, 20 * MIB, MIB):
        file.make_room(offset, 20 * MIB - offset)
    assert len(calls) == 1
