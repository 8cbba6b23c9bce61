"""`tusd-py upload` as a user runs it: arguments, output, exit status."""

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.client.conftest import Send, lines
from tests.client.scripted import Cut, Hold, Honest, Say, ScriptedServer


def test_a_file_arrives_and_its_url_is_the_only_thing_on_stdout(
    server: ScriptedServer, send: Send, file: Path, state: Path
) -> None:
    result = send(file, server.url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{server.url}upload0\n"
    assert bytes(server.only.data) == file.read_bytes()
    assert list(state.iterdir()) == [], "nothing is left to be resumed"


def test_json_tells_what_was_done(server: ScriptedServer, send: Send, file: Path) -> None:
    (line,) = lines(send("--json", file, server.url))
    size = file.stat().st_size
    assert (line.file, line.url, line.size) == (str(file), f"{server.url}upload0", size)
    assert (line.resumed_from, line.sent) == (0, size)
    assert 0 < line.seconds < 60


def test_every_request_says_which_protocol_it_speaks(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    server.fault("PATCH", Cut())
    assert send(file, server.url).exit_code == 0
    methods = {seen.method for seen in server.seen}
    assert methods == {"OPTIONS", "POST", "PATCH", "HEAD"}
    for seen in server.seen:
        expected = None if seen.method == "OPTIONS" else "1.0.0"
        assert seen.headers.get("tus-resumable") == expected
    for seen in server.requests("PATCH"):
        assert seen.headers["content-type"] == "application/offset+octet-stream"
        assert "content-length" in seen.headers


def test_an_empty_file_is_complete_at_its_creation(
    server: ScriptedServer, send: Send, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert send(empty, server.url).exit_code == 0
    assert server.only.length == 0
    assert server.requests("PATCH") == []


def test_metadata_tells_name_and_type_unless_the_user_says_otherwise(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    assert send(file, server.url).exit_code == 0
    assert server.only.headers["upload-metadata"] == "filename ZmlsbS5tcDQ=,filetype dmlkZW8vbXA0"
    assert send(file, server.url, "--metadata", "filename=a=b", "--metadata", "x=").exit_code == 0
    sent = server.upload("x/upload1").headers["upload-metadata"]
    assert sent == "filename YT1i,filetype dmlkZW8vbXA0,x"


def test_headers_go_with_every_request(server: ScriptedServer, send: Send, file: Path) -> None:
    result = send(file, server.url, "--header", "Authorization: Bearer a:b", "--header", "X-A: ")
    assert result.exit_code == 0
    assert {seen.headers["authorization"] for seen in server.seen} == {"Bearer a:b"}
    assert {seen.headers["x-a"] for seen in server.seen} == {""}


def test_a_folder_is_sent_with_its_structure(
    server: ScriptedServer, send: Send, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    (folder / "2024").mkdir(parents=True)
    (folder / "b.txt").write_text("b")
    (folder / "2024" / "a.jpg").write_text("a")
    result = send(folder, server.url, "--jobs", "3")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    metadata = {kept.headers["upload-metadata"] for kept in server.uploads.values()}
    assert metadata == {
        "filename Yi50eHQ=,filetype dGV4dC9wbGFpbg==,relativePath cGhvdG9zL2IudHh0",
        "filename YS5qcGc=,filetype aW1hZ2UvanBlZw==,relativePath cGhvdG9zLzIwMjQvYS5qcGc=",
    }


def test_jobs_are_files_at_once(server: ScriptedServer, send: Send, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"x" * 100)
    server.fault("PATCH", Hold(after=1), Hold(after=1), Hold(after=1))
    threading.Thread(target=_go_on_when_all_hold, args=(server, 3)).start()
    result = send(*(tmp_path / name for name in "abc"), server.url, "--jobs", "3")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 3


def _go_on_when_all_hold(server: ScriptedServer, count: int) -> None:
    while len(server.requests("PATCH")) < count:
        server.holding.wait(0.01)
    server.go_on.set()


def test_one_bad_file_does_not_stop_the_others(
    server: ScriptedServer, send: Send, tmp_path: Path
) -> None:
    server.options["Tus-Max-Size"] = "10"
    (tmp_path / "large").write_bytes(b"x" * 11)
    (tmp_path / "small").write_bytes(b"x" * 10)
    result = send(tmp_path / "large", tmp_path / "small", server.url)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr.endswith("large: the file has 11 bytes, and the server takes at most 10\n")


def test_a_refusal_is_told_in_the_words_of_the_server(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    server.fault("POST", Say(status=413, text="ERR_MAX_SIZE_EXCEEDED: it is too large\n"))
    result = send(file, server.url)
    assert result.exit_code == 1
    sentence = "the server answered 413: ERR_MAX_SIZE_EXCEEDED: it is too large"
    assert result.stderr == f"{file}: {sentence}\n"
    assert result.stdout == ""


def test_stdin_is_sent_although_nobody_knows_its_length(server: ScriptedServer, send: Send) -> None:
    data = os.urandom(1_000_001)
    result = send("-", server.url, "--chunk-size", "300000", "--json", stdin=data)
    assert result.exit_code == 0
    (line,) = lines(result)
    assert (line.file, line.size, line.sent) == ("-", len(data), len(data))
    assert bytes(server.only.data) == data
    assert server.only.length == len(data)
    assert server.only.headers["upload-defer-length"] == "1"
    assert "upload-length" not in server.only.headers


@pytest.mark.parametrize("data", [b"", b"x" * 1000])
def test_stdin_that_ends_with_a_chunk_says_its_length_without_bytes(
    server: ScriptedServer, send: Send, data: bytes
) -> None:
    assert send("-", server.url, "--chunk-size", "1000", stdin=data).exit_code == 0
    assert bytes(server.only.data) == data
    assert server.only.length == len(data)


def test_stdin_survives_a_break_of_the_network(server: ScriptedServer, send: Send) -> None:
    data = os.urandom(900_000)
    server.fault("PATCH", Honest(), Cut(after=100_000), Say(status=423, keep=1))
    result = send("-", server.url, "--chunk-size", "400000", stdin=data)
    assert result.exit_code == 0
    assert bytes(server.only.data) == data


def test_a_file_can_be_sent_beside_stdin(server: ScriptedServer, send: Send, file: Path) -> None:
    result = send(file, "-", server.url, stdin=b"abc")
    assert result.exit_code == 0
    assert {len(kept.data) for kept in server.uploads.values()} == {3, file.stat().st_size}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.txt", "http://a/"], "missing.txt: there is no such file"),
        (["FILE", "files"], "'files' is not a URL such as https://example.org/files/"),
        (["FILE", "ftp://a/"], "'ftp://a/' is not a URL such as"),
        (["FILE", "http://a/", "--checksum", "sha3"], "'sha3' is not one of"),
        (["FILE", "http://a/", "--chunk-size", "0"], "'0' is not a size"),
        (["FILE", "http://a/", "--retry-for", "soon"], "'soon' is not a duration"),
        (["FILE", "http://a/", "--header", "Colour"], "'Colour' is not a header such as"),
        (["FILE", "http://a/", "--header", "Upload-Offset: 1"], "the upload itself needs"),
        (["FILE", "http://a/", "--metadata", "a b=c"], "'a b=c' is not a pair such as"),
        (["FILE", "http://a/", "--metadata", "a=1", "--metadata", "a=2"], "was given twice"),
        (["FILE", "http://a/", "--jobs", "0"], "0 is not in the range"),
        (["-", "-", "http://a/"], "standard input can be sent only once"),
        (["-", "http://a/", "--parallel", "2"], "cannot be sent in parallel"),
        (["http://a/"], "Missing argument"),
    ],
)
def test_a_wrong_command_is_told_in_a_sentence(
    send: Send, file: Path, arguments: list[str], sentence: str
) -> None:
    result = send(*(str(file) if argument == "FILE" else argument for argument in arguments))
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_may_not_be_read_is_told(
    server: ScriptedServer, send: Send, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    result = send(tmp_path / "pipe", server.url)
    assert result.exit_code == 1
    assert result.stderr.endswith("pipe: cannot be read: Not a regular file\n")


def test_no_server_at_all(send: Send, server: ScriptedServer, file: Path) -> None:
    server.stop()
    result = send(file, server.url, "--retry-for", "0")
    assert result.exit_code == 1
    assert result.stderr == (
        f"tusd-py upload: no answer from 127.0.0.1:{server.port}: [Errno 111] Connection refused\n"
    )


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--checksum", "sha1"], "does not support --checksum: it lacks 'checksum'"),
        (["--parallel", "2"], "does not support --parallel: it lacks 'concatenation'"),
        (["-"], "does not support sending standard input: it lacks 'creation-defer-length'"),
    ],
)
def test_a_flag_that_the_server_cannot_serve_is_refused_before_anything_is_sent(
    server: ScriptedServer, send: Send, file: Path, flags: list[str], sentence: str
) -> None:
    server.options["Tus-Extension"] = "creation"
    result = send(file, *flags, server.url)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert [seen.method for seen in server.seen] == ["OPTIONS"]


def test_password_of_the_url_goes_with_every_request_and_into_no_message(
    server: ScriptedServer, send: Send, file: Path
) -> None:
    server.fault("OPTIONS", Say(status=500, text="ERR_STORAGE: try again"))
    result = send(file, server.url.replace("http://", "http://me:secret@"))
    assert result.exit_code == 0
    assert {seen.headers["authorization"] for seen in server.seen} == {"Basic bWU6c2VjcmV0"}
    assert result.stderr.startswith(f"{server.url}: the server answered 500")
    assert "secret" not in result.output


def test_netrc_is_read(
    server: ScriptedServer, send: Send, file: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = Path(os.environ["HOME"], ".netrc")
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    assert send(file, server.url).exit_code == 0
    assert {seen.headers["authorization"] for seen in server.seen} == {"Basic bWU6c2VjcmV0"}
    server.seen.clear()
    assert send(file, server.url, "--header", "Authorization: Bearer x").exit_code == 0
    assert {seen.headers["authorization"] for seen in server.seen} == {"Bearer x"}
    netrc.write_text("machine\n")
    result = send(file, server.url)
    assert result.exit_code == 2
    assert "~/.netrc cannot be read" in result.stderr


def _interrupt_when_holding(server: ScriptedServer) -> None:
    assert server.holding.wait(20)
    os.kill(os.getpid(), signal.SIGINT)
    server.go_on.set()


def _with_ctrl_c(server: ScriptedServer) -> threading.Thread:
    thread = threading.Thread(target=_interrupt_when_holding, args=(server,))
    thread.start()
    return thread


def test_after_ctrl_c_only_the_rest_is_sent(
    server: ScriptedServer, send: Send, tmp_path: Path, state: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(30_000_000))
    server.fault("PATCH", Hold(after=1_000_000))
    thread = _with_ctrl_c(server)
    stopped = send(large, server.url)
    thread.join()
    assert stopped.exit_code == 130
    assert stopped.stdout == ""
    assert stopped.stderr == "stopped; to go on from here, run the same command again\n"
    assert len(list(state.glob("*.json"))) == 1
    server.stop()
    stored = len(server.only.data)
    assert 1_000_000 <= stored < 30_000_000
    server.start()
    (line,) = lines(send("--json", large, server.url))
    assert (line.resumed_from, line.sent) == (stored, 30_000_000 - stored)
    assert server.received() == 30_000_000
    assert bytes(server.only.data) == large.read_bytes()


def test_ctrl_c_promises_nothing_that_it_cannot_keep(
    server: ScriptedServer, send: Send, tmp_path: Path, state: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(30_000_000))
    server.fault("PATCH", Hold(after=1_000_000))
    thread = _with_ctrl_c(server)
    stopped = send(large, server.url, "--no-resume")
    thread.join()
    assert stopped.exit_code == 130
    assert "begins anew" in stopped.stderr
    assert not state.exists()


def test_ctrl_c_ends_the_wait_for_a_server(server: ScriptedServer, send: Send, file: Path) -> None:
    server.fault("OPTIONS", Hold(after=0))
    thread = _with_ctrl_c(server)
    assert send(file, server.url).exit_code == 130
    thread.join()
