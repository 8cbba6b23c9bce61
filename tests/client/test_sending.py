"""One file in parts."""

import threading
from pathlib import Path

import pytest

from tests.client.conftest import Send, lines
from tests.client.scripted import Cut, Hold, Say, ScriptedServer
from tusd_py.client import sending
from tusd_py.client.resume import ResumeStore


def _parts(server: ScriptedServer) -> list[str]:
    return [seen.headers.get("upload-concat", "") for seen in server.requests("POST")]


def test_parts_are_sent_at_once_and_put_together(
    server: ScriptedServer, send: Send, file: Path, state: Path
) -> None:
    server.fault("PATCH", Hold(after=1), Hold(after=1), Hold(after=1))

    def release() -> None:
        while len(server.requests("PATCH")) < 3:
            server.holding.wait(0.01)
        server.go_on.set()

    thread = threading.Thread(target=release)
    thread.start()
    (line,) = lines(send("--json", file, server.url, "--parallel", "3"))
    thread.join()
    final = server.upload(line.url)
    assert bytes(final.data) == file.read_bytes()
    assert (line.size, line.sent, line.resumed_from) == (len(final.data), len(final.data), 0)
    *partial, last = server.requests("POST")
    assert [seen.headers["upload-concat"] for seen in partial] == ["partial"] * 3
    assert "upload-length" not in last.headers
    assert last.headers["upload-metadata"].startswith("filename ")
    assert list(state.iterdir()) == []


def test_each_part_is_resumed(server: ScriptedServer, send: Send, file: Path, state: Path) -> None:
    server.fault("PATCH", Cut(after=500_000), Cut(after=600_000))
    stopped = send(file, server.url, "--parallel", "2", "--retry-for", "0")
    assert stopped.exit_code == 1
    assert len(list(state.glob("*.json"))) == 2
    (line,) = lines(send("--json", file, server.url, "--parallel", "2"))
    assert line.resumed_from == 1_100_000
    assert line.sent == line.size - 1_100_000
    assert bytes(server.upload(line.url).data) == file.read_bytes()
    assert len(_parts(server)) == 3


def test_putting_together_is_tried_again(server: ScriptedServer, send: Send, file: Path) -> None:
    server.fault("PATCH", *[Say(status=500)] * 2)
    server.fault("HEAD", Say(status=423), Say(status=423))
    result = send(file, server.url, "--parallel", "2")
    assert result.exit_code == 0
    assert bytes(server.upload(result.stdout.strip()).data) == file.read_bytes()


def test_parts_that_are_lost_when_put_together_are_noticed(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    server.fault("HEAD", Say(status=200, headers={"Upload-Offset": "5"}))
    result = send(file, server.url, "--parallel", "2")
    assert result.exit_code == 1
    assert f"put together to 5 of {file.stat().st_size} bytes" in result.stderr
    assert result.stdout == ""


def test_small_files_are_not_cut(server: ScriptedServer, send: Send, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(bytes(2 * sending.SMALLEST_PART - 1))
    assert send(small, server.url, "--parallel", "8").exit_code == 0
    assert _parts(server) == [""]


@pytest.mark.parametrize(
    ("flags", "chunks"),
    [
        ([], [25]),
        (["--chunk-size", "10"], [10, 10, 5]),
        (["--checksum", "sha1"], [20, 5]),
        (["--checksum", "sha1", "--chunk-size", "15"], [15, 10]),
    ],
    ids=repr,
)
def test_bytes_per_request(
    server: ScriptedServer,
    send: Send,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    chunks: list[int],
) -> None:
    monkeypatch.setattr(sending, "CHECKSUM_CHUNK", 20)
    (tmp_path / "file").write_bytes(bytes(25))
    assert send(tmp_path / "file", server.url, *flags).exit_code == 0
    assert [seen.received for seen in server.requests("PATCH")] == chunks


def test_a_file_that_another_process_sends_is_left_to_it(
    server: ScriptedServer, send: Send, file: Path, state: Path
) -> None:
    server.fault("PATCH", Cut(after=5))
    assert send(file, server.url, "--retry-for", "0").exit_code == 1
    ((entry),) = state.glob("*.json")
    with ResumeStore(directory=state).locked(entry.stem.rpartition("-")[0]):
        result = send(file, server.url)
    assert result.exit_code == 1
    assert result.stderr == f"{file}: another process is sending this file to this URL\n"
