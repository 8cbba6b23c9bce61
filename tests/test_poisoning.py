"""What a client names can neither forge a line, nor steer a terminal, nor leave its folder."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from base64 import b64encode
from pathlib import Path

import pytest

from tests.asgi import raw
from tests.hooks.hook_server import Asked, Said, hook_server
from tests.serving import Served, eventually, serving

NAMES = {
    "line breaks": b"a\r\nX-Evil: 1\r\n\r\n<script>\n2026-11-22 12:00:00 ERROR forged",
    "NUL": b"a\0b.txt",
    "escape sequences": b"\x1b]0;owned\x07\x1b[2J.txt",
    "C1 controls": "a\u009b2Jb\u0085c".encode(),
    "direction": "invoice\u202egpj.exe\u2066\u200f".encode(),
    "line separators": "a\u2028b\u2029c".encode(),
    "upwards": b"../../../../../../tmp/owned",
    "upwards, backwards": rb"..\..\..\owned",
    "absolute": b"/etc/cron.d/owned",
    "dots": b"..",
    "hidden": b".htaccess",
    "quotes": b'a"; filename="b.html',
    "escaped": b"%0d%0aX-Evil:%201",
    "very long": "\u00fc".encode() * 5000,
    "no UTF-8": b"\xff\xfe\x80\xc0\xaf..\xc0\xafetc",
    "surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "empty": b"",
    "spaces": b"   ",
}

PATHS = {
    "a line break": "%0d%0a2026-11-22%2012:00:00%20ERROR%20forged",
    "escape sequences": "%1b%5b2J%1b%5d0;owned%07",
    "direction": "%e2%80%aeid",
    "a line separator": "%e2%80%a8id",
    "NUL": "a%00b",
    "a field of its own": "a%20request_id=forged",
    "no UTF-8": "%ff%fe",
    "very long": "a" * 30_000,
}


def is_harmless(text: str) -> bool:
    """Whether a terminal shows it as it stands there, on one line."""
    return not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in text)


def test_no_name_does_any_harm(tmp_path: Path) -> None:
    """In a header, as the name of a file, and in a list on a terminal."""
    template = ("--file-template", "{filename}")
    with serving(tmp_path / "uploads", *template) as server:
        for case, name in NAMES.items():
            said = b64encode(name).decode()
            headers = raw.PATCH_HEAD | {"Upload-Length": "3", "Content-Length": "3"}
            headers["Upload-Metadata"] = (
                f"filename {said},filetype {b64encode(b'text/html').decode()}"
            )
            with raw.connected(server.port) as connection:
                created = connection.ask("POST", "/files/", headers, b"abc")
                assert created.status == 201, (case, created.body)
                path = "/files/" + created.headers["Location"].rpartition("/")[2]
                answer = connection.ask("GET", path, {})
            assert (answer.status, answer.body) == (200, b"abc"), case
            kind = answer.headers["Content-Disposition"]
            assert kind.startswith("attachment"), case
            assert len(kind) < 4096, case
            assert kind.isascii(), case
            assert kind.isprintable(), case
            assert kind.count('"') in (0, 2), case
            assert answer.headers["X-Evil"] is None, case
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in answer.headers["Content-Security-Policy"]
        command = [sys.executable, "-m", "tusd_py", "ls", "--upload-dir", str(server.upload_dir)]
        listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    files = [file for file in (server.upload_dir / "files").rglob("*") if file.is_file()]
    assert len(files) == len(NAMES), "each lies below the folder, and none over another"
    assert all(is_harmless(file.name) and not file.name.startswith(".") for file in files)
    lines = listed.removesuffix("\n").split("\n")
    assert len(lines) == len(NAMES)
    assert all(map(is_harmless, lines))


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_path_forges_a_line_of_the_log(tmp_path: Path, log_format: str) -> None:
    """Whoever reads the log would believe it, and a terminal would do what it says."""
    with serving(tmp_path / "uploads", "--log-format", log_format) as server:
        for path in PATHS.values():
            with raw.connected(server.port) as connection:
                answer = connection.ask("GET", "/files/" + path, raw.PATCH_HEAD)
            assert answer.status == 404
    lines = server.log.read_text().removesuffix("\n").split("\n")
    assert len(lines) == len(PATHS)
    for line in lines:
        assert is_harmless(line)
        assert len(line) < 4096, "else a disk could be filled with it"
        fields = json.loads(line) if log_format == "json" else {"request_id": line.split()[-1]}
        assert "upload_id" not in fields
        assert "forged" not in fields["request_id"]
        assert line.startswith(("20", "{"))


def begun(port: int, name: bytes, **headers: str) -> raw.Answer:
    """The answer to a new upload of three bytes, which come along."""
    given = raw.PATCH_HEAD | {"Upload-Length": "3", "Content-Length": "3"} | headers
    given["Upload-Metadata"] = f"filename {b64encode(name).decode()}"
    with raw.connected(port) as connection:
        return connection.ask("POST", "/files/", given, b"abc")


def check_log(server: Served) -> None:
    """Each line of it is one that the server wrote, and shows as it stands there."""
    for line in server.log.read_text().removesuffix("\n").split("\n"):
        assert is_harmless(line)
        assert line.startswith("20"), line
        assert len(line) < 4096
        assert "Traceback" not in line


SENT = "J\u00fcrgen\u00ff \u00e2\u0080\u00ae\t\u0085 'a', \"b\\"
"""What a client may send in a header: each character is one byte."""


def test_hooks_by_http_hear_exactly_what_came(tmp_path: Path) -> None:
    """On one line, whatever is in it; and a name from the client is never a name of ours."""
    flags = ("--hooks-enabled-events", "", "--hooks-http-forward-headers", "X-Sent")
    with (
        hook_server() as hooks,
        serving(tmp_path / "uploads", "--hooks-http", hooks.url, *flags) as server,
    ):
        for case, name in NAMES.items():
            hooks.asked.clear()
            assert begun(server.port, name, **{"X-Sent": SENT}).status == 201, case
            eventually("not told", lambda: len(hooks.of("post-finish")) == 1, within=30)
            assert sorted(hooks.hooks()) == [
                "post-create",
                "post-finish",
                "pre-create",
                "pre-finish",
            ], case
            for asked in hooks.asked:
                assert asked.body.isascii(), case
                assert asked.body.decode().isprintable(), case
                assert asked.upload["MetaData"] == {"filename": name.decode("utf-8", "replace")}
                assert asked.call["Event"]["HTTPRequest"]["Header"]["X-Sent"] == [SENT.strip()]
                assert asked.header("X-Sent") == SENT, case
                assert asked.header("X-Evil") is None, case
        check_log(server)


def test_what_the_application_passes_on_does_no_harm(tmp_path: Path) -> None:
    """It answers with names as they came: in a header, as an id, and as a path."""

    def echo(asked: Asked) -> Said:
        name = asked.upload["MetaData"]["filename"]
        way = asked.call["Event"]["HTTPRequest"]["Header"]["X-Way"][0]
        if asked.hook != "pre-create" or way == "header":
            return Said({"HTTPResponse": {"Header": {"X-File": name}}})
        if way == "id":
            return Said({"ChangeFileInfo": {"ID": name}})
        return Said({"ChangeFileInfo": {"Storage": {"Path": name}}})

    with (
        hook_server() as hooks,
        serving(tmp_path / "uploads", "--hooks-http", hooks.url) as server,
    ):
        hooks.answer = echo
        for case, name in NAMES.items():
            if case == "very long":
                continue  # an answer has a limit
            answer = begun(server.port, name, **{"X-Way": "header"})
            assert answer.status == 201, case
            assert not re.search(r"[\x00-\x1f\x7f]", answer.headers["X-File"] or ""), case
            for way in ("id", "path"):
                answer = begun(server.port, name, **{"X-Way": way})
                assert answer.status in (201, 500), (case, way)
                assert answer.headers["X-Evil"] is None, case
        command = [sys.executable, "-m", "tusd_py", "ls", "--upload-dir", str(server.upload_dir)]
        listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        assert all(map(is_harmless, listed.removesuffix("\n").split("\n")))
        check_log(server)
    outside = {path.name for path in tmp_path.iterdir()}
    assert outside == {"uploads", "uploads.log"}
    assert not Path("/tmp/owned").exists()
    assert not Path("/etc/cron.d/owned").exists()


def test_hooks_as_programs_hear_it_on_stdin_only(tmp_path: Path) -> None:
    """In the environment it could be taken for something else, and NUL would end it."""
    folder = tmp_path / "hooks"
    folder.mkdir()
    program = folder / "post-finish"
    program.write_text(
        '#!/bin/sh\nenv -0 > env.part\ncat > "$TUS_ID.call"\nmv env.part "$TUS_ID"\n'
    )
    program.chmod(0o755)
    with serving(tmp_path / "uploads", "--hooks-dir", str(folder)) as server:
        for case, name in NAMES.items():
            answer = begun(server.port, name, **{"X-Sent": SENT})
            assert answer.status == 201, case
            upload_id = answer.headers["Location"].rpartition("/")[2]
            eventually("not told", (folder / upload_id).exists, within=30)
            variables = (folder / upload_id).read_bytes().rstrip(b"\0").split(b"\0")
            told = dict(each.split(b"=", 1) for each in variables if each.startswith(b"TUS"))
            told = {key: value for key, value in told.items() if key not in os.environb}
            event_id = told.pop(b"TUSD_PY_EVENT_ID")
            assert event_id.isalnum() or event_id.replace(b"-", b"").isalnum()
            size = {b"TUS_SIZE": b"3", b"TUS_OFFSET": b"3"}
            assert told == {b"TUS_ID": upload_id.encode()} | size, case
            call = (folder / f"{upload_id}.call").read_bytes()
            assert call.isascii(), case
            assert call.decode().isprintable(), case
            upload = json.loads(call)["Event"]["Upload"]
            assert upload["MetaData"] == {"filename": name.decode("utf-8", "replace")}
        check_log(server)
    assert len(list(folder.iterdir())) == 1 + 2 * len(NAMES), "and no other file"
