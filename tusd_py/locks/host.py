"""One holder for each upload among the processes of this host.

The rules:
- A lock is a byte of a lock file, held by the kernel for an open file description (`F_OFD_SETLK`,
  fcntl(2)). It passes on only when its holder lets go or dies, and then at once: never by time,
  so a process that is stopped keeps what it holds, and one that was killed frees it.
- Two instances in one process have descriptions of their own, and exclude each other too.
- A child process that was forked would keep its parent's locks beyond the parent's death, so it
  closes what it inherits and opens its own.
"""

import fcntl
import hashlib
import os
import struct
import weakref
from pathlib import Path

_FILES = 16
"""The kernel looks through all locks of a file; several files keep that short."""

_FLOCK = struct.Struct("hhqqi4x")


class HostLocks:
    """Locks of this process among those of the host.

    Args:
        directory: Where the lock files lie; made when needed. Not on a network file system.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptors: dict[int, int] = {}
        _instances.add(self)

    def acquire(self, key: str) -> bool:
        """Takes a lock, or says at once that another holder lives. It does not block."""
        descriptor, byte = self._place(key)
        try:
            _set(descriptor, fcntl.F_WRLCK, byte)
        except BlockingIOError:
            return False
        return True

    def release(self, key: str) -> None:
        """Lets go of a lock that this instance holds."""
        descriptor, byte = self._place(key)
        _set(descriptor, fcntl.F_UNLCK, byte)

    def close(self) -> None:
        """Lets go of everything."""
        descriptors, self._descriptors = self._descriptors, {}
        for descriptor in descriptors.values():
            os.close(descriptor)

    def _place(self, key: str) -> tuple[int, int]:
        number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
        return self._open(number % _FILES), (number // _FILES) % 2**62

    def _open(self, index: int) -> int:
        if index not in self._descriptors:
            self._directory.mkdir(parents=True, exist_ok=True)
            path = self._directory / f"{index:02x}"
            self._descriptors[index] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._descriptors[index]


def _set(descriptor: int, kind: int, byte: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))


_instances: weakref.WeakSet[HostLocks] = weakref.WeakSet()


def _close_inherited() -> None:
    # Closing the parent's descriptors in the child takes no lock from the parent.
    for locks in _instances:
        locks.close()


os.register_at_fork(after_in_child=_close_inherited)
