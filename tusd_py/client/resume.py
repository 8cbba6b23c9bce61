"""The URLs of unfinished uploads, kept on the disk so that a killed client can go on.

Rules:

- A URL is stored before the first byte goes to it, and removed when its file is finished.
- An entry is whole or absent: written aside, synced, renamed.
- One process at a time works on a file; the kernel frees the lock of one that was killed.
- Who knows the URL may write to the upload, so nobody else may read it (0700, 0600).
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tusd_py.client.errors import Busy, StateUnusable


def state_directory() -> Path:
    """`$XDG_STATE_HOME/tusd-py/uploads`, by default under `~/.local/state`."""
    home = os.environ.get("XDG_STATE_HOME", "")
    # XDG Base Directory: "If an implementation encounters a relative path [...] it should
    # consider the path invalid and ignore it."
    base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    return base / "tusd-py" / "uploads"


def fingerprint(*facts: str | int) -> str:
    """A file name made of everything that makes an upload this one and no other."""
    text = json.dumps(facts, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


class Slot(Protocol):
    """Where the URL of one upload is kept."""

    def load(self) -> str | None:
        """The URL, or None when there is none."""
        ...

    def save(self, url: str) -> None:
        """Keeps the URL; durable when this returns."""
        ...

    def remove(self) -> None:
        """Forgets it; harmless when there is nothing."""
        ...


class NoSlot:
    """For `--no-resume` and for pipes: nothing is kept."""

    def load(self) -> str | None:
        """Nothing."""
        return None

    def save(self, url: str) -> None:
        """Does nothing."""

    def remove(self) -> None:
        """Does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSlot:
    """One small JSON file.

    Args:
        path: where it lies.
        about: what is being sent, for whoever looks into the folder.
    """

    path: Path
    about: str

    def load(self) -> str | None:
        """The URL; None also when the entry cannot be understood."""
        try:
            entry = json.loads(self.path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        url = entry.get("url") if isinstance(entry, dict) else None
        return url if isinstance(url, str) else None

    def save(self, url: str) -> None:
        """Written aside, synced and renamed.

        Raises:
            StateUnusable: the disk would not take it.
        """
        with _translated():
            self._write(url)

    def _write(self, url: str) -> None:
        aside = self.path.with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({"url": url, "file": self.about}, file)
            file.flush()
            os.fsync(descriptor)
        aside.rename(self.path)
        _sync_directory(self.path.parent)

    def remove(self) -> None:
        """Unlinks the file."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeStore:
    """The folder of all entries.

    Args:
        directory: made when it is needed.
    """

    directory: Path

    def slot(self, name: str, about: str) -> FileSlot:
        """The place for one URL.

        Args:
            name: see `fingerprint`; may have a suffix for a part.
            about: the file's path.
        """
        return FileSlot(path=self.directory / f"{name}.json", about=about)

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Keeps other processes from sending the same file to the same server.

        Raises:
            Busy: another process does.
            StateUnusable: the folder cannot be used.
        """
        path = self.directory / f"{name}.lock"
        with _translated():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = _lock(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateUnusable(str(error)) from error


def _lock(path: Path) -> int:
    """A descriptor that holds the lock of the file which lies at `path` now."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise Busy from error
        # Whoever held it before has removed the file: this lock would exclude nobody.
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
