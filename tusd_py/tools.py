"""The operator's tools beside the servers: what is there, a copy of it, and what tusd left."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tusd_py.app import TusApp
from tusd_py.asgi.mounting import with_slashes
from tusd_py.engine.adopt import adopt
from tusd_py.protocol.errors import StorageFailed, TusError
from tusd_py.protocol.upload import GONE, Phase, Tail, Upload
from tusd_py.state.sqlite import SqliteState
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.tusd_directory import NotTaken, find_uploads, read_upload
from tusd_py.wiring.errors import NeedsFiles, explain

_PAGE = 500


async def list_uploads(tus: TusApp) -> AsyncIterator[dict[str, object]]:
    """What is known of each upload that is not gone, for people and programs.

    Args:
        tus: Opened.
    """
    after = ""
    while page := await tus.state.page(after, _PAGE):
        for upload in page:
            if upload.phase not in GONE:
                yield _line(tus, upload)
        after = page[-1].id


def _line(tus: TusApp, upload: Upload) -> dict[str, object]:
    where = tus.storage.locate(upload) if upload.is_unfinished or upload.path else None
    name = upload.metadata.get("filename") or upload.metadata.get("name") or b""
    return {
        "id": upload.id,
        "phase": upload.phase.value,
        "offset": upload.upload_offset,
        "length": upload.upload_length,
        "filename": name.decode("utf-8", "replace"),
        "created_at": upload.created_at,
        "expires_at": upload.expires_at if upload.may_expire else None,
        "principal": upload.principal,
        "path": None if where is None else str(where),
    }


@dataclass(slots=True, kw_only=True)
class BackupReport:
    """What a backup holds; `skipped` are uploads that ended while it was made."""

    copied: int = 0
    skipped: int = 0
    bytes_copied: int = 0


async def back_up(tus: TusApp, to: Path) -> BackupReport:
    """Copies a deployment while servers run on it.

    The state is copied first, as of one moment; then of each upload as many bytes as that state
    acknowledges, which never change. The copy is a deployment of its own, for `--upload-dir`.

    Args:
        tus: Opened.
        to: A new or empty folder.

    Raises:
        NeedsFiles: The uploads lie in a bucket.
        FileExistsError: There is something in `to`.
        StorageFull: There is no room for it.
        StorageFailed: A file cannot be read, or the copy not be written.
    """
    if not isinstance(tus.storage, DiskStorage):
        raise NeedsFiles(
            "backup copies files, and these uploads lie in a bucket; back up the state directory, "
            "and the bucket with the means of its store"
        )
    source = tus.storage
    state_file = await asyncio.to_thread(_new_folder, to) / tus.state.path.name
    await tus.state.backup(state_file)
    storage, state = DiskStorage(to), SqliteState(state_file)
    report = BackupReport()
    try:
        instance = await state.open()
        assert instance is not None, "what is opened is tied"
        await storage.open(instance, is_new=True, trust_unsynced=False)
        after = ""
        while page := await state.page(after, _PAGE):
            for upload in page:
                await _copy_one(tus, source, upload, storage, state, report)
            after = page[-1].id
    finally:
        await state.close()
    return report


def _new_folder(to: Path) -> Path:
    if to.exists() and any(to.iterdir()):
        raise FileExistsError(f"{to} is not empty; a backup needs a new folder")
    folder = to / "state"
    folder.mkdir(parents=True)
    return folder


async def _copy_one(
    tus: TusApp,
    source: DiskStorage,
    upload: Upload,
    storage: DiskStorage,
    state: SqliteState,
    report: BackupReport,
) -> None:
    if not (upload.is_unfinished or upload.path):
        return
    where = source.locate(upload)
    try:
        await source.copy_out(upload, storage)
    except StorageFailed:
        if await source.has(upload):
            raise
        moved = await tus.state.load(upload.id)
        if moved is None or not moved.path or source.locate(moved) == where:
            report.skipped += 1
            await state.delete(upload)
            return
        # It was finished meanwhile, and lies where the template says.
        await source.copy_out(moved, storage)
        upload = moved._replace(generation=upload.generation)
    report.copied += 1
    report.bytes_copied += upload.upload_offset
    copied = upload._replace(placement="")  # its file has another inode than the original
    if upload.phase is Phase.RECEIVING and not upload.is_final:
        # The copy holds what was acknowledged, on the disk, and nothing beyond.
        copied = copied._replace(synced_offset=upload.upload_offset, tail=Tail.OPEN)
    await state.commit(copied, durable=True)


@dataclass(slots=True, kw_only=True)
class ImportReport:
    """What came of an import; `not_taken` has a reason for each upload that was left."""

    taken: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    not_taken: dict[str, str] = field(default_factory=dict)
    bytes_taken: int = 0


async def import_tusd(tus: TusApp, directory: Path, base_path: str) -> ImportReport:
    """Takes over what lies in an upload directory of tusd, unfinished uploads too.

    It may be repeated, and nothing is changed there. Nobody is asked, or told, of those uploads.

    Args:
        tus: Opened.
        directory: tusd's.
        base_path: What uploads lie under.

    Raises:
        NeedsFiles: The uploads lie in a bucket.
        OSError: The directory cannot be read.
    """
    if not isinstance(tus.storage, DiskStorage):
        raise NeedsFiles("import takes files, and these uploads lie in a bucket")
    storage, services, report = tus.storage, tus.services, ImportReport()
    for upload_id in await asyncio.to_thread(lambda: list(find_uploads(directory))):
        try:
            under = with_slashes(base_path)
            found = await asyncio.to_thread(read_upload, directory, upload_id, under)
            expires_at = services.limits.expires_at(services.clock())
            upload = found.upload._replace(expires_at=expires_at)
            if await adopt(services, upload, partial(storage.adopt, file=found.file)):
                report.taken.append(upload_id)
                report.bytes_taken += upload.upload_offset
            else:
                report.known.append(upload_id)
        except NotTaken as error:
            report.not_taken[upload_id] = str(error)
        except (TusError, OSError) as error:
            report.not_taken[upload_id] = explain(error)
    return report
