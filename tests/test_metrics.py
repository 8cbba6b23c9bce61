"""What a scrape shows for what happened."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

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
from tusd_py.metrics import Metrics
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


def buried(phase: Phase) -> UploadBuried:
    return UploadBuried(upload_id="a", phase=phase)


EVENTS: list[tuple[Observed, str, float]] = [
    (ended("PATCH", 204), "tusd_requests_total method=PATCH", 1),
    (ended("PATCH", 409, "ERR_X"), "tusd_requests_total method=PATCH", 1),
    (ended("PATCH", 409, "ERR_X"), "tusd_errors_total code=ERR_X status=409", 1),
    (ended("HEAD", 200), "tusd_request_duration_seconds_count method=HEAD", 1),
    (ended("HEAD", 200), "tusd_request_duration_seconds_sum method=HEAD", 0.05),
    (ended("HEAD", 200), "tusd_request_duration_seconds_bucket le=0.1 method=HEAD", 1),
    (ended("HEAD", 200), "tusd_request_duration_seconds_bucket le=0.01 method=HEAD", 0),
    (BytesReceived(upload_id="a", count=4711), "tusd_bytes_received", 4711),
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
    (buried(Phase.TERMINATED), "tusd_uploads_terminated", 1),
    (buried(Phase.EXPIRED), "tusd_uploads_expired", 1),
]
NAMES = (
    "tusd_bytes_received",
    "tusd_uploads_created",
    "tusd_uploads_finished",
    "tusd_uploads_terminated",
    "tusd_uploads_expired",
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
    assert [other for other in NAMES if samples(metrics)[other]] == [
        other for other in NAMES if other == name
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


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.observe(UploadCreated(upload_id="a"))
    assert samples(other)["tusd_uploads_created"] == 0
