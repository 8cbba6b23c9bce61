"""How a server is doing, in all of its processes: for whoever operates it.

The rules:
- Each process knows of itself; whoever is asked asks the others, and does not wait for long.
- Nothing is counted for this that is not counted anyway, and nothing is done as long as nobody
  asks: a speed is measured between two questions, or within a moment.
"""

import asyncio
import json
import os
import time
from typing import NamedTuple

import anyio.to_thread

from tusd_py import __version__
from tusd_py.engine.services import Services
from tusd_py.engine.watching import Watching
from tusd_py.locks.interface import Peer
from tusd_py.metrics import Metrics

_MEASURE_FOR = 0.4
"""Seconds, where nobody asked a moment ago."""

_FRESH = 5.0
"""Seconds for which the last measurement is one to begin with."""

_ANSWER_WITHIN = 1.0
_REST_FOR = 20
"""So many times as long as it took, and a second, open uploads are not counted again."""

_QUESTION, _ANSWER = "stats?", "stats"


class Own(NamedTuple):
    """What one process says of itself, also to another.

    Attributes:
        memory: Bytes; what is shared with others counts in parts.
        active: Appends under way.
        listeners: Streams of events.
        speed: Bytes received a second.
        started_at: Seconds since the epoch.
    """

    memory: int
    active: int
    listeners: int
    speed: float
    started_at: float


class Stats:
    """What is asked for at `/api/stats`; see the rules above.

    Args:
        services: What the engine works with.
        metrics: What has happened here.
        watching: Those who listen.
    """

    def __init__(self, services: Services, metrics: Metrics, watching: Watching) -> None:
        self._watching = watching
        self._services = services
        self._metrics = metrics
        self._started_at = time.time()
        self._sample: tuple[float, int] | None = None
        self._speed: float | None = None
        self._answers: dict[Peer, asyncio.Future[Own]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._open = 0
        self._count_open_at = 0.0
        services.talk.hears[_QUESTION] = self._asked
        services.talk.hears[_ANSWER] = self._answered
        services.talk.on_left.append(self._left)

    async def collect(self) -> dict[str, object]:
        """What all processes say, as it is told by the API."""
        others = self._ask_others()
        own = [await self._own(), *await others]
        services, counts = self._services, self._metrics.counts()
        errors = sorted(counts.errors, key=lambda error: -error[2])
        return {
            "version": __version__,
            "now": services.clock(),
            "started_at": min(each.started_at for each in own),
            "workers": len(own),
            "memory": sum(each.memory for each in own),
            "open": await self._count_open(),
            "active": sum(each.active for each in own),
            "listeners": sum(each.listeners for each in own),
            "speed": round(sum(each.speed for each in own), 1),
            "max_speed": services.limits.max_speed,
            "max_speed_per_client": services.limits.max_speed_per_client,
            "max_speed_per_upload": services.limits.max_speed_per_upload,
            "disk": await anyio.to_thread.run_sync(self._disk),
            "since_start": {
                "created": counts.created,
                "finished": counts.finished,
                "terminated": counts.terminated,
                "expired": counts.expired,
                "received": counts.received,
            },
            "errors": [
                {"status": status, "code": code, "count": count} for status, code, count in errors
            ],
        }

    async def _own(self) -> Own:
        return Own(
            memory=_memory(),
            active=len(self._services.live),
            listeners=self._watching.count,
            speed=await self._measure(),
            started_at=self._started_at,
        )

    async def _measure(self) -> float:
        if self._sample is None or time.monotonic() - self._sample[0] > _FRESH:
            self._sample, self._speed = self._look(), None
        since, before = self._sample
        if (missing := _MEASURE_FOR - (time.monotonic() - since)) > 0:
            if self._speed is not None:
                return self._speed  # somebody else asked just now
            await asyncio.sleep(missing)
        self._sample = now, received = self._look()
        # Less than before: a body that was discarded, or another one who asked at the same time.
        self._speed = max(0.0, (received - before) / max(now - since, 0.001))
        return self._speed

    def _look(self) -> tuple[float, int]:
        coming = sum(live.body.came for live in self._services.live.values())
        return time.monotonic(), self._metrics.received + coming

    async def _count_open(self) -> int:
        begun = time.monotonic()
        if begun >= self._count_open_at:
            counts = await self._services.state.count_open(self._services.clock())
            self._open = sum(counts.values())
            took = time.monotonic() - begun
            self._count_open_at = begun + 1.0 + _REST_FOR * took
        return self._open

    def _disk(self) -> dict[str, int] | None:
        total = self._services.storage.size()
        if total is None:
            return None
        return {"free": self._services.storage.free(), "total": total}

    def _ask_others(self) -> "asyncio.Task[list[Own]]":
        loop = asyncio.get_running_loop()
        answers = []
        for peer in self._services.talk.all():
            answer = self._answers.get(peer)
            if answer is None:
                if peer.is_full:
                    continue  # it is stopped
                answer = self._answers[peer] = loop.create_future()
                peer.tell(_QUESTION)
            answers.append(answer)
        return loop.create_task(_all(answers))

    def _asked(self, peer: Peer, _: str) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(peer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, peer: Peer) -> None:
        peer.tell(_ANSWER, json.dumps(await self._own()))

    def _answered(self, peer: Peer, text: str) -> None:
        answer = self._answers.pop(peer, None)
        if answer is not None and not answer.done():
            answer.set_result(Own(*json.loads(text)))

    def _left(self, peer: Peer) -> None:
        answer = self._answers.pop(peer, None)
        if answer is not None:
            answer.cancel()


async def _all(answers: "list[asyncio.Future[Own]]") -> list[Own]:
    """Those that come in time."""
    if not answers:
        return []
    done, _ = await asyncio.wait(answers, timeout=_ANSWER_WITHIN)
    return [answer.result() for answer in done if not answer.cancelled()]


def _memory() -> int:
    """Bytes of this process, and its share of those that it shares with others (proc(5))."""
    with open("/proc/self/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) << 10
    return os.sysconf("SC_PAGE_SIZE") * int(open("/proc/self/statm").read().split()[1])
