"""The folders of a `DiskStorage`.

data/<2 hex digits>/<id>   bytes of uploads, sharded: a million files are 3,906 in each folder
data/.instance             ties this folder to its state
files/                     finished files, where a template or the application puts them
quarantine/<id>            files that no record knows, kept for a while
"""

import errno
import hashlib
import os
import secrets
from functools import cache, lru_cache
from pathlib import Path
from stat import S_ISREG

from tusd_py.protocol import abnf
from tusd_py.storage.interface import SyncFailed, WrongInstance

_MARK = ".instance"
_SHARDS = [f"{number:02x}" for number in range(256)]


@cache
def boot_id() -> str:
    """The kernel's name for this boot; another one means that the page cache was lost."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


class Layout:
    """Names and folders below one directory; everything here blocks."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.files = directory / "files"
        self._quarantine = directory / "quarantine"
        self._data, self._name = str(self.data), self.data.name

    def open(self, instance: str, *, is_new: bool) -> None:
        """See `Storage.open`."""
        if is_new:
            self._make_folders(self.data, durable=True)
            # Also if it was there: whoever made it may not have come to this.
            self.sync_folder(self.data.parent)
        mark = self.data / _MARK
        # First the uploads: another process writes the mark before it takes any.
        has_uploads = self._has_uploads()
        found = mark.read_text("ascii").strip() if mark.exists() else None
        if found is None and is_new and not has_uploads:
            found = self._make_mark(mark, instance)
        if found is None and not has_uploads:
            raise WrongInstance(
                f"{self.data} is empty, but the state has uploads: is the volume mounted? "
                "Nothing was touched; mount it, or restore a backup"
            )
        if found is None:
            raise WrongInstance(
                f"{self.data} has files but no {_MARK}: it was not made by tusd-py. "
                "Nothing was touched; choose an empty directory"
            )
        if found != instance and is_new and has_uploads:
            raise WrongInstance(
                f"{self.data} has uploads, but the state is new: its database was lost or moved. "
                "Nothing was touched; give the right state directory or restore a backup"
            )
        if found != instance:
            raise WrongInstance(
                f"{self.data} belongs to another state than the one given. "
                "Nothing was touched; choose the state directory that was made with it"
            )
        self._make_shards()

    def probe(self) -> None:
        """See `Storage.probe`; raises `OSError`."""
        mark = self.data / _MARK
        mark.stat()
        if not os.access(self.data, os.W_OK):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self.data))

    def _has_uploads(self) -> bool:
        # Another process may be about to write the mark, or may have died while it did.
        return self.data.exists() and any(
            not path.name.startswith(_MARK) and not _is_empty_shard(path)
            for path in self.data.iterdir()
        )

    def _make_mark(self, mark: Path, instance: str) -> str:
        """Writes the mark whole, or takes the one that another process has just written."""
        beside = mark.with_name(f"{_MARK}.{secrets.token_hex(8)}")
        with beside.open("x", encoding="ascii") as writer:
            writer.write(instance + "\n")
            writer.flush()
            os.fsync(writer.fileno())
        try:
            os.link(beside, mark)
        except FileExistsError:
            instance = mark.read_text("ascii").strip()
        finally:
            beside.unlink()
        self.sync_folder(mark.parent)
        return instance

    def file(self, upload_id: str) -> Path:
        """Where the bytes of an upload are written."""
        return Path(self.names(upload_id)[1])

    def names(self, upload_id: str) -> tuple[str, str]:
        """The shard, and the file in it, where the bytes of an upload are written."""
        shard = f"{self._data}/{_shard(upload_id)}"
        return shard, f"{shard}/{upload_id}"

    def relative(self, upload_id: str) -> str:
        """As `file`, below the directory."""
        return f"{self._name}/{_shard(upload_id)}/{upload_id}"

    def _make_shards(self) -> None:
        """Makes all shards, durably; they are there for good then."""
        there = {path.name for path in self.data.iterdir()}
        missing = [name for name in _SHARDS if name not in there]
        for name in missing:
            (self.data / name).mkdir(exist_ok=True)
        # Also if they were there: whoever made them may not have come to this.
        self.sync_folder(self.data)

    @staticmethod
    def sync_folder(folder: Path | str) -> None:
        """Lets the entries of a folder outlive a loss of power.

        Raises:
            SyncFailed: They do not.
        """
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise SyncFailed from error
        finally:
            os.close(descriptor)

    def move(
        self, source: Path, target: Path, inode: tuple[int, int] | None, *, durable: bool
    ) -> bool:
        """Moves a file to a free name; repeated after a crash at any step, it goes on.

        Args:
            source: Where it lies, unless an earlier move came that far.
            target: Where it shall lie; folders are made.
            inode: Device and inode of the file, by which an earlier move is recognised.
            durable: Whether the move must outlive a loss of power.

        Returns:
            Whether it lies at `target` now; False if another file does, or if it lies nowhere.
        """
        self._make_folders(target.parent, durable=durable)
        try:
            os.link(source, target)
        except (FileExistsError, FileNotFoundError):
            if not is_file(target, inode):
                return False
        if durable:
            self.sync_folder(target.parent)
        # An earlier move may have come that far, and the name been given to another file since.
        if is_file(source, _inode(target)):
            source.unlink(missing_ok=True)
        if durable:
            self.sync_folder(source.parent)
        return True

    def _make_folders(self, folder: Path, *, durable: bool) -> None:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing if durable else ():
            self.sync_folder(path.parent)

    def shards(self) -> list[Path]:
        """All shards that there are."""
        return sorted(path for path in self.data.iterdir() if path.is_dir())

    def strays(self, shard: Path, older_than: float) -> list[str]:
        """Ids of the files of a shard that look like ours and were not touched lately."""
        found = []
        with os.scandir(shard) as entries:
            for entry in entries:
                if not abnf.UPLOAD_ID.fullmatch(entry.name) or self.file(entry.name) != shard / (
                    entry.name
                ):
                    continue
                stat = _stat_of_file(shard / entry.name)
                if stat is not None and stat.st_mtime < older_than:
                    found.append(entry.name)
        return found

    def quarantine(self, upload_id: str) -> int:
        """See `Storage.quarantine`."""
        self._quarantine.mkdir(exist_ok=True)
        target = self._quarantine / upload_id
        try:
            os.rename(self.file(upload_id), target)
            # From now on its age counts from here.
            os.utime(target)
            return target.stat().st_size
        except FileNotFoundError:
            # Another process has set it aside.
            return 0

    def empty_quarantine(self, older_than: float, dry_run: bool) -> int:
        """See `Storage.empty_quarantine`."""
        freed = 0
        for path in self._quarantine.iterdir() if self._quarantine.exists() else ():
            stat = _stat_of_file(path) if abnf.UPLOAD_ID.fullmatch(path.name) else None
            if stat is not None and stat.st_mtime < older_than:
                freed += stat.st_size
                if not dry_run:
                    path.unlink(missing_ok=True)
        return freed


@lru_cache(maxsize=1024)
def _shard(upload_id: str) -> str:
    return hashlib.blake2b(upload_id.encode(), digest_size=1).hexdigest()


def _is_empty_shard(path: Path) -> bool:
    return path.name in _SHARDS and path.is_dir() and next(path.iterdir(), None) is None


def is_file(path: Path, inode: tuple[int, int] | None) -> bool:
    """Whether a file lies there that has this device and inode."""
    return inode is not None and inode == _inode(path)


def _inode(path: Path) -> tuple[int, int] | None:
    stat = _stat_of_file(path)
    return None if stat is None else (stat.st_dev, stat.st_ino)


def _stat_of_file(path: Path) -> os.stat_result | None:
    """None for what is no file of ours: links, folders, and what has just gone."""
    try:
        stat = path.lstat()
    except FileNotFoundError:
        return None
    return stat if S_ISREG(stat.st_mode) else None
