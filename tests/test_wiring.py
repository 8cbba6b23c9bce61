"""The implementations put together, where the command line does not show it."""

import asyncio
import io
import json
import logging
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.hosts import alive, browser
from tests.frameworks.journey import create
from tusd_py import InvalidTemplate, NewerDatabase, WrongInstance
from tusd_py.asgi.request_log import LineHandler
from tusd_py.asgi.request_log import log as log_request
from tusd_py.hooks.events import RequestEnded
from tusd_py.protocol.errors import StorageFailed, StorageFull
from tusd_py.wire.server import CannotListen, NotProtected, ServerSettings, close, listen
from tusd_py.wiring.deployment import build_app
from tusd_py.wiring.errors import explain
from tusd_py.wiring.logs import configure_logging
from tusd_py.wiring.server import ServerApp, page_beside
from tusd_py.wiring.settings import BucketSettings, Place, UploadSettings

pytestmark = pytest.mark.anyio


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


EXPLAINED = [
    (CannotListen("cannot listen on x"), "cannot listen on x"),
    (WrongInstance("not ours"), "not ours"),
    (NewerDatabase("too new"), "too new"),
    (InvalidTemplate("no {id}"), "no {id}"),
    (FileExistsError("x is not empty"), "x is not empty"),
    (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied"),
    (OSError(28, "No space left on device"), "No space left on device"),
    (caused(StorageFailed(), OSError(5, "Input/output error", "/x")), "/x: Input/output error"),
    (
        caused(StorageFailed(), sqlite3.OperationalError("disk I/O error")),
        "the state cannot be used: disk I/O error",
    ),
    (caused(StorageFull(), OSError(28, "No space left on device")), "No space left on device"),
    (caused(CannotListen("cannot listen"), OSError(98, "in use")), "cannot listen"),
    (StorageFull(), str(StorageFull())),
]


@pytest.mark.parametrize(("error", "text"), EXPLAINED)
def test_an_error_in_one_line_names_what_is_wrong(error: Exception, text: str) -> None:
    assert explain(error) == text


async def test_upload_settings_arrive_in_the_application(tmp_path: Path) -> None:
    uploads = UploadSettings(
        max_size=7,
        min_free_disk=8,
        expire_after=None,
        fsync="never",
        behind_proxy=True,
        network_timeout=1.5,
        acquire_lock_timeout=2.5,
        cors_allow_origin="https://a",
        cors_allow_credentials=True,
        cors_allow_headers="X-A",
    )
    tus = build_app(Place(upload_dir=tmp_path, state_dir=tmp_path / "s"), uploads)
    services = tus.services
    assert (services.limits.max_size, services.limits.expire_after) == (7, None)
    assert services.limits.min_free_disk == 8
    assert (services.fsync.value, services.timing.acquire_lock) == ("never", 2.5)
    assert tus.state.path == tmp_path / "s/tusd-py.sqlite3"
    settings = uploads.for_app(tmp_path / "s")
    assert (settings.http.behind_proxy, settings.http.network_timeout) == (True, 1.5)
    cors = settings.http.cors
    assert (cors.allow_origin, cors.allow_credentials, cors.allow_headers) == (
        "https://a",
        True,
        "X-A",
    )


@pytest.mark.parametrize("base_path", ["files", "/files", "/files/", "//files//"])
async def test_pages_beside_the_uploads(tmp_path: Path, base_path: str) -> None:
    app = ServerApp(build_app(Place(upload_dir=tmp_path), UploadSettings()), base_path, "metrics")
    async with alive(app), browser(app) as client:
        await create(client, "/files", 3)
        assert "tusd_uploads_created 1.0" in (await client.get("/metrics")).text
        assert (await client.get("/healthz")).text == "ok\n"
        assert (await client.head("/healthz")).status_code == 200
        assert "to /files/" in (await client.get("/")).text
        assert (await client.get("/other")).status_code == 404
        assert (await client.post("/healthz")).status_code == 405


async def test_pages_go_before_uploads_at_the_same_path(tmp_path: Path) -> None:
    """A load balancer asks `/healthz` whatever the base path is."""
    app = ServerApp(build_app(Place(upload_dir=tmp_path), UploadSettings()), "/", "/up/metrics")
    async with alive(app), browser(app) as client:
        await create(client, "/", 3)
        assert (await client.get("/healthz")).text == "ok\n"
        assert "tusd_uploads_created 1.0" in (await client.get("/up/metrics")).text


async def test_ready_or_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a load balancer asks: another server takes the uploads meanwhile."""
    monkeypatch.setattr("tusd_py.app._PROBE_EVERY", 0.0)
    tus = build_app(Place(upload_dir=tmp_path), UploadSettings())
    app = ServerApp(tus, "/", None)
    async with browser(app) as client:

        async def ask() -> tuple[int, str]:
            answer = await client.get("/readyz")
            await asyncio.sleep(0.01)  # what was found is forgotten
            return answer.status_code, answer.text

        assert await ask() == (503, "the server has not opened its uploads yet\n")
        async with alive(app):
            assert await ask() == (200, "ready\n")
            with sqlite3.connect(tus.state.path, isolation_level=None) as other:
                other.execute("BEGIN IMMEDIATE")
                monkeypatch.setattr("tusd_py.app._PROBE_WITHIN", 0.1)
                assert await ask() == (503, "no record could be written within 0.1 s\n")
                other.execute("COMMIT")
                monkeypatch.setattr("tusd_py.app._PROBE_WITHIN", 20.0)
                assert await ask() == (200, "ready\n")
                other.execute("DROP TABLE meta")
            other.close()
            status, text = await ask()
            assert (status, "no such table" in text, text.count("\n")) == (503, True, 1)
            tus.interrupt()
            assert await ask() == (503, "the server ends\n")


async def test_not_ready_where_the_disk_is_below_its_floor(tmp_path: Path) -> None:
    app = ServerApp(
        build_app(Place(upload_dir=tmp_path), UploadSettings(min_free_disk=1 << 60)), "/", None
    )
    async with alive(app), browser(app) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, "of its disk free" in answer.text) == (503, True)


async def test_not_ready_while_the_folder_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk was unmounted: what is written now would lie below the place where it was."""
    monkeypatch.setattr("tusd_py.app._PROBE_EVERY", 0.0)
    app = ServerApp(build_app(Place(upload_dir=tmp_path), UploadSettings()), "/", None)
    data, away = tmp_path / "data", tmp_path / "away"
    async with alive(app), browser(app) as client:
        data.rename(away)
        gone = await client.get("/readyz")
        assert (gone.status_code, "No such file" in gone.text) == (503, True)
        assert str(tmp_path) not in gone.text
        away.rename(data)
        await asyncio.sleep(0.01)  # what was found is forgotten
        assert (await client.get("/readyz")).status_code == 200


async def test_readiness_is_looked_at_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look is a commit, and anybody may ask."""
    monkeypatch.setattr("tusd_py.app._PROBE_EVERY", 60.0)  # longer than this takes
    tus = build_app(Place(upload_dir=tmp_path), UploadSettings())
    app = ServerApp(tus, "/", None)
    async with alive(app), browser(app) as client:
        await client.get("/readyz")
        with sqlite3.connect(tus.state.path) as other:
            other.execute("DROP TABLE meta")
        other.close()
        for _ in range(5):
            assert (await client.get("/readyz")).status_code == 200
        tus._forget_probe()
        assert (await client.get("/readyz")).status_code == 503


@pytest.mark.parametrize(
    ("base_path", "has_page"), [("/files", True), ("/", False), ("/ui", False)]
)
async def test_the_page_makes_way_for_uploads_at_its_paths(
    tmp_path: Path, base_path: str, has_page: bool
) -> None:
    tus = build_app(Place(upload_dir=tmp_path), UploadSettings())
    app = ServerApp(tus, base_path, None, ui=True)
    async with alive(app), browser(app) as client:
        await create(client, base_path, 3)
        page = await client.get("/")
        # It may be missing in a checkout where it was never built.
        is_shown = "<html" in page.text or "not installed" in page.text
        assert is_shown is has_page


def test_the_page_is_announced_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tusd_py.wiring.server.find_page", lambda: tmp_path)
    tcp, unix = ServerSettings(), ServerSettings(unix_sock=tmp_path / "socket")
    assert page_beside("http://[::1]:1080/a/b/", tcp) == "http://[::1]:1080/"
    assert page_beside("http://h:1/", tcp) is None
    assert page_beside("http://localhost/files/", unix) is None
    assert page_beside("http://h:1/files/", ServerSettings(ui=False)) is None
    monkeypatch.setattr("tusd_py.wiring.server.find_page", lambda: None)
    assert page_beside("http://h:1/files/", tcp) is None


@pytest.mark.parametrize("metrics_path", [None, "/", "//"])
async def test_metrics_nowhere_and_at_the_root(tmp_path: Path, metrics_path: str | None) -> None:
    app = ServerApp(build_app(Place(upload_dir=tmp_path), UploadSettings()), "/files", metrics_path)
    async with alive(app), browser(app) as client:
        text = (await client.get("/")).text
        assert ("tusd_bytes_received" in text) is (metrics_path is not None)
        assert (await client.get("/metrics")).status_code == 404


def test_listening_on_ipv6(tmp_path: Path) -> None:
    try:
        listening, url = listen(ServerSettings(host="::1", port=0))
    except CannotListen as refused:
        pytest.skip(str(refused))
    port = listening.getsockname()[1]
    listening.close()
    assert url == f"http://[::1]:{port}"


def test_the_next_servers_socket_is_left_alone(tmp_path: Path) -> None:
    """A supervisor may start the next before the last has ended."""
    path = tmp_path / "sock"
    first, _ = listen(ServerSettings(unix_sock=path))
    first.close()
    second, _ = listen(ServerSettings(unix_sock=path))
    close(first, path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    close(second, path)
    assert not path.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_loopback_is_open_to_all(host: str) -> None:
    try:
        listening, _ = listen(ServerSettings(host=host, port=0, loopback_only=True))
    except NotProtected:
        raise
    except CannotListen as refused:  # a machine may have no IPv6
        pytest.skip(str(refused))
    listening.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "0"])
def test_other_addresses_are_not(host: str) -> None:
    """By the address that was bound, since there are many ways to write one."""
    settings = ServerSettings(host=host, port=0, loopback_only=True)
    with pytest.raises(CannotListen) as refused:
        listen(settings)
    if not isinstance(refused.value, NotProtected):
        pytest.skip(str(refused.value))  # no IPv6
    listening, _ = listen(ServerSettings(host=host, port=0))
    listening.close()


def test_a_unix_socket_is_no_address(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    listening, _ = listen(ServerSettings(unix_sock=path, loopback_only=True))
    close(listening, path)


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """The log as `configure_logging` leaves it, and as it was in the end."""
    root = logging.getLogger()
    loggers = [root, logging.getLogger("uvicorn"), logging.getLogger("asyncio")]
    before = [(logger, logger.level) for logger in loggers]
    handlers = root.handlers[:]
    yield logging.getLogger("tusd_py.test")
    root.handlers[:] = handlers
    for logger, level in before:
        logger.setLevel(level)


def test_a_log_for_programs(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "info")
    log.debug("not shown")
    log.info("with %r", 'quotes " and\nlines', extra={"request_id": "r", "upload_id": "u"})
    log.warning("plain", extra={"request_id": "", "upload_id": None, "milliseconds": 0.0})
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        log.exception("it failed")
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second, third = map(json.loads, captured.err.splitlines())
    assert (first["message"], first["level"]) == ("with 'quotes \" and\\nlines'", "info")
    assert (first["request_id"], first["upload_id"]) == ("r", "u")
    assert second.keys() == {"time", "level", "message", "milliseconds"}
    assert (third["level"], third["message"]) == ("error", "it failed")
    assert "RuntimeError: broken" in third["exception"]


def test_a_log_for_people(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("text", "warning")
    log.info("not shown")
    log.warning("look", extra={"request_id": "r", "upload_id": "u"})
    line = capsys.readouterr().err
    assert line.endswith(" WARNING look request_id=r upload_id=u\n")


ENDED = RequestEnded(method="PATCH", status=409, code="ERR_MISMATCHED_OFFSET", seconds=0.01234)


class Looking(logging.Filter):
    """Keeps what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[logging.LogRecord] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.seen.append(record)
        return True


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_line_of_a_request_is_the_same_without_a_record(
    log: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    log_format: str,
) -> None:
    """Whoever reads the log knows nothing of a way that spares the server some work."""
    configure_logging(log_format, "info")
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0429)
    looking = Looking()
    lines = []
    for filters in ([], [looking]):
        logging.root.handlers[0].filters[:] = filters
        log_request(ENDED, "/files/it's \n one", "mine", "some-id")
        log_request(ENDED._replace(code=""), "/files/" + "x" * 600, "mine", "no id")
        lines.append(capsys.readouterr().err)
    assert lines[0] == lines[1]
    assert lines[0].count("\n") == len(looking.seen) == 2
    assert "PATCH" in lines[0]
    assert "no id" not in lines[0]


def test_whoever_looks_at_records_sees_those_of_requests(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("text", "info")
    ours, looking, beside = (
        logging.getLogger("tusd_py"),
        Looking(),
        logging.StreamHandler(io.StringIO()),
    )
    beside.addFilter(looking)
    made: list[str] = []

    def make(*given: Any, **named: Any) -> logging.LogRecord:
        made.append("made")
        return logging.LogRecord(*given, **named)

    with monkeypatch.context() as changed:
        changed.setattr(ours, "filters", [looking])
        log_request(ENDED, "/files/a", "mine", "a")
    for logger in (ours, logging.root):
        logger.addHandler(beside)
        log_request(ENDED, "/files/a", "mine", "a")
        logger.removeHandler(beside)
    assert len(looking.seen) == 3
    with monkeypatch.context() as changed:
        changed.setattr(logging, "_logRecordFactory", make)
        log_request(ENDED, "/files/a", "mine", "a")
    assert made == ["made"]
    assert capsys.readouterr().err.count("PATCH '/files/a' 409") == 4


def test_a_handler_for_worse_is_told_of_no_request(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("text", "info")
    logging.root.handlers[0].setLevel("WARNING")
    log_request(ENDED, "/files/a", "mine", "a")
    logging.root.handlers[0].setLevel("INFO")
    monkeypatch.setattr(logging.getLogger("tusd_py"), "propagate", False)
    monkeypatch.setattr(logging, "lastResort", None)
    log_request(ENDED, "/files/a", "mine", "a")
    assert "PATCH" not in capsys.readouterr().err


def test_a_log_that_cannot_be_written_breaks_no_request(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("text", "info")
    handler = logging.root.handlers[0]
    assert isinstance(handler, LineHandler)
    handler.stream = io.StringIO()
    handler.stream.close()
    log_request(ENDED, "/files/a", "mine", "a")
    assert "I/O operation on closed file" in capsys.readouterr().err


@pytest.mark.parametrize(("level", "noisy"), [("debug", 30), ("info", 30), ("error", 40)])
def test_what_others_log_is_no_noise(log: logging.Logger, level: str, noisy: int) -> None:
    configure_logging("text", level)
    assert logging.getLogger("uvicorn").level == logging.getLogger("asyncio").level == noisy


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({"s3_endpoint": "http://store.test"}, "http://store.test/mine"),
        (
            {"s3_endpoint": "http://store.test", "s3_addressing_style": "virtual"},
            "http://mine.store.test",
        ),
        ({}, "https://mine.s3."),
    ],
)
async def test_where_the_name_of_the_bucket_stands(
    tmp_path: Path, place: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the store wants it; a link says so, and no store is asked for one."""
    s3 = pytest.importorskip("tusd_py.storage.s3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    wanted = Place(upload_dir=tmp_path, s3_bucket="mine", s3_region="eu-west-1", **place)
    storage = build_app(wanted, UploadSettings()).storage
    assert isinstance(storage, s3.S3Storage)
    async with storage._bucket._connection._connected() as client:
        link = await client.generate_presigned_url("head_bucket", Params={"Bucket": "mine"})
    assert link.startswith(expected)


def test_what_is_said_of_a_bucket_arrives(tmp_path: Path) -> None:
    s3 = pytest.importorskip("tusd_py.storage.s3")
    said = BucketSettings(
        s3_memory=96 << 20,
        s3_part_size=16 << 20,
        s3_min_part_size=6 << 20,
        s3_max_parts=1_000,
        s3_max_object_size=5 << 30,
        s3_equal_parts=True,
        s3_concurrent_part_uploads=9,
        s3_concurrent_parts_per_upload=3,
    )
    place = Place(upload_dir=tmp_path, s3_bucket="mine", in_bucket=said)
    storage = build_app(place, UploadSettings()).storage
    assert isinstance(storage, s3.S3Storage)
    found = storage._settings
    rules = {"preferred": 16 << 20, "smallest": 6 << 20, "most_parts": 1_000, "equal": True}
    assert found.rules == s3.PartRules(**rules, largest_object=5 << 30)
    assert (found.memory, found.at_once, found.parallel) == (96 << 20, 9, 3)
