"""What whoever asks was let in with, and what follows from that for uploads.

The rules:
- An upload belongs to the principal that made it: for all others it is not there.
- An upload that has no owner is there for everyone who was let in.
- Where nobody was asked who they are, there is no grant, and owners are not looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Who asks, and what is allowed besides the limits of the server.

    Attributes:
        principal: Who it is: a user, a client, whatever uploads shall belong to; empty for nobody
            in particular, whose uploads are everyone's.
        has_all: Whether uploads of all owners are there for it.
        max_size: Bytes of one upload, None for what the server takes.
        max_speed: Bytes per second of all that it uploads, at least 1,024; likewise.
        max_speed_for: What shares that speed with all grants that say the same; empty where it is
            the principal's.
        query_for: What the URL of an upload that is created now needs as its query string so that
            its client can go on there, by the upload's id; None for nothing.
    """

    principal: str = ""
    has_all: bool = False
    max_size: int | None = None
    max_speed: int | None = None
    max_speed_for: str = ""
    query_for: Callable[[str], str] | None = None

    def reaches(self, owner: str | None) -> bool:
        """Whether an upload of this owner is there for whoever has the grant."""
        return owner is None or self.has_all or owner == self.principal
