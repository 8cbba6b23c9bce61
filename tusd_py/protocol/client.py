"""Which client a request comes from, for limits that hold for each of them.

The rules:
- What a proxy says counts only from an address that is trusted: anyone can send those headers.
- Of `X-Forwarded-For` the last entry that is no trusted proxy is the client: what stands before it
  was sent by the client itself.
- Of an IPv6 address the network counts (/64), as a client has all of it.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from tusd_py.protocol.headers import Headers

PRIVATE = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)
"""Networks that no client of the internet has an address in."""


class Proxies:
    """The addresses whose word is taken for where a request comes from.

    Args:
        networks: Addresses, or networks such as `10.0.0.0/8`; a Unix socket is always trusted. None
            for all addresses; only the last entry of `X-Forwarded-For` counts then.

    Raises:
        ValueError: One of them is neither.
    """

    def __init__(self, networks: Iterable[str] | None) -> None:
        self._networks = None if networks is None else tuple(map(ipaddress.ip_network, networks))
        self.trusts = lru_cache(maxsize=1024)(self._trusts)

    def _trusts(self, peer: str) -> bool:
        """Whether it is one of them; empty for a Unix socket."""
        if self._networks is None:
            return True
        try:
            address = _plain(ipaddress.ip_address(peer))
        except ValueError:
            return not peer
        return any(address in network for network in self._networks)

    def client(self, headers: Headers, peer: str) -> str:
        """The client's address, or its network; see the rules above."""
        if not self.trusts(peer):
            return network_of(peer)
        said = [entry.strip() for entry in headers.joined("X-Forwarded-For").split(",")]
        for entry in reversed(said):
            if not _is_address(entry):
                break  # what stands before it is nobody's word
            peer = entry
            if self._networks is None or not self.trusts(peer):
                break
        return network_of(peer)


@lru_cache(maxsize=1024)
def network_of(peer: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        address = _plain(ipaddress.ip_address(peer))
    except ValueError:
        return peer
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def _plain(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 socket shows as `::ffff:192.0.2.1`, as itself."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
