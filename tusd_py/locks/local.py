"""One holder for each upload in this process, handed over at once and in order.

The rules:
- A second request asks the holder to stop (`on_contended`) and waits in line; the lock goes
  straight to the first in line when the holder lets go, without polling.
- Whoever gets the lock while others wait behind is asked to stop at once: the newest request is
  the one whose client is still there.
- What this process holds, it holds against the other processes of the host too.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tusd_py.body import Reason
from tusd_py.locks.host import HostLocks
from tusd_py.protocol.errors import UploadLocked

OnContended = Callable[[Reason], None]


@dataclass(slots=True)
class _Waiter:
    granted: asyncio.Future[None]
    on_contended: OnContended | None


@dataclass(slots=True)
class _Held:
    on_contended: OnContended | None
    waiters: list[_Waiter] = field(default_factory=list)

    def ask(self, reason: Reason) -> None:
        """Asks the holder to stop, once."""
        on_contended, self.on_contended = self.on_contended, None
        if on_contended is not None:
            on_contended(reason)


class LocalLocks:
    """Locks for the requests of one process; see `locks.interface.Locks`.

    Args:
        host: The locks of the host, which back each lock of this process.
    """

    def __init__(self, host: HostLocks) -> None:
        self._host = host
        self._held: dict[str, _Held] = {}

    @asynccontextmanager
    async def hold(
        self,
        upload_id: str,
        *,
        within: float,
        on_contended: OnContended | None = None,
        admit: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncIterator[None]:
        """See `locks.interface.Locks.hold`."""
        if upload_id in self._held and admit is not None:
            await admit()
        held = self._held.get(upload_id)
        if held is None:
            self._begin(upload_id, on_contended)
        else:
            await self._wait(upload_id, held, on_contended, within)
        try:
            yield
        finally:
            self._release(upload_id)

    def attempt(self, upload_id: str) -> "_Attempt":
        """See `locks.interface.Locks.attempt`."""
        return _Attempt(self, upload_id)

    def interrupt_all(self, reason: Reason) -> None:
        """See `locks.interface.Locks.interrupt_all`."""
        for held in list(self._held.values()):
            held.ask(reason)

    def begin(self, upload_id: str) -> None:
        """The first half of `attempt`."""
        if upload_id in self._held:
            raise UploadLocked(upload_id)
        self._begin(upload_id, None)

    def release(self, upload_id: str) -> None:
        """The second half of `attempt`."""
        self._release(upload_id)

    def _begin(self, upload_id: str, on_contended: OnContended | None) -> None:
        if not self._host.acquire(upload_id):
            raise UploadLocked(upload_id)
        self._held[upload_id] = _Held(on_contended)

    async def _wait(
        self, upload_id: str, held: _Held, on_contended: OnContended | None, within: float
    ) -> None:
        waiter = _Waiter(asyncio.get_running_loop().create_future(), on_contended)
        held.waiters.append(waiter)
        held.ask(Reason.CONTENDED)
        try:
            await asyncio.wait({waiter.granted}, timeout=within)
        except asyncio.CancelledError:
            if waiter.granted.done():
                self._release(upload_id)
            else:
                waiter.granted.cancel()
            raise
        if not waiter.granted.done():
            waiter.granted.cancel()
            raise UploadLocked(upload_id)

    def _release(self, upload_id: str) -> None:
        held = self._held[upload_id]
        while held.waiters:
            waiter = held.waiters.pop(0)
            if waiter.granted.cancelled():
                continue
            held.on_contended = waiter.on_contended
            waiter.granted.set_result(None)
            if any(not other.granted.cancelled() for other in held.waiters):
                held.ask(Reason.CONTENDED)
            return
        del self._held[upload_id]
        self._host.release(upload_id)


class _Attempt:
    """A lock that is had at once, or not at all; leaner than a generator, for each small upload."""

    __slots__ = ("_locks", "_upload_id")

    def __init__(self, locks: LocalLocks, upload_id: str) -> None:
        self._locks = locks
        self._upload_id = upload_id

    async def __aenter__(self) -> None:
        self._locks.begin(self._upload_id)

    async def __aexit__(self, *exc_info: object) -> None:
        self._locks.release(self._upload_id)
