"""How bytes come in: what storage may ask of the body of a request."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tusd_py.protocol.checksum import Digest as Digest


class Reason(enum.Enum):
    """Why a body is stopped from outside."""

    CONTENDED = "contended"
    """A newer request wants the upload."""

    SHUTDOWN = "shutdown"
    """The server ends."""

    NO_ROOM = "no room"
    """What is to be kept free of the disk is about to be written to."""

    STOPPED = "stopped"
    """The application wants no more of it."""

    PAUSED = "paused"
    """Somebody wants no more of it for now."""

    CANCELLED = "cancelled"
    """The task of the request was cancelled."""


class EndedBy(enum.Enum):
    """Why no more bytes come."""

    END = "end"
    DISCONNECT = "disconnect"
    INTERRUPTED = "interrupted"
    IDLE = "idle"
    TOO_SLOW = "too slow"
    LIMIT = "limit"
    """There is more in the body than may be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """How much of a body was stored, in bytes, and what ended it.

    A client that vanishes is a value, not an exception: what came is kept.
    """

    count: int
    ended_by: EndedBy


class File(Protocol):
    """A file to write to, which is let go of while its client is slow.

    Its methods block, and are called by one thread at a time.
    """

    def descriptor(self) -> int:
        """The descriptor, open for writing; it stays the file's own.

        Raises:
            OSError: The file was released, and cannot be opened again.
        """
        ...

    def release(self) -> None:
        """Closes the descriptor until it is asked for again."""
        ...


class Body(Protocol):
    """The body of one request; it can be taken once."""

    async def save(
        self, file: File, offset: int, at_most: int, digest: Digest | None = None
    ) -> Received:
        """Writes the body to a file, from `offset` on, and into `digest`, in one pass.

        Ends only when no thread writes any more, also when it is cancelled.

        Args:
            file: Where to write.
            offset: Bytes from its beginning.
            at_most: Bytes to take; if there is more, the end is `LIMIT`.
            digest: Takes the same bytes in, None for none.

        Raises:
            OSError: The file could not be written; what was written before stays.
        """
        ...

    async def fill(self, buffer: memoryview) -> int:
        """Takes what is there: how many bytes.

        With an empty buffer it only waits until something is there, or nothing more comes: memory
        need not be taken for a client that sends nothing. It may be cancelled while it waits. It
        may be wrong once about a client that was fast until then: there is nothing, and 0 comes.
        """
        ...

    @property
    def ended_by(self) -> EndedBy | None:
        """Why `fill` has nothing more to give, None while it may have."""
        ...

    def interrupt(self, reason: Reason) -> None:
        """Lets `save` and `fill` end soon; sticky, also before the first byte is taken."""
        ...

    @property
    def interrupted_by(self) -> Reason | None:
        """The first reason that was given to `interrupt`."""
        ...

    @property
    def came(self) -> int:
        """Bytes that have come from the client so far, whether they are stored or not."""
        ...

    def whole(self) -> bytes | None:
        """Takes all of the body, if it is small and in memory already; None otherwise."""
        ...

    @property
    def trailers(self) -> Sequence[tuple[bytes, bytes]]:
        """What came behind the body, names in lower case; empty before it has ended.

        Only what cannot be taken for a header is here (RFC 9110, 6.5.1).
        """
        ...
