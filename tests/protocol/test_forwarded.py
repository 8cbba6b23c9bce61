"""A client behind proxies gets a `Location` that it can reach; nobody else can bend it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.samples import headers, steady
from tusd_py.protocol.forwarded import parse_origin

DIRECT = "http://example.org"


def location(*pairs: tuple[str, str], behind_proxy: bool = True) -> str:
    """The base of a URL, for a connection that reached 10.0.0.1:1080."""
    return parse_origin(headers(*pairs), "http", "10.0.0.1:1080", behind_proxy=behind_proxy).url("")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("example.org", "http://example.org"),
        ("example.org:8080", "http://example.org:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("", "http://10.0.0.1:1080"),
        ("evil.com/path", "http://10.0.0.1:1080"),
        ("user@evil.com", "http://10.0.0.1:1080"),
        ("evil.com:80:80", "http://10.0.0.1:1080"),
        ("evil.com:port", "http://10.0.0.1:1080"),
        ("a b", "http://10.0.0.1:1080"),
        ("a\x00", "http://10.0.0.1:1080"),
        ("b\u00fccher.example", "http://10.0.0.1:1080"),
    ],
)
def test_a_url_begins_with_the_host_that_the_client_named(host: str, expected: str) -> None:
    assert location(("Host", host), behind_proxy=False) == expected
    assert location(("Host", host)) == expected


def test_without_a_host_the_socket_is_named() -> None:
    assert location(behind_proxy=False) == "http://10.0.0.1:1080"


def test_a_path_follows_the_prefix() -> None:
    origin = parse_origin(
        headers(("Host", "example.org"), ("X-Forwarded-Prefix", "/up/")),
        "https",
        "",
        behind_proxy=True,
    )
    assert origin.url("/files/a") == "https://example.org/up/files/a"


FORWARDED = [
    ("Forwarded", "for=1.2.3.4;host=evil.com;proto=https"),
    ("X-Forwarded-Host", "evil.com"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Port", "666"),
    ("X-Forwarded-Prefix", "/evil"),
]


def test_nobody_bends_a_url_who_is_not_trusted() -> None:
    assert location(("Host", "example.org"), *FORWARDED, behind_proxy=False) == DIRECT


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("Forwarded", "for=1.2.3.4;host=a.org;proto=https")], "https://a.org"),
        ([("Forwarded", 'Host="a.org:8443" ; Proto=HTTPS')], "https://a.org:8443"),
        ([("Forwarded", 'for="[2001:db8::1]:80";host=a.org, host=b.org')], "http://a.org"),
        ([("Forwarded", "host=a.org"), ("Forwarded", "host=b.org")], "http://a.org"),
        ([("Forwarded", "proto=https")], "https://example.org"),
        ([("Forwarded", "host=a/b;proto=gopher")], DIRECT),
        ([("Forwarded", ";;=;host")], DIRECT),
        ([("Forwarded", "host=a.org"), ("X-Forwarded-Host", "b.org")], "http://a.org"),
        ([("X-Forwarded-Host", "a.org"), ("X-Forwarded-Proto", "https")], "https://a.org"),
        (
            [("X-Forwarded-Host", "a.org, b.org"), ("X-Forwarded-Proto", "https, http")],
            "https://a.org",
        ),
        ([("X-Forwarded-Host", "a.org:8443")], "http://a.org:8443"),
        ([("X-Forwarded-Host", "a b")], DIRECT),
        ([("X-Forwarded-Proto", "javascript")], DIRECT),
        ([("X-Forwarded-Host", "a.org"), ("X-Forwarded-Port", "8443")], "http://a.org:8443"),
        ([("X-Forwarded-Host", "a.org:1"), ("X-Forwarded-Port", "8443")], "http://a.org:1"),
        ([("X-Forwarded-Host", "[::1]"), ("X-Forwarded-Port", "8443")], "http://[::1]:8443"),
        ([("X-Forwarded-Host", "[::1]:1"), ("X-Forwarded-Port", "8443")], "http://[::1]:1"),
        ([("X-Forwarded-Host", "a.org"), ("X-Forwarded-Port", "443")], "http://a.org"),
        ([("X-Forwarded-Host", "a.org"), ("X-Forwarded-Port", "80")], "http://a.org"),
        ([("X-Forwarded-Host", "a.org"), ("X-Forwarded-Port", "84x")], "http://a.org"),
        ([("X-Forwarded-Host", "a.org"), ("X-Forwarded-Port", "123456")], "http://a.org"),
        ([("X-Forwarded-Host", "a.org"), ("X-Forwarded-Port", "\u00b2")], "http://a.org"),
        # nginx: `proxy_set_header Host $host` drops the port, which comes on its own.
        ([("X-Forwarded-Port", "8443")], "http://example.org:8443"),
        ([("X-Forwarded-Port", "443"), ("X-Forwarded-Proto", "https")], "https://example.org"),
        ([("X-Forwarded-Prefix", "/up")], DIRECT + "/up"),
        ([("X-Forwarded-Prefix", "/up/load/")], DIRECT + "/up/load"),
        ([("X-Forwarded-Prefix", "/")], DIRECT),
        ([("X-Forwarded-Prefix", "up")], DIRECT),
        ([("X-Forwarded-Prefix", "//evil.com")], DIRECT),
        ([("X-Forwarded-Prefix", "/a b")], DIRECT),
        ([("X-Forwarded-Prefix", "/a?b=c")], DIRECT),
    ],
)
def test_a_proxy_that_is_trusted_says_what_the_client_sees(
    pairs: list[tuple[str, str]], expected: str
) -> None:
    assert location(("Host", "example.org"), *pairs) == expected


@steady
@given(
    st.lists(
        st.tuples(
            st.sampled_from([n for n, _ in FORWARDED]), st.text("\x00\r\n\t ,;=\"'/:@[].a1\xe4")
        )
    )
)
def test_whatever_proxies_send_a_url_stays_one_line_of_ascii(pairs: list[tuple[str, str]]) -> None:
    url = location(("Host", "example.org"), *pairs)
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
