"""JSON Web Tokens: which are good, and every way to come in with one that is not."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.auth.samples import (
    EC,
    OTHER,
    OTHER_RSA,
    RSA,
    SECRET,
    jwk,
    key_set,
    pem,
    private_pem,
    written,
)
from tusd_py.auth import jwt as jwt_module
from tusd_py.auth.interface import InvalidKeys
from tusd_py.auth.jwt import COOL_DOWN, FETCH_EVERY, JsonWebTokens, JwtSettings, parse_keys
from tusd_py.protocol.errors import NotAuthenticated

pytestmark = pytest.mark.anyio

KEYS: dict[str, Any] = {"HS256": SECRET, "RS256": RSA, "ES256": EC}


def claims(**more: Any) -> dict[str, Any]:
    """What a good token says; None takes one out."""
    now = int(time.time())
    named = {"sub": "alice", "exp": now + 600, "aud": "uploads", "iss": "https://id.test", **more}
    return {name: value for name, value in named.items() if value is not None}


def token(algorithm: str = "RS256", key: Any = None, kid: str | None = None, **more: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**more), key or KEYS[algorithm], algorithm, headers=headers)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def known(file: Path, text: str, **more: Any) -> JsonWebTokens:
    given: dict[str, Any] = {"audience": "uploads", "issuer": "https://id.test", **more}
    return JsonWebTokens(JwtSettings(keys=written(file, text), **given))


async def refused(tokens: JsonWebTokens, given: str, because: str) -> None:
    with pytest.raises(NotAuthenticated) as told:
        await tokens.whose(given)
    assert because in str(told.value)
    assert given not in str(told.value)
    challenge = 'Bearer realm="tusd-py", error="invalid_token"'
    assert told.value.headers == (("WWW-Authenticate", challenge),)


SETS = {
    "HS256": SECRET,
    "RS256": pem(RSA),
    "ES256": pem(EC),
    "set": key_set(jwk(RSA, "r"), jwk(EC, "e")),
    "both": pem(OTHER_RSA) + "\n" + pem(RSA) + pem(EC),
}


@pytest.mark.parametrize(
    ("given", "algorithm"),
    [
        *[(name, name) for name in KEYS],
        *[("set", "RS256"), ("set", "ES256"), ("both", "RS256"), ("both", "ES256")],
    ],
)
async def test_a_good_one(file: Path, given: str, algorithm: str) -> None:
    tokens = known(file, SETS[given])
    assert await tokens.whose(token(algorithm)) == "alice"


async def test_a_secret_in_a_set(file: Path) -> None:
    encoded = base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")
    tokens = known(file, key_set({"kty": "oct", "k": encoded, "kid": "s"}))
    assert await tokens.whose(token("HS256", kid="s")) == "alice"


@pytest.mark.parametrize("given", ["", "opaque-token", "a.b", "a.b.c.d"])
async def test_what_is_none(file: Path, given: str) -> None:
    """It may be a token of the other kind."""
    assert await known(file, SECRET).whose(given) is None


def by_hand(head: dict[str, Any], body: dict[str, Any], key: bytes = b"", digest: str = "") -> str:
    """A token that no library would make."""
    signed = ".".join(_part(json.dumps(each).encode()) for each in (head, body))
    signature = hmac.new(key, signed.encode(), digest).digest() if digest else b""
    return f"{signed}.{_part(signature)}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


PUBLIC = pem(RSA)

FORGED = {
    "none": by_hand({"alg": "none"}, claims()),
    "None": by_hand({"alg": "None"}, claims()),
    "no algorithm": by_hand({}, claims()),
    "empty algorithm": by_hand({"alg": ""}, claims()),
    "an algorithm that is a list": by_hand({"alg": ["RS256"]}, claims()),
    "wrong algorithm of that key": token("RS256", RSA).replace(
        _part(b'{"alg":"RS256","typ":"JWT"}'), _part(b'{"alg":"RS512","typ":"JWT"}')
    ),
    "HS512": jwt.encode(claims(), SECRET * 2, "HS512"),
    "RS512": jwt.encode(claims(), RSA, "RS512"),
    "PS256": jwt.encode(claims(), RSA, "PS256"),
    "the public key as a secret": by_hand({"alg": "HS256"}, claims(), PUBLIC.encode(), "sha256"),
    "the same without its last line": by_hand(
        {"alg": "HS256"}, claims(), PUBLIC.strip().encode(), "sha256"
    ),
    "another key of the kind": token("RS256", OTHER_RSA),
    "a key of another kind": token("ES256", EC),
    "a secret": token("HS256", SECRET),
    "a key that it brings along": jwt.encode(
        claims(), OTHER_RSA, "RS256", headers={"jwk": jwk(OTHER_RSA)}
    ),
    "a key at a place of its own": jwt.encode(
        claims(), OTHER_RSA, "RS256", headers={"jku": "http://127.0.0.1:1/keys"}
    ),
    "no signature": token().rpartition(".")[0] + ".",
    "another payload": ".".join(
        [
            token().split(".")[0],
            _part(json.dumps(claims(sub="bob")).encode()),
            token().split(".")[2],
        ]
    ),
    "something that must be understood": jwt.encode(
        claims(), RSA, "RS256", headers={"crit": ["mine"], "mine": 1}
    ),
    "no JSON": "a.b.c",
    "a name of a key that is a number": jwt.encode(claims(), RSA, "RS256").replace(
        _part(b'{"alg":"RS256","typ":"JWT"}'), _part(b'{"alg":"RS256","kid":5}')
    ),
}


@pytest.mark.parametrize("how", FORGED)
@pytest.mark.parametrize("form", ["pem", "set"])
async def test_a_forged_one(file: Path, how: str, form: str) -> None:
    tokens = known(file, PUBLIC if form == "pem" else key_set(jwk(RSA, "r")))
    named = how in ("none", "None", "no algorithm", "HS512", "RS512", "PS256")
    await refused(tokens, FORGED[how], "must be signed with one of RS256, ES256" if named else "")
    assert await tokens.whose(token("RS256")) == "alice"


def test_the_forged_public_key_would_verify() -> None:
    """Or the tests of confusion could not fail: the signature is right, for who takes the bait."""
    signed, _, signature = FORGED["the public key as a secret"].rpartition(".")
    made = hmac.new(PUBLIC.encode(), signed.encode(), hashlib.sha256).digest()
    assert _part(made) == signature


@pytest.mark.parametrize(
    ("more", "because"),
    [
        ({"exp": int(time.time()) - 60}, "has ended"),
        ({"exp": None}, "has no exp"),
        ({"exp": "soon"}, "cannot be read"),
        ({"nbf": int(time.time()) + 600}, "is not good yet"),
        ({"iat": int(time.time()) + 600}, "is not good yet"),
        ({"aud": "others"}, "meant for somebody else (aud)"),
        ({"aud": ["others", "more"]}, "meant for somebody else (aud)"),
        ({"aud": None}, "has no aud"),
        ({"iss": "https://else.test"}, "from somebody else (iss)"),
        ({"iss": None}, "has no iss"),
        ({"sub": None}, "has no sub"),
        ({"sub": ""}, "sub is no name"),
        ({"sub": "a\nb"}, "sub is no name"),
        ({"sub": "x" * 257}, "sub is no name"),
    ],
)
async def test_one_that_says_something_wrong(
    file: Path, more: dict[str, Any], because: str
) -> None:
    await refused(known(file, SETS["RS256"]), token(**more), because)


async def test_a_sub_that_is_no_text(file: Path) -> None:
    given = by_hand({"alg": "HS256"}, claims(sub=17), SECRET.encode(), "sha256")
    await refused(known(file, SECRET), given, "cannot be read")


async def test_clocks_may_differ_a_little(file: Path) -> None:
    late = token(exp=int(time.time()) - 60)
    assert await known(file, SETS["RS256"], leeway=120.0).whose(late) == "alice"
    await refused(known(file, SETS["RS256"], leeway=10.0), late, "has ended")


async def test_where_no_audience_is_said_a_token_must_name_none(file: Path) -> None:
    """One that does was given to somebody for another service."""
    tokens = known(file, SETS["RS256"], audience=None, issuer=None)
    assert await tokens.whose(token(aud=None, iss="any")) == "alice"
    await refused(tokens, token(), "meant for somebody else")


async def test_an_audience_among_others(file: Path) -> None:
    assert await known(file, SETS["RS256"]).whose(token(aud=["x", "uploads"])) == "alice"


async def test_a_name_leads_to_its_key(file: Path) -> None:
    tokens = known(file, key_set(jwk(RSA, "one"), jwk(OTHER_RSA, "two")))
    assert await tokens.whose(token(key=OTHER_RSA, kid="two")) == "alice"
    assert await tokens.whose(token(key=OTHER_RSA)) == "alice"
    await refused(tokens, token(key=OTHER_RSA, kid="one"), "no key of this server fits")
    await refused(tokens, token(key=OTHER_RSA, kid="three"), "no key of this server fits")


async def test_a_file_that_changes(file: Path) -> None:
    """An old key lets nobody in any more."""
    now = [0.0]
    settings = JwtSettings(keys=written(file, f"{SECRET}\n{OTHER}"), audience="uploads")
    tokens = JsonWebTokens(settings, lambda: now[0])
    assert await tokens.whose(token("HS256", OTHER)) == "alice"
    written(file, SECRET)
    now[0] += 60
    await refused(tokens, token("HS256", OTHER), "no key of this server fits")
    assert await tokens.whose(token("HS256")) == "alice"


SMALL_RSA = rsa.generate_private_key(public_exponent=65_537, key_size=1024)
P384 = ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", " holds no key"),
        ("too short", ", line 1: a secret key needs at least 32 characters"),
        ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 me@here", " holds a public key, but not in PEM"),
        (private_pem(RSA), " holds a private key; whoever verifies needs the public one alone"),
        (
            "-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----",
            " holds PEM that is no public",
        ),
        ("-----BEGIN PUBLIC KEY-----\n", " holds PEM that cannot be read"),
        (pem(SMALL_RSA), " must hold RSA keys of 2048 bits or more, or ones on the curve P-256"),
        (pem(P384), " must hold RSA keys of 2048 bits"),
        ("{", " is no JWK set"),
        ("{}", " is no JWK set"),
        ('{"keys": 5}', " is no JWK set"),
        ('{"keys": ["x"]}', " is no JWK set"),
        ('{"keys": []}', " has no key for RS256"),
        (key_set(jwk(SMALL_RSA)), " has no key for RS256"),
        (key_set(jwk(P384)), " has no key for RS256"),
        (key_set(jwk(RSA, use="enc"), jwk(RSA, alg="PS256")), " has no key for RS256"),
        (key_set({"kty": "RSA", "n": "!", "e": "AQAB"}), " has no key for RS256"),
        (key_set({"kty": "oct", "k": "c2hvcnQ"}), " has no key for RS256"),
    ],
)
def test_keys_that_cannot_be_used(text: str, complaint: str) -> None:
    with pytest.raises(InvalidKeys) as told:
        parse_keys(text)
    assert str(told.value).startswith(complaint)
    assert "\n" not in str(told.value)


def test_a_set_may_hold_others_beside() -> None:
    """An identity provider lists what it has; one that is not understood is passed over."""
    usable = jwk(RSA, "r", use="sig", alg="RS256")
    found = parse_keys(
        key_set({"kty": "OKP"}, {"kty": 5}, {}, jwk(P384), usable, jwk(EC, use="enc"))
    )
    assert [(key.name, key.algorithm) for key in found] == [("r", "RS256")]


# Keys at a URL


class Provider(http.server.ThreadingHTTPServer):
    """Gives keys, and counts how often."""

    daemon_threads = True
    text = ""
    status = 200
    asked = 0
    drips = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/keys"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        length = 10**6 if self.server.drips else len(self.server.text)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        with contextlib.suppress(OSError):
            while self.server.drips:
                self.wfile.write(b" ")
                time.sleep(0.05)
            self.wfile.write(self.server.text.encode())

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(("127.0.0.1", 0), Answer) as server:
        server.text = key_set(jwk(RSA, "one"))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fetched(url: str, clock: Clock) -> JsonWebTokens:
    return JsonWebTokens(JwtSettings(keys=url, audience="uploads"), clock)


async def test_keys_of_a_url(provider: Provider) -> None:
    clock = Clock()
    tokens = fetched(provider.url, clock)
    assert provider.asked == 1
    for _ in range(3):
        assert await tokens.whose(token(kid="one")) == "alice"
    assert provider.asked == 1


async def test_a_new_key_is_fetched_but_not_at_every_whim(provider: Provider) -> None:
    """Anyone can send names of keys that nobody has."""
    clock = Clock()
    tokens = fetched(provider.url, clock)
    provider.text = key_set(jwk(RSA, "one"), jwk(OTHER_RSA, "two"))
    await refused(tokens, token(key=OTHER_RSA, kid="two"), "no key of this server fits")
    assert provider.asked == 1, "it was fetched just now"
    clock.now += COOL_DOWN
    assert await tokens.whose(token(key=OTHER_RSA, kid="two")) == "alice"
    for name in "abc":
        await refused(tokens, token(key=OTHER_RSA, kid=name), "no key of this server fits")
    assert provider.asked == 2
    clock.now += COOL_DOWN
    for name in "abc":
        await refused(tokens, token(key=OTHER_RSA, kid=name), "no key of this server fits")
    assert provider.asked == 3


async def test_an_old_key_is_dropped(provider: Provider) -> None:
    clock = Clock()
    tokens = fetched(provider.url, clock)
    provider.text = key_set(jwk(OTHER_RSA, "two"))
    clock.now += FETCH_EVERY
    await refused(tokens, token(kid="one"), "no key of this server fits")
    assert provider.asked == 2


@pytest.mark.parametrize("how", ["down", "500", "no set", "no keys"])
async def test_while_it_cannot_be_fetched_the_keys_hold(
    provider: Provider, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Or an identity provider that restarts would stop all uploads."""
    clock = Clock()
    tokens = fetched(provider.url, clock)
    if how == "down":
        provider.server_close()
        provider.socket = socket.socket()
    provider.status = 500 if how == "500" else 200
    provider.text = key_set() if how == "no keys" else "<html>"
    clock.now += FETCH_EVERY
    assert await tokens.whose(token(kid="one")) == "alice"
    (line,) = [record.getMessage() for record in caplog.records if record.name == "tusd_py"]
    assert provider.url in line
    assert line.endswith("; what it said before goes on to hold")


async def test_a_url_that_never_ends_its_answer_holds_up_nobody(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time, and the keys never do: requests would wait for them without end."""
    clock = Clock()
    tokens = fetched(provider.url, clock)
    monkeypatch.setattr(jwt_module, "FETCH_WITHIN", 0.5)
    provider.drips = True
    clock.now += FETCH_EVERY
    assert await asyncio.wait_for(tokens.whose(token(kid="one")), 30) == "alice"


@pytest.mark.parametrize(
    ("text", "status", "complaint"),
    [
        ("<html>", 200, " is no JWK set: it must be JSON with a list of 'keys'"),
        ("", 404, " answered 404, and gave no keys"),
        ("", 302, " answered 302, and gave no keys"),
        (key_set({"kty": "oct", "k": "x" * 64}), 200, " has no key for RS256"),
    ],
)
def test_a_url_that_gives_none(provider: Provider, text: str, status: int, complaint: str) -> None:
    provider.text, provider.status = text, status
    with pytest.raises(InvalidKeys) as told:
        fetched(provider.url + "?key=hush", Clock())
    assert str(told.value).startswith(provider.url + complaint)
    assert "hush" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://127.0.0.1:1/keys", "the keys at http://127.0.0.1:1/keys cannot be fetched: "),
        ("http://id.test/keys", "http://id.test/keys: whoever is on the way could change these"),
        ("http://u:hush@id.test/keys?hush", "http://id.test/keys: whoever is on the way"),
        ("ftp://127.0.0.1/keys", "ftp://127.0.0.1/keys: whoever is on the way"),
        ("https://id.test:port/keys", "https://id.test:port/keys is no URL: "),
    ],
)
def test_a_url_that_cannot_be(url: str, complaint: str) -> None:
    with pytest.raises(InvalidKeys) as told:
        fetched(url, Clock())
    assert str(told.value).startswith(complaint)
    assert "\n" not in str(told.value)
