"""Room that is kept for the state, so that on a full disk it can still be told what to remove.

The rules:
- It is a file of real blocks beside the database, one for all processes. How many blocks it has is
  all there is to know of it, so whoever finds it short makes it anew; two at once do the same.
- It is let go of, by cutting it to nothing, only when a commit found no room. Nothing new is taken
  then until there is room: otherwise bodies would fill what is free again before commits can.
- It is made only where as much again stays free, so that it never makes a disk full, nor comes back
  before somebody has removed something.
"""

import errno
import logging
import os
import sqlite3
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("tusd_py")

_SIZE = 8 << 20
"""Bytes. SQLite lets its log grow to 1,000 pages, 4 MiB, before it carries them over to the
database, which may grow by as many."""

_SHARE = 16
"""Of a small disk it takes no more than one in so many bytes."""

_PROBE = 64 << 10

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_MAYBE = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
"""SQLite says which write failed, but not why: a quota, or a broken disk."""


class Ballast:
    """The reserve of a database, as one process knows it; everything here blocks.

    Args:
        path: The file.

    Attributes:
        is_out: Whether this process found no room, and has not found the file whole since.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_out = False

    @property
    def is_short(self) -> bool:
        """Whether there was no room for a commit, and there is still too little."""
        return self.is_out and not self._has_room_for(self._size())

    def build(self) -> None:
        """Makes the file, if it is not whole and there is room; never fails."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            logger.warning("no room can be kept for the state: %s", error)
            return
        try:
            self._build(descriptor)
        except OSError:
            logger.debug("no room is kept for the state now", exc_info=True)
        finally:
            os.close(descriptor)

    def _build(self, descriptor: int) -> None:
        size = self._size()
        if os.fstat(descriptor).st_blocks * 512 < size:
            if not self._has_room_for(size):
                return
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError:
                os.ftruncate(descriptor, 0)
                raise
        if self.is_out:
            self.is_out = False
            logger.info("there is room for the state again")

    def relieve(self, error: BaseException | None) -> bool:
        """After a commit that wants room: lets go of the file, once until it is whole again.

        Args:
            error: What it failed with; `wants_room` holds for it.

        Returns:
            Whether a repetition may succeed.
        """
        return self._release() if is_full(error) or not self.can_write() else True

    def _release(self) -> bool:
        if self.is_out:
            return False
        self.is_out = True
        logger.error(
            "the disk of the state is full: nothing new is taken until there is room; %s, which "
            "was kept for that, lets uploads still be looked up, ended and removed",
            self.path,
        )
        # Another process may have done it a moment ago; then there is room all the same.
        with suppress(OSError):
            os.truncate(self.path, 0)
        return True

    def can_write(self) -> bool:
        """Whether a file of a few pages can be made; only that tells of a quota."""
        probe = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            return error.errno not in _NO_ROOM
        try:
            os.posix_fallocate(descriptor, 0, _PROBE)
        except OSError as error:
            return error.errno not in _NO_ROOM
        finally:
            os.close(descriptor)
            os.unlink(probe)
        return True

    def _size(self) -> int:
        stat = os.statvfs(self.path.parent)
        return min(_SIZE, stat.f_blocks * stat.f_frsize // _SHARE)

    def _has_room_for(self, size: int) -> bool:
        stat = os.statvfs(self.path.parent)
        return stat.f_bavail * stat.f_frsize >= 2 * size


def is_full(error: BaseException | None) -> bool:
    """Whether SQLite or the system says that there is no room."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def wants_room(error: BaseException | None) -> bool:
    """As `is_full`, or SQLite cannot tell; see `Ballast.can_write` then."""
    return is_full(error) or getattr(error, "sqlite_errorcode", None) in _MAYBE
