"""Keys and tokens are read anew when their file changes, and a bad file changes nothing."""

import logging
import os
from pathlib import Path

import pytest

from tests.auth.samples import SECRET, written
from tusd_py.auth.interface import InvalidKeys
from tusd_py.auth.source import CHECK_EVERY, Source, parse_secrets


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def parse(text: str) -> str:
    if "bad" in text:
        raise InvalidKeys(", line 1: is bad")
    return text


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_changed_file_is_read_anew(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "file"
    source = Source(written(path, "one"), parse, clock)
    assert source.value() == "one"
    path.write_text("other")
    assert source.value() == "one", "it is not looked at with every request"
    clock.now += CHECK_EVERY
    assert source.value() == "other"


def test_another_file_in_its_place_is_read(tmp_path: Path, clock: Clock) -> None:
    """As those do that replace a file at once; its time and size may be the same."""
    path = tmp_path / "file"
    source = Source(written(path, "one"), parse, clock)
    found = path.stat()
    written(tmp_path / "new", "two")
    os.utime(tmp_path / "new", ns=(found.st_atime_ns, found.st_mtime_ns))
    (tmp_path / "new").rename(path)
    clock.now += CHECK_EVERY
    assert source.value() == "two"


@pytest.mark.parametrize("how", ["bad", "gone"])
def test_what_cannot_be_used_changes_nothing_and_is_told_once(
    tmp_path: Path, clock: Clock, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Or a slip of an editor would lock everybody out."""
    path = tmp_path / "file"
    source = Source(written(path, "one"), parse, clock)
    if how == "bad":
        path.write_text("bad secret")
    else:
        path.unlink()
    for _ in range(3):
        clock.now += CHECK_EVERY
        assert source.value() == "one"
    (line,) = [record.getMessage() for record in caplog.records]
    reason = ", line 1: is bad" if how == "bad" else ": No such file or directory"
    assert line == f"{path}{reason}; what it said before goes on to hold"
    written(path, "two")
    clock.now += CHECK_EVERY
    assert source.value() == "two"


@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o640, False), (0o604, True)])
def test_a_file_that_everyone_can_read(
    tmp_path: Path, mode: int, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    path.chmod(mode)
    Source(str(path), parse)
    assert ("can be read by every user of this machine: chmod o=" in caplog.text) is warns
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", SECRET)
    assert Source("env:THE_KEY", parse_secrets).value() == [SECRET.encode()]
    with pytest.raises(InvalidKeys, match="env:NO_KEY: there is no environment variable NO_KEY"):
        Source("env:NO_KEY", parse_secrets)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", " holds no key; make one with: python3"),
        (b"# only a comment\n", " holds no key"),
        (SECRET.encode() + b"\n\nshort", ", line 3: a secret key needs at least 32 characters"),
        (b"\xff" * 40, " is not text in UTF-8"),
    ],
)
def test_secrets_that_are_none(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(InvalidKeys) as told:
        Source(str(path), parse_secrets)
    assert str(told.value).startswith(str(path) + complaint)
    assert "short" not in str(told.value).replace("too short", "")
