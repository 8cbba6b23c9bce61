"""Traces: what a request's span tells, and that nothing of it is there where nobody asks for it."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from tests.asgi.in_process import BASE, Running, id_of, running, sha1
from tests.interop.plain_http import TUS, append, asked, create
from tests.serving import eventually, serving
from tusd_py.hooks.interface import Access, NewUpload
from tusd_py.wire.server import ServerSettings
from tusd_py.wiring.errors import NotInstalled
from tusd_py.wiring.server import ServerApp, serve
from tusd_py.wiring.settings import Place, UploadSettings

pytestmark = pytest.mark.anyio

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
DIRECT = {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


class Recorded:
    """What was traced."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer: Tracer = provider.get_tracer("test")

    def take(self) -> tuple[ReadableSpan, list[ReadableSpan]]:
        """The span of the one request since the last time, and those in it in their order."""
        spans = self._exporter.get_finished_spans()
        self._exporter.clear()
        (request,) = [span for span in spans if span.kind is SpanKind.SERVER]
        assert request.context is not None
        steps = [span for span in spans if span is not request]
        for step in steps:
            assert step.parent is not None
            assert step.parent.span_id == request.context.span_id
            assert step.context is not None
            assert step.context.trace_id == request.context.trace_id
            assert step.start_time is not None
            assert step.end_time is not None
            assert request.start_time is not None
            assert request.start_time <= step.start_time <= step.end_time
        return request, steps


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
async def server(tmp_path: Path, recorded: Recorded) -> AsyncIterator[Running]:
    async with running(tmp_path) as server:
        server.tus.trace(recorded.tracer)
        yield server


def names(spans: list[ReadableSpan]) -> list[str]:
    return [span.name for span in spans]


def in_order(spans: list[ReadableSpan], *wanted: str) -> bool:
    """Whether these are among them, one behind the other."""
    left = iter(names(spans))
    return all(name in left for name in wanted)


async def test_a_request_from_its_head_to_the_commit(server: Running, recorded: Recorded) -> None:
    path = await server.create(11)
    created, steps = recorded.take()
    assert created.name == "POST"
    assert created.attributes == {
        "http.request.method": "POST",
        "url.path": "/files/",
        "tusd.upload_id": id_of(path),
        "http.response.status_code": 201,
    }
    assert names(steps) == ["commit"]
    await server.patch(path, 0, b"hello")
    appended, steps = recorded.take()
    assert appended.attributes == {
        "http.request.method": "PATCH",
        "url.path": path,
        "tusd.upload_id": id_of(path),
        "tusd.bytes_received": 5,
        "http.response.status_code": 204,
    }
    assert in_order(steps, "lock", "receive", "commit")
    assert appended.parent is None
    assert appended.status.status_code is StatusCode.UNSET


async def test_the_last_byte_is_synced(server: Running, recorded: Recorded) -> None:
    path = await server.create(5)
    recorded.take()
    await server.patch(path, 0, b"hello")
    assert in_order(recorded.take()[1], "lock", "receive", "sync", "commit")


async def test_what_the_application_takes_is_seen(tmp_path: Path, recorded: Recorded) -> None:
    async def on_create(new: NewUpload) -> None:
        pass

    async def on_finish(finished: object) -> None:
        pass

    async with running(tmp_path, on_create=on_create, on_finish=on_finish) as server:
        server.tus.trace(recorded.tracer)
        path = await server.create(5)
        assert names(recorded.take()[1])[0] == "on_create"
        await server.patch(path, 0, b"hello")
        assert "on_finish" in names(recorded.take()[1])


@pytest.mark.parametrize(
    ("headers", "trace_id", "parent"),
    [
        (TRACEPARENT, TRACE, PARENT),
        ({"traceparent": f"00-{TRACE}-{PARENT}"}, None, None),
        ({"traceparent": f"ff-{TRACE}-{PARENT}-01"}, None, None),
        ({"traceparent": "0" * 600}, None, None),
    ],
)
async def test_a_trace_goes_on(
    server: Running,
    recorded: Recorded,
    headers: dict[str, str],
    trace_id: str | None,
    parent: str | None,
) -> None:
    """What a client or a proxy began; what cannot be understood begins a new one."""
    await server.client.request("OPTIONS", "/files/", headers=headers)
    request, _ = recorded.take()
    assert request.context is not None
    assert (f"{request.context.trace_id:032x}" == TRACE) == (trace_id is not None)
    found = None if request.parent is None else f"{request.parent.span_id:016x}"
    assert found == parent


async def test_what_is_asked_beside_tus(server: Running, recorded: Recorded) -> None:
    path = await server.whole(b"1")
    recorded.take()
    site = httpx.ASGITransport(ServerApp(server.tus, BASE, None))
    async with httpx.AsyncClient(transport=site, base_url="http://testserver") as client:
        for asked_for in (f"/api/uploads/{id_of(path)}", path + "/events"):
            await client.get(asked_for)
            request, _ = recorded.take()
            assert request.attributes == {
                "http.request.method": "GET",
                "url.path": asked_for,
                "tusd.upload_id": id_of(path),
                "http.response.status_code": 200,
            }


async def test_an_application_that_is_traced_already(server: Running, recorded: Recorded) -> None:
    """Its own span is the parent, which took the client's over."""
    with recorded.tracer.start_as_current_span("its own") as around:
        await server.client.request("OPTIONS", "/files/", headers=TRACEPARENT)
    spans = recorded._exporter.get_finished_spans()
    request = next(span for span in spans if span.name == "OPTIONS")
    assert request.parent is not None
    assert request.parent.span_id == around.get_span_context().span_id


async def test_a_refusal_is_named_and_an_error_of_ours_is_one(
    server: Running, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await server.create(5)
    recorded.take()
    await server.patch(path, 3, b"lo")
    request, _ = recorded.take()
    assert request.attributes is not None
    assert request.attributes["error.type"] == "ERR_MISMATCHED_OFFSET"
    assert request.attributes["http.response.status_code"] == 409
    assert request.status.status_code is StatusCode.UNSET, "the client's"
    monkeypatch.setattr(server.tus.services, "locks", None)
    await server.patch(path, 0, b"hello")
    request, _ = recorded.take()
    assert request.attributes is not None
    assert request.attributes["error.type"] == "ERR_INTERNAL_SERVER_ERROR"
    assert request.status.status_code is StatusCode.ERROR


async def test_another_method_in_place_of_the_one_sent(server: Running, recorded: Recorded) -> None:
    path = await server.create(5)
    recorded.take()
    await server.client.post(path, headers=TUS | {"X-HTTP-Method-Override": "DELETE"})
    request, steps = recorded.take()
    assert request.name == "DELETE"
    assert names(steps)[0] == "lock"


async def test_nothing_that_is_secret_or_told_of_the_file(
    tmp_path: Path, recorded: Recorded
) -> None:
    """Traces go to other machines, and to people who may not have the uploads."""

    async def anyone(access: Access) -> str:
        return "secret-principal"

    secret = "c2VjcmV0"
    async with running(tmp_path, authorize=anyone) as server:
        server.tus.trace(recorded.tracer)
        headers = {"Authorization": f"Bearer {secret}", "Cookie": secret, "tracestate": "a=b"}
        path = await server.create(5, Upload_Metadata=f"filename {secret}", **headers)
        request, steps = recorded.take()
        await server.client.patch(
            f"{path}?tus-signed={secret}",
            headers=TUS | headers | sha1(b"hello") | {"Upload-Offset": "0"},
        )
        other, more = recorded.take()
    told = "".join(span.to_json() for span in (request, other, *steps, *more))
    assert secret not in told
    assert "secret" not in told


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    script = (
        "import sys, tusd_py, tusd_py.cli, tusd_py.wiring.server\n"
        "from tusd_py import DiskStorage, TusApp\n"
        "TusApp(DiskStorage('/nowhere'))\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert ended.stdout.strip() == b"[]"


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.sdk.resources"])
def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name in [name for name in sys.modules if name.startswith(missing)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "tusd_py.tracing", raising=False)
    server = ServerSettings(port=0, traces="console")
    with pytest.raises(
        NotInstalled, match=r"needs opentelemetry.*; install it with: pip install 'tusd-py\[otel\]'"
    ):
        serve(Place(upload_dir=tmp_path), server, UploadSettings(), print)


@contextlib.contextmanager
def collector(*, answers: bool = True) -> Iterator[tuple[str, list[ResourceSpans]]]:
    """What takes traces over HTTP, as OpenTelemetry's own does; or hangs."""
    taken: list[ResourceSpans] = []
    gate = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not answers:
                gate.wait(60)
            taken.extend(ExportTraceServiceRequest.FromString(body).resource_spans)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", taken
    finally:
        gate.set()
        http.shutdown()
        thread.join()
        http.server_close()


def told_by(taken: list[ResourceSpans]) -> list[Span]:
    return [span for each in taken for scope in each.scope_spans for span in scope.spans]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_sends_them_by_otlp(tmp_path: Path, workers: str) -> None:
    """Also of small uploads that a server like this answers without a task, and at its end."""
    with collector() as (url, taken):
        env = {**DIRECT, "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
        flags = ("--traces", "otlp", "--workers", workers)
        with serving(tmp_path / "u", *flags, env=env) as server:
            upload = create(server.url, 5)
            assert append(upload, 0, b"hello", traceparent=TRACEPARENT["traceparent"]).is_success
            assert server.stop() == 0
        spans = told_by(taken)
    (request,) = [span for span in spans if span.name == "PATCH"]
    assert request.trace_id.hex() == TRACE
    assert request.parent_span_id.hex() == PARENT
    steps = [span.name for span in spans if span.parent_span_id == request.span_id]
    assert any("commit" in name for name in steps)
    named = {
        pair.value.string_value
        for each in taken
        for pair in each.resource.attributes
        if pair.key == "service.name"
    }
    assert named == {"tusd-py"}


def test_a_server_shows_them_on_the_console(tmp_path: Path) -> None:
    env = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_SERVICE_NAME": "mine"}
    with serving(tmp_path / "u", "--traces", "console", env=env) as server:
        create(server.url, 5)
        eventually("shown", lambda: '"name": "POST"' in server.log.read_text())
        assert '"service.name": "mine"' in server.log.read_text()


def test_a_server_ends_though_nobody_takes_them(tmp_path: Path) -> None:
    """Uploads do not wait for a collector, nor does the end."""
    with collector(answers=False) as (url, _):
        env = {**DIRECT, "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with serving(tmp_path / "u", "--traces", "otlp", env=env) as server:
            upload = create(server.url, 5)
            assert append(upload, 0, b"hello").status_code == 204
            assert asked("HEAD", upload, TUS).status_code == 200
            assert server.stop() == 0
