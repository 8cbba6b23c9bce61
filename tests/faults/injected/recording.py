"""A server's system calls as strace saw them, in the order in which they began and ended.

A call of one thread that begins after a call of another one has ended stands behind it: strace sees
the end before the thread goes on.
"""

import codecs
import os
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from tests.faults.injected.served import WatchedServer
from tests.faults.injected.watch import Fault

TRACED = (
    "write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync,ftruncate,rename,renameat,renameat2,"
    "link,linkat,unlink,unlinkat,mkdir,mkdirat,openat,copy_file_range,fallocate"
)
_LINE = re.compile(r"(\d+) +([\d.]+) (.*)", re.S)
_BEGUN = re.compile(r"(\w+)\((.*) <(?:unfinished|detached) \.\.\.>", re.S)
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)", re.S)
_RESULT = re.compile(r"(.*)\) += (-?\d+|\?)(?:<.*>)?(?: .*)?", re.S)
_STRING = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
_ON_DESCRIPTOR = re.compile(r"(\d+)<(.*?)>(?:, (.*))?", re.S)
_DATA = re.compile(_STRING + r"(?:, (\d+))?(?:, (\d+))?", re.S)
_PATHS = re.compile(_STRING, re.S)
_COPIED = re.compile(r"\d+<(.*?)>, \[(\d+).*?\], \d+<(.*?)>, \[(\d+).*?\], \d+, 0", re.S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One call that was carried out, or was not over when the recording ended.

    Attributes:
        begun: Its line in the recording.
        ended: The line where its result stands; behind the last one if it has none.
        at: Seconds since the epoch when it began.
        result: What it returned, None if nothing.
    """

    begun: int
    ended: int
    at: float
    name: str
    arguments: str
    result: int | None

    @property
    def on(self) -> str:
        """The file that its descriptor stands for, empty where it has none."""
        found = _ON_DESCRIPTOR.match(self.arguments)
        return "" if found is None else found[2].removesuffix(" (deleted)")

    @property
    def paths(self) -> list[str]:
        """The paths that it names."""
        return [_decoded(text).decode() for text in _PATHS.findall(self.arguments)]

    @property
    def data(self) -> bytes:
        """The bytes that it writes, or sends."""
        found = _DATA.search(self.arguments)
        return b"" if found is None else _decoded(found[1])

    @property
    def number(self) -> int:
        """Its last argument."""
        return int(self.arguments.rpartition(", ")[2])

    def copied(self) -> tuple[str, int, str, int]:
        """Of `copy_file_range`: from where, and to where."""
        found = _COPIED.match(self.arguments)
        assert found is not None, self.arguments
        return found[1], int(found[2]), found[3], int(found[4])

    @property
    def answer(self) -> str | None:
        """The head of the response that it sends, if it begins one."""
        if (
            self.name not in ("write", "writev", "sendto", "sendmsg")
            or "<socket:" not in (self.arguments[:40])
        ):
            return None
        data = self.data
        return data.decode("latin-1") if data.startswith(b"HTTP/1.1 ") else None


def _decoded(text: str) -> bytes:
    data, _ = codecs.escape_decode(text.encode("latin-1"))
    assert isinstance(data, bytes)
    return data


def parse(text: str) -> list[Event]:
    """The events of a recording, in the order of their beginning."""
    lines = text.split("\n")
    waiting: dict[str, tuple[int, float, str, str]] = {}
    events: list[Event] = []
    for index, line in enumerate(lines):
        found = _LINE.fullmatch(line)
        if found is None or found[3].startswith("???"):
            continue  # a call of which strace saw no more than that its thread was gone
        thread, at, rest = found[1], float(found[2]), found[3]
        if resumed := _RESUMED.fullmatch(rest):
            begun, since, name, before = waiting.pop(thread)
            events.append(_event(begun, index, since, name, before + resumed[2]))
        elif rest.endswith((" <unfinished ...>", " <detached ...>")):
            begun_call = _BEGUN.fullmatch(rest)
            assert begun_call is not None, rest
            waiting[thread] = (index, at, begun_call[1], begun_call[2])
        elif rest[:1].isalpha():
            name, _, arguments = rest.partition("(")
            events.append(_event(index, index, at, name, arguments))
    for index, at, name, arguments in waiting.values():
        events.append(_event(index, len(lines), at, name, arguments + ") = ?"))
    return sorted(events, key=lambda event: event.begun)


def _event(begun: int, ended: int, at: float, name: str, rest: str) -> Event:
    found = _RESULT.fullmatch(rest)
    assert found is not None, f"{name}({rest[-200:]}"
    result = None if found[2] == "?" else int(found[2])
    return Event(begun=begun, ended=ended, at=at, name=name, arguments=found[1], result=result)


@dataclass
class RecordedServer(WatchedServer):
    """A server under strace.

    Attributes:
        ready: Lines of the recording when the server said its URL.
    """

    ready: int = 0

    def start(self, fault: Fault | None = None) -> None:
        """See `WatchedServer.start`."""
        super().start(fault)
        self.ready = self.recording.read_bytes().count(b"\n")

    @property
    def recording(self) -> Path:
        """Where strace writes."""
        return self.upload_dir.with_name("recording")

    def command(self) -> list[str]:
        """See `WatchedServer.command`."""
        strace = ["/usr/bin/env", "strace", "-f", "-qq", "-y", "-ttt", "-s", str(1 << 22)]
        return [*strace, "-e", f"trace={TRACED}", "-e", "signal=none", "-o", str(self.recording),
                *super().command()]  # fmt: skip

    def end(self) -> list[Event]:
        """Kills the server, not strace: what it recorded."""
        assert self.process is not None
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        self.bury()
        return parse(self.recording.read_text("latin-1"))


def why_not() -> str | None:
    """Why nothing can be recorded here, None if it can."""
    return None if shutil.which("strace") else "strace is not there (Debian's package strace)"
