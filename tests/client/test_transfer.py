"""One upload, and everything that can happen to it on the way."""

import os
import threading
from pathlib import Path

import pytest

from tests.client.conftest import Send, lines
from tests.client.scripted import Cut, Fault, Hold, Honest, Say, ScriptedServer
from tusd_py.client import transfer

HALF = 1_500_000


@pytest.mark.parametrize(
    "fault",
    [
        Cut(after=HALF),
        Say(status=423, text="ERR_UPLOAD_INTERRUPTED: another request came", keep=HALF, after=0),
        Say(status=409, keep=HALF, after=0),
        Say(status=500, keep=HALF),
        Say(status=503, keep=HALF, headers={"Retry-After": "0"}),
        Say(status=408, keep=HALF, after=0),
        Say(status=204, keep=HALF),  # and does not say the offset
        Say(status=204, keep=HALF, headers={"Upload-Offset": "99999999999"}),
        Say(status=204, keep=HALF, headers={"Upload-Offset": "0"}),
    ],
    ids=repr,
)
def test_what_the_server_has_is_never_sent_again(
    server: ScriptedServer, send: Send, file: Path, fault: Fault
) -> None:
    server.fault("PATCH", fault)
    (line,) = lines(send("--json", file, server.url))
    assert bytes(server.only.data) == file.read_bytes()
    first, second = server.requests("PATCH")
    assert first.headers["upload-offset"] == "0"
    assert second.headers["upload-offset"] == str(HALF)
    assert second.received == line.size - HALF
    assert line.resumed_from == 0


def test_a_server_that_takes_less_than_was_sent_is_followed(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    server.fault("PATCH", Say(status=204, keep=HALF, headers={"Upload-Offset": str(HALF)}))
    assert send(file, server.url).exit_code == 0
    assert bytes(server.only.data) == file.read_bytes()
    assert server.requests("HEAD") == []


def test_waiting_is_told_once(server: ScriptedServer, send: Send, file: Path) -> None:
    server.fault("PATCH", *[Say(status=423, text="ERR_UPLOAD_LOCKED: in use", after=0)] * 3)
    result = send("--quiet", file, server.url)
    assert result.exit_code == 0
    sentence = "the server answered 423: ERR_UPLOAD_LOCKED: in use; trying again"
    assert result.stderr == f"{file}: {sentence}\n"


def test_trouble_that_lasts_ends_in_the_words_of_the_server(
    server: ScriptedServer, send: Send, file: Path, state: Path
) -> None:
    server.fault("PATCH", *[Say(status=507, text="ERR_STORAGE_FULL: the disk is full")] * 99)
    result = send(file, server.url, "--retry-for", "100ms")
    assert result.exit_code == 1
    assert result.stderr.endswith("the server answered 507: ERR_STORAGE_FULL: the disk is full\n")
    assert len(list(state.glob("*.json"))) == 1, "another run goes on"


def test_a_network_that_breaks_often_is_no_reason_to_give_up_while_bytes_arrive(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    server.fault("PATCH", *[Cut(after=100_000)] * 20)
    assert send(file, server.url, "--retry-for", "60ms").exit_code == 0
    assert bytes(server.only.data) == file.read_bytes()


def test_trouble_at_the_creation_and_at_head_is_waited_out(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    server.fault("OPTIONS", Say(status=503))
    server.fault("POST", Cut(), Say(status=429))
    server.fault("PATCH", Cut(after=HALF))
    server.fault("HEAD", Cut(), Say(status=423))
    assert send(file, server.url).exit_code == 0
    assert bytes(server.only.data) == file.read_bytes()


def test_a_server_that_goes_and_comes_back(server: ScriptedServer, send: Send, file: Path) -> None:
    server.fault("PATCH", Hold(after=HALF))

    def away_for_a_while() -> None:
        assert server.holding.wait(20)
        server.stop()
        server.go_on.set()
        threading.Event().wait(0.3)
        server.start()

    thread = threading.Thread(target=away_for_a_while)
    thread.start()
    result = send(file, server.url)
    thread.join()
    assert result.exit_code == 0
    assert bytes(server.only.data) == file.read_bytes()
    assert "trying again" in result.stderr


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_upload_that_is_gone_is_made_anew(
    server: ScriptedServer, send: Send, file: Path, status: int
) -> None:
    server.fault("PATCH", Cut(after=HALF))
    server.fault("HEAD", Say(status=status))
    (line,) = lines(send("--json", file, server.url))
    assert line.url.endswith("upload1")
    assert bytes(server.upload(line.url).data) == file.read_bytes()


def test_an_upload_that_goes_between_two_chunks_is_made_anew(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    server.fault("PATCH", Honest(), Say(status=410, text="ERR_UPLOAD_GONE: it expired"))
    (line,) = lines(send("--json", file, server.url, "--chunk-size", "1MiB"))
    assert line.url.endswith("upload1")
    assert bytes(server.upload(line.url).data) == file.read_bytes()


def test_uploads_are_not_made_for_ever(server: ScriptedServer, send: Send, file: Path) -> None:
    server.fault("PATCH", *[Say(status=404, text="ERR_UPLOAD_NOT_FOUND: no upload")] * 99)
    result = send(file, server.url)
    assert result.exit_code == 1
    assert result.stderr.endswith("the server answered 404: ERR_UPLOAD_NOT_FOUND: no upload\n")
    assert len(server.uploads) == 1 + transfer.MADE_ANEW_AT_MOST


@pytest.mark.parametrize(
    ("status", "kept"),
    [(400, 0), (413, 0), (415, 0), (401, 1), (403, 1)],
)
def test_a_refusal_ends_the_upload_and_is_forgotten_unless_it_is_about_us(
    server: ScriptedServer, send: Send, file: Path, state: Path, status: int, kept: int
) -> None:
    server.fault("PATCH", Say(status=status, text="ERR_NO: go away", after=0))
    result = send(file, server.url)
    assert result.exit_code == 1
    assert result.stderr == f"{file}: the server answered {status}: ERR_NO: go away\n"
    assert len(server.uploads) == 1
    assert len(list(state.glob("*.json"))) == kept


def test_a_head_without_an_offset_is_no_answer(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    server.fault("PATCH", Cut(after=HALF))
    server.fault("HEAD", Say(status=200))
    result = send(file, server.url)
    assert result.exit_code == 1
    assert "no Upload-Offset in the answer to HEAD" in result.stderr


@pytest.mark.parametrize("headers", [{"Upload-Length": "5"}, {"Upload-Offset": "99999999"}])
def test_a_stored_url_that_leads_to_another_upload_is_not_written_to(
    server: ScriptedServer, send: Send, file: Path, headers: dict[str, str]
) -> None:
    _leave_half(server, send, file)
    server.fault("HEAD", Say(status=200, headers={"Upload-Offset": "0", **headers}))
    (line,) = lines(send("--json", file, server.url))
    assert line.url.endswith("upload1")
    assert len(server.upload("x/upload0").data) == HALF


def _leave_half(server: ScriptedServer, send: Send, file: Path) -> None:
    server.fault("PATCH", Cut(after=HALF))
    assert send(file, server.url, "--retry-for", "0").exit_code == 1


def test_a_second_run_goes_on_where_the_first_ended(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    _leave_half(server, send, file)
    (line,) = lines(send("--json", file, server.url))
    assert (line.resumed_from, line.sent) == (HALF, line.size - HALF)
    assert bytes(server.only.data) == file.read_bytes()


def test_a_finished_upload_that_nobody_told_is_not_sent_again(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    size = file.stat().st_size
    server.fault("PATCH", Cut(after=size))
    assert send(file, server.url, "--retry-for", "0").exit_code == 1
    (line,) = lines(send("--json", file, server.url))
    assert (line.resumed_from, line.sent) == (size, 0)


@pytest.mark.parametrize(
    "flags", [["--no-resume"], ["--metadata", "other=1"], ["--parallel", "2"]], ids=repr
)
def test_what_is_not_the_same_upload_is_not_resumed(
    server: ScriptedServer, send: Send, file: Path, flags: list[str]
) -> None:
    _leave_half(server, send, file)
    (line,) = lines(send("--json", file, server.url, *flags))
    assert line.resumed_from == 0
    assert bytes(server.upload(line.url).data) == file.read_bytes()


def test_a_file_that_was_changed_since_is_sent_from_its_beginning(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    _leave_half(server, send, file)
    os.utime(file, ns=(1, 1))
    (line,) = lines(send("--json", file, server.url))
    assert line.resumed_from == 0


def test_a_file_that_changes_meanwhile_is_an_error(
    server: ScriptedServer, send: Send, tmp_path: Path, state: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(30_000_000))
    server.fault("PATCH", Hold(after=1_000_000))

    def change() -> None:
        assert server.holding.wait(20)
        with large.open("ab") as file:
            file.write(b"more")
        server.go_on.set()

    thread = threading.Thread(target=change)
    thread.start()
    result = send(large, server.url)
    thread.join()
    assert result.exit_code == 1
    assert "large: the file changed while it was being sent" in result.stderr
    assert list(state.glob("*.json")) == []


@pytest.mark.parametrize("algorithm", ["sha1", "md5", "sha256", "sha512", "crc32"])
def test_each_chunk_has_its_checksum(
    server: ScriptedServer, send: Send, file: Path, algorithm: str
) -> None:
    result = send(file, server.url, "--checksum", algorithm, "--chunk-size", "1MiB")
    assert result.exit_code == 0
    assert bytes(server.only.data) == file.read_bytes()
    digests = [seen.headers["upload-checksum"] for seen in server.requests("PATCH")]
    assert len(set(digests)) == 4
    assert {digest.partition(" ")[0] for digest in digests} == {algorithm}


def test_a_damaged_chunk_is_sent_again_and_no_other(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    damaged = Say(status=460, text="ERR_CHECKSUM_MISMATCH: it is damaged")
    server.fault("PATCH", Honest(), damaged, damaged)
    (line,) = lines(send("--json", file, server.url, "--checksum", "sha1", "--chunk-size", "1MiB"))
    offsets = [int(seen.headers["upload-offset"]) >> 20 for seen in server.requests("PATCH")]
    assert offsets == [0, 1, 1, 1, 2, 3]
    assert line.sent == line.size + 2 * 1024 * 1024
    assert bytes(server.only.data) == file.read_bytes()


def test_each_chunk_may_be_damaged_a_few_times(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    once: list[Fault] = [*[Say(status=460)] * (transfer.MISMATCHES_AT_MOST - 1), Honest()]
    server.fault("PATCH", *once, *once, *once)
    assert send(file, server.url, "--checksum", "sha1", "--chunk-size", "1MiB").exit_code == 0
    assert bytes(server.only.data) == file.read_bytes()


def test_a_chunk_that_is_always_damaged_ends_the_upload(
    server: ScriptedServer, send: Send, file: Path, state: Path
) -> None:
    server.fault("PATCH", *[Say(status=460, text="ERR_CHECKSUM_MISMATCH: damaged")] * 99)
    result = send(file, server.url, "--checksum", "sha1")
    assert result.exit_code == 1
    assert "460: ERR_CHECKSUM_MISMATCH: damaged (5 times in a row)" in result.stderr
    assert len(server.requests("PATCH")) == transfer.MISMATCHES_AT_MOST
    assert len(list(state.glob("*.json"))) == 1


def test_stdin_cannot_go_back_behind_what_was_stored(server: ScriptedServer, send: Send) -> None:
    server.fault("PATCH", Honest(), Cut())
    server.fault("HEAD", Say(status=200, headers={"Upload-Offset": "50"}))
    result = send("-", server.url, "--chunk-size", "100", stdin=bytes(300))
    assert result.exit_code == 1
    assert "-: the server has only 50 bytes" in result.stderr
