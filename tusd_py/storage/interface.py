"""What the engine asks of a place that keeps bytes.

Storage reports what is stored; it never decides what counts. Whoever calls holds the upload's lock.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from tusd_py.body import Body, Received
from tusd_py.hooks.events import Observer
from tusd_py.protocol.checksum import Digest
from tusd_py.protocol.errors import StorageFailed
from tusd_py.protocol.upload import Upload


class Commit(Protocol):
    """Publishes a record as it is now."""

    async def __call__(self, *, durable: bool = False) -> None:
        """Ends when it is committed; raises what `StateStore.commit` does.

        Args:
            durable: Whether it must outlive a loss of power when this returns.
        """
        ...


class SyncFailed(StorageFailed):
    """The disk did not take what was written: nothing beyond `synced_offset` is certain.

    It is never retried as if it could succeed: the kernel may have dropped the pages.
    """


class Writer(Protocol):
    """An upload that is open for an append."""

    @property
    def upload(self) -> Upload:
        """The record as storage bears it out: a tail adopted or cut, the placement as it is now.

        Where it differs from the state's, it is committed before the first byte is taken.
        """
        ...

    async def take(
        self,
        body: Body,
        at_most: int,
        digest: Digest | None,
        commit: Commit,
        counts: Callable[[Received], bool] | None = None,
    ) -> Received:
        """Stores a body at the offset of `upload`; ends only when nothing writes any more.

        Args:
            body: To be taken.
            at_most: Bytes of it.
            digest: Takes the same bytes in, None for none.
            commit: Publishes the record with the `size` and the `placement` of that moment; for
                storage that has to have something on record before it goes on.
            counts: Says of a body that has ended whether its bytes count, for storage that has to
                know before it keeps the last of them; None if each counts as soon as it is stored.

        Raises:
            StorageFull: There was no room for all of it.
            StorageFailed: It could not be written.
        """
        ...

    async def size(self) -> int:
        """Bytes that lie in order from the beginning; right at any time, also during `take`."""
        ...

    def placement(self, offset: int) -> str:
        """The record's `placement` to be committed with an offset that `size` has told, or that
        was cut to.
        """
        ...

    async def sync(self) -> int:
        """As `size`, and that many bytes outlive a loss of power.

        Raises:
            SyncFailed: They do not, for good.
        """
        ...

    async def cut(self, offset: int) -> None:
        """Drops what lies beyond `offset`, which was the size when the writer was opened, or which
        `placement` was asked for since.
        """
        ...


class Storage(Protocol):
    """A place for the bytes of uploads. All of it is idempotent."""

    @property
    def is_enough(self) -> bool:
        """Whether records can be made anew from the place alone; see `note` and `recall`."""
        ...

    async def instance(self, owner: str) -> str | None:
        """What a new state store has to be tied to, since an older one of its owner is lost.

        Args:
            owner: Names where the state store lies; no two that are in use have one name.

        Raises:
            WrongInstance: The place is not there, or several were lost.
        """
        ...

    async def open(
        self,
        instance: str,
        *,
        is_new: bool,
        trust_unsynced: bool,
        owner: str = "",
        observe: Observer | None = None,
    ) -> None:
        """Makes the place ready, and ties it to a state store.

        Args:
            instance: What the state store is tied to.
            owner: See `instance`; if it is given, the place remembers it.
            observe: Told from now on what a store that is elsewhere was asked for.
            is_new: Whether nothing can be here yet, as the state store knows of no uploads: only
                then is a place taken that is not tied to any.
            trust_unsynced: Whether bytes that were never synced count after a reboot, as far as
                they are there: nothing is promised then.

        Raises:
            WrongInstance: The place belongs to another state store, or is not there.
        """
        ...

    async def close(self) -> None:
        """Ends what `open` began."""
        ...

    async def probe(self) -> None:
        """Looks whether the place that was opened is still there, and takes bytes.

        Raises:
            StorageFailed: It does not, or cannot be reached.
        """
        ...

    async def note(self, upload: Upload) -> None:
        """Notes in the place, if it is enough, what cannot be told from the bytes.

        Args:
            upload: New, or its length is known now, or about to be complete.

        Raises:
            StorageFailed: It could not be noted.
        """
        ...

    async def recall(self, upload_id: str) -> Upload | None:
        """The record of an upload as the place alone tells it, None if there is none of ours.

        Its offset is that of the bytes which are there in order, and were verified where that was
        to be: no less than what was acknowledged.

        Raises:
            StoredBytesLost: Bytes that were acknowledged are not there any more, or what was noted
                is not understood.
            StorageFailed: It cannot be told now.
        """
        ...

    def noted(self) -> AsyncIterator[str]:
        """Ids of all uploads that `recall` may know.

        Raises:
            StorageFailed: They cannot be told now.
        """
        ...

    async def settle(self, upload: Upload, *, at_once: bool = False) -> Upload:
        """The record as storage bears it out: see `Writer.upload`.

        Args:
            upload: The record as it was committed.
            at_once: Whether storage may look without a thread; it cuts nothing without one.

        Raises:
            StoredBytesLost: Fewer bytes are there than were acknowledged.
        """
        ...

    def writer(
        self, upload: Upload, *, at_once: bool = False
    ) -> AbstractAsyncContextManager[Writer]:
        """Opens an upload for an append, settled; see `settle`.

        Raises:
            StoredBytesLost: As `settle`.
            StorageFull: There is no room for a file.
            StorageFailed: It cannot be opened.
        """
        ...

    def free(self) -> int:
        """Bytes that there is room for now, whoever writes them; it blocks, but not for long.

        Where nothing bounds them, more than any floor.
        """
        ...

    def size(self) -> int | None:
        """Bytes that the whole of the place has, None where nothing bounds them; it blocks."""
        ...

    def put(self, upload: Upload, data: bytes, *, durable: bool) -> str | None:
        """Stores bytes at the offset of an upload, all or none; it blocks.

        Args:
            upload: The record as it was committed, or will be.
            data: Not much.
            durable: Whether everything up to their end must outlive a loss of power when this
                returns.

        Returns:
            The placement; None, with nothing stored, if what lies there is not just what the record
            says. Nothing may lie there for a record that has no placement.

        Raises:
            SyncFailed: They do not; a file that was made for them is gone again.
        """
        ...

    def take_back(self, upload: Upload) -> None:
        """Undoes a `put` for a record that was not committed.

        Args:
            upload: As given to it; nobody else was let in since.
        """
        ...

    def resting_path(self, upload: Upload) -> str | None:
        """What `finish` would return, if it has nothing to move; None otherwise."""
        ...

    async def sync(self, upload: Upload) -> None:
        """Lets everything up to the upload's offset outlive a loss of power.

        Raises:
            SyncFailed: It does not.
        """
        ...

    async def concatenate(
        self,
        upload: Upload,
        parts: Sequence[Upload],
        *,
        durable: bool,
        commit: Callable[[str], Awaitable[None]],
    ) -> str:
        """Writes the parts one after the other into `upload`, from its beginning.

        Args:
            upload: The result.
            parts: Complete ones.
            durable: Whether the result must outlive a loss of power when this returns.
            commit: Publishes a placement on the way; see `Writer.take`.

        Returns:
            The placement of the result.

        Raises:
            StorageFull: There is no room for it.
            StorageFailed: A part cannot be read, or the result not be written or synced.
        """
        ...

    async def finish(self, upload: Upload, *, durable: bool) -> str:
        """Puts a whole upload where finished files lie.

        Args:
            upload: All its bytes are stored.
            durable: Whether the place must outlive a loss of power when this returns.

        Returns:
            Its path, for `Upload.path`.
        """
        ...

    def locate(self, upload: Upload) -> Path | str:
        """The file of a complete upload, or its URL where it lies in none; see `has`."""
        ...

    def read(self, upload: Upload, offset: int, count: int) -> AsyncGenerator[bytes, None]:
        """Bytes of a complete upload, in pieces.

        Raises:
            UploadNotFound: It is not there any more.
            StorageFailed: It cannot be read.
        """
        ...

    async def link(self, upload: Upload, *, media_type: str, disposition: str) -> str | None:
        """Where a client downloads a complete upload itself, for a while; see `has`.

        Args:
            upload: Which.
            media_type: The type that it is to be told.
            disposition: Likewise, as `Content-Disposition`.

        Returns:
            A URL; None if the bytes are to pass through here, see `read`.
        """
        ...

    def check_target(self, target: str) -> None:
        """Whether a finished file can lie where an application wants it; see `Upload.target`.

        Raises:
            ValueError: It cannot.
        """
        ...

    async def has(self, upload: Upload, *, at_once: bool = False) -> bool:
        """Whether the file at `locate` is the upload's own.

        Somebody may have moved it away, and another upload been given its name.

        Args:
            upload: Its record.
            at_once: As for `settle`.
        """
        ...

    async def take(self, upload: Upload, to: Path) -> None:
        """Moves the finished file of an upload to `to`, durably; repeated, it does nothing.

        Raises:
            FileExistsError: Another file lies at `to`.
            StorageFailed: The move was not possible.
            NotImplementedError: The storage keeps no files.
        """
        ...

    async def remove(self, upload: Upload) -> int:
        """Lets go of an upload's bytes, and of no other's: how many came free."""
        ...

    def strays(self, older_than: float) -> AsyncIterator[str]:
        """Ids of files that look like uploads and were not touched since `older_than`.

        Args:
            older_than: Seconds since the epoch.
        """
        ...

    async def quarantine(self, upload_id: str) -> int:
        """Sets a file aside that no record knows: its size in bytes."""
        ...

    async def empty_quarantine(self, older_than: float, *, dry_run: bool = False) -> int:
        """Removes what was set aside before `older_than`, or only says how many bytes that is."""
        ...


class WrongInstance(Exception):
    """The stored bytes and the state do not belong together, or cannot be used safely."""
