"""Uploads to a bucket: beside a client of the store that needs no server, and beside a peer.

Each round has a store of its own on loopback, Ceph's gateway, with its objects in memory: so what
one row has written weighs on no other.
"""

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks.aside import beside
from tests.benchmarks.cases import CPU_PER_GB, PEAK, SPEED, WITHIN, Bench, Case, Column, Scale
from tests.benchmarks.link import OFFSET_STREAM, Link, LoadFailed, Target, block, create, pieces
from tests.benchmarks.measuring import GB, GIB, KIB, MIB, peak
from tests.benchmarks.meter import Figures
from tests.benchmarks.peers import BOTO3, NODE_S3, OURS, NotHere, Peer
from tests.benchmarks.servers import folder, running
from tests.benchmarks.uploading import Stream, stream
from tests.faults.s3.proxy import Call, Fault, How, Kind, S3Proxy
from tests.storage.s3_servers import CEPH_PROGRAMS, S3Server, ceph, missing

PART = 8 * MIB
AT_ONCE = 4
"""Parts: what our server sends of one upload by default, and the others are told."""

_BUCKET = "benchmark"
_BUDGET = 256.0
"""MiB of `--s3-memory`, by default."""

_LOOKED_AT = 16
_SLOW = 100


def bucket(scale: Scale) -> Iterator[Case]:
    """To a bucket, beside boto3's `upload_file`."""
    plan = Stream(size=scale.bucket, chunk=scale.bucket)
    yield Case(
        title=f"{scale.bucket // MIB:,} MiB to a bucket, parts of 8 MiB, {AT_ONCE} at once",
        servers=(BOTO3, OURS, NODE_S3),
        measure=partial(_measure, plan),
        columns=(
            Column(key="seconds", heading="seconds", digits=2, ratio="ours : this, time"),
            SPEED,
            CPU_PER_GB,
            PEAK,
        ),
        reference=OURS,
    )


def bucket_memory(scale: Scale) -> Iterator[Case]:
    """Memory of a server over a bucket, with eight uploads at once, and with a large one."""
    size = scale.each_in_bucket
    plan = Stream(size=size, chunk=size, connections=8, sampled=True)
    yield _memory(plan, f"8 uploads of {size // MIB:,} MiB at once", OURS, NODE_S3)
    large = Stream(size=scale.large_in_bucket, chunk=scale.large_in_bucket, sampled=True)
    yield _memory(large, f"one upload of {large.size // MIB:,} MiB", OURS)


def _memory(plan: Stream, uploads: str, *servers: str) -> Case:
    return Case(
        title=f"Memory over {uploads} to a bucket",
        servers=servers,
        measure=partial(_measure, plan),
        columns=(
            Column(key="idle", heading="idle MiB"),
            Column(key="peak", heading="peak MiB", ratio="ours : this, peak"),
            Column(key="beyond", heading=f"peak - {_BUDGET:.0f} MiB"),
            Column(key="growth", heading="growth MiB"),
            SPEED,
            CPU_PER_GB,
        ),
        reference=OURS,
        rounds=1,
    )


def bucket_stalled(scale: Scale) -> Iterator[Case]:
    """Beside clients whose calls to the store get no answer."""
    plan = Stream(size=scale.each_in_bucket, chunk=scale.each_in_bucket)
    yield Case(
        title=f"{plan.size // MIB:,} MiB to a bucket beside {_SLOW} clients with stalled calls",
        servers=(OURS,),
        measure=partial(_beside_stalled, plan),
        columns=(
            Column(key="speed", heading="alone, MB/s"),
            Column(key="tails", heading="beside tails, of that", digits=2),
            Column(key="parts", heading="as full parts stall, of that", digits=2),
            Column(key="later", heading="after it, of that", digits=2),
        ),
        reference=OURS,
    )


def _beside_stalled(plan: Stream, peer: Peer, bench: Bench) -> Figures:
    """Everything goes by a proxy, in this process: it costs both more than the store does."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(new_store(4 * plan.size + _SLOW * PART))
        proxy = stack.enter_context(S3Proxy(urlsplit(store.endpoint).port or 0))
        stack.enter_context(_told({"TUSD_PY_S3_ENDPOINT": proxy.endpoint}))
        uploads = stack.enter_context(folder(bench.disk))
        server = stack.enter_context(running(peer, bench.home, uploads))

        def speed() -> float:
            return beside(WITHIN, stream, server.target, plan)["speed"]

        figures = {"speed": speed()}
        with _stalled(server.target, proxy, KIB):
            figures["tails"] = speed() / figures["speed"]
        with _stalled(server.target, proxy, PART):
            figures |= {each: speed() / figures["speed"] for each in ("parts", "later")}
        _check_objects(store, len(figures), plan.size)
    return figures


@contextlib.contextmanager
def _stalled(target: Target, proxy: S3Proxy, size: int) -> Iterator[None]:
    """Clients that have sent so much, whose first calls to the store wait."""
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(Link(target)) for _ in range(_SLOW)]
        paths = [create(link, 2 * size) for link in links]
        ids = tuple(path.rpartition("/")[2] for path in paths)

        def is_of_one(call: Call) -> bool:
            return any(each in call.key for each in ids)

        proxy.arm(Fault(kind=Kind(name="stalls", how=How.STALL, fits=is_of_one), lasting=True))
        stack.callback(proxy.disarm)
        for link, path in zip(links, paths, strict=True):
            link.socket.sendall(
                link.head("PATCH", path, f"Upload-Offset: 0\r\n{OFFSET_STREAM}", size)
            )
            threading.Thread(target=_send, args=(link, size), daemon=True).start()
        deadline = time.monotonic() + WITHIN
        while proxy.held < min(_SLOW, int(_BUDGET * MIB / 2) // size):
            if time.monotonic() > deadline:
                raise LoadFailed(f"{proxy.held} calls are stalled of {_SLOW}")
            time.sleep(0.05)
        yield


def _send(link: Link, size: int) -> None:
    with contextlib.suppress(OSError):
        for piece in pieces(0, size):
            link.socket.sendall(piece)


def _measure(plan: Stream, peer: Peer, bench: Bench) -> Figures:
    with new_store(plan.size * plan.connections) as store, folder(bench.disk) as uploads:
        if peer.name == BOTO3:
            figures = beside(WITHIN, _upload_file, store.endpoint, uploads / "source", plan.size)
        else:
            with running(peer, bench.home, uploads) as server:
                figures = beside(WITHIN, stream, server.target, plan)
        _check_objects(store, plan.connections, plan.size)
    figures["seconds"] = plan.size * plan.connections / 1e6 / figures["speed"]
    return figures | {"beyond": figures["peak"] - _BUDGET}


@contextlib.contextmanager
def new_store(room: int) -> Iterator[S3Server]:
    """A new one with an empty bucket; the environment tells of it.

    Raises:
        NotHere: It is not installed.
    """
    if lacking := missing(CEPH_PROGRAMS):
        raise NotHere(f"{', '.join(lacking)}: not installed")
    # Of a short name, since there are sockets in it.
    place = Path(tempfile.mkdtemp(prefix="ceph-"))
    try:
        with ceph(place / "c", room=room * 5 // 4 + GIB) as store:
            told = {
                **store.environment,
                "TUSD_PY_S3_BUCKET": _BUCKET,
                "TUSD_PY_S3_ENDPOINT": store.endpoint,
            }
            with _told(told):
                _client(store.endpoint).create_bucket(Bucket=_BUCKET)
                yield store
    finally:
        shutil.rmtree(place)


@contextlib.contextmanager
def _told(environment: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _client(endpoint: str) -> Any:
    """A client that is not ours.

    Raises:
        NotHere: It is not installed.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise NotHere("boto3 is not installed; pip install boto3 aiobotocore") from error
    config = Config(
        s3={"addressing_style": "path"},
        max_pool_connections=AT_ONCE + 2,
        # As our server does it: not every store knows more.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    # A session of its own: the default one keeps the credentials that it found first.
    return boto3.Session().client("s3", endpoint_url=endpoint, config=config)


def _upload_file(endpoint: str, source: Path, size: int) -> Figures:
    """What boto3 takes for a file, in this process."""
    from boto3.s3.transfer import TransferConfig

    with source.open("wb") as file:
        for piece in pieces(0, size):
            file.write(piece)
    client = _client(endpoint)
    parts = TransferConfig(
        multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=AT_ONCE
    )
    cpu, begun = -time.process_time(), time.perf_counter()
    client.upload_file(str(source), _BUCKET, "file", Config=parts)
    seconds = time.perf_counter() - begun
    cpu += time.process_time()
    return {
        "speed": size / 1e6 / seconds,
        "cpu": cpu / (size / GB),
        "client": 0.0,
        "peak": peak(os.getpid()),
    }


def _check_objects(store: S3Server, count: int, size: int) -> None:
    """Looks for the objects of uploads.

    Raises:
        LoadFailed: There are not `count` of `size` bytes, or one has other bytes where it is
            looked at.
    """
    client = _client(store.endpoint)
    listed = client.list_objects_v2(Bucket=_BUCKET).get("Contents", [])
    keys = [each["Key"] for each in listed if each["Size"] == size]
    whole = [key for key in keys if all(_is_ours(client, key, at, size) for at in _places(size))]
    if len(whole) < count:
        raise LoadFailed(f"{len(whole)} objects are whole of {count} that were acknowledged")


def _places(size: int) -> list[int]:
    last = (size - 1) // MIB
    return [number * MIB for number in {*range(0, last, max(1, last // _LOOKED_AT)), last}]


def _is_ours(client: Any, key: str, at: int, size: int) -> bool:
    end = min(at + MIB, size)
    found = client.get_object(Bucket=_BUCKET, Key=key, Range=f"bytes={at}-{end - 1}")
    return bool(found["Body"].read() == block()[: end - at])
