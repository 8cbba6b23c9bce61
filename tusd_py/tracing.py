"""Traces for OpenTelemetry: a span for each request, from its head to its answer, and its steps.

The rules:
- This is imported when somebody asks for traces, and nothing of OpenTelemetry before that. An
  application that has a tracer needs no more than its API.
- A request goes on the trace that its `traceparent` names, or the span that the application around
  this one has begun for it.
- Spans tell what the log tells: a method, a path, a status, ids, bytes and times. No header, no
  query, and nothing that a client says of its file.
- The steps are what observers are told of: their end is then, and their beginning is worked out.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from tusd_py.hooks.events import (
    BytesReceived,
    Committed,
    Observed,
    RequestEnded,
    Step,
    Synced,
    UploadCreated,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_CLOSES_WITHIN = 5.0

_UPLOAD_ID = "tusd.upload_id"


class Traces:
    """Makes spans of requests and of what happens in them.

    Args:
        tracer: Makes them; None for one of the provider that is configured.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("tusd_py")

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        upload_id: str | None,
        headers: Sequence[tuple[bytes, bytes]],
    ) -> Iterator[None]:
        """The span of a request; see `engine.services.Trace`."""
        names = propagate.get_global_textmap().fields
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name.decode("latin-1") in names
        }
        is_within = trace.get_current_span().get_span_context().is_valid
        attributes = {"http.request.method": method, "url.path": path}
        if upload_id is not None:
            attributes[_UPLOAD_ID] = upload_id
        span = self._tracer.start_span(
            method,
            context=None if is_within else propagate.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=attributes,
        )
        with trace.use_span(span, end_on_exit=True):
            yield

    def observe(self, event: Observed) -> None:
        """Takes one event in, as a step of the request that it happened in, or as an attribute."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        match event:
            case Step():
                self._add(event.name, event.seconds)
            case Synced():
                self._add("sync", event.seconds)
            case Committed():
                self._add("commit", event.seconds)
            case UploadCreated():
                span.set_attribute(_UPLOAD_ID, event.upload_id)
            case BytesReceived():
                span.set_attribute("tusd.bytes_received", event.count)
            case RequestEnded():
                span.update_name(event.method)
                span.set_attribute("http.response.status_code", event.status)
                if event.code:
                    span.set_attribute("error.type", event.code)
                if event.status >= 500:
                    span.set_status(Status(StatusCode.ERROR))

    def _add(self, name: str, seconds: float) -> None:
        now = time.time_ns()
        self._tracer.start_span(name, start_time=now - round(seconds * 1e9)).end(now)


class Provider:
    """Sends spans away in the background, as the variables `OTEL_...` say.

    Args:
        exporter: `otlp`, over HTTP, or `console`, to stderr.

    Attributes:
        tracer: For `Traces`.
    """

    def __init__(self, exporter: str) -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "tusd-py"}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_build_exporter(exporter)))
        self.tracer = self._provider.get_tracer("tusd_py")

    async def close(self) -> None:
        """Sends what is left, unless that takes longer than the end of a server may."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        await asyncio.to_thread(last.join, _CLOSES_WITHIN)


def _build_exporter(name: str) -> "SpanExporter":
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
