"""A page may talk to this server where its owner allows it, and sees what it needs to go on."""

import pytest

from tests.protocol.samples import FINAL, UPLOAD, headers
from tusd_py.protocol.cors import (
    ALLOW_HEADERS,
    ALLOW_METHODS,
    EXPOSE_HEADERS,
    CorsPolicy,
    build_cors_headers,
    build_preflight_headers,
)
from tusd_py.protocol.errors import ReadTimeout, UnsupportedVersion
from tusd_py.protocol.tus1 import (
    Capabilities,
    build_appended,
    build_capabilities,
    build_created,
    build_error,
    build_found,
)

PAGE = "https://app.example.org"
FROM_PAGE = headers(("Origin", PAGE))
OWN = CorsPolicy(allow_origin=r"https://[a-z]+\.example\.org")
WITH_COOKIES = CorsPolicy(allow_origin=OWN.allow_origin, allow_credentials=True)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.org", True),
        ("https://app.example.org.evil.com", False),
        ("https://evil.com/https://app.example.org", False),
        ("xhttps://app.example.org", False),
        ("https://app.example.org\n", False),
        ("http://app.example.org", False),
        ("null", False),
        ("", False),
    ],
)
def test_a_pattern_matches_the_whole_origin(origin: str, allowed: bool) -> None:
    assert OWN.allows(origin) is allowed
    assert CorsPolicy().allows(origin), "by default any page may upload"


@pytest.mark.parametrize(
    ("policy", "origin", "expected"),
    [
        (CorsPolicy(), None, {}),
        (CorsPolicy(), PAGE, {"Access-Control-Allow-Origin": "*"}),
        (OWN, None, {"Vary": "Origin"}),
        (OWN, "https://evil.com", {"Vary": "Origin"}),
        (OWN, PAGE, {"Vary": "Origin", "Access-Control-Allow-Origin": PAGE}),
        (
            WITH_COOKIES,
            PAGE,
            {
                "Vary": "Origin",
                "Access-Control-Allow-Origin": PAGE,
                "Access-Control-Allow-Credentials": "true",
            },
        ),
        (WITH_COOKIES, None, {"Vary": "Origin"}),
        (WITH_COOKIES, "https://evil.com", {"Vary": "Origin"}),
    ],
)
def test_a_browser_lets_its_page_see_the_response(
    policy: CorsPolicy, origin: str | None, expected: dict[str, str]
) -> None:
    asked = headers() if origin is None else headers(("Origin", origin))
    if "Access-Control-Allow-Origin" in expected:
        expected = expected | {"Access-Control-Expose-Headers": EXPOSE_HEADERS}
    built = build_cors_headers(policy, asked)
    assert dict(built) == expected
    assert len(built) == len(expected), "no header twice"


def test_credentials_need_to_be_told_from_where() -> None:
    """Any page of the web could act as the user who happens to look at it."""
    with pytest.raises(ValueError, match="set a regular expression such as 'https://"):
        CorsPolicy(allow_credentials=True)


@pytest.mark.parametrize("pattern", ["https://[", "(", "**", "a{99999999999999999999}"])
@pytest.mark.parametrize("credentials", [True, False])
def test_a_pattern_that_is_none_is_told_at_the_start(pattern: str, credentials: bool) -> None:
    """And not with the first request of a browser."""
    with pytest.raises(ValueError, match="is not a regular expression: ") as caught:
        CorsPolicy(allow_origin=pattern, allow_credentials=credentials)
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize("pairs", [(), (("Origin", "https://evil.com"),)])
def test_a_preflight_from_elsewhere_is_told_nothing(pairs: tuple[tuple[str, str], ...]) -> None:
    assert build_preflight_headers(OWN, headers(*pairs)) == ()


def test_a_preflight_names_what_uploads_need() -> None:
    policy = CorsPolicy(allow_headers="X-Tenant, X-Trace", max_age=60)
    answer = dict(build_preflight_headers(policy, FROM_PAGE))
    assert answer == {
        "Access-Control-Allow-Methods": ALLOW_METHODS,
        "Access-Control-Allow-Headers": f"{ALLOW_HEADERS}, X-Tenant, X-Trace",
        "Access-Control-Max-Age": "60",
    }
    plain = dict(build_preflight_headers(CorsPolicy(), FROM_PAGE))
    assert plain["Access-Control-Allow-Headers"] == ALLOW_HEADERS, "no comma without a name"


def test_the_methods_and_request_headers_of_tus_are_allowed() -> None:
    assert set(ALLOW_METHODS.split(", ")) == {"POST", "HEAD", "PATCH", "OPTIONS", "GET", "DELETE"}
    assert set(ALLOW_HEADERS.split(", ")) >= {
        "Authorization",
        "Content-Type",
        "Tus-Resumable",
        "Upload-Checksum",
        "Upload-Concat",
        "Upload-Defer-Length",
        "Upload-Length",
        "Upload-Metadata",
        "Upload-Offset",
        "X-HTTP-Method-Override",
        "X-Request-ID",
        "X-Requested-With",
    }


def test_every_header_that_a_response_of_tus_carries_is_exposed() -> None:
    """A page that cannot read `Upload-Offset` or `Location` cannot resume."""
    responses = [
        build_capabilities(Capabilities(max_size=1)),
        build_created(UPLOAD, "https://tus.example.org/files/a"),
        build_appended(UPLOAD),
        build_found(UPLOAD),
        build_found(FINAL),
        build_error(UnsupportedVersion(None, "1.0.0")),
        build_error(ReadTimeout()),
    ]
    carried = {name for response in responses for name, _ in response.headers}
    readable_anyway = {"Cache-Control", "Content-Type", "Connection"}
    assert carried - readable_anyway <= set(EXPOSE_HEADERS.split(", "))
    assert {"Upload-Expires", "Location", "Retry-After"} <= carried
