"""Small file systems, to be filled to the brim and freed again."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_PIECE = 64 << 10


@dataclass
class Small:
    """A file system that somebody else can fill."""

    path: Path

    @property
    def free(self) -> int:
        """Bytes."""
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Leaves so many bytes, in whole pages."""
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            while self.free > leave:
                os.write(descriptor, bytes(min(_PIECE, self.free - leave)))
        except OSError:
            pass
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """There is room again."""
        self._filler.unlink(missing_ok=True)

    @property
    def _filler(self) -> Path:
        return self.path / "filler"


@contextlib.contextmanager
def small_disk(path: Path, size: int) -> Iterator[Small]:
    """A new file system of `size` bytes; skips where it cannot be mounted."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"only root can mount: {done.stderr.strip()}")
    try:
        yield Small(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
