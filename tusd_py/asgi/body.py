"""The body of a request over any ASGI server, from `receive()`.

The rules:
- uvicorn drops bytes that it has read, but that were not received yet, when the client goes away;
  so a task reads ahead of the disk, within a bound.
- What is there when the body ends, for whatever reason, is stored before `save` returns.
- What has reached the server when somebody interrupts is taken as well, for some milliseconds: a
  client that lost its connection asks with HEAD at once, while its last bytes are still in line.
- Small pieces are gathered until they are worth a write; one write is under way at a time.
- How slow a client is, is measured while it is waited for, and not while the disk is, or a limit.
- What may not be taken yet stays where it is; less is read ahead then.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio
import anyio.to_thread
from starlette.types import Receive

from tusd_py.body import Body, EndedBy, File, Gate, Reason, Received, Throttle
from tusd_py.protocol.checksum import Digest

logger = logging.getLogger("tusd_py")

_READ_AHEAD = 1 << 20
_READ_AHEAD_LIMITED = 64 << 10
_WORTH_A_WRITE = 256 << 10
_GATHER_FOR = 0.25
_LAST_CALL = 0.02
_MEASURE_FOR = 30.0
"""Seconds of waiting for a client over which its speed is averaged."""


class RequestBody(Body, Protocol):
    """What answering a request needs to know of its body, beside what storage does."""

    @property
    def is_begun(self) -> bool:
        """Whether something was asked of the client, so that no `100 (Continue)` is owed."""
        ...

    @property
    def is_ended(self) -> bool:
        """Whether nothing more comes from the client."""
        ...

    async def drop(self, at_most: int, within: float, *, spread: bool = False) -> bool:
        """Reads and forgets what still comes.

        Args:
            at_most: Bytes.
            within: Seconds.
            spread: Whether to read slowly enough that these bytes last for these seconds.

        Returns:
            Whether the body has ended.
        """
        ...


class MakeBody(Protocol):
    """What a server offers as the extension `tusd_py.body`: the body of this request."""

    def __call__(self, idle_timeout: float, slowest_speed: float) -> RequestBody | None:
        """As the arguments of `ReceiveBody`; None if somebody has received a part already."""
        ...


class ReceiveBody:
    """See `RequestBody`.

    Args:
        receive: Of the request.
        idle_timeout: Seconds without a byte after which the body ends.
        slowest_speed: Bytes per second, averaged over the half minute that the client was last
            waited for, below which the body ends; 0 for no limit.
        trailers: Filled by the server, where it hands them over, when the body has ended.
    """

    def __init__(
        self,
        receive: Receive,
        *,
        idle_timeout: float,
        slowest_speed: float = 0.0,
        trailers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self._receive = receive
        self._idle_timeout = idle_timeout
        self._slowest_speed = slowest_speed
        self._trailers = trailers
        self._measured_for = 0.0
        self._measured = 0
        self._chunks: deque[memoryview] = deque()
        self._waiting = self._came = 0
        self._ended: EndedBy | None = None
        self._given_up: EndedBy | None = None
        self._receiving: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._is_last_call = False
        self._gate = Gate()
        self._admitted = 0
        self.interrupted_by: Reason | None = None
        self.is_begun = False

    @property
    def is_ended(self) -> bool:
        """See `RequestBody.is_ended`."""
        return self._ended is not None

    @property
    def trailers(self) -> Sequence[tuple[bytes, bytes]]:
        """See `Body.trailers`."""
        return self._trailers if self._ended is EndedBy.END else ()

    @property
    def came(self) -> int:
        """See `Body.came`."""
        return self._came

    def whole(self) -> bytes | None:
        """See `Body.whole`: `receive` tells of nothing that was not waited for."""
        return None

    def interrupt(self, reason: Reason) -> None:
        """See `Body.interrupt`."""
        if self.interrupted_by is None:
            self.interrupted_by = reason
        self._changed.set()
        self._gate.open()

    def limit(self, throttle: Throttle | None) -> None:
        """See `Body.limit`."""
        self._gate.spend(-self._admitted)
        self._admitted = 0
        self._gate.limit(throttle)

    async def save(
        self, file: File, offset: int, at_most: int, digest: Digest | None = None
    ) -> Received:
        """See `Body.save`."""
        reader = asyncio.get_running_loop().create_task(self._read_ahead())
        count = 0
        try:
            while True:
                given_up = await self._gather()
                if self.interrupted_by is not None and not self._is_last_call:
                    # It is not cancelled while anything is still stored: a middleware may have
                    # taken a piece that it would never give back, and the next one would be
                    # stored in its place.
                    await asyncio.wait({reader}, timeout=_LAST_CALL)
                    self._is_last_call = True
                if given_up is not None:
                    self._gate.open()
                chunks = self._take(await self._admit(at_most - count))
                if chunks:
                    count += await anyio.to_thread.run_sync(
                        _write, file, offset + count, chunks, digest
                    )
                ended_by = self._why_ended(room=at_most - count) or given_up
                if ended_by is not None:
                    return Received(count=count, ended_by=ended_by)
        finally:
            reader.cancel()
            await asyncio.wait({reader})

    async def fill(self, buffer: memoryview) -> int:
        """See `Body.fill`."""
        if not self._waiting and self.ended_by is None:
            await self._until_some()
        admitted = await self._admit(len(buffer) or self._waiting)
        count = 0
        for chunk in self._take(min(len(buffer), admitted)):
            buffer[count : count + len(chunk)] = chunk
            count += len(chunk)
        return count

    @property
    def ended_by(self) -> EndedBy | None:
        """See `Body.ended_by`."""
        if self._waiting:
            return None
        interrupted = None if self.interrupted_by is None else EndedBy.INTERRUPTED
        return self._given_up or self._ended or interrupted

    async def drop(self, at_most: int, within: float, *, spread: bool = False) -> bool:
        """See `RequestBody.drop`."""
        dropped = self._waiting
        self._take(dropped)
        with anyio.move_on_after(within):
            while self._ended is None and dropped <= at_most:
                await self._receive_next()
                count = self._waiting
                dropped += count
                self._take(count)
                if spread and self._ended is None:
                    await asyncio.sleep(within * count / at_most)
        return self._ended is not None

    def _why_ended(self, *, room: int) -> EndedBy | None:
        if self._waiting:
            return EndedBy.LIMIT if room == 0 else None
        if self._ended is not None:
            return self._ended
        return None if self.interrupted_by is None else EndedBy.INTERRUPTED

    async def _gather(self) -> EndedBy | None:
        """Waits for something to do: why no more is waited for, if that is so."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with anyio.move_on_after(self._idle_timeout):
            await self._until(lambda: self._waiting > 0)
        if not self._waiting:
            return None if self._is_over() else EndedBy.IDLE
        if not self._gate.is_limited:
            with anyio.move_on_after(_GATHER_FOR):
                await self._until(lambda: self._waiting >= _WORTH_A_WRITE)
        return EndedBy.TOO_SLOW if self._is_too_slow(loop.time() - begun) else None

    async def _admit(self, wanted: int) -> int:
        """How many of the bytes that wait may be taken, now that this has waited for it."""
        wanted = min(wanted, self._waiting)
        if not self._gate.is_limited or not wanted:
            return wanted
        if not self._admitted:
            self._admitted = await self._gate.admit(wanted)
        return min(wanted, self._admitted)

    def _is_too_slow(self, waited: float) -> bool:
        self._measured_for += waited
        self._measured += self._waiting
        if self._measured_for < _MEASURE_FOR:
            return False
        speed = self._measured / self._measured_for
        self._measured_for, self._measured = 0.0, 0
        return speed < self._slowest_speed

    async def _until(self, enough: Callable[[], bool]) -> None:
        while not enough() and not self._is_over():
            self._changed.clear()
            await self._changed.wait()

    def _is_over(self) -> bool:
        return self._ended is not None or self.interrupted_by is not None

    def _take(self, at_most: int) -> list[memoryview]:
        """What is waiting, up to a number of bytes."""
        taken: list[memoryview] = []
        while self._chunks and at_most > 0:
            chunk = self._chunks.popleft()
            if len(chunk) > at_most:
                self._chunks.appendleft(chunk[at_most:])
                chunk = chunk[:at_most]
            taken.append(chunk)
            at_most -= len(chunk)
            self._waiting -= len(chunk)
            self._admitted = max(0, self._admitted - len(chunk))
        if self._waiting < self._most_ahead:
            self._room.set()
        return taken

    @property
    def _most_ahead(self) -> int:
        return _READ_AHEAD_LIMITED if self._gate.is_limited else _READ_AHEAD

    async def _until_some(self) -> None:
        """Until something is waiting, or nothing more comes."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with anyio.move_on_after(self._idle_timeout):
            while not self._waiting and not self._is_over():
                self._changed.clear()
                if self._receiving is None or self._receiving.done():
                    # In a task of its own: whoever interrupts does not wait for the client.
                    self._receiving = loop.create_task(self._receive_or_end())
                await self._changed.wait()
        if not self._waiting and not self._is_over():
            self._given_up = EndedBy.IDLE
        elif self._is_too_slow(loop.time() - begun):
            self._given_up = EndedBy.TOO_SLOW

    async def _read_ahead(self) -> None:
        while self._ended is None and not self._is_last_call:
            await self._room.wait()
            await self._receive_or_end()

    async def _receive_or_end(self) -> None:
        try:
            await self._receive_one()
        except Exception:  # the root of a task; what came before is kept
            logger.exception("the server gave no more of a body")
            self._ended = EndedBy.DISCONNECT
            self._changed.set()

    async def _receive_next(self) -> None:
        receiving, self._receiving = self._receiving, None
        await (receiving or self._receive_one())

    async def _receive_one(self) -> None:
        self.is_begun = True
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._ended = EndedBy.DISCONNECT
        else:
            chunk = message.get("body", b"")
            if chunk:
                self._chunks.append(memoryview(chunk))
                self._waiting += len(chunk)
                self._came += len(chunk)
            if not message.get("more_body", False):
                self._ended = EndedBy.END
        if self._waiting >= self._most_ahead:
            self._room.clear()
        self._changed.set()


def _write(file: File, offset: int, chunks: list[memoryview], digest: Digest | None) -> int:
    """Writes chunks one behind the other, and into the digest: how many bytes."""
    count, descriptor = 0, file.descriptor()
    for chunk in chunks:
        if digest is not None:
            digest.update(chunk)
        done = 0
        while done < len(chunk):
            done += os.pwrite(descriptor, chunk[done:], offset + count + done)
        count += len(chunk)
    return count
