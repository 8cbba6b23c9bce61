"""A disk as a recording leaves it: what all see, and what a loss of power leaves.

The rules, which are those of POSIX and stricter than any journalling file system:
- A file's bytes outlive a loss of power as they were when the last sync of it that ended began.
- A name in a folder does when the folder was synced behind its making, or its removal.
- What was not synced may have come to the disk all the same, page by page and name by name.
"""

import enum
import itertools
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.injected.recording import Event

PAGE = 4096
_NO_DISK = "-shm"
"""Ends the name of SQLite's shared memory, which it makes anew after every boot."""


class Cut(enum.Enum):
    """What is left of what was not synced."""

    STRICT = "nothing that was not synced"
    TORN = "names and lengths, and of the bytes some pages"
    LUCKY = "everything"


@dataclass(eq=False)
class File:
    """What all see, and what was synced: None if nothing ever was.

    Attributes:
        number: The same in every replay of one recording.
    """

    number: int
    live: bytearray = field(default_factory=bytearray)
    synced: bytes | None = None

    def left(self, cut: Cut, dice: random.Random) -> bytes:
        """Its bytes after a loss of power."""
        if cut is Cut.LUCKY:
            return bytes(self.live)
        synced = self.synced or b""
        if cut is Cut.STRICT:
            return synced
        old = synced.ljust(len(self.live), b"\0")
        pages = range(0, len(self.live), PAGE)
        return b"".join(
            bytes((self.live if dice.random() < 0.5 else old)[at : at + PAGE])
            if self.live[at : at + PAGE] != old[at : at + PAGE]
            else bytes(self.live[at : at + PAGE])
            for at in pages
        )[: len(self.live)]


@dataclass(eq=False)
class Folder:
    """Names that all see, and those that were synced."""

    live: "dict[str, File | Folder]" = field(default_factory=dict)
    synced: "dict[str, File | Folder]" = field(default_factory=dict)


class Disk:
    """Below one folder, which was there before.

    Args:
        root: Its path; what lies elsewhere is not looked at.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._top = Folder()
        self._taken: dict[int, bytes | dict[str, File | Folder]] = {}
        self._nodes: dict[str, File | Folder] = {str(root): self._top}
        self._numbers = itertools.count()

    def adopt(self, path: Path) -> None:
        """Begins with a copy of what lay below the root: all of it is synced."""
        names: dict[int, File] = {}
        for each in sorted(path.rglob("*")):
            here = f"{self._root}/{each.relative_to(path)}"
            folder, name = self._parent(here)
            assert folder is not None
            node = Folder() if each.is_dir() else names.setdefault(each.stat().st_ino, self._new())
            if isinstance(node, File):
                node.synced = each.read_bytes()
                node.live[:] = node.synced
            folder.live[name] = folder.synced[name] = self._nodes[here] = node

    def _new(self) -> File:
        return File(next(self._numbers))

    def begin(self, event: Event) -> None:
        """A call begins: what a sync will have brought to the disk is there already."""
        if event.name in ("fsync", "fdatasync"):
            node = self._nodes.get(event.on)
            if isinstance(node, File):
                self._taken[event.begun] = bytes(node.live)
            elif node is not None:
                self._taken[event.begun] = dict(node.live)

    def end(self, event: Event) -> None:
        """A call has ended: its changes can be seen, or are on the disk."""
        if event.result is None or event.result < 0:
            return
        if event.name in ("fsync", "fdatasync"):
            self._synced(event)
        elif event.name in ("write", "pwrite64", "ftruncate", "copy_file_range"):
            self._write(event)
        elif event.name == "openat":
            self._open(event)
        elif event.name != "fallocate":  # which leaves size and bytes as they are
            self._name(event)

    def _synced(self, event: Event) -> None:
        node, taken = self._nodes.get(event.on), self._taken.pop(event.begun, None)
        match node, taken:
            case File(), bytes():
                node.synced = taken
            case Folder(), dict():
                node.synced = taken

    def _write(self, event: Event) -> None:
        on = event.copied()[2] if event.name == "copy_file_range" else event.on
        file = self._nodes.get(on)
        if not isinstance(file, File):
            return
        if event.name == "ftruncate":
            size = event.number
            file.live[:] = file.live[:size].ljust(size, b"\0")
            return
        assert event.result is not None
        if event.name == "copy_file_range":
            source, start, _, at = event.copied()
            read = self._nodes[source]
            assert isinstance(read, File)
            data = bytes(read.live[start : start + event.result])
        else:
            data = event.data[: event.result]
            at = event.number if event.name == "pwrite64" else len(file.live)
        if len(file.live) < at:
            file.live.extend(bytes(at - len(file.live)))
        file.live[at : at + len(data)] = data

    def _open(self, event: Event) -> None:
        (path,) = event.paths
        folder, name = self._parent(path)
        if folder is None or "O_CREAT" not in event.arguments:
            return
        node = folder.live.setdefault(name, self._new())
        self._nodes[path] = node
        if isinstance(node, File) and "O_TRUNC" in event.arguments:
            node.live.clear()

    def _name(self, event: Event) -> None:
        paths = event.paths
        folder, name = self._parent(paths[-1]) if paths else (None, "")
        if folder is None:
            return
        if event.name.startswith("mkdir"):
            folder.live[name] = self._nodes[paths[0]] = Folder()
        elif event.name.startswith("unlink"):
            folder.live.pop(name)
        elif event.name.startswith(("link", "rename")):
            source, old = self._parent(paths[0])
            assert source is not None, "moved from elsewhere"
            folder.live[name] = self._nodes[paths[1]] = source.live[old]
            if event.name.startswith("rename"):
                source.live.pop(old)

    def _parent(self, path: str) -> tuple[Folder | None, str]:
        if not path.startswith(f"{self._root}/"):
            return None, ""
        *folders, name = path[len(str(self._root)) + 1 :].split("/")
        folder = self._top
        for each in folders:
            found = folder.live.get(each)
            if not isinstance(found, Folder):
                return None, ""
            folder = found
        return folder, name

    def file(self, path: str, *, synced: bool) -> bytes | None:
        """What lies at a path, or would after a loss of power; None for no file."""
        node: File | Folder | None = self._top
        for name in path.split("/"):
            if not isinstance(node, Folder):
                return None
            node = (node.synced if synced else node.live).get(name)
        if not isinstance(node, File):
            return None
        return (node.synced or b"") if synced else bytes(node.live)

    def files(self) -> dict[str, int]:
        """Paths below the root of all files that are seen, with their numbers."""
        return dict(_walk(self._top, ""))

    def write(self, to: Path, cut: Cut, seed: int) -> dict[int, Path]:
        """Makes what a loss of power leaves: where which file lies now, by number.

        A file that has several names keeps them.
        """
        made: dict[int, Path] = {}
        _write(self._top, to, cut, random.Random(seed), made)
        return made


def _walk(folder: Folder, at: str) -> Iterator[tuple[str, int]]:
    for name, node in folder.live.items():
        if isinstance(node, Folder):
            yield from _walk(node, f"{at}{name}/")
        else:
            yield at + name, node.number


def _write(folder: Folder, to: Path, cut: Cut, dice: random.Random, made: dict[int, Path]) -> None:
    to.mkdir(parents=True, exist_ok=True)
    names = folder.synced if cut is Cut.STRICT else folder.live
    for name, node in names.items():
        if isinstance(node, Folder):
            _write(node, to / name, cut, dice, made)
        elif node.number in made:
            os.link(made[node.number], to / name)
        elif not name.endswith(_NO_DISK):
            (to / name).write_bytes(node.left(cut, dice))
            made[node.number] = to / name
