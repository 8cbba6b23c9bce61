"""A place of its own for each test, and file systems with little room."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.storage.s3_keeper import kept_store
from tests.storage.s3_servers import S3Server
from tusd_py.storage.disk import DiskStorage

NewTmpfs = Callable[[int], Path]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


@pytest.fixture
async def storage(place: Path) -> DiskStorage:
    made = DiskStorage(place)
    await made.open("mine", is_new=True, trust_unsynced=False)
    return made


@pytest.fixture(scope="session")
def swift_server() -> S3Server:
    """Another store than that of `s3_server`, which reads the same API in its own way."""
    return kept_store("swift")


@pytest.fixture
def new_tmpfs(tmp_path: Path) -> Iterator[NewTmpfs]:
    """Mounts a file system of a number of bytes; skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        folder = tmp_path / f"tmpfs-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"cannot mount a tmpfs: {result.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
