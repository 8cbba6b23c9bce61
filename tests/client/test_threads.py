"""Several things at once."""

import _thread
import threading
from collections.abc import Callable

import pytest

from tusd_py.client import threads
from tusd_py.client.errors import Stopped
from tusd_py.client.threads import run_all


def _raise(error: BaseException) -> Callable[[], int]:
    def task() -> int:
        raise error

    return task


def test_results_come_in_order_from_tasks_that_run_at_once() -> None:
    barrier = threading.Barrier(3, timeout=10)

    def task(number: int) -> int:
        barrier.wait()
        return number

    tasks = [lambda number=number: task(number) for number in range(3)]
    assert run_all(tasks, threading.Event()) == [0, 1, 2]


def test_an_error_waits_for_the_others_and_counts_more_than_being_stopped() -> None:
    ended = threading.Event()

    def slow() -> int:
        ended.set()
        return 1

    with pytest.raises(ZeroDivisionError):
        run_all([_raise(Stopped()), _raise(ZeroDivisionError()), slow], threading.Event())
    assert ended.is_set()
    with pytest.raises(Stopped):
        run_all([_raise(Stopped()), slow], threading.Event())


def test_nothing_to_do() -> None:
    assert run_all([], threading.Event()) == []


def test_ctrl_c_leaves_behind_what_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "STOPS_WITHIN", 0.05)
    stop, release = threading.Event(), threading.Event()

    def deaf() -> None:

        _thread.interrupt_main()
        release.wait(20)

    with pytest.raises(KeyboardInterrupt):
        run_all([deaf], stop)
    assert stop.is_set()
    release.set()
