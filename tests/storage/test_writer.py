"""A file that is let go of while its client is slow, and what is found when it is opened again."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from tests.storage.bodies import Bytes
from tests.storage.samples import MANY, UPLOAD, committed, store
from tests.storage.test_disk import open_files
from tusd_py.body import EndedBy, File, Received
from tusd_py.protocol.checksum import Digest
from tusd_py.protocol.errors import StoredBytesLost
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.writer import DiskFile

pytestmark = pytest.mark.anyio


class Resting(Bytes):
    """A body that lets go of its file behind each piece, as that of a slow client does."""

    async def save(
        self, file: File, offset: int, at_most: int, digest: Digest | None = None
    ) -> Received:
        count = 0
        for piece in self.pieces:
            file.release()
            file.release()
            self.stored.set()
            if self.goes_on is not None:
                await self.goes_on.wait()
            count += os.pwrite(file.descriptor(), piece, offset + count)
        return Received(count=count, ended_by=EndedBy.END)


async def test_a_file_that_was_released_goes_on(storage: DiskStorage) -> None:
    """Ten thousand slow clients are not ten thousand open files."""
    async with storage.writer(UPLOAD) as writer:
        body = Resting([b"abc", b"def"], goes_on=asyncio.Event())
        assert body.goes_on is not None
        taking = asyncio.create_task(writer.take(body, MANY, None, committed))
        await body.stored.wait()
        assert open_files(storage.locate(UPLOAD)) == 0
        assert await writer.size() == 0, "size and sync need no descriptor of the append"
        assert await writer.sync() == 0
        body.goes_on.set()
        assert (await taking).count == 6
        assert open_files(storage.locate(UPLOAD)) == 1
        assert await writer.size() == 6
    assert open_files(storage.locate(UPLOAD)) == 0
    assert storage.locate(UPLOAD).read_bytes() == b"abcdef"


@pytest.mark.parametrize("replaced", [False, True])
async def test_another_file_is_never_written_to(storage: DiskStorage, *, replaced: bool) -> None:
    """Somebody moved the bytes away, and maybe put others there: the upload is lost, not mixed."""
    upload = await store(storage, UPLOAD, b"abc")
    path = storage.locate(upload)
    async with storage.writer(upload) as writer:
        body = Resting([b"def"], goes_on=asyncio.Event())
        assert body.goes_on is not None
        taking = asyncio.create_task(writer.take(body, MANY, None, committed))
        await body.stored.wait()
        path.rename(path.with_name("away"))
        if replaced:
            path.write_bytes(b"another file")
        body.goes_on.set()
        for failing in (taking, writer.size(), writer.sync(), writer.cut(0)):
            with pytest.raises(StoredBytesLost):
                await failing
    assert path.with_name("away").read_bytes() == b"abc"
    assert not replaced or path.read_bytes() == b"another file"
    assert open_files(path) == open_files(path.with_name("away")) == 0


async def test_a_look_at_the_size_while_the_file_is_let_go(storage: DiskStorage) -> None:
    """A descriptor's number may be another upload's the moment after it is closed."""
    upload = await store(storage, UPLOAD, b"abc")
    other = await store(storage, UPLOAD._replace(id="other"), b"of another length")
    over = threading.Event()

    def churn(file: DiskFile) -> None:
        while not over.is_set():
            os.pwrite(file.descriptor(), b"d", 3)
            file.release()
            with storage.locate(other).open("rb") as takes_the_number:
                assert takes_the_number.read(2) == b"of"

    path = storage.locate(upload)
    file = DiskFile(str(path.parent), str(path))
    file.open(create=False)
    async with storage.writer(upload) as writer:
        churning = asyncio.create_task(asyncio.to_thread(churn, writer._file))  # type: ignore[attr-defined]
        try:
            sizes = {await writer.size() for _ in range(300)} | {await writer.sync()}
        finally:
            over.set()
            await churning
    file.release()
    assert sizes <= {3, 4}


def test_the_path_of_a_file_that_cannot_be_opened_any_more(tmp_path: Path) -> None:
    """The error is the system's: a body knows nothing of uploads."""
    file = DiskFile(str(tmp_path), str(tmp_path / "file"))
    file.open(create=True)
    file.release()
    (tmp_path / "file").unlink()
    with pytest.raises(FileNotFoundError):
        file.descriptor()
