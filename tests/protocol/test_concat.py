"""Parts of this server become a whole, in the order in which the client named them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.samples import LONG, steady
from tusd_py.protocol.concat import (
    Concat,
    Final,
    Partial,
    build_upload_concat,
    parse_part_url,
    parse_upload_concat,
)
from tusd_py.protocol.errors import InvalidPart, InvalidUploadConcat

URLS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)


@pytest.mark.parametrize(
    ("value", "concat"),
    [
        ("partial", Partial()),
        ("final;/files/a", Final(("/files/a",))),
        ("final;/files/b /files/a /files/b", Final(("/files/b", "/files/a", "/files/b"))),
        (
            "final;https://tus.example.org/files/a https://tus.example.org/files/b",
            Final(("https://tus.example.org/files/a", "https://tus.example.org/files/b")),
        ),
        ("final;/files/a;b", Final(("/files/a;b",))),
        ("final;" + " ".join(["/files/a"] * 1000), Final(("/files/a",) * 1000)),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_part_and_a_whole_are_told_apart(value: str, concat: Concat) -> None:
    assert parse_upload_concat(value) == concat


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Partial",
        "partial;",
        "partial;/files/a",
        "partial, partial",
        "final",
        "final;",
        "final; ",
        "final:/files/a",
        "Final;/files/a",
        "finally;/files/a",
        "/files/a",
        ";",
        "\x00",
        "x" * LONG,
        "final;" + " ".join(["/files/a"] * 1001),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_what_is_neither_is_refused_in_a_short_sentence(value: str) -> None:
    with pytest.raises(InvalidUploadConcat) as caught:
        parse_upload_concat(value)
    assert caught.value.status == 400
    assert len(str(caught.value)) < 1000


@steady
@given(st.just(Partial()) | st.builds(Final, st.lists(URLS, min_size=1).map(tuple)))
def test_a_concat_comes_back(concat: Concat) -> None:
    assert parse_upload_concat(build_upload_concat(concat)) == concat


@steady
@given(st.text(st.sampled_from(" /ab;\t\x01\x0b\x85\xa0"), min_size=1))
def test_a_list_that_is_taken_goes_out_as_it_came_in(listed: str) -> None:
    """A client that compares what HEAD says with what it sent must find no difference."""
    value = f"final;{listed}"
    try:
        concat = parse_upload_concat(value)
    except InvalidUploadConcat:
        return
    assert build_upload_concat(concat) == value


@steady
@given(st.text(st.characters(max_codepoint=0xFF), min_size=1))
def test_a_list_that_is_taken_has_nothing_that_a_header_may_not_have(listed: str) -> None:
    """Control characters in a request must not come back in the head of a response."""
    try:
        concat = parse_upload_concat(f"final;{listed}")
    except InvalidUploadConcat:
        return
    assert build_upload_concat(concat).isprintable()


@pytest.mark.parametrize(
    ("url", "upload_id"),
    [
        ("/files/a", "a"),
        ("a", "a"),
        ("./a", "a"),
        ("../files/a", "a"),
        ("https://tus.example.org/files/a", "a"),
        ("http://other.example.org:8080/files/a", "a"),
        ("http://[::1]:1080/files/a", "a"),
        ("//tus.example.org/files/a", "a"),
        ("https://proxy.example.org/prefix/files/a", "a"),
        ("/files/a?x=/y", "a"),
        ("/files/a#x/y", "a"),
        ("/files/24e533e02ec3bc40c387f1a0e460e216", "24e533e02ec3bc40c387f1a0e460e216"),
    ],
)
def test_the_id_of_a_part_is_found_in_any_url_of_it(url: str, upload_id: str) -> None:
    assert parse_part_url(url, "/files/") == upload_id


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/",
        "/files/",
        "/files",
        "/other/a",
        "/otherfiles/a",
        "/files/x/a",
        "https://tus.example.org/a",
        "https://tus.example.org",
        "..",
        "/files/..",
        "/files/.hidden",
        "/files/%2e%2e",
        "/files/a%2fb",
        "/files/\u00e4",
        "/files/a\x00",
        "/files/" + "a" * 129,
        "http://[::1/files/a",
        "http://[not an address]/files/a",
        "x" * LONG,
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_url_that_leads_elsewhere_is_refused_in_a_short_sentence(url: str) -> None:
    with pytest.raises(InvalidPart) as caught:
        parse_part_url(url, "/files/")
    assert caught.value.status == 400
    assert len(str(caught.value)) < 1000
