"""Blocks of the disk that are allocated ahead of the bytes, by fallocate(2).

The rules:
- The size of the file stays as it is: it says how far the bytes came.
- It is done on ext4, which otherwise looks for each block by itself. XFS gains nothing by it, and
  gives nothing back any more of a file that it was done to; Btrfs could not compress it; over a
  network it would be a call; and memory is no disk.
- It takes a small part of what is free, as what was announced may never come.
"""

import os
from contextlib import suppress
from typing import Any

_PARTS = 256
"""One of so many of what is free may be allocated at once."""

_MUCH = 1 << 20
"""Bytes that are worth a call."""

_KEEP_SIZE = 1
"""`FALLOC_FL_KEEP_SIZE` of linux/falloc.h."""

_EXT4 = 0xEF53
"""`EXT4_SUPER_MAGIC` of linux/magic.h, the first field of what fstatfs(2) tells."""

_fallocate: Any = None
_fstatfs: Any = None
with suppress(ImportError, OSError, AttributeError):  # another C library, or none
    import ctypes

    _libc = ctypes.CDLL(None)
    _fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    _fstatfs = _libc.fstatfs


def is_worth_it(descriptor: int) -> bool:
    """Whether a file lies where this is done."""
    if _fstatfs is None:
        return False
    told = (ctypes.c_long * 64)()
    return bool(_fstatfs(descriptor, told) == 0) and told[0] == _EXT4


def allocate(descriptor: int, offset: int, count: int) -> int:
    """Allocates blocks from an offset on: for how many bytes, 0 if it cannot be done."""
    stat = os.fstatvfs(descriptor)
    count = min(count, stat.f_bavail * stat.f_frsize // _PARTS)
    if count < _MUCH or _fallocate(descriptor, _KEEP_SIZE, offset, count) != 0:
        return 0
    return count


def is_left(descriptor: int, stat: os.stat_result) -> bool:
    """Whether a file of this status has many more blocks than bytes, as after a kill."""
    return stat.st_blocks * 512 - stat.st_size >= _MUCH and is_worth_it(descriptor)
