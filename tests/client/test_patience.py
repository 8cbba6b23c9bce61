"""Back-off, and its end; the clock is a fake."""

import threading
from dataclasses import dataclass, field

import pytest

from tusd_py.client import patience
from tusd_py.client.errors import NotNow, Passing, Stopped, Unreachable
from tusd_py.client.patience import Patience


@dataclass
class FakeStop(threading.Event):
    """Waiting only moves the clock."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.now += timeout
        self.waits.append(timeout)
        return self.is_set()


@pytest.fixture(autouse=True)
def real_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LONGEST", 10.0)


def _patience(
    stop: FakeStop,
    *,
    retry_for: float | None = None,
    jitter: float = 1.0,
    told: list[Passing] | None = None,
) -> Patience:
    notice = (lambda _trouble: None) if told is None else told.append
    return Patience(
        retry_for=retry_for,
        stop=stop,
        notice=notice,
        clock=lambda: stop.now,
        jitter=lambda: jitter,
    )


def test_waits_grow_to_ten_seconds_and_begin_anew_after_progress() -> None:
    stop = FakeStop()
    patient = _patience(stop)
    for _ in range(20):
        patient.wait(Unreachable("no route"))
    assert stop.waits[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert stop.waits[-1] == 10.0
    patient.progressed()
    patient.wait(Unreachable("no route"))
    assert stop.waits[-1] == pytest.approx(0.1)


def test_jitter_keeps_many_clients_apart() -> None:
    stop = FakeStop()
    _patience(stop, jitter=0.0).wait(Unreachable("no route"))
    assert stop.waits == pytest.approx([0.05])


def test_the_wait_that_the_server_asks_for_within_reason() -> None:
    stop = FakeStop()
    _patience(stop).wait(NotNow(503, "", 42.0))
    _patience(stop).wait(NotNow(503, "", 1e9))
    assert stop.waits == [42.0, patience.RETRY_AFTER_AT_MOST]


@pytest.mark.parametrize(("retry_for", "tries"), [(0.0, 0), (0.1, 1), (0.69, 2), (0.71, 3)])
def test_patience_ends(retry_for: float, tries: int) -> None:
    stop = FakeStop()
    patient = _patience(stop, retry_for=retry_for)
    trouble = Unreachable("no route")
    for _ in range(tries):
        patient.wait(trouble)
    with pytest.raises(Unreachable) as raised:
        patient.wait(trouble)
    assert raised.value is trouble
    assert len(stop.waits) == tries


def test_only_time_without_progress_counts() -> None:
    stop = FakeStop()
    patient = _patience(stop, retry_for=1.0)
    for _ in range(100):
        patient.wait(Unreachable("no route"))
        patient.progressed()
        stop.now += 1000


def test_each_trouble_is_told_once() -> None:
    told: list[Passing] = []
    patient = _patience(FakeStop(), told=told)
    first, other = Unreachable("no route"), Unreachable("reset")
    for trouble in (first, first, other, other):
        patient.wait(trouble)
    patient.progressed()
    patient.wait(other)
    assert told == [first, other, other]


def test_ctrl_c_ends_the_wait() -> None:
    stop = FakeStop()
    stop.set()
    with pytest.raises(Stopped):
        _patience(stop).wait(Unreachable("no route"))
