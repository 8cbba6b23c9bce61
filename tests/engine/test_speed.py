"""How quickly bytes are taken: never more than is allowed, and no less where there is enough.

A clock that tests set stands for time, so that how quick the machine is does not matter.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tusd_py.body import Gate, Reason
from tusd_py.engine.small import Memory
from tusd_py.engine.speed import _LATE, _PIECE, _SMALLEST_PIECE, Share, Speeds
from tusd_py.engine.talk import Talk
from tusd_py.hooks.events import HeldBack
from tusd_py.locks.interface import Peer
from tusd_py.protocol.commands import Append, Content
from tusd_py.protocol.decide import Limits
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.upload import Upload

pytestmark = pytest.mark.anyio

KIB = 1 << 10
UPLOAD = Upload(id="u", created_at=0.0)


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Taker:
    """An append that takes bytes whenever it may."""

    def __init__(self, clock: Clock, share: Share) -> None:
        self.clock, self.share = clock, share
        self.taken = 0
        self.reserve()

    def reserve(self) -> None:
        self.count, seconds = self.share.reserve(1 << 20)
        assert self.count > 0
        self.due = max(self.clock.now, self.clock.now + seconds)

    def take(self, count: int) -> None:
        """Takes some of what it may, gives the rest back, and asks for more."""
        self.share.spend(count - self.count)
        self.taken += count
        self.reserve()


RATES = st.integers(1024, 1 << 30)
STEPS = st.lists(
    st.tuples(st.floats(0, _LATE * 0.9), st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.0])),
    min_size=20,
    max_size=200,
)


def slack(rate: int, takers: int) -> float:
    """Bytes that may be on their way too early: a piece of each."""
    return max(rate * _PIECE, takers * _SMALLEST_PIECE) + takers


@settings(max_examples=60, deadline=None)
@given(rate=RATES, own=RATES, takers=st.integers(1, 5), steps=STEPS)
async def test_no_limit_is_exceeded(
    rate: int, own: int, takers: int, steps: list[tuple[float, float]]
) -> None:
    """By no upload, nor by all together, whatever comes, and however late the timers are."""
    clock = Clock()
    speeds = Speeds(Talk(), lambda event: None, clock)
    shares = [Share({"all": rate, f"upload {n}": own}, speeds) for n in range(takers)]
    everyone = [Taker(clock, share) for share in shares]
    begun = clock.now
    for late, part in steps:
        taker = min(everyone, key=lambda each: each.due)
        clock.now = max(clock.now, taker.due) + late
        taker.take(int(taker.count * part))
        passed = clock.now - begun
        for each in everyone:
            assert each.taken <= own * passed + slack(own, 1)
        assert sum(each.taken for each in everyone) <= rate * passed + slack(rate, takers)


@settings(max_examples=60, deadline=None)
@given(rate=RATES, takers=st.integers(1, 5), lates=st.lists(st.floats(0.1, 0.15), min_size=15))
async def test_what_is_allowed_is_used(rate: int, takers: int, lates: list[float]) -> None:
    """Also where every timer is late; and all get as much as each other."""
    clock = Clock()
    speeds = Speeds(Talk(), lambda event: None, clock)
    shares = [Share({"all": min(rate, 4 << 20)}, speeds) for _ in range(takers)]
    rate = min(rate, 4 << 20)
    everyone = [Taker(clock, share) for share in shares]
    begun = clock.now
    for late in (after for each in lates for after in (each, 0.0, 0.0, 0.0)):
        taker = min(everyone, key=lambda each: each.due)
        clock.now = max(clock.now, taker.due + late / takers)
        taker.take(taker.count)
    total = sum(each.taken for each in everyone)
    assert total >= rate * (clock.now - begun - _LATE) - slack(rate, takers)
    least = min(each.taken for each in everyone)
    assert least >= max(each.taken for each in everyone) - 3 * max(rate * _PIECE, 512)


async def test_who_was_idle_has_saved_nothing() -> None:
    clock = Clock()
    share = Share({"all": 10_000}, Speeds(Talk(), lambda event: None, clock))
    share.reserve(1)
    clock.now += 3600
    taken = [share.reserve(1 << 20) for _ in range(3)]
    assert [count for count, _ in taken] == [1000, 1000, 1000]
    assert [seconds for _, seconds in taken] == pytest.approx([-3600 + 1e-4, 0.1, 0.2])


async def test_another_speed_holds_from_now_on() -> None:
    """What was taken too early counts in bytes, not in the time that they would have lasted."""
    clock = Clock()
    share = Share({"all": 10_000}, Speeds(Talk(), lambda event: None, clock))
    share.spend(20_000)
    assert share.reserve(1)[1] == pytest.approx(2.0)
    assert share.change("all", 100_000)
    assert share.reserve(1)[1] == pytest.approx(0.2, abs=0.001)
    assert share.change("upload u", 1024)
    assert share.reserve(1 << 20)[0] == 102
    assert share.change("all", None)
    assert not share.change("upload u", None)
    share.leave()


class Wire:
    """Another process, to which everything is told at once."""

    is_full = False

    def __init__(self) -> None:
        self.other: Wires | None = None
        self.said = self.seen = 0

    def tell(self, word: str, text: str = "") -> None:
        assert self.other is not None
        self.other.on_told(self, word, text)
        self.said += 1


class Wires:
    """All other processes."""

    on_told: Callable[[Peer, str, str], None]
    on_met: Callable[[Peer], None]
    on_left: Callable[[Peer], None]

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def all(self) -> Iterable[Peer]:
        return [self.wire]


async def told(wire: Wire) -> None:
    """Until something was said that this has not seen."""
    async with asyncio.timeout(30):
        while wire.said == wire.seen:
            await asyncio.sleep(0.01)
    wire.seen = wire.said


async def test_what_another_process_takes_counts_here() -> None:
    """Of all limits, also of those that nobody here has heard of."""
    clock = Clock()
    here, there = Wire(), Wire()
    there.other, here.other = Wires(here), Wires(there)
    speeds = [Speeds(Talk(each), lambda event: None, clock) for each in (there.other, here.other)]
    ours = Share({"all": 10_000, "client a": 20_000}, speeds[0])
    ours.spend(40_000)
    await told(here)
    theirs = Share({"client a": 20_000}, speeds[1])
    assert theirs.reserve(1)[1] == pytest.approx(2.0)
    assert Share({"all": 10_000}, speeds[1]).reserve(1)[1] == pytest.approx(4.0)
    # What was given back is told too.
    ours.spend(-40_000)
    await told(here)
    assert theirs.reserve(1)[1] == pytest.approx(0, abs=0.001)


def limited(limits: Limits, upload: Upload = UPLOAD, **options: Any) -> Memory:
    """A body of an append, as `Speeds.begin` leaves it."""
    body = Memory(b"x" * 64 * KIB, ())
    append = Append(upload_id="u", upload_offset=0, content=Content(length=None), **options)
    Speeds(Talk(), lambda event: None, Clock()).begin(limits, append, upload, body)
    return body


@pytest.mark.parametrize(
    ("limits", "upload", "options", "first"),
    [
        (Limits(), UPLOAD, {}, None),
        (Limits(max_speed=10_000), UPLOAD, {}, 1000),
        (Limits(max_speed_per_upload=10_000), UPLOAD, {}, 1000),
        (Limits(max_speed_per_upload=10_000), UPLOAD._replace(max_speed=5_000), {}, 500),
        (Limits(max_speed_per_upload=10_000), UPLOAD._replace(max_speed=20_000), {}, 1000),
        (Limits(), UPLOAD._replace(max_speed=5_000), {}, 500),
        (Limits(max_speed_per_client=10_000), UPLOAD, {"client": "192.0.2.1"}, 1000),
        # Who has no name is nobody in particular.
        (Limits(max_speed_per_client=10_000), UPLOAD, {}, None),
        (Limits(max_speed_per_client=10_000), UPLOAD, {"grant": Grant(principal="a")}, 1000),
        (Limits(), UPLOAD, {"grant": Grant(principal="a", max_speed=5_000)}, 500),
        (Limits(), UPLOAD, {"grant": Grant(max_speed=5_000), "client": "192.0.2.1"}, 500),
        (
            Limits(max_speed_per_client=2_000),
            UPLOAD,
            {"grant": Grant(principal="a", max_speed=5_000)},
            200,
        ),
        (Limits(), UPLOAD, {"grant": Grant(max_speed=5_000, max_speed_for="a url")}, 500),
        (
            Limits(max_speed_per_client=2_000),
            UPLOAD,
            {"grant": Grant(principal="a", max_speed=5_000, max_speed_for="a url")},
            200,
        ),
        (Limits(), UPLOAD, {"grant": Grant(principal="a")}, None),
    ],
)
async def test_which_limits_hold(
    limits: Limits, upload: Upload, options: dict[str, Any], first: int | None
) -> None:
    body = limited(limits, upload, **options)
    assert await body.fill(memoryview(bytearray(64 * KIB))) == (first or 64 * KIB)


async def test_grants_share_a_speed() -> None:
    """By what they say that it is for, wherever their clients are."""
    speeds = Speeds(Talk(), lambda event: None, Clock())

    def share(upload_id: str, client: str, shared: str) -> Share:
        content = Content(length=None)
        grant = Grant(max_speed=5_000, max_speed_for=shared)
        append = Append(
            upload_id=upload_id, upload_offset=0, content=content, client=client, grant=grant
        )
        body = Memory(b"x", ())
        speeds.begin(Limits(), append, UPLOAD._replace(id=upload_id), body)
        return speeds._shares[upload_id]

    share("u", "192.0.2.1", "one url").spend(5_000)
    assert share("v", "192.0.2.2", "one url").reserve(1)[1] == pytest.approx(1.0)
    assert share("w", "192.0.2.1", "another").reserve(1)[1] == pytest.approx(0, abs=0.001)


async def test_a_limit_that_was_set_a_moment_before_holds_too() -> None:
    """The record that an append has read does not know of it."""
    clock = Clock()
    speeds = Speeds(Talk(), lambda event: None, clock)
    append = Append(upload_id="u", upload_offset=0, content=Content(length=None))
    speeds.change(Limits(), "u", 5_000, None)
    body = Memory(b"x" * 64 * KIB, ())
    speeds.begin(Limits(), append, UPLOAD, body)
    assert await body.fill(memoryview(bytearray(64 * KIB))) == 500
    speeds.end("u", body)
    # Long after, the record knows better.
    clock.now += 3600
    body = Memory(b"x" * 64 * KIB, ())
    speeds.begin(Limits(), append, UPLOAD, body)
    assert await body.fill(memoryview(bytearray(64 * KIB))) == 64 * KIB


async def test_a_limit_comes_and_goes_while_bytes_come() -> None:
    speeds = Speeds(Talk(), lambda event: None, Clock())
    append = Append(upload_id="u", upload_offset=0, content=Content(length=None))
    body, buffer = Memory(b"x" * 64 * KIB, ()), memoryview(bytearray(1 * KIB))
    speeds.begin(Limits(), append, UPLOAD, body)
    assert await body.fill(buffer) == KIB
    speeds.change(Limits(), "u", 5_000, body)
    assert await body.fill(buffer) == 500
    waiting = asyncio.ensure_future(body.fill(buffer))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    speeds.change(Limits(), "u", None, body)
    assert await waiting == KIB
    speeds.end("u", body)
    # One that never had a limit, and has ended.
    speeds.change(Limits(), "u", None, body)
    speeds.end("u", body)


async def test_limits_that_say_nothing_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client for each address of the internet would fill the memory."""
    monkeypatch.setattr("tusd_py.engine.speed._MANY", 10)
    clock = Clock()
    speeds = Speeds(Talk(), lambda event: None, clock)
    speeds._many = 10
    busy = Share({"client busy": 10_000}, speeds)
    busy.spend(10_000_000)
    for number in range(100):
        share = Share({f"client {number}": 10_000}, speeds)
        share.leave()
        speeds.change(Limits(), f"{number}", 1024, None)
        clock.now += 1.0
    assert len(speeds._buckets) <= 11
    assert len(speeds._wishes) == 10
    assert busy.reserve(1)[1] > 100


async def test_that_bytes_had_to_wait_is_told() -> None:
    heard: list[HeldBack] = []
    speeds = Speeds(Talk(), heard.append)
    gate = Gate()
    gate.limit(Share({"all": 10_000}, speeds))
    for _ in range(3):
        await gate.admit(1000)
    async with asyncio.timeout(30):
        while sum(each.seconds for each in heard) < 0.15:
            await asyncio.sleep(0.01)


class Tokens:
    """A throttle that a test lets bytes through by hand."""

    def __init__(self, count: int = 0) -> None:
        self.left, self.waits = count, 0.0

    def reserve(self, wanted: int) -> tuple[int, float]:
        count = min(wanted, 10)
        seconds = 0.0 if count <= self.left else 3600.0
        self.left -= count
        return count, seconds

    def spend(self, count: int) -> None:
        self.left -= count

    def waited(self, seconds: float) -> None:
        self.waits += seconds


async def test_a_gate_counts_only_what_it_lets_through() -> None:
    gate, tokens = Gate(), Tokens(15)
    assert await gate.admit(7) == 7
    was_limited = gate.is_limited
    gate.limit(tokens)
    assert [was_limited, gate.is_limited] == [False, True]
    assert await gate.admit(1000) == 10
    waiting = asyncio.ensure_future(gate.admit(1000))
    await asyncio.sleep(0)
    was_waited_at = gate.is_waited_at
    waiting.cancel()
    await asyncio.wait({waiting})
    assert [was_waited_at, gate.is_waited_at] == [True, False]
    assert tokens.left == 5
    waiting = asyncio.ensure_future(gate.admit(1000))
    await asyncio.sleep(0)
    tokens.left += 10
    gate.limit(tokens)
    assert await waiting == 10
    assert tokens.left == 5
    waiting = asyncio.ensure_future(gate.admit(1000))
    await asyncio.sleep(0)
    gate.open()
    assert await waiting == 1000
    assert tokens.left == -995
    assert await gate.admit(5) == 5
    gate.spend(-1000)
    assert tokens.left == 0


async def test_a_small_body_waits_too_unless_somebody_wants_its_end() -> None:
    """It is in memory; without this, small requests one behind the other would have no limit."""
    body, tokens = Memory(b"0123456789" * 3, ()), Tokens(10)
    body.limit(tokens)
    assert await body.fill(memoryview(bytearray())) == 0
    buffer = bytearray(30)
    assert await body.fill(memoryview(buffer)) == 10
    waiting = asyncio.ensure_future(body.fill(memoryview(buffer)))
    await asyncio.sleep(0)
    assert not waiting.done()
    body.interrupt(Reason.SHUTDOWN)
    assert await waiting == 20
    late = Memory(b"0123456789" * 3, ())
    late.interrupt(Reason.SHUTDOWN)
    late.limit(tokens)
    assert await late.fill(memoryview(buffer)) == 30


async def test_however_long_a_name_is_it_fits_into_a_message() -> None:
    """It comes from a token, which a client may choose in part."""
    wire, clock = Wire(), Clock()
    wire.other = Wires(wire)
    texts: list[str] = []
    wire.other.on_told = lambda peer, word, text: texts.append(text)
    speeds = Speeds(Talk(Wires(wire)), lambda event: None, clock)
    append = Append(upload_id="u", upload_offset=0, content=Content(length=None))
    for number in range(300):
        grant = Grant(principal=f"{number}" * 20_000)
        named = append._replace(grant=grant)
        upload, body = UPLOAD._replace(id=f"{number:0128}"), Memory(b"x" * 1000, ())
        limits = Limits(max_speed_per_client=1 << 50, max_speed_per_upload=1 << 50)
        speeds.begin(limits, named, upload, body)
        await body.fill(memoryview(bytearray(1000)))
    await told(wire)
    assert max(map(len, texts)) < 60_000
    assert sum(len(json.loads(text)) for text in texts) == 600
