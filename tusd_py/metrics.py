"""What operators watch, for Prometheus; the names are tusd's where tusd has one.

Numbers are plain until somebody asks for them: events are counted for every small upload, and a
scrape comes now and then. It has the numbers of all workers, whichever of them it comes to.
"""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

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
    CUTS,
    LIMITS,
    TUSD_HOOKS,
    AppendCut,
    AppendsSeen,
    BytesDropped,
    BytesReceived,
    Committed,
    HeldBack,
    HookCalled,
    LimitReached,
    Observed,
    OutboxSeen,
    RecordRebuilt,
    RequestEnded,
    StoreCalled,
    Synced,
    SyncLost,
    UploadBuried,
    UploadCreated,
    UploadFinished,
    UploadRecovered,
    UploadsSeen,
)
from tusd_py.numbers import Name, Numbers

_REQUEST_BUCKETS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, float("inf"))
"""Upper bounds in seconds of what a request may take."""

_DISK_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0, 10.0, float("inf"))
"""Likewise of a sync or a commit."""

_STORE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, float("inf"))
"""Likewise of a call to an S3 store."""

_COUNTED = (
    # Gauges that only go up: the name of a Counter would end with `_total`, and tusd's do not.
    (GaugeMetricFamily, "tusd_bytes_received", "Bytes that were stored and count."),
    (GaugeMetricFamily, "tusd_uploads_created", "Uploads that were created."),
    (GaugeMetricFamily, "tusd_uploads_finished", "Uploads that are complete."),
    (GaugeMetricFamily, "tusd_uploads_terminated", "Uploads terminated."),
    (GaugeMetricFamily, "tusd_uploads_expired", "Uploads that ran out of time."),
    (CounterMetricFamily, "tusd_bytes_dropped", "Bytes that were stored and do not count."),
    (CounterMetricFamily, "tusd_uploads_recovered", "Uploads whose end was begun, and broke off."),
    (CounterMetricFamily, "tusd_records_rebuilt", "Lost records made anew from what is stored."),
    (CounterMetricFamily, "tusd_fsync_failures", "Uploads that fell back since a sync failed."),
    (CounterMetricFamily, "tusd_s3_retries", "Calls to an S3 store that were repeated."),
    (CounterMetricFamily, "tusd_held_back_seconds", "That bodies waited for a limit of speed."),
)
_NOW = (
    ("tusd_connections_open", "Connections of clients, as of a second ago."),
    ("tusd_appends_open", "Uploads that bytes come for now."),
)
_TIMED = (
    ("tusd_fsync_seconds", "Bytes synced to the disk, with the wait for a thread."),
    ("tusd_commit_seconds", "Records committed by a thread, with the wait for it."),
)
_OUTBOX = ("outbox",)
_OPEN = ("open",)


class Counts(NamedTuple):
    """What has happened since the start: uploads, bytes, and refused requests.

    Attributes:
        received: Bytes that were stored and count.
        errors: Status, code, and how many times.
    """

    created: int
    finished: int
    terminated: int
    expired: int
    received: int
    errors: list[tuple[int, str, int]]


class Metrics(Collector):
    """Counts what happens; give `observe` to the engine.

    Args:
        numbers: Where; None for those of a process that is alone.
    """

    def __init__(self, numbers: Numbers | None = None) -> None:
        self._numbers = numbers = numbers or Numbers()
        self._values = numbers.values
        self._requests: dict[tuple[str, int], tuple[int, int]] = {}
        self._errors: dict[tuple[int, str], int] = {}
        # An alert on a rate needs the zero before the first one.
        self._refused = {limit: numbers.find("refused", limit) for limit in LIMITS}
        self._hooks = {hook: numbers.find("hooks", hook, count=2) for hook in TUSD_HOOKS}
        self._outbox = numbers.find(*_OUTBOX, count=4)
        self._open = numbers.find(*_OPEN, count=2)
        counted = [numbers.find(title) for _, title, _ in _COUNTED]
        self._received, self._created, self._finished, self._terminated, self._expired = counted[:5]
        self._dropped, self._recovered, self._rebuilt, self._lost, self._retried = counted[5:10]
        self._held_back = counted[10]
        self._cuts = {why: numbers.find("cuts", why) for why in CUTS}
        self._connections, self._appends = (numbers.find(title) for title, _ in _NOW)
        # An earlier worker may have been killed in the midst of them.
        self._values[self._connections] = self._values[self._appends] = 0
        self._synced, self._committed = (
            numbers.find(title, count=len(_DISK_BUCKETS) + 1) for title, _ in _TIMED
        )
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def observe(self, event: Observed) -> None:
        """Takes one event in."""
        values = self._values
        match event:
            case RequestEnded():
                method, status, code, seconds, is_stream = event
                places = self._requests.get((method, status))
                if places is None:
                    places = self._find_requests(method, status)
                first, answers = places
                if is_stream:
                    values[self._numbers.find("streams", method)] += 1
                else:
                    self._add_time(first, _REQUEST_BUCKETS, seconds)
                values[answers] += 1
                if code:
                    values[self._find_errors(status, code)] += 1
            case BytesReceived():
                values[self._received] += event.count
            case UploadCreated():
                values[self._created] += 1
            case UploadFinished():
                values[self._finished] += 1
            case Synced():
                self._add_time(self._synced, _DISK_BUCKETS, event.seconds)
            case Committed():
                self._add_time(self._committed, _DISK_BUCKETS, event.seconds)
            case AppendsSeen():
                values[self._appends] = event.count
            case _:
                self._observe_rare(event)

    def _observe_rare(self, event: Observed) -> None:
        values = self._values
        match event:
            case LimitReached():
                values[self._refused[event.limit]] += 1
            case HookCalled():
                first = self._hooks[event.hook]
                values[first] += 1
                values[first + 1] += event.failed
            case OutboxSeen():
                seen = (event.waiting, event.oldest_at or 0.0, event.dead, time.time())
                for place, value in enumerate(seen, self._outbox):
                    values[place] = value
            case UploadsSeen():
                values[self._open], values[self._open + 1] = event.count, time.time()
            case UploadBuried():
                is_asked = event.phase == "terminated"
                values[self._terminated if is_asked else self._expired] += 1
            case HeldBack():
                values[self._held_back] += event.seconds
            case AppendCut():
                values[self._cuts[event.why]] += 1
            case BytesDropped():
                values[self._dropped] += event.count
            case UploadRecovered():
                values[self._recovered] += 1
            case RecordRebuilt():
                values[self._rebuilt] += 1
            case SyncLost():
                values[self._lost] += 1
            case StoreCalled():
                self._observe_call(event)

    def _observe_call(self, event: StoreCalled) -> None:
        find, operation = self._numbers.find, event.operation
        self._values[find("s3", operation, str(event.status or "none"))] += 1
        self._values[self._retried] += event.retries
        first = find("s3 seconds", operation, count=len(_STORE_BUCKETS) + 1)
        self._add_time(first, _STORE_BUCKETS, event.seconds)

    def see_connections(self, count: int) -> None:
        """How many connections of clients there are now."""
        self._values[self._connections] = count

    def _add_time(self, first: int, buckets: Sequence[float], seconds: float) -> None:
        values = self._values
        values[first + bisect_left(buckets, seconds)] += 1
        values[first + len(buckets)] += seconds

    def _find_requests(self, method: str, status: int) -> tuple[int, int]:
        """Where those of a method are counted, and those that were answered with a status."""
        first = self._numbers.find("requests", method, count=len(_REQUEST_BUCKETS) + 1)
        places = self._requests[method, status] = (
            first,
            self._numbers.find("answers", method, str(status)),
        )
        return places

    def _find_errors(self, status: int, code: str) -> int:
        place = self._errors.get((status, code))
        if place is None:
            place = self._errors[status, code] = self._numbers.find("errors", str(status), code)
        return place

    def counts(self) -> "Counts":
        """What has happened since the start, in all workers."""
        totals = _add_up(self._numbers.rows())
        counted = (int(totals[title,][0]) for _, title, _ in _COUNTED[:5])
        received, created, finished, terminated, expired = counted
        return Counts(
            created=created,
            finished=finished,
            terminated=terminated,
            expired=expired,
            received=received,
            errors=[
                (int(name[1]), name[2], int(count))
                for name, (count, *_) in totals.items()
                if name[0] == "errors"
            ],
        )

    @property
    def received(self) -> int:
        """Bytes that were stored by this process and count."""
        return int(self._values[self._received])

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        rows = self._numbers.rows()
        totals = _add_up(rows)
        yield from _collect_requests(totals)
        yield from _collect_calls(totals)
        refused = CounterMetricFamily(
            "tusd_refused", "What a limit refused, by limit.", labels=["limit"]
        )
        for limit in LIMITS:
            refused.add_metric([limit], totals["refused", limit][0])
        yield refused
        yield from _collect_hooks(totals)
        yield from _collect_outbox(_last(rows, _OUTBOX))
        count, _ = _last(rows, _OPEN)
        says = "Uploads that are not complete, of all workers, some seconds ago."
        yield GaugeMetricFamily("tusd_uploads_open", says, value=count)
        for family, title, says in _COUNTED:
            yield family(title, says, value=totals[title,][0])
        for title, says in _NOW:
            yield GaugeMetricFamily(title, says, value=totals[title,][0])
        for title, says in _TIMED:
            values = totals[title,]
            timed = HistogramMetricFamily(title, says)
            timed.add_metric([], _buckets(_DISK_BUCKETS, values), values[-1])
            yield timed

    def render(self) -> tuple[bytes, str]:
        """The text for a scrape, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


def _add_up(rows: Sequence[Mapping[Name, list[float]]]) -> dict[Name, list[float]]:
    found: defaultdict[Name, list[list[float]]] = defaultdict(list)
    for row in rows:
        for name, values in row.items():
            found[name].append(values)
    return {name: [sum(each) for each in zip(*found[name], strict=True)] for name in found}


def _buckets(bounds: Sequence[float], values: Sequence[float]) -> list[tuple[str, float]]:
    """For each bound, how many took at most so long."""
    counts = accumulate(values[: len(bounds)])
    return list(zip(map(floatToGoString, bounds), counts, strict=True))


def _collect_requests(totals: Mapping[Name, list[float]]) -> Iterator[Metric]:
    requests = CounterMetricFamily("tusd_requests", "Requests by method.", labels=["method"])
    seconds = HistogramMetricFamily(
        "tusd_request_duration_seconds",
        "From a request's head to the end of its response, but for streams of events.",
        labels=["method"],
    )
    answers = CounterMetricFamily(
        "tusd_responses",
        "Requests by method and by what came of them.",
        labels=["method", "status"],
    )
    errors = CounterMetricFamily(
        "tusd_errors", "Refused requests by status and code.", labels=["status", "code"]
    )
    cuts = CounterMetricFamily(
        "tusd_appends_cut", "Bodies that ended before their last byte, and why.", labels=["why"]
    )
    counted = {"answers": answers, "errors": errors, "cuts": cuts}
    for (kind, *labels), values in totals.items():
        if kind == "requests":
            streams = totals.get(("streams", *labels), [0.0])
            requests.add_metric(labels, sum(values[:-1]) + streams[0])
            seconds.add_metric(labels, _buckets(_REQUEST_BUCKETS, values), values[-1])
        elif kind in counted:
            counted[kind].add_metric(labels, values[0])
    yield from (requests, *counted.values(), seconds)


def _collect_calls(totals: Mapping[Name, list[float]]) -> Iterator[Metric]:
    calls = CounterMetricFamily(
        "tusd_s3_calls", "Calls to an S3 store that ended.", labels=["operation", "status"]
    )
    seconds = HistogramMetricFamily(
        "tusd_s3_call_seconds",
        "From a call to the head of its answer, with all attempts.",
        labels=["operation"],
    )
    for (kind, *labels), values in totals.items():
        if kind == "s3":
            calls.add_metric(labels, values[0])
        elif kind == "s3 seconds":
            seconds.add_metric(labels, _buckets(_STORE_BUCKETS, values), values[-1])
    yield from (calls, seconds)


def _collect_hooks(totals: Mapping[Name, list[float]]) -> Iterator[Metric]:
    called = CounterMetricFamily(
        "tusd_hook_invocations", "Hooks that were called.", labels=["hooktype"]
    )
    failed = CounterMetricFamily(
        "tusd_hook_errors", "Hooks that gave no answer.", labels=["hooktype"]
    )
    for number, family in enumerate((called, failed)):
        for hook in TUSD_HOOKS:
            family.add_metric([hook], totals["hooks", hook][number])
        yield family


def _last(rows: Sequence[Mapping[Name, list[float]]], name: Name) -> list[float]:
    """What the worker saw that looked last: each looks at the whole, and says when."""
    return max((row[name] for row in rows if name in row), key=lambda values: values[-1])


def _collect_outbox(seen: Sequence[float]) -> Iterator[Metric]:
    waiting, oldest_at, dead, _ = seen
    lag = max(0.0, time.time() - oldest_at) if oldest_at else 0.0
    for name, says, value in (
        ("tusd_outbox_waiting", "Events that are still to be told.", waiting),
        ("tusd_outbox_lag_seconds", "Since the oldest of them happened.", lag),
        ("tusd_outbox_dead", "Events that were given up.", dead),
    ):
        yield GaugeMetricFamily(name, says, value=value)
