"""What is to be sent, and the reading of it."""

import contextlib
import mimetypes
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tusd_py.client.errors import FileChanged, FileUnreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file that was named, or that lies in a folder that was named.

    Args:
        path: as the user would write it.
        relative_path: from the folder's own name on, `/` between the names; None for a file
            that was named itself.
    """

    path: Path
    relative_path: str | None = None

    def metadata(self) -> dict[str, bytes]:
        """`filename`, `filetype` when its name tells, and `relativePath` in a folder."""
        metadata = {"filename": os.fsencode(self.path.name)}
        guessed, _encoding = mimetypes.guess_type(self.path.name)
        if guessed is not None:
            metadata["filetype"] = guessed.encode()
        if self.relative_path is not None:
            metadata["relativePath"] = os.fsencode(self.relative_path)
        return metadata


def find(paths: list[Path], trouble: Callable[[Path, FileUnreadable], None]) -> Iterator[Found]:
    """Every file once, in the order of the arguments, in folders by name.

    In folders, links to files are followed, links to folders are not, and what is neither a
    file nor a folder is passed over.

    Args:
        paths: files and folders.
        trouble: told of folders that cannot be listed.
    """
    seen: set[Path] = set()
    for path in paths:
        for found in _walk(path, trouble) if path.is_dir() else [Found(path=path)]:
            absolute = found.path.absolute()
            if absolute not in seen:
                seen.add(absolute)
                yield found


def _walk(root: Path, trouble: Callable[[Path, FileUnreadable], None]) -> Iterator[Found]:
    def failed(error: OSError) -> None:
        trouble(Path(error.filename), FileUnreadable(error.strerror or str(error)))

    name = Path(os.path.abspath(root)).name
    for folder, folders, files in os.walk(root, onerror=failed):
        folders.sort()
        for file in sorted(files):
            path = Path(folder, file)
            # A link that leads nowhere is not a file, but is not passed over in silence either.
            if path.is_file() or path.is_symlink():
                relative = Path(name, path.relative_to(root))
                yield Found(path=path, relative_path=relative.as_posix())


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFile:
    """A file as it is at one moment; reading notices when it is no longer that.

    Args:
        descriptor: open for reading; closed by `close`.
        size: bytes.
        mtime_ns: the time of its last change.
    """

    descriptor: int
    size: int
    mtime_ns: int

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens a regular file.

        Raises:
            FileUnreadable: missing, not permitted, or not a regular file.
        """
        try:
            # O_NONBLOCK: opening a named pipe must not wait for somebody to write to it.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise FileUnreadable(error.strerror or str(error)) from error
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise FileUnreadable("Not a regular file")
        return cls(descriptor=descriptor, size=found.st_size, mtime_ns=found.st_mtime_ns)

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, offset: int, count: int) -> bytes:
        """From one byte to `count` bytes, at an offset within the file; from any thread.

        Raises:
            FileChanged: it is no longer the file that was opened.
            FileUnreadable: the disk failed.
        """
        try:
            data = os.pread(self.descriptor, count, offset)
        except OSError as error:
            raise FileUnreadable(error.strerror or str(error)) from error
        if not data:
            raise FileChanged
        self.check()
        return data

    def check(self) -> None:
        """Raises `FileChanged` when size or time of change are not as at the beginning."""
        now = os.fstat(self.descriptor)
        if (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns):
            raise FileChanged


def total_size(files: list[Found]) -> int:
    """Bytes of all files together, as far as they can be seen now."""
    total = 0
    for found in files:
        with contextlib.suppress(OSError):
            total += found.path.stat().st_size
    return total
