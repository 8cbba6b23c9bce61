"""Sizes beyond what 32 bits, a small disk, or a careless integer would take."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serving import eventually, serving

TIB = 1 << 40
TUS = {"Tus-Resumable": "1.0.0"}
PATCH = TUS | {"Content-Type": "application/offset+octet-stream"}


def _can_hold(folder: Path, size: int) -> bool:
    probe = folder / "probe"
    try:
        probe.touch()
        os.truncate(probe, size)
    except OSError:
        return False
    finally:
        probe.unlink()
    return True


@pytest.mark.disk
def test_an_upload_of_5_tib_goes_on_beyond_1_tib(tmp_path: Path) -> None:
    """Otherwise: the largest uploads, which take weeks, are the ones that break."""
    if not _can_hold(tmp_path, 5 * TIB):
        pytest.skip("this file system holds no file of 5 TiB, not even a sparse one")
    stands = TIB + 12_345
    # There is no room for all of it.
    anyway = ("--min-free-disk", "0")
    with serving(tmp_path / "uploads", *anyway) as server, httpx.Client() as client:
        created = client.post(server.url, headers=TUS | {"Upload-Length": str(5 * TIB)})
        url = created.headers["Location"]
        first = client.patch(url, headers=PATCH | {"Upload-Offset": "0"}, content=b"first")
        assert first.status_code == 204
        server.kill()
        # What an append that was killed leaves: bytes in order, here a hole of a TiB.
        (file,) = (tmp_path / "uploads" / "data").glob("*/*")
        os.truncate(file, stands)
        server.start()
        asked = client.head(url, headers=TUS)
        assert asked.headers["Upload-Offset"] == str(stands)
        assert asked.headers["Upload-Length"] == str(5 * TIB)
        sent = client.patch(url, headers=PATCH | {"Upload-Offset": str(stands)}, content=b"on")
        assert sent.status_code == 204
        assert sent.headers["Upload-Offset"] == str(stands + 2)
        with file.open("rb") as stored:
            assert stored.read(5) == b"first"
            stored.seek(stands)
            assert stored.read() == b"on"
        assert file.stat().st_blocks * 512 < 1 << 20


@pytest.mark.disk
def test_a_body_of_many_gib_is_announced_and_cut(tmp_path: Path) -> None:
    """Otherwise: an announced length beyond 4 GiB wraps, and the upload ends too early."""
    length = 5 * (1 << 32)
    # There may be no room for all of it.
    anyway = ("--min-free-disk", "0")
    with serving(tmp_path / "uploads", *anyway) as server, httpx.Client() as client:
        created = client.post(server.url, headers=TUS | {"Upload-Length": str(length)})
        url = urlsplit(created.headers["Location"])
        head = (
            f"PATCH {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nTus-Resumable: 1.0.0\r\n"
            "Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n"
            f"Content-Length: {length}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode() + b"x" * 1000)
            (file,) = _wait_for_file(tmp_path / "uploads", 1000)
            asked = client.head(created.headers["Location"], headers=TUS)
        assert asked.headers["Upload-Length"] == str(length)
        assert asked.headers["Upload-Offset"] == "1000"
        assert file.read_bytes() == b"x" * 1000


def _wait_for_file(uploads: Path, size: int) -> list[Path]:
    def found() -> list[Path]:
        files = (uploads / "data").glob("*/*")
        return [file for file in files if file.stat().st_size == size]

    eventually(f"{size} bytes are stored", found)
    return found()
