"""System calls that touch files: their numbers, and which of their arguments name a file."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_X86_64 = {
    "write": 1,
    "pwrite64": 18,
    "fsync": 74,
    "fdatasync": 75,
    "ftruncate": 77,
    "rename": 82,
    "mkdir": 83,
    "link": 86,
    "unlink": 87,
    "openat": 257,
    "mkdirat": 258,
    "unlinkat": 263,
    "renameat": 264,
    "linkat": 265,
    "fallocate": 285,
    "renameat2": 316,
    "copy_file_range": 326,
}
_AARCH64 = {
    "mkdirat": 34,
    "unlinkat": 35,
    "linkat": 37,
    "renameat": 38,
    "ftruncate": 46,
    "fallocate": 47,
    "openat": 56,
    "write": 64,
    "pwrite64": 68,
    "fsync": 82,
    "fdatasync": 83,
    "renameat2": 276,
    "copy_file_range": 285,
}
NUMBERS = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(os.uname().machine, {})
"""Empty where the numbers are not known; then nothing can be injected."""

NAMES = {number: name for name, number in NUMBERS.items()}

_DESCRIPTOR = {
    "write": 0,
    "pwrite64": 0,
    "fsync": 0,
    "fdatasync": 0,
    "ftruncate": 0,
    "fallocate": 0,
    "copy_file_range": 2,
}
_PATHS = {
    "rename": (0, 1),
    "link": (0, 1),
    "mkdir": (0,),
    "unlink": (0,),
    "openat": (1,),
    "mkdirat": (1,),
    "unlinkat": (1,),
    "renameat": (1, 3),
    "renameat2": (1, 3),
    "linkat": (1, 3),
}
_LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call, before it is carried out.

    Attributes:
        name: Such as `pwrite64`.
        paths: What it is done to; the last one is where something is made.
        changes: Whether it changes, or syncs, anything: a plain open does not.
    """

    name: str
    paths: tuple[str, ...]
    changes: bool

    def told(self, root: Path) -> str:
        """For people: without what is random."""
        return f"{self.name} {place(self.paths[-1], root)}" if self.paths else self.name


def place(path: str, root: Path) -> str:
    """A path below the root, without ids and the like."""
    relative = os.path.relpath(path, root)
    relative = re.sub(r"\.instance\.[0-9a-f]+", ".instance.<new>", relative)
    relative = re.sub(r"\b[0-9a-f]{32}\b", "<id>", relative)
    return re.sub(r"\b[0-9a-f]{2,3}(?=/|$)", "<shard>", relative)


def read_call(tid: int, number: int, arguments: tuple[int, ...]) -> Call:
    """What a thread that waits in a call is about to do.

    Raises:
        OSError: The thread is gone.
    """
    name = NAMES[number]
    if name in _DESCRIPTOR:
        where = os.readlink(f"/proc/{tid}/fd/{_descriptor(arguments[_DESCRIPTOR[name]])}")
        return Call(name=name, paths=(where,), changes=True)
    paths = tuple(_string(tid, arguments[index]) for index in _PATHS[name])
    opens = name == "openat" and not arguments[2] & (os.O_CREAT | os.O_TRUNC)
    return Call(name=name, paths=paths, changes=not opens)


def _descriptor(argument: int) -> int:
    return argument & 0xFFFFFFFF


def _string(tid: int, address: int) -> str:
    with open(f"/proc/{tid}/mem", "rb", buffering=0) as memory:
        found = b""
        while b"\0" not in found and len(found) < _LONGEST_PATH:
            # Page by page: what lies behind the string's end may not be mapped.
            at = address + len(found)
            found += os.pread(memory.fileno(), 4096 - at % 4096, at)
    return os.fsdecode(found.partition(b"\0")[0])
