"""What a client names can neither forge a line, nor steer a terminal, nor leave its folder."""

import json
import subprocess
import sys
import unicodedata
from base64 import b64encode
from pathlib import Path

import pytest

from tests.asgi import raw
from tests.serving import serving

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
