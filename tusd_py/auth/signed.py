"""URLs with a signature: what an application's backend gives to a browser.

The rules:
- What a URL allows stands in it, signed with HMAC-SHA256; nothing is kept of it here.
- One for creating uploads is good for as many as come before its end; the URLs of those get a
  signature of their own, which ends when it does, and is for that upload alone.
- Who has one for an upload may do with it what the URL says, whoever owns it.
- A URL and those of the uploads that were created with it share one limit of speed.
- The first key signs, and all of them are good, so that keys can be changed.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
import urllib.parse
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from tusd_py.auth.source import Source, parse_secrets
from tusd_py.hooks.interface import Access
from tusd_py.protocol.errors import NotAllowed, NotAuthenticated
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.upload import SLOWEST

PARAMETER = "tus-signed"
"""Of the query string."""

VERBS = (
    "create",
    "concatenate",
    "append",
    "query",
    "terminate",
    "download",
    "watch",
    "control",
    "list",
    "stats",
)
"""All that a URL can allow; see `Access`."""

UPLOADING = ("create", "concatenate", "append", "query", "terminate", "watch", "control")
"""What a client that uploads does."""

_FOR_ONE = frozenset({"append", "query", "terminate", "download", "watch", "control"})
_CHALLENGE = 'SignedUrl realm="tusd-py"'
_CONTEXT = b"tusd-py signed URL 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claims:
    """What a URL allows: `end` in seconds since the epoch, UTC; `upload` is an id.

    `max_speed_for` tells the URL from others that have a limit of speed.
    """

    end: int
    may: tuple[str, ...]
    principal: str = ""
    upload: str | None = None
    max_size: int | None = None
    max_speed: int | None = None
    max_speed_for: str = ""


class SignedUrls:
    """Signs URLs, and knows those that it has signed.

    It can be given to `TusApp` as `authorize`; then nobody is let in without a signed URL.

    Args:
        keys: Secret ones, of at least 32 characters each; the first signs, all are known.
        clock: Seconds since the epoch, UTC.

    Raises:
        InvalidKeys: There is no key, or one is too short.
    """

    def __init__(
        self, keys: Sequence[str] | Source[list[bytes]], clock: Callable[[], float] = time.time
    ) -> None:
        if isinstance(keys, Source):
            self._keys = keys.value
        else:
            parsed = parse_secrets("\n".join(keys))
            self._keys = lambda: parsed
        self._clock = clock

    def sign(
        self,
        url: str,
        *,
        lasts: float,
        principal: str = "",
        max_size: int | None = None,
        max_speed: int | None = None,
        may: Collection[str] = UPLOADING,
    ) -> str:
        """A URL that needs no other credentials.

        Args:
            url: Where uploads are created, with a slash at its end; or that of an upload, which has
                none.
            lasts: Seconds until it ends.
            principal: Whose the uploads will be that are created with it; somebody new for each
                URL if it is left out.
            max_size: Bytes of one upload, None for what the server takes.
            max_speed: Bytes per second of all that is sent with it, at least 1,024; likewise.
            may: Some of `VERBS`; of an upload's URL, creating is left out.

        Raises:
            ValueError: One of these makes no sense; the message says which.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https", "") or not parts.path.startswith("/"):
            raise ValueError(
                f"{url!r} is not the URL of uploads, such as https://example.com/files/"
            )
        if lasts <= 0:
            raise ValueError("a URL that has ended already is of no use")
        if max_speed is not None and max_speed < SLOWEST:
            raise ValueError(f"{max_speed} bytes per second are too few; {SLOWEST} is the least")
        if unknown := sorted({*may} - {*VERBS}):
            raise ValueError(f"{unknown[0]!r} is nothing that a URL can allow: {', '.join(VERBS)}")
        upload = urllib.parse.unquote(parts.path.rpartition("/")[2]) or None
        claims = _Claims(
            end=int(self._clock() + lasts),
            may=tuple(sorted(may)),
            principal=principal or f"url-{secrets.token_hex(8)}",
            max_size=max_size,
            max_speed=max_speed,
            max_speed_for="" if max_speed is None else secrets.token_hex(8),
        )
        if upload is not None:
            claims = _for_one(claims, upload)
        query = "&".join(filter(None, (parts.query, self._query(claims))))
        return urllib.parse.urlunsplit(parts._replace(query=query))

    async def __call__(self, access: Access) -> Grant:
        """See `Hooks.authorize`.

        Raises:
            NotAuthenticated: The URL is not signed, or has ended.
            NotAllowed: It is for something else.
        """
        grant = self.find(access)
        if grant is None:
            raise NotAuthenticated("this URL is not signed; get one that is", _CHALLENGE)
        return grant

    def find(self, access: Access) -> Grant | None:
        """As a call, but None for a URL that is not signed."""
        query = urllib.parse.parse_qs(access.request.query, keep_blank_values=True)
        given = query.get(PARAMETER)
        if given is None:
            return None
        claims = self._claims(given[0]) if len(given) == 1 else None
        if claims is None:
            raise NotAuthenticated("the signature of this URL is wrong; get a new one", _CHALLENGE)
        if claims.end <= self._clock():
            raise NotAuthenticated("this signed URL has ended; get a new one", _CHALLENGE)
        if access.verb not in claims.may:
            raise NotAllowed(f"this signed URL does not allow to {access.verb}")
        if claims.upload is not None and access.upload_id != claims.upload:
            raise NotAllowed("this signed URL is for another upload")
        return Grant(
            principal=claims.principal,
            has_all=claims.upload is not None,
            max_size=claims.max_size,
            max_speed=claims.max_speed,
            max_speed_for=claims.max_speed_for,
            query_for=lambda upload_id: self._query(_for_one(claims, upload_id)),
        )

    def _query(self, claims: _Claims) -> str:
        payload = _encode(json.dumps(_to_json(claims), separators=(",", ":")).encode())
        return f"{PARAMETER}={payload}.{_sign(self._keys()[0], payload)}"

    def _claims(self, given: str) -> _Claims | None:
        """What stands in a URL, None if nobody here has signed it."""
        payload, _, signature = given.partition(".")
        good = False
        for key in self._keys():
            good |= hmac.compare_digest(_sign(key, payload).encode(), signature.encode())
        if not good:
            return None
        try:
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            return _Claims(**{**claims, "may": tuple(claims["may"])})
        except (binascii.Error, ValueError, TypeError, KeyError):
            return None  # the key was used for something else


def _for_one(claims: _Claims, upload_id: str) -> _Claims:
    may = tuple(verb for verb in claims.may if verb in _FOR_ONE)
    return replace(claims, upload=upload_id, may=may, principal="")


def _to_json(claims: _Claims) -> dict[str, object]:
    named: dict[str, object] = {"end": claims.end, "may": claims.may}
    if claims.principal:
        named["principal"] = claims.principal
    if claims.upload is not None:
        named["upload"] = claims.upload
    if claims.max_size is not None:
        named["max_size"] = claims.max_size
    if claims.max_speed is not None:
        named["max_speed"] = claims.max_speed
        named["max_speed_for"] = claims.max_speed_for
    return named


def _sign(key: bytes, payload: str) -> str:
    return _encode(hmac.digest(key, _CONTEXT + payload.encode(), hashlib.sha256))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
