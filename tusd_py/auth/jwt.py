"""JSON Web Tokens (RFC 7519), verified by PyJWT; whose one is stands in its `sub`.

The rules:
- Each key is for one algorithm, by what it is: RSA for RS256, P-256 for ES256, a secret for HS256.
  A token is only compared with keys for the algorithm that it names, and it must name one of these.
- `exp` and `sub` must be there. `aud` and `iss` must be what the operator says; where he says no
  `aud`, a token that names one is meant for somebody else, and refused.
- Keys from a URL are fetched when the server starts, every few minutes, and when a token names one
  that is not known; never more often than every half minute. What the URL leaves out is not good
  any more. While it cannot be reached, what was fetched before goes on to hold.
- A URL gives no secrets.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tusd_py.auth.interface import InvalidKeys
from tusd_py.auth.source import Source, parse_secrets
from tusd_py.protocol.errors import NotAuthenticated

logger = logging.getLogger("tusd_py")

FETCH_WITHIN = 10.0
"""Seconds for a URL to give its keys."""
FETCH_EVERY = 300.0
COOL_DOWN = 30.0

_KINDS = {"RSA": "RS256", "EC": "ES256", "oct": "HS256"}
_SMALLEST_RSA = 2048
_LONGEST_PRINCIPAL = 256
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)
_CHALLENGE = 'Bearer realm="tusd-py", error="invalid_token"'


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSettings:
    """Which tokens are good.

    Attributes:
        keys: The `https` URL of a JWK set (RFC 7517); or a file, or `env:NAME`, that holds such a
            set, public keys in PEM, or secrets, one a line.
        audience: What `aud` must name.
        issuer: What `iss` must be, None for any.
        leeway: Seconds by which clocks may differ.
    """

    keys: str
    audience: str | None = None
    issuer: str | None = None
    leeway: float = 10.0


class Key(NamedTuple):
    """A key and the one algorithm it is for; `name` is its `kid`."""

    name: str | None
    algorithm: str
    key: Any


class JsonWebTokens:
    """See `Bearers`.

    Args:
        settings: Which tokens are good.
        clock: Seconds, for how old the keys are.

    Raises:
        InvalidKeys: There is no key that can be used, or its URL cannot be reached.
        OSError: Their file cannot be read.
    """

    def __init__(self, settings: JwtSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._keys: Source[list[Key]] | _Fetched
        if re.match(r"[a-z]+://", settings.keys):
            self._keys = _Fetched(settings.keys, clock)
        else:
            self._keys = Source(settings.keys, parse_keys, clock)

    async def whose(self, token: str) -> str | None:
        """See `Bearers.whose`."""
        if token.count(".") != 2:
            return None
        try:
            head = jwt.get_unverified_header(token)
            algorithm, name = str(head.get("alg")), head.get("kid")
            if algorithm not in _KINDS.values():
                raise NotAuthenticated(
                    f"the token must be signed with one of {', '.join(_KINDS.values())}", _CHALLENGE
                )
            claims = self._verified(token, await self._candidates(algorithm, name))
        except jwt.InvalidTokenError as error:
            raise NotAuthenticated(_sentence(error), _CHALLENGE) from error
        principal = str(claims["sub"])
        if not principal.isprintable() or not 0 < len(principal) <= _LONGEST_PRINCIPAL:
            raise NotAuthenticated("the token's sub is no name", _CHALLENGE)
        return principal

    async def _candidates(self, algorithm: str, name: str | None) -> list[Key]:
        if isinstance(self._keys, Source):
            return _fitting(self._keys.value(), algorithm, name)
        await self._keys.refresh(FETCH_EVERY)
        found = _fitting(self._keys.value, algorithm, name)
        if not found and await self._keys.refresh(COOL_DOWN):
            found = _fitting(self._keys.value, algorithm, name)
        return found

    def _verified(self, token: str, candidates: Sequence[Key]) -> dict[str, Any]:
        wrong: jwt.InvalidTokenError = jwt.InvalidSignatureError("no key fits")
        for candidate in candidates:
            try:
                return jwt.decode(
                    token,
                    candidate.key,
                    algorithms=[candidate.algorithm],
                    audience=self._settings.audience,
                    issuer=self._settings.issuer,
                    leeway=self._settings.leeway,
                    options={"require": ["exp", "sub"]},
                )
            except jwt.InvalidSignatureError as error:
                wrong = error
        raise wrong


def _fitting(keys: Sequence[Key], algorithm: str, name: str | None) -> list[Key]:
    """The keys that may have signed a token; a name is compared where both have one."""
    return [
        key
        for key in keys
        if key.algorithm == algorithm and (name is None or key.name in (None, name))
    ]


_SENTENCES: dict[type[jwt.InvalidTokenError], str] = {
    jwt.ExpiredSignatureError: "the token has ended; get a new one",
    jwt.ImmatureSignatureError: "the token is not good yet",
    jwt.InvalidAudienceError: "the token is meant for somebody else (aud)",
    jwt.InvalidIssuerError: "the token is from somebody else (iss)",
    jwt.InvalidSignatureError: "no key of this server fits to the token's signature",
}


def _sentence(error: jwt.InvalidTokenError) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"the token has no {error.claim}"
    return _SENTENCES.get(type(error), "the token cannot be read")


class _Fetched:
    """The keys at a URL.

    Attributes:
        value: As they were fetched last.
    """

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise InvalidKeys(f"{url} is no URL: {error}") from error
        self._url = parsed
        # Without what may be a secret of its own.
        self._shown = shown = parsed.copy_with(userinfo=b"", query=None, fragment=None)
        is_local = parsed.host in ("127.0.0.1", "::1", "localhost")
        if parsed.scheme != "https" and not (parsed.scheme == "http" and is_local):
            raise InvalidKeys(f"{shown}: whoever is on the way could change these keys; give https")
        self._clock = clock
        self._lock = asyncio.Lock()
        try:
            self.value = self._parsed(httpx.get(parsed, timeout=FETCH_WITHIN))
        except httpx.HTTPError as error:
            raise InvalidKeys(self._told(error)) from error
        self._tried_at = self._clock()

    async def refresh(self, at_least: float) -> bool:
        """Fetches them anew if the last attempt is some seconds ago: whether that was so."""
        if self._clock() - self._tried_at < at_least:
            return False
        async with self._lock:
            if self._clock() - self._tried_at < at_least:
                return True  # somebody else did so meanwhile
            self._tried_at = self._clock()
            try:
                # The client's own limit is for each piece of an answer.
                async with (
                    asyncio.timeout(FETCH_WITHIN),
                    httpx.AsyncClient(timeout=FETCH_WITHIN) as client,
                ):
                    self.value = self._parsed(await client.get(self._url))
            except (httpx.HTTPError, TimeoutError, InvalidKeys) as error:
                logger.warning("%s; what it said before goes on to hold", self._told(error))
        return True

    def _parsed(self, answer: httpx.Response) -> list[Key]:
        if answer.status_code != 200:
            raise InvalidKeys(f"{self._shown} answered {answer.status_code}, and gave no keys")
        try:
            return parse_key_set(answer.text, secrets=False)
        except InvalidKeys as error:
            raise InvalidKeys(f"{self._shown}{error}") from error

    def _told(self, error: httpx.HTTPError | TimeoutError | InvalidKeys) -> str:
        if isinstance(error, InvalidKeys):
            return str(error)
        reason = str(error) or type(error).__name__
        return f"the keys at {self._shown} cannot be fetched: {reason}"


def parse_keys(text: str) -> list[Key]:
    """The keys in a file: a JWK set, PEM, or secrets.

    Raises:
        InvalidKeys: None of them can be used.
    """
    if text.lstrip().startswith("{"):
        return parse_key_set(text, secrets=True)
    if "-----BEGIN" in text:
        return _parse_pem(text)
    return [Key(None, "HS256", _checked(secret)) for secret in parse_secrets(text)]


def _checked(secret: bytes) -> bytes:
    try:
        return jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise InvalidKeys(" holds a public key, but not in PEM") from error


def parse_key_set(text: str, *, secrets: bool) -> list[Key]:
    """The keys of a JWK set (RFC 7517) that verify by an algorithm that is known here.

    Args:
        text: JSON.
        secrets: Whether one may be a secret, which is no matter of a public URL.

    Raises:
        InvalidKeys: There is none.
    """
    try:
        entries = json.loads(text)["keys"]
        found = [_parse_entry(entry) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidKeys(" is no JWK set: it must be JSON with a list of 'keys'") from error
    usable = [key for key in found if key is not None and (secrets or key.algorithm != "HS256")]
    if not usable:
        raise InvalidKeys(" has no key for RS256 (of 2048 bits), ES256 or HS256 that can be used")
    return usable


def _parse_entry(entry: dict[str, Any]) -> Key | None:
    """One of a set; None if it is for something else (RFC 7517, 5: those "SHOULD" be ignored)."""
    algorithm = _KINDS.get(entry.get("kty", ""))
    is_other = entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm
    if algorithm is None or is_other:
        return None
    try:
        key = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, ValueError):  # the latter in releases before 2.14
        return None
    if algorithm == "HS256":
        return Key(entry.get("kid"), algorithm, key) if len(key) >= 32 else None
    return Key(entry.get("kid"), algorithm, key) if _algorithm(key) == algorithm else None


def _parse_pem(text: str) -> list[Key]:
    found = []
    for block in _PEM.finditer(text):
        if "PRIVATE" in block[1]:
            raise InvalidKeys(" holds a private key; whoever verifies needs the public one alone")
        try:
            key = load_pem_public_key(block[0].encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidKeys(" holds PEM that is no public key") from error
        algorithm = _algorithm(key)
        if algorithm is None:
            raise InvalidKeys(
                " must hold RSA keys of 2048 bits or more, or ones on the curve P-256"
            )
        found.append(Key(None, algorithm, key))
    if not found:
        raise InvalidKeys(" holds PEM that cannot be read")
    return found


def _algorithm(key: object) -> str | None:
    """What a public key is for, None where it is for nothing here."""
    if isinstance(key, RSAPublicKey):
        return "RS256" if key.key_size >= _SMALLEST_RSA else None
    if isinstance(key, EllipticCurvePublicKey):
        return "ES256" if isinstance(key.curve, SECP256R1) else None
    return None
