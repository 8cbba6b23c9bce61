"""Several workers behind one address: processes that share its socket, and a parent over them.

The rules:
- The parent listens, and serves nobody. It is forked from as long as it runs, so it has no thread
  and no event loop.
- A worker that ends is replaced at once, though not more than once a second. One that ends before
  it was ready is tried again after a growing pause. Where nobody serves, the fifth such start in a
  row ends everything; and so does any, before all were ready for the first time.
- The parent asks each worker's event loop, by a socket, ten times within `worker_timeout`. One that
  answered none of ten is stopped or hangs, and is killed. Requests are counted and not seconds, so
  that a machine, or a parent, that slept for a while takes nobody for dead.
- A worker whose parent is gone finds that socket closed, and ends as after SIGTERM.
- SIGTERM and SIGINT go on to the workers as SIGTERM. One that has not ended in time is killed: what
  it acknowledged is kept as after any other kill.

`uvicorn.supervisors.Multiprocess` is not used: a thread of the worker answers it, also when the
event loop hangs; it waits without limit for a stopped worker at the end; it starts a worker that
fails again without a pause; its workers outlive a parent that is killed; and it runs uvicorn's own
server, whose signals and end are not ours (see `wire.server`).
"""

import asyncio
import logging
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

logger = logging.getLogger("tusd_py")

_ASKS = 10
_STARTS = 5
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_BETWEEN_STARTS = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LONGEST = 65_536

_ASK, _HERE, _READY, _FAILED = b"?", b"!", b"ready", b"failed "


class WorkersFailed(Exception):
    """No worker can be started; the message says why, in one line."""


class Parent:
    """A worker's way to its parent.

    Args:
        connection: The worker's end of it.
        place: See below.

    Attributes:
        place: Which of the workers this is, from 0 on; that of one that has ended is taken again.
    """

    def __init__(self, connection: socket.socket, place: int) -> None:
        self._connection = connection
        self.place = place

    def attend(self) -> None:
        """Answers from the event loop that runs, and ends this process when the parent is gone."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._connection.fileno(), self._answer)

    def tell_ready(self) -> None:
        """This worker serves."""
        self._tell(_READY)

    def tell_failed(self, why: str) -> None:
        """This worker ends before it was ready.

        Args:
            why: One line, for the operator.
        """
        self._tell(_FAILED + why.encode())

    def _tell(self, message: bytes) -> None:
        with suppress(OSError):  # of a parent that is gone: see `_answer`
            self._connection.send(message)

    def _answer(self) -> None:
        try:
            message = self._connection.recv(_LONGEST)
        except OSError:
            message = b""
        if message:
            self._tell(_HERE)
        else:
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            signal.raise_signal(signal.SIGTERM)


@dataclass(slots=True, kw_only=True)
class _Worker:
    process: BaseProcess
    connection: socket.socket
    place: int
    started_at: float
    is_ready: bool = False
    unanswered: int = 0
    failed: str = ""

    def end(self) -> None:
        """Ends it in order; one that serves nobody yet has nothing to put in order."""
        if self.is_ready:
            self.process.terminate()
        else:
            self.process.kill()


class Supervisor:
    """Keeps workers running until SIGTERM or SIGINT.

    Args:
        count: How many.
        work: What a worker does, in a process of its own; it says so when it is ready or fails.
        on_ready: Called once, when all are ready for the first time.
        worker_timeout: Seconds after which a worker that does not answer is killed.
        shutdown_timeout: Seconds that a worker may take to its end.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[Parent], None],
        *,
        on_ready: Callable[[], None],
        worker_timeout: float,
        shutdown_timeout: float,
    ) -> None:
        self._count = count
        self._work = work
        self._on_ready = on_ready
        self._ask_every = worker_timeout / _ASKS
        self._shutdown_timeout = shutdown_timeout
        self._workers: list[_Worker] = []
        self._starts_at: list[float] = []
        self._failures = 0
        self._is_serving = False
        self._woken, self._waker = socket.socketpair()

    def run(self) -> None:
        """Returns when all workers have ended.

        Raises:
            WorkersFailed: None can be started; the others were ended.
        """
        with self._own_signals():
            try:
                self._starts_at = [time.monotonic()] * self._count
                self._keep_running()
            finally:
                self._end()

    def _keep_running(self) -> None:
        ask_at = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= ask_at:
                self._ask_all()
                ask_at = now + self._ask_every
            for at in [at for at in self._starts_at if at <= now]:
                self._starts_at.remove(at)
                self._start()
            if self._wait(min([ask_at, *self._starts_at])):
                return

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        inherited = [self._woken, self._waker, ours]
        inherited += [worker.connection for worker in self._workers]
        place = min(set(range(self._count)) - {worker.place for worker in self._workers})
        # A signal before the child has handlers of its own would come to the parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            process = multiprocessing.get_context("fork").Process(
                target=_run_worker,
                args=(self._work, Parent(theirs, place), inherited),
                name="tusd-py worker",
            )
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            theirs.close()
        worker = _Worker(process=process, connection=ours, place=place, started_at=time.monotonic())
        self._workers.append(worker)
        logger.info("worker %d starts", process.pid)

    def _wait(self, until: float) -> bool:
        """Sees to what happens until then: whether this is to end."""
        by_connection = {worker.connection: worker for worker in self._workers}
        sentinels = {worker.process.sentinel: worker for worker in self._workers}
        timeout = max(0.0, until - time.monotonic())
        for found in wait([self._woken, *by_connection, *sentinels], timeout):
            if found is self._woken:
                self._woken.recv(_LONGEST)
                return True
            if isinstance(found, int):
                self._ended(sentinels[found])
            elif isinstance(found, socket.socket):
                self._hear(by_connection[found])
        return False

    def _ask_all(self) -> None:
        for worker in self._workers:
            if worker.unanswered == _ASKS:
                logger.error(
                    "worker %d has not answered for %.1f s, and is killed",
                    worker.process.pid,
                    self._ask_every * _ASKS,
                )
                worker.process.kill()
            worker.unanswered += 1
            with suppress(OSError):  # full, or of one that ends: its sentinel tells
                worker.connection.send(_ASK)

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.connection.recv(_LONGEST)
        except OSError:
            return
        if message == _HERE:
            worker.unanswered = 0
        elif message == _READY:
            worker.is_ready, self._failures = True, 0
            if not self._is_serving and len(self._workers) == self._count:
                self._is_serving = all(one.is_ready for one in self._workers)
                if self._is_serving:
                    self._on_ready()
        elif message.startswith(_FAILED):
            worker.failed = message.removeprefix(_FAILED).decode()

    def _ended(self, worker: _Worker) -> None:
        self._hear(worker)
        self._forget(worker)
        pid, how = worker.process.pid, _how(worker.process.exitcode)
        now = time.monotonic()
        if worker.is_ready:
            logger.warning("worker %d %s; another one takes its place", pid, how)
            self._starts_at.append(max(now, worker.started_at + _BETWEEN_STARTS))
            return
        why = worker.failed or f"a worker {how} before it was ready; the log may say more"
        self._failures += 1
        has_others = any(worker.is_ready for worker in self._workers)
        if not self._is_serving or (self._failures >= _STARTS and not has_others):
            raise WorkersFailed(why)
        pause = min(_FIRST_PAUSE * 2.0 ** (self._failures - 1), _LONGEST_PAUSE)
        logger.error("worker %d could not start: %s; again in %.1f s", pid, why, pause)
        self._starts_at.append(now + pause)

    def _forget(self, worker: _Worker) -> None:
        worker.process.join()
        worker.connection.close()
        self._workers.remove(worker)

    def _end(self) -> None:
        """Ends all workers: in order, for as long as there is time."""
        deadline = time.monotonic() + self._shutdown_timeout
        self._end_all()
        while self._workers and time.monotonic() < deadline:
            sentinels = {worker.process.sentinel: worker for worker in self._workers}
            for found in wait([self._woken, *sentinels], max(0.0, deadline - time.monotonic())):
                if isinstance(found, int):
                    self._forget(sentinels[found])
                else:
                    self._woken.recv(_LONGEST)
                    self._end_all()
        for worker in list(self._workers):
            logger.error("worker %d has not ended in time: killed", worker.process.pid)
            worker.process.kill()
            self._forget(worker)
        self._woken.close()
        self._waker.close()

    def _end_all(self) -> None:
        for worker in self._workers:
            worker.end()

    @contextmanager
    def _own_signals(self) -> Iterator[None]:
        """Lets SIGTERM and SIGINT wake `_wait`, and do nothing else."""
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        before = signal.set_wakeup_fd(self._waker.fileno())
        handlers = {number: signal.signal(number, _ignore) for number in _SIGNALS}
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _ignore(number: int, frame: object) -> None:
    """The number was written to the wake-up descriptor before."""


def _run_worker(
    work: Callable[[Parent], None], parent: Parent, inherited: list[socket.socket]
) -> None:
    """In the child: begins with what is its own, and with nothing of the parent's."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Ctrl-C in a terminal goes to all processes there; the parent tells its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for one in inherited:
        one.close()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    work(parent)


def _how(exitcode: int | None) -> str:
    assert exitcode is not None, "it was joined"
    if exitcode < 0:
        return f"was killed by {signal.Signals(-exitcode).name}"
    return f"ended with status {exitcode}"
