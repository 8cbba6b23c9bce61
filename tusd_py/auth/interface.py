"""What a kind of bearer token has to tell: whose one is.

What follows from that for uploads stands in `protocol.grant`.
"""

from typing import Protocol


class InvalidKeys(ValueError):
    """What the operator gave to know credentials by cannot be used; the message says why."""


class Bearers(Protocol):
    """Knows the tokens of one kind."""

    async def whose(self, token: str) -> str | None:
        """The principal that a bearer token (RFC 6750) belongs to.

        Returns:
            None if it is no token of this kind.

        Raises:
            NotAuthenticated: It is one, and is not good, or not any more.
        """
        ...
