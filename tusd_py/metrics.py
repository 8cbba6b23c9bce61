"""What operators watch, for Prometheus; the names are tusd's where tusd has one."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tusd_py.hooks.events import (
    BytesReceived,
    Observed,
    RequestEnded,
    UploadBuried,
    UploadCreated,
    UploadFinished,
)


class Metrics:
    """Counts what happens; give `observe` to the engine."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self._requests = Counter(
            "tusd_requests", "Requests by method.", ["method"], registry=registry
        )
        self._errors = Counter(
            "tusd_errors",
            "Refused requests by status and code.",
            ["status", "code"],
            registry=registry,
        )
        # Gauges that only go up: the name of a Counter would end with `_total`, and tusd's do not.
        self._bytes = Gauge(
            "tusd_bytes_received", "Bytes that were stored and count.", registry=registry
        )
        self._created = Gauge(
            "tusd_uploads_created", "Uploads that were created.", registry=registry
        )
        self._finished = Gauge(
            "tusd_uploads_finished", "Uploads that are complete.", registry=registry
        )
        self._terminated = Gauge(
            "tusd_uploads_terminated", "Uploads terminated.", registry=registry
        )
        self._expired = Gauge(
            "tusd_uploads_expired", "Uploads that ran out of time.", registry=registry
        )
        self._seconds = Histogram(
            "tusd_request_duration_seconds",
            "From a request's head to the end of its response.",
            ["method"],
            buckets=(0.001, 0.01, 0.1, 1, 10, 60, 600, 3600),
            registry=registry,
        )
        # To look a label up costs more than to count.
        self._of_method: dict[str, tuple[Counter, Histogram]] = {}

    def observe(self, event: Observed) -> None:
        """Takes one event in."""
        match event:
            case RequestEnded():
                requests, seconds = self._of_method.get(event.method) or self._begin(event.method)
                requests.inc()
                seconds.observe(event.seconds)
                if event.code:
                    self._errors.labels(str(event.status), event.code).inc()
            case BytesReceived():
                self._bytes.inc(event.count)
            case UploadCreated():
                self._created.inc()
            case UploadFinished():
                self._finished.inc()
            case UploadBuried():
                (self._terminated if event.phase == "terminated" else self._expired).inc()

    def _begin(self, method: str) -> tuple[Counter, Histogram]:
        made = self._requests.labels(method), self._seconds.labels(method)
        self._of_method[method] = made
        return made

    def render(self) -> tuple[bytes, str]:
        """The text for a scrape, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
