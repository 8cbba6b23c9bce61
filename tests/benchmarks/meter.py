"""What a load cost: the server, the client, and the time."""

import threading
import time
from collections.abc import Callable, Sequence
from statistics import median

from tests.benchmarks.measuring import GB, cpu_seconds, peak, resident, settled_cpu_seconds

Figures = dict[str, float]
"""Numbers by name, as the columns of the tables know them."""


class Meter:
    """Counts in a `with` block; what the server does just after its last answer still counts.

    Attributes:
        seconds: From the first to the last line of the block.
        server: CPU seconds.
        client: Likewise, of this process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.seconds = self.server = self.client = 0.0

    def __enter__(self) -> "Meter":
        self.server = -cpu_seconds(self.pid)
        self.client = -time.process_time()
        self.seconds = -time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter()
        self.client += time.process_time()
        self.server += settled_cpu_seconds(self.pid)

    def per_byte(self, size: int) -> Figures:
        """Speed in MB/s and CPU in seconds per GB, in powers of ten; the peak in MiB."""
        return {
            "speed": size / 1e6 / self.seconds,
            "cpu": self.server / (size / GB),
            "client": self.client / (size / GB),
            "peak": peak(self.pid),
        }

    def per_item(self, count: int) -> Figures:
        """Items per second, and CPU in milliseconds of each."""
        return {
            "rate": count / self.seconds,
            "cpu": self.server * 1e3 / count,
            "client": self.client * 1e3 / count,
            "peak": peak(self.pid),
        }


class Sampler:
    """Resident memory over the length of a `with` block."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._idle = resident(pid)
        self._samples = [self._idle]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._samples.append(resident(self._pid))

    def _sample(self) -> None:
        while not self._over.wait(0.05):
            self._samples.append(resident(self._pid))

    def figures(self) -> Figures:
        """MiB: before, and how much more it was in the last tenth than in the second."""
        tenth = max(1, len(self._samples) // 10)
        early = median(self._samples[tenth : 2 * tenth] or self._samples)
        return {"idle": self._idle, "growth": median(self._samples[-tenth:]) - early}


def in_threads(jobs: Sequence[Callable[[], None]]) -> None:
    """Runs all at once, and raises the first error."""
    errors: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
