"""What a process and its children use, as Linux counts it; times are in seconds, memory in MiB."""

import re
import time
from contextlib import suppress
from pathlib import Path

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
GB = 10**9

_PEAK_OR_NOW = re.compile(r"(VmHWM|VmRSS):\s+(\d+) kB")
_TICKS = 100.0
_LEAST_SETTLING = 0.2


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        for listed in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends just now
                found += [int(child) for child in listed.read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """What a process, its threads and its children have used, those that ended included.

    The processes' CPU clocks count what `utime` and `stime` in `/proc/PID/stat` do, but in
    nanoseconds: those come in ticks of 10 ms, which is too coarse for a short run.
    """
    return sum(time.clock_gettime((~one << 3) | 2) + _of_ended_children(one) for one in tree(pid))


def _of_ended_children(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / _TICKS


def settled_cpu_seconds(pid: int) -> float:
    """Likewise, when what a server puts off until after its answer is done as well."""
    time.sleep(_LEAST_SETTLING)
    return cpu_seconds(pid)


def resident(pid: int) -> float:
    """What is resident now."""
    return _memory(pid, "VmRSS")


def peak(pid: int) -> float:
    """The most that was resident at any time; of several processes the sum of the peaks."""
    return _memory(pid, "VmHWM")


def _memory(pid: int, field: str) -> float:
    kilobytes = 0
    for one in tree(pid):
        found = dict(_PEAK_OR_NOW.findall(Path(f"/proc/{one}/status").read_text()))
        kilobytes += int(found.get(field, 0))
    return kilobytes / 1024


def threads(pid: int) -> int:
    """How many threads there are."""
    return sum(len(list(Path(f"/proc/{one}/task").iterdir())) for one in tree(pid))


def descriptors(pid: int) -> int:
    """How many descriptors are open."""
    return sum(len(list(Path(f"/proc/{one}/fd").iterdir())) for one in tree(pid))
