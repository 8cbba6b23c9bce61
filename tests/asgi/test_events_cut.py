"""Those who listen over lines that break at any moment: they miss nothing, and hear it once."""

import itertools
import json
import random
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from websockets.sync.client import connect

from tests.interop.plain_http import TUS, append, asked, create
from tests.serving import Served, eventually, serving

WITHIN = 60.0
LENGTH = 10
UPLOADS = 5
CLIENTS = 4


class Heard(NamedTuple):
    """An event that has an id."""

    id: str
    name: str
    upload: str


Line = Callable[[Served, str, int | None], Iterator[Heard]]
"""One connection, given the last id that was heard, and after how much it breaks."""


def stream(server: Served, last_id: str, cut: int | None) -> Iterator[Heard]:
    """It breaks after so many bytes."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    url = server.url.replace("/files/", "/events")
    with (
        httpx.Client(trust_env=False, timeout=WITHIN) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        assert response.status_code == 200
        text, left = b"", cut
        for piece in response.iter_bytes():
            *frames, text = (text + piece[:left]).split(b"\n\n")
            for frame in frames:
                lines = frame.decode().splitlines()
                fields = dict(line.split(": ", 1) for line in lines if ": " in line)
                if "id" in fields:
                    yield heard(fields["id"], fields["event"], json.loads(fields["data"]))
            if left is not None:
                left -= len(piece)
                if left <= 0:
                    return


def websocket(server: Served, last_id: str, cut: int | None) -> Iterator[Heard]:
    """It breaks after so many messages."""
    url = server.url.replace("http:", "ws:").replace("/files/", f"/events?last_event_id={last_id}")
    with connect(url, proxy=None, open_timeout=WITHIN) as connection:
        for number in itertools.count():
            if number == cut:
                with suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)
                return
            message = json.loads(connection.recv(WITHIN))
            if message["event_id"] is not None:
                yield heard(message["event_id"], message["event"], message["data"])


def heard(event_id: str, name: str, data: dict[str, object]) -> Heard:
    return Heard(event_id, name, str(data.get("id", "")))


class Listener:
    """Listens until an upload is terminated, in a thread.

    Args:
        threads: One of them.
        server: To what.
        line: How.
        cuts: After how much the line breaks each time; None where it does not.

    Attributes:
        found: What was heard.
        lines: How many broke.
    """

    def __init__(
        self, threads: ThreadPoolExecutor, server: Served, line: Line, cuts: Iterator[int] | None
    ) -> None:
        self.found: list[Heard] = []
        self.lines = 0
        self.last = ""
        self._server, self._line, self._cuts = server, line, cuts
        self._done = threads.submit(self._listen)

    def ends(self) -> list[Heard]:
        """Waits for the end: all that was heard."""
        self._done.result(WITHIN)
        return self.found

    def _listen(self) -> None:
        while not self._is_done():
            # The first line breaks behind the first id: there is nothing to go on from before.
            cut = None if self._cuts is None or not self.found else next(self._cuts)
            self.lines += 1
            for event in self._line(self._server, self.found[-1].id if self.found else "", cut):
                self.found.append(event)
                if self._is_done() or (self._cuts is not None and len(self.found) == 1):
                    break

    def _is_done(self) -> bool:
        return bool(self.found) and self.found[-1][1:] == ("terminated", self.last)


def send_some(server: Served) -> None:
    """Uploads with all that can happen to one."""
    for number in range(UPLOADS):
        url = create(server.url, LENGTH)
        assert append(url, 0, b"12345").status_code == 204
        if number % 2:
            wished = url.replace("/files/", "/api/uploads/")
            for paused in (True, False):
                assert httpx.put(wished, json={"paused": paused}, trust_env=False).is_success
        if number % 3:
            assert append(url, 5, b"67890").status_code == 204
        if number % 4 == 0:
            assert asked("DELETE", url, TUS).status_code == 204


@pytest.mark.parametrize(("line", "longest"), [(stream, 6000), (websocket, 10)])
def test_who_comes_back_has_missed_nothing(tmp_path: Path, line: Line, longest: int) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    with (
        serving(tmp_path / "uploads", "--workers", "2") as server,
        ThreadPoolExecutor(CLIENTS + 2) as threads,
    ):
        cuts = (chance.randrange(longest) for _ in itertools.count())
        steady = Listener(threads, server, line, None)
        broken = Listener(threads, server, line, cuts)
        eventually("they do not listen", lambda: steady.found and broken.found)
        for each in [threads.submit(send_some, server) for _ in range(CLIENTS)]:
            each.result(WITHIN)
        url = create(server.url, LENGTH)
        steady.last = broken.last = url.rpartition("/")[2]
        assert asked("DELETE", url, TUS).status_code == 204
        expected = steady.ends()
        assert broken.ends() == expected
        assert len({event.id for event in expected}) == len(expected)
        names = {event.name for event in expected}
        assert names == {"ready", "created", "paused", "resumed", "finished", "terminated"}
        assert broken.lines > 10
