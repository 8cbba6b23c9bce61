"""What connections may take of a server; each server has its own, and each worker for itself."""

import resource
from collections.abc import Callable
from dataclasses import dataclass

MAX_HEAD = 64 * 1024
"""Bytes of a request's line and headers, and of the trailers behind a body."""

_RESERVE = 64
"""Descriptors that are never for connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """See the rules of `wire.head` and `wire.patience`.

    Attributes:
        most: Connections at the same time, None for no limit.
        most_per_address: Likewise, of one address.
        head_within: Seconds from the first byte of a head, or from the beginning of a connection,
            to its end.
        slowest_download: Bytes per second, averaged over a minute, below which a client does not
            take what it is sent; 0 for no limit.
        max_head: Bytes of a request's line and headers, and of the trailers behind a body.
        address_of: What counts as one address; empty for one that has no limit of its own.
        refused: Told the name of the limit that refused somebody; must be quick.
    """

    most: int | None = None
    most_per_address: int | None = None
    head_within: float = 30.0
    max_head: int = MAX_HEAD
    slowest_download: float = 100.0
    address_of: Callable[[str], str] = lambda peer: peer
    refused: Callable[[str], None] = lambda limit: None


def connections_by_descriptors() -> int:
    """As many as leave a quarter of the descriptors of this process, and 64, for files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - max(_RESERVE, soft // 4))
