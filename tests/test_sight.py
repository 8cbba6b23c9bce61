"""What operators see of real servers: numbers of all workers, and whether one is ready."""

import base64
import contextlib
import json
import re
import shutil
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

import tusd_py
from tests.faults.s3.proxy import Fault, How, Kind, S3Proxy
from tests.hooks.hook_server import Said, hook_server
from tests.interop.plain_http import TUS, append, asked, create, offset
from tests.serving import Served, eventually, serving
from tests.test_workers import hanging_patch

if TYPE_CHECKING:
    from tests.storage.s3_place import S3Place

DASHBOARD = Path(tusd_py.__file__).parent / "docs/grafana.json"
HOOKS = ("--hooks-enabled-events", "", "--hooks-http-retry", "1", "--max-size", "1MiB")

Numbers = dict[str, float]


def scrape(server: Served) -> Numbers:
    """Numbers by name and labels, over a connection of its own."""
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(server.url))
    text = httpx.get(f"{origin}/metrics", trust_env=False).text
    return {
        " ".join((sample.name, *(value for _, value in sorted(sample.labels.items())))): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


WRONG = "sha1 " + base64.b64encode(bytes(20)).decode()
"""A checksum that nothing has."""


def send_some(url: str, size: int) -> None:
    """A client: an upload, a wrong offset, a wrong checksum, a `HEAD`, and maybe a `DELETE`."""
    with httpx.Client(headers=TUS, trust_env=False) as client:
        created = client.post(url, headers={"Upload-Length": str(size)}).headers["Location"]
        own = {"Content-Type": "application/offset+octet-stream"}
        for offset, more, status in (
            (1, {}, 409),
            (0, {"Upload-Checksum": WRONG}, 460),
            (0, {}, 204),
        ):
            headers = own | {"Upload-Offset": str(offset)} | more
            assert client.patch(created, content=bytes(size), headers=headers).status_code == status
        assert client.head(created).status_code == 200
        if size % 2:
            assert client.delete(created).status_code == 204


def sent(sizes: list[int]) -> Numbers:
    """What `send_some` comes to."""
    odd = sum(size % 2 for size in sizes)
    return {
        "tusd_uploads_created": len(sizes),
        "tusd_uploads_finished": len(sizes),
        "tusd_uploads_terminated": odd,
        "tusd_bytes_received": sum(sizes),
        "tusd_bytes_dropped_total": sum(sizes),
        "tusd_requests_total POST": len(sizes),
        "tusd_requests_total PATCH": 3 * len(sizes),
        "tusd_requests_total HEAD": len(sizes),
        "tusd_responses_total POST 201": len(sizes),
        "tusd_responses_total PATCH 204": len(sizes),
        "tusd_responses_total PATCH 409": len(sizes),
        "tusd_responses_total PATCH 460": len(sizes),
        "tusd_errors_total ERR_MISMATCHED_OFFSET 409": len(sizes),
        "tusd_errors_total ERR_CHECKSUM_MISMATCH 460": len(sizes),
        "tusd_request_duration_seconds_count PATCH": 3 * len(sizes),
        "tusd_request_duration_seconds_bucket +Inf HEAD": len(sizes),
    }


def test_numbers_of_four_workers_are_what_the_client_counted(tmp_path: Path) -> None:
    """Whichever worker a scrape comes to, and with all that a worker counted before its death."""
    with serving(tmp_path / "u", "--workers", "4") as server, ThreadPoolExecutor(4) as threads:
        sizes = [100_000 + number for number in range(24)]
        list(threads.map(lambda size: send_some(server.url, size), sizes))
        expected = sent(sizes)

        def agree() -> bool:
            scraped = [scrape(server) for _ in range(6)]
            return all(expected.items() <= numbers.items() for numbers in scraped)

        eventually(f"not {expected} but {scrape(server)}", agree)
        workers = psutil.Process(server.pid).children()
        for worker in workers[:2]:
            worker.kill()
        psutil.wait_procs(workers[:2], timeout=10)
        assert agree()
        eventually(
            "others take their places",
            lambda: len(set(psutil.Process(server.pid).children()) - set(workers)) == 2,
        )
        list(threads.map(lambda size: send_some(server.url, size), sizes))
        expected = sent(2 * sizes)
        eventually(f"not {expected} but {scrape(server)}", agree)
        with contextlib.ExitStack() as stack:
            for _ in range(12):
                url = create(server.url, 9)
                stack.enter_context(contextlib.closing(hanging_patch(url, 0, b"hello", 9)))
            eventually(
                "each worker tells of its own, also where it took another's place",
                lambda: scrape(server)["tusd_appends_open"] == 12,
            )
            eventually("so", lambda: scrape(server)["tusd_connections_open"] >= 12)
        eventually("they have ended", lambda: scrape(server)["tusd_appends_open"] == 0)
        assert scrape(server)["tusd_appends_cut_total disconnect"] == 12
        expected["tusd_bytes_received"] += 12 * len(b"hello")
        expected["tusd_uploads_created"] += 12
        assert expected["tusd_bytes_received"] == scrape(server)["tusd_bytes_received"]


def drawn() -> set[str]:
    """The names of what the dashboard shows."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(queries) > 15
    return {name for query in queries for name in re.findall(r"tusd_\w+", query)}


def test_all_that_the_dashboard_shows_is_there_and_moves(tmp_path: Path) -> None:
    """A panel that stays empty would look like a server at rest; and each metric has its panel."""
    uploads = tmp_path / "u"
    moved: set[str] = set()

    def look(*wanted: str) -> bool:
        numbers = scrape(server)
        moved.update(name.partition(" ")[0] for name, value in numbers.items() if value > 0)
        return moved.issuperset(wanted)

    with hook_server() as hooks:
        flags = ("--hooks-http", hooks.url, *HOOKS)
        server = Served(uploads, (*flags, "--expire-after", "1s"))
        server.start()
        gate = threading.Event()
        hooks.answer = lambda each: Said(after=gate) if each.hook == "pre-finish" else Said()
        unfinished, expires_at = create(server.url, 9), time.time() + 1
        with contextlib.closing(hanging_patch(create(server.url, 5), 0, b"hello", 5)):
            eventually("it is being finished", lambda: hooks.of("pre-finish"))
            server.kill()
        gate.set()
    # The next server sweeps at its start, and then not for a while.
    eventually("its time has come", lambda: time.time() > expires_at)
    slow = ("--max-speed-per-upload", "1KiB", *HOOKS)
    with hook_server() as hooks, serving(uploads, "--hooks-http", hooks.url, *slow) as server:
        hooks.answer = lambda each: Said(status=500 if each.hook == "post-finish" else 200)
        eventually(
            f"{unfinished} has expired",
            lambda: look("tusd_uploads_recovered_total", "tusd_uploads_expired"),
            within=30,
        )
        url = create(server.url, 9)
        with contextlib.closing(hanging_patch(url, 0, b"hello", 9)):
            eventually("it hangs", lambda: look("tusd_appends_open", "tusd_connections_open"))
            assert append(url, 5, b"").status_code == 204
        headers = {"Upload-Checksum": WRONG}
        assert append(url, 5, b"more", **headers).status_code == 460
        assert append(url, 5, b"more").status_code == 204
        assert append(create(server.url, 300), 0, bytes(300)).status_code == 204
        eventually("it had to wait", lambda: look("tusd_held_back_seconds_total"), within=30)
        assert asked("HEAD", server.url + "unknown", TUS).status_code == 404
        too_large = TUS | {"Upload-Length": str(2 << 20)}
        assert asked("POST", server.url, too_large).status_code == 413
        much = TUS | {"Upload-Length": "9", "Upload-Metadata": "name " + "YWFh" * 5000}
        assert asked("POST", server.url, much).status_code == 400
        assert asked("DELETE", create(server.url, 9), TUS).status_code == 204
        eventually("it waits to be told", lambda: look("tusd_outbox_lag_seconds"), within=30)
        with sqlite3.connect(uploads / "state/tusd-py.sqlite3", timeout=30) as state:
            # As after twenty attempts.
            state.execute("UPDATE outbox SET dead = 1 WHERE upload_id = ?", (url.split("/")[-1],))
        state.close()
        eventually("it is given up", lambda: look("tusd_outbox_dead"), within=30)
        shown = {name.partition(" ")[0] for name in scrape(server)}
    assert drawn() - moved == OF_A_BUCKET | OF_A_BAD_DISK
    assert {re.sub("_(count|sum)$", "_bucket", name) for name in shown} == drawn() - LABELLED


OF_A_BUCKET = {
    "tusd_records_rebuilt_total",
    "tusd_s3_calls_total",
    "tusd_s3_call_seconds_bucket",
    "tusd_s3_retries_total",
}
LABELLED = {"tusd_s3_calls_total", "tusd_s3_call_seconds_bucket"}
"""Of no operation before the first."""

OF_A_BAD_DISK = {"tusd_fsync_failures_total"}
"""See `tests/engine/test_keeper.py`."""


def test_all_that_it_shows_of_a_bucket_moves(s3_place: "S3Place", tmp_path: Path) -> None:
    """And as often as the store was asked."""
    size = 9 << 20
    refused = Kind(
        name="busy",
        how=How.REFUSE,
        status=503,
        code="SlowDown",
        fits=lambda call: call.operation == "UploadPart",
    )
    port = urlsplit(s3_place.server.endpoint).port
    assert port is not None
    with S3Proxy(port) as proxy:
        bucket = ("--s3-bucket", s3_place.bucket, "--s3-endpoint", proxy.endpoint)
        with serving(tmp_path / "u", *bucket, env=s3_place.server.environment) as server:
            proxy.arm(Fault(kind=refused))
            url = create(server.url, size)
            assert append(url, 0, bytes(size)).status_code == 204
            asked_for = Counter(call.operation for call in proxy.calls)
            numbers = scrape(server)
            assert (asked_for["UploadPart"], len(proxy.struck)) == (3, 1)
            assert numbers["tusd_s3_retries_total"] == 1
            assert numbers["tusd_s3_calls_total UploadPart 200"] == 2
            assert numbers["tusd_s3_call_seconds_count UploadPart"] == 2
            for each in ("CreateMultipartUpload", "CompleteMultipartUpload", "PutObject"):
                assert numbers[f"tusd_s3_calls_total {each} 200"] == asked_for[each] > 0
            server.kill()
            shutil.rmtree(server.upload_dir)
            server.start()
            assert offset(url) == size
            assert scrape(server)["tusd_records_rebuilt_total"] == 1
            shown = {name.partition(" ")[0] for name in scrape(server)}
    assert shown > OF_A_BUCKET
