"""What operators watch, for Prometheus; the names are tusd's where tusd has one.

Numbers are plain until somebody asks for them: events are counted for every small upload, and a
scrape comes now and then.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tusd_py.hooks.events import (
    TUSD_HOOKS,
    BytesReceived,
    HookCalled,
    Observed,
    OutboxSeen,
    RequestEnded,
    UploadBuried,
    UploadCreated,
    UploadFinished,
)

_BUCKETS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, float("inf"))
"""Upper bounds in seconds of what a request may take."""


@dataclass(slots=True)
class _Durations:
    """How many requests took how long."""

    counts: list[int] = field(default_factory=lambda: [0] * len(_BUCKETS))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Counts a request."""
        self.counts[bisect_left(_BUCKETS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """For each bound, how many requests took at most so long."""
        bounds = map(floatToGoString, _BUCKETS)
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))


class Metrics(Collector):
    """Counts what happens; give `observe` to the engine."""

    def __init__(self) -> None:
        self._durations: dict[str, _Durations] = {}
        self._errors: Counter[tuple[str, str]] = Counter()
        self._received = self._created = self._finished = 0
        self._terminated = self._expired = 0
        # An alert on a rate needs the zero before the first one.
        self._hooks = dict.fromkeys(TUSD_HOOKS, 0)
        self._failed_hooks = dict.fromkeys(TUSD_HOOKS, 0)
        self._outbox = OutboxSeen(waiting=0, oldest_at=None, dead=0)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def observe(self, event: Observed) -> None:
        """Takes one event in."""
        match event:
            case RequestEnded():
                durations = self._durations.get(event.method)
                if durations is None:
                    durations = self._durations[event.method] = _Durations()
                durations.add(event.seconds)
                if event.code:
                    self._errors[str(event.status), event.code] += 1
            case BytesReceived():
                self._received += event.count
            case UploadCreated():
                self._created += 1
            case UploadFinished():
                self._finished += 1
            case HookCalled():
                self._hooks[event.hook] += 1
                self._failed_hooks[event.hook] += event.failed
            case OutboxSeen():
                self._outbox = event
            case UploadBuried():
                if event.phase == "terminated":
                    self._terminated += 1
                else:
                    self._expired += 1

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        requests = CounterMetricFamily("tusd_requests", "Requests by method.", labels=["method"])
        seconds = HistogramMetricFamily(
            "tusd_request_duration_seconds",
            "From a request's head to the end of its response.",
            labels=["method"],
        )
        for method, durations in self._durations.items():
            requests.add_metric([method], sum(durations.counts))
            seconds.add_metric([method], durations.buckets(), durations.total)
        errors = CounterMetricFamily(
            "tusd_errors", "Refused requests by status and code.", labels=["status", "code"]
        )
        for labels, count in self._errors.items():
            errors.add_metric(labels, count)
        yield from (requests, errors, seconds)
        yield from self._collect_hooks()
        # Gauges that only go up: the name of a Counter would end with `_total`, and tusd's do not.
        for name, says, value in (
            ("tusd_bytes_received", "Bytes that were stored and count.", self._received),
            ("tusd_uploads_created", "Uploads that were created.", self._created),
            ("tusd_uploads_finished", "Uploads that are complete.", self._finished),
            ("tusd_uploads_terminated", "Uploads terminated.", self._terminated),
            ("tusd_uploads_expired", "Uploads that ran out of time.", self._expired),
        ):
            yield GaugeMetricFamily(name, says, value=value)

    def _collect_hooks(self) -> Iterator[Metric]:
        called = CounterMetricFamily(
            "tusd_hook_invocations", "Hooks that were called.", labels=["hooktype"]
        )
        failed = CounterMetricFamily(
            "tusd_hook_errors", "Hooks that gave no answer.", labels=["hooktype"]
        )
        for family, counts in ((called, self._hooks), (failed, self._failed_hooks)):
            for hook, count in counts.items():
                family.add_metric([hook], count)
            yield family
        outbox = self._outbox
        lag = 0.0 if outbox.oldest_at is None else max(0.0, time.time() - outbox.oldest_at)
        for name, says, value in (
            ("tusd_outbox_waiting", "Events that are still to be told.", outbox.waiting),
            ("tusd_outbox_lag_seconds", "Since the oldest of them happened.", lag),
            ("tusd_outbox_dead", "Events that were given up.", outbox.dead),
        ):
            yield GaugeMetricFamily(name, says, value=value)

    def render(self) -> tuple[bytes, str]:
        """The text for a scrape, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
