"""Whose request counts against whose limits: nobody can pass for another, or for many."""

import pytest

from tests.protocol.samples import headers
from tusd_py.protocol.client import PRIVATE, Proxies, network_of

PROXIES = Proxies(PRIVATE)


@pytest.mark.parametrize(
    ("peer", "said", "client"),
    [
        ("198.51.100.7", [], "198.51.100.7"),
        ("198.51.100.7", ["203.0.113.1"], "198.51.100.7"),  # no proxy of ours says so
        ("10.0.0.2", [], "10.0.0.2"),
        ("10.0.0.2", ["203.0.113.1"], "203.0.113.1"),
        ("", ["203.0.113.1"], "203.0.113.1"),  # a Unix socket
        ("::ffff:10.0.0.2", ["203.0.113.1"], "203.0.113.1"),
        ("10.0.0.2", ["1.1.1.1, 203.0.113.1"], "203.0.113.1"),  # the client's own word is first
        ("10.0.0.2", ["1.1.1.1", "203.0.113.1, 10.0.0.3"], "203.0.113.1"),
        ("10.0.0.2", ["10.0.0.4"], "10.0.0.4"),
        ("10.0.0.2", ["203.0.113.1, unknown"], "10.0.0.2"),
        ("10.0.0.2", ["unknown, 203.0.113.1"], "203.0.113.1"),
        ("10.0.0.2", [""], "10.0.0.2"),
        ("10.0.0.2", ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        ("not an address", ["203.0.113.1"], "not an address"),
    ],
)
def test_who_it_is(peer: str, said: list[str], client: str) -> None:
    """Whoever could choose his address would have as many limits as he likes."""
    given = headers(*(("X-Forwarded-For", value) for value in said))
    assert PROXIES.client(given, peer) == client


@pytest.mark.parametrize("said", ["203.0.113.1", "1.1.1.1, 203.0.113.1"])
def test_where_all_are_trusted_only_the_last_word_counts(said: str) -> None:
    given = headers(("X-Forwarded-For", said))
    assert Proxies(None).client(given, "198.51.100.7") == "203.0.113.1"


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_all_addresses_of_an_ipv6_network_are_one_client(peer: str, network: str) -> None:
    """A home has 2^64 of them."""
    assert network_of(peer) == network


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "proxy.example.com", "10.0.0.0/33", "*"])
def test_what_is_no_network_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"network|address|host bits"):
        Proxies([wrong])
