"""The threads that move bytes: from a socket, or from memory, to a file or into memory.

The rules:
- A burst reads from a duplicate of the socket's descriptor, made on the event loop: the connection
  may be closed meanwhile, and its number be given to another client.
- It ends when the socket is dry, brings too little, or others wait for a thread; so a thread
  belongs to whoever has bytes waiting, and nobody keeps one by sending a byte now and then.
- What was taken off the socket is written, or the burst ends with an error: the counts tell.
"""

import os
import queue
import select
import threading
import time
from collections.abc import Callable

from tusd_py.body import Digest, File

MOST_THREADS = 32

_BUFFER = 256 << 10
"""Bytes of a write, at most; it ends where a multiple of them does in the file, since a file system
keeps such a piece as one."""

_DRY = 20
"""Milliseconds without a byte after which a socket is dry."""

_WINDOW = 0.05
_LEAST = 64 << 10
"""Bytes that a burst brings in each window of so many seconds, or it ends."""

_TURN = 0.02
"""Seconds that a burst may go on while others wait."""

_local = threading.local()


class Threads:
    """Threads that run one job after the other, begun when they are needed; see `MOST_THREADS`.

    They are daemons: a write that hangs in the kernel does not keep the process from ending.
    """

    def __init__(self, most: int = MOST_THREADS) -> None:
        self._most = most
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._count = self._busy = 0

    @property
    def have_waiting(self) -> bool:
        """Whether a job waits for a thread."""
        return not self._jobs.empty()

    def submit(self, job: Callable[[], None]) -> None:
        """Runs a job soon; it must not raise."""
        with self._lock:
            self._busy += 1
            if begins := self._busy > self._count and self._count < self._most:
                self._count += 1
        self._jobs.put(job)
        if begins:
            threading.Thread(target=self._main, name="tusd-py-bytes", daemon=True).start()

    def close(self) -> None:
        """Ends the threads behind what was submitted."""
        with self._lock:
            count, self._count = self._count, 0
        for _ in range(count):
            self._jobs.put(None)

    def _main(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # it would be kept until there is another one
            with self._lock:
                self._busy -= 1


class Burst:
    """One run of a thread for one body.

    Args:
        head: What came already; it is written first.

    Attributes:
        head: See above.
        written: Bytes that are where they belong.
        taken: Bytes that came off the socket.
        is_lost: Whether the client went away.
        error: Why no more could be written.
        stop: Set from outside; the burst ends within milliseconds.
    """

    __slots__ = (
        "_at_most",
        "_socket",
        "_threads",
        "error",
        "head",
        "is_lost",
        "stop",
        "taken",
        "written",
    )

    def __init__(self, head: bytearray) -> None:
        self.head = head
        self._socket = -1
        self._at_most = 0
        self._threads: Threads | None = None
        self.written = self.taken = 0
        self.is_lost = self.stop = False
        self.error: Exception | None = None

    def reads(self, socket: int, at_most: int, threads: Threads) -> None:
        """Lets the burst go on with what the socket has.

        Args:
            socket: A descriptor of the burst's own, which it closes.
            at_most: Bytes to take off it.
            threads: Asked whether others wait.
        """
        self._socket, self._at_most, self._threads = socket, at_most, threads

    @property
    def left(self) -> int:
        """How many bytes it may still take off the socket."""
        return self._at_most - self.taken

    @property
    def borrows(self) -> bool:
        """Whether it reads from the socket."""
        return self._socket >= 0

    def run(self) -> None:
        """In a thread."""
        try:
            if self.head:
                self._write(memoryview(self.head))
                self.head = bytearray()
            if self.borrows:
                self._pump()
            self._let_go()
        except Exception as error:  # the root of a thread's work; whoever waits for it raises it
            self.error = error
        finally:
            if self.borrows:
                os.close(self._socket)

    def _pump(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        begun = since = time.monotonic()
        before = 0
        is_dry = False
        while self.left and not (is_dry or self.is_lost or self.stop):
            buffer = self._room()
            count, is_dry = self._gather(buffer, poll)
            self._write(buffer[:count])
            now = time.monotonic()
            if now - since > _WINDOW:
                is_dry |= self.taken - before < _LEAST
                since, before = now, self.taken
            if now - begun > _TURN and self._others_wait():
                break

    def _gather(self, buffer: memoryview, poll: select.poll) -> tuple[int, bool]:
        """Fills the buffer with what comes: how many bytes, and whether no more does."""
        count = 0
        room = min(len(buffer), self.left)
        until = time.monotonic() + _WINDOW
        while count < room:
            try:
                came = os.readv(self._socket, [buffer[count:room]])
            except BlockingIOError:
                if self.stop or time.monotonic() > until:
                    break
                if self._others_wait() or not poll.poll(_DRY):
                    return count, True
                continue
            except OSError:
                came = 0
            if not came:
                self.is_lost = True
                break
            count += came
            self.taken += came
        return count, False

    def _others_wait(self) -> bool:
        return self._threads is not None and self._threads.have_waiting

    def _room(self) -> memoryview:
        """Where to read into next."""
        raise NotImplementedError

    def _write(self, data: memoryview) -> None:
        """Takes the head, or what was read into the room."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """When all is written."""


class FileBurst(Burst):
    """A burst to a file.

    Args:
        file: Where to write.
        offset: Bytes from the file's beginning.
        head: See `Burst`.
        digest: Takes the same bytes in, None for none.
    """

    __slots__ = ("_digest", "_file", "_offset", "_releases")

    def __init__(self, file: File, offset: int, head: bytearray, digest: Digest | None) -> None:
        super().__init__(head)
        self._file = file
        self._offset = offset
        self._digest = digest
        self._releases = False

    def releases(self) -> None:
        """Lets go of the file in the end: its client is slow."""
        self._releases = True

    def _room(self) -> memoryview:
        at = self._offset + self.written
        self._file.make_room(at, self.left)
        return _buffer()[: _BUFFER - at % _BUFFER]

    def _write(self, data: memoryview) -> None:
        if self._digest is not None:
            self._digest.update(data)
        descriptor = self._file.descriptor()
        while data:
            count = os.pwrite(descriptor, data, self._offset + self.written)
            self.written += count
            data = data[count:]

    def _let_go(self) -> None:
        if self._releases:
            self._file.release()


class MemoryBurst(Burst):
    """A burst into memory, which has room for all that it may take; no byte is moved twice.

    Args:
        into: The memory.
        head: See `Burst`.
    """

    __slots__ = ("_into",)

    def __init__(self, into: memoryview, head: bytearray) -> None:
        super().__init__(head)
        self._into = into

    def _room(self) -> memoryview:
        return self._into[self.written : self.written + _BUFFER]

    def _write(self, data: memoryview) -> None:
        if self.head:
            self._into[: len(data)] = data
        self.written += len(data)


def _buffer() -> memoryview:
    """One for each thread, used again and again."""
    try:
        return _local.buffer  # type: ignore[no-any-return]
    except AttributeError:
        _local.buffer = memoryview(bytearray(_BUFFER))
        return _local.buffer  # type: ignore[no-any-return]
