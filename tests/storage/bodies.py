"""Bodies of requests that bring what a test says, and end as it says."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from tusd_py.body import EndedBy, File, Reason, Received, Throttle
from tusd_py.protocol.checksum import Digest


@dataclass
class Bytes:
    """A body in pieces; what is left of them when `at_most` is reached makes the end `LIMIT`.

    Attributes:
        error: Raised behind the last piece, as by a disk that takes no more.
        goes_on: Awaited behind the first piece, when `stored` was set.
    """

    pieces: Sequence[bytes]
    end: EndedBy = EndedBy.END
    error: OSError | None = None
    goes_on: asyncio.Event | None = None
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    interrupted_by: Reason | None = None
    trailers: Sequence[tuple[bytes, bytes]] = ()
    _given: int = 0

    async def save(
        self, file: File, offset: int, at_most: int, digest: Digest | None = None
    ) -> Received:
        count = 0
        for piece in self.pieces:
            taken = piece[: at_most - count]
            assert os.pwrite(file.descriptor(), taken, offset + count) == len(taken)
            if digest is not None:
                digest.update(taken)
            count += len(taken)
            self.stored.set()
            if self.goes_on is not None:
                await self.goes_on.wait()
            if len(taken) < len(piece):
                return Received(count=count, ended_by=EndedBy.LIMIT)
        if self.error is not None:
            raise self.error
        return Received(count=count, ended_by=self.end)

    async def fill(self, buffer: memoryview) -> int:
        if self._given and self.goes_on is not None:
            await self.goes_on.wait()
        data = b"".join(self.pieces)[self._given :][: len(buffer)]
        if not data and buffer.nbytes and self.error is not None:
            raise self.error
        buffer[: len(data)] = data
        self._given += len(data)
        if self._given:
            self.stored.set()
        return len(data)

    @property
    def ended_by(self) -> EndedBy | None:
        return None if self._given < sum(map(len, self.pieces)) else self.end

    def interrupt(self, reason: Reason) -> None:
        self.interrupted_by = self.interrupted_by or reason

    def limit(self, throttle: Throttle | None) -> None:
        """Not needed by a storage."""

    @property
    def came(self) -> int:
        return sum(map(len, self.pieces))

    def whole(self) -> bytes | None:
        return None
