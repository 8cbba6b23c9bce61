"""Uploads that the tests of storage begin with, and what an engine would do with them."""

from pathlib import Path

from tests.storage.bodies import Bytes
from tusd_py.protocol.metadata import build_upload_metadata
from tusd_py.protocol.upload import Tail, Upload
from tusd_py.storage.interface import Storage

NOW = 1_700_000_000.0
"""Tue, 14 Nov 2023 22:13:20 GMT."""

MANY = 1 << 20
"""More bytes than any body here has."""

UPLOAD = Upload(id="a", created_at=NOW, upload_length=100)


def named(upload_id: str, filename: str, **changes: object) -> Upload:
    """An upload whose client told a file name."""
    metadata = build_upload_metadata({"filename": filename.encode()})
    upload = Upload(id=upload_id, created_at=NOW, upload_metadata=metadata)
    return upload._replace(**changes)  # type: ignore[arg-type]


async def committed(placement: str = "", *, durable: bool = False) -> None:
    """A record was published, as storage asked for."""


async def begin(storage: Storage, upload: Upload) -> Upload:
    """What is committed before the first byte of an append."""
    async with storage.writer(upload) as writer:
        return writer.upload


async def store(storage: Storage, upload: Upload, *pieces: bytes) -> Upload:
    """The record after a plain append."""
    async with storage.writer(upload) as writer:
        received = await writer.take(Bytes(pieces), MANY, None, committed)
        offset = writer.upload.upload_offset + received.count
        placement = writer.placement(offset)
        return writer.upload._replace(upload_offset=offset, tail=Tail.OPEN, placement=placement)


async def store_whole(storage: Storage, upload: Upload, data: bytes) -> Upload:
    """The record when its last byte was stored."""
    return await store(storage, upload._replace(upload_length=len(data)), data)


async def finished(storage: Storage, upload: Upload, data: bytes) -> Upload:
    """The record of a complete upload."""
    whole = await store_whole(storage, upload, data)
    return whole._replace(path=await storage.finish(whole, durable=True))


def files_below(folder: Path) -> dict[str, bytes]:
    """Names, relative to the folder, and contents; temporary files and hidden ones included."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
