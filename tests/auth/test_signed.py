"""Signed URLs: what one allows, until when, and that nobody can change it."""

import base64
import json
import urllib.parse
from dataclasses import replace

import pytest

from tests.auth.samples import NOW, OTHER, SECRET, asking
from tusd_py.auth.interface import InvalidKeys
from tusd_py.auth.signed import PARAMETER, UPLOADING, VERBS, SignedUrls
from tusd_py.protocol.errors import NotAllowed, NotAuthenticated
from tusd_py.protocol.grant import Grant

pytestmark = pytest.mark.anyio

FILES = "https://example.com/files/"


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signed(clock: Clock) -> SignedUrls:
    return SignedUrls([SECRET], clock)


async def grant_of(signed: SignedUrls, url: str, verb: str, upload_id: str | None = None) -> Grant:
    return await signed(asking(verb, upload_id, url))


def claims_of(url: str) -> dict[str, object]:
    (value,) = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)[PARAMETER]
    payload = value.partition(".")[0]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return found


async def test_it_lets_in_until_it_ends(signed: SignedUrls, clock: Clock) -> None:
    url = signed.sign(FILES, lasts=60, principal="alice", max_size=100)
    assert url.startswith(FILES + "?" + PARAMETER + "=")
    grant = await grant_of(signed, url, "create")
    assert (grant.principal, grant.max_size, grant.has_all) == ("alice", 100, False)
    clock.now += 59.9
    await grant_of(signed, url, "append", "some-id")
    clock.now += 0.1
    with pytest.raises(NotAuthenticated, match="has ended; get a new one"):
        await grant_of(signed, url, "append", "some-id")


async def test_the_url_of_a_new_upload_is_for_that_alone(signed: SignedUrls, clock: Clock) -> None:
    """It is stored, and told to others; and an upload that a backend creates is given away."""
    url = signed.sign(FILES, lasts=60, principal="alice", max_size=100)
    query_for = (await grant_of(signed, url, "create")).query_for
    assert query_for is not None
    location = FILES + "mine?" + query_for("mine")
    for verb in ("append", "query", "terminate"):
        grant = await grant_of(signed, location, verb, "mine")
        assert (grant.has_all, grant.max_size) == (True, 100)
        with pytest.raises(NotAllowed, match="is for another upload"):
            await grant_of(signed, location, verb, "another")
    for verb in ("create", "concatenate", "download"):
        with pytest.raises(NotAllowed, match=f"does not allow to {verb}"):
            await grant_of(signed, location, verb, "mine")
    assert "principal" not in claims_of(location)
    clock.now += 60
    with pytest.raises(NotAuthenticated):
        await grant_of(signed, location, "query", "mine")


async def test_a_limit_of_speed_is_that_of_all_its_uploads(signed: SignedUrls) -> None:
    one, two = (signed.sign(FILES, lasts=60, principal="alice", max_speed=5000) for _ in range(2))
    first = await grant_of(signed, one, "create")
    assert first.query_for is not None
    location = FILES + "mine?" + first.query_for("mine")
    grants = [first, await grant_of(signed, location, "append", "mine")]
    assert [grant.max_speed for grant in grants] == [5000, 5000]
    shared = {grant.max_speed_for for grant in (*grants, await grant_of(signed, one, "create"))}
    other = (await grant_of(signed, two, "create")).max_speed_for
    assert len(shared) == len({*shared, ""} - {""}) == 1
    assert other not in {*shared, ""}
    without = await grant_of(signed, signed.sign(FILES, lasts=60), "create")
    assert (without.max_speed, without.max_speed_for) == (None, "")


async def test_the_url_of_an_upload(signed: SignedUrls) -> None:
    url = signed.sign(FILES + "an%2Did", lasts=60, may=["download", "create"])
    assert (await grant_of(signed, url, "download", "an-id")).has_all
    for verb, upload_id in (("download", "b"), ("create", None), ("query", "an-id")):
        with pytest.raises(NotAllowed):
            await grant_of(signed, url, verb, upload_id)


@pytest.mark.parametrize("verb", VERBS)
async def test_what_it_allows(signed: SignedUrls, verb: str) -> None:
    url = signed.sign(FILES, lasts=60, may=[verb])
    await grant_of(signed, url, verb, "id")
    for other in {*VERBS} - {verb}:
        with pytest.raises(NotAllowed, match=f"does not allow to {other}"):
            await grant_of(signed, url, other, "id")
    usual = signed.sign(FILES, lasts=60)
    if verb in UPLOADING:
        await grant_of(signed, usual, verb, "id")
    else:
        with pytest.raises(NotAllowed):
            await grant_of(signed, usual, verb, "id")


async def test_each_url_is_somebody_elses_unless_it_says_whose(signed: SignedUrls) -> None:
    """Or whoever has a URL could go on with the uploads of all others."""
    one, two = (signed.sign(FILES, lasts=60) for _ in range(2))
    names = [(await grant_of(signed, url, "create")).principal for url in (one, two, one)]
    assert names[0] == names[2] != names[1]
    assert all(name.startswith("url-") and len(name) == 20 for name in names)


async def test_one_that_was_changed(signed: SignedUrls) -> None:
    url = signed.sign(FILES, lasts=60, principal="alice", max_size=100)
    value = url.partition("=")[2]
    payload, _, signature = value.partition(".")
    claims = claims_of(url)
    forged = [
        base64.urlsafe_b64encode(json.dumps(claims | more).encode()).decode().rstrip("=")
        for more in ({"end": int(NOW) + 10**6}, {"principal": "bob"}, {"max_size": None})
    ]
    changed = [f"{each}.{signature}" for each in forged]
    changed += [
        payload,
        payload + ".",
        "." + signature,
        "",
        ".",
        value + "A",
        value[:-1],
        "%FF%00.x",
    ]
    changed += [f"{payload}.{signature.swapcase()}", f"{payload}.ä", f"{signature}.{payload}"]
    for each in changed:
        with pytest.raises(NotAuthenticated, match="signature of this URL is wrong"):
            await grant_of(signed, f"{FILES}?{PARAMETER}={each}", "create")
    twice = f"{FILES}?{PARAMETER}={value}&{PARAMETER}={value}"
    with pytest.raises(NotAuthenticated, match="is wrong"):
        await grant_of(signed, twice, "create")


async def test_keys_can_be_changed(clock: Clock) -> None:
    old = SignedUrls([OTHER], clock).sign(FILES, lasts=60)
    both = SignedUrls([SECRET, OTHER], clock)
    await grant_of(both, old, "create")
    new = both.sign(FILES, lasts=60)
    after = SignedUrls([SECRET], clock)
    await grant_of(after, new, "create")
    with pytest.raises(NotAuthenticated, match="is wrong"):
        await grant_of(after, old, "create")


async def test_a_key_that_signs_other_things_opens_nothing(signed: SignedUrls) -> None:
    """Backends use one key for several things."""
    import hashlib
    import hmac

    payload = claims_payload()
    plain = hmac.digest(SECRET.encode(), payload.encode(), hashlib.sha256)
    signature = base64.urlsafe_b64encode(plain).decode().rstrip("=")
    with pytest.raises(NotAuthenticated):
        await grant_of(signed, f"{FILES}?{PARAMETER}={payload}.{signature}", "create")


def claims_payload() -> str:
    claims = {"end": int(NOW) + 60, "may": ["create"], "principal": "alice"}
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


async def test_without_a_signature(signed: SignedUrls) -> None:
    with pytest.raises(NotAuthenticated, match="is not signed") as told:
        await grant_of(signed, FILES + "?a=b", "create")
    assert told.value.headers == (("WWW-Authenticate", 'SignedUrl realm="tusd-py"'),)
    assert signed.find(asking("create", None, FILES)) is None


async def test_what_else_stands_in_the_query_stays(signed: SignedUrls) -> None:
    url = signed.sign("/files/?tenant=7", lasts=60)
    assert url.startswith("/files/?tenant=7&tus-signed=")
    await grant_of(signed, url, "create")


@pytest.mark.parametrize(
    ("url", "more", "complaint"),
    [
        ("files", {}, "is not the URL of uploads"),
        ("ftp://example.com/files/", {}, "is not the URL of uploads"),
        ("https://example.com", {}, "is not the URL of uploads"),
        (FILES, {"lasts": 0}, "has ended already"),
        (FILES, {"max_speed": 1023}, "1023 bytes per second are too few; 1024 is the least"),
        (FILES, {"may": ["fly"]}, "'fly' is nothing that a URL can allow: create, "),
    ],
)
def test_what_cannot_be_signed(
    signed: SignedUrls, url: str, more: dict[str, object], complaint: str
) -> None:
    given: dict[str, object] = {"lasts": 60, **more}
    with pytest.raises(ValueError, match=complaint):
        signed.sign(url, **given)  # type: ignore[arg-type]


def test_keys_that_are_none() -> None:
    for keys in ([], ["too short"], [SECRET, ""]):
        if keys == [SECRET, ""]:
            SignedUrls(keys)
            continue
        with pytest.raises(InvalidKeys):
            SignedUrls(keys)


def test_what_is_asked_is_not_shown() -> None:
    """What an application writes to its log is what `repr` gives."""
    access = asking(url=f"{FILES}?{PARAMETER}=secret", authorization="Bearer secret")
    assert "secret" not in repr(access)
    assert "secret" not in repr(replace(access, verb="append"))
