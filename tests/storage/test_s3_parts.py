"""How uploads are cut into parts: nothing a store would refuse, and no number used twice."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tusd_py.storage.s3_parts import (
    GIB,
    MIB,
    TIB,
    Numbers,
    OutOfParts,
    PartRules,
    may_end_early,
    next_size,
)

AWS = PartRules(largest_object=10_000 * 5 * GIB)
THOUSAND = PartRules(most_parts=1_000, largest_object=5 * 10**12)
R2 = PartRules(equal=True)
SMALL_MEMORY = PartRules(largest=128 * MIB)
STORES = {"default": PartRules(), "aws": AWS, "1,000 parts": THOUSAND, "memory": SMALL_MEMORY}


def cut(rules: PartRules, length: int, *, told: bool = True, lost: int = 0) -> list[int]:
    """All parts of an upload; each crash takes `lost` numbers, one behind every part."""
    parts: list[int] = []
    offset = used = 0
    while offset < length:
        size = next_size(
            rules,
            offset=offset,
            length=length if told else None,
            used=used,
            fixed=parts[0] if parts else None,
        )
        parts.append(min(size, length - offset))
        offset += parts[-1]
        used += 1 + lost
    return parts


def check(rules: PartRules, parts: list[int], length: int) -> None:
    """What a store would refuse."""
    assert sum(parts) == length
    assert len(parts) <= rules.most_parts
    assert all(rules.smallest <= part <= rules.largest for part in parts[:-1])
    assert 0 < parts[-1] <= rules.largest
    if rules.equal:
        assert len(set(parts[:-1])) <= 1
        assert parts[-1] <= parts[0]


@pytest.mark.parametrize(
    ("rules", "length", "count", "first"),
    [
        (PartRules(), 1, 1, 1),
        (PartRules(), 8 * MIB, 1, 8 * MIB),
        (PartRules(), 8 * MIB + 1, 2, 8 * MIB),
        (PartRules(), 70 * GIB, 8960, 8 * MIB),
        (PartRules(), 80 * GIB, 9511, 10 * MIB),
        (PartRules(), 5 * TIB, 9983, 584 * MIB),
        (AWS, 10_000 * 5 * GIB, 10_000, 5 * GIB),
        (THOUSAND, 5 * 10**12, 983, 5 * GIB),
        (SMALL_MEMORY, 10_000 * 128 * MIB, 10_000, 128 * MIB),
        (R2, 100 * GIB, 8534, 12 * MIB),
        (R2, 5 * TIB, 8978, 584 * MIB),
    ],
)
def test_known_lengths(rules: PartRules, length: int, count: int, first: int) -> None:
    parts = cut(rules, length)
    check(rules, parts, length)
    assert (len(parts), parts[0]) == (count, first)


@pytest.mark.parametrize("rules", [*STORES.values(), R2], ids=[*STORES, "r2"])
@settings(deadline=None, max_examples=5)
@given(data=st.data())
def test_any_known_length(rules: PartRules, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, rules.reach), "length")
    check(rules, cut(rules, length), length)


@pytest.mark.parametrize("told", [True, False])
@settings(deadline=None, max_examples=50)
@given(
    length=st.integers(1, 300 * MIB),
    smallest=st.integers(1, 2 * MIB),
    preferred=st.integers(0, 3 * MIB),
    more=st.integers(0, 64 * MIB),
    most_parts=st.integers(1, 60),
    equal=st.booleans(),
)
def test_any_store_gets_what_it_takes_or_nothing(
    told: bool,
    length: int,
    smallest: int,
    preferred: int,
    more: int,
    most_parts: int,
    equal: bool,
) -> None:
    rules = PartRules(
        smallest=smallest,
        preferred=smallest + preferred,
        largest=smallest + preferred + more,
        most_parts=most_parts,
        largest_object=GIB,
        equal=equal,
    )
    try:
        parts = cut(rules, length, told=told)
    except OutOfParts:
        # A length that is told and fits is always taken.
        assert not told or length > rules.reach
        return
    check(rules, parts, length)


@pytest.mark.parametrize(("lost", "largest"), [(0, 8), (1, 8), (4, 41), (9, 172), (15, 458)])
def test_numbers_lost_to_crashes_make_parts_larger(lost: int, largest: int) -> None:
    rules = PartRules(most_parts=400)
    parts = cut(rules, 700 * MIB, lost=lost)
    check(rules, parts, 700 * MIB)
    assert len(parts) * (1 + lost) - lost <= rules.most_parts
    assert max(parts) == largest * MIB


def test_equal_parts_keep_a_tenth_of_the_numbers_for_crashes() -> None:
    length = 100 * GIB
    assert next_size(R2, offset=12 * MIB, length=length, used=1_400, fixed=12 * MIB) == 12 * MIB
    with pytest.raises(OutOfParts):
        next_size(R2, offset=12 * MIB, length=length, used=1_500, fixed=12 * MIB)


class TestUnknownLength:
    @pytest.mark.parametrize(
        ("rules", "reached"),
        [(PartRules(), 5 * TIB), (AWS, 18 * TIB), (THOUSAND, TIB), (SMALL_MEMORY, TIB // 2)],
    )
    def test_goes_on_until_the_numbers_are_out(self, rules: PartRules, reached: int) -> None:
        offset = used = 0
        with contextlib.suppress(OutOfParts):
            while True:
                offset += next_size(rules, offset=offset, length=None, used=used)
                used += 1
        assert reached <= offset <= rules.reach
        assert used <= rules.most_parts

    def test_a_small_upload_has_small_parts(self) -> None:
        assert set(cut(PartRules(), 4 * GIB, told=False)) == {8 * MIB}

    def test_parts_grow_with_what_is_there(self) -> None:
        parts = cut(PartRules(), TIB, told=False)
        check(PartRules(), parts, TIB)
        assert parts[:-1] == sorted(parts[:-1])

    def test_a_length_that_is_told_late_is_planned_for_from_there(self) -> None:
        early = next_size(PartRules(), offset=8 * MIB, length=None, used=1)
        late = next_size(PartRules(), offset=8 * MIB, length=5 * TIB, used=1)
        assert (early, late) == (8 * MIB, 584 * MIB)


class TestRefusals:
    @pytest.mark.parametrize(
        ("rules", "offset", "length", "used"),
        [
            (PartRules(), 0, 5 * TIB + 1, 0),
            (AWS, 0, AWS.reach + 1, 0),
            (PartRules(largest_object=100), 0, 101, 0),
            (PartRules(largest_object=100), 100, None, 1),
            (PartRules(), 8 * MIB, 16 * MIB, 10_000),
            (PartRules(), 8 * MIB, None, 10_000),
            (AWS, 5 * GIB, AWS.reach, 2),  # one number was lost, and there was none to spare
        ],
    )
    def test_what_the_store_would_not_take(
        self, rules: PartRules, offset: int, length: int | None, used: int
    ) -> None:
        with pytest.raises(OutOfParts):
            next_size(rules, offset=offset, length=length, used=used)

    @pytest.mark.parametrize(
        "changes",
        [
            {"preferred": 4 * MIB},
            {"largest": 7 * MIB},
            {"smallest": 0, "preferred": 0},
            {"most_parts": 0},
            {"largest_object": 0},
        ],
    )
    def test_rules_that_contradict_each_other(self, changes: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="part"):
            replace(PartRules(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "size", "used", "expected"),
    [
        (PartRules(), 5 * MIB, 0, True),
        (PartRules(), 5 * MIB - 1, 0, False),
        (PartRules(), 5 * MIB, 4_999, True),
        (PartRules(), 5 * MIB, 5_000, False),
        (R2, 7 * MIB, 0, False),
    ],
)
def test_a_part_may_end_early(rules: PartRules, size: int, used: int, expected: bool) -> None:
    assert may_end_early(rules, size=size, used=used) is expected


class TestNumbers:
    def test_are_reserved_before_they_are_used(self) -> None:
        numbers = Numbers(4, ahead=2)
        with pytest.raises(OutOfParts):
            numbers.take()
        assert numbers.wanted == 6
        numbers.note(6)
        assert [numbers.take(), numbers.take()] == [5, 6]
        assert numbers.are_out
        with pytest.raises(OutOfParts):
            numbers.take()
        assert numbers.wanted == 8

    def test_end_where_the_store_ends(self) -> None:
        numbers = Numbers(9_998, ahead=8, most=10_000)
        assert numbers.wanted == 10_000
        numbers.note(numbers.wanted)
        numbers.take()
        numbers.take()
        numbers.note(numbers.wanted)
        with pytest.raises(OutOfParts):
            numbers.take()

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=30))
    def test_none_is_used_twice_whatever_is_killed(self, lives: list[tuple[int, bool]]) -> None:
        on_record, seen = 0, set[int]()
        for uses, is_killed in lives:
            numbers = Numbers(on_record, ahead=3)
            for _ in range(uses):
                if numbers.are_out:
                    on_record = numbers.wanted
                    numbers.note(on_record)
                number = numbers.take()
                assert number not in seen
                seen.add(number)
            if not is_killed:
                on_record = numbers.used
