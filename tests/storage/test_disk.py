"""Bytes in files: what is adopted, cut or lost, and what a disk that fails is told as."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from tests.storage.bodies import Bytes
from tests.storage.conftest import NewTmpfs
from tests.storage.samples import (
    MANY,
    UPLOAD,
    begin,
    committed,
    files_below,
    finished,
    named,
    store,
    store_whole,
)
from tusd_py.body import EndedBy, File, Received
from tusd_py.protocol.checksum import Digest
from tusd_py.protocol.concat import Final, Partial
from tusd_py.protocol.errors import StorageBusy, StorageFailed, StorageFull, StoredBytesLost
from tusd_py.protocol.upload import Phase, Tail, Upload
from tusd_py.storage import disk
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.interface import SyncFailed

pytestmark = [pytest.mark.disk, pytest.mark.anyio]

TIB = 1 << 40


def reboot(monkeypatch: pytest.MonkeyPatch, name: str = "another-boot") -> None:
    monkeypatch.setattr(disk, "boot_id", lambda: name)


def fail(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Lets a function of `os` fail from now on."""

    def failing(*args: object, **kwargs: object) -> object:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, failing)


class Killed(BaseException):
    """The process ends here: nothing that follows is done."""


class TestTail:
    async def test_a_shorter_write_over_an_old_tail_then_a_kill(self, storage: DiskStorage) -> None:
        """Stale bytes behind a new, shorter write never count."""
        upload = (await begin(storage, UPLOAD))._replace(tail=Tail.SEALED)
        await store(storage, upload, b"never verified")
        upload = (await begin(storage, upload))._replace(tail=Tail.OPEN)
        assert storage.locate(upload).read_bytes() == b""
        await store(storage, upload, b"new")
        settled = await storage.settle(upload)
        assert settled.upload_offset == 3
        assert storage.locate(upload).read_bytes() == b"new"

    async def test_the_size_is_the_offset_before_the_first_byte(self, storage: DiskStorage) -> None:
        upload = await store(storage, UPLOAD, b"abc")
        for tail, size in ((Tail.SEALED, 3), (Tail.OPEN, 7)):
            with storage.locate(upload).open("ab") as file:
                file.write(b"tail")
            async with storage.writer(upload._replace(tail=tail)) as writer:
                assert await writer.size() == writer.upload.upload_offset == size

    async def test_a_file_left_by_a_former_upload_of_that_id_does_not_count(
        self, storage: DiskStorage
    ) -> None:
        await store(storage, UPLOAD, b"of another life")
        assert (await begin(storage, UPLOAD)).upload_offset == 0
        assert storage.locate(UPLOAD).read_bytes() == b""

    async def test_beyond_a_tebibyte(self, storage: DiskStorage) -> None:
        upload = await begin(storage, UPLOAD._replace(upload_length=5 * TIB))
        os.truncate(storage.locate(upload), TIB + 3)
        upload = await storage.settle(upload)
        assert upload.upload_offset == TIB + 3
        upload = await store(storage, upload, b"far out", b"!")
        assert upload.upload_offset == TIB + 11
        with storage.locate(upload).open("rb") as file:
            file.seek(TIB)
            assert file.read() == b"\0\0\0far out!"
        async with storage.writer(upload) as writer:
            await writer.cut(TIB + 4)
            assert await writer.size() == TIB + 4


class TestPlacement:
    """Where the boot or the file is another one, only what was synced is certain."""

    async def unsynced(self, storage: DiskStorage, tail: Tail = Tail.OPEN) -> Upload:
        upload = await store(storage, UPLOAD, b"synced, not synced")
        return upload._replace(synced_offset=6, tail=tail)

    async def test_names_the_boot_the_device_and_the_inode(self, storage: DiskStorage) -> None:
        upload = await begin(storage, UPLOAD)
        stat = storage.locate(upload).stat()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert upload.placement == f"{boot}:{stat.st_dev}:{stat.st_ino}"

    @pytest.mark.parametrize("tail", Tail)
    async def test_another_boot_and_a_kill_in_the_recovery_and_another_boot(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch, tail: Tail
    ) -> None:
        upload = await self.unsynced(storage, tail)
        reboot(monkeypatch, "second")
        recovered = await storage.settle(upload)
        assert recovered.upload_offset == recovered.synced_offset == 6
        assert recovered.placement.startswith("second:")
        # Killed before that was committed: the record is the old one still.
        assert await storage.settle(upload) == recovered
        reboot(monkeypatch, "third")
        again = await storage.settle(upload)
        assert again == recovered._replace(placement=again.placement)
        upload = await store(storage, again, b" and on")
        assert storage.locate(upload).read_bytes() == b"synced and on"
        reboot(monkeypatch, "fourth")
        assert (await storage.settle(upload)).upload_offset == 6

    async def test_a_kill_before_the_file_is_cut(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upload = await self.unsynced(storage)
        reboot(monkeypatch)
        with monkeypatch.context() as patched:

            def killed(*args: object) -> None:
                raise Killed

            patched.setattr(os, "truncate", killed)
            with pytest.raises(Killed):
                await storage.settle(upload)
        assert (await storage.settle(upload)).upload_offset == 6
        assert storage.locate(upload).read_bytes() == b"synced"

    async def test_another_file(self, storage: DiskStorage) -> None:
        upload = await self.unsynced(storage)
        path = storage.locate(upload)
        copy = path.with_name("copy")
        copy.write_bytes(path.read_bytes())
        copy.rename(path)
        settled = await storage.settle(upload)
        assert (settled.upload_offset, path.stat().st_size) == (6, 6)

    async def test_less_than_was_synced_is_there(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upload = await self.unsynced(storage)
        reboot(monkeypatch)
        os.truncate(storage.locate(upload), 5)
        with pytest.raises(StoredBytesLost):
            await storage.settle(upload)
        with pytest.raises(StoredBytesLost):
            await begin(storage, upload)

    @pytest.mark.parametrize(("left", "offset"), [(10, 10), (30, 18), (0, 0)])
    async def test_trusted_where_nothing_is_promised(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, left: int, offset: int
    ) -> None:
        storage = DiskStorage(place)
        await storage.open("mine", is_new=True, trust_unsynced=True)
        upload = await self.unsynced(storage)
        reboot(monkeypatch)
        os.truncate(storage.locate(upload), left)
        settled = await storage.settle(upload)
        assert (settled.upload_offset, settled.synced_offset) == (offset, min(6, offset))


class TestSync:
    @pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
    async def test_a_disk_that_does_not_take_it(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        upload = await store(storage, UPLOAD, b"abc")
        fail(monkeypatch, "fdatasync", number)
        with pytest.raises(SyncFailed):
            await storage.sync(upload)
        async with storage.writer(upload) as writer:
            with pytest.raises(SyncFailed):
                await writer.sync()
        with pytest.raises(SyncFailed):
            await storage.concatenate(UPLOAD._replace(id="f"), [], durable=True, commit=committed)

    async def test_a_folder_that_does_not_take_it(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upload = await store_whole(storage, UPLOAD, b"abc")
        fail(monkeypatch, "fsync", errno.EIO)
        with pytest.raises(SyncFailed):
            await storage.sync(upload)
        with pytest.raises(SyncFailed):
            await storage.finish(upload, durable=True)
        assert await storage.finish(upload, durable=False)
        async with storage.writer(upload) as writer:
            with pytest.raises(SyncFailed):
                await writer.sync()

    async def test_reaches_the_bytes_and_the_names_on_the_way_to_them(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file whose name is not on the disk is lost whole."""
        synced: list[Path] = []
        fsync, fdatasync = os.fsync, os.fdatasync

        def noting(call: Callable[[int], None]) -> Callable[[int], None]:
            def sync(descriptor: int) -> None:
                synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
                call(descriptor)

            return sync

        monkeypatch.setattr(os, "fsync", noting(fsync))
        monkeypatch.setattr(os, "fdatasync", noting(fdatasync))
        storage = DiskStorage(place, file_template="{yyyy}/{filename}")
        await storage.open("mine", is_new=True, trust_unsynced=False)
        assert place / "data" in synced
        assert any(path.name.startswith(".instance") for path in synced), "the mark's text"
        file = storage.locate(UPLOAD)

        synced.clear()
        async with storage.writer(UPLOAD) as writer:
            assert synced == []
            await writer.take(Bytes([b"abc"]), MANY, None, committed)
            await writer.sync()
            assert synced == [file, file.parent]
            await writer.sync()
            assert synced[2:] == [file], "the name is there for good"
            whole = writer.upload._replace(upload_offset=3, upload_length=3)

        synced.clear()
        await storage.sync(whole)
        assert synced == [file, file.parent]

        synced.clear()
        await storage.finish(whole, durable=True)
        folder = place / "files" / "2023"
        assert synced == [folder.parent, place, folder, file.parent]

    @pytest.mark.parametrize("filename", ["film", None])
    async def test_nothing_is_synced_where_nothing_is_promised(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, filename: str | None
    ) -> None:
        storage = DiskStorage(place, file_template=filename and "{filename}")
        await storage.open("mine", is_new=True, trust_unsynced=True)
        whole = await store_whole(storage, UPLOAD, b"abc")
        fail(monkeypatch, "fsync", errno.EIO)
        fail(monkeypatch, "fdatasync", errno.EIO)
        await storage.finish(whole, durable=False)
        await storage.concatenate(
            UPLOAD._replace(id=UPLOAD.id), [], durable=False, commit=committed
        )


class TestFullDisk:
    async def test_a_full_disk_is_told_and_what_came_is_kept(self, new_tmpfs: NewTmpfs) -> None:
        storage = DiskStorage(new_tmpfs(1 << 20))
        await storage.open("mine", is_new=True, trust_unsynced=False)
        data = os.urandom(3 << 20)
        async with storage.writer(UPLOAD._replace(upload_length=len(data))) as writer:
            upload = writer.upload
            with pytest.raises(StorageFull):
                await writer.take(Whole([data]), len(data), None, committed)
            size = await writer.size()
        assert 0 < size < len(data)
        settled = await storage.settle(upload)
        assert settled.upload_offset == size
        assert storage.locate(settled).read_bytes() == data[:size]
        final = UPLOAD._replace(id="f", concat=Final(("/files/a",)))
        with pytest.raises(StorageFull):
            await storage.concatenate(final, [settled, settled], durable=True, commit=committed)
        await storage.remove(final)
        assert await storage.remove(settled) == size
        assert (await store(storage, UPLOAD, b"room again")).upload_offset == 10

    @pytest.mark.parametrize(
        ("number", "expected"),
        [
            (errno.ENOSPC, StorageFull),
            (errno.EDQUOT, StorageFull),
            (errno.EIO, StorageFailed),
            (errno.EMFILE, StorageBusy),
            (errno.ENFILE, StorageBusy),
        ],
    )
    async def test_a_file_that_cannot_be_made(
        self,
        storage: DiskStorage,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        expected: type[StorageFailed | StorageFull],
    ) -> None:
        fail(monkeypatch, "open", number)
        with pytest.raises(expected) as caught:
            await begin(storage, UPLOAD)
        assert type(caught.value) is expected

    async def test_a_place_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StorageFailed):
            await DiskStorage(tmp_path / "file").open("mine", is_new=True, trust_unsynced=False)


class Whole(Bytes):
    """A body that is written in one go, as far as the disk takes it."""

    async def save(
        self, file: File, offset: int, at_most: int, digest: Digest | None = None
    ) -> Received:
        (data,) = self.pieces
        count = 0
        while count < len(data):
            piece = data[count : count + 65536]
            count += os.pwrite(file.descriptor(), piece, offset + count)
        return Received(count=count, ended_by=EndedBy.END)


class TestConcatenate:
    FINAL = UPLOAD._replace(id="f", concat=Final(("/files/p",)), tail=Tail.SEALED)

    async def test_parts_of_more_than_one_piece(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(disk, "_COPY_AT_ONCE", 1000)
        data = [os.urandom(2500), os.urandom(1000), b""]
        parts = [
            await store_whole(storage, UPLOAD._replace(id=f"p{number}"), each)
            for number, each in enumerate(data)
        ]
        order = [0, 1, 0, 2, 1]
        await storage.concatenate(
            self.FINAL, [parts[n] for n in order], durable=True, commit=committed
        )
        assert storage.locate(self.FINAL).read_bytes() == b"".join(data[n] for n in order)

    async def test_parts_of_tebibytes(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two parts of 5 TiB, all but a few bytes of them a hole that the copy passes over."""
        part = await begin(storage, UPLOAD._replace(id="p", upload_length=5 * TIB))
        os.truncate(storage.locate(part), 5 * TIB - 3)
        part = await store(storage, await storage.settle(part), b"end")
        assert part.upload_offset == 5 * TIB
        monkeypatch.setattr(os, "copy_file_range", copy_data)
        await storage.concatenate(self.FINAL, [part, part], durable=True, commit=committed)
        path = storage.locate(self.FINAL)
        assert path.stat().st_size == 10 * TIB
        with path.open("rb") as file:
            for end in (5 * TIB, 10 * TIB):
                file.seek(end - 5)
                assert file.read(5) == b"\0\0end"

    async def test_partial_uploads_stay_where_they_are(self, place: Path) -> None:
        storage = DiskStorage(place, file_template="{filename}")
        await storage.open("mine", is_new=True, trust_unsynced=False)
        part = await finished(storage, named("p", "film.mp4", concat=Partial()), b"abc")
        assert part.path
        assert part.path.startswith("data/")

    async def test_may_be_repeated_after_a_kill(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parts = [
            await store_whole(storage, UPLOAD._replace(id=name), name.encode() * 4)
            for name in ("p", "q")
        ]
        with monkeypatch.context() as patched:
            patched.setattr(disk, "_COPY_AT_ONCE", 3)
            real, calls = os.copy_file_range, iter(range(100))

            def killed(*args: int) -> int:
                if next(calls) == 3:
                    raise Killed
                return real(*args)

            patched.setattr(os, "copy_file_range", killed)
            with pytest.raises(Killed):
                await storage.concatenate(self.FINAL, parts, durable=True, commit=committed)
        await storage.concatenate(self.FINAL, parts[1:], durable=True, commit=committed)
        assert storage.locate(self.FINAL).read_bytes() == b"qqqq"


def copy_data(source: int, target: int, count: int, from_: int, to: int) -> int:
    """As `os.copy_file_range`, but a hole stays one, at no cost."""
    try:
        data = os.lseek(source, from_, os.SEEK_DATA)
    except OSError:
        data = os.fstat(source).st_size
    if data > from_:
        skipped = min(count, data - from_)
        os.ftruncate(target, to + skipped)
        return skipped
    return os.pwrite(target, os.pread(source, min(count, 1 << 20), from_), to)


class TestCancelled:
    """Whoever is cancelled still owns the lock: it must not end before its thread."""

    @pytest.mark.parametrize("by", ["task", "scope"])
    async def test_ends_only_when_the_thread_has_ended(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch, by: str
    ) -> None:
        upload = await store(storage, UPLOAD, b"abc")
        begun, go_on, ended = asyncio.Event(), threading.Event(), threading.Event()
        loop, real = asyncio.get_running_loop(), os.fdatasync

        def slow(descriptor: int) -> None:
            loop.call_soon_threadsafe(begun.set)
            go_on.wait(10)
            real(descriptor)
            ended.set()

        monkeypatch.setattr(os, "fdatasync", slow)
        scope = anyio.CancelScope()
        was_ended: list[bool] = []

        async def work() -> None:
            with scope:
                try:
                    await storage.sync(upload)
                finally:
                    was_ended.append(ended.is_set())

        task = asyncio.create_task(work())
        await begun.wait()
        if by == "task":
            task.cancel()
        else:
            scope.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        await asyncio.wait({task})
        assert was_ended == [True]
        assert task.cancelled() == (by == "task")

    async def test_an_append_that_is_cancelled_while_it_opens_leaks_nothing(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upload = await store(storage, UPLOAD, b"abc")
        begun, go_on = asyncio.Event(), threading.Event()
        loop, real = asyncio.get_running_loop(), os.fstat

        def slow(descriptor: int) -> os.stat_result:
            loop.call_soon_threadsafe(begun.set)
            go_on.wait(10)
            return real(descriptor)

        monkeypatch.setattr(os, "fstat", slow)
        task = asyncio.create_task(begin(storage, upload))
        await begun.wait()
        opened = open_files(storage.locate(upload))
        task.cancel()
        go_on.set()
        await asyncio.wait({task})
        assert task.cancelled()
        assert (opened, open_files(storage.locate(upload))) == (1, 0)

    async def test_a_long_concatenation_is_stopped(
        self, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        part = await store_whole(storage, UPLOAD._replace(id="p"), b"abcdef")
        begun, go_on = asyncio.Event(), threading.Event()
        loop, real = asyncio.get_running_loop(), os.copy_file_range
        copied: list[int] = []

        def slow(*args: int) -> int:
            loop.call_soon_threadsafe(begun.set)
            go_on.wait(10)
            copied.append(args[3])
            return real(*args)

        monkeypatch.setattr(os, "copy_file_range", slow)
        monkeypatch.setattr(disk, "_COPY_AT_ONCE", 1)
        final = UPLOAD._replace(id="f", concat=Final(("/files/p",)))
        task = asyncio.create_task(
            storage.concatenate(final, [part], durable=True, commit=committed)
        )
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait({task})
        assert task.cancelled()
        assert copied == [0]


def open_files(path: Path) -> int:
    """How often this process has a file open."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += link.readlink() == path
        except FileNotFoundError:
            continue
    return found


class TestCopyOut:
    async def test_as_many_bytes_as_are_acknowledged(
        self, storage: DiskStorage, tmp_path: Path
    ) -> None:
        to = DiskStorage(tmp_path / "backup")
        upload = (await store(storage, UPLOAD, b"abcdef"))._replace(upload_offset=4)
        await storage.copy_out(upload, to)
        assert to.locate(upload).read_bytes() == b"abcd"
        with pytest.raises(StorageFailed):
            await storage.copy_out(upload, to)

    async def test_of_a_finished_file(self, place: Path, tmp_path: Path) -> None:
        storage = DiskStorage(place, file_template="{yyyy}/{filename}")
        await storage.open("mine", is_new=True, trust_unsynced=False)
        upload = await finished(storage, named("a", "film.mp4"), b"abc")
        to = DiskStorage(tmp_path / "backup")
        await storage.copy_out(upload, to)
        assert files_below(tmp_path / "backup") == {"files/2023/film.mp4": b"abc"}

    async def test_of_an_upload_without_a_byte(self, storage: DiskStorage, tmp_path: Path) -> None:
        to = DiskStorage(tmp_path / "backup")
        await storage.copy_out(UPLOAD, to)
        assert not (tmp_path / "backup").exists()
        await begin(storage, UPLOAD)
        await storage.copy_out(UPLOAD, to)
        assert to.locate(UPLOAD).read_bytes() == b""

    async def test_of_bytes_that_are_gone(self, storage: DiskStorage, tmp_path: Path) -> None:
        upload = await store(storage, UPLOAD, b"abc")
        await storage.remove(upload)
        with pytest.raises(StorageFailed):
            await storage.copy_out(upload, DiskStorage(tmp_path / "backup"))


async def test_a_part_that_was_cut_by_someone_else(storage: DiskStorage) -> None:
    part = (await store_whole(storage, UPLOAD, b"abc"))._replace(phase=Phase.COMPLETE)
    os.truncate(storage.locate(part), 1)
    with pytest.raises(StorageFailed):
        await storage.concatenate(UPLOAD._replace(id="f"), [part], durable=False, commit=committed)
