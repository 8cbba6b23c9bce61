"""The scenarios by name: each gives the tables that it consists of."""

from collections.abc import Callable, Iterator

from tests.benchmarks.aside import beside
from tests.benchmarks.asking import download, prepare
from tests.benchmarks.bucket import bucket, bucket_memory, bucket_stalled
from tests.benchmarks.cases import (
    CPU_PER_GB,
    PEAK,
    PER_BYTE,
    PER_FILE,
    SPEED,
    WITHIN,
    Bench,
    Case,
    Column,
    Scale,
)
from tests.benchmarks.crowd import held, hurry, slow
from tests.benchmarks.link import Unable, extensions
from tests.benchmarks.listeners import listeners
from tests.benchmarks.measuring import GIB, KIB, MIB
from tests.benchmarks.meter import Figures
from tests.benchmarks.peers import BARE, DEFAULT, NODE, OURS, STARLETTE, TUSD, Peer
from tests.benchmarks.records import cleanup, records
from tests.benchmarks.servers import folder, running, touch_memory
from tests.benchmarks.siege import Plan, siege
from tests.benchmarks.speeds import bucket_speed_limits, speed_limits
from tests.benchmarks.uploading import Small, Stream, small, stream

OTHERS = (STARLETTE, TUSD, NODE, "tuspyserver", "resumable-upload")
ALL = (BARE, OURS, DEFAULT, *OTHERS)
PATIENT = (OURS, STARLETTE, TUSD, NODE)
"""Those that can have thousands of connections: the others give each a thread, or are slower."""

_EACH = Column(key="each", heading="KiB each", ratio="ours : this, memory")
_OF_EACH = (
    Column(key="threads", heading="threads each", digits=3),
    Column(key="descriptors", heading="descriptors each", digits=2),
)
_SLOW = (
    _EACH,
    Column(key="core", heading="% of a core", ratio="ours : this, CPU"),
    Column(key="p50", heading="HEAD p50 ms", digits=2),
    Column(key="p99", heading="HEAD p99 ms"),
    *_OF_EACH,
    Column(key="achieved", heading="% of 5 KiB/s", digits=0),
    Column(key="client", heading="client's % of a core", digits=0),
)
_HELD = (
    _EACH,
    *_OF_EACH,
    Column(key="opening", heading="opened in s"),
    Column(key="finishing", heading="finished in s"),
    Column(key="whole", heading="whole", digits=0),
)
_SIEGE = (
    Column(key="quiet_p50", heading="quiet HEAD p50 ms", digits=2),
    Column(key="quiet_p99", heading="p99 ms", digits=2),
    Column(key="p50", heading="besieged p50 ms", digits=2),
    Column(key="p99", heading="p99 ms", digits=2),
    Column(key="quiet_speed", heading="quiet PATCH MB/s", digits=0),
    Column(key="speed", heading="besieged MB/s", digits=0),
    _EACH,
    Column(key="core", heading="% of a core"),
    Column(key="achieved", heading="% of a byte/s", digits=0),
    Column(key="ended", heading="ended", digits=0),
)
_MEMORY = (
    Column(key="idle", heading="idle MiB"),
    Column(key="peak", heading="peak MiB", ratio="ours : this, peak"),
    Column(key="growth", heading="growth MiB"),
    SPEED,
    CPU_PER_GB,
)


def _streamed(plan: Stream) -> Callable[[Peer, Bench], Figures]:
    def measure(peer: Peer, bench: Bench) -> Figures:
        with folder(bench.disk) as uploads, running(peer, bench.home, uploads) as server:
            if plan.checksum is not None:
                _need_checksum(extensions(server.target), plan.checksum)
            touch_memory(bench.disk, plan.size * plan.connections)
            figures = beside(WITHIN, stream, server.target, plan)
            server.check_files(plan.connections, plan.size)
            return figures

    return measure


def _need_checksum(offered: dict[str, list[str]], algorithm: str) -> None:
    if "checksum" not in offered["tus-extension"]:
        raise Unable("it verifies no checksums")
    if algorithm not in offered["tus-checksum-algorithm"]:
        raise Unable(f"it does not know {algorithm}")


def _of_bytes(title: str, plan: Stream, servers: tuple[str, ...] = ALL) -> Case:
    return Case(
        title=title, servers=servers, measure=_streamed(plan), columns=PER_BYTE, reference=OURS
    )


def _size(count: int) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if count >= unit:
            return f"{count / unit:g} {name}"
    return f"{count / KIB:g} KiB"


def big(scale: Scale) -> Iterator[Case]:
    """One PATCH, to disk."""
    yield _of_bytes(
        f"One PATCH of {_size(scale.big)}, to disk", Stream(size=scale.big, chunk=scale.big)
    )


def chunks(scale: Scale) -> Iterator[Case]:
    """PATCH after PATCH on one connection."""
    yield _of_bytes(
        f"{_size(scale.chunked)} in chunks of 5 MiB, one connection, to disk",
        Stream(size=scale.chunked, chunk=5 * MIB),
    )


def four(scale: Scale) -> Iterator[Case]:
    """Four at once."""
    size = scale.each_of_four
    yield _of_bytes(
        f"Four PATCHes of {_size(size)} at once, to disk",
        Stream(size=size, chunk=size, connections=4),
    )


def small_files(scale: Scale) -> Iterator[Case]:
    """Files of 16 KiB."""
    for at_once in (False, True):
        for connections in (1, 8):
            yield _small(scale, connections, at_once=at_once, on_disk=False)
    yield _small(scale, 8, at_once=False, on_disk=True)


def _small(scale: Scale, connections: int, *, at_once: bool, on_disk: bool) -> Case:
    plan = Small(
        size=scale.file,
        count=scale.files,
        connections=connections,
        at_once=at_once,
        warming=max(8, scale.files // 5),
    )

    def measure(peer: Peer, bench: Bench) -> Figures:
        place = bench.disk if on_disk else bench.memory
        with folder(place) as uploads, running(peer, bench.home, uploads) as server:
            if at_once:
                _need_creation_with_upload(extensions(server.target))
            figures = beside(WITHIN, small, server.target, plan)
            server.check_files(plan.count // connections * connections, plan.size)
            return figures

    how = "created with their bytes" if at_once else "create and patch"
    where = "on disk" if on_disk else "in memory"
    title = f"Files of {_size(scale.file)}, {how}, connections: {connections}, {where}"
    servers = (STARLETTE, BARE, OURS, DEFAULT, *OTHERS[1:])
    return Case(title=title, servers=servers, measure=measure, columns=PER_FILE, reference=OURS)


def _need_creation_with_upload(offered: dict[str, list[str]]) -> None:
    if "creation-with-upload" not in offered["tus-extension"]:
        raise Unable("it takes no bytes with a POST")


def checksum(scale: Scale) -> Iterator[Case]:
    """Verified bodies."""
    for algorithm in ("sha1", "sha256"):
        yield _of_bytes(
            f"One PATCH of {_size(scale.digested)} with Upload-Checksum: {algorithm}, to disk",
            Stream(size=scale.digested, chunk=scale.digested, checksum=algorithm),
        )


def slow_clients(scale: Scale) -> Iterator[Case]:
    """Slow clients."""

    def measure(peer: Peer, bench: Bench) -> Figures:
        with folder(bench.disk) as uploads, running(peer, bench.home, uploads) as server:
            return beside(WITHIN, slow, server.target, scale.slow, scale.slow_seconds)

    yield Case(
        title=f"{scale.slow:,} clients of 5 KiB/s, in the middle of a PATCH each",
        servers=PATIENT,
        measure=measure,
        columns=_SLOW,
        reference=OURS,
        rounds=3,
    )


def held_clients(scale: Scale) -> Iterator[Case]:
    """Connections that are held open."""

    def measure(peer: Peer, bench: Bench) -> Figures:
        with folder(bench.disk) as uploads, running(peer, bench.home, uploads) as server:
            figures = beside(WITHIN, held, server.target, scale.held, scale.file)
            server.check_files(scale.held, scale.file)
            return figures

    yield Case(
        title=f"{scale.held:,} connections held in the middle of a PATCH, 20,000 descriptors",
        servers=PATIENT,
        measure=measure,
        columns=_HELD,
        reference=OURS,
        rounds=1,
    )


def siege_of(scale: Scale) -> Iterator[Case]:
    """Connections that send a byte a second."""
    heads, bodies = scale.besieging
    plan = Plan(heads=heads, bodies=bodies, seconds=scale.besieged_seconds, size=scale.big)

    def measure(peer: Peer, bench: Bench) -> Figures:
        with folder(bench.disk) as uploads, running(peer, bench.home, uploads) as server:
            figures = beside(WITHIN, siege, server.target, plan)
            server.check_files(2, plan.size)
            return figures

    yield Case(
        title=f"{heads:,} connections that send a head, and {bodies:,} a body, a byte each second",
        servers=PATIENT,
        measure=measure,
        columns=_SIEGE,
        reference=OURS,
        rounds=3,
    )


def memory(scale: Scale) -> Iterator[Case]:
    """Memory over a very large PATCH."""
    plan = Stream(size=scale.memory, chunk=scale.memory, sampled=True)
    yield Case(
        title=f"Memory over one PATCH of {_size(scale.memory)}, to disk",
        servers=(OURS, DEFAULT, STARLETTE, TUSD, NODE),
        measure=_streamed(plan),
        columns=_MEMORY,
        reference=OURS,
        rounds=1,
    )


def downloads(scale: Scale) -> Iterator[Case]:
    """Reading back."""
    for ranges in (0, scale.ranges):

        def measure(peer: Peer, bench: Bench, ranges: int = ranges) -> Figures:
            size = scale.download
            with folder(bench.disk) as uploads, running(peer, bench.home, uploads) as server:
                path = beside(WITHIN, prepare, server.target, size)
                return beside(WITHIN, download, server.target, path, size, ranges)

        what = f"{ranges} ranges of 16 MiB" if ranges else "whole"
        yield Case(
            title=f"Download of {_size(scale.download)}, {what}",
            servers=(BARE, OURS, *OTHERS),
            measure=measure,
            columns=PER_BYTE,
            reference=OURS,
        )


def sizes(scale: Scale) -> Iterator[Case]:
    """For the plot: cost against size."""
    size = scale.file
    while size <= scale.largest:
        plan = Stream(size=size, chunk=size)
        count = min(200, max(4, 256 * MIB // size))
        many = Small(size=size, count=count, connections=1, at_once=False, warming=count // 5)

        def measure(peer: Peer, bench: Bench, plan: Stream = plan, many: Small = many) -> Figures:
            with folder(bench.memory) as uploads, running(peer, bench.home, uploads) as server:
                if plan.size > 16 * MIB:
                    figures = beside(WITHIN, stream, server.target, plan)
                    server.check_files(1, plan.size)
                    return figures | {"item": figures["cpu"] * plan.size / 1e6}
                figures = beside(WITHIN, small, server.target, many)
                server.check_files(many.count, many.size)
                return figures | {"item": figures["cpu"], "cpu": figures["cpu"] * 1e6 / many.size}

        yield Case(
            title=f"Create and patch {_size(size)}, one connection, in memory",
            servers=(BARE, *PATIENT),
            measure=measure,
            columns=(
                CPU_PER_GB,
                Column(key="item", heading="CPU ms/upload", digits=2),
                PEAK,
            ),
            reference=OURS,
            at=("upload size (bytes)", size),
        )
        size *= 4


def connections(scale: Scale) -> Iterator[Case]:
    """For the plot: cost against connections."""
    total = min(256 * MIB, 4 * scale.largest)
    for count in scale.crowds:

        def measure(peer: Peer, bench: Bench, count: int = count) -> Figures:
            with folder(bench.memory) as uploads, running(peer, bench.home, uploads) as server:
                figures = beside(WITHIN, hurry, server.target, count, total)
                server.check_files(count, total // count)
                return figures

        yield Case(
            title=f"{_size(total)} over {count:,} connections at once, in memory",
            servers=(BARE, *PATIENT),
            measure=measure,
            columns=PER_BYTE,
            reference=OURS,
            at=("connections at once", count),
        )


SCENARIOS: dict[str, Callable[[Scale], Iterator[Case]]] = {
    "big": big,
    "chunks": chunks,
    "four": four,
    "small": small_files,
    "checksum": checksum,
    "slow": slow_clients,
    "held": held_clients,
    "siege": siege_of,
    "listeners": listeners,
    "memory": memory,
    "download": downloads,
    "records": records,
    "cleanup": cleanup,
    "sizes": sizes,
    "connections": connections,
    "s3": bucket,
    "s3-memory": bucket_memory,
    "s3-stalled": bucket_stalled,
    "speed-limits": speed_limits,
    "s3-speed-limits": bucket_speed_limits,
}
