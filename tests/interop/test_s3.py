"""A real client, a real server and a real store: killed on the way, whole in the bucket."""

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from tusclient.client import TusClient

from tests.interop.conftest import MIB
from tests.serving import Served, eventually, serving
from tests.storage.s3_place import S3Place
from tests.storage.s3_servers import KMS_KEY, STORAGE_CLASS

FLAGS = ("--s3-object-prefix", "up/", "--file-template", "{yyyy}/{id}-{filename}")


@pytest.fixture
def data() -> bytes:
    return os.urandom(40 * MIB)


def flags(place: S3Place) -> tuple[str, ...]:
    return ("--s3-bucket", place.bucket, "--s3-endpoint", place.server.endpoint, *FLAGS)


def kill_while_busy(
    server: Served, place: S3Place, stop: threading.Event, killed: list[int]
) -> None:
    """Kills the server when some parts are stored, and starts it again; then once more."""
    for _ in range(2):
        before = sizes(place)
        deadline = time.monotonic() + 20
        while sizes(place) <= before and time.monotonic() < deadline and not stop.is_set():
            time.sleep(0.02)
        if stop.is_set():
            return
        killed.append(server.pid)
        server.kill()
        server.start()


def sizes(place: S3Place) -> int:
    """Bytes in parts that are not an object yet."""
    found = 0
    for key, multipart in place.multiparts():
        where = {"Bucket": place.bucket, "Key": key, "UploadId": multipart}
        try:
            found += sum(part["Size"] for part in place.client.list_parts(**where).get("Parts", []))
        except place.client.exceptions.ClientError:
            return found  # it was completed meanwhile
    return found


def test_tuspy_over_a_server_that_is_killed(s3_place: S3Place, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "film.bin"
    path.write_bytes(data)
    env = s3_place.server.environment
    # More than any disk has: a bucket has no floor.
    floor = ("--min-free-disk", "1048576TiB")
    with (
        serving(tmp_path / "up", *flags(s3_place), *floor, env=env) as server,
        path.open("rb") as stream,
    ):
        uploader = TusClient(server.url).uploader(
            file_stream=stream,
            chunk_size=17 * MIB,
            retries=50,
            retry_delay=0,
            metadata={"filename": "film.bin"},
        )
        # A creation whose answer is lost leaves nothing to go on with.
        uploader.set_url(uploader.create_url())
        ended, killed = threading.Event(), list[int]()
        killer = threading.Thread(target=kill_while_busy, args=(server, s3_place, ended, killed))
        killer.start()
        while uploader.offset < len(data):
            try:
                uploader.upload_chunk()  # type: ignore[no-untyped-call]
            except Exception:  # of many kinds, while there is no server
                time.sleep(0.1)
                resumed(uploader)
        ended.set()
        killer.join()
        assert killed
        (key,) = s3_place.objects()
        assert key.startswith("up/")
        assert key.endswith("-film.bin")
        assert s3_place.content(key) == data
        eventually("nothing else is left", lambda: s3_place.multiparts() == [])
        assert f"s3://{s3_place.bucket}/{key}" in tool(server, s3_place, "ls").stdout
        assert "free 0 B" in tool(server, s3_place, "cleanup").stdout
        refused = tool(server, s3_place, "backup", str(tmp_path / "copy"))
        assert refused.returncode == 1
        assert "lie in a bucket" in refused.stderr
        assert "Traceback" not in refused.stderr


def tool(server: Served, place: S3Place, *words: str) -> "subprocess.CompletedProcess[str]":
    """Another command on what the server works with."""
    command = [sys.executable, "-m", "tusd_py", *words, "--upload-dir", str(server.upload_dir)]
    return subprocess.run(
        [*command, *flags(place)],
        env={**place.server.environment, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def resumed(uploader: object) -> None:
    """Asks the server where to go on, if it is there again."""
    try:
        uploader.offset = uploader.get_offset()  # type: ignore[attr-defined]
    except Exception:  # it is not
        time.sleep(0.1)


def test_a_bucket_that_is_not_there_is_one_line(s3_place: S3Place, tmp_path: Path) -> None:
    env = {**s3_place.server.environment, "PATH": ""}
    command = [sys.executable, "-m", "tusd_py", "serve", "--upload-dir", str(tmp_path / "up")]
    command += ["--port", "0", "--s3-endpoint", s3_place.server.endpoint, "--s3-bucket", "nobody"]
    shown = subprocess.run(
        command, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert shown.returncode == 1
    assert "the bucket 'nobody' cannot be used" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    # As if it were not there: this finder goes before all others.
    hidden = tmp_path / "hidden" / "aiobotocore"
    hidden.mkdir(parents=True)
    text = "raise ModuleNotFoundError('no', name='aiobotocore')\n"
    (hidden / "__init__.py").write_text(text)
    program = (
        f"import sys; sys.path.insert(0, {str(hidden.parent)!r}); "
        "from tusd_py.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "serve", "--upload-dir", str(tmp_path / "up")]
    command += ["--port", "0", "--s3-bucket", "mine"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert shown.returncode == 1
    assert "pip install 'tusd-py[s3]'" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_server_with_all_flags(s3_place: S3Place, tmp_path: Path) -> None:
    """They come as far as the bucket."""
    env = s3_place.server.environment
    more = ["--s3-part-size", "6MiB", "--s3-max-parts", "1000", "--s3-max-object-size", "1GiB"]
    more += ("--s3-storage-class", STORAGE_CLASS, "--s3-tags", "team=video", "--s3-equal-parts")
    more += ("--s3-sse", "aws:kms", "--s3-sse-kms-key-id", KMS_KEY, "--s3-download", "redirect")
    more += ("--s3-addressing-style", "path", "--s3-download-expires", "90s")
    data = bytes(range(256)) * (13 * MIB // 256)
    with serving(tmp_path / "up", *flags(s3_place), *more, env=env) as server:
        sizes = httpx.options(server.url).headers["Tus-Max-Size"]
        assert sizes == str(1 << 30)
        uploader = TusClient(server.url).uploader(
            file_stream=io.BytesIO(data), metadata={"filename": "film.bin"}
        )
        uploader.upload()
        answer = httpx.get(str(uploader.url))
        assert answer.status_code == 307
        assert "X-Amz-Expires=90" in answer.headers["Location"]
        assert httpx.get(answer.headers["Location"]).content == data
    (key,) = s3_place.objects()
    where = {"Bucket": s3_place.bucket, "Key": key}
    found = s3_place.client.head_object(**where, PartNumber=1)
    assert found["StorageClass"] == STORAGE_CLASS
    assert found["SSEKMSKeyId"] == KMS_KEY
    assert found["ETag"].endswith('-3"')
    tags = s3_place.client.get_object_tagging(**where)["TagSet"]
    assert tags == [{"Key": "team", "Value": "video"}]
