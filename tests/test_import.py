"""Moving over from tusd: its upload directory, half-filled by tusd itself or made by hand."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.servers import free_port
from tests.interop import plain_http
from tests.interop.programs import Ended, run, started
from tests.interop.test_tus_js import Client, reported
from tests.interop.toolchains import NODE, built
from tests.serving import Served, eventually, serving
from tests.tusd import running_tusd, tusd_program
from tusd_py.protocol.upload import Upload
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.layout import Layout
from tusd_py.storage.tusd_directory import NotTaken, read_upload

METADATA = {"filename": "fïlm.mkv", "empty": ""}
INFO: dict[str, object] = {
    "ID": "abc",
    "Size": 11,
    "SizeIsDeferred": False,
    "Offset": 0,
    "MetaData": METADATA,
    "IsPartial": False,
    "IsFinal": False,
    "PartialUploads": None,
    "Storage": {"InfoPath": "/gone/abc.info", "Path": "/gone/abc", "Type": "filestore"},
}


@pytest.fixture(autouse=True)
def no_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir()
    return folder


def put(folder: Path, content: bytes, **changes: object) -> None:
    """An upload as tusd leaves it."""
    info = INFO | changes
    file = folder / str(info["ID"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    file.with_name(file.name + ".info").write_text(json.dumps(info))


def take(theirs: Path, ours: Path, *flags: str) -> Ended:
    command = [sys.executable, "-m", "tusd_py", "import", "--upload-dir", str(ours)]
    return run([*command, *flags, str(theirs)])


def names(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_uploads_of_all_kinds_go_on_here(theirs: Path, tmp_path: Path) -> None:
    """With their ids, offsets and metadata; tusd's folder is left as it was."""
    put(theirs, b"hello", ID="half")
    put(theirs, b"hello world", ID="whole")
    put(theirs, b"", ID="begun")
    put(theirs, b"hel", ID="late", Size=0, SizeIsDeferred=True)
    put(theirs, b"", ID="empty", Size=0, MetaData={})
    put(theirs, b"hello world", ID="part", IsPartial=True)
    put(
        theirs,
        b"hello worldhello world",
        ID="final",
        IsFinal=True,
        Size=22,
        PartialUploads=["part", "part"],
    )
    before = names(theirs)
    ended = take(theirs, tmp_path / "ours")
    assert ended.lines() == ["took 7 uploads, 52 B; 0 were here already, 0 not taken"]
    assert ended.stderr == ""
    assert names(theirs) == before
    with serving(tmp_path / "ours") as server:
        offsets = {"half": 5, "whole": 11, "begun": 0, "late": 3, "empty": 0, "part": 11}
        for upload_id, offset in (offsets | {"final": 22}).items():
            assert plain_http.offset(server.url + upload_id) == offset
        assert plain_http.metadata(server.url + "half") == METADATA
        assert plain_http.metadata(server.url + "empty") == {}
        assert plain_http.append(server.url + "half", 5, b" world").status_code == 204
        assert plain_http.append(server.url + "begun", 0, b"hello world").status_code == 204
        late = plain_http.append(server.url + "late", 3, b"lo", Upload_Length="5")
        assert late.status_code == 204
        for upload_id in ("half", "whole", "begun"):
            assert plain_http.download(server.url + upload_id) == b"hello world"
        assert plain_http.download(server.url + "late") == b"hello"
        assert plain_http.download(server.url + "final") == b"hello world" * 2
        final = plain_http.head(server.url + "final").headers
        assert final["Upload-Concat"] == "final;/files/part /files/part"
        assert plain_http.head(server.url + "part").headers["Upload-Concat"] == "partial"
        assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def test_twice_is_harmless(theirs: Path, tmp_path: Path) -> None:
    """What has gone on here meanwhile stays as it is."""
    put(theirs, b"hello", ID="half")
    put(theirs, b"hello world", ID="whole")
    take(theirs, tmp_path / "ours").lines()
    with serving(tmp_path / "ours") as server:
        plain_http.append(server.url + "half", 5, b" wo")
        assert take(theirs, tmp_path / "ours").lines() == [
            "half is here already",
            "whole is here already",
            "took 0 uploads, 0 B; 2 were here already, 0 not taken",
        ]
        assert plain_http.offset(server.url + "half") == 8
        assert plain_http.append(server.url + "half", 8, b"rld").status_code == 204
        assert plain_http.download(server.url + "half") == b"hello world"


def test_finished_files_go_where_the_template_says(theirs: Path, tmp_path: Path) -> None:
    put(theirs, b"hello world", MetaData={"filename": "a.txt"})
    template = ("--file-template", "{id}-{filename}")
    take(theirs, tmp_path / "ours", *template).lines()
    assert (tmp_path / "ours/files/abc-a.txt").read_bytes() == b"hello world"
    assert names(theirs).keys() == {"abc", "abc.info"}


def test_the_expiry_begins_now(theirs: Path, tmp_path: Path) -> None:
    """Tusd has none: a day-old upload must not be swept at once."""
    put(theirs, b"hello")
    for path in theirs.iterdir():
        os.utime(path, (1.0, 1.0))
    take(theirs, tmp_path / "ours", "--expire-after", "2d").lines()
    listed = run(
        [sys.executable, "-m", "tusd_py", "ls", "--json", "--upload-dir", tmp_path / "ours"]
    )
    (line,) = (json.loads(each) for each in listed.lines())
    assert line["created_at"] == 1.0
    assert line["expires_at"] > 86_400 + (tmp_path / "ours").stat().st_mtime


def test_a_loss_of_power_after_it_takes_nothing(theirs: Path, tmp_path: Path) -> None:
    """The bytes are synced, and the record says so: in another boot that is what counts."""
    put(theirs, b"hello")
    take(theirs, tmp_path / "ours").lines()
    with sqlite3.connect(tmp_path / "ours/state/tusd-py.sqlite3") as state:
        state.execute("UPDATE uploads SET placement = 'another-boot:1:1'")
    state.close()
    with serving(tmp_path / "ours") as server:
        assert plain_http.offset(server.url + "abc") == 5


@pytest.mark.parametrize(
    ("content", "changes", "why"),
    [
        (b"hello", {"ID": "folder/abc"}, "ids are one segment of a URL here"),
        (b"hello", {"ID": "abc+xyz"}, "ids are one segment of a URL here"),
        (b"x" * 12, {}, "its file has 12 bytes, more than its length of 11"),
        (b"hello", {"Size": "11"}, "its .info has no length"),
        (b"hello", {"Size": -1}, "its .info has no length"),
        (b"hello", {"Size": True}, "its .info has no length"),
        (b"hello", {"MetaData": []}, ""),
        (b"hello", {"MetaData": "x"}, "the metadata in its .info cannot be read"),
        (b"hello", {"MetaData": {"a b": "c"}}, "its metadata: "),
        (b"hello", {"IsFinal": True, "PartialUploads": ["a"]}, "has not put together"),
        (b"hello world", {"IsFinal": True}, "does not name its parts"),
        (b"hello world", {"IsFinal": True, "PartialUploads": ["a b"]}, "names parts that no URL"),
    ],
)
def test_what_cannot_be_taken_says_why(
    theirs: Path, content: bytes, changes: dict[str, object], why: str
) -> None:
    put(theirs, content, **changes)
    upload_id = str((INFO | changes)["ID"])
    if not why:
        assert read_upload(theirs, upload_id, "/files/").upload.upload_metadata is None
        return
    with pytest.raises(NotTaken, match=re.escape(why)):
        read_upload(theirs, upload_id, "/files/")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "its .info is no JSON"),
        ("[]", "its .info is no JSON object"),
        (json.dumps(INFO | {"ID": "another"}), "its .info is that of another upload"),
    ],
)
def test_an_info_that_is_none(theirs: Path, text: str, why: str) -> None:
    put(theirs, b"hello")
    (theirs / "abc.info").write_text(text)
    with pytest.raises(NotTaken, match=re.escape(why)):
        read_upload(theirs, "abc", "/files/")


def test_one_that_cannot_be_taken_holds_up_no_other(theirs: Path, tmp_path: Path) -> None:
    """Each is a line; the exit status tells that there is one."""
    put(theirs, b"hello", ID="good")
    put(theirs, b"x" * 12, ID="long")
    put(theirs, b"hello", ID="folder/deep")
    put(theirs, b"hello", ID="lost")
    (theirs / "lost").unlink()
    (theirs / "linked").symlink_to(theirs / "good")
    (theirs / "linked.info").write_text(json.dumps(INFO | {"ID": "linked"}))
    ended = take(theirs, tmp_path / "ours")
    assert ended.status == 1
    assert ended.stdout == "took 1 uploads, 5 B; 0 were here already, 4 not taken\n"
    lines = [line.split(": ")[1] for line in ended.stderr.splitlines()]
    assert lines == ["folder/deep", "linked", "long", "lost"]
    assert all(line.startswith("not taken: ") for line in ended.stderr.splitlines())


def test_an_upload_that_tusd_is_at_work_on_is_left(theirs: Path) -> None:
    put(theirs, b"hello")
    (theirs / "abc.lock").write_text(f"{os.getpid()}\n")
    with pytest.raises(NotTaken, match=f"tusd is at work on it \\(process {os.getpid()} in abc"):
        read_upload(theirs, "abc", "/files/")
    ended = subprocess.Popen(["true"])
    ended.wait()
    (theirs / "abc.lock").write_text(f"{ended.pid}\n")
    assert read_upload(theirs, "abc", "/files/").upload.upload_offset == 5


def test_bytes_that_lie_elsewhere_are_found(theirs: Path, tmp_path: Path) -> None:
    """As a hook that changed `Storage.Path` has it; but a folder that was moved goes first."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"hi")
    put(theirs, b"hello", Storage={"Type": "filestore", "Path": str(elsewhere)})
    assert read_upload(theirs, "abc", "/files/").file == theirs / "abc"
    (theirs / "abc").unlink()
    assert read_upload(theirs, "abc", "/files/").file == elsewhere


@pytest.mark.parametrize("left", ["nothing", "link", "half a copy"])
@pytest.mark.parametrize("linked", [True, False], ids=["same disk", "other disk"])
@pytest.mark.anyio
async def test_a_file_is_adopted_from_whatever_a_kill_has_left(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str, linked: bool
) -> None:
    put(theirs, b"hello")
    storage = DiskStorage(tmp_path / "ours")
    await storage.open("mine", is_new=True, trust_unsynced=False)
    target = Layout(tmp_path / "ours").file("abc")
    if left == "link":
        os.link(theirs / "abc", target)
    elif left == "half a copy":
        target.write_bytes(b"hel")
    if not linked:

        def other_disk(*_: object, **__: object) -> None:
            raise OSError(18, os.strerror(18))

        monkeypatch.setattr(os, "link", other_disk)
    upload = Upload(id="abc", created_at=1.0, upload_offset=5, upload_length=11)
    if left == "link" and not linked:
        return  # a link that is there is on the same disk
    placement = await storage.adopt(upload, theirs / "abc")
    assert target.read_bytes() == b"hello"
    assert target.samefile(theirs / "abc") is linked
    assert placement.endswith(f":{target.stat().st_ino}")
    settled = await storage.settle(upload._replace(placement=placement, synced_offset=5))
    assert settled.upload_offset == 5


@pytest.mark.disk
def test_to_another_file_system(theirs: Path, tmp_path: Path) -> None:
    """Copied then, and whole."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system here")
    source = memory / f"tusd-py-import-{os.getpid()}"
    shutil.copytree(theirs, source)
    try:
        put(source, b"hello" * 1000, Size=10_000)
        take(source, tmp_path / "ours").lines()
        with serving(tmp_path / "ours") as server:
            assert plain_http.offset(server.url + "abc") == 5000
    finally:
        shutil.rmtree(source)


@pytest.mark.parametrize("flags", [(), ("--s3-bucket", "b", "--s3-endpoint", "http://127.0.0.1:9")])
def test_what_cannot_be_imported_is_said_in_one_line(
    theirs: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    ended = take(theirs if flags else theirs / "missing", tmp_path / "ours", *flags)
    assert ended.status == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "Traceback" not in ended.stderr


@pytest.fixture(scope="session")
def node_folder() -> Path:
    return built(NODE)


def contents(directory: Path) -> list[Path]:
    """The files of the uploads in tusd's directory: its locks, which come and go, have a suffix."""
    return [path for path in directory.iterdir() if not path.suffix]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", [4, 5], ids=["v4", "v5"])
def test_a_client_of_tusd_resumes_here(
    tmp_path: Path, theirs: Path, node_folder: Path, version: int
) -> None:
    """At the same URL, where it was, and byte-exact: nobody has to send a film again."""
    content = os.urandom(20 << 20)
    file = tmp_path / "film.bin"
    file.write_bytes(content)
    client = Client(folder=node_folder, version=version)
    job: dict[str, object] = {"storage": str(tmp_path / "urls"), "options": {"chunkSize": 1 << 18}}
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}/files/"
    with (
        running_tusd(tusd_program(), theirs, port=port),
        started(client.command(endpoint, file, job)) as sending,
    ):
        eventually(
            "nothing came",
            lambda: any(path.stat().st_size > 2 << 20 for path in contents(theirs)),
            within=60,
        )
        sending.tell("abort")
        first = reported(sending.end())
    (half,) = (path.stat().st_size for path in contents(theirs))
    assert 0 < half < len(content), "it is not half-filled"
    take(theirs, tmp_path / "ours").lines()
    server = Served(upload_dir=tmp_path / "ours", port=port)
    server.start()
    try:
        second = client.send(endpoint, file, resume=True, **job)
        assert second.url == first.url, "it has begun anew"
        assert second.methods()[0] == "HEAD"
        assert second.requests[0].offset == str(half)
        assert plain_http.download(second.url) == content
    finally:
        server.stop()
