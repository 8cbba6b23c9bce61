"""The bytes of a file to a client by `sendfile`: not copied, and no thread for who takes slowly.

The rules:
- What the transport still holds goes first, and nobody writes to it before the file has gone.
- A thread sends as long as the client takes: a burst. It ends when the socket has been full for a
  while, or when others wait for a thread; then the event loop waits for room, and a new one begins.
- A burst has a descriptor of its own for the connection, made on the loop while the transport was
  open. The transport may close its own at any time, and the kernel gives that number to the next
  connection: what is sent by number there would reach another client.
- That descriptor keeps the connection open when the transport has closed its own, so it is closed
  as soon as `lost` is done, and no burst outlives it.
"""

import asyncio
import contextlib
import errno
import io
import os
import select
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tusd_py.wire.bursts import Threads

T = TypeVar("T")

Watch = Callable[[Callable[[], int] | None], None]

PATHSEND = "http.response.pathsend"
ZEROCOPYSEND = "http.response.zerocopysend"
EXTENSIONS = (PATHSEND, ZEROCOPYSEND)
"""The messages that are served here, and the extensions that announce them; not over TLS."""

_PIECE = 4 << 20
"""Bytes of one call, so that a burst looks up now and then."""

_PATIENCE_MS = 20
"""How long a thread waits for a client whose socket is full."""

_SLICE = 0.02
"""Seconds that a burst lasts at least, if the client takes, while others wait for a thread."""

_UNREACHABLE = frozenset(
    {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN}
)
"""What the network says of a client, and Python does not call a `ConnectionError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of an open file.

    Attributes:
        file: A descriptor.
        offset: Bytes from the file's beginning.
        count: Bytes that were there when it was asked for.
    """

    file: int
    offset: int
    count: int


async def send_file(
    transport: asyncio.Transport,
    piece: Piece,
    *,
    drained: Callable[[], Awaitable[None]],
    lost: asyncio.Future[None],
    threads: Threads,
    watch: Watch = lambda _: None,
) -> int:
    """Sends a part of a file behind whatever was written to the transport before.

    When it is cancelled, it ends once no thread sends any more; how much went out is not known
    then, so that the connection is of no further use.

    Args:
        transport: A plain one, with a socket.
        piece: What to send; the descriptor stays open until this ends, and its position is neither
            used nor moved.
        drained: Waits while the transport has paused its protocol's writing.
        lost: Done once the transport has said `connection_lost`.
        threads: They send; shared with whatever else moves bytes.
        watch: Told what tells the bytes that the kernel was given so far, and None in the end.

    Returns:
        Bytes that went out: fewer than asked for if the file has become shorter.

    Raises:
        ConnectionError: The client is gone, or the transport was closed.
        OSError: The file could not be read, or there are too many open descriptors.
    """
    await _drain(transport, drained, lost)
    if transport.is_closing():
        raise ConnectionAbortedError(errno.ECONNABORTED, "the connection was closed")
    sending = _Sending(os.dup(transport.get_extra_info("socket").fileno()), piece, threads)
    lost.add_done_callback(sending.stop)
    try:
        watch(lambda: sending.sent)
        while sending.goes_on:
            await _run(threads, sending.burst, on_cancel=sending.stop)
            if sending.goes_on and sending.is_full:
                await _room(sending.socket, lost)
        if not sending.is_over:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the connection was closed")
        return sending.sent
    finally:
        watch(None)
        lost.remove_done_callback(sending.stop)
        os.close(sending.socket)


async def answer(
    cycle: RequestResponseCycle,
    message: Mapping[str, Any],
    *,
    lost: asyncio.Future[None],
    threads: Threads,
    watch: Watch = lambda _: None,
) -> bool:
    """Serves a message of `EXTENSIONS` up to the end of its bytes.

    Args:
        cycle: Has sent its head, and neither its end nor the client is gone.
        message: As ASGI's extensions define it; `file` is a descriptor, or has one.
        lost: See `send_file`.
        threads: Likewise; a path is opened there, too.
        watch: Likewise.

    Returns:
        Whether more of the body comes. What is left to do is what an `http.response.body` without
        bytes asks for; its check of the length finds what was too short.

    Raises:
        RuntimeError: More than was announced, or the file became shorter when a part had gone.
        OSError: See `send_file`, or the path cannot be opened.
    """
    more_body = message["type"] == ZEROCOPYSEND and bool(message.get("more_body", False))
    if cycle.scope["method"] == "HEAD":
        return more_body
    async with _opened(message, threads) as piece:
        if not piece.count:
            return more_body
        if cycle.chunked_encoding:
            cycle.transport.write(b"%x\r\n" % piece.count)
        elif piece.count > cycle.expected_content_length:
            raise RuntimeError("the response is longer than its Content-Length")
        else:
            cycle.expected_content_length -= piece.count
        sent = 0
        try:
            sent = await send_file(
                cycle.transport,
                piece,
                drained=cycle.flow.drain,
                lost=lost,
                threads=threads,
                watch=watch,
            )
        except ConnectionError:
            # As for any other message: that nobody listens is not the application's fault.
            cycle.disconnected = True
            return more_body
        finally:
            if sent < piece.count:
                # Also when it was cancelled: what followed would pass for what is missing.
                cycle.transport.abort()
        if sent < piece.count:
            raise RuntimeError(f"the file became shorter: {sent} of {piece.count} bytes were sent")
        if cycle.chunked_encoding:
            cycle.transport.write(b"\r\n")
    return more_body


@contextlib.asynccontextmanager
async def _opened(message: Mapping[str, Any], threads: Threads) -> AsyncIterator[Piece]:
    """What a message asks to send, as far as the file has it."""
    if message["type"] == PATHSEND:
        with await _run(threads, partial(io.FileIO, message["path"])) as opened:
            yield _piece(opened.fileno(), 0, None)
        return
    given = message["file"]
    file = given if isinstance(given, int) else given.fileno()
    offset = message.get("offset")
    if offset is not None:
        yield _piece(file, offset, message.get("count"))
        return
    # "it will be read from the current position", and whoever sends in turns counts on its moving.
    here = os.lseek(given, 0, os.SEEK_CUR) if isinstance(given, int) else given.tell()
    piece = _piece(file, here, message.get("count"))
    yield piece
    there = here + piece.count
    os.lseek(given, there, os.SEEK_SET) if isinstance(given, int) else given.seek(there)


def _piece(file: int, offset: int, count: int | None) -> Piece:
    there = max(os.fstat(file).st_size - offset, 0)
    return Piece(file=file, offset=offset, count=there if count is None else min(count, there))


class _Sending:
    """What a burst and the loop know of each other.

    Attributes:
        socket: Of the connection, for this alone.
        sent: Bytes that went out.
        is_full: Whether the last burst ended because the client did not take.
    """

    def __init__(self, socket: int, piece: Piece, threads: Threads) -> None:
        self.socket = socket
        self.sent = 0
        self.is_full = False
        self._is_stopped = False
        self._has_ended = False
        self._piece = piece
        self._threads = threads

    @property
    def goes_on(self) -> bool:
        """Whether there is more to send, and to whom."""
        return not (self.is_over or self._is_stopped)

    @property
    def is_over(self) -> bool:
        """Whether all of the file that is there has gone out."""
        return self._has_ended or self.sent == self._piece.count

    def stop(self, _: object = None) -> None:
        """Lets a burst end soon; called on the loop."""
        self._is_stopped = True

    def burst(self) -> None:
        """Sends as long as the client takes; in a thread.

        Raises:
            ConnectionError: The client is gone.
            OSError: The file could not be read.
        """
        begun = time.monotonic()
        room = select.poll()
        room.register(self.socket, select.POLLOUT)
        self.is_full = False
        while self.goes_on:
            try:
                self._send()
            except BlockingIOError:
                if self._threads.have_waiting or not room.poll(_PATIENCE_MS):
                    self.is_full = True
                    return
            if self._threads.have_waiting and time.monotonic() - begun > _SLICE:
                return

    def _send(self) -> None:
        offset, count = self._piece.offset + self.sent, self._piece.count - self.sent
        try:
            sent = os.sendfile(self.socket, self._piece.file, offset, min(count, _PIECE))
        except OSError as error:
            if error.errno in _UNREACHABLE:
                raise ConnectionAbortedError(error.errno, error.strerror) from error
            raise
        self.sent += sent
        self._has_ended = not sent


async def _drain(
    transport: asyncio.Transport, drained: Callable[[], Awaitable[None]], lost: asyncio.Future[None]
) -> None:
    """Waits until the transport has given everything to the kernel, or is lost."""
    if not transport.get_write_buffer_size() or lost.done():
        return
    low, high = transport.get_write_buffer_limits()
    # uvloop keeps what is written until the loop's iteration ends; with no limit left, whatever
    # there is pauses the protocol, and only an empty buffer resumes it.
    transport.set_write_buffer_limits(0)
    try:
        while transport.get_write_buffer_size() and not lost.done():
            await drained()
    finally:
        if not lost.done():
            transport.set_write_buffer_limits(high, low)


async def _run(
    threads: Threads, work: Callable[[], T], *, on_cancel: Callable[[], None] = lambda: None
) -> T:
    """Lets a thread do some work; ends only when none does it, also when it is cancelled.

    Raises:
        Exception: Whatever the work raised.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    begun = threading.Lock()  # taken once: by the thread that begins, or by who gives up before

    def job() -> None:
        if not begun.acquire(blocking=False):
            return
        try:
            tell = partial(done.set_result, work())
        except Exception as error:
            tell = partial(done.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(tell)

    threads.submit(job)
    try:
        await asyncio.wait((done,))
    except asyncio.CancelledError:
        on_cancel()
        if begun.acquire(blocking=False):
            raise
        with anyio.CancelScope(shield=True):
            while not done.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait((done,))
        done.exception()  # nobody is left to be told
        raise
    return done.result()


async def _room(socket: int, lost: asyncio.Future[None]) -> None:
    """Waits until the client has taken some, or is gone; without a thread."""
    loop = asyncio.get_running_loop()
    woken = loop.create_future()

    def wake(_: object = None) -> None:
        if not woken.done():
            woken.set_result(None)

    loop.add_writer(socket, wake)
    lost.add_done_callback(wake)
    try:
        await woken
    finally:
        lost.remove_done_callback(wake)
        loop.remove_writer(socket)
