"""Watches the system calls of one process, and lets one of them be its last, or fail.

The rules:
- A watched call waits in the kernel until it is answered here, so whatever is found out about it
  (whose file, which path) is true, and calls are counted one after the other over all threads.
- A call that is the process's last is not carried out: SIGKILL ends the wait.
- Only calls on files below the roots count.
"""

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.injected.calls import NUMBERS, Call, read_call

_LISTENER = Path(__file__).with_name("listener.py")
_RECEIVE, _SEND, _ADD_DESCRIPTOR = 0xC0502100, 0xC0182101, 0x40182103
_NOTIFICATION = struct.Struct("QIIiIQ6Q")
_ANSWER = struct.Struct("QqiI")
_DESCRIPTOR = struct.Struct("QIIII")
_CARRY_OUT, _AS_ANSWER = 1, 2
_WITHIN = 20.0


def every_change(call: Call) -> bool:
    """Whether a call changes or syncs something on the disk."""
    return call.changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens at a call.

    Attributes:
        at: Which one of those that `counts` holds for, from 1.
        error: Its number, such as `errno.ENOSPC`; None for a SIGKILL.
        lasting: Whether all that come behind it fail too.
        counts: Which calls are meant.
    """

    at: int
    error: int | None = None
    lasting: bool = False
    counts: Callable[[Call], bool] = every_change


class Watch:
    """Of one process, from its start to its end.

    Args:
        roots: Folders whose calls count.
        instead: Files that the process gets when it opens others, by path.

    Attributes:
        count: Calls that counted since `arm`.
        struck: What a fault happened to since `arm`, in order.
    """

    def __init__(self, *roots: Path, instead: Mapping[str, Path] | None = None) -> None:
        self.count = 0
        self.struck: list[Call] = []
        self._roots = tuple(str(root) for root in roots)
        self._instead = instead or {}
        self._fault: Fault | None = None
        self._has_killed = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[str] | None = None

    def start(self, command: Sequence[str], **popen: Any) -> subprocess.Popen[str]:
        """Starts the process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        numbers = ",".join(map(str, NUMBERS.values()))
        head = [sys.executable, "-I", "-S", str(_LISTENER), str(theirs.fileno()), numbers]
        with ours, theirs:
            process = subprocess.Popen(
                [*head, *command], text=True, pass_fds=(theirs.fileno(),), **popen
            )
            theirs.close()
            ours.settimeout(_WITHIN)
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        if not descriptors:
            process.kill()
            process.wait()
            raise OSError(errno.ENOSYS, "no notifications of system calls are to be had here")
        self._process = process
        self._thread = threading.Thread(target=self._run, args=(descriptors[0],), daemon=True)
        self._thread.start()
        return process

    def arm(self, fault: Fault) -> None:
        """Counts anew, and lets this happen when it is time."""
        with self._lock:
            self.count, self.struck, self._fault = 0, [], fault

    def disarm(self) -> None:
        """Lets every call pass from now on."""
        with self._lock:
            self._fault = None

    @property
    def has_killed(self) -> bool:
        """Whether the process is dead, or about to be."""
        with self._lock:
            return self._has_killed

    def join(self) -> None:
        """Waits until nothing of the process is left."""
        assert self._thread is not None, "not started"
        self._thread.join(_WITHIN)
        assert not self._thread.is_alive(), "a process of a killed server lives on"

    def _run(self, listening: int) -> None:
        poll = select.poll()
        poll.register(listening, select.POLLIN)
        try:
            while all(event & select.POLLIN for _, event in poll.poll()):
                try:
                    self._answer_next(listening)
                except FileNotFoundError:
                    continue  # whoever called was killed meanwhile
        finally:
            os.close(listening)

    def _answer_next(self, listening: int) -> None:
        told = bytearray(_NOTIFICATION.size)
        fcntl.ioctl(listening, _RECEIVE, told)
        key, tid, _, number, _, _, *arguments = _NOTIFICATION.unpack(told)
        call = read_call(tid, number, tuple(arguments))
        if call.name == "openat" and call.paths[0] in self._instead:
            self._give(listening, key, self._instead[call.paths[0]])
            return
        fault = self._decide(call)
        if fault is None:
            answer = _ANSWER.pack(key, 0, 0, _CARRY_OUT)
        elif fault.error is not None:
            answer = _ANSWER.pack(key, 0, -fault.error, 0)
        else:
            assert self._process is not None
            os.kill(self._process.pid, signal.SIGKILL)
            return
        fcntl.ioctl(listening, _SEND, bytearray(answer))

    def _give(self, listening: int, key: int, path: Path) -> None:
        with path.open("rb") as file:
            given = _DESCRIPTOR.pack(key, _AS_ANSWER, file.fileno(), 0, os.O_CLOEXEC)
            fcntl.ioctl(listening, _ADD_DESCRIPTOR, bytearray(given))

    def _decide(self, call: Call) -> Fault | None:
        with self._lock:
            fault = self._fault
            if fault is None or not self._is_below(call) or not fault.counts(call):
                return None
            self.count += 1
            if self.count < fault.at or (self.count > fault.at and not fault.lasting):
                return None
            self.struck.append(call)
            self._has_killed = self._has_killed or fault.error is None
            return fault

    def _is_below(self, call: Call) -> bool:
        return any(path.startswith(root) for path in call.paths for root in self._roots)


def why_not() -> str | None:
    """Why nothing can be watched here, None if it can."""
    if not NUMBERS:
        return f"the numbers of system calls are not known for {os.uname().machine}"
    try:
        watch = Watch()
        process = watch.start(["/bin/true"])
        status = process.wait(_WITHIN)
        watch.join()
    except OSError as error:
        return f"seccomp does not notify here: {error}"
    return None if status == 0 else f"seccomp does not notify here: status {status}"
