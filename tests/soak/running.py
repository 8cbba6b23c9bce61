"""A soak: clients, and somebody who kills the server; and what is left in the end."""

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests.serving import Served, serving
from tests.soak.content import Pool
from tests.soak.life import Expired, Life, Pieced
from tests.soak.place import Place
from tests.wire.fuzz_connection import WITHIN, Server, Wrong

SCRIPT = 80
"""Lines of the script that are kept of each client."""

GRACE = 10.0
"""Seconds by which an upload may expire later than was told: a request came that nobody saw end."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What kind of soak it is.

    Attributes:
        seed: Of all that is random.
        seconds: After which no upload is begun.
        clients: At the same time.
        kill_every: Seconds, about, between two disturbances of the server.
        expire_after: Seconds, for all uploads.
        fsync: As for `tusd-py serve`.
        workers: Likewise; 1 is its default.
        share_of_large: How many uploads have 64 MiB.
        env: For the server, see `tests.launch`.
    """

    seed: int
    seconds: float
    clients: int = 6
    kill_every: float = 6.0
    expire_after: int = 20
    fsync: str = "complete"
    workers: int = 1
    share_of_large: float = 0.01
    env: Mapping[str, str] = field(default_factory=dict)

    def flags(self) -> list[str]:
        """For the server. A client that stalls is let go soon, wherever it is."""
        flags = ["--fsync", self.fsync, "--expire-after", f"{self.expire_after}s"]
        flags += ["--network-timeout", "5s", "--shutdown-timeout", "6s", "--log-level", "warning"]
        return flags + (["--workers", str(self.workers)] if self.workers > 1 else [])


def soak(directory: Path, settings: Settings) -> Place:
    """A whole run: the counts, and what failed.

    Args:
        directory: For the server; what lies there is left as it is.
        settings: See there.
    """
    uploads = directory / "uploads"
    with serving(uploads, *settings.flags(), env=settings.env) as served:
        server = Server(port=served.port)
        server.is_up.set()
        place = Place(
            server=server,
            upload_dir=uploads,
            pool=Pool(f"{settings.seed}"),
            until=time.monotonic() + settings.seconds,
            share_of_large=settings.share_of_large,
        )
        clients = [
            threading.Thread(target=_client, args=(place, f"{settings.seed} {number}"))
            for number in range(settings.clients)
        ]
        for client in clients:
            client.start()
        _guarded(place, "the killer", lambda: _Killer(served, place, settings).run(clients))
        for client in clients:
            client.join()
        place.leave_all()
        if not place.failed:
            _guarded(place, "what was abandoned", lambda: _check_abandoned(place))
            _guarded(place, "what is finished", lambda: _check_finished(place))
        if served.process is not None and (status := served.stop()) != 0:
            place.failed.append(f"the server ended with {status}")
    if not place.failed:
        _guarded(place, "what is left", lambda: _check_directory(place, served))
    log = served.log.read_text()
    if "Traceback" in log:
        place.failed.append("a traceback: " + log[log.index("Traceback") :][:4000])
    return place


def _guarded(place: Place, who: str, act: Callable[[], object]) -> None:
    try:
        act()
    except Exception as error:
        place.failed.append(f"{who}: {type(error).__name__}: {error}")
        if not isinstance(error, AssertionError):
            raise


def _client(place: Place, seed: str) -> None:
    """One upload after the other."""
    number = 0
    while not place.is_over:
        number += 1
        script: deque[str] = deque(maxlen=SCRIPT)
        name = f"{seed} {number}"

        def note(line: str, script: deque[str] = script) -> None:
            script.append(f"{datetime.now(UTC):%H:%M:%S.%f} {line}")

        try:
            _upload(place, random.Random(name), name, note)
        except Expired:
            place.tally.count("uploads expired under their clients")
        except Exception as error:
            what = "\n".join([*script, f"{type(error).__name__}: {error}"])
            place.failed.append(f"client and upload {name!r}:\n{what}")
            if not isinstance(error, AssertionError):
                raise
            return


def _upload(place: Place, source: random.Random, name: str, note: Callable[[str], None]) -> None:
    kind = source.choices(["whole", "pieced", "terminated", "abandoned"], [70, 12, 10, 8])[0]
    note(f"{kind} upload {name!r}")
    if kind == "pieced":
        Pieced(place, source, name, note).run()
        place.tally.count("uploads concatenated")
        return
    life = Life(place, source, name, note)
    if kind == "whole":
        life.fill()
        life.compare()
        place.tally.count("uploads completed")
        life.terminate()
        return
    life.fill_somewhat()
    if kind == "terminated":
        life.terminate(while_sending=source.random() < 0.5)
    else:
        life.abandon()


class _Killer:
    """Disturbs the server now and then, as long as clients live."""

    def __init__(self, served: Served, place: Place, settings: Settings) -> None:
        self._served, self._place, self._every = served, place, settings.kill_every
        self._random = random.Random(settings.seed)
        self._acts: list[Callable[[], None]] = [self._kill, self._kill, self._end]
        if settings.workers > 1:
            self._acts += [self._kill_worker, self._kill_worker, self._stop_worker]

    def run(self, clients: list[threading.Thread]) -> None:
        """Returns when no client lives."""
        due = time.monotonic() + self._every / 2
        while any(client.is_alive() for client in clients):
            time.sleep(0.01)
            if time.monotonic() > due and not self._place.is_over:
                self._random.choice(self._acts)()
                due = time.monotonic() + self._every * self._random.uniform(0.5, 1.5)

    @contextmanager
    def _disturbed(self, what: str, *, is_down: bool) -> Iterator[None]:
        server = self._place.server
        self._place.tally.count(f"disturbances: {what}")
        if is_down:
            server.is_up.clear()
        server.lives += 1
        try:
            yield
        finally:
            server.lives += 1
            server.is_up.set()

    def _kill(self) -> None:
        with self._disturbed("server killed", is_down=True):
            self._served.restart()

    def _end(self) -> None:
        with self._disturbed("server ended by SIGTERM", is_down=True):
            status = self._served.stop()
            self._served.start()
        if status != 0:
            raise Wrong(f"the server ended with {status}")

    def _kill_worker(self) -> None:
        with self._disturbed("worker killed", is_down=False):
            self._worker().kill()
            time.sleep(0.5)

    def _stop_worker(self) -> None:
        with self._disturbed("worker stopped and continued", is_down=False):
            worker = self._worker()
            worker.suspend()
            time.sleep(self._random.uniform(0.2, 3.0))
            worker.resume()

    def _worker(self) -> psutil.Process:
        children = psutil.Process(self._served.pid).children()
        workers = [child for child in children if "resource_tracker" not in str(child.cmdline())]
        if not workers:
            raise Wrong("there is no worker")
        return self._random.choice(workers)


def _check_abandoned(place: Place) -> None:
    """What nobody came back to is gone when it is due, and not before."""
    for path, expires in place.abandoned:
        time.sleep(max(0.0, expires + GRACE - time.time()))
        place.ask_until("HEAD", path, {410})
        place.ask_until("GET", path, {404})
        place.tally.count("uploads expired when due")


def _check_finished(place: Place) -> None:
    """What has all its bytes is brought to its end by a server that runs, also after a kill."""
    deadline = time.monotonic() + WITHIN
    while begun := [key for key, (phase, _) in _rows(place).items() if phase == "finishing"]:
        if time.monotonic() > deadline:
            raise Wrong(f"nobody finishes {begun}")
        time.sleep(0.1)


def _check_directory(place: Place, served: Served) -> None:
    """After a sweep, the directory holds the files of complete uploads, and nothing else.

    There are some: those whose `POST` was answered after its client had gone.
    """
    for path in place.upload_dir.glob("data/*/*"):
        os.utime(path, (0, 0))  # a file without a row is set aside only when it is old
    command = [sys.executable, "-m", "tusd_py", "cleanup", "--upload-dir", str(place.upload_dir)]
    swept = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if swept.returncode != 0:
        raise Wrong(f"the sweep ended with {swept.returncode}: {swept.stderr}")
    # An upload that expired with all its bytes is not swept, but finished by the next server; which
    # also lets go of the bytes of whatever was terminated when the last one was killed.
    served.start()
    deadline = time.monotonic() + WITHIN
    while (odd := _odd(place)) and time.monotonic() < deadline:
        time.sleep(0.1)
    if (status := served.stop()) != 0:
        raise Wrong(f"the server ended with {status}")
    if odd:
        raise Wrong(f"{len(odd)} are left that should not be, as {odd[:5]}")
    place.tally.add("left: complete uploads that nobody knows", len(_rows(place)))
    place.tally.add("left: files set aside", len(list(place.upload_dir.glob("quarantine/*"))))


def _odd(place: Place) -> list[str]:
    """Uploads that are neither complete nor gone, and files that are not those of complete ones."""
    rows = _rows(place)
    there = {path.name: path.stat().st_size for path in place.upload_dir.glob("data/*/*")}
    found = [f"{key}: {phase} at {offset}" for key, (phase, offset) in rows.items()]
    found = [each for each in found if ": complete " not in each]
    complete = {key: offset for key, (_, offset) in rows.items()}
    return found + [f"{key}: a file of {size}" for key, size in there.items() ^ complete.items()]


def _rows(place: Place) -> dict[str, tuple[str, int]]:
    """Phases and offsets of the uploads that are not gone."""
    with closing(sqlite3.connect(place.upload_dir / "state/tusd-py.sqlite3")) as database:
        if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise Wrong("the database is broken")
        query = "SELECT id, phase, upload_offset FROM uploads"
        found = database.execute(query).fetchall()
    gone = ("terminated", "expired", "failed")
    return {key: (phase, offset) for key, phase, offset in found if phase not in gone}
