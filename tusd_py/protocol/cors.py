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
    "Upload-Draft-Interop-Version, Content-Digest, Repr-Digest, Last-Event-ID"
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
        allow_credentials: Whether cookies and authentication may come along, from origins that
            `allow_origin` names.
        allow_headers: Further request headers that a page may send, comma-separated.
        max_age: Seconds for which a browser may keep the answer to a preflight.

    Raises:
        ValueError: `allow_origin` is not a regular expression, or credentials are allowed from any
            origin: every page of the web could then act as the user who happens to look at it.
    """

    allow_origin: str = "*"
    allow_credentials: bool = False
    allow_headers: str = ""
    max_age: int = 86_400

    def __post_init__(self) -> None:
        if self.allow_origin != "*":
            _check_pattern(self.allow_origin)
        elif self.allow_credentials:
            raise ValueError(
                "allow_credentials needs an allow_origin that names the pages which may send them; "
                r"set a regular expression such as 'https://app\.example\.com' instead of '*'"
            )

    def allows(self, origin: str) -> bool:
        """Whether a page of this origin may call; the pattern must match the whole of it."""
        return self.allow_origin == "*" or bool(re.fullmatch(self.allow_origin, origin))


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError) as error:
        raise ValueError(
            f"allow_origin {pattern!r} is not a regular expression: {error}"
        ) from error


def build_cors_headers(policy: CorsPolicy, request: Headers) -> tuple[Header, ...]:
    """What any response carries so that a browser lets its page see it (Fetch, CORS protocol)."""
    origin = request.first("Origin")
    any_origin = policy.allow_origin == "*"
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


def build_preflight_headers(
    policy: CorsPolicy, request: Headers, allow_methods: str = ALLOW_METHODS
) -> tuple[Header, ...]:
    """What the answer to an `OPTIONS` carries besides, when a browser asks beforehand."""
    origin = request.first("Origin")
    if origin is None or not policy.allows(origin):
        return ()
    allow_headers = ", ".join(filter(None, (ALLOW_HEADERS, policy.allow_headers)))
    return (
        ("Access-Control-Allow-Methods", allow_methods),
        ("Access-Control-Allow-Headers", allow_headers),
        ("Access-Control-Max-Age", str(policy.max_age)),
    )
