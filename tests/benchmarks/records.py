"""A server that remembers very many uploads, and the removal of those that nobody finished.

The rows are copies of such as the server itself has made, so they have whatever its schema asks.
"""

import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.aside import beside
from tests.benchmarks.asking import creations, prepare, queries
from tests.benchmarks.cases import PEAK, WITHIN, Bench, Case, Column, Scale
from tests.benchmarks.link import Link, LoadFailed, Target, append, create
from tests.benchmarks.measuring import KIB, MIB, peak
from tests.benchmarks.meter import Figures
from tests.benchmarks.peers import OURS, Peer
from tests.benchmarks.servers import ROOT, folder, running
from tusd_py.storage.layout import Layout

_RECORDS = (
    Column(key="post_p50", heading="POST p50 ms", digits=2, ratio="many : this, POST p50"),
    Column(key="post_p99", heading="POST p99 ms", digits=2),
    Column(key="post_cpu", heading="POST CPU ms", digits=2, ratio="many : this, POST CPU"),
    Column(key="head_p50", heading="HEAD p50 ms", digits=2, ratio="many : this, HEAD p50"),
    Column(key="head_p99", heading="HEAD p99 ms", digits=2),
    Column(key="head_cpu", heading="HEAD CPU ms", digits=2, ratio="many : this, HEAD CPU"),
    Column(key="start", heading="started in s", digits=2),
    Column(key="state", heading="state MiB"),
    PEAK,
)
_CLEANUP = (
    Column(key="seconds", heading="seconds"),
    Column(key="cpu", heading="CPU s"),
    Column(key="each", heading="ms each", digits=2),
    Column(key="peak", heading="peak MiB", digits=0),
)
_OPEN_SHARE = 10
"""One in so many records is of an upload that has not begun; the others are complete."""

_CONTENT = b"x" * (4 * KIB)


def records(scale: Scale) -> Iterator[Case]:
    """POST and HEAD with few and with many uploads on record."""
    few, many = "few records", "many records"
    counts = {few: 2 * _OPEN_SHARE * scale.asked, many: scale.records}

    def measure(peer: Peer, bench: Bench) -> Figures:
        own = replace(peer, name=OURS)
        with folder(bench.disk) as uploads:
            return _ask(own, bench, uploads, counts[peer.name])

    yield Case(
        title=f"{counts[few]:,} (few) and {scale.records:,} (many) uploads on record, one client",
        servers=(few, many),
        measure=measure,
        columns=_RECORDS,
        reference=many,
        rounds=3,
        is_of_ours=True,
    )


def cleanup(scale: Scale) -> Iterator[Case]:
    """The removal of expired uploads."""

    def measure(peer: Peer, bench: Bench) -> Figures:
        with folder(bench.disk) as uploads:
            return _clean(peer, bench, uploads, scale.expired)

    yield Case(
        title=f"`tusd-py cleanup` of {scale.expired:,} expired uploads of 4 KiB, on disk",
        servers=(OURS,),
        measure=measure,
        columns=_CLEANUP,
        reference=OURS,
        rounds=1,
    )


def _state(uploads: Path) -> Path:
    return uploads / "state" / "tusd-py.sqlite3"


def _ask(peer: Peer, bench: Bench, uploads: Path, count: int) -> Figures:
    with running(peer, bench.home, uploads) as server:
        complete = prepare(server.target, 4 * KIB).rpartition("/")[2]
        begun = _begun(server.target, 0)
    ids = _multiply(_state(uploads), complete, begun, count, bench.scale.asked)
    with running(peer, bench.home, uploads) as server:
        paths = [server.target.path + upload_id for upload_id in ids]
        figures = beside(WITHIN, queries, server.target, paths)
        figures |= beside(WITHIN, creations, server.target, bench.scale.asked)
        figures |= {
            "start": server.started_in,
            "state": _state(uploads).stat().st_size / MIB,
            "peak": peak(server.target.pid),
        }
        return figures


def _begun(target: Target, received: int) -> str:
    """The id of an upload of 1 MiB of which some bytes are in."""
    with Link(target) as link:
        path = create(link, MIB)
        if received:
            append(link, path, 0, received)
    return path.rpartition("/")[2]


def _columns(connection: sqlite3.Connection) -> list[str]:
    return [str(row[1]) for row in connection.execute("PRAGMA table_info(uploads)")]


def _multiply(state: Path, complete: str, begun: str, count: int, asked: int) -> list[str]:
    """Copies two records until there are `count`, and gives ids of such as have not begun."""
    connection = sqlite3.connect(state)
    others = ", ".join(name for name in _columns(connection) if name != "id")
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
    with connection:
        for upload_id, rows in ((begun, count // _OPEN_SHARE), (complete, count)):
            rows -= count // _OPEN_SHARE if upload_id == complete else 0
            connection.execute(
                f"INSERT INTO uploads (id, {others}) {numbers} "
                f"SELECT lower(hex(randomblob(16))), {others} FROM n, uploads WHERE id = ?",
                (rows, upload_id),
            )
    found = connection.execute(
        "SELECT id FROM uploads WHERE phase = 'receiving' ORDER BY random() LIMIT ?", (asked,)
    )
    ids = [str(row[0]) for row in found]
    connection.close()
    return ids


def _clean(peer: Peer, bench: Bench, uploads: Path, count: int) -> Figures:
    with running(peer, bench.home, uploads) as server:
        kept = prepare(server.target, 4 * KIB).rpartition("/")[2]
        begun = _begun(server.target, len(_CONTENT))
    _expire(uploads, begun, count)
    begun_at = time.perf_counter()
    said, usage = _run(sys.executable, "-m", "tusd_py", "cleanup", "--upload-dir", str(uploads))
    seconds = time.perf_counter() - begun_at
    if f" {count} expired" not in said:
        raise LoadFailed(f"not {count} were removed: {said[-300:]}")
    left = [path.name for path in (uploads / "data").glob("*/*")]
    if sorted(left) != sorted({kept, begun}):
        raise LoadFailed(f"{len(left)} files are left")
    used = usage.ru_utime + usage.ru_stime
    figures = {"seconds": seconds, "cpu": used, "each": seconds * 1e3 / count}
    return figures | {"peak": usage.ru_maxrss / KIB}


def _run(*command: str) -> tuple[str, resource.struct_rusage]:
    """What a command said, and what it alone used."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return said.read().decode(errors="replace"), usage


def _expire(uploads: Path, begun: str, count: int) -> None:
    """Copies of an upload, with files of their own, whose time ran out an hour ago."""
    layout = Layout(uploads)
    connection = sqlite3.connect(_state(uploads))
    names = _columns(connection)
    (row,) = connection.execute("SELECT * FROM uploads WHERE id = ?", (begun,)).fetchall()
    upload = dict(zip(names, row, strict=True))
    where, _, _ = upload["placement"].rpartition(":")
    rows = []
    for _ in range(count):
        upload_id = os.urandom(16).hex()
        path = layout.file(upload_id)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_CONTENT)
        placement = f"{where}:{path.stat().st_ino}"
        changed = {"id": upload_id, "placement": placement, "expires_at": time.time() - 3600}
        rows.append(tuple((upload | changed).values()))
    with connection:
        marks = ", ".join("?" * len(names))
        connection.executemany(f"INSERT INTO uploads ({', '.join(names)}) VALUES ({marks})", rows)
    connection.close()
