"""How bytes come in: what storage may ask of the body of a request."""

import asyncio
import enum
import time
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

    def make_room(self, offset: int, count: int) -> None:
        """Has the disk make room for bytes that are about to be written, if that is of use.

        That there is none is no error: writing says so.

        Args:
            offset: Where the next ones go, behind all that were written.
            count: Of those that come, at most.

        Raises:
            OSError: As `descriptor`.
        """
        ...

    def release(self) -> None:
        """Closes the descriptor until it is asked for again."""
        ...


class Throttle(Protocol):
    """How quickly the bytes of a body may be taken; nothing here waits."""

    def reserve(self, wanted: int) -> tuple[int, float]:
        """Makes room for the next bytes: how many, at least one, and how many seconds from now.

        Args:
            wanted: Bytes, at least one.
        """
        ...

    def spend(self, count: int) -> None:
        """Counts bytes that were taken without being asked for; below 0, those that were not."""
        ...

    def waited(self, seconds: float) -> None:
        """Tells that bytes were held back for so long."""
        ...


class Gate:
    """Where a body waits for its throttle, on one event loop; open as long as there is none."""

    __slots__ = ("_is_open", "_throttle", "_waiter")

    def __init__(self) -> None:
        self._throttle: Throttle | None = None
        self._is_open = False
        self._waiter: asyncio.Future[bool] | None = None

    @property
    def is_limited(self) -> bool:
        """Whether bytes may have to wait."""
        return self._throttle is not None

    @property
    def is_waited_at(self) -> bool:
        """Whether some do: their client is not to blame."""
        return self._waiter is not None

    def limit(self, throttle: Throttle | None) -> None:
        """Lets bytes through as quickly as this allows from now on, whoever waits too."""
        self._throttle = throttle
        self._wake()

    def open(self) -> None:
        """Lets all bytes that come through at once from now on, which still count."""
        self._is_open = True
        self._wake()

    async def admit(self, wanted: int) -> int:
        """Waits until some bytes may be taken: how many; they count, also if they are not taken.

        It may be cancelled; nothing counts then.

        Args:
            wanted: Bytes, at least one.
        """
        while (throttle := self._throttle) is not None:
            if self._is_open:
                throttle.spend(wanted)
                return wanted
            count, seconds = throttle.reserve(wanted)
            if seconds <= 0:
                return count
            begun, is_due = time.monotonic(), False
            try:
                is_due = await self._wait(seconds)
            finally:
                throttle.waited(time.monotonic() - begun)
                if not is_due:
                    throttle.spend(-count)
            if is_due:
                return count
        return wanted

    def spend(self, count: int) -> None:
        """See `Throttle.spend`."""
        if self._throttle is not None:
            self._throttle.spend(count)

    async def _wait(self, seconds: float) -> bool:
        """Whether the time has passed, and nothing has happened before."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiter = waiter
        timer = loop.call_later(seconds, _settle, waiter, True)
        try:
            return await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None:
            _settle(self._waiter, False)


def _settle(waiter: "asyncio.Future[bool]", is_due: bool) -> None:
    if not waiter.done():
        waiter.set_result(is_due)


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

    def limit(self, throttle: Throttle | None) -> None:
        """Lets `save` and `fill` take bytes as quickly as this allows from now on; None ends that.

        Bytes that wait for it are not waited for: a client is neither idle nor slow meanwhile. What
        is in memory when somebody interrupts, or the client vanishes, is taken at once, and counts.
        Who gives one takes it back behind `save`, or the last `fill`.
        """
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
