"""A short soak, always with the same seed; and an oracle that sees what it is for."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.soak.content import Pool, Stream
from tests.soak.oracle import Attempt, Counts, Known, differs_at
from tests.soak.running import Settings, soak
from tests.wire.fuzz_connection import Wrong

POOL = Pool("of the tests")


@pytest.mark.slow
@pytest.mark.disk
def test_no_byte_is_lost_or_somebody_elses(tmp_path: Path) -> None:
    """Whatever clients do, and although the server is killed in between."""
    settings = Settings(seed=7, seconds=8, kill_every=2.0, expire_after=3, share_of_large=0.0)
    place = soak(tmp_path, settings)
    assert not place.failed, "\n".join(place.failed)
    # A busy machine may not come to all of it.
    for what in ("uploads completed", "uploads terminated", "460", "disturbances: server killed"):
        assert place.tally[what], what


@pytest.fixture
def known() -> Known:
    """An upload of which nothing is told yet."""
    return Known("an upload", lambda name: Stream(POOL, name))


def tried(known: Known, sent: int, counts: Counts = Counts.AS_FAR_AS_IT_CAME) -> Attempt:
    """An attempt to bring 100 bytes, of which so many were sent."""
    attempt = known.attempt(100, counts)
    attempt.sent, attempt.is_whole = sent, sent == 100
    return attempt


def bytes_of(attempt: Attempt, count: int) -> bytes:
    return b"".join(attempt.stream.pieces(0, count))


def reading(stored: bytes) -> Callable[[int, int], Iterator[bytes]]:
    return lambda start, end: iter([stored[start:end]])


def test_the_stored_bytes_tell_whose_they_are(known: Known) -> None:
    first, second = tried(known, 60), tried(known, 100)
    known.found(40, reading(bytes_of(second, 60)))
    assert [segment.attempt for segment in known.segments] == [second]
    third = tried(known, 100)
    known.acknowledged(third, 140)
    expected = bytes_of(second, 40) + bytes_of(third, 100)
    assert b"".join(known.pieces()) == expected
    assert first not in [segment.attempt for segment in known.segments]


@pytest.mark.parametrize(
    ("offset", "stored"),
    [
        (61, lambda a, b: bytes_of(a, 61)),  # more than was sent
        (60, lambda a, b: bytes_of(a, 30) + bytes_of(b, 60)[30:]),  # a mixture
        (60, lambda a, b: bytes_of(a, 61)[1:]),  # at the wrong place
        (60, lambda a, b: bytes_of(a, 59)),  # a byte is missing
        (60, lambda a, b: bytes(60)),  # nobody's
    ],
)
def test_what_nobody_brought_is_seen(
    known: Known, offset: int, stored: Callable[[Attempt, Attempt], bytes]
) -> None:
    one, other = tried(known, 60), tried(known, 60)
    with pytest.raises(Wrong):
        known.found(offset, reading(stored(one, other)))


@pytest.mark.parametrize(
    ("counts", "sent", "offset"),
    [(Counts.NOT, 100, 100), (Counts.ONLY_WHOLE, 100, 50), (Counts.ONLY_WHOLE, 99, 99)],
)
def test_what_was_not_verified_does_not_count(
    known: Known, counts: Counts, sent: int, offset: int
) -> None:
    attempt = tried(known, sent, counts)
    with pytest.raises(Wrong):
        known.found(offset, reading(bytes_of(attempt, offset)))


def test_an_offset_that_goes_back_is_seen(known: Known) -> None:
    known.acknowledged(tried(known, 100), 100)
    tried(known, 100)
    with pytest.raises(Wrong, match="went back"):
        known.found(99, reading(b""))


def test_a_writer_that_is_late_is_seen(known: Known) -> None:
    """It was answered, and another offset was told since: nothing of it may come any more."""
    late = tried(known, 50)
    late.is_answered = True
    known.found(0, reading(b""))
    with pytest.raises(Wrong):
        known.found(50, reading(bytes_of(late, 50)))


@pytest.mark.parametrize("offset", [99, 101])
def test_an_answer_of_another_offset_is_seen(known: Known, offset: int) -> None:
    with pytest.raises(Wrong):
        known.acknowledged(tried(known, 100), offset)


def test_an_answer_for_what_is_not_there_is_seen(known: Known) -> None:
    one, other = tried(known, 100), tried(known, 100)
    known.acknowledged(one, 100)
    with pytest.raises(Wrong):
        known.acknowledged(other, 100)


@pytest.mark.parametrize(
    ("expected", "found", "at"),
    [
        ([b"ab", b"c"], [b"abc"], None),
        ([b"ab", b"d"], [b"abc"], 2),
        ([b"ab"], [b"abc"], 2),
        ([b"abc"], [b"ab"], 2),
        ([], [], None),
    ],
)
def test_differs_at(expected: list[bytes], found: list[bytes], at: int | None) -> None:
    assert differs_at(expected, found) == at
