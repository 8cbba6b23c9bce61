"""The benchmarks themselves: that their numbers are there, and that they notice lost bytes."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from tests.benchmarks.cases import TINY, Bench, Case
from tests.benchmarks.measuring import MIB
from tests.benchmarks.peers import (
    BARE,
    BOTO3,
    HERE,
    OURS,
    STARLETTE,
    NotHere,
    Peer,
    catalogue,
)
from tests.benchmarks.plot import write_plots
from tests.benchmarks.report import markdown, write_json
from tests.benchmarks.rounds import Table, run
from tests.benchmarks.scenarios import SCENARIOS
from tests.benchmarks.servers import MEMORY, folder
from tests.storage.s3_servers import CEPH_PROGRAMS, missing

pytestmark = pytest.mark.skipif(not MEMORY.is_dir(), reason="there is no /dev/shm")

TRIO = (BARE, STARLETTE, OURS)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Everything of one test, removed after it."""
    with folder(MEMORY) as memory:
        yield Bench(home=tmp_path / "home", disk=tmp_path / "disk", memory=memory, scale=TINY)


def measured(case: Case, bench: Bench, peers: dict[str, Peer]) -> Table:
    """One round with those servers of a case that are given."""
    if not case.is_of_ours:
        case = replace(case, servers=tuple(name for name in case.servers if name in peers))
    return run(case, bench, peers, 1, print)


def chosen(*names: str) -> dict[str, Peer]:
    """Some of the servers that need no network to install."""
    return {name: peer for name, peer in catalogue(None).items() if name in names}


@pytest.mark.parametrize("name", ["big", pytest.param("small", marks=pytest.mark.long)])
def test_every_server_of_the_trio_gets_its_numbers(bench: Bench, name: str) -> None:
    """An empty cell would let a regression pass for a missing peer."""
    case = next(SCENARIOS[name](TINY))
    table = measured(case, bench, chosen(*TRIO))
    for row in table.rows:
        assert (row.missing, row.failed) == (None, None)
        assert all(row.rounds[0][column.key] > 0 for column in case.columns), row
    lines = markdown(table).splitlines()
    assert len([line for line in lines if " x |" in line]) == len(TRIO) - 1, "ratios to ours"


LONG = {
    "listeners",
    "records",
    "s3-memory",
    "s3-speed-limits",
    "s3-stalled",
    "siege",
    "slow",
    "speed-limits",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] * (name in LONG))
        for name in sorted(SCENARIOS.keys() - {"big", "chunks", "four", "small", "s3"})
    ],
)
def test_our_server_can_be_measured(bench: Bench, name: str) -> None:
    """Each of these knows something of our server that can change: its schema, files, answers."""
    need_store(name)
    *_, case = SCENARIOS[name](TINY)
    rows = measured(case, bench, chosen(OURS)).rows
    for row in rows:
        assert (row.missing, row.failed) == (None, None)
    # Where nobody listens, nobody is told anything.
    assert {column.key for column in case.columns} <= {*chain(*(row.rounds[0] for row in rows))}
    if name.endswith("speed-limits"):
        assert all(row.rounds[0]["ratio"] < 2 for row in rows), "without a limit it is far above"


def need_store(name: str) -> None:
    if name.startswith("s3") and (lacking := missing(CEPH_PROGRAMS)):
        pytest.skip(f"no S3 server to measure on: {', '.join(lacking)} not installed")


@pytest.mark.long
def test_a_bucket_is_measured_beside_a_client_without_a_server(bench: Bench) -> None:
    """What a server costs that does nothing is what that client costs."""
    need_store("s3")
    table = measured(next(SCENARIOS["s3"](TINY)), bench, chosen(BOTO3, OURS))
    for row in table.rows:
        assert (row.missing, row.failed) == (None, None)
        assert all(row.rounds[0][column.key] > 0 for column in table.case.columns), row


@pytest.mark.long
def test_an_object_of_other_bytes_is_an_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_store("s3")
    monkeypatch.setattr("tests.benchmarks.bucket.block", lambda: memoryview(bytes(MIB)))
    (row,) = measured(next(SCENARIOS["s3"](TINY)), bench, chosen(OURS)).rows
    assert "0 objects are whole of 1" in str(row.failed)


def test_a_server_that_loses_bytes_is_an_error(bench: Bench, tmp_path: Path) -> None:
    """Who stores nothing is fast: such a row must not be compared with."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = str(HERE / "served" / "bare.py")
    liar = Peer(
        name=BARE, command=lambda _, port, __: [sys.executable, script, str(port), str(elsewhere)]
    )
    for name in ("big", "small"):
        (row,) = measured(next(SCENARIOS[name](TINY)), bench, {BARE: liar}).rows
        assert "files are whole of" in str(row.failed)


def test_bytes_that_are_not_those_sent_are_an_error(bench: Bench, tmp_path: Path) -> None:
    """The right size is not enough."""
    script = tmp_path / "corrupting.py"
    source = (HERE / "served" / "bare.py").read_text()
    script.write_text(source.replace("os.pwrite(fd, body,", "os.pwrite(fd, bytes(len(body)),"))
    wrong = Peer(
        name=BARE, command=lambda _, port, to: [sys.executable, str(script), str(port), str(to)]
    )
    (row,) = measured(next(SCENARIOS["big"](TINY)), bench, {BARE: wrong}).rows
    assert "0 files are whole of 1" in str(row.failed)


def test_a_server_that_is_not_here_is_told_with_its_reason(bench: Bench) -> None:
    """A table without tusd has to say why, and be a table still."""

    def install(_: Path) -> None:
        raise NotHere("go is not on this machine")

    absent = Peer(name=STARLETTE, command=lambda *_: [], install=install)
    peers = chosen(BARE) | {STARLETTE: absent}
    text = markdown(measured(next(SCENARIOS["big"](TINY)), bench, peers))
    assert "- starlette: go is not on this machine" in text


def test_the_figures_are_written_as_json_and_as_plots(bench: Bench, tmp_path: Path) -> None:
    """What a later run is compared with."""
    tables = [measured(case, bench, chosen(BARE)) for case in SCENARIOS["connections"](TINY)]
    write_json(tables, tmp_path / "figures.json")
    (found,) = json.loads((tmp_path / "figures.json").read_text())["tables"]
    assert found["rows"][0]["rounds"][0]["cpu"] > 0
    (plot,) = write_plots(tables, tmp_path)
    assert "bare</text>" in plot.read_text()
