"""What `state/interface.py` promises, of every backend."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import chain, product

import pytest

from tests.contracts.conftest import NewState
from tests.state.samples import NOW, PART, UPLOAD, event, final
from tusd_py.protocol.concat import Final, Partial
from tusd_py.protocol.errors import InvalidPart, StaleGeneration, UploadExists
from tusd_py.protocol.upload import Phase, Reply, Tail, Upload
from tusd_py.state.interface import EventCounts, StateStore

pytestmark = pytest.mark.anyio

GONE = (Phase.TERMINATED, Phase.EXPIRED)


async def insert_all(state: StateStore, *uploads: Upload) -> None:
    for upload in uploads:
        await state.insert(upload)


async def enqueue(state: StateStore, *upload_ids: str) -> None:
    """An event for each, in this order."""
    upload = await state.load("a") or await state.insert(UPLOAD)
    await state.commit(upload, events=[event(upload_id) for upload_id in upload_ids])


class TestOpen:
    async def test_a_new_store_is_tied_once_and_for_good(self, new_state: NewState) -> None:
        first = new_state()
        assert await first.open() is None
        await first.tie("mine")
        await first.tie("another")
        await first.close()
        again = new_state()
        assert await again.open() == "mine"
        await again.close()

    async def test_whether_an_application_listens_is_known_to_every_process(
        self, state: StateStore, other: StateStore
    ) -> None:
        assert not await other.has_listener()
        for _ in range(2):
            await state.listen()
        assert await other.has_listener()

    async def test_whether_it_is_whole_is_known_to_every_process(
        self, state: StateStore, other: StateStore
    ) -> None:
        assert not await other.is_whole()
        for _ in range(2):
            await state.tell_whole()
        assert await other.is_whole()

    async def test_close_ends_what_is_under_way(self, new_state: NewState) -> None:
        state = new_state()
        await state.open()
        commits = [
            asyncio.create_task(state.insert(UPLOAD._replace(id=str(number))))
            for number in range(20)
        ]
        await asyncio.sleep(0)
        await state.close()
        await state.close()
        assert len(await asyncio.gather(*commits)) == 20
        await state.open()
        assert len(await state.page("", 100)) == 20
        await state.close()


class TestInsert:
    async def test_is_seen_by_every_process(self, state: StateStore, other: StateStore) -> None:
        assert await state.load("a") is None
        assert await state.insert(UPLOAD) == UPLOAD
        assert await state.load("a") == await other.load("a") == UPLOAD

    @pytest.mark.parametrize("phase", Phase)
    async def test_an_id_that_is_taken(self, state: StateStore, phase: Phase) -> None:
        taken = await state.insert(UPLOAD._replace(phase=phase))
        with pytest.raises(UploadExists):
            await state.insert(UPLOAD._replace(upload_length=1))
        assert await state.load("a") == taken

    async def test_an_id_that_a_final_with_the_same_parts_has(self, state: StateStore) -> None:
        await insert_all(state, PART, final("f", "a"))
        with pytest.raises(UploadExists):
            await state.insert(final("f", "a"))

    @pytest.mark.parametrize("left", [None, *GONE])
    async def test_a_part_that_went_away(self, state: StateStore, left: Phase | None) -> None:
        await state.insert(PART._replace(id="b"))
        if left is not None:
            await state.insert(PART._replace(phase=left))
        with pytest.raises(InvalidPart):
            await state.insert(final("f", "b", "a"))
        assert await state.load("f") is None
        assert await state.finals_waiting_for("b") == []

    @pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.RECEIVING}))
    async def test_a_final_that_waits_for_nothing_needs_no_parts(
        self, state: StateStore, phase: Phase
    ) -> None:
        """Its record was made anew, and they have gone their way since."""
        await state.insert(final("f", "a")._replace(phase=phase))
        assert await state.waiting_finals() == []

    async def test_a_part_may_stand_there_twice(self, state: StateStore) -> None:
        await insert_all(state, PART, final("f", "a", "a"))
        assert await state.finals_waiting_for("a") == ["f"]
        found = await state.load("f")
        assert found
        assert found.parts == ("a", "a")


EVERYTHING = Upload(
    id="a",
    created_at=NOW + 0.125,
    generation=3,
    phase=Phase.FAILED,
    upload_offset=2**62,
    upload_length=2**63 - 1,
    upload_metadata="filename ZmlsbS5tcDQ=",
    changed_metadata="",
    concat=Final(("https://example.com/files/a", "/files/a", "b")),
    parts=(),
    expires_at=NOW + 1.5,
    tail=Tail.SEALED,
    synced_offset=5,
    placement="boot:1:2",
    target="in/film.mp4",
    path="files/in/film.mp4",
    released=True,
    reply=Reply(status=422, headers={"X-Reason": "a virus"}, body="no"),
    principal="alice",
    client="198.51.100.7",
)


class TestCommit:
    async def test_every_field_is_kept(self, state: StateStore, other: StateStore) -> None:
        made = UPLOAD._replace(created_at=EVERYTHING.created_at, principal=EVERYTHING.principal)
        await state.insert(made)
        assert all(
            getattr(EVERYTHING, name) != getattr(UPLOAD, name)
            for name in Upload._fields
            if name not in ("id", "parts", "paused", "max_speed")
        )
        committed = await state.commit(EVERYTHING._replace(generation=0))
        assert committed == EVERYTHING._replace(generation=1)
        assert await other.load("a") == committed

    async def test_of_two_who_read_the_same_one_wins(
        self, state: StateStore, other: StateStore
    ) -> None:
        await state.insert(UPLOAD)
        outcomes = await asyncio.gather(
            *(
                store.commit(UPLOAD._replace(upload_offset=offset))
                for offset, store in enumerate([state, other] * 4, start=1)
            ),
            return_exceptions=True,
        )
        won = [outcome for outcome in outcomes if isinstance(outcome, Upload)]
        lost = [outcome for outcome in outcomes if isinstance(outcome, StaleGeneration)]
        assert (len(won), len(lost)) == (1, 7)
        assert await state.load("a") == won[0]
        assert won[0].generation == 1

    async def test_a_record_that_is_not_there(self, state: StateStore) -> None:
        with pytest.raises(StaleGeneration):
            await state.commit(UPLOAD, events=[event("a")])
        assert await state.load("a") is None
        assert await state.due_events(NOW, 10) == []

    async def test_a_stale_one_leaves_no_events(self, state: StateStore) -> None:
        await state.insert(UPLOAD)
        await state.commit(UPLOAD)
        with pytest.raises(StaleGeneration):
            await state.commit(UPLOAD, events=[event("a")], durable=True)
        assert await state.due_events(NOW, 10) == []

    async def test_is_refused_while_an_unfinished_final_refers_to_it(
        self, state: StateStore
    ) -> None:
        await insert_all(state, PART, final("f", "a"))
        with pytest.raises(StaleGeneration):
            await state.commit(PART, unless_referred=True)
        assert await state.load("a") == PART
        part = await state.commit(PART)
        waiting = await state.load("f")
        assert waiting
        await state.commit(waiting._replace(phase=Phase.COMPLETE))
        assert (await state.commit(part, unless_referred=True)).generation == 2

    async def test_a_cancelled_one_is_carried_out_whole(
        self, state: StateStore, other: StateStore
    ) -> None:
        await state.insert(UPLOAD)
        task = asyncio.create_task(state.commit(UPLOAD, events=[event("a")]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        # Behind it in the line of the same process.
        await state.insert(UPLOAD._replace(id="b"))
        found = await other.load("a")
        assert found
        assert found.generation == 1
        assert len(await other.due_events(NOW, 10)) == 1


class TestReferences:
    """An unfinished final upload keeps its parts."""

    @pytest.mark.parametrize("phase", Phase)
    async def test_last_as_long_as_the_final_is_unfinished(
        self, state: StateStore, phase: Phase
    ) -> None:
        await insert_all(state, PART, PART._replace(id="b"), final("f", "a", "b"), final("g", "a"))
        assert await state.waiting_finals() == ["f", "g"]
        waiting = await state.load("f")
        assert waiting
        await state.commit(waiting._replace(phase=phase))
        stays = phase in (Phase.RECEIVING, Phase.FINISHING)
        assert await state.waiting_finals() == (["f", "g"] if stays else ["g"])
        assert sorted(await state.finals_waiting_for("a")) == (["f", "g"] if stays else ["g"])
        assert await state.finals_waiting_for("b") == (["f"] if stays else [])

    async def test_end_with_the_record(self, state: StateStore) -> None:
        await insert_all(state, PART, final("f", "a"))
        found = await state.load("f")
        assert found
        await state.delete(found._replace(generation=9))
        assert await state.waiting_finals() == ["f"]
        await state.delete(found)
        assert await state.waiting_finals() == []

    async def test_the_end_of_a_part_does_not_end_them(self, state: StateStore) -> None:
        await insert_all(state, PART, final("f", "a"))
        await state.commit(PART._replace(phase=Phase.COMPLETE, expires_at=NOW))
        assert await state.waiting_finals() == ["f"]
        assert await state.expired(NOW, FIRST, 10) == []


class TestDelete:
    async def test_forgets_a_record(self, state: StateStore) -> None:
        await state.insert(UPLOAD)
        await state.delete(UPLOAD)
        await state.delete(UPLOAD)
        assert await state.load("a") is None

    async def test_does_nothing_if_it_has_changed(self, state: StateStore) -> None:
        await state.insert(UPLOAD)
        changed = await state.commit(UPLOAD)
        await state.delete(UPLOAD)
        assert await state.load("a") == changed


async def test_open_uploads_are_counted_by_client(state: StateStore) -> None:
    """Whatever is complete or gone is nobody's burden any more."""
    waits = UPLOAD._replace(
        phase=Phase.RECEIVING, concat=None, expires_at=NOW + 1, client="1.1.1.1"
    )
    await insert_all(
        state,
        *(waits._replace(id=phase.value, phase=phase) for phase in Phase),
        waits._replace(id="never expires", expires_at=None),
        waits._replace(id="is over", expires_at=NOW),
        waits._replace(id="a part", concat=Partial()),
        waits._replace(id="whole part", concat=Partial(), phase=Phase.COMPLETE),
        waits._replace(id="by name", principal="alice"),
        waits._replace(id="nobody's", client=None),
    )
    assert await state.count_open(NOW) == {"1.1.1.1": 4, "alice": 1, "": 1}


FIRST = (float("-inf"), "")


class TestExpired:
    @pytest.mark.parametrize(
        ("phase", "concat", "expires_at"),
        list(product(Phase, [None, Partial(), Final(("/files/p",))], [None, NOW, NOW + 1])),
    )
    async def test_is_what_may_expire_and_is_over(
        self,
        state: StateStore,
        phase: Phase,
        concat: Partial | Final | None,
        expires_at: float | None,
    ) -> None:
        upload = UPLOAD._replace(phase=phase, concat=concat, expires_at=expires_at)
        await state.insert(upload)
        found = await state.expired(NOW, FIRST, 10)
        assert found == ([(NOW, "a")] if upload.has_expired(NOW) else [])

    async def test_comes_in_pages(self, state: StateStore) -> None:
        """Also where many expire at one moment."""
        entries = [(NOW - number // 4, f"{number}") for number in range(9)]
        await insert_all(
            state, *(UPLOAD._replace(id=each, expires_at=moment) for moment, each in entries)
        )
        found: list[list[tuple[float, str]]] = []
        while page := await state.expired(NOW, found[-1][-1] if found else FIRST, 3):
            found.append(page)
        assert [len(page) for page in found] == [3, 3, 3]
        assert [*chain(*found)] == sorted(entries)


async def pages(page: Callable[[str], Awaitable[list[str]]]) -> list[list[str]]:
    found: list[list[str]] = []
    while ids := await page(found[-1][-1] if found else ""):
        found.append(ids)
    return found


PHASES = dict(zip("abcdef", Phase, strict=True))


class TestLists:
    @pytest.fixture(autouse=True)
    async def one_of_each(self, state: StateStore) -> None:
        for name, phase in PHASES.items():
            await state.insert(UPLOAD._replace(id=name, phase=phase))
            await state.insert(UPLOAD._replace(id=name + "2", phase=phase, released=True))

    async def test_page(self, state: StateStore) -> None:
        async def page(after: str) -> list[str]:
            return [upload.id for upload in await state.page(after, 5)]

        assert await pages(page) == [
            ["a", "a2", "b", "b2", "c"],
            ["c2", "d", "d2", "e", "e2"],
            ["f", "f2"],
        ]
        assert (await state.page("", 1))[0] == UPLOAD

    @pytest.mark.parametrize("name", "abcdef")
    async def test_with_phase(self, state: StateStore, name: str) -> None:
        found = await state.with_phase(PHASES[name], "", 10)
        assert [upload.id for upload in found] == [name, name + "2"]
        assert [upload.id for upload in await state.with_phase(PHASES[name], name, 10)] == [
            name + "2"
        ]
        assert len(await state.with_phase(PHASES[name], "", 1)) == 1

    async def test_unreleased(self, state: StateStore) -> None:
        assert [upload.id for upload in await state.unreleased("", 10)] == ["e", "f"]
        assert [upload.id for upload in await state.unreleased("e", 10)] == ["f"]
        assert [upload.id for upload in await state.unreleased("", 1)] == ["e"]

    async def test_known(self, state: StateStore) -> None:
        assert await state.known(["a", "z", "e", "e", "f2"]) == {"a", "e", "f2"}
        assert await state.known([]) == set()

    async def test_load_many(self, state: StateStore) -> None:
        found = await state.load_many(["c", "z", "c", "a"])
        assert found == {"a": UPLOAD, "c": UPLOAD._replace(id="c", phase=Phase.COMPLETE)}


class TestOutbox:
    async def due(self, state: StateStore, now: float = NOW, limit: int = 10) -> list[str]:
        return [pending.event.upload_id for pending in await state.due_events(now, limit)]

    async def test_keeps_what_was_committed_with_a_record(
        self, state: StateStore, other: StateStore
    ) -> None:
        await enqueue(state, "a")
        (pending,) = await other.due_events(NOW, 10)
        assert (pending.event, pending.attempts) == (event("a"), 0)

    async def test_keeps_what_was_inserted_with_a_record(
        self, state: StateStore, other: StateStore
    ) -> None:
        told = replace(event("a"), phase=Phase.RECEIVING, details='{"length": 7}')
        await state.insert(UPLOAD, events=[told])
        with pytest.raises(UploadExists):
            await state.insert(UPLOAD, events=[told])
        (pending,) = await other.due_events(NOW, 10)
        assert pending.event == told

    async def test_counts_what_is_in_it(self, state: StateStore) -> None:
        assert await state.count_events() == EventCounts(waiting=0, oldest_at=None, dead=0)
        await state.insert(UPLOAD, events=[replace(event("x"), at=1.0)])
        await state.insert(UPLOAD._replace(id="other"), events=[event("y"), event("z")])
        x, y, _ = await state.due_events(NOW, 10)
        await state.event_failed(x.number, None)
        await state.event_failed(y.number, NOW + 60)
        found = await state.count_events()
        assert (found.waiting, found.dead) == (2, 1)
        assert found.oldest_at == event("y").at

    async def test_the_oldest_of_each_upload_in_order(self, state: StateStore) -> None:
        await enqueue(state, "x", "y", "x", "z", "y")
        assert await self.due(state) == ["x", "y", "z"]
        assert await self.due(state, limit=2) == ["x", "y"]
        first = (await state.due_events(NOW, 1))[0]
        await state.event_delivered(first.number)
        assert await self.due(state) == ["y", "x", "z"]

    async def test_those_behind_one_that_is_retried_wait(self, state: StateStore) -> None:
        await enqueue(state, "x", "y", "x")
        first = (await state.due_events(NOW, 1))[0]
        await state.event_failed(first.number, NOW + 60)
        assert await self.due(state, NOW + 59) == ["y"]
        again = (await state.due_events(NOW + 60, 1))[0]
        assert again == replace(first, attempts=1)

    async def test_a_dead_letter_stands_in_nobodys_way(self, state: StateStore) -> None:
        await enqueue(state, "x", "x")
        first, second = [(await state.due_events(NOW, 1))[0].number for _ in range(2)]
        assert first == second
        await state.event_failed(first, NOW + 60)
        await state.event_failed(first, None)
        (pending,) = await state.due_events(NOW, 10)
        assert pending.number != first
        await state.event_delivered(pending.number)
        assert await state.due_events(1e12, 10) == []
        assert await state.next_event_at() is None

    async def test_when_the_next_is_due(self, state: StateStore) -> None:
        assert await state.next_event_at() is None
        await enqueue(state, "x", "x", "y")
        due = await state.next_event_at()
        assert due is not None
        assert due <= NOW
        x, y = await state.due_events(NOW, 10)
        await state.event_failed(x.number, NOW + 60)
        await state.event_failed(y.number, NOW + 30)
        # The second of x cannot be delivered before its first: nobody need look for it.
        assert await state.next_event_at() == NOW + 30
        await state.event_delivered(y.number)
        assert await state.next_event_at() == NOW + 60

    async def test_numbers_are_never_used_again(self, state: StateStore) -> None:
        """They are part of the id by which an application knows an event again."""
        await enqueue(state, "x")
        (first,) = await state.due_events(NOW, 10)
        await state.event_delivered(first.number)
        await enqueue(state, "x")
        (second,) = await state.due_events(NOW, 10)
        assert second.number > first.number


class TestEvents:
    async def test_they_are_written_down_while_somebody_listens(
        self, state: StateStore, other: StateStore
    ) -> None:
        """By every process, in the transaction that makes them happen."""
        await state.insert(UPLOAD._replace(id="before"))
        assert await other.events_span() == (0, 0)
        await other.open_events(NOW + 10)
        first, last = await other.events_span()
        assert first == last > 0
        upload = await state.insert(UPLOAD._replace(principal="alice"))
        upload = await state.commit(upload._replace(upload_offset=5))
        upload = await state.commit(upload._replace(phase=Phase.FINISHING))
        upload = await state.commit(upload._replace(phase=Phase.COMPLETE))
        await state.commit(upload._replace(phase=Phase.TERMINATED))
        await state.insert(UPLOAD._replace(id="b", phase=Phase.COMPLETE))
        found = await other.events_after(last, 10)
        assert [(each.upload_id, each.principal, each.kind) for each in found] == [
            ("a", "alice", "created"),
            ("a", "alice", "finished"),
            ("a", "alice", "terminated"),
            ("b", None, "created"),
            ("b", None, "finished"),
        ]
        assert all(abs(each.at - time.time()) < 60 for each in found)
        assert await other.events_after(last, 2) == found[:2]
        assert await other.events_span() == (last, found[-1].number)

    async def test_a_commit_that_fails_is_not_among_them(self, state: StateStore) -> None:
        await state.open_events(NOW)
        await state.insert(UPLOAD)
        _, last = await state.events_span()
        with pytest.raises(UploadExists):
            await state.insert(UPLOAD)
        with pytest.raises(StaleGeneration):
            await state.commit(UPLOAD._replace(generation=7, phase=Phase.COMPLETE))
        assert await state.events_after(last, 10) == []

    async def test_what_is_too_old_is_forgotten_but_for_the_last(self, state: StateStore) -> None:
        await state.open_events(time.time() + 3600)
        await insert_all(state, UPLOAD, UPLOAD._replace(id="b"))
        _, last = await state.events_span()
        await state.trim_events(NOW - 1, time.time() + 60)
        assert await state.events_span() == (last, last)
        await state.insert(UPLOAD._replace(id="c"))
        assert len(await state.events_after(last, 10)) == 1

    async def test_after_a_while_without_anybody_a_new_stretch_begins(
        self, state: StateStore
    ) -> None:
        await state.open_events(NOW + 1)
        await state.open_events(NOW)
        await state.trim_events(NOW, 0)
        await state.insert(UPLOAD)
        _, last = await state.events_span()
        assert [each.upload_id for each in await state.events_after(0, 9)] == ["", "a"]
        await state.trim_events(NOW + 1, 0)
        await state.insert(UPLOAD._replace(id="b"))
        assert await state.events_span() == (last - 1, last)
        await state.open_events(NOW + 9)
        assert await state.events_span() == (last + 1, last + 1)
