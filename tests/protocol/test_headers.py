"""Each header is read once, strictly; what is built can be read again."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.samples import LONG, headers, steady
from tusd_py.protocol.abnf import LARGEST_INTEGER
from tusd_py.protocol.errors import (
    InvalidHeader,
    InvalidUploadDeferLength,
    InvalidUploadLength,
    InvalidUploadOffset,
)
from tusd_py.protocol.headers import (
    Headers,
    build_upload_expires,
    build_upload_length,
    build_upload_offset,
    parse_content_length,
    parse_media_type,
    parse_upload_defer_length,
    parse_upload_expires,
    parse_upload_length,
    parse_upload_offset,
)

NO_INTEGERS = [
    "",
    " ",
    "-1",
    "-0",
    "+5",
    "1_0",
    "1 0",
    " 5",
    "5 ",
    "5,5",
    "5\n",
    "5\r\n",
    "5\x00",
    "\x005",
    "0x10",
    "1e3",
    "5.0",
    "NaN",
    "\u0663",  # an Arabic three
    "\u0663".encode().decode("latin-1"),  # as it looks in a header
    "\uff15",
    "\u00b2",
    str(10**19),  # 20 digits
    "0" * 19 + "5",
    "9" * LONG,
]
INTEGERS = [
    (parse_upload_offset, InvalidUploadOffset),
    (parse_upload_length, InvalidUploadLength),
    (parse_content_length, InvalidHeader),
]


@pytest.mark.parametrize(("parse", "error"), INTEGERS)
@pytest.mark.parametrize("value", NO_INTEGERS, ids=lambda value: ascii(value[:24]))
def test_what_is_not_a_number_of_bytes_is_refused(
    parse: Callable[[str], int | None], error: type[InvalidHeader], value: str
) -> None:
    with pytest.raises(error) as caught:
        parse(value)
    assert type(caught.value) is error
    assert caught.value.status == 400


@pytest.mark.parametrize("parse", [parse_upload_length, parse_content_length])
def test_a_size_that_no_file_can_have_is_refused(parse: Callable[[str], int | None]) -> None:
    with pytest.raises(InvalidHeader, match="must be at most 9223372036854775807"):
        parse(str(LARGEST_INTEGER + 1))


def test_an_offset_may_be_larger_than_any_upload() -> None:
    """It is a mismatch then (409), and no error of syntax."""
    assert parse_upload_offset(str(LARGEST_INTEGER + 1)) == LARGEST_INTEGER + 1


@pytest.mark.parametrize(("parse", "error"), INTEGERS)
@pytest.mark.parametrize(
    ("value", "number"),
    [("0", 0), ("5", 5), ("0005", 5), (str(LARGEST_INTEGER), LARGEST_INTEGER)],
)
def test_a_number_of_bytes_is_taken(
    parse: Callable[[str], int | None], error: type[InvalidHeader], value: str, number: int
) -> None:
    assert parse(value) == number


@steady
@given(st.integers(0, LARGEST_INTEGER))
def test_integers_come_back(number: int) -> None:
    assert parse_upload_offset(build_upload_offset(number)) == number
    assert parse_upload_length(build_upload_length(number)) == number


def test_a_missing_offset_is_an_error_and_a_missing_content_length_is_not() -> None:
    with pytest.raises(InvalidUploadOffset, match="is missing"):
        parse_upload_offset(None)
    assert parse_content_length(None) is None


def test_a_length_can_be_deferred_with_1_only() -> None:
    assert parse_upload_defer_length("1") is True
    assert parse_upload_defer_length(None) is False
    for value in ("", "0", "2", "01", "1.0", "true", "-1", "1,1", "\u00b9"):
        with pytest.raises(InvalidUploadDeferLength):
            parse_upload_defer_length(value)


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        (None, None),
        ("", ""),
        ("application/offset+octet-stream", "application/offset+octet-stream"),
        ("Application/Offset+Octet-Stream", "application/offset+octet-stream"),
        ("application/offset+octet-stream;charset=utf-8", "application/offset+octet-stream"),
        ("application/offset+octet-stream ; a=b; c=d", "application/offset+octet-stream"),
        (
            "application/offset+octet-stream, text/plain",
            "application/offset+octet-stream, text/plain",
        ),
        (";", ""),
    ],
)
def test_a_media_type_is_compared_without_case_and_parameters(
    value: str | None, media_type: str | None
) -> None:
    assert parse_media_type(value) == media_type


IMF_FIXDATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d "
    r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT"
)


def test_an_expiry_is_the_date_of_the_specifications_example() -> None:
    assert build_upload_expires(1403712000) == "Wed, 25 Jun 2014 16:00:00 GMT"
    assert build_upload_expires(1403712000.999) == "Wed, 25 Jun 2014 16:00:00 GMT", "not later"


@steady
@given(st.integers(0, 253_402_300_799))
def test_an_expiry_comes_back(expires_at: int) -> None:
    value = build_upload_expires(expires_at)
    assert IMF_FIXDATE.fullmatch(value)
    assert parse_upload_expires(value) == expires_at


@pytest.mark.parametrize(
    ("value", "expires_at"),
    [
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        ("Sun, 06 Nov 1994 08:49:37 -0000", 784111777),
    ],
)
def test_the_obsolete_dates_of_rfc_9110_are_read_as_utc(value: str, expires_at: int) -> None:
    assert parse_upload_expires(value) == expires_at


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "tomorrow",
        "Wed, 32 Jun 2014 16:00:00 GMT",
        "Wed, 25 Jun 2014 25:00:00 GMT",
        "Wed, 25 Jun 99999999999999999999 16:00:00 GMT",
        "Wed, 25 Jun 2014 16:00:00 +99999999999999999999",
        "\x00" * 40,
        "9" * LONG,
    ],
    ids=lambda value: ascii(value[:60]),
)
def test_what_is_no_date_is_an_invalid_header_and_never_a_crash(value: str) -> None:
    with pytest.raises(InvalidHeader):
        parse_upload_expires(value)


def test_headers_are_found_by_any_case_and_their_values_trimmed() -> None:
    found = Headers([(b"upload-OFFSET", b" \t5\t "), (b"X-Name", b"\xe4 \xa0")])
    assert "Upload-Offset" in found
    assert "UPLOAD-offset" in found
    assert "Upload-Length" not in found
    assert found.one("Upload-Offset") == "5"
    assert found.one("x-name") == "\u00e4 \u00a0", "Latin-1, and only spaces and tabs are trimmed"


def test_a_header_that_may_stand_once_is_refused_when_it_stands_twice() -> None:
    twice = headers(("Upload-Length", "5"), ("upload-length", "6"))
    with pytest.raises(InvalidHeader, match="Upload-Length was sent more than once"):
        twice.one("Upload-Length")
    assert twice.first("Upload-Length") == "5"
    assert twice.joined("Upload-Length") == "5,6"


def test_an_absent_header_is_none_and_an_absent_list_empty() -> None:
    none = headers()
    assert none.one("Trailer") is None
    assert none.first("Trailer") is None
    assert none.joined("Trailer") == ""


def test_hooks_get_all_headers_as_they_came() -> None:
    came = headers(("Upload-Metadata", "a YQ=="), ("X-Tag", "a"), ("x-tag", "b"))
    assert came.as_mapping() == {"upload-metadata": "a YQ==", "x-tag": "a, b"}
