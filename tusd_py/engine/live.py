"""An append under way, and what is published of it before it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from tusd_py.body import Body, Reason
from tusd_py.hooks.events import Committed, Synced
from tusd_py.hooks.interface import NO_REQUEST, RequestInfo
from tusd_py.protocol.errors import Rejected
from tusd_py.protocol.upload import Upload
from tusd_py.storage.interface import SyncFailed, Writer

T = TypeVar("T")


class Timed(Protocol):
    """See `Services.timed`."""

    async def __call__(self, event: type[Synced | Committed], work: Awaitable[T]) -> T:
        """See there."""
        ...


@dataclass(slots=True, kw_only=True)
class Live:
    """Owned by the request that appends, which holds the lock.

    Attributes:
        upload: The record as it was last committed.
        writer: Where the bytes go.
        body: Where they come from.
        follows: Whether bytes count as soon as they are stored: not if a checksum is to be
            verified, or if the body may turn out to be too long.
        since: When it was last published, in seconds since the epoch.
        failure: A sync that failed; the append ends with it.
        timed: Tells the observers how long a sync took.
        request: What the bytes come with, for the application.
        stopped: What the application wants no more bytes for; the upload ends with it.
    """

    upload: Upload
    writer: Writer
    body: Body
    follows: bool
    since: float
    timed: Timed
    failure: SyncFailed | None = None
    request: RequestInfo = NO_REQUEST
    stopped: Rejected | None = None
    _commits: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ended: bool = False

    async def checkpoint(
        self,
        publish: Callable[[Upload], Awaitable[Upload]],
        *,
        sync: bool,
        now: float,
        expires_at: float | None,
    ) -> None:
        """Publishes what is stored so far, and pushes the expiry.

        Args:
            publish: Commits a record.
            sync: Whether to let it outlive a loss of power.
            now: Seconds since the epoch.
            expires_at: From now on, if the upload can expire at all.
        """
        async with self._commits:
            if self._ended or self.failure is not None:
                return
            upload = self.upload
            try:
                if sync:
                    size = await self.timed(Synced, self.writer.sync())
                else:
                    size = await self.writer.size()
            except SyncFailed as failure:
                self.failure = failure
                self.body.interrupt(Reason.CANCELLED)
                return
            if upload.may_expire:
                upload = upload._replace(expires_at=expires_at)
            # The last byte is left to the end of the append, where the finish begins.
            if self.follows and size != upload.upload_length:
                synced_offset = size if sync else upload.synced_offset
                upload = upload._replace(upload_offset=size, synced_offset=synced_offset)
            placement = self.writer.placement(upload.upload_offset)
            self.upload = await publish(upload._replace(placement=placement))
            self.since = now

    def stop(self, refusal: Rejected) -> None:
        """The application wants no more of it."""
        self.stopped = refusal
        self.body.interrupt(Reason.STOPPED)

    async def size(self) -> int | None:
        """Bytes that are stored and count so far, None when the append has ended."""
        async with self._commits:
            if self._ended:
                return None
            return await self.writer.size() if self.follows else self.upload.upload_offset

    async def end(self) -> Upload:
        """The record from which the end of the append goes on; no checkpoint comes behind."""
        async with self._commits:
            self._ended = True
            return self.upload
