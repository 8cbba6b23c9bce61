"""What a measurement is: a case, its columns, and how large it is run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measuring import GIB, KIB, MIB
from tests.benchmarks.meter import Figures
from tests.benchmarks.peers import Peer

WITHIN = 600.0
"""Seconds that a client may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is sent, in bytes and counts."""

    big: int = 2 * GIB
    chunked: int = GIB
    each_of_four: int = 256 * MIB
    file: int = 16 * KIB
    files: int = 2_000
    digested: int = 512 * MIB
    slow: int = 2_000
    slow_seconds: float = 20.0
    held: int = 9_000
    listeners: int = 1_000
    listened_seconds: float = 20.0
    besieging: tuple[int, int] = (10_000, 1_000)
    besieged_seconds: float = 40.0
    memory: int = 10 * GIB
    download: int = 2 * GIB
    ranges: int = 64
    records: int = 1_000_000
    expired: int = 100_000
    asked: int = 500
    largest: int = GIB
    crowds: tuple[int, ...] = (1, 10, 100, 500, 1_000, 2_000)
    bucket: int = 2 * GIB
    each_in_bucket: int = GIB
    large_in_bucket: int = 10 * GIB
    speeds: int = 11
    limited_seconds: float = 10.0
    rounds: int = 5


FULL = Scale()
QUICK = Scale(
    big=256 * MIB,
    chunked=256 * MIB,
    each_of_four=64 * MIB,
    files=400,
    digested=128 * MIB,
    slow=500,
    slow_seconds=5.0,
    held=2_000,
    listeners=200,
    listened_seconds=5.0,
    besieging=(2_000, 200),
    besieged_seconds=10.0,
    memory=GIB,
    download=256 * MIB,
    ranges=16,
    records=100_000,
    expired=5_000,
    asked=200,
    largest=64 * MIB,
    crowds=(1, 10, 100, 500),
    bucket=256 * MIB,
    each_in_bucket=64 * MIB,
    large_in_bucket=GIB,
    rounds=1,
)
TINY = Scale(
    big=4 * MIB,
    chunked=12 * MIB,
    each_of_four=MIB,
    files=16,
    digested=MIB,
    slow=20,
    slow_seconds=1.0,
    held=20,
    listeners=10,
    listened_seconds=1.0,
    besieging=(20, 5),
    besieged_seconds=1.0,
    memory=4 * MIB,
    download=20 * MIB,
    ranges=2,
    records=500,
    expired=50,
    asked=10,
    largest=16 * KIB,
    crowds=(4,),
    bucket=20 * MIB,
    each_in_bucket=6 * MIB,
    large_in_bucket=20 * MIB,
    speeds=1,
    limited_seconds=2.0,
    rounds=1,
)
"""For the test of the benchmarks themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where things lie, and how much is sent.

    Attributes:
        home: Where the servers are installed.
        disk: A folder on a disk.
        memory: A folder in memory.
        scale: How much.
    """

    home: Path
    disk: Path
    memory: Path
    scale: Scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A number of the table.

    Attributes:
        key: Its name among the figures.
        heading: With its unit.
        digits: Behind the point.
        ratio: Heading of the column in which ours is divided by this one, or None for no such
            column.
    """

    key: str
    heading: str
    digits: int = 1
    ratio: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One table.

    Attributes:
        title: What was done.
        servers: Names of those that it is for, in the order of the rows.
        measure: Starts a server and loads it: once for each server in each round.
        columns: What to show.
        reference: The row that the others are compared with.
        rounds: At most so many, None for as many as asked for.
        is_of_ours: Whether its rows are states of our own server, and not servers.
        at: Where it stands on an axis of the plot: the name of the axis, and the value.
    """

    title: str
    servers: tuple[str, ...]
    measure: Callable[[Peer, Bench], Figures]
    columns: tuple[Column, ...]
    reference: str
    rounds: int | None = None
    is_of_ours: bool = False
    at: tuple[str, int] | None = None


SPEED = Column(key="speed", heading="MB/s", digits=0, ratio="ours : this, MB/s")
CPU_PER_GB = Column(key="cpu", heading="CPU s/GB", digits=3, ratio="ours : this, CPU")
CLIENT = Column(key="client", heading="client's CPU s/GB", digits=2)
PEAK = Column(key="peak", heading="peak MiB", digits=0)
PER_BYTE = (SPEED, CPU_PER_GB, PEAK, CLIENT)
RATE = Column(key="rate", heading="files/s", digits=0, ratio="ours : this, files/s")
CPU_PER_FILE = Column(key="cpu", heading="CPU ms/file", digits=3, ratio="ours : this, CPU")
PER_FILE = (
    RATE,
    CPU_PER_FILE,
    PEAK,
    Column(key="client", heading="client's CPU ms/file", digits=3),
)
