"""Memory for bytes on their way to a store: one budget that all uploads share.

The rules:
- Memory is taken in pages, when there are bytes to be put into it.
- Nobody waits for memory while others could not go on without what it holds: whoever gets none
  stores what it has first (see `s3_writer`), and only then waits. So nobody waits for ever.
- Under pressure the upload whose client was silent for longest stores what it has, so that slow
  clients cannot keep the memory from fast ones.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager

PAGE = 64 << 10


class Memory:
    """A number of bytes, in pages.

    Args:
        total: Bytes, at least a page.
    """

    def __init__(self, total: int) -> None:
        self.total = total - total % PAGE
        self.free = self.total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._idle: OrderedDict[int, asyncio.Event] = OrderedDict()
        self._count = 0

    @property
    def is_plenty(self) -> bool:
        """Whether memory may be kept for what comes next: half is free, and nobody waits."""
        return not self._waiting and self.free >= self.total // 2

    def take(self, count: int) -> bool:
        """Takes whole pages for so many bytes, if they are free and nobody has waited for them."""
        if self._waiting or pages(count) > self.free:
            self._press()
            return False
        self.free -= pages(count)
        return True

    def take_some(self, count: int) -> int:
        """As `take`, of at most a quarter of what is free, or of a page.

        Returns:
            How many bytes were taken, 0 if there is not even a page.
        """
        wanted = max(PAGE, min(pages(count), self.free // 4 // PAGE * PAGE))
        return wanted if self.take(wanted) else 0

    async def wait(self, count: int) -> None:
        """As `take`, in turn; whoever waits should hold nothing.

        Raises:
            ValueError: There will never be so many.
        """
        if pages(count) > self.total:
            raise ValueError(f"{count} bytes do not fit into a budget of {self.total}")
        if self.take(count):
            return
        waiter = asyncio.get_running_loop().create_future()
        entry = (pages(count), waiter)
        self._waiting.append(entry)
        try:
            await waiter
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._serve()
            elif not waiter.cancelled():
                self.give(count)
            raise

    def give(self, count: int) -> None:
        """Returns what was taken."""
        self.free += pages(count)
        self._serve()

    @contextmanager
    def idling(self, pressed: asyncio.Event) -> Iterator[None]:
        """While a client is waited for, and bytes of it are held: `pressed` asks for them."""
        self._count += 1
        number = self._count
        self._idle[number] = pressed
        if self._waiting:
            self._press()
        try:
            yield
        finally:
            self._idle.pop(number, None)

    def _press(self) -> None:
        if self._idle:
            _, pressed = self._idle.popitem(last=False)
            pressed.set()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.free:
            count, waiter = self._waiting.popleft()
            if not waiter.done():
                self.free -= count
                waiter.set_result(None)
        if self._waiting:
            self._press()


def pages(count: int) -> int:
    """Bytes of the pages that so many bytes take."""
    return -(-count // PAGE) * PAGE
