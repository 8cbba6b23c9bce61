"""Finals made inside the store: whole, in order, with hardly a byte read, whatever breaks."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.s3_place import S3Place
from tests.storage.s3_servers import S3Server
from tests.storage.samples import UPLOAD, committed
from tests.storage.test_s3 import (
    SETTINGS,
    Killed,
    Record,
    check_only,
    content_of,
    opened,
    pieces,
)
from tusd_py.protocol.concat import Final, Partial
from tusd_py.protocol.errors import StorageFailed, UploadTooLarge
from tusd_py.protocol.upload import Upload
from tusd_py.storage.s3 import S3Storage
from tusd_py.storage.s3_bucket import Bucket
from tusd_py.storage.s3_concat import Plan, Span, plan_parts
from tusd_py.storage.s3_parts import GIB, MIB, TIB, OutOfParts, PartRules
from tusd_py.storage.s3_placement import parse_placement

FINAL = UPLOAD._replace(id="f", upload_length=None, concat=Final(("/files/p",)))

SMALL = PartRules(preferred=5, smallest=5, largest=40, most_parts=12, largest_object=400)


def spread(plan: Plan) -> list[tuple[int, int]]:
    """Source and offset of each byte."""
    return [
        (span.source, span.offset + at) for part in plan for span in part for at in range(span.size)
    ]


def sizes_of(plan: Plan) -> list[int]:
    return [sum(span.size for span in part) for part in plan]


class TestPlan:
    @given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=20), equal=st.booleans())
    def test_has_every_byte_once_in_parts_that_the_store_takes(
        self, sizes: list[int], equal: bool
    ) -> None:
        rules = replace(SMALL, equal=equal)
        try:
            plan = plan_parts(rules, sizes, joined=20)
        except OutOfParts:
            assert sum(sizes) > (12 if equal else 11) * 20
            return
        assert spread(plan) == [(n, at) for n, size in enumerate(sizes) for at in range(size)]
        assert len(plan) <= rules.most_parts
        *but_last, last = sizes_of(plan)
        assert all(rules.smallest <= size <= rules.largest for size in but_last)
        assert last <= rules.largest
        if equal:
            assert {*but_last, last} == {max(but_last, default=last), last}
            assert len(set(but_last)) <= 1
            assert last <= max(but_last, default=last)

    @given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=20))
    def test_reads_only_what_is_too_short(self, sizes: list[int]) -> None:
        plan = plan_parts(replace(SMALL, most_parts=1_000, largest_object=10_000), sizes, joined=20)
        for part in plan:
            if len(part) > 1:
                assert sum(span.size for span in part) < 2 * SMALL.smallest
            else:
                (span,) = part
                size = sizes[span.source]
                # AWS takes no range of anything shorter.
                assert span.size == size or size > SMALL.smallest

    @pytest.mark.parametrize(
        ("sizes", "expected"),
        [
            # Copied whole, however short the last is.
            ([5 * MIB, 1], [[(0, 0, 5 * MIB)], [(1, 0, 1)]]),
            ([256 * MIB], [[(0, 0, 256 * MIB)]]),
            # In ranges of about a size.
            (
                [GIB - 2],
                [
                    [(0, 0, 256 * MIB - 1)],
                    [(0, 256 * MIB - 1, 256 * MIB)],
                    [(0, 512 * MIB - 1, 256 * MIB - 1)],
                    [(0, 768 * MIB - 2, 256 * MIB)],
                ],
            ),
            # Filled up from the next one, whose rest is copied.
            ([MIB, 20 * MIB], [[(0, 0, MIB), (1, 0, 4 * MIB)], [(1, 4 * MIB, 16 * MIB)]]),
            # Or with all of it, where the rest would be too short again.
            ([MIB, 8 * MIB, 6 * MIB], [[(0, 0, MIB), (1, 0, 8 * MIB)], [(2, 0, 6 * MIB)]]),
            ([1, 2, 3], [[(0, 0, 1), (1, 0, 2), (2, 0, 3)]]),
        ],
    )
    def test_of_some(self, sizes: list[int], expected: list[list[tuple[int, int, int]]]) -> None:
        plan = plan_parts(PartRules(), sizes, joined=128 * MIB)
        assert [
            [(span.source, span.offset, span.size) for span in part] for part in plan
        ] == expected

    def test_the_longest_object_is_copied_in_ranges_of_five_gib_at_most(self) -> None:
        rules = PartRules(most_parts=1_100)
        plan = plan_parts(rules, [5 * TIB], joined=128 * MIB)
        assert len(plan) <= 1_100
        assert max(sizes_of(plan)) <= 5 * GIB
        assert sum(sizes_of(plan)) == 5 * TIB

    def test_many_short_ones_are_joined_to_longer_parts(self) -> None:
        plan = plan_parts(PartRules(most_parts=400), [5 * MIB] * 1_000, joined=128 * MIB)
        assert len(plan) <= 400
        # And no longer than that takes, since they are read.
        assert max(sizes_of(plan)) < 40 * MIB

    @pytest.mark.parametrize(
        ("rules", "sizes"),
        [
            (PartRules(), [5 * TIB, 1]),
            (PartRules(most_parts=2), [5 * GIB] * 3),
            (PartRules(equal=True), [5 * TIB]),
        ],
    )
    def test_what_the_store_does_not_take(self, rules: PartRules, sizes: list[int]) -> None:
        with pytest.raises(OutOfParts):
            plan_parts(rules, sizes, joined=128 * MIB)

    def test_equal_parts_cross_from_one_object_to_the_next(self) -> None:
        plan = plan_parts(PartRules(equal=True), [12 * MIB, 9 * MIB], joined=128 * MIB)
        first = (Span(source=0, offset=0, size=8 * MIB),)
        across = (
            Span(source=0, offset=8 * MIB, size=4 * MIB),
            Span(source=1, offset=0, size=4 * MIB),
        )
        assert plan == [first, across, (Span(source=1, offset=4 * MIB, size=5 * MIB),)]


async def stored(storage: S3Storage, *sizes: int) -> tuple[list[Upload], bytes]:
    """Complete partial uploads, and what they are together."""
    parts, whole = [], b""
    for number, size in enumerate(sizes):
        data = content_of(size, seed=number)
        upload = UPLOAD._replace(id=f"p{number}", upload_length=size, concat=Partial())
        record = Record(upload)
        await record.append(storage, *pieces(data))
        parts.append(await record.finish(storage))
        whole += data
    return parts, whole


class Finals:
    """What an engine does with the record of a final."""

    def __init__(self, kill_at: int = 0) -> None:
        self.upload = FINAL
        self.kill_at = kill_at
        self.commits = 0

    async def assemble(self, storage: S3Storage, parts: list[Upload]) -> None:
        async def commit(placement: str) -> None:
            self.commits += 1
            if self.commits == self.kill_at:
                raise Killed
            self.upload = self.upload._replace(placement=placement)

        placement = await storage.concatenate(self.upload, parts, durable=True, commit=commit)
        length = sum(part.upload_offset for part in parts)
        self.upload = self.upload._replace(
            placement=placement, upload_offset=length, upload_length=length
        )
        self.upload = self.upload._replace(path=await storage.finish(self.upload, durable=True))


def counted(monkeypatch: pytest.MonkeyPatch, *names: str) -> Counter[str]:
    """Counts calls to the store."""
    calls: Counter[str] = Counter()
    for name in names:
        real = getattr(Bucket, name)

        def call(*args: Any, _name: str = name, _real: Any = real, **kwargs: Any) -> Any:
            calls[_name] += 1
            return _real(*args, **kwargs)

        monkeypatch.setattr(Bucket, name, call)
    return calls


def expected(parts: list[Upload], data: bytes, whole: bytes) -> dict[str, bytes]:
    """What lies in the bucket with the final."""
    found, at = {"f": whole}, 0
    for part in parts:
        found[part.id] = data[at : at + part.upload_offset]
        at += part.upload_offset
    return found


pytestmark = pytest.mark.anyio


class TestConcatenate:
    async def test_copies_inside_the_store(
        self, s3_place: S3Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only the short ones are read, and those that fill them up."""
        rules = PartRules(preferred=5 * MIB, largest=11 * MIB)
        storage = await opened(s3_place, replace(SETTINGS, rules=rules))
        parts, data = await stored(storage, 24 * MIB + 5, 3, 0, MIB, 17 * MIB, 7)
        calls = counted(monkeypatch, "read", "upload_part", "copy_part")
        final = Finals()
        await final.assemble(storage, parts)
        # 24 MiB by three, 3 bytes + 1 MiB + the first of 17 as one, their rest by two, 7 bytes.
        assert calls == {"copy_part": 6, "read": 3, "upload_part": 1}
        check_only(s3_place, expected(parts, data, data))
        memory = storage._shared.memory
        assert memory.free == memory.total
        await storage.close()

    async def test_of_equal_parts(self, s3_place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
        rules = PartRules(preferred=5 * MIB, equal=True)
        storage = await opened(s3_place, replace(SETTINGS, rules=rules))
        parts, data = await stored(storage, 12 * MIB, 3, 9 * MIB, 4 * MIB)
        calls = counted(monkeypatch, "upload_part", "copy_part")
        final = Finals()
        await final.assemble(storage, parts)
        sizes = [part.size for part in parse_placement(final.upload.placement).parts]
        assert sizes == [5 * MIB] * 5 + [3]
        # Two go from one object to the next; the last is a range of one that is too short for that.
        assert calls == {"copy_part": 3, "upload_part": 3}
        check_only(s3_place, expected(parts, data, data))
        await storage.close()

    async def test_on_swift(self, swift_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in swift_server.environment.items():
            monkeypatch.setenv(name, value)
        place = S3Place(swift_server)
        storage = await opened(place)
        parts, data = await stored(storage, 12 * MIB, 3, 9 * MIB, 6 * MIB)
        final = Finals()
        await final.assemble(storage, parts)
        check_only(place, expected(parts, data, data))
        await storage.close()

    @pytest.mark.parametrize("step", [1, 2])
    async def test_is_begun_anew_after_a_kill_at_a_commit(
        self, s3_place: S3Place, step: int
    ) -> None:
        storage = await opened(s3_place)
        parts, data = await stored(storage, 6 * MIB, 7 * MIB)
        final = Finals(kill_at=step)
        with pytest.raises(Killed):
            await final.assemble(storage, parts)
        await final.assemble(storage, parts)
        check_only(s3_place, expected(parts, data, data))
        await storage.close()

    @pytest.mark.parametrize(
        "call", ["begin", "copy_part", "upload_part", "complete", "abort", "delete"]
    )
    async def test_is_begun_anew_after_a_kill_at_a_call(
        self, s3_place: S3Place, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        """Its answer was never read; what it did in the store is done."""
        storage = await opened(s3_place)
        parts, data = await stored(storage, 12 * MIB, 3, MIB, 7 * MIB)
        final = Finals()
        with monkeypatch.context() as patched:
            # As a first attempt that failed, so that there is something to be aborted.
            patched.setattr(Bucket, "copy_part", raising(StorageFailed))
            with pytest.raises(StorageFailed):
                await final.assemble(storage, parts)
        with monkeypatch.context() as patched:
            real: Callable[..., Awaitable[object]] = getattr(Bucket, call)

            async def lost(*args: Any, **kwargs: Any) -> None:
                await real(*args, **kwargs)
                raise Killed

            patched.setattr(Bucket, call, lost)
            with pytest.raises(Killed):
                await final.assemble(storage, parts)
        if final.upload.path is None and final.upload.upload_offset:
            # The engine knows that it was assembled, and goes on there.
            await storage.finish(final.upload, durable=True)
        else:
            await final.assemble(storage, parts)
        check_only(s3_place, expected(parts, data, data))
        await storage.close()

    async def test_what_a_killed_process_begins_late_goes_too(
        self, s3_place: S3Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its call was on the way, and came to the store behind the next attempt's."""
        storage = await opened(s3_place)
        parts, data = await stored(storage, 6 * MIB)
        final = Finals()
        with monkeypatch.context() as patched:
            patched.setattr(Bucket, "begin", raising(StorageFailed))
            with pytest.raises(StorageFailed):
                await final.assemble(storage, parts)
        real = Bucket.begin

        async def late(*args: Any, **kwargs: Any) -> tuple[str, bool]:
            s3_place.client.create_multipart_upload(Bucket=s3_place.bucket, Key="f")
            return await real(*args, **kwargs)

        monkeypatch.setattr(Bucket, "begin", late)
        await final.assemble(storage, parts)
        check_only(s3_place, expected(parts, data, data))
        await storage.close()

    async def test_one_that_was_begun_is_removed_whole(
        self, s3_place: S3Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage = await opened(s3_place)
        parts, data = await stored(storage, 6 * MIB, 7 * MIB)
        final = Finals()
        for _ in range(2):
            with monkeypatch.context() as patched:
                patched.setattr(Bucket, "copy_part", raising(StorageFailed))
                with pytest.raises(StorageFailed):
                    await final.assemble(storage, parts)
        assert len(s3_place.multiparts()) == 1
        await storage.remove(final.upload)
        check_only(s3_place, {"p0": data[: 6 * MIB], "p1": data[6 * MIB :]})
        await storage.close()

    async def test_another_object_under_the_name_of_a_part_is_not_taken(
        self, s3_place: S3Place
    ) -> None:
        storage = await opened(s3_place)
        parts, _ = await stored(storage, 6 * MIB)
        s3_place.client.put_object(Bucket=s3_place.bucket, Key="p0", Body=content_of(6 * MIB, 9))
        with pytest.raises(StorageFailed):
            await storage.concatenate(FINAL, parts, durable=True, commit=committed)
        await storage.close()

    async def test_what_is_too_long(self, s3_place: S3Place) -> None:
        rules = PartRules(preferred=5 * MIB, largest_object=6 * MIB)
        storage = await opened(s3_place, replace(SETTINGS, rules=rules))
        parts, _ = await stored(storage, 5 * MIB, 2 * MIB)
        with pytest.raises(UploadTooLarge):
            await storage.concatenate(FINAL, parts, durable=True, commit=committed)
        assert sorted(s3_place.objects()) == ["p0", "p1"]
        await storage.close()


def raising(error: type[Exception]) -> Callable[..., Awaitable[None]]:
    async def fails(*args: object, **kwargs: object) -> None:
        raise error

    return fails
