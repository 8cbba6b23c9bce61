"""The bucket alone is enough: whatever broke before, it tells no less than was acknowledged, and
nothing that was not stored, or not verified. `TUSD_PY_TEST_WALKS=50` tries more of it at random.
"""

import hashlib
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.storage.bodies import Bytes
from tests.storage.s3_place import S3Place
from tests.storage.samples import NOW, UPLOAD, committed, named, store
from tusd_py.body import Received
from tusd_py.protocol.concat import Final, Partial
from tusd_py.protocol.errors import StorageFailed, StoredBytesLost
from tusd_py.protocol.upload import Phase, Reply, Tail, Upload, completed
from tusd_py.storage.interface import Writer, WrongInstance
from tusd_py.storage.s3 import S3Settings, S3Storage
from tusd_py.storage.s3_bucket import Bucket
from tusd_py.storage.s3_parts import PartRules
from tusd_py.storage.s3_placement import parse_placement

pytestmark = pytest.mark.anyio

KIB, MIB = 1 << 10, 1 << 20
PART = 64 * KIB
RULES = PartRules(preferred=PART, smallest=PART, largest=PART)
SETTINGS = S3Settings(rules=RULES, memory=2 * MIB, parallel=2)
BEGUN = UPLOAD._replace(upload_length=100 * MIB)


SEEDS = range(4, 4 + int(os.environ.get("TUSD_PY_TEST_WALKS", "1")))
"""How often everything is tried at random; the first of them has found something."""

STEPS = 40


class Killed(BaseException):
    """The process ends here: nothing that follows is done."""


@pytest.fixture
async def storage(s3_place: S3Place) -> AsyncIterator[S3Storage]:
    made = await opened(s3_place)
    yield made
    await made.close()


async def opened(
    place: S3Place, settings: S3Settings = SETTINGS, *, instance: str = "mine", owner: str = ""
) -> S3Storage:
    made = place.storage(settings)
    await made.open(instance, is_new=True, trust_unsynced=False, owner=owner)
    return made


async def recalled(storage: S3Storage, upload_id: str = "a") -> Upload:
    found = await storage.recall(upload_id)
    assert found is not None
    return found


def stored(place: S3Place, upload: Upload) -> Iterator[tuple[int, str]]:
    """Bytes and MD5 of all that counts, in order, as a client that is not ours sees it."""
    placement = parse_placement(upload.placement)
    if placement.multipart:
        where = {"Bucket": place.bucket, "Key": placement.key, "UploadId": placement.multipart}
        for part in place.client.list_parts(**where).get("Parts", ()):
            if placement.chain.has(part["PartNumber"]):
                yield part["Size"], part["ETag"].strip('"')
    prefix = f".tusd-py/{upload.id}.tail-"
    listed = place.client.list_objects_v2(Bucket=place.bucket, Prefix=prefix).get("Contents", ())
    found = {each["Key"]: (each["Size"], each["ETag"].strip('"')) for each in listed}
    for piece in placement.pieces:
        yield found[f"{prefix}{piece.number}"]


def are(counted: Iterable[tuple[int, str]], content: bytes) -> bool:
    """Whether what counts is just these bytes."""
    at = 0
    for size, md5 in counted:
        if hashlib.md5(content[at : at + size]).hexdigest() != md5:
            return False
        at += size
    return at == len(content)


@dataclass
class Faults:
    """What becomes of the calls of one append.

    Attributes:
        at: The call that fails, counted from 1; 0 for none.
        error: What it fails with; from a `Killed` on none succeeds.
        chance: Whether a call that fails is done all the same.
    """

    at: int
    error: type[BaseException]
    chance: random.Random
    calls: int = 0
    is_dead: bool = False

    @contextmanager
    def armed(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patched:
            for name in ("put", "begin", "upload_part", "delete"):
                patched.setattr(Bucket, name, self._failing(getattr(Bucket, name)))
            yield

    def _failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any) -> Any:
            self.calls += 1
            fails = self.is_dead or self.calls == self.at
            self.is_dead = self.is_dead or (fails and self.error is Killed)
            if not fails:
                return await real(*args)
            if self.chance.random() < 0.5:
                await real(*args)
            raise self.error

        return call


@dataclass
class Life:
    """An upload, and what its clients were told.

    Attributes:
        upload: The record as it was committed.
        content: What was acknowledged.
        maybe: What may have been stored instead: that, and bytes behind it of plain appends.
    """

    storage: S3Storage
    upload: Upload
    content: bytes = b""
    maybe: list[bytes] = field(default_factory=lambda: [b""])

    async def append(self, data: bytes, faults: Faults, *, counts: bool | None) -> None:
        """As the engine does it; `counts` is whether its checksum is right, None for none."""
        before = self.content
        error: BaseException | None = None
        try:
            async with self.storage.writer(self.upload) as writer:
                error = await self._take(writer, data, faults, counts)
        except (StorageFailed, Killed) as failed:
            error = failed
        whole = before + data
        self.content = whole[: self.upload.upload_offset]
        if len(self.content) > len(before):
            self.maybe = [self.content]
        if counts is None or (counts and error is not None):
            self.maybe.append(whole)

    async def _take(
        self, writer: Writer, data: bytes, faults: Faults, counts: bool | None
    ) -> BaseException | None:
        before, error = len(self.content), None

        async def commit(*, durable: bool = False) -> None:
            if faults.is_dead:
                raise Killed
            offset = await writer.size() if counts is None else before
            self._commit(writer.upload, offset, writer.placement(offset))

        def judge(_: Received) -> bool:
            return bool(counts)

        await commit()
        pieces = [data[at : at + 16 * KIB] for at in range(0, len(data), 16 * KIB)]
        try:
            check = None if counts is None else judge
            await writer.take(Bytes(pieces), len(data), None, commit, check)
        except StorageFailed as failed:
            error = failed
        if counts is False or (counts and error is not None):
            await writer.cut(before)
        self._commit(writer.upload, await writer.size(), writer.placement(await writer.size()))
        return error

    def _commit(self, upload: Upload, offset: int, placement: str) -> None:
        self.upload = upload._replace(upload_offset=offset, placement=placement)

    def told(self, place: S3Place, found: Upload) -> bytes:
        """What the bucket alone tells, which must be what was acknowledged, or more of it."""
        assert found.upload_offset >= len(self.content), "less than was acknowledged"
        counted = list(stored(place, found))
        assert sum(size for size, _ in counted) == found.upload_offset
        for candidate in self.maybe:
            content = candidate[: found.upload_offset]
            if are(counted, content):
                assert content.startswith(self.content)
                return content
        raise AssertionError(f"{found.upload_offset} bytes, and not those that were sent")


@pytest.mark.parametrize("takes_gaps", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_breaks(
    s3_place: S3Place,
    storage: S3Storage,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    takes_gaps: bool,
) -> None:
    """Appends with and without checksums, right and wrong ones, errors and kills at any call, and
    the state lost now and then.

    Ceph's gateway wants all parts that it has in the object; others let some be left out. Which is
    only tried at the end, so the first steps can be those of any store.
    """
    chance = random.Random(seed)
    storage._bucket._takes_gaps = takes_gaps
    await storage.note(BEGUN)
    life, lost = Life(storage, BEGUN), 0
    for _ in range(STEPS):
        size = chance.choice([1, 1000, 30 * KIB, PART, 100 * KIB, 3 * PART, 300 * KIB])
        counts = chance.choice([None, None, None, True, False])
        faults = Faults(
            at=chance.choice([0, 0, *range(1, 9)]),
            error=chance.choice([StorageFailed, Killed]),
            chance=chance,
        )
        with faults.armed(monkeypatch):
            await life.append(chance.randbytes(size), faults, counts=counts)
        found = await recalled(storage)
        content = life.told(s3_place, found)
        if chance.random() < 0.3:
            lost += 1
            life.upload = life.upload._replace(
                upload_offset=found.upload_offset, placement=found.placement
            )
            life.content, life.maybe = content, [content]
    assert lost


async def test_parts_behind_one_that_failed_do_not_hide_those_that_came_later(
    storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage._bucket._takes_gaps = True
    await storage.note(BEGUN)
    chance = random.Random(1)
    life = Life(storage, BEGUN)
    begin_and_one_part = Faults(at=2, error=StorageFailed, chance=random.Random(2))
    with begin_and_one_part.armed(monkeypatch):
        await life.append(chance.randbytes(3 * PART), begin_and_one_part, counts=None)
    assert life.upload.upload_offset == 0
    await life.append(
        chance.randbytes(2 * PART), Faults(at=0, error=Killed, chance=chance), counts=None
    )
    assert life.upload.upload_offset == 2 * PART
    assert (await recalled(storage)).upload_offset == 2 * PART


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the calls to the store."""
    calls: Counter[str] = Counter()
    for name in ("put", "read", "delete", "begin", "upload_part", "head", "parts", "get"):
        real = getattr(Bucket, name)

        def call(*args: Any, _name: str = name, _real: Any = real) -> Any:
            calls[_name] += 1
            return _real(*args)

        monkeypatch.setattr(Bucket, name, call)
    return calls


async def test_small_appends_with_checksums_cost_two_calls_each(
    storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is verified before it is stored needs no further word in the bucket."""
    life, chance = Life(storage, BEGUN), random.Random(1)
    faults = Faults(at=0, error=Killed, chance=chance)
    await life.append(chance.randbytes(PART // 8), faults, counts=True)
    calls = counted(monkeypatch)
    for _ in range(63):
        await life.append(chance.randbytes(PART // 8), faults, counts=True)
    assert life.upload.upload_offset == 8 * PART
    assert calls.total() <= 2 * 63, calls


async def test_long_appends_cost_no_calls_for_notes(
    storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch)
    chance = random.Random(1)
    life = Life(storage, BEGUN)
    await life.append(
        chance.randbytes(8 * PART), Faults(at=0, error=Killed, chance=chance), counts=None
    )
    assert calls == {"begin": 1, "upload_part": 8}


RECORDS = [
    named("a", "film.mkv", upload_length=7, expires_at=NOW + 60, principal="ann"),
    named("a", "film.mkv", changed_metadata="filename Zm9v", target="shows/1-a.mkv"),
    UPLOAD._replace(upload_length=None, concat=Partial()),
    UPLOAD._replace(
        upload_length=None,
        concat=Final(("/files/p", "/files/q")),
        parts=("p", "q"),
        tail=Tail.SEALED,
    ),
]


class TestRecall:
    @pytest.mark.parametrize("upload", RECORDS)
    async def test_all_that_was_noted_comes_back(self, storage: S3Storage, upload: Upload) -> None:
        await storage.note(upload)
        found = await recalled(storage)
        assert found._replace(placement="") == upload
        assert storage.locate(found) == storage.locate(upload)

    async def test_of_a_complete_upload_too(self, storage: S3Storage) -> None:
        reply = Reply(status=201, headers={"X-Film": "1"}, body="thanks")
        whole = await store(storage, UPLOAD._replace(upload_length=3), b"abc")
        path = await storage.finish(whole, durable=True)
        done = completed(whole, path, reply)
        await storage.note(done)
        found = await recalled(storage)
        told = done._replace(synced_offset=3, placement=found.placement)
        assert found == told
        assert b"".join([data async for data in storage.read(found, 0, 3)]) == b"abc"
        assert await storage.remove(found) == 3

    async def test_an_object_that_was_made_is_not_made_again(
        self, s3_place: S3Place, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed between the last call that matters and those that clear up."""
        whole = UPLOAD._replace(upload_length=3)
        await storage.note(whole)
        whole = await store(storage, whole, b"abc")

        async def killed(*_: object) -> None:
            raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(Bucket, "delete", killed)
            with pytest.raises(Killed):
                await storage.finish(whole, durable=True)
        found = await recalled(storage)
        assert (found.phase, found.upload_offset) == (Phase.FINISHING, 3)
        assert await storage.finish(found, durable=True) == "a"
        assert s3_place.objects() == {"a": b"abc"}

    async def test_a_multipart_upload_that_is_begun_late_goes_in_the_end(
        self, s3_place: S3Place, storage: S3Storage
    ) -> None:
        """Whoever had the upload before was killed with a call on its way."""
        whole = UPLOAD._replace(upload_length=3)
        await storage.note(whole)
        found = await recalled(storage)
        s3_place.client.create_multipart_upload(Bucket=s3_place.bucket, Key="a")
        await storage.finish(await store(storage, found, b"abc"), durable=True)
        assert s3_place.multiparts() == []

    async def test_all_bytes_without_their_object_begin_the_finish(
        self, s3_place: S3Place, storage: S3Storage
    ) -> None:
        whole = UPLOAD._replace(upload_length=3)
        await storage.note(whole)
        await store(storage, whole, b"abc")
        found = await recalled(storage)
        assert found.phase is Phase.FINISHING
        assert await storage.finish(found, durable=True) == "a"
        assert s3_place.objects() == {"a": b"abc"}

    async def test_two_under_one_key_that_the_application_chose(
        self, s3_place: S3Place, storage: S3Storage
    ) -> None:
        """Otherwise one would go on with the bytes of the other."""
        lives = []
        for number, counts in enumerate((None, True)):
            upload = BEGUN._replace(id=f"a{number}", target="film")
            await storage.note(upload)
            life = Life(storage, upload)
            lives.append(life)
            faults = Faults(at=0, error=Killed, chance=random.Random(1))
            for size in (3, (3 + number) * PART, 5):
                data = random.Random(number).randbytes(size)
                await life.append(data, faults, counts=counts)
        for life in lives:
            found = await recalled(storage, life.upload.id)
            assert found.upload_offset == life.upload.upload_offset
            assert are(stored(s3_place, found), life.content)

    @pytest.mark.parametrize("size", [3, 2 * PART, 2 * PART + 3])
    async def test_what_was_cut_when_it_had_come(self, storage: S3Storage, size: int) -> None:
        """Nobody could be asked any more whether it counts; it must not end the upload then."""
        upload = UPLOAD._replace(upload_length=PART + size)
        await storage.note(upload)
        upload = await store(storage, upload, bytes(PART))
        async with storage.writer(upload) as writer:
            await writer.take(Bytes([bytes(size)]), size, None, committed)
            assert await writer.size() == PART + size
            await writer.cut(PART)
            upload = upload._replace(placement=writer.placement(PART))
        found = await recalled(storage)
        assert (found.phase, found.upload_offset) == (Phase.RECEIVING, PART)
        await store(storage, upload, bytes(size))
        assert (await recalled(storage)).upload_offset == PART + size

    async def test_what_is_not_there(self, storage: S3Storage) -> None:
        assert await storage.recall("a") is None

    @pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'{"version": 2}', b'{"version": 1}'])
    async def test_an_info_that_is_not_understood(
        self, s3_place: S3Place, storage: S3Storage, body: bytes
    ) -> None:
        s3_place.client.put_object(Bucket=s3_place.bucket, Key=".tusd-py/a.info", Body=body)
        with pytest.raises(StoredBytesLost):
            await storage.recall("a")

    async def test_pieces_that_somebody_removed(
        self, s3_place: S3Place, storage: S3Storage
    ) -> None:
        await storage.note(UPLOAD)
        upload = await store(storage, await store(storage, UPLOAD, b"abc"), b"def")
        first = parse_placement(upload.placement).pieces[0].number
        s3_place.client.delete_object(Bucket=s3_place.bucket, Key=f".tusd-py/a.tail-{first}")
        with pytest.raises(StoredBytesLost):
            await storage.recall("a")

    async def test_pieces_of_an_upload_whose_id_begins_alike(self, storage: S3Storage) -> None:
        for upload_id in ("a", "a.tail-1", "a.b"):
            upload = UPLOAD._replace(id=upload_id)
            await storage.note(upload)
            await store(storage, upload, upload_id.encode())
        for upload_id in ("a", "a.tail-1", "a.b"):
            found = await recalled(storage, upload_id)
            assert found.upload_offset == len(upload_id)
        assert sorted([each async for each in storage.noted()]) == ["a", "a.b", "a.tail-1"]


class TestRemove:
    @pytest.mark.parametrize("size", [0, 3, 3 * PART])
    async def test_takes_the_info_and_all_marks(
        self, s3_place: S3Place, storage: S3Storage, size: int
    ) -> None:
        await storage.note(UPLOAD)
        life = Life(storage, BEGUN)
        faults = Faults(at=0, error=Killed, chance=random.Random(1))
        for counts in (None, False, True):
            await life.append(bytes(size), faults, counts=counts)
        await storage.remove(life.upload)
        assert "Contents" not in s3_place.client.list_objects_v2(Bucket=s3_place.bucket)
        assert s3_place.multiparts() == []


class TestInstance:
    async def test_of_a_state_that_was_lost(
        self, s3_place: S3Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is known by its owner, and only its own uploads come back."""
        for instance, owner in (("one", "host:/a"), ("two", "host:/b")):
            storage = await opened(s3_place, instance=instance, owner=owner)
            await storage.note(UPLOAD._replace(id=instance))
            await storage.close()
        again = s3_place.storage(SETTINGS)
        assert await again.instance("host:/a") == "one"
        assert not caplog.records
        assert await again.instance("host:/c") is None
        assert "uploads of 'host:/a', 'host:/b' here, and none of 'host:/c'" in caplog.text
        await again.open("one", is_new=True, trust_unsynced=False, owner="host:/a")
        assert await again.recall("one") is not None
        assert await again.recall("two") is None
        await again.close()

    async def test_follows_a_state_that_is_moved(self, s3_place: S3Place) -> None:
        """A new one at its old place is another."""
        for owner in ("host:/a", "host:/b"):
            storage = await opened(s3_place, instance="one", owner=owner)
            await storage.close()
        again = s3_place.storage(SETTINGS)
        assert await again.instance("host:/a") is None
        assert await again.instance("host:/b") == "one"
        await again.close()

    async def test_two_that_were_lost_are_not_told_apart(self, s3_place: S3Place) -> None:
        for instance in ("one", "two"):
            storage = await opened(s3_place, instance=instance, owner="host:/a")
            await storage.close()
        again = s3_place.storage(SETTINGS)
        with pytest.raises(WrongInstance, match=r"!one\.info, .*!two\.info"):
            await again.instance("host:/a")
        await again.close()

    async def test_the_owner_can_be_given(self, s3_place: S3Place) -> None:
        """Where hosts have no names that last."""
        settings = replace(SETTINGS, owner="films")
        storage = await opened(s3_place, settings, instance="one", owner="pod-1:/a")
        await storage.close()
        again = s3_place.storage(settings)
        assert await again.instance("pod-2:/a") == "one"
        await again.close()
