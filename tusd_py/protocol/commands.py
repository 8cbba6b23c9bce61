"""What a request asks for, whatever dialect it came in.

The IETF draft needs nothing else: an append may say that it completes the upload, and a length may
come with any of them. A `grant` stands with each of them once somebody was asked who it is.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from tusd_py.protocol.checksum import (
    ALGORITHMS,
    Checksum,
    Digests,
    parse_upload_checksum_trailer,
)
from tusd_py.protocol.concat import Concat
from tusd_py.protocol.errors import TusError
from tusd_py.protocol.grant import Grant


class Content(NamedTuple):
    """Upload data that comes with a request.

    Attributes:
        length: Bytes that were announced, or None for a chunked body.
        checksum: What they must hash to.
        checksum_in_trailer: Whether the checksum comes after them.
        completes: Whether they end the upload; None to let the length decide (tus 1.0).
    """

    length: int | None
    checksum: Checksum | None = None
    checksum_in_trailer: bool = False
    completes: bool | None = None

    @property
    def is_verified(self) -> bool:
        """Whether nothing of it counts before it was compared with a checksum."""
        return self.checksum is not None or self.checksum_in_trailer

    def start_digests(self) -> Digests | None:
        """What its bytes have to be fed to; None where nothing is to be verified."""
        if self.checksum_in_trailer:
            return Digests(ALGORITHMS)
        return None if self.checksum is None else Digests((self.checksum.algorithm,))

    def refusal(
        self, digests: Digests, trailers: Collection[tuple[bytes, bytes]]
    ) -> TusError | None:
        """Why its bytes do not count when all have come, if that is so.

        Args:
            digests: Of `start_digests`, fed with the bytes.
            trailers: What came behind them.
        """
        try:
            if self.checksum is not None:
                digests.check(self.checksum)
            if self.checksum_in_trailer:
                digests.check(parse_upload_checksum_trailer(trailers))
        except TusError as error:
            return error
        return None


class Create(NamedTuple):
    """Make a new upload. Creation, POST.

    Attributes:
        upload_length: Bytes, or None if the length comes later, or with the parts.
        upload_metadata: The header as it came, None if it did not.
        concat: Whether it is a part, or made of parts.
        part_ids: For a final upload: its parts in order.
        content: Data that comes at once (Creation With Upload).
        client: The address that it comes from, see `protocol.client`; empty if it is no matter.
    """

    upload_length: int | None
    upload_metadata: str | None = None
    concat: Concat | None = None
    part_ids: tuple[str, ...] = ()
    content: Content | None = None
    grant: Grant | None = None
    client: str = ""


class Append(NamedTuple):
    """Put bytes at the end of an upload. Core Protocol, PATCH.

    Attributes:
        upload_offset: Where the client believes that the upload stands, in bytes.
        upload_length: The whole length in bytes, if it is told only now.
        client: As of `Create`.
    """

    upload_id: str
    upload_offset: int
    content: Content
    upload_length: int | None = None
    grant: Grant | None = None
    client: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Where does an upload stand? Core Protocol, HEAD."""

    upload_id: str
    grant: Grant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminate:
    """Remove an upload. Termination, DELETE."""

    upload_id: str
    grant: Grant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """Give the bytes of a finished upload; no part of tus."""

    upload_id: str
    grant: Grant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Discover:
    """What can this server do? Core Protocol, OPTIONS."""


Command = Create | Append | Query | Terminate | Download | Discover
