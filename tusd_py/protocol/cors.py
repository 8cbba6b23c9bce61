"""Cross-origin requests: which page may talk to this server, and which headers it may see."""

import re
from dataclasses import dataclass

from tusd_py.protocol.errors import Header
from tusd_py.protocol.headers import Headers

ALLOW_METHODS = "POST, HEAD, PATCH, OPTIONS, GET, DELETE"
ALLOW_HEADERS = (
    "Authorization, Origin, X-Requested-With, X-Request-ID, X-HTTP-Method-Override, Content-Type, "
    "Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata, Upload-Defer-Length, "
    "Upload-Concat, Upload-Checksum, Upload-Complete, Upload-Incomplete, "
    "Upload-Draft-Interop-Version, Content-Digest, Repr-Digest"
)
EXPOSE_HEADERS = (
    "Location, Upload-Offset, Upload-Length, Upload-Metadata, Upload-Defer-Length, Upload-Concat, "
    "Upload-Expires, Upload-Complete, Upload-Limit, Tus-Resumable, Tus-Version, Tus-Extension, "
    "Tus-Max-Size, Tus-Checksum-Algorithm, Retry-After, X-Request-ID, Content-Digest, Repr-Digest"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsPolicy:
    """Who may call from a browser.

    Attributes:
        allow_origin: A regular expression for the whole `Origin`, or `*` for any.
        allow_credentials: Whether cookies and authentication may come along; the origin is then
            echoed and never `*`.
        allow_headers: Further request headers that a page may send, comma-separated.
        max_age: Seconds for which a browser may keep the answer to a preflight.
    """

    allow_origin: str = "*"
    allow_credentials: bool = False
    allow_headers: str = ""
    max_age: int = 86_400

    def allows(self, origin: str) -> bool:
        """Whether a page of this origin may call; the pattern must match the whole of it."""
        return self.allow_origin == "*" or bool(re.fullmatch(self.allow_origin, origin))


def build_cors_headers(policy: CorsPolicy, request: Headers) -> tuple[Header, ...]:
    """What any response carries so that a browser lets its page see it (Fetch, CORS protocol)."""
    origin = request.first("Origin")
    any_origin = policy.allow_origin == "*" and not policy.allow_credentials
    vary: tuple[Header, ...] = () if any_origin else (("Vary", "Origin"),)
    if origin is None or not policy.allows(origin):
        return vary
    headers: tuple[Header, ...] = (
        *vary,
        ("Access-Control-Allow-Origin", "*" if any_origin else origin),
        ("Access-Control-Expose-Headers", EXPOSE_HEADERS),
    )
    if policy.allow_credentials:
        headers += (("Access-Control-Allow-Credentials", "true"),)
    return headers


def build_preflight_headers(policy: CorsPolicy, request: Headers) -> tuple[Header, ...]:
    """What the answer to an `OPTIONS` carries besides, when a browser asks beforehand."""
    origin = request.first("Origin")
    if origin is None or not policy.allows(origin):
        return ()
    allow_headers = ", ".join(filter(None, (ALLOW_HEADERS, policy.allow_headers)))
    return (
        ("Access-Control-Allow-Methods", ALLOW_METHODS),
        ("Access-Control-Allow-Headers", allow_headers),
        ("Access-Control-Max-Age", str(policy.max_age)),
    )
