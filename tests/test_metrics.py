"""What a scrape shows for what happened."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.protocol.test_errors import ALL
from tests.state.samples import UPLOAD
from tusd_py.hooks.events import (
    CUTS,
    LIMITS,
    TUSD_HOOKS,
    AppendCut,
    AppendsSeen,
    BytesDropped,
    BytesReceived,
    Committed,
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
from tusd_py.metrics import Metrics
from tusd_py.numbers import Board
from tusd_py.protocol.upload import Phase


def samples(metrics: Metrics) -> dict[str, float]:
    """Numbers by name and labels, without what depends on the time of day."""
    text, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): (
            sample.value
        )
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def ended(method: str, status: int, code: str = "", seconds: float = 0.05) -> RequestEnded:
    return RequestEnded(method=method, status=status, code=code, seconds=seconds)


def called(status: int, retries: int = 0) -> StoreCalled:
    return StoreCalled(operation="UploadPart", status=status, retries=retries, seconds=0.02)


def buried(phase: Phase) -> UploadBuried:
    return UploadBuried(upload_id="a", phase=phase)


STREAM = RequestEnded(method="GET", status=200, code="", seconds=4000, is_stream=True)
EVENTS: list[tuple[Observed, str, float]] = [
    (STREAM, "tusd_requests_total method=GET", 1),
    (STREAM, "tusd_responses_total method=GET status=200", 1),
    (STREAM, "tusd_request_duration_seconds_count method=GET", 0),
    (STREAM, "tusd_request_duration_seconds_sum method=GET", 0),
    (ended("PATCH", 204), "tusd_requests_total method=PATCH", 1),
    (ended("PATCH", 409, "ERR_X"), "tusd_requests_total method=PATCH", 1),
    (ended("PATCH", 409, "ERR_X"), "tusd_errors_total code=ERR_X status=409", 1),
    (ended("HEAD", 200), "tusd_request_duration_seconds_count method=HEAD", 1),
    (ended("HEAD", 200), "tusd_request_duration_seconds_sum method=HEAD", 0.05),
    (ended("HEAD", 200), "tusd_request_duration_seconds_bucket le=0.1 method=HEAD", 1),
    (ended("HEAD", 200), "tusd_request_duration_seconds_bucket le=0.01 method=HEAD", 0),
    (BytesReceived(upload=UPLOAD, count=4711), "tusd_bytes_received", 4711),
    (UploadCreated(upload_id="a"), "tusd_uploads_created", 1),
    (UploadFinished(upload_id="a"), "tusd_uploads_finished", 1),
    (
        HookCalled(hook="pre-create", failed=False),
        "tusd_hook_invocations_total hooktype=pre-create",
        1,
    ),
    (
        HookCalled(hook="post-finish", failed=True),
        "tusd_hook_invocations_total hooktype=post-finish",
        1,
    ),
    (HookCalled(hook="post-finish", failed=True), "tusd_hook_errors_total hooktype=post-finish", 1),
    (
        HookCalled(hook="post-finish", failed=False),
        "tusd_hook_errors_total hooktype=post-finish",
        0,
    ),
    (LimitReached(limit="open-uploads"), "tusd_refused_total limit=open-uploads", 1),
    (buried(Phase.TERMINATED), "tusd_uploads_terminated", 1),
    (buried(Phase.EXPIRED), "tusd_uploads_expired", 1),
    (ended("PATCH", 204), "tusd_responses_total method=PATCH status=204", 1),
    (ended("PATCH", 409, "ERR_X"), "tusd_responses_total method=PATCH status=409", 1),
    (BytesDropped(count=7), "tusd_bytes_dropped_total", 7),
    (AppendCut("contended"), "tusd_appends_cut_total why=contended", 1),
    (AppendCut("too-slow"), "tusd_appends_cut_total why=too-slow", 1),
    (RecordRebuilt("a"), "tusd_records_rebuilt_total", 1),
    (SyncLost("a"), "tusd_fsync_failures_total", 1),
    (called(200), "tusd_s3_calls_total operation=UploadPart status=200", 1),
    (called(0), "tusd_s3_calls_total operation=UploadPart status=none", 1),
    (called(200), "tusd_s3_call_seconds_bucket le=0.025 operation=UploadPart", 1),
    (called(200), "tusd_s3_call_seconds_bucket le=0.01 operation=UploadPart", 0),
    (called(200), "tusd_s3_call_seconds_sum operation=UploadPart", 0.02),
    (called(503, retries=4), "tusd_s3_retries_total", 4),
    (UploadRecovered(upload_id="a"), "tusd_uploads_recovered_total", 1),
    (Synced(0.003), "tusd_fsync_seconds_count", 1),
    (Synced(0.003), "tusd_fsync_seconds_sum", 0.003),
    (Synced(0.003), "tusd_fsync_seconds_bucket le=0.005", 1),
    (Synced(0.003), "tusd_fsync_seconds_bucket le=0.0025", 0),
    (Committed(20.0), "tusd_commit_seconds_bucket le=10.0", 0),
    (Committed(20.0), "tusd_commit_seconds_bucket le=+Inf", 1),
]
NAMES = (
    "tusd_bytes_received",
    "tusd_uploads_created",
    "tusd_uploads_finished",
    "tusd_uploads_terminated",
    "tusd_uploads_expired",
    "tusd_bytes_dropped_total",
    "tusd_uploads_recovered_total",
    "tusd_records_rebuilt_total",
    "tusd_fsync_failures_total",
    "tusd_s3_retries_total",
    "tusd_fsync_seconds_count",
    "tusd_commit_seconds_count",
)


@pytest.mark.parametrize(("event", "name", "value"), EVENTS)
def test_an_event_moves_its_number(event: Observed, name: str, value: float) -> None:
    metrics = Metrics()
    metrics.observe(event)
    assert samples(metrics)[name] == pytest.approx(value)
    metrics.observe(event)
    assert samples(metrics)[name] == pytest.approx(2 * value)


@pytest.mark.parametrize(("event", "name", "_"), EVENTS)
def test_an_event_moves_no_other_number(event: Observed, name: str, _: float) -> None:
    metrics = Metrics()
    metrics.observe(event)
    moved = name.replace("_sum", "_count").partition("_bucket")
    assert [other for other in NAMES if samples(metrics)[other]] == [
        other for other in NAMES if other == moved[0] + ("_count" if moved[1] else "")
    ]


def test_a_request_that_went_well_is_no_error() -> None:
    metrics = Metrics()
    metrics.observe(ended("PATCH", 204))
    assert not [name for name in samples(metrics) if name.startswith("tusd_errors")]


def test_before_anything_happened_the_names_are_there() -> None:
    """An alert on a rate needs the zero before the first one."""
    found = samples(Metrics())
    assert {name: found[name] for name in NAMES} == dict.fromkeys(NAMES, 0)


def test_all_hooks_are_there_from_the_start() -> None:
    found = samples(Metrics())
    for hook in TUSD_HOOKS:
        assert found[f"tusd_hook_invocations_total hooktype={hook}"] == 0
        assert found[f"tusd_hook_errors_total hooktype={hook}"] == 0


def test_all_limits_are_there_from_the_start() -> None:
    """And every error that names one names one of them."""
    found = samples(Metrics())
    assert all(found[f"tusd_refused_total limit={limit}"] == 0 for limit in LIMITS)
    assert {error.limit for error in ALL} - {""} <= set(LIMITS)


def test_all_that_can_end_a_body_is_there_from_the_start() -> None:
    found = samples(Metrics())
    shown = {name for name in found if name.startswith("tusd_appends_cut_total")}
    assert shown == {f"tusd_appends_cut_total why={why}" for why in CUTS}
    assert {"contended", "disconnect", "idle", "too-slow", "limit", "shutdown"} < set(CUTS)
    assert not {"end", "interrupted"} & set(CUTS)


def test_the_outbox_shows_what_waits_and_since_when() -> None:
    """An alert on the lag tells that nobody answers to hooks."""
    metrics = Metrics()
    names = ("tusd_outbox_waiting", "tusd_outbox_lag_seconds", "tusd_outbox_dead")
    assert [samples(metrics)[name] for name in names] == [0, 0, 0]
    metrics.observe(OutboxSeen(waiting=3, oldest_at=time.time() - 90, dead=2))
    waiting, lag, dead = (samples(metrics)[name] for name in names)
    assert (waiting, dead) == (3, 2)
    assert 90 <= lag < 190
    metrics.observe(OutboxSeen(waiting=0, oldest_at=None, dead=2))
    assert [samples(metrics)[name] for name in names] == [0, 0, 2]


def test_what_there_is_now_goes_up_and_down() -> None:
    metrics = Metrics()
    for count in (3, 1):
        metrics.observe(AppendsSeen(count=count))
        metrics.see_connections(count + 1)
        assert samples(metrics)["tusd_appends_open"] == count
        assert samples(metrics)["tusd_connections_open"] == count + 1


def test_each_worker_shows_the_numbers_of_all() -> None:
    board = Board(3)
    one, other, third = (Metrics(board.take(row)) for row in range(3))
    for metrics in (one, other, other):
        metrics.observe(ended("PATCH", 409, "ERR_X"))
        metrics.observe(BytesReceived(upload=UPLOAD, count=5))
        metrics.observe(Synced(0.003))
    other.observe(ended("HEAD", 404, "ERR_Y"))
    one.see_connections(2)
    third.see_connections(3)
    found = samples(one)
    assert found == samples(other) == samples(third)
    assert found["tusd_requests_total method=PATCH"] == 3
    assert found["tusd_requests_total method=HEAD"] == 1
    assert found["tusd_errors_total code=ERR_X status=409"] == 3
    assert found["tusd_errors_total code=ERR_Y status=404"] == 1
    assert found["tusd_request_duration_seconds_bucket le=0.1 method=PATCH"] == 3
    assert found["tusd_bytes_received"] == 15
    assert found["tusd_fsync_seconds_bucket le=0.005"] == 3
    assert found["tusd_connections_open"] == 5


def test_who_takes_the_place_of_a_worker_goes_on_counting() -> None:
    """What it had counted stays; but its connections are gone, and its appends have ended."""
    board = Board(2)
    other, killed = Metrics(board.take(0)), Metrics(board.take(1))
    killed.observe(ended("HEAD", 404, "ERR_Y"))
    killed.observe(HookCalled(hook="pre-create", failed=True))
    killed.observe(AppendsSeen(count=7))
    killed.see_connections(7)
    follower = Metrics(board.take(1))
    follower.observe(ended("GET", 404, "ERR_Z"))
    follower.observe(ended("HEAD", 404, "ERR_Y"))
    found = samples(other)
    assert found["tusd_errors_total code=ERR_Y status=404"] == 2
    assert found["tusd_errors_total code=ERR_Z status=404"] == 1
    assert found["tusd_requests_total method=HEAD"] == 2
    assert found["tusd_hook_errors_total hooktype=pre-create"] == 1
    assert (found["tusd_appends_open"], found["tusd_connections_open"]) == (0, 0)


def test_of_open_uploads_all_workers_show_what_was_seen_last() -> None:
    """Each counts those of all."""
    board = Board(2)
    one, other = (Metrics(board.take(row)) for row in range(2))
    assert samples(one)["tusd_uploads_open"] == 0
    for metrics, count in ((one, 7), (other, 5)):
        metrics.observe(UploadsSeen(count=count))
        assert samples(one)["tusd_uploads_open"] == samples(other)["tusd_uploads_open"] == count


def test_of_the_outbox_all_workers_show_what_was_seen_last() -> None:
    """Each sees the whole of it: added up, three workers would show each event three times."""
    board = Board(2)
    one, other = (Metrics(board.take(row)) for row in range(2))
    one.observe(OutboxSeen(waiting=3, oldest_at=time.time() - 90, dead=2))
    other.observe(OutboxSeen(waiting=1, oldest_at=time.time() - 30, dead=2))
    for metrics in (one, other):
        found = samples(metrics)
        assert (found["tusd_outbox_waiting"], found["tusd_outbox_dead"]) == (1, 2)
        assert 30 <= found["tusd_outbox_lag_seconds"] < 80


def test_names_without_end_do_no_harm() -> None:
    """An application may refuse with any status: what is not counted apart spoils no number."""
    board = Board(2)
    one, other = (Metrics(board.take(row)) for row in range(2))
    other.observe(BytesReceived(upload=UPLOAD, count=5))
    one.observe(ended("DELETE", 204, "ERR_" + 80 * "Y"))
    for status in range(2000):
        one.observe(ended("PATCH", status, "ERR_X"))
    found = samples(other)
    assert not [name for name in found if "YY" in name], "cut, it would be another one's name"
    assert found["tusd_requests_total method=PATCH"] == 2000
    assert found["tusd_bytes_received"] == 5
    # Each of them has two: of its answer, and of its error.
    assert 450 < sum(name.startswith("tusd_errors_total") for name in found) < 512
    assert {found[name] for name in found if name.startswith("tusd_errors_total")} == {1}


def test_numbers_without_end_do_no_harm() -> None:
    board = Board(1)
    numbers = board.take(0)
    for name in range(200):
        numbers.values[numbers.find(str(name), count=16)] += 1
    (row,) = numbers.rows()
    assert len(row) > 100
    assert [values for values in row.values() if values != [1.0] + 15 * [0.0]] == []


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.observe(UploadCreated(upload_id="a"))
    assert samples(other)["tusd_uploads_created"] == 0
