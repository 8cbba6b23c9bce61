"""What the user sees, with and without a terminal."""

import io
import json
import re
import sys

import pytest

from tusd_py.client.errors import Refused, Unreachable
from tusd_py.client.report import Report
from tusd_py.client.sending import Sent

SENT = Sent(file="a[b]", url="http://x/[red]1", size=10, seconds=1.0, resumed_from=4, sent=6)


class Screen(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        return True


def _screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Not a fixture: pytest puts its own stderr in place when the test itself begins."""
    screen = Screen()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def _text(screen: Screen) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())


def test_a_terminal_shows_how_far_a_file_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = _screen(monkeypatch)
    report = Report()
    with report.shown(1, 4096), report.sending("a[b]", 4096) as meter:
        meter.placed(1024)
        meter.moved(2048)
        meter.placed(-1024)
        meter.moved(1024)
        report.finished(SENT)
    assert re.search(r"a\[b\].*3\.0/4\.0 KiB", _text(screen))
    assert capsys.readouterr().out == "http://x/[red]1\n", "stdout has the URL and nothing else"


def test_what_was_there_before_is_shown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _screen(monkeypatch)
    report = Report()
    with report.shown(1, 4096), report.sending("a", 4096) as meter:
        meter.placed(1024)
    assert re.search(r"a .*1\.0/4\.0 KiB", _text(screen))


def test_many_files_have_one_bar_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _screen(monkeypatch)
    report = Report()
    with report.shown(2, 4096):
        with report.sending("first", 1024) as meter:
            meter.moved(1024)
        with report.sending("-", None) as meter:
            meter.moved(2048)
    text = _text(screen)
    assert re.search(r"2 files.*3\.0/4\.0 KiB", text)
    assert "first" not in text.splitlines()[-1]


def test_messages_and_urls_go_above_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _screen(monkeypatch)
    monkeypatch.setattr(sys, "stdout", screen)
    report = Report()
    with report.shown(1, 10), report.sending("a", 10):
        report.waiting("a[b]", Unreachable("[Errno 111] refused"))
        report.finished(SENT)
    shown = [line.strip() for line in _text(screen).splitlines()]
    assert "a[b]: [Errno 111] refused; trying again" in shown
    assert "http://x/[red]1" in shown


@pytest.mark.parametrize("quiet", [False, True])
def test_without_a_terminal_or_when_quiet_there_is_no_progress(
    monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    stderr = Screen() if quiet else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    report = Report(quiet=quiet)
    with report.shown(2, 10), report.sending("a", 10) as meter:
        meter.moved(5)
        meter.placed(5)
        report.failed("a", Refused(413, "ERR_X: too large"))
    assert stderr.getvalue() == "a: the server answered 413: ERR_X: too large\n"


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(as_json=True)
    report.finished(SENT)
    report.finished(SENT)
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert json.loads(first) == {
        "file": "a[b]",
        "url": "http://x/[red]1",
        "size": 10,
        "seconds": 1.0,
        "resumed_from": 4,
        "sent": 6,
    }
