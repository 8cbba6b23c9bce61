"""The syntax of what the user types."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.client.options import (
    parse_duration,
    parse_endpoint,
    parse_header,
    parse_metadata,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("65536", 65536),
        ("64MiB", 64 << 20),
        ("64m", 64 << 20),
        ("64MB", 64_000_000),
        ("1.5 GB", 1_500_000_000),
        ("2T", 2 << 40),
        ("10b", 10),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "0.1", "-1", "+1", "1_0", "٣", "MiB", "1e3", "1PiB", "99999999999T", "1M x"]
)
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("30", 30), ("30s", 30), ("500ms", 0.5), ("1.5m", 90), ("2h", 7200), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1w", "1 year", "inf", "nan"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("Authorization: Bearer a:b", ("Authorization", "Bearer a:b")),
        ("X-A:", ("X-A", "")),
        ("x:\ty ", ("x", "y")),
    ],
)
def test_headers(text: str, pair: tuple[str, str]) -> None:
    assert parse_header(text) == pair


@pytest.mark.parametrize("text", ["", "X", ": y", "a b: c", "X: a\nY: b", "X: \x00", "X: é"])
def test_headers_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a header such as"):
        parse_header(text)


@pytest.mark.parametrize("name", ["Tus-Resumable", "UPLOAD-LENGTH", "Content-Type", "host"])
def test_headers_that_are_ours(name: str) -> None:
    with pytest.raises(click.BadParameter, match="is a header that the upload itself needs"):
        parse_header(f"{name}: x")


@given(value=st.text(st.characters(blacklist_categories=["Cs"])))
def test_metadata_takes_any_value(value: str) -> None:
    assert parse_metadata(f"key={value}") == ("key", value.encode())


@pytest.mark.parametrize("text", ["", "key", "=x", "a b=c", "a,b=c", "é=c", "a\n=b"])
def test_metadata_that_is_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a pair such as"):
        parse_metadata(text)


@pytest.mark.parametrize("text", ["http://a", "https://a:8/files/?x=1", "http://[::1]:1080/"])
def test_urls(text: str) -> None:
    assert str(parse_endpoint(text)) == text


@pytest.mark.parametrize(
    "text", ["", "a", "//a/", "http://", "http:///x", "ftp://a/", "http://a:x/", "http://a/\n"]
)
def test_urls_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a URL such as"):
        parse_endpoint(text)
