"""What a record knows of its bytes: all that matters, in a form that does not grow with them."""

from dataclasses import replace

import pytest

from tusd_py.storage.s3_placement import (
    Chain,
    Part,
    Placement,
    build_placement,
    parse_placement,
)

PARTS = [Part(number=number, size=5 << 20, etag=f"{number:032x}") for number in range(1, 10_001)]


def test_ten_thousand_parts_take_no_more_than_ten() -> None:
    """It is written at each commit, so all of them together would be quadratic."""
    few, many = (
        build_placement(Placement(key="a", chain=Chain.of(PARTS[:count]))) for count in (10, 10_000)
    )
    assert len(many) < len(few) + 20


@pytest.mark.parametrize(
    "placement",
    [
        Placement(key="a"),
        Placement(
            key="b",
            multipart="m",
            has_strays=True,
            chain=Chain.of([*PARTS[:3], *PARTS[7:9]]),
            reserved=12,
            pieces=(Part(number=9, size=3), Part(number=11, size=4)),
            pieces_reserved=15,
            pieces_gone=8,
            kept=(5,),
            expects=10,
            mark=5,
            newest=11,
        ),
        Placement(key="c", multipart="m", parts=tuple(PARTS[:3]), reserved=3),
    ],
)
def test_comes_back(placement: Placement) -> None:
    assert parse_placement(build_placement(placement)) == placement


class TestChain:
    def test_numbers_with_gaps(self) -> None:
        chain = Chain.of([*PARTS[:3], *PARTS[7:9]])
        assert chain.runs == ((1, 3), (8, 9))
        assert [n for n in range(12) if chain.has(n)] == [1, 2, 3, 8, 9]
        assert (chain.last, chain.size, chain.first_size) == (9, 5 * (5 << 20), 5 << 20)

    @pytest.mark.parametrize(
        "other",
        [
            PARTS[:4],
            [*PARTS[:4], PARTS[5]],
            [*PARTS[:4], replace(PARTS[4], etag="0")],
            [*PARTS[:3], replace(PARTS[3], size=1), replace(PARTS[4], size=(10 << 20) - 1)],
        ],
    )
    def test_others_are_not_taken_for_these(self, other: list[Part]) -> None:
        assert Chain.of(other) != Chain.of(PARTS[:5])


class TestPieces:
    def test_what_has_the_last_word_is_never_dead(self) -> None:
        """Nor what was stored after it and is not on record: that may have it."""
        placement = Placement(key="a", pieces_reserved=9, mark=3, newest=6)
        assert placement.dead_pieces == (1, 2, 4, 5)
        after = placement.without_dead_pieces()
        assert after.dead_pieces == ()
        assert after.all_pieces == (3, 6, 7, 8, 9)
        later = replace(after, mark=8, newest=12, pieces_reserved=12)
        assert later.dead_pieces == (3, 6, 7, 9, 10, 11)
        assert later.without_dead_pieces().all_pieces == (8, 12)

    def test_those_of_the_tail_are_not_dead(self) -> None:
        tail = (Part(number=4, size=1), Part(number=6, size=1))
        placement = Placement(key="a", pieces=tail, pieces_reserved=9, newest=6)
        assert placement.dead_pieces == (1, 2, 3)
        assert placement.without_dead_pieces().all_pieces == (4, 5, 6, 7, 8, 9)
