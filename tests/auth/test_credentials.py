"""Who asks, by what a request carries."""

from pathlib import Path

import pytest

from tests.auth.samples import SECRET, asking, bearer, written
from tusd_py.auth.credentials import Credentials
from tusd_py.auth.signed import SignedUrls
from tusd_py.auth.tokens import Tokens
from tusd_py.protocol.errors import NotAllowed, NotAuthenticated

pytestmark = pytest.mark.anyio

TOKEN = "a-token-of-alice_1234"
FILES = "/files/"
SIGNED = SignedUrls([SECRET])


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(written(tmp_path / "tokens", f"{TOKEN} alice\n"))


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
async def test_a_token(tokens: Tokens, scheme: str) -> None:
    grant = await Credentials([tokens])(asking(authorization=scheme + TOKEN))
    assert (grant.principal, grant.has_all, grant.query_for) == ("alice", False, None)


@pytest.mark.parametrize(
    ("value", "challenge"),
    [
        (None, 'Bearer realm="tusd-py"'),
        ("", 'Bearer realm="tusd-py"'),
        ("Basic YWxpY2U6", 'Bearer realm="tusd-py"'),
        (TOKEN, 'Bearer realm="tusd-py"'),
        ("Bearer", 'Bearer realm="tusd-py", error="invalid_token"'),
        ("Bearer ", 'Bearer realm="tusd-py", error="invalid_token"'),
        ("Bearer wrong", 'Bearer realm="tusd-py", error="invalid_token"'),
        (f"Bearer {TOKEN}, Bearer {TOKEN}", 'Bearer realm="tusd-py", error="invalid_token"'),
    ],
)
@pytest.mark.parametrize("signed", [None, SIGNED])
async def test_no_token(
    tokens: Tokens, signed: SignedUrls | None, value: str | None, challenge: str
) -> None:
    headers = {} if value is None else {"authorization": value}
    with pytest.raises(NotAuthenticated) as told:
        await Credentials([tokens], signed)(asking(**headers))
    assert told.value.headers == (("WWW-Authenticate", challenge),)
    assert TOKEN not in str(told.value)


async def test_several_kinds(tokens: Tokens, tmp_path: Path) -> None:
    more = Tokens(written(tmp_path / "more", "another-token-1234 bob\n"))
    credentials = Credentials([tokens, more], SIGNED)
    assert (await credentials(bearer(TOKEN))).principal == "alice"
    assert (await credentials(bearer("another-token-1234"))).principal == "bob"
    url = SIGNED.sign(FILES, lasts=60, principal="carol")
    assert (await credentials(asking(url=url))).principal == "carol"
    with pytest.raises(NotAuthenticated):
        await credentials(asking(url=url, authorization="Bearer wrong"))


async def test_signed_urls_alone() -> None:
    """A page may send a token of its own, which nobody here knows."""
    credentials = Credentials([], SIGNED)
    url = SIGNED.sign(FILES, lasts=60, principal="carol", may=["create"])
    assert (await credentials(asking(url=url, authorization="Bearer x"))).principal == "carol"
    with pytest.raises(NotAllowed):
        await credentials(asking("query", "id", url))
    with pytest.raises(NotAuthenticated) as told:
        await credentials(asking(authorization="Bearer x"))
    assert told.value.headers == (("WWW-Authenticate", 'SignedUrl realm="tusd-py"'),)
