"""A process with locks that does what it is told: `python -m tests.locks.program FOLDER NAME`.

It reads commands from stdin and writes what happens to stdout, one line each, `NAME REQUEST WHAT`.
Several may share one stdout, whose order is the order of what happened.

    hold REQUEST KEY WITHIN     has, asked (the holder is to stop), let-go, refused
    polite REQUEST KEY WITHIN   the same, but it ends by itself when it is asked
    attempt REQUEST KEY         has, let-go, refused
    end REQUEST                 lets go, or gives up waiting: gone
    notice -                    to all neighbours; one that hears it says `- noticed`
    fork -                      a child is there that lives on: `forked PID`
    close -                     ends in order: `- closed`
"""

import asyncio
import os
import signal
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import uvloop

from tusd_py.body import Reason
from tusd_py.locks.host import HostLocks
from tusd_py.locks.local import LocalLocks
from tusd_py.locks.neighbours import Neighbours
from tusd_py.protocol.errors import UploadLocked


class Program:
    """What runs in the process."""

    def __init__(self, folder: Path, name: str) -> None:
        self._name = name
        self._host = HostLocks(folder)
        self._neighbours = Neighbours(folder)
        self._locks = LocalLocks(self._host, self._neighbours)
        self._neighbours.on_notice = lambda: self._say("-", "noticed")
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def run(self) -> None:
        """Does what it is told, until stdin ends."""
        self._neighbours.open()
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        self._say("-", "there")
        async for line in lines:
            self._obey(*line.decode().split())
            await asyncio.sleep(0)  # it begins before the next one does

    def _say(self, request: str, what: str) -> None:
        os.write(1, f"{self._name} {request} {what}\n".encode())

    def _obey(self, word: str, request: str, key: str = "", within: str = "0") -> None:
        if word == "end":
            self._ends[request].set()
            if self._tasks[request].get_name() == "waits":
                self._tasks[request].cancel()
        elif word == "notice":
            self._neighbours.give_notice()
        elif word == "fork":
            self._fork()
        elif word == "close":
            self._host.close()
            self._neighbours.close()
            self._say("-", "closed")
        else:
            end = self._ends[request] = asyncio.Event()

            def asked(_: Reason) -> None:
                self._say(request, "asked")
                if word == "polite":
                    end.set()

            held = (
                self._locks.attempt(key)
                if word == "attempt"
                else self._locks.hold(key, within=float(within), on_contended=asked)
            )
            self._tasks[request] = asyncio.create_task(self._hold(request, held), name="waits")

    async def _hold(self, request: str, held: AbstractAsyncContextManager[None]) -> None:
        try:
            async with held:
                self._tasks[request].set_name("has")
                self._say(request, "has")
                await self._ends[request].wait()
                self._say(request, "let-go")
        except UploadLocked:
            self._say(request, "refused")
        except asyncio.CancelledError:
            self._say(request, "gone")
            raise

    def _fork(self) -> None:
        child = os.fork()
        if child == 0:
            signal.pause()
        self._say("forked", str(child))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Program(Path(sys.argv[1]), sys.argv[2]).run())
