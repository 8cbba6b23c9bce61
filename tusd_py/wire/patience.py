"""A connection whose client does not take what it is sent is let go.

The rules:
- It is looked at only while something waits to be sent: while writing is paused, while a file goes
  out, and behind `close` as long as something is left. One timer serves all (`wire.workshop`).
- What counts is what the client's machine has acknowledged, not what the kernel has room for again:
  it tells that only when a good part of its buffer is free, which takes a slow client minutes.
- It ends with a reset: in an orderly end the kernel would keep what is not taken for minutes.
"""

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tusd_py.wire.limits import ConnectionLimits
from tusd_py.wire.workshop import Workshop

WINDOW = 60.0
"""Seconds over which the speed of a reader is averaged."""

_INT = struct.Struct("i")
_AT_ONCE = struct.pack("ii", 1, 0)


class Patient(HttpToolsProtocol):
    """What a connection does while its client is to read; see the rules above.

    What it keeps lies in slots, as in the classes below it: with more than thirty attributes each
    connection gets a dictionary of its own, of more than a KiB.
    """

    __slots__ = ("_handed", "_taken", "workshop")

    limits = ConnectionLimits()
    workshop: Workshop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        self._handed: Callable[[], int] | None = None
        self._taken = 0
        super().connection_made(transport)

    def watch(self, handed: Callable[[], int] | None) -> None:
        """Looks from now on whether the client takes what it is sent.

        Args:
            handed: How many bytes the kernel was given so far, from whatever beginning; None when
                nothing waits any more.
        """
        if self._handed is not None:
            self.workshop.clear_deadline(self._look)
        self._handed = handed if self.limits.slowest_download else None
        if self._handed is not None:
            self._taken = self._count_taken(self._handed)
            self.workshop.set_deadline(self._look, WINDOW)

    def pause_writing(self) -> None:
        """The transport has much to send."""
        super().pause_writing()
        self.watch(self._count_written)

    def resume_writing(self) -> None:
        """It has little again."""
        super().resume_writing()
        self.watch(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was let go."""
        self.watch(None)
        super().connection_lost(exc)

    def close(self) -> None:
        """Ends the connection behind what is still to be sent."""
        if not self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.watch(self._count_written)
        self.transport.close()

    def _count_written(self) -> int:
        return -self.transport.get_write_buffer_size()

    def _count_taken(self, handed: Callable[[], int]) -> int:
        descriptor = self.transport.get_extra_info("socket").fileno()
        (waiting,) = _INT.unpack(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(_INT.size)))
        return handed() - int(waiting)

    def _look(self) -> None:
        assert self._handed is not None, "otherwise there is no deadline"
        before, self._taken = self._taken, self._count_taken(self._handed)
        if self._taken - before >= self.limits.slowest_download * WINDOW:
            self.workshop.set_deadline(self._look, WINDOW)
        else:
            self.limits.refused("slowest-download")
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE
            )
            self.transport.abort()
