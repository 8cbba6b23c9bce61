"""Bytes in a bucket of a real store: what is told as stored is there, once, whatever breaks."""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.storage.bodies import Bytes
from tests.storage.s3_place import S3Place
from tests.storage.s3_servers import S3Server
from tests.storage.samples import UPLOAD, committed, finished, named, store
from tusd_py.body import EndedBy
from tusd_py.protocol.errors import StorageFailed, StoredBytesLost, UploadNotFound, UploadTooLarge
from tusd_py.protocol.upload import Upload
from tusd_py.storage import s3_writer
from tusd_py.storage.interface import Storage, WrongInstance
from tusd_py.storage.s3 import S3Settings, S3Storage
from tusd_py.storage.s3_bucket import Bucket
from tusd_py.storage.s3_memory import PAGE
from tusd_py.storage.s3_parts import MIB, PartRules
from tusd_py.storage.s3_placement import INTENDED, Part, build_placement, parse_placement
from tusd_py.storage.s3_sending import Answered
from tusd_py.storage.s3_sending import Bytes as Sent
from tusd_py.storage.s3_writer import _Buffer
from tusd_py.storage.template import InvalidTemplate

pytest.importorskip("aiobotocore")
from aiobotocore.awsrequest import AioAWSResponse

pytestmark = pytest.mark.anyio

SETTINGS = S3Settings(rules=PartRules(preferred=5 * MIB), memory=64 * MIB)
CHUNK = 256 << 10


class Killed(BaseException):
    """The process ends here: nothing that follows is done."""


def content_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def pieces(data: bytes, size: int = CHUNK) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.fixture
async def storage(s3_place: S3Place) -> AsyncIterator[S3Storage]:
    made = await opened(s3_place)
    yield made
    await made.close()


async def opened(place: S3Place, settings: S3Settings = SETTINGS) -> S3Storage:
    made = place.storage(settings)
    await made.open("mine", is_new=True, trust_unsynced=False)
    return made


class Record:
    """What an engine does with a record: it is committed whenever storage asks for that.

    Attributes:
        upload: As it was committed last; after a kill it is all that is left.
        kill_at: Ends the process in place of that commit, counted from 1.
    """

    def __init__(self, upload: Upload, kill_at: int = 0) -> None:
        self.upload = upload
        self.kill_at = kill_at
        self.commits = 0

    async def append(self, storage: Storage, *data: bytes, end: EndedBy = EndedBy.END) -> None:
        async with storage.writer(self.upload) as writer:

            async def commit(*, durable: bool = False) -> None:
                self.commits += 1
                if self.commits == self.kill_at:
                    raise Killed
                offset = await writer.size()
                placement = writer.placement(offset)
                self.upload = self.upload._replace(upload_offset=offset, placement=placement)

            await commit()
            try:
                await writer.take(Bytes(data, end), 1 << 40, None, commit)
            finally:
                if not self.kill_at or self.commits < self.kill_at:
                    await commit()

    async def finish(self, storage: Storage) -> Upload:
        self.upload = self.upload._replace(path=await storage.finish(self.upload, durable=True))
        return self.upload


def check_only(place: S3Place, objects: dict[str, bytes]) -> None:
    """Nothing else lies in the bucket, begun multipart uploads included."""
    assert {key: hashlib.sha256(data).hexdigest() for key, data in place.objects().items()} == {
        key: hashlib.sha256(data).hexdigest() for key, data in objects.items()
    }
    assert place.multiparts() == []


class TestUpload:
    @pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 13 * MIB + 7])
    @pytest.mark.parametrize("is_told", [True, False])
    async def test_becomes_one_object_and_nothing_else_is_left(
        self, s3_place: S3Place, storage: S3Storage, size: int, is_told: bool
    ) -> None:
        data = content_of(size)
        record = Record(UPLOAD._replace(upload_length=size if is_told else None))
        await record.append(storage, *pieces(data))
        assert record.upload.upload_offset == size
        await record.finish(storage)
        check_only(s3_place, {"a": data})

    async def test_in_appends_of_any_size(self, s3_place: S3Place, storage: S3Storage) -> None:
        """Tails are read again and joined to what comes; nothing is lost or doubled."""
        data, sizes, at = content_of(21 * MIB), random.Random(7), 0
        record = Record(UPLOAD._replace(upload_length=len(data)))
        while at < len(data):
            size = sizes.choice([1, 1000, MIB, 3 * MIB, 6 * MIB, 11 * MIB])
            await record.append(storage, *pieces(data[at : at + size]))
            at += len(data[at : at + size])
            assert record.upload.upload_offset == at
        await record.finish(storage)
        check_only(s3_place, {"a": data})

    @pytest.mark.parametrize(
        ("reserved", "there", "size", "is_told", "parts"),
        [
            (5, {}, 26, True, 4),
            (5, {}, 26, False, 3),
            (3, {3: 8}, 24, True, 3),
            # With parts as large as planned, nothing would be left for the last.
            (5, {4: 5, 5: 5}, 28, True, 5),
            (4, {3: 5, 4: 5}, 21, False, 3),
        ],
    )
    async def test_what_a_former_holder_sent_is_sent_again(
        self,
        s3_place: S3Place,
        reserved: int,
        there: dict[int, int],
        size: int,
        is_told: bool,
        parts: int,
    ) -> None:
        """Where the store wants each part that it has got to be one of the object."""
        storage = await opened(s3_place, S3Settings(memory=64 * MIB))
        data = content_of(size * MIB)
        record = Record(UPLOAD._replace(upload_length=len(data) if is_told else None))
        await record.append(storage, *pieces(data[: 8 * MIB]))
        placement = replace(parse_placement(record.upload.placement), reserved=reserved)
        record.upload = record.upload._replace(placement=build_placement(placement))
        for number, count in there.items():
            s3_place.client.upload_part(
                Bucket=s3_place.bucket,
                Key=placement.key,
                UploadId=placement.multipart,
                PartNumber=number,
                Body=bytes(count * MIB),
            )
        await record.append(storage, *pieces(data[8 * MIB :]))
        assert parse_placement(record.upload.placement).chain.runs == ((1, parts),)
        await record.finish(storage)
        check_only(s3_place, {"a": data})
        await storage.close()

    async def test_on_swift(self, swift_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another store that reads the same API in its own way."""
        for name, value in swift_server.environment.items():
            monkeypatch.setenv(name, value)
        place = S3Place(swift_server)
        storage = await opened(place)
        data = content_of(12 * MIB)
        record = Record(UPLOAD._replace(upload_length=len(data)))
        for part in (data[:MIB], data[MIB : 7 * MIB], data[7 * MIB :]):
            await record.append(storage, *pieces(part))
        await record.finish(storage)
        check_only(place, {"a": data})
        assert await storage.remove(record.upload) == len(data)
        check_only(place, {})
        await storage.close()

    @pytest.mark.parametrize("store", ["s3_server", "swift_server"])
    async def test_other_bytes_than_were_sent_are_refused(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, store: str
    ) -> None:
        """A part that was damaged on its way, or in memory, does not count."""
        server: S3Server = request.getfixturevalue(store)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        place = S3Place(server)
        storage = await opened(place)
        data = content_of(11 * MIB)
        record = Record(UPLOAD._replace(upload_length=len(data)))

        def damaged(body: Sent) -> Iterator[memoryview]:
            for piece in whole(body):
                yield memoryview(bytes([piece[0] ^ 1]) + piece[1:])

        whole = Sent.pieces
        with monkeypatch.context() as patched:
            patched.setattr(Sent, "pieces", damaged)
            with pytest.raises(StorageFailed):
                await record.append(storage, *pieces(data))
        assert record.upload.upload_offset == 0
        await record.append(storage, *pieces(data))
        await record.finish(storage)
        check_only(place, {"a": data})
        await storage.close()

    async def test_a_bucket_of_locked_objects_gets_an_md5_of_each_part(
        self, s3_place: S3Place, storage: S3Storage
    ) -> None:
        """As Amazon's wants it; the store of these tests does not, so its refusal is made here."""
        sent: list[bool] = []

        def answer(request: Any, **_: object) -> AioAWSResponse | None:
            sent.append("Content-MD5" in request.headers)
            if sent[-1]:
                return None
            body = b"<Error><Code>InvalidRequest</Code><Message>Content-MD5 is required</Message>"
            return AioAWSResponse(request.url, 400, {}, Answered(body + b"</Error>"))

        storage._bucket._client.meta.events.register("before-send.s3.UploadPart", answer)
        data = content_of(16 * MIB)
        record = Record(UPLOAD._replace(upload_length=len(data)))
        await record.append(storage, *pieces(data))
        await record.finish(storage)
        check_only(s3_place, {"a": data})
        assert sent[0] is False
        assert sent.count(True) == 4

    async def test_keys_have_the_prefix_and_the_template(self, s3_place: S3Place) -> None:
        settings = replace(SETTINGS, object_prefix="up/", template="{yyyy}/{id}-{filename}")
        storage = await opened(s3_place, settings)
        upload = await finished(storage, named("b", "cat.jpg"), b"meow")
        assert upload.path == "up/2023/b-cat.jpg"
        assert storage.locate(upload) == f"s3://{s3_place.bucket}/up/2023/b-cat.jpg"
        check_only(s3_place, {"up/2023/b-cat.jpg": b"meow"})
        await storage.close()

    async def test_small_appends_cost_two_calls_each(
        self, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = content_of(50 * MIB)
        record = Record(UPLOAD._replace(upload_length=2 * len(data)))
        await record.append(storage, data[:MIB])
        calls = counted(monkeypatch)
        for at in range(MIB, len(data), MIB):
            await record.append(storage, *pieces(data[at : at + MIB]))
        assert calls.total() <= 2 * 49, calls

    async def test_many_tiny_appends_are_joined(
        self, s3_place: S3Place, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = content_of(100)
        record = Record(UPLOAD._replace(upload_length=1000))
        await record.append(storage, data[:1])
        calls = counted(monkeypatch)
        for at in range(1, 100):
            await record.append(storage, data[at : at + 1])
        assert calls.total() <= 2 * 99, calls
        assert len(parse_placement(record.upload.placement).pieces) <= 33
        await record.finish(storage)
        check_only(s3_place, {"a": data})


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the calls to the store."""
    calls: Counter[str] = Counter()
    for name in ("put", "read", "delete", "begin", "upload_part", "complete", "head", "parts"):
        real = getattr(Bucket, name)

        def call(*args: Any, _name: str = name, _real: Any = real) -> Any:
            calls[_name] += 1
            return _real(*args)

        monkeypatch.setattr(Bucket, name, call)
    return calls


class TestKill:
    """A process ends at some step; what it had committed is all that another one knows."""

    @pytest.mark.parametrize("step", range(1, 5))
    async def test_at_each_commit(self, s3_place: S3Place, step: int) -> None:
        data = content_of(16 * MIB)
        record = Record(UPLOAD._replace(upload_length=len(data)), kill_at=step)
        await self.killed(s3_place, record, data)
        # Another client's bytes, from where the record says: none of the first may come back.
        other = data[: record.upload.upload_offset] + content_of(len(data), seed=2)
        await self.gone_on(s3_place, record, other[: len(data)])

    @pytest.mark.parametrize("call", ["begin", "upload_part", "put"])
    async def test_after_a_call_whose_answer_nobody_read(
        self, s3_place: S3Place, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        data = content_of(13 * MIB)
        record = Record(UPLOAD._replace(upload_length=len(data) + 1))
        real = getattr(Bucket, call)

        async def lost(*args: Any) -> None:
            await real(*args)
            if not args[1].endswith(".info"):
                raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(Bucket, call, lost)
            await self.killed(s3_place, record, data)
        await self.gone_on(s3_place, record, data + b"!")

    async def killed(self, place: S3Place, record: Record, data: bytes) -> None:
        # Numbers are reserved by twos then.
        storage = await opened(place, replace(SETTINGS, parallel=1))
        with pytest.raises(Killed):
            await record.append(storage, *pieces(data))
        await storage.close()
        record.kill_at = 0

    async def gone_on(self, place: S3Place, record: Record, data: bytes) -> None:
        storage = await opened(place)
        await record.append(storage, *pieces(data[record.upload.upload_offset :]))
        assert record.upload.upload_offset == len(data)
        await record.finish(storage)
        check_only(place, {"a": data})
        await storage.close()

    async def test_what_was_begun_and_not_recorded_goes_with_the_upload(
        self, s3_place: S3Place, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And no other: here, of another deployment under the same prefix."""
        key = {"Bucket": s3_place.bucket, "Key": "ab"}
        s3_place.client.create_multipart_upload(**key)
        record = Record(UPLOAD._replace(upload_length=20 * MIB), kill_at=2)
        with pytest.raises(Killed):
            await record.append(storage, *pieces(content_of(6 * MIB)))
        assert parse_placement(record.upload.placement).multipart == INTENDED
        assert len(s3_place.multiparts()) == 2
        await storage.remove(record.upload)
        assert [found for found, _ in s3_place.multiparts()] == ["ab"]


class TestFailure:
    @pytest.mark.parametrize("call", ["begin", "upload_part", "put"])
    async def test_what_the_store_did_not_take_does_not_count(
        self, s3_place: S3Place, storage: S3Storage, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        data = content_of(13 * MIB)
        record = Record(UPLOAD._replace(upload_length=len(data) + 1))
        await record.append(storage, data[:MIB])

        async def failing(*args: Any) -> None:
            raise StorageFailed

        with monkeypatch.context() as patched:
            patched.setattr(Bucket, call, failing)
            with pytest.raises(StorageFailed):
                await record.append(storage, *pieces(data[MIB:]))
        rest = (data + b"!")[record.upload.upload_offset :]
        await record.append(storage, *pieces(rest))
        await record.finish(storage)
        check_only(s3_place, {"a": data + b"!"})

    async def test_a_part_behind_one_that_failed_does_not_count(
        self, s3_place: S3Place, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Parts are sent at once, and the second may be stored when the first is not."""
        data = content_of(13 * MIB)
        record = Record(UPLOAD._replace(upload_length=len(data)))
        real, stored = Bucket.upload_part, asyncio.Event()

        async def failing(*args: Any) -> Any:
            if args[3] == 1:
                await stored.wait()
                raise StorageFailed
            part = await real(*args)
            stored.set()
            return part

        with monkeypatch.context() as patched:
            patched.setattr(Bucket, "upload_part", failing)
            with pytest.raises(StorageFailed):
                await record.append(storage, *pieces(data))
        async with storage.writer(record.upload) as writer:
            assert await writer.size() == 0
        await record.append(storage, *pieces(data))
        await record.finish(storage)
        check_only(s3_place, {"a": data})

    async def test_what_a_checksum_refused_is_never_part_of_it(
        self, s3_place: S3Place, storage: S3Storage
    ) -> None:
        wrong, data = content_of(12 * MIB, seed=3), content_of(12 * MIB)
        begun = UPLOAD._replace(upload_length=len(data) + 3)
        upload = await store(storage, begun, b"abc")
        async with storage.writer(upload) as writer:
            await writer.take(Bytes(pieces(wrong)), len(wrong), None, committed)
            await writer.cut(3)
            assert await writer.size() == 3
            upload = upload._replace(placement=writer.placement(3))
        record = Record(upload)
        await record.append(storage, *pieces(data))
        await record.finish(storage)
        check_only(s3_place, {"a": b"abc" + data})

    async def test_an_upload_that_is_too_long(self, s3_place: S3Place) -> None:
        rules = PartRules(preferred=5 * MIB, largest_object=6 * MIB)
        storage = await opened(s3_place, replace(SETTINGS, rules=rules))
        assert storage.largest_upload == 6 * MIB
        record = Record(UPLOAD._replace(upload_length=None))
        with pytest.raises(UploadTooLarge):
            await record.append(storage, *pieces(content_of(7 * MIB)))
        await storage.close()

    async def test_pieces_that_somebody_removed(
        self, s3_place: S3Place, storage: S3Storage
    ) -> None:
        record = Record(UPLOAD._replace(upload_length=6 * MIB))
        await record.append(storage, b"abc")
        for key in s3_place.objects():
            s3_place.client.delete_object(Bucket=s3_place.bucket, Key=key)
        with pytest.raises(StoredBytesLost):
            await record.append(storage, *pieces(content_of(6 * MIB - 3)))

    async def test_a_record_that_contradicts_itself(self, storage: S3Storage) -> None:
        upload = await store(storage, UPLOAD, b"abc")
        with pytest.raises(StoredBytesLost):
            await store(storage, upload._replace(upload_offset=4), b"d")


class TestFinish:
    async def test_is_resumed_after_its_answer_was_lost(
        self, s3_place: S3Place, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = content_of(11 * MIB)
        record = Record(UPLOAD._replace(upload_length=len(data)))
        await record.append(storage, *pieces(data))
        real = Bucket.complete

        async def lost(*args: Any) -> None:
            await real(*args)
            raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(Bucket, "complete", lost)
            with pytest.raises(Killed):
                await record.finish(storage)
        for _ in range(2):
            assert (await record.finish(storage)).path == "a"
        check_only(s3_place, {"a": data})

    async def test_is_known_where_the_store_lists_no_parts_behind_it(
        self, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One says that the multipart upload is gone, another that there is nothing in it."""
        record = Record(UPLOAD._replace(upload_length=11 * MIB))
        await record.append(storage, *pieces(content_of(11 * MIB)))
        before = record.upload
        await record.finish(storage)

        async def nothing(*_: object) -> list[Part]:
            return []

        monkeypatch.setattr(Bucket, "parts", nothing)
        assert await storage.finish(before, durable=True) == "a"

    async def test_a_part_that_somebody_replaced(
        self, s3_place: S3Place, storage: S3Storage
    ) -> None:
        """Nobody is told that all is well with what is not what came."""
        record = Record(UPLOAD._replace(upload_length=11 * MIB))
        await record.append(storage, *pieces(content_of(11 * MIB)))
        ((key, multipart),) = s3_place.multiparts()
        s3_place.client.upload_part(
            Bucket=s3_place.bucket,
            Key=key,
            UploadId=multipart,
            PartNumber=1,
            Body=content_of(5 * MIB, seed=5),
        )
        with pytest.raises(StoredBytesLost):
            await record.finish(storage)
        assert s3_place.multiparts() == [(key, multipart)]

    async def test_another_object_is_not_taken_for_ours(
        self, s3_place: S3Place, storage: S3Storage
    ) -> None:
        record = Record(UPLOAD._replace(upload_length=6 * MIB))
        await record.append(storage, *pieces(content_of(6 * MIB)))
        ((key, multipart),) = s3_place.multiparts()
        where = {"Bucket": s3_place.bucket, "Key": key}
        s3_place.client.abort_multipart_upload(**where, UploadId=multipart)
        s3_place.client.put_object(**where, Body=content_of(6 * MIB, seed=5))
        # Ceph's gateway says that a completion is in progress, for ever.
        with pytest.raises((StoredBytesLost, StorageFailed)):
            await record.finish(storage)
        assert not await storage.has(record.upload)
        assert await storage.remove(record.upload) == 0
        assert list(s3_place.objects()) == ["a"]


class TestRemove:
    @pytest.mark.parametrize("size", [3, 6 * MIB, 11 * MIB])
    async def test_nothing_is_left_of_an_unfinished_upload(
        self, s3_place: S3Place, storage: S3Storage, size: int
    ) -> None:
        record = Record(UPLOAD._replace(upload_length=100 * MIB))
        await record.append(storage, *pieces(content_of(size)))
        assert await storage.remove(record.upload) == size
        check_only(s3_place, {})
        assert "Contents" not in s3_place.client.list_objects_v2(Bucket=s3_place.bucket)
        assert await storage.remove(record.upload) == 0

    async def test_of_an_upload_without_a_byte(self, storage: S3Storage) -> None:
        assert await storage.remove(UPLOAD) == 0


class TestRead:
    async def test_a_range(self, storage: S3Storage) -> None:
        data = content_of(MIB)
        upload = await finished(storage, UPLOAD, data)
        read = [part async for part in storage.read(upload, 5, 700_000)]
        assert b"".join(read) == data[5:700_005]

    async def test_what_is_not_there(self, storage: S3Storage) -> None:
        upload = await finished(storage, UPLOAD, b"abc")
        await storage.remove(upload)
        with pytest.raises(UploadNotFound):
            await anext(storage.read(upload, 0, 3))

    async def test_is_no_file(self, storage: S3Storage, tmp_path: Path) -> None:
        upload = await finished(storage, UPLOAD, b"abc")
        with pytest.raises(NotImplementedError, match="s3://"):
            await storage.take(upload, tmp_path / "file")
        assert storage.put(upload, b"", durable=False) is None


class _Pausing(Bytes):
    """Its client sends half of it, and says `stored`; the rest comes when it goes on."""

    async def fill(self, buffer: memoryview) -> int:
        half = sum(map(len, self.pieces)) // 2
        if self._given == half:
            self.stored.set()
            assert self.goes_on is not None
            await self.goes_on.wait()
        until = half if self._given < half else 2 * half
        data = b"".join(self.pieces)[self._given : until][: len(buffer)]
        buffer[: len(data)] = data
        self._given += len(data)
        return len(data)


class TestMemory:
    async def test_more_uploads_than_it_holds_parts(self, s3_place: S3Place) -> None:
        """None waits for ever, and all memory is free in the end."""
        storage = await opened(s3_place, replace(SETTINGS, memory=11 * MIB))
        data = {f"u{number}": content_of(7 * MIB, number) for number in range(8)}
        records = [
            Record(UPLOAD._replace(id=name, upload_length=len(text))) for name, text in data.items()
        ]
        work = (record.append(storage, *pieces(data[record.upload.id])) for record in records)
        await asyncio.wait_for(asyncio.gather(*work), 60)
        for record in records:
            await record.finish(storage)
        check_only(s3_place, data)
        memory = storage._shared.memory
        assert memory.free == memory.total
        await storage.close()

    async def test_silent_clients_do_not_keep_it(self, s3_place: S3Place) -> None:
        """Each holds half a part; under pressure that becomes a piece, and others go on."""
        storage = await opened(s3_place, replace(SETTINGS, memory=10 * MIB))
        silent = [Bytes([content_of(3 * MIB, n)], goes_on=asyncio.Event()) for n in range(3)]
        records = [Record(UPLOAD._replace(id=f"s{n}", upload_length=9 * MIB)) for n in range(3)]
        async with asyncio.timeout(60):
            tasks = []
            for record, body in zip(records, silent, strict=True):
                tasks.append(asyncio.create_task(self.take(storage, record, body)))
                await body.stored.wait()
            fast = Record(UPLOAD._replace(id="f", upload_length=12 * MIB))
            data = content_of(12 * MIB, 9)
            await fast.append(storage, *pieces(data))
            await fast.finish(storage)
            assert s3_place.content("f") == data
            for body in silent:
                assert body.goes_on is not None
                body.goes_on.set()
            await asyncio.gather(*tasks)
        assert [record.upload.upload_offset for record in records] == [3 * MIB] * 3
        await storage.close()

    async def test_a_fast_client_gets_the_same_again(
        self, s3_place: S3Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """New memory costs the kernel more than the rest of an upload; old bytes must not show."""
        made: list[int] = []

        def make(size: int, tail: int) -> _Buffer:
            made.append(size)
            return _Buffer(size, tail)

        monkeypatch.setattr(s3_writer, "_Buffer", make)
        storage = await opened(s3_place, replace(SETTINGS, memory=64 * MIB))
        record, data = Record(UPLOAD._replace(upload_length=63 * MIB)), content_of(63 * MIB)
        await record.append(storage, *pieces(data))
        await record.finish(storage)
        assert s3_place.content(UPLOAD.id) == data
        assert 2 <= len(made) <= SETTINGS.parallel + 3, "of 13 parts"
        assert storage._shared.memory.free == storage._shared.memory.total
        await storage.close()

    @pytest.mark.parametrize("size", [10 * MIB, 15 * MIB])
    async def test_who_waits_for_a_client_keeps_none_for_it(
        self, s3_place: S3Place, size: int
    ) -> None:
        """A part was stored, and the client sends no more for now: others have what it had."""
        storage = await opened(s3_place, replace(SETTINGS, memory=64 * MIB))
        body = _Pausing(pieces(content_of(size)), goes_on=asyncio.Event())
        record = Record(UPLOAD._replace(upload_length=size))
        task = asyncio.create_task(self.take(storage, record, body))
        memory, begun = storage._shared.memory, size // 2 % (5 * MIB)
        async with asyncio.timeout(30):
            await body.stored.wait()
            # Not more than the part that has begun may take.
            while memory.total - memory.free > (5 * MIB if begun else 0):
                await asyncio.sleep(0.01)
            assert body.goes_on is not None
            body.goes_on.set()
            await task
        await storage.close()

    async def test_what_no_byte_has_come_to_takes_none(self) -> None:
        """Otherwise each of a thousand slow clients has a whole part in memory, not a page."""
        process = psutil.Process()
        before = process.memory_info().rss
        buffer = _Buffer(512 * MIB, 0)
        buffer.data[:PAGE] = bytes(PAGE)
        assert process.memory_info().rss - before < 128 * MIB

    async def take(self, storage: S3Storage, record: Record, body: Bytes) -> None:
        async with storage.writer(record.upload) as writer:
            await writer.take(body, 9 * MIB, None, committed)
            offset = await writer.size()
            record.upload = record.upload._replace(upload_offset=offset)


class TestProbe:
    async def test_a_bucket_that_is_there(self, storage: S3Storage) -> None:
        await storage.probe()

    async def test_one_that_has_gone(self, s3_place: S3Place) -> None:
        storage = await opened(s3_place)
        for key in s3_place.client.list_objects_v2(Bucket=s3_place.bucket).get("Contents", []):
            s3_place.client.delete_object(Bucket=s3_place.bucket, Key=key["Key"])
        s3_place.client.delete_bucket(Bucket=s3_place.bucket)
        with pytest.raises(StorageFailed) as failed:
            await storage.probe()
        assert "Not Found" in str(failed.value.__cause__)
        await storage.close()


class TestSettings:
    @pytest.mark.parametrize("template", ["{filename}", "fixed"])
    async def test_a_template_without_the_id(self, template: str) -> None:
        with pytest.raises(InvalidTemplate):
            S3Storage("bucket", replace(SETTINGS, template=template))

    async def test_too_little_memory(self) -> None:
        with pytest.raises(ValueError, match="memory"):
            S3Storage("bucket", replace(SETTINGS, memory=9 * MIB))

    async def test_a_bucket_that_is_not_there(self, s3_place: S3Place) -> None:
        storage = S3Storage("not-there", replace(SETTINGS, access=s3_place.access))
        with pytest.raises(WrongInstance, match="the bucket 'not-there' cannot be used"):
            await storage.open("mine", is_new=True, trust_unsynced=False)
