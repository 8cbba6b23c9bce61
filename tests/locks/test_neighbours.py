"""Hand-over between processes: real ones, which share one line of events."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

LONG = 60
"""Seconds that no test waits."""


class Company:
    """Processes on one folder of locks, and what happens in them, in its order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.events: list[str] = []
        self._seen: dict[str, str] = {}
        self._reads, self._writes = os.pipe()
        self._buffer = b""

    def start(self, *names: str) -> None:
        """Starts processes; each is there, and can be asked, when this returns."""
        for name in names:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.locks.program", str(self.folder), name],
                stdin=subprocess.PIPE,
                stdout=self._writes,
            )
        for name in names:
            self.wait(f"{name} - there")

    def tell(self, name: str, *words: object) -> None:
        """Gives a process a command."""
        stdin = self.processes[name].stdin
        assert stdin is not None
        stdin.write(" ".join(map(str, words)).encode() + b"\n")
        stdin.flush()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Sends a signal; one that stops, or kills, has done so when this returns."""
        process = self.processes[name]
        process.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitpid(process.pid, os.WUNTRACED)
        elif number == signal.SIGKILL:
            process.wait()

    def wait(self, *events: str, within: float = 20.0) -> str:
        """Waits for one of some events, unless it was seen already: all of its line."""
        deadline = time.monotonic() + within
        while True:
            for event in events:
                if event in self._seen:
                    return self._seen[event]
            left = deadline - time.monotonic()
            assert left > 0, f"none of {events} in {self.events}"
            if select.select([self._reads], [], [], left)[0]:
                *lines, self._buffer = (self._buffer + os.read(self._reads, 65_536)).split(b"\n")
                for line in lines:
                    event = line.decode()
                    self.events.append(event)
                    self._seen[event] = self._seen[event.rpartition(" ")[0]] = event

    def forget(self) -> None:
        """Lets the same events be waited for again."""
        self.events, self._seen = [], {}

    def happened(self, *without: str) -> list[str]:
        """The events but those of a start, and those that end with one of some words."""
        return [event for event in self.events if not event.endswith(("there", *without))]

    def sockets(self) -> list[Path]:
        """Of the processes that can be asked, or died."""
        return sorted(self.folder.glob("*.sock*"))

    def close(self) -> None:
        """Ends what is left."""
        for process in self.processes.values():
            process.kill()
            process.wait()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        os.close(self._reads)
        os.close(self._writes)


@pytest.fixture
def company(folder: Path) -> Iterator[Company]:
    made = Company(folder)
    yield made
    made.close()


def test_the_holder_is_asked_and_hands_over(company: Company) -> None:
    company.start("a", "b")
    company.tell("a", "polite", 1, "x", LONG)
    company.wait("a 1 has")
    company.tell("b", "hold", 2, "x", LONG)
    company.wait("b 2 has")
    assert company.happened() == ["a 1 has", "a 1 asked", "a 1 let-go", "b 2 has"]
    company.tell("b", "end", 2)
    company.wait("b 2 let-go")
    company.tell("a", "hold", 3, "x", LONG)
    company.wait("a 3 has")
    assert "b 2 asked" not in company.events
    assert "a 3 asked" not in company.events


def test_a_holder_that_goes_on_is_asked_once_and_waited_for(company: Company) -> None:
    company.start("a", "b", "c")
    company.tell("a", "hold", 1, "x", LONG)
    company.wait("a 1 has")
    company.tell("b", "polite", 2, "x", LONG)
    company.wait("a 1 asked")
    company.tell("c", "polite", 3, "x", LONG)
    company.tell("b", "polite", 4, "x", LONG)
    company.tell("b", "attempt", 5, "x")
    company.wait("b 5 refused")
    company.tell("c", "attempt", 6, "other")
    company.wait("c 6 has")
    company.tell("a", "end", 1)
    company.wait("b 4 has")
    company.wait("c 3 has")
    assert company.happened().count("a 1 asked") == 1
    order = company.happened()
    assert order.index("b 2 has") < order.index("b 4 has"), "the line of a process keeps its order"


def test_nobody_is_asked_for_another_lock(company: Company) -> None:
    company.start("a", "b")
    company.tell("a", "hold", 1, "x", LONG)
    company.tell("a", "hold", 2, "y", LONG)
    company.wait("a 2 has")
    company.tell("b", "hold", 3, "y", LONG)
    company.wait("a 2 asked")
    company.tell("a", "end", 2)
    company.wait("b 3 has")
    assert "a 1 asked" not in company.events


def test_who_got_it_while_others_wait_elsewhere_is_asked(company: Company) -> None:
    """The newest request is the one whose client is still there; it is not disturbed in turn."""
    company.start("a", "b", "c")
    for turn in range(20):
        company.tell("a", "hold", f"a{turn}", f"x{turn}", LONG)
        company.wait(f"a a{turn} has")
        for name in "bc":
            company.tell(name, "polite", turn, f"x{turn}", LONG)
            company.tell(name, "notice", "-")
        # Both wait, and know of each other: what one process says to another keeps its order.
        company.wait("b - noticed")
        company.wait("c - noticed")
        company.tell("a", "end", f"a{turn}")
        company.wait(f"b {turn} has")
        company.wait(f"c {turn} has")
        had = [event[0] for event in company.events if event.endswith(f" {turn} has")]
        assert f"{had[0]} {turn} asked" in company.events
        company.tell(had[1], "end", turn)
        company.wait(f"{had[1]} {turn} let-go")
        assert f"{had[1]} {turn} asked" not in company.events
        company.forget()


def test_many_who_ask_all_get_it(company: Company) -> None:
    """Four processes, five requests in each, for one upload: nobody is forgotten."""
    names = "abcd"
    company.start(*names)
    company.tell("a", "hold", 0, "x", LONG)
    company.wait("a 0 has")
    for request in range(1, 6):
        for name in names:
            company.tell(name, "polite", request, "x", LONG)
    company.tell("a", "end", 0)
    everybody = {f"{name} {request}" for name in names for request in range(1, 6)}

    def had() -> set[str]:
        return {event.removesuffix(" has") for event in company.events if event.endswith("has")}

    for one in everybody:
        # The last one is not asked, and holds it until it is told to end.
        company.wait(f"{one} has")
    assert had() >= everybody
    for name in names:
        line = [e for e in company.events if e.startswith(f"{name} ") and e.endswith("has")]
        assert line == sorted(line), "the line of a process keeps its order"
    holding = 0
    for event in company.happened("asked"):
        holding += {"has": 1, "let-go": -1}[event.rpartition(" ")[2]]
        assert holding <= 1, "two hold it"


def test_a_holder_that_is_killed(company: Company) -> None:
    company.start("a", "b", "c")
    company.tell("a", "hold", 1, "x", LONG)
    company.wait("a 1 has")
    company.tell("b", "hold", 2, "x", LONG)
    company.wait("a 1 asked")
    company.signal("a", signal.SIGKILL)
    company.wait("b 2 has")


def test_a_holder_that_is_stopped_keeps_it_until_it_is_killed(company: Company) -> None:
    company.start("a", "b")
    company.tell("a", "polite", 1, "x", LONG)
    company.wait("a 1 has")
    company.signal("a", signal.SIGSTOP)
    company.tell("b", "hold", 2, "x", 0.5)
    company.wait("b 2 refused")
    company.tell("b", "hold", 3, "x", LONG)
    company.tell("b", "hold", 4, "y", LONG)
    company.wait("b 4 has")
    assert company.happened() == ["a 1 has", "b 2 refused", "b 4 has"]
    company.signal("a", signal.SIGKILL)
    company.wait("b 3 has")


def test_a_holder_that_was_stopped_goes_on(company: Company) -> None:
    company.start("a", "b")
    company.tell("a", "polite", 1, "x", LONG)
    company.wait("a 1 has")
    company.signal("a", signal.SIGSTOP)
    company.tell("b", "hold", 2, "x", LONG)
    company.signal("a", signal.SIGCONT)
    company.wait("b 2 has")
    assert company.happened() == ["a 1 has", "a 1 asked", "a 1 let-go", "b 2 has"]


def test_a_word_that_a_stopped_process_has_no_room_for(company: Company) -> None:
    """Far more is wanted of it than its socket holds; none of it is lost when it goes on."""
    company.start("a", "b")
    company.tell("a", "polite", "last", "last", LONG)
    company.wait("a last has")
    company.signal("a", signal.SIGSTOP)
    company.tell("b", "hold", "first", "last", 0.2)
    company.wait("b first refused")
    company.start("c")
    for number in range(600):
        company.tell("c", "hold", number, f"key-{number}", LONG)
    company.wait("c 599 has")
    for number in range(600):
        company.tell("b", "polite", number, f"key-{number}", LONG)
    company.tell("b", "hold", "last", "last", LONG)
    for number in range(600):
        company.wait(f"c {number} asked")
        company.tell("c", "end", number)
    for number in range(600):
        company.wait(f"b {number} has")
        company.tell("b", "end", number)
    company.signal("a", signal.SIGCONT)
    company.wait("b last has")
    company.tell("a", "hold", "again", "key-599", LONG)
    company.wait("a again has")
    company.tell("b", "attempt", "again", "key-599")
    company.wait("b again refused")
    assert "a again asked" not in company.events, "nobody waits any more, as it was told"


@pytest.mark.parametrize("way", ["killed", "gives up", "too late"])
def test_an_asker_that_is_gone_is_not_waited_for(company: Company, way: str) -> None:
    company.start("a", "b", "c")
    company.tell("a", "hold", 1, "x", LONG)
    company.wait("a 1 has")
    company.tell("b", "hold", 2, "x", 0.3 if way == "too late" else LONG)
    company.wait("a 1 asked")
    if way == "killed":
        company.signal("b", signal.SIGKILL)
    elif way == "gives up":
        company.tell("b", "end", 2)
        company.wait("b 2 gone")
    else:
        company.wait("b 2 refused")
    if way != "killed":
        company.tell("b", "notice", "-")
        company.wait("a - noticed")
    company.tell("a", "end", 1)
    company.wait("a 1 let-go")
    company.tell("a", "hold", 3, "x", LONG)
    company.wait("a 3 has")
    company.tell("c", "hold", 4, "x", LONG)
    company.wait("a 3 asked")
    order = company.happened()
    assert order.index("a 3 has") < order.index("a 3 asked"), "nobody waited when it got it"
    company.tell("a", "end", 3)
    company.wait("c 4 has")


def test_an_asker_that_is_stopped_loses_its_turn(company: Company) -> None:
    """What was let go for it is taken by the next, and it goes on waiting when it goes on."""
    company.start("a", "b")
    company.tell("a", "hold", 1, "x", LONG)
    company.wait("a 1 has")
    company.tell("b", "hold", 2, "x", LONG)
    company.wait("a 1 asked")
    company.tell("a", "hold", 3, "x", LONG)
    company.signal("b", signal.SIGSTOP)
    company.tell("a", "end", 1)
    company.wait("a 3 has")
    company.wait("a 3 asked")
    company.tell("a", "end", 3)
    company.wait("a 3 let-go")
    company.signal("b", signal.SIGCONT)
    company.wait("b 2 has")


def test_a_process_that_starts_while_others_wait(company: Company) -> None:
    company.start("a", "b")
    company.tell("a", "hold", 1, "x", LONG)
    company.wait("a 1 has")
    company.tell("b", "hold", 2, "x", LONG)
    company.wait("a 1 asked")
    company.start("c")
    company.tell("c", "hold", 3, "x", LONG)
    company.tell("c", "notice", "-")
    company.wait("a - noticed")
    company.tell("a", "end", 1)
    company.wait("a 1 let-go")
    first = company.wait("b 2 has", "c 3 has")
    second = "c 3 has" if first == "b 2 has" else "b 2 has"
    name, request, _ = first.split()
    company.wait(f"{name} {request} asked")
    company.tell(name, "end", request)
    company.wait(second)


def test_a_holder_that_ends_in_order(company: Company) -> None:
    company.start("a", "b")
    company.tell("a", "hold", 1, "x", LONG)
    company.wait("a 1 has")
    company.tell("b", "hold", 2, "x", LONG)
    company.wait("a 1 asked")
    company.tell("a", "close", "-")
    company.wait("b 2 has")
    assert len(company.sockets()) == 1


def test_a_child_that_lives_on_hides_no_death(company: Company) -> None:
    """It inherits the connections: a process seems to be there as long as one of them is open."""
    company.start("a", "b", "c")
    company.tell("a", "hold", 1, "x", LONG)
    company.wait("a 1 has")
    company.tell("b", "hold", 2, "x", LONG)
    company.wait("a 1 asked")
    company.tell("a", "fork", "-")
    child = int(company.wait("a forked").split()[2])
    try:
        company.signal("a", signal.SIGKILL)
        company.wait("b 2 has")
    finally:
        os.kill(child, signal.SIGKILL)


def test_what_a_dead_process_leaves_is_removed(company: Company) -> None:
    company.start("a", "b", "c")
    assert len(company.sockets()) == 3
    assert {path.stat().st_mode & 0o777 for path in company.sockets()} == {0o600}
    company.signal("a", signal.SIGKILL)
    company.tell("b", "hold", 1, "x", LONG)
    company.wait("b 1 has")
    company.tell("c", "hold", 2, "x", LONG)
    company.wait("b 1 asked")
    deadline = time.monotonic() + 20
    while len(company.sockets()) > 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_socket_that_is_not_listening_yet_is_left_alone(company: Company) -> None:
    """A process that starts is between two system calls; it must not lose its name."""
    company.start("a", "b")
    starting = company.folder / "1-0.sock.new"
    folder = os.open(company.folder, os.O_PATH)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        # The whole name may have more than the 107 bytes that there is room for.
        other.bind(f"/proc/self/fd/{folder}/{starting.name}")
        os.close(folder)
        company.tell("a", "hold", 1, "x", LONG)
        company.wait("a 1 has")
        company.tell("b", "hold", 2, "x", 2.5)
        company.wait("b 2 refused")
    assert starting.exists()


def test_a_notice_reaches_all_neighbours(company: Company) -> None:
    company.start("a", "b", "c")
    company.tell("b", "notice", "-")
    company.wait("a - noticed")
    company.wait("c - noticed")
    assert "b - noticed" not in company.events


def test_a_folder_with_a_long_name(tmp_path: Path) -> None:
    """The name of a socket has room for 107 bytes."""
    company = Company(tmp_path / ("long" * 30) / "locks")
    try:
        company.start("a", "b")
        company.tell("a", "polite", 1, "x", LONG)
        company.wait("a 1 has")
        company.tell("b", "hold", 2, "x", LONG)
        company.wait("b 2 has")
    finally:
        company.close()
