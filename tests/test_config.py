"""Sizes and durations as people write them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.config import build_size, parse_duration, parse_size

SIZES = {
    "0": 0,
    "1": 1,
    "1048576": 1_048_576,
    "12b": 12,
    "12 B": 12,
    "1k": 1024,
    "1K": 1024,
    "1kb": 1000,
    "1KB": 1000,
    "1KiB": 1024,
    "1M": 2**20,
    "500MB": 500_000_000,
    "64 MiB": 64 * 2**20,
    "5G": 5 * 2**30,
    "5GB": 5 * 10**9,
    "5GiB": 5 * 2**30,
    "5gib": 5 * 2**30,
    "2T": 2**41,
    "2TB": 2 * 10**12,
    "2TiB": 2**41,
    "1.5GiB": 3 * 2**29,
    "0.5kB": 500,
    " 7MB ": 7_000_000,
    "9007199254740993": 9_007_199_254_740_993,  # one more than a float can tell apart
}
NO_SIZES = [
    "",
    " ",
    "GiB",
    "-1",
    "+1",
    "1_000",
    "1,000",
    "1.5",  # half a byte
    "1.5b",
    "1.5.5k",
    ".5G",
    "5.G",
    "5  G",
    "5 G B",
    "5PB",
    "5Gi",
    "0x10",
    "1e9",
    "\u0665",  # Arabic five
    "5\u212a",  # the Kelvin sign, whose lower case is k
    "5\n6",
    "inf",
    "nan",
    "unlimited",
    "9" * 19,
]
DURATIONS = {
    "0": 0.0,
    "90": 90.0,
    "1.5": 1.5,
    "90s": 90.0,
    "15m": 900.0,
    "24h": 86_400.0,
    "24H": 86_400.0,
    "7d": 604_800.0,
    "250ms": 0.25,
    "1h30m": 5400.0,
    "1d12h5m1s1ms": 86_400 + 43_200 + 300 + 1 + 0.001,
    "1.5h": 5400.0,
    " 5m ": 300.0,
}
NO_DURATIONS = [
    "",
    " ",
    "s",
    "-5s",
    "+5s",
    "5 s",
    "5x",
    "5w",
    "1h 30m",
    "1h30",
    "h1",
    "1_0s",
    "1e3",
    "5s!",
    "!5s",
    "5s5",
    "\u0665s",
    "inf",
    "nan",
    "forever",
]


@pytest.mark.parametrize(("text", "size"), SIZES.items())
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    """A limit that was misread is worse than a server that does not start."""
    with pytest.raises(ValueError, match="5GiB") as refused:
        parse_size(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", NO_DURATIONS)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="24h") as refused:
        parse_duration(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20, "1.0 MiB"),
        (5 * 2**30, "5.0 GiB"),
        (2**40, "1.0 TiB"),
        (2**50, "1024.0 TiB"),
    ],
)
def test_a_size_is_written_for_people(size: int, text: str) -> None:
    assert build_size(size) == text


@given(st.integers(0, 2**62))
def test_what_is_written_is_read_again_but_for_rounding(size: int) -> None:
    again = parse_size(build_size(size))
    assert again == size if size < 1024 else abs(again - size) <= max(size * 0.05, 1)


@given(st.integers(0, 10**9 - 1), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_durations_add_up(number: int, unit: str) -> None:
    one, two = parse_duration(f"{number}{unit}"), parse_duration(f"{number}{unit}{number}{unit}")
    assert two == pytest.approx(2 * one)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_size, parse_duration):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0
