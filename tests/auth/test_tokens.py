"""Tokens of a file: whose one is, and that a wrong one tells nothing by its time."""

import hmac
from pathlib import Path

import pytest

from tests.auth.samples import written
from tusd_py.auth.interface import InvalidKeys
from tusd_py.auth.tokens import Tokens, parse_tokens

pytestmark = pytest.mark.anyio

ALICE, BOB = "a-token-of-alice_1234", "Ym9iJ3MgdG9rZW4sIGhpcyBvd24="
FILE = f"# tokens\n{ALICE} alice\n\n  {BOB}   Bob of Example \n"


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(written(tmp_path / "tokens", FILE))


async def test_whose_it_is(tokens: Tokens) -> None:
    assert await tokens.whose(ALICE) == "alice"
    assert await tokens.whose(BOB) == "Bob of Example"


@pytest.mark.parametrize(
    "token",
    ["", ALICE[:-1], ALICE + "x", ALICE.upper(), "# tokens", "alice", ALICE + " alice", "ä" * 16],
)
async def test_any_other_is_nobodys(tokens: Tokens, token: str) -> None:
    assert await tokens.whose(token) is None


async def test_each_is_compared_in_constant_time(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison that ends with the first wrong character gives a token away, piece by piece."""
    compared: list[tuple[int, int]] = []
    compare_digest = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare_digest(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    for token in (ALICE, BOB, ALICE[:-1], "x", "", "y" * 5000):
        compared.clear()
        await tokens.whose(token)
        assert compared == [(32, 32)] * 2, "with all of them, and as long as any other"


async def test_the_tokens_themselves_are_not_kept(tokens: Tokens) -> None:
    """What is not there cannot be compared by mistake, nor be found in a dump."""
    for known, _ in tokens._source.value():
        assert len(known) == 32
    assert ALICE not in repr(vars(tokens._source))


async def test_a_token_that_is_taken_out_lets_nobody_in(tmp_path: Path) -> None:
    now = [0.0]
    tokens = Tokens(written(tmp_path / "tokens", FILE))
    tokens._source._clock = lambda: now[0]
    written(tmp_path / "tokens", f"{BOB} bob\n")
    now[0] += 1e9
    assert await tokens.whose(ALICE) is None
    assert await tokens.whose(BOB) == "bob"
    written(tmp_path / "tokens", "")
    now[0] += 1e9
    assert await tokens.whose(BOB) is None


def test_a_file_without_a_token_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(InvalidKeys, match="tokens has no token, so nobody could be let in"):
        Tokens(written(tmp_path / "tokens", "# none yet\n"))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (ALICE, "must be a token, a space, and whose it is"),
        ("a-token-with-ümläuts alice", "must be a token, a space"),
        (f"{ALICE}\talice", "must be a token, a space"),
        (f"{ALICE} al\x1bice", "must be a token, a space"),
        ("fifteen-letters alice", "a token needs at least 16 characters; make one with: python3"),
        (f"{BOB} bob again", "this token stands further up already"),
    ],
)
def test_a_line_that_cannot_be_used(line: str, complaint: str) -> None:
    with pytest.raises(InvalidKeys) as told:
        parse_tokens(f"{BOB} bob\n# no token\n{line}\n")
    assert str(told.value).startswith(f", line 3: {complaint}")
    assert line.split()[0] not in str(told.value), "a message ends in a log"
