"""What the engine asks of a lock."""

from collections.abc import Awaitable, Callable
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
