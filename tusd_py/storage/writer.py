"""A file that is open for an append.

The rules:
- The descriptor belongs to whoever takes the body, one thread at a time. Whoever looks at the file
  meanwhile (`size`, `sync`) opens it by its path.
- A file is known by its inode: where another one has taken its path, the bytes that were
  acknowledged are not there, and nothing is written.
- What comes quickly finds its blocks allocated (`storage.room`): that costs less for all of them
  than for one after the other, and files that grow at once lie in longer pieces. What of it was not
  used is given back before the lock is. That notes the size on the disk, maybe before the bytes:
  where a loss of power leaves the size to be believed, room is kept for what still comes.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tusd_py.body import Body, Received
from tusd_py.protocol.checksum import Digest
from tusd_py.protocol.errors import StoredBytesLost
from tusd_py.protocol.upload import Upload
from tusd_py.storage import room
from tusd_py.storage.interface import Commit
from tusd_py.storage.layout import Layout
from tusd_py.storage.threads import failure_of, fdatasync, in_thread

_WORTH_ROOM = 1 << 20
"""Bytes that are about to come, from which on room is made for them."""

_ROOM = 8 << 20
_MOST_ROOM = 64 << 20
"""Bytes of room that are made at once, for the first and for the later ones."""


class DiskFile:
    """See `tusd_py.body.File`.

    Args:
        folder: Where it lies.
        path: The file in it.
        keeps_room: Whether room that was not used stays; see above.
    """

    def __init__(self, folder: str, path: str, *, keeps_room: bool = False) -> None:
        self.folder = folder
        self.path = path
        self._keeps_room = keeps_room
        self._inode: tuple[int, int] | None = None
        self._descriptor: int | None = None
        self._first = self._room_until = 0
        self._makes_room: bool | None = None

    def open(self, *, create: bool) -> int:
        """The descriptor, from the first time on."""
        flags = os.O_WRONLY | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self._descriptor = os.open(self.path, flags, 0o644)
        self._inode = _inode(self._descriptor)
        return self._descriptor

    def descriptor(self) -> int:
        """See `File.descriptor`."""
        if self._descriptor is None:
            self._descriptor = self.another()
        return self._descriptor

    def make_room(self, offset: int, count: int) -> None:
        """See `File.make_room`: never for more than as much again as has come, beyond 8 MiB."""
        if offset < self._room_until or count < _WORTH_ROOM or self._makes_room is False:
            return
        descriptor = self.descriptor()
        if self._makes_room is None and not room.is_worth_it(descriptor):
            self._makes_room = False
            return
        if not self._room_until:
            self._first = offset
        count = min(count, max(_ROOM, offset - self._first), _MOST_ROOM)
        made = room.allocate(descriptor, offset, count)
        self._makes_room = made > 0
        self._room_until = offset + (made or count)

    @property
    def has_spare_room(self) -> bool:
        """Whether there is room that was not used, so that `release` has more to do."""
        if not self._room_until or self._keeps_room or self._descriptor is None:
            return False
        try:
            return os.fstat(self._descriptor).st_size < self._room_until
        except OSError:
            return True

    def release(self) -> None:
        """See `File.release`."""
        # Forgotten first: its number may be another file's as soon as it is closed.
        descriptor, self._descriptor = self._descriptor, None
        room_until, self._room_until = self._room_until, 0
        if descriptor is None:
            return
        if room_until and not self._keeps_room:
            with suppress(OSError):  # the bytes are there, whatever becomes of the room
                if (size := os.fstat(descriptor).st_size) < room_until:
                    os.ftruncate(descriptor, size)
        os.close(descriptor)

    def another(self) -> int:
        """A descriptor of the same file for the caller, who closes it; from any thread.

        Raises:
            FileNotFoundError: The file, or its name, is another one's now.
        """
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        if _inode(descriptor) != self._inode:
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "another file lies there", self.path)
        return descriptor

    @contextmanager
    def opened(self) -> Iterator[int]:
        """As `another`, for the length of a `with` block."""
        descriptor = self.another()
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _inode(descriptor: int) -> tuple[int, int]:
    stat = os.fstat(descriptor)
    return stat.st_dev, stat.st_ino


class DiskWriter:
    """See `storage.interface.Writer`."""

    def __init__(self, upload: Upload, file: DiskFile) -> None:
        self.upload = upload
        self._file = file
        self._is_name_synced = False

    async def take(
        self,
        body: Body,
        at_most: int,
        digest: Digest | None,
        commit: Commit,
        counts: Callable[[Received], bool] | None = None,
    ) -> Received:
        """See `Writer.take`."""
        try:
            return await body.save(self._file, self.upload.upload_offset, at_most, digest)
        except FileNotFoundError as error:
            raise StoredBytesLost(self.upload.id) from error
        except OSError as error:
            raise failure_of(error) from error

    def placement(self, offset: int) -> str:
        """See `Writer.placement`: a file stays where it is."""
        return self.upload.placement

    async def size(self) -> int:
        """See `Writer.size`."""
        return await in_thread(self._size)

    async def sync(self) -> int:
        """See `Writer.sync`."""
        return await in_thread(self._sync)

    async def cut(self, offset: int) -> None:
        """See `Writer.cut`."""
        await in_thread(self._cut, offset)

    def _size(self) -> int:
        with self._lost(), self._file.opened() as descriptor:
            return os.fstat(descriptor).st_size

    def _cut(self, offset: int) -> None:
        with self._lost(), self._file.opened() as descriptor:
            os.ftruncate(descriptor, offset)

    def _sync(self) -> int:
        with self._lost(), self._file.opened() as descriptor:
            # The size is read before the sync: what is written meanwhile may not be on the disk.
            size = os.fstat(descriptor).st_size
            fdatasync(descriptor)
        if not self._is_name_synced:
            # The file may be new, and its name not on the disk yet.
            Layout.sync_folder(self._file.folder)
            self._is_name_synced = True
        return size

    @contextmanager
    def _lost(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StoredBytesLost(self.upload.id) from error
