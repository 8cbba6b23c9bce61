"""Several things at once, which Ctrl-C can leave behind.

The threads are daemons: one that waits for the network does not keep the process from ending.
(An executor's threads would: the interpreter joins them.)
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from tusd_py.client.errors import Stopped

STOPS_WITHIN = 2.0
"""Seconds that threads get to end after Ctrl-C."""

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class _Task(Generic[T]):
    work: Callable[[], T]
    ended: SimpleQueue[None]
    result: T | None = None
    error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:  # handed to the thread that waits, and raised there
            self.error = error
        finally:
            self.ended.put(None)


def run_all(tasks: Sequence[Callable[[], T]], stop: threading.Event) -> list[T]:
    """Runs each task on a thread of its own and returns their results, in order.

    All of them have ended when this returns; after `KeyboardInterrupt`, all that heeded `stop`.

    Args:
        tasks: what to do.
        stop: set upon Ctrl-C.

    Raises:
        BaseException: the first that a task raised; `Stopped` only if there is no other.
    """
    ended: SimpleQueue[None] = SimpleQueue()
    running = [_Task(work=work, ended=ended) for work in tasks]
    threads = [threading.Thread(target=task.run, daemon=True) for task in running]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            ended.get()
    except KeyboardInterrupt:
        stop.set()
        _join(threads, STOPS_WITHIN)
        raise
    _join(threads, None)
    return _results(running)


def _join(threads: Sequence[threading.Thread], within: float | None) -> None:
    deadline = None if within is None else time.monotonic() + within
    for thread in threads:
        thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))


def _results(tasks: Sequence[_Task[T]]) -> list[T]:
    errors = [task.error for task in tasks if task.error is not None]
    for error in errors:
        if not isinstance(error, Stopped):
            raise error
    if errors:
        raise errors[0]
    return [task.result for task in tasks]  # type: ignore[misc]  # T may include None
