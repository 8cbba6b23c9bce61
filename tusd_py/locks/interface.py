"""What the engine asks of a lock, and of those who share its locks."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol

from tusd_py.body import Reason


class Attempt(AbstractContextManager[None], AbstractAsyncContextManager[None], Protocol):
    """See `Locks.attempt`."""


class Locks(Protocol):
    """One holder for each upload, on this host."""

    def hold(
        self,
        upload_id: str,
        *,
        within: float,
        on_contended: Callable[[Reason], None] | None = None,
        admit: Callable[[], Awaitable[None]] | None = None,
    ) -> AbstractAsyncContextManager[None]:
        """Holds the lock of an upload for the length of an `async with`.

        Args:
            upload_id: Whose lock.
            within: Seconds to wait for a holder to end.
            on_contended: Called, at most once, when someone else wants the lock, also before the
                first byte is taken; the holder then ends soon.
            admit: Awaited before a live holder is disturbed; what it raises goes to the caller.

        Raises:
            UploadLocked: The holder did not end in time, or is a process that cannot be asked.
        """
        ...

    def attempt(self, upload_id: str) -> Attempt:
        """As `hold`, but without waiting and without asking the holder to end.

        Since nothing is waited for, a plain `with` will do too.

        Raises:
            UploadLocked: Someone holds it.
        """
        ...

    def interrupt_all(self, reason: Reason) -> None:
        """Asks every holder in this process to end."""
        ...


class Peer(Protocol):
    """Another process that serves the same uploads."""

    def tell(self, word: str, text: str = "") -> None:
        """Says something to it: in order, at most 60 KiB, and lost if either of us ends.

        Args:
            word: What it is about, without spaces.
            text: Whatever belongs to that.
        """
        ...

    @property
    def is_full(self) -> bool:
        """Whether it has not taken yet what it was told: say nothing that can wait."""
        ...


class Peers(Protocol):
    """The other processes that serve the same uploads, as far as they can be reached.

    Attributes:
        on_told: Called with whom to answer, a word and a text when one of them said something.
        on_met: Called for one that was not known before.
        on_left: Called for one that has ended, and also with whom it was to be answered.
    """

    on_told: Callable[[Peer, str, str], None]
    on_met: Callable[[Peer], None]
    on_left: Callable[[Peer], None]

    def all(self) -> Iterable[Peer]:
        """All of them, those that were started just now too."""
        ...
