"""What `storage/interface.py` promises, of every backend."""

import asyncio
import errno
import hashlib
from pathlib import Path

import pytest

from tests.contracts.conftest import NewStorage
from tests.storage.bodies import Bytes
from tests.storage.samples import MANY, UPLOAD, begin, committed, finished, store, store_whole
from tusd_py.body import EndedBy
from tusd_py.protocol.concat import Final, Partial
from tusd_py.protocol.errors import StorageFailed, StorageFull, StoredBytesLost, TusError
from tusd_py.protocol.upload import Tail, Upload
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.interface import Storage, Writer, WrongInstance

pytestmark = pytest.mark.anyio

FINAL = UPLOAD._replace(id="f", upload_length=None, concat=Final(("/files/p",)), tail=Tail.SEALED)
FAR_FUTURE = 1e11


ON_DISK = pytest.mark.parametrize("new_storage", ["disk"], indirect=True)
"""What only files have: bytes that were stored and not committed, names that may be taken."""


async def content(storage: Storage, upload: Upload) -> bytes:
    """What is stored of an upload; in a bucket it is finished for that."""
    if not upload.path and isinstance(storage.locate(upload), str):
        upload = upload._replace(path=await storage.finish(upload, durable=True))
    return b"".join([data async for data in storage.read(upload, 0, upload.upload_offset)])


def file(storage: Storage, upload: Upload) -> Path:
    """Where it lies, of storage that keeps files."""
    where = storage.locate(upload)
    assert isinstance(where, Path)
    return where


async def stored(writer: Writer) -> Upload:
    """The record of what a writer has stored."""
    offset = await writer.size()
    return writer.upload._replace(upload_offset=offset, placement=writer.placement(offset))


async def strays(storage: Storage, older_than: float = FAR_FUTURE) -> list[str]:
    return [upload_id async for upload_id in storage.strays(older_than)]


@ON_DISK
class TestOpen:
    async def test_ties_the_place_to_a_state_store_for_good(self, new_storage: NewStorage) -> None:
        for is_new in (True, True, False):
            await new_storage().open("mine", is_new=is_new, trust_unsynced=False)
        with pytest.raises(WrongInstance):
            await new_storage().open("another", is_new=True, trust_unsynced=False)

    @pytest.mark.parametrize("is_new", [True, False])
    async def test_another_state_store_is_refused(
        self, new_storage: NewStorage, storage: Storage, is_new: bool
    ) -> None:
        upload = await store(storage, UPLOAD, b"acknowledged")
        with pytest.raises(WrongInstance, match="Nothing was touched"):
            await new_storage().open("another", is_new=is_new, trust_unsynced=False)
        assert await content(storage, upload) == b"acknowledged"

    async def test_a_place_that_is_not_there_is_refused_to_a_state_with_uploads(
        self, new_storage: NewStorage
    ) -> None:
        with pytest.raises(WrongInstance, match="Nothing was touched"):
            await new_storage().open("mine", is_new=False, trust_unsynced=False)
        await new_storage().open("mine", is_new=True, trust_unsynced=False)


class TestWriter:
    async def test_bears_out_the_record_before_the_first_byte(self, storage: Storage) -> None:
        async with storage.writer(UPLOAD) as writer:
            assert writer.upload.placement
            assert writer.upload._replace(placement="") == UPLOAD
            assert await writer.size() == 0

    @pytest.mark.parametrize("ended_by", EndedBy)
    async def test_what_came_is_kept_however_the_body_ended(
        self, storage: Storage, ended_by: EndedBy
    ) -> None:
        async with storage.writer(UPLOAD) as writer:
            received = await writer.take(Bytes([b"abc", b"def"], ended_by), MANY, None, committed)
            assert (received.count, received.ended_by) == (6, ended_by)
            assert await writer.size() == 6
            upload = await stored(writer)
        assert await content(storage, upload) == b"abcdef"

    async def test_takes_at_the_offset_of_the_record(self, storage: Storage) -> None:
        upload = await store(storage, UPLOAD, b"abc")
        upload = await store(storage, upload, b"def", b"ghi")
        assert upload.upload_offset == 9
        assert await content(storage, upload) == b"abcdefghi"

    async def test_takes_no_more_than_it_may(self, storage: Storage) -> None:
        async with storage.writer(UPLOAD) as writer:
            received = await writer.take(Bytes([b"abc", b"def"]), 4, None, committed)
            assert (received.count, received.ended_by) == (4, EndedBy.LIMIT)
            upload = await stored(writer)
        assert await content(storage, upload) == b"abcd"

    async def test_digests_what_it_stores(self, storage: Storage) -> None:
        digest = hashlib.sha1(usedforsecurity=False)
        async with storage.writer(UPLOAD) as writer:
            await writer.take(Bytes([b"abc", b"def"]), MANY, digest, committed)
        assert digest.digest() == hashlib.sha1(b"abcdef", usedforsecurity=False).digest()

    async def test_size_and_sync_are_right_during_take(self, storage: Storage) -> None:
        body = Bytes([b"abc", b"def"], goes_on=asyncio.Event())
        assert body.goes_on is not None
        async with storage.writer(UPLOAD) as writer:
            taking = asyncio.create_task(writer.take(body, MANY, None, committed))
            await body.stored.wait()
            # A store that is far away gets more than three bytes at a time.
            for size in (await writer.size(), await writer.sync()):
                assert size == (3 if isinstance(storage, DiskStorage) else 0)
            body.goes_on.set()
            await taking
            assert await writer.size() == 6
            assert await writer.sync() == 6

    @ON_DISK
    @pytest.mark.parametrize(
        ("number", "expected"),
        [
            (errno.ENOSPC, StorageFull),
            (errno.EDQUOT, StorageFull),
            (errno.EFBIG, StorageFull),
            (errno.EIO, StorageFailed),
        ],
    )
    async def test_an_error_is_told_and_what_was_written_before_stays(
        self, storage: Storage, number: int, expected: type[TusError]
    ) -> None:
        async with storage.writer(UPLOAD) as writer:
            with pytest.raises(expected) as caught:
                await writer.take(Bytes([b"abc"], error=OSError(number, "")), MANY, None, committed)
            assert type(caught.value) is expected
            assert await writer.size() == 3

    async def test_cut_drops_what_lies_beyond(self, storage: Storage) -> None:
        async with storage.writer(await store(storage, UPLOAD, b"ab")) as writer:
            await writer.take(Bytes([b"cdef"]), MANY, None, committed)
            assert await writer.size() == 6
            await writer.cut(2)
            assert await writer.size() == 2
            upload = await stored(writer)
        assert await content(storage, upload) == b"ab"

    @ON_DISK
    async def test_bytes_that_were_acknowledged_must_be_there(self, storage: Storage) -> None:
        upload = await store(storage, UPLOAD, b"abc")
        await storage.remove(upload)
        with pytest.raises(StoredBytesLost):
            await begin(storage, upload)
        assert await strays(storage) == []


@ON_DISK
class TestSettle:
    """After a kill: what lies beyond the offset was stored, and was not published."""

    async def killed(self, storage: Storage, tail: Tail, stored: bytes = b"def") -> Upload:
        upload = await store(storage, UPLOAD, b"abc")
        upload = (await begin(storage, upload))._replace(tail=tail)
        await store(storage, upload, stored)
        return upload

    @pytest.mark.parametrize(("tail", "expected"), [(Tail.OPEN, 6), (Tail.SEALED, 3)])
    @pytest.mark.parametrize("by", ["settle", "writer"])
    async def test_an_open_tail_counts_and_a_sealed_one_is_cut(
        self, new_storage: NewStorage, storage: Storage, tail: Tail, expected: int, by: str
    ) -> None:
        upload = await self.killed(storage, tail)
        again = new_storage()
        settled = await (again.settle(upload) if by == "settle" else begin(again, upload))
        assert settled == upload._replace(upload_offset=expected)
        assert await content(again, settled) == b"abcdef"[:expected]
        assert await again.settle(settled) == settled

    async def test_a_tail_counts_at_most_to_the_length(self, storage: Storage) -> None:
        upload = await self.killed(storage, Tail.OPEN, b"x" * 200)
        assert (await storage.settle(upload)).upload_offset == 100
        assert file(storage, upload).stat().st_size == 100

    async def test_a_tail_counts_whole_while_the_length_is_not_known(
        self, storage: Storage
    ) -> None:
        upload = (await self.killed(storage, Tail.OPEN, b"x" * 200))._replace(upload_length=None)
        assert (await storage.settle(upload)).upload_offset == 203

    async def test_an_upload_without_a_byte_is_left_as_it_is(self, storage: Storage) -> None:
        assert await storage.settle(UPLOAD) == UPLOAD

    async def test_bytes_that_were_acknowledged_must_be_there(self, storage: Storage) -> None:
        upload = await store(storage, UPLOAD, b"abc")
        with pytest.raises(StoredBytesLost):
            await storage.settle(upload._replace(upload_offset=4))
        await storage.remove(upload)
        with pytest.raises(StoredBytesLost):
            await storage.settle(upload)


class TestSync:
    async def test_may_be_repeated(self, storage: Storage) -> None:
        upload = await store(storage, UPLOAD, b"abc")
        await storage.sync(upload)
        await storage.sync(upload)


@pytest.mark.parametrize("durable", [True, False])
class TestConcatenate:
    async def parts(self, storage: Storage) -> list[Upload]:
        data = {"p": b"first ", "q": b"", "r": b"second "}
        return [
            await finished(storage, UPLOAD._replace(id=name, concat=Partial()), text)
            for name, text in data.items()
        ]

    @pytest.mark.parametrize(
        ("order", "expected"),
        [
            ((0, 2), b"first second "),
            ((2, 0), b"second first "),
            ((0, 0, 2, 0), b"first first second first "),
            ((1, 0, 1), b"first "),
            ((1,), b""),
        ],
    )
    async def test_parts_come_in_order_and_may_repeat(
        self, storage: Storage, durable: bool, order: tuple[int, ...], expected: bytes
    ) -> None:
        parts = await self.parts(storage)
        chosen = [parts[index] for index in order]
        placement = await storage.concatenate(FINAL, chosen, durable=durable, commit=committed)
        whole = FINAL._replace(placement=placement, upload_offset=len(expected))
        assert await content(storage, whole) == expected
        assert await storage.settle(whole) == whole
        assert await content(storage, parts[0]) == b"first "

    async def test_begins_anew_when_it_is_repeated(self, storage: Storage, durable: bool) -> None:
        parts = await self.parts(storage)
        final = FINAL
        for chosen in ([parts[2], parts[0], parts[0]], [parts[0]]):
            placement = await storage.concatenate(final, chosen, durable=durable, commit=committed)
            final = final._replace(placement=placement)
        assert await content(storage, final._replace(upload_offset=6)) == b"first "

    async def test_a_part_that_cannot_be_read_is_an_error(
        self, storage: Storage, durable: bool
    ) -> None:
        parts = await self.parts(storage)
        longer = parts[0]._replace(upload_offset=7)
        with pytest.raises(StorageFailed):
            await storage.concatenate(FINAL, [parts[2], longer], durable=durable, commit=committed)
        await storage.remove(parts[0])
        with pytest.raises(StorageFailed):
            await storage.concatenate(
                FINAL, [parts[2], parts[0]], durable=durable, commit=committed
            )


@pytest.mark.parametrize("durable", [True, False])
class TestFinish:
    @pytest.mark.parametrize("data", [b"abc", b""])
    async def test_says_where_the_file_lies_also_when_repeated(
        self, storage: Storage, durable: bool, data: bytes
    ) -> None:
        whole = await store_whole(storage, UPLOAD, data)
        path = await storage.finish(whole, durable=durable)
        assert await storage.finish(whole, durable=durable) == path
        assert await content(storage, whole._replace(path=path)) == data


@ON_DISK
class TestTake:
    async def test_moves_the_file_and_does_nothing_when_repeated(
        self, storage: Storage, tmp_path: Path
    ) -> None:
        upload = await finished(storage, UPLOAD, b"abc")
        to = tmp_path / "new" / "folder" / "film.mp4"
        await storage.take(upload, to)
        assert to.read_bytes() == b"abc"
        assert not file(storage, upload).exists()
        await storage.take(upload, to)
        assert to.read_bytes() == b"abc"

    async def test_never_replaces_another_file(self, storage: Storage, tmp_path: Path) -> None:
        upload = await finished(storage, UPLOAD, b"abc")
        to = tmp_path / "film.mp4"
        to.write_bytes(b"another")
        with pytest.raises(FileExistsError):
            await storage.take(upload, to)
        assert to.read_bytes() == b"another"
        assert await content(storage, upload) == b"abc"

    async def test_to_where_it_lies_leaves_it_there(self, storage: Storage) -> None:
        upload = await finished(storage, UPLOAD, b"abc")
        await storage.take(upload, file(storage, upload))
        assert await content(storage, upload) == b"abc"

    async def test_a_file_that_is_nowhere_is_an_error(
        self, storage: Storage, tmp_path: Path
    ) -> None:
        upload = await finished(storage, UPLOAD, b"abc")
        await storage.remove(upload)
        with pytest.raises(StorageFailed):
            await storage.take(upload, tmp_path / "film.mp4")


class TestRemove:
    async def test_says_how_much_came_free(self, storage: Storage) -> None:
        upload = await store(storage, UPLOAD, b"abc")
        assert await storage.remove(upload) == 3
        assert await storage.remove(upload) == 0

    async def test_takes_a_finished_file_too(self, storage: Storage) -> None:
        upload = await finished(storage, UPLOAD, b"abcd")
        assert await storage.remove(upload) == 4
        assert not await storage.has(upload)


class TestHas:
    async def test_as_long_as_it_is_there(self, storage: Storage) -> None:
        upload = await finished(storage, UPLOAD, b"abc")
        assert await storage.has(upload)
        await storage.remove(upload)
        assert not await storage.has(upload)


@ON_DISK
class TestStrays:
    async def test_are_old_enough_and_can_be_set_aside(self, storage: Storage) -> None:
        first = await store(storage, UPLOAD._replace(id="b"), b"abc")
        await store(storage, UPLOAD._replace(id="c"), b"defg")
        assert await strays(storage, older_than=1.0) == []
        assert sorted(await strays(storage)) == ["b", "c"]
        assert await storage.quarantine("b") == 3
        assert await strays(storage) == ["c"]
        assert not file(storage, first).exists()

    async def test_what_someone_else_set_aside_is_no_error(self, storage: Storage) -> None:
        await store(storage, UPLOAD, b"abc")
        await storage.quarantine("a")
        assert await storage.quarantine("a") == 0

    async def test_what_was_set_aside_is_kept_for_a_while(self, storage: Storage) -> None:
        assert await storage.empty_quarantine(FAR_FUTURE) == 0
        await store(storage, UPLOAD, b"abc")
        await storage.quarantine("a")
        assert await storage.empty_quarantine(older_than=1.0) == 0
        assert await storage.empty_quarantine(FAR_FUTURE) == 3
        assert await storage.empty_quarantine(FAR_FUTURE) == 0
