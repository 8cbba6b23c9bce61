"""Names and types of files arrive as they were sent, and nothing else gets into a header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.samples import LONG, steady
from tusd_py.protocol.errors import InvalidUploadMetadata
from tusd_py.protocol.metadata import build_upload_metadata, parse_upload_metadata

KEYS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","), min_size=1
)


@pytest.mark.parametrize(
    ("value", "metadata"),
    [
        ("", {}),
        (
            "filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential",
            {"filename": b"world_domination_plan.pdf", "is_confidential": b""},
        ),
        ("a YQ==,b", {"a": b"a", "b": b""}),
        ("a ,b YQ==", {"a": b"", "b": b"a"}),
        ("a YQ==, b YQ==", {"a": b"a", "b": b"a"}),
        ("A YQ==,a Yg==", {"A": b"a", "a": b"b"}),
        ("key AA0K/w==", {"key": b"\x00\r\n\xff"}),
        ("!#$%&'()*+-./:;<=>?@[\\]^_`{|}~ YQ==", {"!#$%&'()*+-./:;<=>?@[\\]^_`{|}~": b"a"}),
        ("k " + "QUJD" * (LONG // 4), {"k": b"ABC" * (LONG // 4)}),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_pairs_are_decoded_in_order(value: str, metadata: dict[str, bytes]) -> None:
    assert list(parse_upload_metadata(value).items()) == list(metadata.items())


@pytest.mark.parametrize(
    "value",
    [
        " ",
        ",",
        "a YQ==,",
        ",a YQ==",
        "a YQ==,,b YQ==",
        " YQ==,b YQ==, ",
        "a YQ==,a Yg==",  # twice
        "a,a",
        "a  YQ==",  # two spaces
        "a YQ== YQ==",
        "a b c",
        "a YQ",  # no padding
        "a YQ=",
        "a YQ===",
        "a Y",
        "a Y===",
        "a =",
        "a YQ==YQ==",
        "a YQ==\n",
        "a Y\nQ==",
        "a\tYQ==",
        "a YQ==\r\nSet-Cookie: x=y",
        "a _-8=",  # the alphabet of URLs
        "a Y\u0663==",
        "d\u00e4ne YQ==",
        "a\x00 YQ==",
        "a\x7f YQ==",
        "a " + "!" * LONG,
        "\x01" * LONG,
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_what_breaks_the_grammar_is_refused_in_a_short_sentence(value: str) -> None:
    with pytest.raises(InvalidUploadMetadata) as caught:
        parse_upload_metadata(value)
    assert caught.value.status == 400
    assert len(str(caught.value)) < 1000


@steady
@given(st.dictionaries(KEYS, st.binary()))
def test_metadata_comes_back(metadata: dict[str, bytes]) -> None:
    value = build_upload_metadata(metadata)
    assert list(parse_upload_metadata(value).items()) == list(metadata.items())
    assert value.isascii()
    assert value.isprintable(), "it can go into a header as it is"


@pytest.mark.parametrize("key", ["", "a b", "a,b", "\u00e4", "a\n", "\x00", "a\tb"])
def test_a_key_that_could_not_be_read_again_is_not_built(key: str) -> None:
    with pytest.raises(InvalidUploadMetadata):
        build_upload_metadata({key: b"value"})
