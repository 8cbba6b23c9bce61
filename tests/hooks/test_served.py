"""Hooks of `tusd-py serve`: real processes, real kills, a hook server that comes and goes."""

import contextlib
import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.asgi import raw
from tests.hooks.hook_server import Asked, HookServer, Json, Said, hook_server
from tests.interop.plain_http import TUS, append, asked, create, head
from tests.serving import Served, eventually, serving

EVERYTHING = ("--hooks-enabled-events", "")
QUICK = ("--hooks-http-backoff", "10ms", "--hooks-http-timeout", "20s")


@pytest.fixture(autouse=True)
def no_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def hooks() -> Iterator[HookServer]:
    with hook_server() as server:
        yield server


@pytest.fixture
def server(tmp_path: Path, hooks: HookServer) -> Iterator[Served]:
    with serving(tmp_path / "u", "--hooks-http", hooks.url, *EVERYTHING, *QUICK) as served:
        yield served


def says(hook: str, said: Json) -> Callable[[Asked], Said]:
    """An application that says something to one hook."""
    return lambda each: Said(said if each.hook == hook else {})


def told(hooks: HookServer, hook: str, count: int = 1) -> list[Asked]:
    """Waits until the application was told so often."""
    eventually(f"no {hook}: {hooks.hooks()}", lambda: len(hooks.of(hook)) >= count, within=30)
    return hooks.of(hook)


def test_the_life_of_an_upload(server: Served, hooks: HookServer) -> None:
    """In order for each upload, with ids; nothing twice."""
    url = create(server.url, 11, Upload_Metadata="filename ZmlsbS5ta3Y=")
    append(url, 0, b"hello")
    append(url, 5, b" world")
    told(hooks, "post-finish")
    assert asked("DELETE", url, TUS).status_code == 204
    told(hooks, "post-terminate")
    events = [each for each in hooks.asked if each.hook.startswith("post-")]
    assert [each.hook for each in events] == ["post-create", "post-finish", "post-terminate"]
    assert [each.upload["Offset"] for each in events] == [0, 11, 11]
    assert len({each.header("Tusd-Py-Event-Id") for each in events}) == 3
    assert all(each.header("Tusd-Py-Event-Id") for each in events)
    assert [each.hook for each in hooks.asked if each.hook.startswith("pre-")] == [
        "pre-create",
        "pre-finish",
        "pre-terminate",
    ]


def test_a_hook_server_that_is_down_for_a_while_is_told_later_once(
    server: Served, hooks: HookServer
) -> None:
    """Tusd's events are lost then; a film that nobody hears of is as good as lost."""
    url = create(server.url, 5, Upload_Metadata="filename ZmlsbS5ta3Y=")
    told(hooks, "post-create")
    hooks.answer = lambda each: Said(status=503 if each.hook == "post-finish" else 200)
    assert append(url, 0, b"hello").status_code == 204
    told(hooks, "post-finish", 3)  # the attempts of one call
    hooks.stop()
    count = len(hooks.of("post-finish"))
    failed = re.compile(r"telling that upload \w+ is complete failed; again in \d+ s")
    eventually("no failure", lambda: len(failed.findall(server.log.read_text())) >= 2, within=30)
    hooks.answer = lambda _: Said()
    hooks.start()
    told(hooks, "post-finish", count + 1)
    ids = {each.header("Tusd-Py-Event-Id") for each in hooks.of("post-finish")}
    assert len(ids) == 1, "repeated under another id"
    assert server.stop() == 0
    assert len(hooks.of("post-finish")) == count + 1
    server.start()
    eventually("not up", lambda: head(url).status_code == 200)
    server.stop()
    assert len(hooks.of("post-finish")) == count + 1, "told again after a restart"
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("body", [b"hello", b"x" * 3_000_000], ids=["small", "large"])
def test_killed_between_the_last_byte_and_the_hook(
    tmp_path: Path, hooks: HookServer, body: bytes
) -> None:
    """The event was committed with the upload's completion: it comes."""
    with serving(tmp_path / "u", "--hooks-http", hooks.url) as server:
        url = create(server.url, len(body))
        told(hooks, "post-create")
        hooks.stop()
        assert append(url, 0, body).status_code == 204
        server.kill()
        hooks.start()
        assert hooks.of("post-finish") == []
        server.start()
        (event,) = told(hooks, "post-finish")
        assert event.upload["Offset"] == event.upload["Size"] == len(body)
        assert Path(event.upload["Storage"]["Path"]).read_bytes() == body
        assert event.call["Event"]["HTTPRequest"]["Method"] == "PATCH"


def test_killed_while_pre_finish_is_asked(tmp_path: Path, hooks: HookServer) -> None:
    """It is asked again, and what follows it is told once."""
    never = threading.Event()
    hooks.answer = lambda each: Said(after=never if each.hook == "pre-finish" else None)
    with serving(tmp_path / "u", "--hooks-http", hooks.url, *EVERYTHING) as server:
        url = create(server.url, 5)
        sending = threading.Thread(target=_sends, args=(url, b"hello"))
        sending.start()
        told(hooks, "pre-finish")
        server.kill()
        sending.join()
        never.set()
        hooks.answer = lambda _: Said()
        server.start()
        told(hooks, "post-finish")
        assert head(url).headers["Upload-Offset"] == "5"
        assert len(hooks.of("pre-finish")) == 2
        assert len(hooks.of("post-finish")) == 1


def _sends(url: str, body: bytes) -> None:
    with contextlib.suppress(httpx.TransportError):
        append(url, 0, body)


@pytest.mark.parametrize(
    "said",
    [
        Said(body=b"<html>It works!</html>"),
        Said(body=b""),
        Said(status=404),
        Said(status=500),
        Said(body=b'{"RejectUpload": "perhaps"}'),
        Said({"ChangeFileInfo": {"ID": "a/b"}}),
        Said(body=b" " * 10_000),
    ],
    ids=["html", "empty", "404", "500", "kind", "id", "long"],
)
def test_garbage_from_the_hook_server_refuses_and_says_so(
    server: Served, hooks: HookServer, said: Said
) -> None:
    """Let in unasked would be worse; the client hears no details, and the log has one line."""
    hooks.answer = lambda _: said
    answer = asked("POST", server.url, TUS | {"Upload-Length": "5"})
    assert answer.status_code == 500
    assert answer.text == (
        "ERR_HOOK_FAILED: the application behind this server did not answer (pre-create); "
        "try again\n"
    )
    lines = [line for line in server.log.read_text().splitlines() if " ERROR " in line]
    assert len(lines) == 1
    assert "the hook pre-create of upload - failed: " in lines[0]


@pytest.mark.parametrize("status", [204, 304])
def test_words_for_an_answer_without_a_body_are_left_out(
    server: Served, hooks: HookServer, status: int
) -> None:
    """As Go does: the connection of the client goes on."""
    said = {"RejectUpload": True, "HTTPResponse": {"StatusCode": status, "Body": "no"}}
    hooks.answer = says("pre-create", said)
    with raw.connected(server.port) as connection:
        for _ in range(2):
            answer = connection.ask("POST", "/files/", TUS | {"Upload-Length": "5"})
            assert (answer.status, answer.body) == (status, b"")


def test_pre_finish_that_is_not_answered_is_asked_again(server: Served, hooks: HookServer) -> None:
    """All bytes are there: the next request of the client joins the finish, and gets its answer."""
    hooks.answer = lambda each: Said(status=500 if each.hook == "pre-finish" else 200)
    url = create(server.url, 5)
    assert append(url, 0, b"hello").status_code == 500
    assert asked("HEAD", url, TUS).status_code == 423
    hooks.answer = says("pre-finish", {"HTTPResponse": {"Header": {"X-File": "7"}}})
    assert head(url).headers["Upload-Offset"] == "5"
    repeated = append(url, 5, b"")
    assert (repeated.status_code, repeated.headers["X-File"]) == (204, "7")
    assert len(told(hooks, "post-finish")) == 1


def test_post_receive_tells_and_may_stop(tmp_path: Path, hooks: HookServer) -> None:
    """While bytes come; a stopped upload is gone, and its client hears why."""
    stop = threading.Event()

    def answer(each: Asked) -> Said:
        if each.hook != "post-receive" or not stop.is_set():
            return Said()
        response = {"StatusCode": 400, "Body": "the project is gone"}
        return Said({"StopUpload": True, "HTTPResponse": response})

    hooks.answer = answer
    flags = ("--hooks-http", hooks.url, "--progress-hooks-interval", "100ms")
    with serving(tmp_path / "u", *flags) as server:
        url = create(server.url, 1_000_000)
        done = threading.Event()

        def slowly() -> Iterator[bytes]:
            sent = 0
            while sent < 1_000_000 and not done.wait(0.02):
                yield b"x" * 1000
                sent += 1000

        headers = {
            **TUS,
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": "0",
            "Content-Length": "1000000",
        }
        answers: list[httpx.Response] = []

        def send() -> None:
            with httpx.Client(trust_env=False, timeout=60) as client:
                answers.append(client.patch(url, headers=headers, content=slowly()))

        sending = threading.Thread(target=send)
        sending.start()
        try:
            told(hooks, "post-receive", 3)
            stop.set()
            sending.join(30)
        finally:
            done.set()
            sending.join(30)
        offsets = [each.upload["Offset"] for each in hooks.of("post-receive")]
        assert offsets == sorted(set(offsets)), "told twice of nothing new"
        (stopped,) = answers
        assert (stopped.status_code, stopped.text) == (400, "the project is gone")
        assert asked("HEAD", url, TUS).status_code == 410
        (event,) = told(hooks, "post-terminate")
        assert event.upload["Offset"] >= offsets[-1]
        assert not [path for path in (tmp_path / "u/data").glob("*/*") if path.is_file()]


def test_only_enabled_hooks_are_called(tmp_path: Path, hooks: HookServer) -> None:
    """Also where another start had enabled what is left in the outbox, or still comes to it."""
    hooks.answer = lambda each: Said(status=500 if each.hook == "post-create" else 200)
    with serving(tmp_path / "u", "--hooks-http", hooks.url, *QUICK) as server:
        create(server.url, 5)
        told(hooks, "post-create", 3)
    hooks.asked.clear()
    flags = ("--hooks-http", hooks.url, "--hooks-enabled-events", "pre-create, post-finish")
    with serving(tmp_path / "u", *flags) as server:
        url = create(server.url, 5)
        append(url, 0, b"hello")
        told(hooks, "post-finish")
        asked("DELETE", url, TUS)
        page = server.url.replace("/files/", "/metrics")
        nothing = "\ntusd_outbox_waiting 0.0\n"
        eventually(
            "something waits",
            lambda: nothing in httpx.get(page, trust_env=False).text,
            within=30,
        )
        assert server.stop() == 0
        assert server.log.read_text().count(" ERROR ") <= 2, "nobody is told of it, over and over"
    assert sorted(hooks.hooks()) == ["post-finish", "pre-create"]


def test_headers_go_along_and_bodies_are_signed(tmp_path: Path, hooks: HookServer) -> None:
    """Also on what is told later from the outbox."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    flags = ("--hooks-http-forward-headers", "Authorization, Cookie")
    signs = ("--hooks-http-secret-file", str(secret))
    with serving(tmp_path / "u", "--hooks-http", hooks.url, *flags, *signs) as server:
        url = create(server.url, 5, Authorization="Bearer t0ken")
        append(url, 0, b"hello", Authorization="Bearer t0ken")
        told(hooks, "post-finish")
        log = server.log.read_text()
    for each in hooks.asked:
        assert each.header("Authorization") == "Bearer t0ken"
        digest = hmac.new(b"s3cret", each.body, hashlib.sha256).hexdigest()
        assert each.header("Tusd-Py-Signature") == f"sha256={digest}"
    assert hooks.url not in log, "a URL may have a password in it"
    assert "t0ken" not in log
    assert "s3cret" not in log


def test_metrics_have_tusds_names(server: Served, hooks: HookServer) -> None:
    url = create(server.url, 5)
    hooks.answer = lambda each: Said(status=500 if each.hook == "post-finish" else 200)
    append(url, 0, b"hello")
    told(hooks, "post-finish")
    page = server.url.replace("/files/", "/metrics")

    def shown() -> dict[str, float]:
        lines = (line for line in httpx.get(page, trust_env=False).text.splitlines())
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    failures = 'tusd_hook_errors_total{hooktype="post-finish"}'
    eventually("no failure", lambda: shown()[failures] >= 1)
    eventually("it does not wait", lambda: shown()["tusd_outbox_waiting"] == 1)
    found = shown()
    assert found['tusd_hook_invocations_total{hooktype="pre-create"}'] == 1
    assert found['tusd_hook_errors_total{hooktype="pre-create"}'] == 0
    assert found['tusd_hook_invocations_total{hooktype="pre-terminate"}'] == 0
    assert found["tusd_outbox_lag_seconds"] > 0
    assert found["tusd_outbox_dead"] == 0


def test_programs_of_a_folder(tmp_path: Path) -> None:
    """As tusd's users have them: one that refuses without a name, and one that notes."""
    folder = tmp_path / "hooks"
    folder.mkdir()
    refuses = (
        'if grep -q filename; then echo "{}"; else\n'
        'echo \'{"RejectUpload": true, "HTTPResponse": {"StatusCode": 400, '
        '"Body": "no filename provided"}}\'; fi'
    )
    for name, script in (
        ("pre-create", refuses),
        ("post-finish", "cat > done.part; mv done.part $TUS_ID"),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    with serving(tmp_path / "u", "--hooks-dir", str(folder)) as server:
        refused = asked("POST", server.url, TUS | {"Upload-Length": "5"})
        assert (refused.status_code, refused.text) == (400, "no filename provided")
        url = create(server.url, 5, Upload_Metadata="filename ZmlsbS5ta3Y=")
        append(url, 0, b"hello")
        noted = folder / url.rpartition("/")[2]
        eventually("the program was not run", noted.exists)
        call = json.loads(noted.read_text())
        assert (call["Type"], call["Event"]["Upload"]["Offset"]) == ("post-finish", 5)
        (folder / "pre-create").write_text("#!/bin/sh\nexit 3\n")
        failed = asked("POST", server.url, TUS | {"Upload-Length": "5"})
        assert (failed.status_code, failed.text[:16]) == (500, "ERR_HOOK_FAILED:")
        assert "pre-create ended with status 3" in server.log.read_text()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--hooks-http", "localhost:8000"], "--hooks-http needs a URL that begins with http://"),
        (["--hooks-dir", "nowhere"], "--hooks-dir: nowhere is no folder"),
        (
            ["--hooks-http", "http://localhost", "--hooks-dir", "."],
            "either --hooks-http or --hooks-dir",
        ),
        (
            ["--hooks-dir", ".", "--hooks-enabled-events", "post-creat"],
            "there is no 'post-creat'; choose from pre-create",
        ),
        (
            ["--hooks-http", "http://a", "--hooks-http-secret-file", "nowhere"],
            "nowhere: No such file",
        ),
        (
            ["--hooks-http", "http://a", "--hooks-http-secret-file", os.devnull],
            "--hooks-http-secret-file: /dev/null is empty",
        ),
        (["--progress-hooks-interval", "1ms"], "--progress-hooks-interval is too short"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, flags: list[str], says: str) -> None:
    command = [sys.executable, "-m", "tusd_py", "serve", "--port", "0", "--upload-dir", "u", *flags]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "u").exists()


def test_several_workers_tell_once(tmp_path: Path, hooks: HookServer) -> None:
    """Each worker has an outbox of its own, and one claims what another does not have."""
    with serving(tmp_path / "u", "--hooks-http", hooks.url, "--workers", "2") as server:
        urls = [create(server.url, 5) for _ in range(8)]
        for url in urls:
            append(url, 0, b"hello")
        told(hooks, "post-finish", len(urls))
        assert server.signal(signal.SIGTERM) == 0
    for url in urls:
        mine = [each for each in hooks.asked if each.upload["ID"] == url.rpartition("/")[2]]
        assert [each.hook for each in mine] == ["post-create", "post-finish"]
