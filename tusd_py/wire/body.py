"""The body of a request straight from its socket; see `tusd_py.body.Body`.

The rules:
- Once a body of known length is asked for, the parser steps aside: the body counts its bytes
  itself, and gives the connection back with the last one. What came behind it is the next request.
- Fast: as long as the socket keeps filling, nothing is read on the event loop, and a thread moves
  the bytes, to a file or into memory; see `wire.bursts`. Only the body lets the loop read again.
  Of a large body nothing is read before somebody wants it: it may be fast from the beginning.
- Slow: what trickles in is gathered in memory, a few KiB for at most a second or so. One thread
  writes what is due of all bodies, one behind the other, and closes their files: a slow client owns
  a socket and a small buffer.
- Limited: nobody reads but a task on the loop, as many bytes as may be taken. Where nothing has
  come, the transport reads once, if all that it can bring may be taken; otherwise the task looks
  again soon, since to be told would need another descriptor. What was read before is held back too.
- One thread at a time writes for a body, and `save` never ends before it has.
- What has reached the server when somebody interrupts is taken as well, for some milliseconds: a
  client that lost its connection asks with HEAD at once, while its last bytes are still in line.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import anyio

from tusd_py.body import Digest, EndedBy, File, Gate, Reason, Received, Throttle
from tusd_py.wire.bursts import Burst, FileBurst, MemoryBurst
from tusd_py.wire.workshop import Workshop

WHOLE = 64 << 10
"""Bytes of a body that is handed over in one piece, if it is there in time."""

_WORTH_A_BURST = 64 << 10
_FAST_WITHIN = 0.02
_WORTH_A_WRITE = 4 << 10
_GATHER_FOR = 1.0
_MOST_PENDING = 1 << 20
_LAST_CALL = 0.02
_SPEED_WINDOW = 30.0
_MOST_READ = 256 << 10
"""Bytes that a transport reads at once."""

_FIRST_LOOK = 0.004
_LAST_LOOK = 0.25
"""Seconds between looks at a socket that had nothing; each is twice as long as the one before."""


class Source(Protocol):
    """What a body needs of the request that it belongs to, and of its connection."""

    @property
    def is_whole(self) -> bool:
        """Whether the parser has seen the end of this body."""
        ...

    @property
    def waiting(self) -> int:
        """Bytes that were read and not taken."""
        ...

    @property
    def ready(self) -> int:
        """Bytes that have come and were not read."""
        ...

    def take_over(self, body: "SocketBody") -> tuple[bytes | bytearray, bool]:
        """Gives what was read so far, and every later byte to `body.feed`; nothing is read yet.

        Returns:
            The bytes, and whether the client is gone.
        """
        ...

    def give_back(self, rest: bytes) -> None:
        """Reads requests again, from `rest` on."""
        ...

    def pause(self) -> None:
        """Reads nothing until `resume`."""
        ...

    def resume(self) -> None:
        """Reads again, unless the socket is borrowed."""
        ...

    def borrow(self) -> int | None:
        """Lets nobody else read: a duplicate of the socket's descriptor, None if it is closed."""
        ...

    def hold(self) -> None:
        """As `borrow`, for `take_some`."""
        ...

    def take_some(self, at_most: int) -> bytes | None:
        """Some bytes of the client, None if there are none now; empty if it is gone."""
        ...

    def restore(self) -> None:
        """Ends what `borrow` or `hold` began; reads again, once at least."""
        ...


class SocketBody:
    """A body whose length is known; see the rules above.

    Args:
        source: The request.
        length: Bytes of the body.
        workshop: Shared by all bodies of a server.
        idle_timeout: Seconds without a byte after which the body ends.
        slowest_speed: Bytes per second, on average over half a minute, below which it ends.
    """

    __slots__ = (
        "_away_since",
        "_burst",
        "_came",
        "_count",
        "_digest",
        "_ended",
        "_error",
        "_file",
        "_first",
        "_flows",
        "_gate",
        "_held",
        "_idle_timeout",
        "_is_last_call",
        "_is_open",
        "_last",
        "_left",
        "_next",
        "_offset",
        "_pending",
        "_reading",
        "_room",
        "_slowest_speed",
        "_source",
        "_waiter",
        "_wanted",
        "_window",
        "_workshop",
        "interrupted_by",
        "is_begun",
    )

    def __init__(
        self,
        source: Source,
        length: int,
        workshop: Workshop,
        *,
        idle_timeout: float,
        slowest_speed: float,
    ) -> None:
        self._source = source
        self._workshop = workshop
        self._idle_timeout = idle_timeout
        self._slowest_speed = slowest_speed
        self._left = length
        self._pending = bytearray()
        self._came = 0
        self._ended: EndedBy | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._wanted = 1
        self._first = self._last = 0.0
        self._window = (0.0, 0)
        self._away_since: float | None = None
        self._burst: Burst | None = None
        self._error: Exception | None = None
        self._file: File | None = None
        self._is_open = False
        self._digest: Digest | None = None
        self._offset = self._count = self._room = 0
        self._is_last_call = self._flows = False
        self._gate: Gate | None = None
        self._held = bytearray()
        self._reading: asyncio.Task[None] | None = None
        self._next: asyncio.Future[int] | None = None
        self.interrupted_by: Reason | None = None
        self.is_begun = False

    @property
    def is_ended(self) -> bool:
        """Whether nothing more comes from the client."""
        if self.is_begun:
            return self._ended in (EndedBy.END, EndedBy.DISCONNECT)
        return self._source.is_whole

    @property
    def trailers(self) -> Sequence[tuple[bytes, bytes]]:
        """See `Body.trailers`: a body of known length has none."""
        return ()

    @property
    def came(self) -> int:
        """See `Body.came`."""
        return self._came + (0 if self._burst is None else self._burst.taken)

    def interrupt(self, reason: Reason) -> None:
        """See `Body.interrupt`."""
        if self.interrupted_by is None:
            self.interrupted_by = reason
        if self._burst is not None:
            self._burst.stop = True
        self._let_go()
        self._wake()

    def limit(self, throttle: Throttle | None) -> None:
        """See `Body.limit`."""
        if self._gate is not None:
            self._gate.limit(throttle)
            if throttle is None:
                self._end_limit()
        elif throttle is not None:
            self._gate, self._flows = Gate(), False
            self._gate.limit(throttle)
            if self._burst is not None:
                self._burst.stop = True
            self._begin_limit()

    def whole(self) -> bytes | None:
        """See `Body.whole`."""
        source = self._source
        if self.is_begun or not source.is_whole or source.waiting > WHOLE:
            return None
        data, is_lost = source.take_over(self)
        self.is_begun = True
        self._came = len(data)
        self._left -= self._came
        self._ended = EndedBy.DISCONNECT if is_lost and self._left else EndedBy.END
        return bytes(data) if self._ended is EndedBy.END else None

    async def save(
        self, file: File, offset: int, at_most: int, digest: Digest | None = None
    ) -> Received:
        """See `Body.save`."""
        self._begin()
        self._file, self._offset, self._digest, self._room = file, offset, digest, at_most
        self._is_open = True
        self._workshop.add(self)
        try:
            while (ended_by := self._why_ended()) is None:
                if not self._flows:
                    await self._until_due()
                if self.interrupted_by is not None and not self._is_last_call:
                    await self._last_call()
                # What came behind bytes that could not be written is not written in their place.
                has_some = self._pending or self._flows
                if has_some and self._room and self._error is None:
                    await self._write()
                if self._error is not None:
                    raise self._error
            return Received(count=self._count, ended_by=ended_by)
        finally:
            self._workshop.discard(self)
            await self._until_still()
            self._file = None

    async def fill(self, buffer: memoryview) -> int:
        """See `Body.fill`."""
        self._begin()
        self._come_back()
        flows = self._flows and self.interrupted_by is None and self._gate is None
        if flows and not buffer:
            return 0
        self._workshop.add(self)
        try:
            if not flows:
                await self._until(1)
            if flows or (len(buffer) - len(self._pending) >= _WORTH_A_BURST and self._is_fast()):
                return await self._fill_by_thread(buffer)
        finally:
            self._workshop.discard(self)
            self._away_since = self._workshop.loop.time()
        count = min(len(buffer), len(self._pending))
        buffer[:count] = self._pending[:count]
        del self._pending[:count]
        self._source.resume()
        return count

    async def _fill_by_thread(self, buffer: memoryview) -> int:
        """What the socket has: nothing, if it has run dry since the last time."""
        self._burst = burst = MemoryBurst(buffer, self._head(len(buffer)))
        await self._run(burst, len(buffer))
        if burst.error is not None:
            raise burst.error
        # There is more, most likely. The loop would copy it, and the next thread need not.
        self._flows = burst.written == len(buffer) and self._ended is None
        if self._flows:
            self._source.pause()
        return burst.written

    @property
    def ended_by(self) -> EndedBy | None:
        """See `Body.ended_by`."""
        if self._pending:
            return None
        if self._ended is None and self.interrupted_by is not None:
            return EndedBy.INTERRUPTED
        return self._ended

    def _come_back(self) -> None:
        """How slow a client is, is measured while `fill` waits for it, and not in between."""
        if self._away_since is not None:
            now = self._workshop.loop.time()
            since, before = self._window
            self._window = (since + now - self._away_since, before)
            self._last = now

    async def drop(self, at_most: int, within: float, *, spread: bool = False) -> bool:
        """Reads and forgets what still comes.

        Args:
            at_most: Bytes.
            within: Seconds.
            spread: Whether to read slowly enough that these bytes last for these seconds.

        Returns:
            Whether the body has ended.
        """
        self._begin()
        dropped = self._forget()
        with anyio.move_on_after(within):
            while self._ended is None and dropped <= at_most:
                self._source.resume()
                await self._wait(1)
                count = self._forget()
                dropped += count
                if spread and self._ended is None:
                    self._source.pause()
                    await asyncio.sleep(within * count / at_most)
        return self.is_ended

    def feed(self, data: bytes) -> None:
        """On the loop: bytes of the client, of this body and perhaps of what follows it."""
        mine = data if len(data) <= self._left else data[: self._left]
        if self._next is not None:
            self._source.hold()
            if not self._next.done():
                self._next.set_result(len(mine))
        self._receive(mine)
        self._left -= len(mine)
        if not self._left:
            self._end(EndedBy.END)
            self._source.give_back(data[len(mine) :])
        elif len(self._pending) >= _MOST_PENDING:
            self._source.pause()

    def _receive(self, data: bytes | bytearray) -> None:
        now = self._workshop.loop.time()
        if not self._pending:
            self._first = now
        self._last = now
        self._pending += data
        self._came += len(data)
        if len(self._pending) >= self._wanted:
            self._wake()

    def lost(self) -> None:
        """On the loop: the client is gone."""
        self._let_go()
        self._end(EndedBy.DISCONNECT)
        if self._burst is not None:
            self._burst.stop = True

    def look_after(self, now: float) -> Burst | None:
        """Now and then: what a thread is to do for this body, if its client is slow.

        Args:
            now: Of the event loop's clock.
        """
        since, before = self._window
        if self._burst is not None:
            # The disk is slow, or the client fast.
            self._last, self._window = now, (now, self._came)
        elif self._gate is not None and self._gate.is_waited_at:
            self._last, self._window = now, (now, self._came)
        elif now - self._last > self._idle_timeout:
            self._end(EndedBy.IDLE)
        elif now - since >= _SPEED_WINDOW:
            if self._came - before < self._slowest_speed * (now - since):
                self._end(EndedBy.TOO_SLOW)
            self._window = (now, self._came)
        if not self._is_due(now):
            return None
        burst = self._begin_burst()
        burst.releases()
        self._is_open = False
        return burst

    def _is_due(self, now: float) -> bool:
        if self._file is None or self._burst is not None:
            return False
        if self._waiter is None or self._waiter.done():
            return False
        if self._pending:
            return len(self._pending) >= _WORTH_A_WRITE or now - self._first >= _GATHER_FOR
        return self._is_open and now - self._last >= _GATHER_FOR

    def settle(self, burst: Burst) -> None:
        """On the loop, when a thread has carried out a burst of this body."""
        self._book(burst)
        if not burst.borrows:  # the borrowing ends first, in `_run`
            self._begin_limit()
        self._wake()

    def _begin(self) -> None:
        """Takes what came, and from now on all that comes."""
        if self.is_begun:
            return
        self.is_begun = True
        data, is_lost = self._source.take_over(self)
        data = data if isinstance(data, bytearray) else bytearray(data)
        self._left -= len(data)
        self._first = self._last = now = self._workshop.loop.time()
        if data and self._gate is not None and self.interrupted_by is None:
            self._held = data
        else:
            self._pending, self._came = data, len(data)
        self._window = (now, self._came)
        if self._held:
            pass  # its end comes behind that
        elif not self._left:
            self._ended = EndedBy.END
        elif is_lost:
            self._ended = EndedBy.DISCONNECT
        else:
            is_free = self._gate is None and self.interrupted_by is None
            # What a thread takes off the socket is not copied from buffer to buffer before.
            self._flows = is_free and self._source.ready >= _WORTH_A_BURST
        if not self._flows:
            self._source.resume()
        self._begin_limit()

    def _begin_limit(self) -> None:
        """Reads no more than may be taken, once nobody else reads."""
        is_over = self._ended is not None or self.interrupted_by is not None
        if self._gate is None or self._reading is not None or not self.is_begun or is_over:
            return
        if self._burst is None:
            self._source.hold()
            self._reading = self._workshop.loop.create_task(self._read_limited(self._gate))

    def _end_limit(self) -> None:
        self._let_go()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = self._next = None
            self._source.restore()
            if self._is_last_call:
                self._source.pause()
        self._gate = None

    def _let_go(self) -> None:
        """Takes what is held back, though it is too early; it counts."""
        if self._held and self._gate is not None:
            self._gate.spend(len(self._held))
            self._take_held(len(self._held))

    async def _read_limited(self, gate: Gate) -> None:
        pause = _FIRST_LOOK
        while self._ended is None and self.interrupted_by is None:
            if len(self._pending) >= _MOST_PENDING // 2:  # the disk is slower than the limit
                await asyncio.sleep(_FIRST_LOOK)
            elif await self._read_some(gate, len(self._held) or self._left):
                pause = _FIRST_LOOK
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_LOOK)

    async def _read_some(self, gate: Gate, wanted: int) -> bool:
        """Whether there was something."""
        count = await gate.admit(wanted)
        if self._held:
            gate.spend(min(count, len(self._held)) - count)
            self._take_held(count)
            return True
        if self.interrupted_by is not None:
            gate.spend(-count)
            return False
        data = self._source.take_some(count)
        gate.spend(len(data or b"") - count)
        if data is None:
            # What a transport reads beyond this body is no part of it.
            if count < min(self._left, _MOST_READ):
                return False
            gate.spend(await self._read_once())
        elif data:
            self.feed(data)
        else:
            self._end(EndedBy.DISCONNECT)
        return True

    async def _read_once(self) -> int:
        """Lets the transport read: how many bytes came of it."""
        self._next = self._workshop.loop.create_future()
        self._source.restore()
        try:
            return await self._next
        finally:
            self._next = None

    def _take_held(self, count: int) -> None:
        piece = self._held[:count]
        del self._held[:count]
        self._receive(piece)
        if not self._held and not self._left:
            self._end(EndedBy.END)

    def _why_ended(self) -> EndedBy | None:
        if self._pending or (not self._room and self._left):
            return None if self._room else EndedBy.LIMIT
        if self._ended is None and self.interrupted_by is not None and self._is_last_call:
            return EndedBy.INTERRUPTED
        return self._ended

    def _forget(self) -> int:
        count = len(self._pending)
        self._pending.clear()
        return count

    async def _write(self) -> None:
        """Writes what is pending, and goes on from the socket if that is fast."""
        is_fast = self._flows or self._is_fast()
        burst = self._begin_burst()
        self._is_open, self._flows = True, False
        await self._run(burst, self._room if is_fast else 0)

    async def _run(self, burst: Burst, room: int) -> None:
        """Lets a thread carry out a burst, from the socket, too, if there is room for more."""
        room = min(self._left, room - len(burst.head))
        borrowed = self._source.borrow() if room > 0 else None
        if borrowed is not None:
            burst.reads(borrowed, room, self._workshop.threads)
        self._workshop.run(self, burst)
        try:
            await self._until_still()
        finally:
            if borrowed is not None and self._reading is None:
                self._source.restore()
            elif self._ended is None and not self._is_last_call:
                self._source.resume()
            self._begin_limit()

    def _is_fast(self) -> bool:
        return (
            len(self._pending) >= _WORTH_A_BURST
            and self._gate is None
            and self._last - self._first < _FAST_WITHIN
            and self._ended is None
            and self.interrupted_by is None
        )

    def _begin_burst(self) -> FileBurst:
        assert self._file is not None, "it is being saved"
        burst = FileBurst(self._file, self._offset, self._head(self._room), self._digest)
        self._burst = burst
        return burst

    def _head(self, room: int) -> bytearray:
        """What is pending, as far as there is room for it."""
        head = self._pending
        self._pending = head[room:] if len(head) > room else bytearray()
        del head[room:]
        return head

    def _book(self, burst: Burst) -> None:
        """What a thread has done counts."""
        self._burst = None
        self._offset += burst.written
        self._count += burst.written
        self._room -= burst.written
        self._came += burst.taken
        self._left -= burst.taken
        self._error = burst.error
        if burst.taken:
            self._last = self._workshop.loop.time()
        if burst.taken and not self._left:
            self._ended = EndedBy.END
            self._source.give_back(b"")
        elif burst.is_lost:
            self._end(EndedBy.DISCONNECT)

    async def _until_due(self) -> None:
        """Until there is something worth a thread, or nothing more comes."""
        await self._until(min(_WORTH_A_BURST, self._room))

    async def _until(self, wanted: int) -> None:
        while self._burst is not None or not (
            len(self._pending) >= wanted
            or self._ended is not None
            or self.interrupted_by is not None
            or self._error is not None
        ):
            await self._wait(wanted)

    async def _last_call(self) -> None:
        if self._gate is None:
            self._flows = False
            self._source.resume()
            with anyio.move_on_after(_LAST_CALL):
                while self._ended is None:
                    await self._wait(_MOST_PENDING)
        # A client that sends on would hold the lock.
        self._source.pause()
        self._is_last_call = True
        await self._until_still()

    async def _until_still(self) -> None:
        """Until no thread works for this body, whatever happens."""
        try:
            while self._burst is not None:
                await self._wait(_MOST_PENDING)
        except asyncio.CancelledError:
            while (burst := self._burst) is not None:
                burst.stop = True
                # The shield keeps a cancel scope of anyio from cancelling again in every round.
                with anyio.CancelScope(shield=True), suppress(asyncio.CancelledError):
                    await self._wait(_MOST_PENDING)
            raise

    async def _wait(self, wanted: int) -> None:
        """Until so many bytes are pending, or something else has happened; it may be neither."""
        self._wanted = wanted
        self._waiter = self._workshop.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _end(self, ended_by: EndedBy) -> None:
        if self._ended is None:
            self._ended = ended_by
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
