"""One holder for each upload among the processes of this host.

The rules:
- A lock is a byte of a lock file, held by the kernel for an open file description (`F_OFD_SETLK`,
  fcntl(2)). It passes on only when its holder lets go or dies, and then at once: never by time,
  so a process that is stopped keeps what it holds, and one that was killed frees it.
- Two instances in one process have descriptions of their own, and exclude each other too.
- A child process that was forked would keep its parent's locks beyond the parent's death, so it
  closes what it inherits and opens its own.
- The lock files are opened together, before the first lock, or none is: a process that has them has
  all it needs, however short of descriptors it is later.
"""

import fcntl
import hashlib
import os
import struct
import weakref
from functools import lru_cache
from pathlib import Path

from tusd_py.protocol.errors import StorageFailed

_FILES = 16
"""The kernel looks through all locks of a file; several files keep that short."""

_FLOCK = struct.Struct("hhqqi4x")


class HostLocks:
    """Locks of this process among those of the host.

    Args:
        directory: Where the lock files lie; made when needed. Not on a network file system.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._descriptors: list[int] = []
        _instances.add(self)

    def open(self) -> None:
        """Opens the lock files, all or none; nothing is done where they are open.

        `acquire` does so where it was not done, as in a child that was forked.

        Raises:
            StorageFailed: One cannot be opened, or descriptors are short (the `OSError` is the
                cause); a later call tries anew.
        """
        if self._descriptors:
            return
        opened: list[int] = []
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for index in range(_FILES):
                path = self.directory / f"{index:02x}"
                opened.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            _close(opened)
            raise StorageFailed from error
        self._descriptors = opened

    def acquire(self, key: str) -> bool:
        """Takes a lock, or says at once that another holder lives. It does not block.

        Raises:
            StorageFailed: The lock files had to be opened, and cannot be; see `open`. Or the
                kernel has no room for another lock. Nothing is held then.
        """
        if not self._descriptors:
            self.open()
        descriptor, byte = self._place(key)
        try:
            _set(descriptor, fcntl.F_WRLCK, byte)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StorageFailed from error
        return True

    def release(self, key: str) -> None:
        """Lets go of a lock that this instance holds; where no lock file is open, there is none."""
        if self._descriptors:
            descriptor, byte = self._place(key)
            _set(descriptor, fcntl.F_UNLCK, byte)

    def close(self) -> None:
        """Lets go of everything; `acquire` opens the lock files again."""
        descriptors, self._descriptors = self._descriptors, []
        _close(descriptors)

    def _place(self, key: str) -> tuple[int, int]:
        number = _number(key)
        return self._descriptors[number % _FILES], (number // _FILES) % 2**62


@lru_cache(maxsize=1024)
def _number(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _set(descriptor: int, kind: int, byte: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))


_instances: weakref.WeakSet[HostLocks] = weakref.WeakSet()


def _close_inherited() -> None:
    # Closing the parent's descriptors in the child takes no lock from the parent.
    for locks in _instances:
        locks.close()


os.register_at_fork(after_in_child=_close_inherited)
