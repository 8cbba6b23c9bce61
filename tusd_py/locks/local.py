"""One holder for each upload, handed over at once and in order, here and between processes.

The rules:
- A second request asks the holder to stop (`on_contended`) and waits in line; the lock goes
  straight to the first in line when the holder lets go, without polling.
- Whoever gets the lock while others wait behind is asked to stop at once: the newest request is
  the one whose client is still there.
- What this process holds, it holds against the other processes of the host too (`locks.host`).
- What another process holds is asked for there (`locks.neighbours`), once for all who wait here;
  they stay in their line, and each word from a neighbour is worth another try. The kernel alone
  decides who gets it.
- A lock that neighbours wait for goes to them before it goes to the next in line here, so that no
  process is left out. Those in line here try again when the neighbour has it, and so ask it to stop
  in turn; or does not want it any more; or has not taken it in time, since it may be stopped.
- Where nobody is there who could bring news, nobody is waited for.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tusd_py.body import Reason
from tusd_py.locks.host import HostLocks
from tusd_py.locks.neighbours import Neighbours
from tusd_py.protocol.errors import StorageFailed, TusError, UploadLocked

OnContended = Callable[[Reason], None]

_TURN = 0.1
"""Seconds that a neighbour has for taking what was let go for it."""


@dataclass(slots=True)
class _Waiter:
    granted: "asyncio.Future[TusError | None]"
    on_contended: OnContended | None

    @property
    def is_waiting(self) -> bool:
        """Whether it has neither got an answer nor given up."""
        return not self.granted.done()


@dataclass(slots=True)
class _Held:
    """A lock that this process holds, or waits for while another one does (`is_here` is false)."""

    on_contended: OnContended | None
    is_here: bool = True
    waiters: list[_Waiter] = field(default_factory=list)

    def ask(self, reason: Reason) -> None:
        """Asks the holder to stop, once."""
        on_contended, self.on_contended = self.on_contended, None
        if on_contended is not None:
            on_contended(reason)

    def next_waiter(self) -> _Waiter | None:
        """Takes the first out of the line who still waits."""
        while self.waiters:
            waiter = self.waiters.pop(0)
            if waiter.is_waiting:
                return waiter
        return None

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody in line still waits."""
        return any(waiter.is_waiting for waiter in self.waiters)


class LocalLocks:
    """Locks for the requests of one process; see `locks.interface.Locks`.

    Args:
        host: The locks of the host, which back each lock of this process.
        neighbours: Those who have locks in the same folder; None for nobody to ask, and to be
            asked by.
    """

    def __init__(self, host: HostLocks, neighbours: Neighbours | None = None) -> None:
        self._host = host
        self._neighbours = neighbours or Neighbours(host.directory)
        self._neighbours.on_wanted = self._wanted_by_neighbour
        self._neighbours.on_news = self._try_again
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
        if not self._take(upload_id, on_contended):
            if admit is not None:
                await admit()
            if not self._take(upload_id, on_contended):
                await self._wait(upload_id, on_contended, within)
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
        if upload_id in self._held or not self._host.acquire(upload_id):
            raise UploadLocked(upload_id)
        self._held[upload_id] = _Held(None)

    def release(self, upload_id: str) -> None:
        """The second half of `attempt`."""
        self._release(upload_id)

    def _take(self, upload_id: str, on_contended: OnContended | None) -> bool:
        if upload_id in self._held or not self._host.acquire(upload_id):
            return False
        held = self._held[upload_id] = _Held(on_contended)
        if self._neighbours.want(upload_id):
            held.ask(Reason.CONTENDED)
        return True

    async def _wait(self, upload_id: str, on_contended: OnContended | None, within: float) -> None:
        waiter = _Waiter(asyncio.get_running_loop().create_future(), on_contended)
        held = self._held.setdefault(upload_id, _Held(None, is_here=False))
        held.waiters.append(waiter)
        if held.is_here:
            held.ask(Reason.CONTENDED)
        elif len(held.waiters) == 1:
            self._try_again(upload_id)
        try:
            await asyncio.wait({waiter.granted}, timeout=within)
        except asyncio.CancelledError:
            if waiter.granted.done() and waiter.granted.result() is None:
                self._release(upload_id)
            else:
                self._leave(upload_id, waiter)
            raise
        if not waiter.granted.done():
            self._leave(upload_id, waiter)
            raise UploadLocked(upload_id)
        error = waiter.granted.result()
        if error is not None:
            raise error

    def _leave(self, upload_id: str, waiter: _Waiter) -> None:
        waiter.granted.cancel()
        held = self._held.get(upload_id)
        if held is not None and not held.is_here and not held.is_waited_for:
            self._drop(upload_id)

    def _drop(self, upload_id: str) -> None:
        """Nobody here waits any more for what another process holds."""
        del self._held[upload_id]
        self._neighbours.withdraw(upload_id)

    def _release(self, upload_id: str) -> None:
        held = self._held[upload_id]
        if held.waiters and not self._neighbours.want(upload_id) and self._grant(upload_id, held):
            return
        self._host.release(upload_id)
        if held.waiters and held.is_waited_for:
            held.is_here, held.on_contended = False, None
            asyncio.get_running_loop().call_later(_TURN, self._try_again, upload_id)
        else:
            del self._held[upload_id]
        self._neighbours.free(upload_id)

    def _grant(self, upload_id: str, held: _Held) -> bool:
        """Hands a lock that is here to the first in line, if there is one."""
        waiter = held.next_waiter()
        if waiter is None:
            return False
        held.on_contended = waiter.on_contended
        waiter.granted.set_result(None)
        if held.is_waited_for or self._neighbours.want(upload_id):
            held.ask(Reason.CONTENDED)
        return True

    def _wanted_by_neighbour(self, upload_id: str) -> bool:
        held = self._held.get(upload_id)
        if held is None or not held.is_here:
            return False
        held.ask(Reason.CONTENDED)
        return True

    def _try_again(self, upload_id: str) -> None:
        """Something may have changed about a lock; nothing is done unless it is waited for."""
        held = self._held.get(upload_id)
        if held is None or held.is_here:
            return
        try:
            held.is_here = self._acquire_or_ask(upload_id)
        except StorageFailed as error:
            self._refuse_all(upload_id, held, error)
            return
        if held.is_here:
            self._neighbours.withdraw(upload_id)
            if not self._grant(upload_id, held):
                self._release(upload_id)
        elif not self._neighbours.may_tell(upload_id):
            self._refuse_all(upload_id, held, UploadLocked(upload_id))

    def _acquire_or_ask(self, upload_id: str) -> bool:
        while not self._host.acquire(upload_id):
            if not self._neighbours.ask(upload_id):
                # Who held it may have ended in order between the try and the look for it.
                return self._host.acquire(upload_id)
        return True

    def _refuse_all(self, upload_id: str, held: _Held, error: TusError) -> None:
        while (waiter := held.next_waiter()) is not None:
            waiter.granted.set_result(error)
        self._drop(upload_id)


class _Attempt:
    """A lock that is had at once, or not at all; leaner than a generator, for each small upload."""

    __slots__ = ("_locks", "_upload_id")

    def __init__(self, locks: LocalLocks, upload_id: str) -> None:
        self._locks = locks
        self._upload_id = upload_id

    def __enter__(self) -> None:
        self._locks.begin(self._upload_id)

    def __exit__(self, *exc_info: object) -> None:
        self._locks.release(self._upload_id)

    async def __aenter__(self) -> None:
        self._locks.begin(self._upload_id)

    async def __aexit__(self, *exc_info: object) -> None:
        self._locks.release(self._upload_id)
