"""What every pattern takes and refuses, where no parser of this room shows it."""

import re

import pytest

from tusd_py.protocol import abnf


@pytest.mark.parametrize(
    ("upload_id", "taken"),
    [
        ("24e533e02ec3bc40c387f1a0e460e216", True),
        ("a", True),
        ("-_.~", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        (".", False),
        ("..", False),
        (".hidden", False),
        ("~root", False),
        ("a/b", False),
        ("a%2fb", False),
        ("a\\b", False),
        ("a\x00", False),
        ("a\n", False),
        ("\u00e4", False),
        ("\u0663", False),
    ],
)
def test_an_id_is_a_safe_name_of_a_file(upload_id: str, taken: bool) -> None:
    assert bool(abnf.UPLOAD_ID.fullmatch(upload_id)) is taken


@pytest.mark.parametrize(
    "pattern",
    [
        abnf.INTEGER,
        abnf.TOKEN,
        abnf.BASE64,
        abnf.METADATA_KEY,
        abnf.CHECKSUM_ALGORITHM,
        abnf.UPLOAD_ID,
        abnf.HOST,
    ],
)
@pytest.mark.parametrize(
    "character", [" ", "\t", "\r", "\n", "\x00", "\x7f", "\x85", "\xa0", "\xb2"]
)
def test_no_pattern_takes_what_could_end_or_split_a_header(
    pattern: re.Pattern[str], character: str
) -> None:
    for value in (character, f"AAA{character}", f"{character}AAA", f"1{character}1"):
        assert not pattern.fullmatch(value)
