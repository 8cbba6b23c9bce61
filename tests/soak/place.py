"""What all clients of a soak share: the server, its directory, the table."""

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.content import Pool, Stream
from tests.soak.patching import HEAD
from tests.wire.fuzz_connection import WITHIN, Answer, Connection, Gone, Server, Wrong

PARKED = 40
"""Connections on which nothing happens any more; the server has to bear them."""


class Tally:
    """Counts, from all threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, what: str) -> None:
        """One more of it."""
        self.add(what, 1)

    def add(self, what: str, count: int) -> None:
        """So many more of it."""
        with self._lock:
            self._counts[what] += count

    def __getitem__(self, what: str) -> int:
        return self._counts[what]

    def rows(self) -> list[tuple[str, int]]:
        """All of it, by name."""
        return sorted(self._counts.items())


@dataclass
class Place:
    """See the module.

    Attributes:
        server: Where it is; its `lives` are odd while it is disturbed.
        upload_dir: Where it keeps what it gets.
        pool: What is sent.
        until: When no upload is begun any more, in `time.monotonic()`.
        share_of_large: How many uploads have 64 MiB.
        abandoned: Paths of uploads that nobody will finish, and when they expire at the earliest.
        failed: What went wrong.
    """

    server: Server
    upload_dir: Path
    pool: Pool
    until: float
    share_of_large: float
    tally: Tally = field(default_factory=Tally)
    abandoned: list[tuple[str, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _parked: deque[Connection] = field(default_factory=deque)

    @property
    def is_over(self) -> bool:
        """Whether what is under way is to be brought to its end."""
        return bool(self.failed) or time.monotonic() > self.until

    def stream(self, name: str) -> Stream:
        """The bytes of an attempt."""
        return Stream(self.pool, name)

    def files(self, path: str) -> Iterator[Path]:
        """The stored file of an upload, by the path of its URL."""
        return self.upload_dir.glob(f"data/*/{path.rpartition('/')[2]}")

    def park(self, connection: Connection) -> None:
        """Leaves a connection as it is, and ends one that was left so long ago."""
        self._parked.append(connection)
        if len(self._parked) > PARKED:
            self._parked.popleft().leave(random.choice(["close", "reset"]))

    def leave_all(self) -> None:
        """Ends the connections that are parked."""
        while self._parked:
            self._parked.popleft().leave("close")

    def ask(self, method: str, path: str, headers: str = "", body: bytes = b"") -> Answer | None:
        """One request on a connection of its own; None if that ended without an answer."""
        self.tally.count(method)
        connection = Connection(self.server)
        try:
            connection.expect(method)
            head = f"{method} {path} HTTP/1.1\r\n{HEAD}{headers}\r\n"
            connection.send(head.encode() + body, until=1)
            return connection.wait(1)
        finally:
            connection.leave("close")

    def ask_until(self, method: str, path: str, wants: set[int]) -> Answer:
        """As `ask`, again and again as long as the upload is busy.

        Raises:
            Gone: There was no answer.
            Wrong: There was another than those that are wanted, or the upload is busy for ever.
        """
        deadline = time.monotonic() + WITHIN
        while time.monotonic() < deadline:
            answer = self.ask(method, path)
            if answer is None:
                raise Gone
            if answer.status in wants:
                return answer
            # A HEAD that is answered 503 lets clients begin anew.
            is_ending = answer.status == 503 and method != "HEAD" and self.server.lives
            if answer.status != 423 and not is_ending:
                raise Wrong(f"{method} {path} was answered with {answer}")
            self.tally.count(f"{method}: {answer.status}")
            time.sleep(0.05)
        raise Wrong(f"{method} {path} is busy for {WITHIN} s")
