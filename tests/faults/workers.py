"""Kills, stops and continues workers under many uploads.

python -m tests.faults.workers --minutes M [--workers 4] [--uploads 200] [--seed N]

Each client sends one upload after the other, slowly and in pieces. It loses its connection when its
worker dies, leaves one hanging now and then, asks where the upload stands, and goes on there, by a
new connection to whichever worker takes it. What an upload holds is known beforehand. No answer may
tell of an offset below one that was told before, or beyond what was sent; each file is compared;
and no upload may be without progress for long, also while workers are killed. In the end the server
must stop in order. The exit status is 1 if any of this fails.
"""

import argparse
import asyncio
import contextlib
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.serving import Served, serving

STUCK_AFTER = 90.0
"""Seconds in which an upload must have got on; a stopped worker is dead long before."""

WORKER_TIMEOUT = 2.0
MOST = 600_000
FLAGS = ("--worker-timeout", "2s", "--acquire-lock-timeout", "5s", "--network-timeout", "30s")


class Wrong(Exception):
    """What must never be."""


@dataclass(frozen=True)
class Answer:
    """Of a server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def offset(self) -> int | None:
        found = self.headers.get("upload-offset")
        return None if found is None else int(found)


@dataclass
class Run:
    """What the clients share."""

    port: int
    seed: int
    until: float
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    left_behind: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.until or bool(self.wrong)


async def read_answer(reader: asyncio.StreamReader, *, has_body: bool = True) -> Answer:
    """One answer, to its end.

    Raises:
        OSError, EOFError, ValueError: There was none, or half of one.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    length = int(headers.get("content-length", "0")) if has_body else 0
    body = await reader.readexactly(length)
    return Answer(int(status_line.split()[1]), headers, body)


class Upload:
    """One upload, from its creation to the comparison."""

    def __init__(self, run: Run, number: int) -> None:
        self.run = run
        self.source = random.Random(f"{run.seed} {number}")
        self.content = self.source.randbytes(self.source.randrange(1, MOST))
        self.path = "/files/"
        self.told = 0
        self.sent = 0
        self.got_on_at = time.monotonic()

    async def send(self) -> None:
        """All of it.

        Raises:
            Wrong: It was not as promised.
        """
        length = {"Upload-Length": str(len(self.content))}
        created = await self.until_answered("POST", {201}, length)
        self.path = "/files/" + created.headers["location"].rpartition("/")[2]
        while self.told < len(self.content):
            found = await self.until_answered("HEAD", {200})
            self.check(found.offset)
            if self.told < len(self.content):
                with contextlib.suppress(OSError, EOFError, ValueError):
                    await self.patch()
        await self.compare()

    def check(self, offset: int | None) -> None:
        """An offset that the server told of."""
        if offset is None or not self.told <= offset <= self.sent:
            raise Wrong(f"{self.path}: {offset} was told after {self.told}, sent {self.sent}")
        if offset > self.told:
            self.got_on_at = time.monotonic()
            self.told = offset

    async def until_answered(
        self, method: str, statuses: set[int], headers: dict[str, str] | None = None
    ) -> Answer:
        """Asks as often as it takes; what is busy, or down for the moment, is asked again."""
        while True:
            status = 0
            with contextlib.suppress(OSError, EOFError, ValueError, TimeoutError):
                async with asyncio.timeout(20):
                    answer = await self.ask(method, headers or {})
                status = answer.status
                if status in statuses:
                    return answer
            if status not in (0, 423, 503):
                raise Wrong(f"{self.path}: {method} was answered with {status}")
            self.run.counts[f"{method} {status or 'lost'}"] += 1
            if time.monotonic() > self.got_on_at + STUCK_AFTER:
                raise Wrong(f"{self.path}: stuck at {self.told}: {method} {status or 'lost'}")
            await asyncio.sleep(self.source.uniform(0.05, 0.3))

    async def ask(self, method: str, headers: dict[str, str]) -> Answer:
        reader, writer = await self.connect(method, headers)
        try:
            return await read_answer(reader, has_body=method != "HEAD")
        finally:
            writer.close()

    async def connect(
        self, method: str, headers: dict[str, str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.run.port)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(
            f"{method} {self.path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n"
            f"Connection: close\r\n{lines}\r\n".encode()
        )
        return reader, writer

    async def patch(self) -> None:
        """Sends what is left, or a part of it and then leaves the connection hanging."""
        offset, rest = self.told, len(self.content) - self.told
        hangs_at = self.source.choice([None, offset + self.source.randrange(rest)])
        headers = {
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(offset),
            "Content-Length": str(rest),
        }
        reader, writer = await self.connect("PATCH", headers)
        answered = asyncio.create_task(self.watch(reader, writer))
        self.run.left_behind.add(answered)
        answered.add_done_callback(self.run.left_behind.discard)
        while offset < (len(self.content) if hangs_at is None else hangs_at):
            piece = self.content[offset : offset + self.source.randrange(1, 60_000)]
            offset += len(piece)
            self.sent = max(self.sent, offset)
            writer.write(piece)
            await writer.drain()
            await asyncio.wait({answered}, timeout=self.source.uniform(0, 0.1))
            if answered.done():
                return
        if hangs_at is None:
            await asyncio.wait({answered}, timeout=20)
        else:
            self.run.counts["left hanging"] += 1

    async def watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes the answer to a `PATCH`, however late it comes."""
        try:
            async with asyncio.timeout(60):
                answer = await read_answer(reader)
            self.run.counts[f"PATCH {answer.status}"] += 1
            if b"ERR_UPLOAD_INTERRUPTED" in answer.body:
                self.run.counts["hand-overs"] += 1
            if answer.status == 204 and answer.offset != len(self.content):
                raise Wrong(f"{self.path}: a whole PATCH was answered with {answer.offset}")
            if answer.status not in (204, 409, 423, 503, 408, 410):
                raise Wrong(f"{self.path}: PATCH was answered with {answer.status}")
        except (OSError, EOFError, ValueError, TimeoutError):
            self.run.counts["PATCH lost"] += 1
        except Wrong as wrong:
            self.run.wrong.append(str(wrong))
        finally:
            writer.close()

    async def compare(self) -> None:
        found = await self.until_answered("GET", {200})
        if found.body != self.content:
            digest = hashlib.sha256(found.body).hexdigest()
            raise Wrong(f"{self.path}: {len(found.body)} bytes differ, SHA-256 {digest}")
        self.run.counts["uploads"] += 1
        self.run.counts["bytes"] += len(self.content)
        await self.until_answered("DELETE", {204, 410})


async def client(run: Run, first: int, step: int) -> None:
    """Sends one upload after the other; the one that is under way in the end is sent to its end."""
    number = first
    while not run.is_over:
        try:
            await Upload(run, number).send()
        except Wrong as wrong:
            run.wrong.append(str(wrong))
        number += step


async def torment(run: Run, parent: int) -> None:
    """Kills and stops workers, one or two at a time."""
    source = random.Random(run.seed)
    while not run.is_over:
        await asyncio.sleep(source.uniform(0.3, 2.0))
        workers = [child.pid for child in psutil.Process(parent).children()]
        if not workers:
            continue
        with contextlib.suppress(ProcessLookupError):
            pid = source.choice(workers)
            if source.random() < 0.5:
                os.kill(pid, signal.SIGKILL)
                run.counts["kills"] += 1
                continue
            os.kill(pid, signal.SIGSTOP)
            run.counts["stops"] += 1
            await asyncio.sleep(source.uniform(0, 2 * WORKER_TIMEOUT))
            os.kill(pid, signal.SIGCONT)
            run.counts["continues"] += 1


async def all_clients(run: Run, uploads: int, parent: int) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(torment(run, parent))
        for first in range(uploads):
            group.create_task(client(run, first, uploads))
    for task in list(run.left_behind):
        task.cancel()
    await asyncio.gather(*run.left_behind, return_exceptions=True)


def judge(server: Served, run: Run) -> None:
    """How the server ends, and what it said."""
    status = server.stop()
    if status != 0:
        run.wrong.append(f"the server ended with status {status}")
    log = server.log.read_text()
    run.counts["killed by the parent"] = log.count("has not answered for")
    run.counts["replaced"] = log.count("another one takes its place")
    for line in log.splitlines():
        is_expected = "has not answered for" in line or "has not ended in time" in line
        if not is_expected and ("Traceback" in line or " ERROR " in line):
            run.counts["other errors in the log"] += 1
            print(line)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--uploads", type=int, default=200, help="at a time")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tusd-py-workers-"))
    flags = ("--workers", str(given.workers), *FLAGS)
    with serving(folder / "uploads", *flags) as server:
        until = time.monotonic() + given.minutes * 60
        run = Run(port=server.port, seed=given.seed, until=until)
        asyncio.run(all_clients(run, given.uploads, server.pid))
        judge(server, run)
    print(f"seed {given.seed}, {given.minutes} minutes, {given.uploads} uploads at a time")
    for name, count in sorted(run.counts.items()):
        print(f"{count:12,}  {name}")
    for wrong in run.wrong:
        print("WRONG:", wrong)
    print(f"{len(run.wrong):12,}  mismatches")
    if run.wrong:
        print(f"everything is left in {folder}")
    else:
        shutil.rmtree(folder)
    return bool(run.wrong)


if __name__ == "__main__":
    sys.exit(main())
