"""Bytes in files of a local file system.

The rules:
- Bytes are written at explicit offsets, in order; a file's size says how far they came.
- A record's `placement` names the boot, the device and the inode under which its bytes were
  written. Where it differs from what is found, the power may have been lost in between, and only
  `synced_offset` counts.
- Before the first byte of an append the size is made equal to the offset: an open tail is adopted,
  a sealed one is cut.
- Everything here blocks, so it runs in threads, which are always waited for; but what the caller
  takes for quick is done at once.
"""

import errno
import os
import shutil
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from tusd_py.hooks.events import Observer
from tusd_py.protocol import abnf
from tusd_py.protocol.errors import StorageFailed, StoredBytesLost, UploadNotFound
from tusd_py.protocol.upload import Tail, Upload
from tusd_py.storage import room
from tusd_py.storage.interface import Writer
from tusd_py.storage.layout import Layout, boot_id, is_file
from tusd_py.storage.template import LONGEST_SEGMENT, check_template, render, safe_path, with_id
from tusd_py.storage.threads import failure_of, fdatasync, in_thread, translated
from tusd_py.storage.writer import DiskFile, DiskWriter

T = TypeVar("T")

_COPY_AT_ONCE = 1 << 30
_READ_AT_ONCE = 1 << 20


class DiskStorage:
    """Keeps uploads under a folder of a local file system.

    Args:
        directory: The folder; `data/`, `files/` and `quarantine/` are made in it.
        file_template: Where finished files lie below `files/`, see `storage.template`; None to
            leave each where it was written.

    Raises:
        InvalidTemplate: The template cannot be used.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, file_template: str | None = None
    ) -> None:
        self.directory = Path(directory)
        self._layout = Layout(self.directory)
        self._template = None if file_template is None else check_template(file_template)
        self._trust_unsynced = False

    @property
    def is_enough(self) -> bool:
        """See `Storage.is_enough`: a file tells nothing of its upload."""
        return False

    async def instance(self, owner: str) -> str | None:
        """See `Storage.instance`: its place may be another's."""
        return None

    async def open(
        self,
        instance: str,
        *,
        is_new: bool,
        trust_unsynced: bool,
        owner: str = "",
        observe: Observer | None = None,
    ) -> None:
        """See `Storage.open`."""
        self._trust_unsynced = trust_unsynced
        await in_thread(partial(self._layout.open, instance, is_new=is_new))

    async def close(self) -> None:
        """See `Storage.close`: nothing is kept open."""

    async def probe(self) -> None:
        """See `Storage.probe`."""
        try:
            await in_thread(self._layout.probe)
        except OSError as error:
            raise failure_of(error) from error

    async def note(self, upload: Upload) -> None:
        """See `Storage.note`."""

    async def recall(self, upload_id: str) -> Upload | None:
        """See `Storage.recall`."""
        return None

    async def noted(self) -> AsyncIterator[str]:
        """See `Storage.noted`."""
        nothing: tuple[str, ...] = ()
        for upload_id in nothing:
            yield upload_id

    async def settle(self, upload: Upload, *, at_once: bool = False) -> Upload:
        """See `Storage.settle`."""
        settled, is_longer = await _done(at_once, self._look, upload)
        if is_longer:
            await in_thread(self._cut, settled)
        return settled

    @asynccontextmanager
    async def writer(self, upload: Upload, *, at_once: bool = False) -> AsyncIterator[Writer]:
        """See `Storage.writer`."""
        file = DiskFile(*self._layout.names(upload.id), keeps_room=self._trust_unsynced)
        try:
            settled, is_longer = await _done(at_once, self._open_for_append, upload, file)
            if is_longer:
                await in_thread(os.ftruncate, file.descriptor(), settled.upload_offset)
            yield DiskWriter(settled, file)
        finally:
            if file.has_spare_room:
                await in_thread(file.release)
            else:
                file.release()

    def free(self) -> int:
        """See `Storage.free`."""
        stat = self._statvfs()
        return stat.f_bavail * stat.f_frsize

    def size(self) -> int | None:
        """See `Storage.size`."""
        stat = self._statvfs()
        return stat.f_blocks * stat.f_frsize

    def _statvfs(self) -> os.statvfs_result:
        try:
            return os.statvfs(self.directory)
        except OSError as error:
            raise failure_of(error) from error

    def put(self, upload: Upload, data: bytes, *, durable: bool) -> str | None:
        """See `Storage.put`."""
        try:
            return self._put(upload, data, durable=durable)
        except OSError as error:
            raise failure_of(error) from error

    def _put(self, upload: Upload, data: bytes, *, durable: bool) -> str | None:
        is_new = not upload.placement
        shard, path = self._layout.names(upload.id)
        flags = os.O_WRONLY | os.O_CLOEXEC
        if is_new:
            flags |= os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(path, flags, 0o644)
        except OSError:
            return None
        try:
            placement = _placement(descriptor, upload)
            if placement is None or not _written(descriptor, upload.upload_offset, data):
                return None
            if durable:
                fdatasync(descriptor)
                self._layout.sync_folder(shard)
            return placement
        except BaseException:
            if is_new:
                os.unlink(path)
            raise
        finally:
            os.close(descriptor)

    def take_back(self, upload: Upload) -> None:
        """See `Storage.take_back`."""
        path = self._layout.file(upload.id)
        with translated():
            if upload.placement:
                os.truncate(path, upload.upload_offset)
            else:
                path.unlink()

    def resting_path(self, upload: Upload) -> str | None:
        """See `Storage.resting_path`."""
        if upload.target or self._template or upload.is_partial:
            return None
        return self._layout.relative(upload.id)

    async def sync(self, upload: Upload) -> None:
        """See `Storage.sync`."""
        await in_thread(self._sync, upload)

    async def concatenate(
        self,
        upload: Upload,
        parts: Sequence[Upload],
        *,
        durable: bool,
        commit: Callable[[str], Awaitable[None]],
    ) -> str:
        """See `Storage.concatenate`."""
        stop = threading.Event()
        work = partial(self._concatenate, upload, parts, durable=durable, stop=stop)
        return await in_thread(work, on_cancel=stop.set)

    async def finish(self, upload: Upload, *, durable: bool) -> str:
        """See `Storage.finish`."""
        return await in_thread(partial(self._finish, upload, durable=durable))

    def locate(self, upload: Upload) -> Path:
        """See `Storage.locate`."""
        return self.directory / upload.path if upload.path else self._layout.file(upload.id)

    async def read(self, upload: Upload, offset: int, count: int) -> AsyncGenerator[bytes, None]:
        """See `Storage.read`."""
        while count:
            data = await in_thread(self._read, upload, offset, min(count, _READ_AT_ONCE))
            yield data
            offset += len(data)
            count -= len(data)

    async def link(self, upload: Upload, *, media_type: str, disposition: str) -> str | None:
        """See `Storage.link`: files are sent from here."""
        return None

    def check_target(self, target: str) -> None:
        """See `Storage.check_target`."""
        if any(len(name.encode()) > LONGEST_SEGMENT for name in target.split("/")):
            raise ValueError(
                f"a name in it has more than {LONGEST_SEGMENT} bytes, which no file system takes"
            )

    async def has(self, upload: Upload, *, at_once: bool = False) -> bool:
        """See `Storage.has`."""
        return await _done(at_once, self._has, upload, self.locate(upload))

    async def take(self, upload: Upload, to: Path) -> None:
        """See `Storage.take`."""
        if not await in_thread(self._take, upload, to):
            raise FileExistsError(errno.EEXIST, "another file lies there", str(to))

    async def remove(self, upload: Upload) -> int:
        """See `Storage.remove`."""
        return await in_thread(self._remove, upload)

    async def copy_out(self, upload: Upload, to: "DiskStorage") -> None:
        """Copies as many bytes of an upload as are acknowledged to another place, synced.

        Raises:
            StorageFailed: They are not here any more, or could not be written there.
        """
        await in_thread(self._copy_out, upload, to)

    async def adopt(self, upload: Upload, file: Path) -> str:
        """Makes a file that is not ours the file of an upload, synced: its placement.

        It stays where it is, too: as another name of the same file where that can be, and as the
        original of a copy otherwise.

        Args:
            upload: No record knows it yet, and its lock is held.
            file: Of as many bytes as its offset says.

        Raises:
            StorageFailed: It cannot be read and written to here, or is not as long as that.
            StorageFull: There is no room for a copy.
        """
        return await in_thread(self._adopt, upload, file)

    async def strays(self, older_than: float) -> AsyncIterator[str]:
        """See `Storage.strays`."""
        for shard in await in_thread(self._layout.shards):
            for upload_id in await in_thread(self._layout.strays, shard, older_than):
                yield upload_id

    async def quarantine(self, upload_id: str) -> int:
        """See `Storage.quarantine`."""
        return await in_thread(self._layout.quarantine, upload_id)

    async def empty_quarantine(self, older_than: float, *, dry_run: bool = False) -> int:
        """See `Storage.empty_quarantine`."""
        return await in_thread(self._layout.empty_quarantine, older_than, dry_run)

    def _open_for_append(self, upload: Upload, file: DiskFile) -> tuple[Upload, bool]:
        # Bytes that were acknowledged must be there; only an upload without any may begin anew.
        try:
            descriptor = file.open(create=upload.upload_offset == 0)
        except FileNotFoundError as error:
            raise StoredBytesLost(upload.id) from error
        return self._look_at(upload, descriptor)

    def _look(self, upload: Upload) -> tuple[Upload, bool]:
        try:
            descriptor = os.open(self._layout.file(upload.id), os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            if upload.upload_offset == 0:
                return upload, False
            raise StoredBytesLost(upload.id) from error
        try:
            return self._look_at(upload, descriptor)
        finally:
            os.close(descriptor)

    def _look_at(self, upload: Upload, descriptor: int) -> tuple[Upload, bool]:
        """The record as the file bears it out, and whether the file is to be cut, maybe to the size
        that it has: of a process that was killed, its room is left.
        """
        stat = os.fstat(descriptor)
        placement = f"{boot_id()}:{stat.st_dev}:{stat.st_ino}"
        offset = self._true_offset(upload, stat.st_size, placement)
        if stat.st_size < offset:
            raise StoredBytesLost(upload.id)
        settled = upload._replace(
            upload_offset=offset,
            synced_offset=min(upload.synced_offset, offset),
            placement=placement,
        )
        has_room = not self._trust_unsynced and room.is_left(descriptor, stat)
        return settled, stat.st_size > offset or has_room

    def _cut(self, upload: Upload) -> None:
        os.truncate(self._layout.file(upload.id), upload.upload_offset)

    def _true_offset(self, upload: Upload, size: int, placement: str) -> int:
        if not upload.placement:
            return upload.upload_offset
        if upload.placement != placement:
            if self._trust_unsynced:
                return min(size, upload.upload_offset)
            return upload.synced_offset
        if upload.tail is Tail.SEALED or size < upload.upload_offset:
            return upload.upload_offset
        return size if upload.upload_length is None else min(size, upload.upload_length)

    def _read(self, upload: Upload, offset: int, count: int) -> bytes:
        path = self.locate(upload)
        if not self._has(upload, path):
            raise UploadNotFound(upload.id)
        with path.open("rb") as file:
            data = os.pread(file.fileno(), count, offset)
        if not data:
            raise OSError(errno.EIO, "the file is shorter than its record says", str(path))
        return data

    def _sync(self, upload: Upload) -> None:
        descriptor = os.open(self._layout.file(upload.id), os.O_WRONLY | os.O_CLOEXEC)
        try:
            fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._layout.sync_folder(self._layout.file(upload.id).parent)

    def _concatenate(
        self, upload: Upload, parts: Sequence[Upload], *, durable: bool, stop: threading.Event
    ) -> str:
        path = self._layout.file(upload.id)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            offset = 0
            for part in parts:
                _copy_into(descriptor, offset, self.locate(part), part.upload_offset, stop)
                offset += part.upload_offset
            if durable:
                fdatasync(descriptor)
            stat = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return f"{boot_id()}:{stat.st_dev}:{stat.st_ino}"

    def _finish(self, upload: Upload, *, durable: bool) -> str:
        source = self._layout.file(upload.id)
        wanted = upload.target or (self._template and render(self._template, upload))
        if not wanted or upload.is_partial:
            if durable:
                self._layout.sync_folder(source.parent)
            return self._layout.relative(upload.id)
        for name in (safe_path(wanted), with_id(wanted, upload.id)):
            target = self._layout.files / name
            if self._layout.move(source, target, self._inode(upload), durable=durable):
                return str(target.relative_to(self.directory))
        raise StorageFailed

    def _take(self, upload: Upload, to: Path) -> bool:
        source = self.locate(upload)
        beside = to.with_name(f".{upload.id}.tusd-py")
        if not self._has(upload, source):
            to.stat()
            beside.unlink(missing_ok=True)
            return True
        if os.path.realpath(to) == os.path.realpath(source):
            return True
        try:
            if self._layout.move(source, to, self._inode(upload), durable=True):
                return True
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        return _copy_across(source, to, beside)

    def _copy_out(self, upload: Upload, to: "DiskStorage") -> None:
        source, target = self.locate(upload), to.locate(upload)
        if upload.path is None and upload.upload_offset == 0 and not source.exists():
            return
        if not self._has(upload, source):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            _copy_into(descriptor, 0, source, upload.upload_offset, threading.Event())
            fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._layout.sync_folder(target.parent)

    def _adopt(self, upload: Upload, file: Path) -> str:
        target = self._layout.file(upload.id)
        if target.exists() and not target.samefile(file):
            self._layout.quarantine(upload.id)  # half a copy, of one that was killed
        try:
            os.link(file, target, follow_symlinks=False)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                raise
            with file.open("rb") as reader, target.open("xb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
        descriptor = os.open(target, os.O_RDWR | os.O_CLOEXEC)
        try:
            stat = os.fstat(descriptor)
            if stat.st_size != upload.upload_offset:
                raise OSError(errno.EBUSY, "someone writes to it", str(file))
            fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._layout.sync_folder(target.parent)
        return f"{boot_id()}:{stat.st_dev}:{stat.st_ino}"

    def _inode(self, upload: Upload) -> tuple[int, int] | None:
        """Device and inode of the upload's bytes; a device may have another number each boot."""
        inode = upload.placement.rpartition(":")[2]
        device = self._layout.data.stat().st_dev
        return (device, int(inode)) if abnf.INTEGER.fullmatch(inode) else None

    def _has(self, upload: Upload, path: Path) -> bool:
        """Whether the upload's file lies there, and not another's that has taken its name.

        A path that names the upload's id is no other's, also after the files were copied to
        another disk; elsewhere the inode tells.
        """
        names = (*path.relative_to(self.directory).parts, path.stem)
        is_its_own = upload.id in names or path.stem.endswith(f"-{upload.id}")
        inode = None if is_its_own else self._inode(upload)
        return path.exists() if inode is None else is_file(path, inode)

    def _remove(self, upload: Upload) -> int:
        freed = 0
        for path in {self._layout.file(upload.id), self.locate(upload)}:
            if self._has(upload, path):
                freed += path.stat().st_size
                path.unlink(missing_ok=True)
        return freed


async def _done(at_once: bool, call: Callable[..., T], *args: object) -> T:
    """What a call comes to, here or in a thread."""
    if not at_once:
        return await in_thread(call, *args)
    with translated():
        return call(*args)


def _placement(descriptor: int, upload: Upload) -> str | None:
    """Where a file lies, if it is just what the record of its upload says."""
    stat = os.fstat(descriptor)
    placement = f"{boot_id()}:{stat.st_dev}:{stat.st_ino}"
    if upload.placement not in ("", placement) or stat.st_size != upload.upload_offset:
        return None
    return placement


def _written(descriptor: int, offset: int, data: bytes) -> bool:
    """Whether all of it was written; none of it is left otherwise."""
    done = 0
    try:
        while done < len(data):
            done += os.pwrite(descriptor, data[done:] if done else data, offset + done)
    except OSError:
        os.ftruncate(descriptor, offset)
        return False
    return True


def _copy_into(descriptor: int, offset: int, part: Path, size: int, stop: threading.Event) -> None:
    """Copies a whole file to an offset; the kernel shares the blocks where it can."""
    source = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    try:
        copied = 0
        while copied < size:
            if stop.is_set():
                raise OSError(errno.ECANCELED, "nobody waits for it any more", str(part))
            count = min(size - copied, _COPY_AT_ONCE)
            done = os.copy_file_range(source, descriptor, count, copied, offset + copied)
            if done == 0:
                raise OSError(errno.EIO, "a part is shorter than its record says", str(part))
            copied += done
    finally:
        os.close(source)


def _copy_across(source: Path, to: Path, beside: Path) -> bool:
    """A durable move to another file system: whole, or not at all if something lies at `to`.

    Repeated after a crash at any step, it goes on: as long as the move is not over, `beside` and
    `to` are names of one file.
    """
    is_linked = beside.exists() and to.exists() and beside.samefile(to)
    if not is_linked and (os.path.lexists(to) or not _copied(source, to, beside)):
        beside.unlink(missing_ok=True)
        return False
    Layout.sync_folder(to.parent)
    source.unlink()
    Layout.sync_folder(source.parent)
    beside.unlink()
    return True


def _copied(source: Path, to: Path, beside: Path) -> bool:
    try:
        with source.open("rb") as reader, beside.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        os.link(beside, to)
    except FileExistsError:
        return False
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    return True
