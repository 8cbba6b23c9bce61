"""Those who listen to what happens to uploads, and what they are told.

The rules:
- What happens is read from the state, where the transaction that made it happen wrote it down; so
  it is the same in every process, in one order, and also for one who was away for a while.
- How far an upload is comes from the process that takes its bytes, and goes to those that asked for
  it, four times a second at most. Of that the newest counts, and the rest is dropped.
- No lock is taken. As long as nobody listens, nothing runs here and nothing is counted.
- One who does not keep up is let go, and comes back with the number of the last that was heard.
"""

import asyncio
import json
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from tusd_py.engine.live import Live
from tusd_py.engine.services import Services
from tusd_py.hooks.events import (
    BytesReceived,
    Observed,
    RequestEnded,
    UploadBuried,
    UploadCreated,
    UploadFinished,
)
from tusd_py.locks.interface import Peer
from tusd_py.protocol.upload import Upload
from tusd_py.state.interface import Happened, Owners

logger = logging.getLogger("tusd_py")

KEEPS = 3600.0
"""Seconds for which what has happened is known, for those who come back."""

_TICK = 0.25
_LOOK_EVERY = 1.0
"""Seconds; a tool beside the server, such as `tusd-py cleanup`, tells nobody what it did."""

_GATHER_FOR = 0.02
_PAGE = 500
_MOST_WAITING = 1000
_FORGET_AFTER = 2.0
_SPEED_OVER = 1.5
_MOST_IN_MESSAGE = 200

_WATCH, _UNWATCH, _PROGRESS, _LOOK = "watch", "unwatch", "progress", "events"

_ONE = "id "

ENDS = frozenset({"finished", "failed", "terminated", "expired"})
"""What nothing follows, but for a part of another upload, which may still expire."""


class Moving(NamedTuple):
    """How far an upload is.

    Attributes:
        at: Seconds since the epoch, UTC.
        offset: Bytes that have come; those that `HEAD` tells of may be fewer.
        length: Of the whole, None while that is not known.
        speed: Bytes a second, over the last one or two.
    """

    upload_id: str
    principal: str | None
    at: float
    offset: int
    length: int | None
    speed: float

    def text(self) -> str:
        """As JSON; the same for all who listen."""
        return json.dumps(
            {
                "id": self.upload_id,
                "at": self.at,
                "offset": self.offset,
                "length": self.length,
                "speed": round(self.speed, 1),
            }
        )


class Told(NamedTuple):
    """What a listener gets.

    Attributes:
        kind: As `Happened.kind`, or `progress`.
        number: Of `Happened`, None for progress.
        upload: As it is now, None if nothing is known of it any more.
        text: JSON of progress.
    """

    kind: str
    number: int | None
    upload_id: str
    at: float
    upload: Upload | None
    text: str = ""


@dataclass(eq=False, slots=True)
class Listener:
    """One who listens; `Watching.listen` makes it.

    Attributes:
        topics: What it is told about.
        since: The number up to which it was told everything in another way, or needs nothing.
        is_over: Whether nothing more comes.
    """

    topics: tuple[str, ...]
    since: int = 0
    is_over: bool = False
    _happened: deque[Told] = field(default_factory=deque)
    _moving: dict[str, Told] = field(default_factory=dict)
    _waiter: "asyncio.Future[None] | None" = None

    def ends_with(self, told: Told) -> bool:
        """Whether nothing that it listens to comes behind this."""
        is_part = told.upload is not None and told.upload.is_partial
        is_end = told.kind in ENDS and not (is_part and told.kind == "finished")
        return is_end and self.topics[0].startswith(_ONE)

    def take(self) -> list[Told]:
        """What has come since it was asked the last time."""
        happened = [told for told in self._happened if (told.number or 0) > self.since]
        told = [*happened, *self._moving.values()]
        self._happened.clear()
        self._moving.clear()
        return told

    async def wait(self, within: float) -> None:
        """Until something has come or nothing more does, at most some seconds."""
        if self._happened or self._moving or self.is_over:
            return
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = loop.call_later(within, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def tell(self, told: Told) -> None:
        """Adds to what it gets; of progress only the newest."""
        if told.number is None:
            self._moving[told.upload_id] = told
        else:
            self._moving.pop(told.upload_id, None)
            self._happened.append(told)
            self.is_over |= len(self._happened) > _MOST_WAITING
        self.wake()

    def end(self) -> None:
        """Nothing more comes."""
        self.is_over = True
        self.wake()

    def wake(self) -> None:
        """Lets `wait` end."""
        if self._waiter is not None:
            _wake(self._waiter)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


@dataclass(slots=True)
class _Track:
    """How an upload that is watched goes on.

    Attributes:
        principal: Whose it is.
        ended: Bytes of the appends that ended since this began.
        offset: Behind the last of them.
        changed_at: When it last went on, of the monotonic clock.
        samples: Moments, and bytes that had come by then.
        is_live: Whether an append was under way that was not seen to end.
        told: The last that was told.
    """

    principal: str | None
    offset: int
    length: int | None
    changed_at: float
    ended: int = 0
    is_live: bool = False
    samples: deque[tuple[float, int]] = field(default_factory=deque)
    told: tuple[int, float] | None = None

    def speed(self, now: float, total: int) -> float:
        """Bytes a second, with what has come by now."""
        while len(self.samples) > 1 and now - self.samples[1][0] >= _SPEED_OVER:
            self.samples.popleft()
        since, before = self.samples[0] if self.samples else (now, total)
        if not self.samples or total != self.samples[-1][1]:
            self.changed_at = now
        self.samples.append((now, total))
        # Less than before: a body that did not count was discarded.
        return max(0.0, (total - before) / (now - since)) if now > since else 0.0


def topics_for(owners: Owners, upload_id: str | None) -> tuple[str, ...]:
    """What somebody listens to: one upload, or all that are there for them."""
    if upload_id is not None:
        return (_ONE + upload_id,)
    return ("all",) if owners.has_all else (f"of {owners.principal}", "nobody's")


def _topics_of(upload_id: str, principal: str | None) -> tuple[str, str, str]:
    whose = "nobody's" if principal is None else f"of {principal}"
    return _ONE + upload_id, whose, "all"


class Watching:
    """See the rules above; to be used on one event loop.

    Args:
        services: What the engine works with.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._listeners: dict[str, dict[Listener, None]] = {}
        self._remote: dict[Peer, set[str]] = {}
        self._tracks: dict[str, _Track] = {}
        self._live_before: frozenset[str] = frozenset()
        self._last = 0
        self._open_until = 0.0
        self._pump: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._is_telling = False
        self._opening = asyncio.Lock()
        talk = services.talk
        talk.hears |= {
            _WATCH: self._watched_by,
            _UNWATCH: self._unwatched_by,
            _PROGRESS: self._heard_progress,
            _LOOK: lambda peer, text: self._look.set(),
        }
        talk.on_met.append(self._met)
        talk.on_left.append(self._left)

    @property
    def count(self) -> int:
        """How many listen here."""
        return len({listener for group in self._listeners.values() for listener in group})

    async def listen(self, topics: tuple[str, ...]) -> Listener:
        """Begins to listen: everything behind `Listener.since` will be told.

        Args:
            topics: See `topics_for`.

        Raises:
            StorageFull: There is no room to write down what happens.
            StorageFailed: The state fails otherwise.
        """
        async with self._opening:
            await self._keep_open()
            if self._pump is None:
                _, self._last = await self._services.state.events_span()
        listener = Listener(topics, since=self._last)
        for topic in topics:
            if topic not in self._listeners:
                self._say(_WATCH, topic)
            self._listeners.setdefault(topic, {})[listener] = None
        if self._pump is None:
            self._pump = asyncio.create_task(self._tell_what_happens())
        self._start_ticking()
        return listener

    def leave(self, listener: Listener) -> None:
        """Listens no more; idempotent."""
        for topic in listener.topics:
            group = self._listeners.get(topic, {})
            if listener not in group:
                continue
            del group[listener]
            if not group:
                del self._listeners[topic]
                self._say(_UNWATCH, topic)
        if not self._listeners and self._pump is not None:
            self._pump.cancel()
            self._pump = None

    def end_all(self) -> None:
        """Ends all streams: the server is to end."""
        for group in self._listeners.values():
            for listener in group:
                listener.end()

    def close(self) -> None:
        """Ends what still runs."""
        for task in (self._pump, self._ticking):
            if task is not None:
                task.cancel()
        self._pump = None
        self._remote.clear()

    async def trim(self) -> None:
        """Forgets what is too old, and ends writing down where nobody has listened for long."""
        now = self._services.clock()
        await self._services.state.trim_events(now, now - KEEPS)

    async def missed(self, after: int, listener: Listener) -> list[Told] | None:
        """What has happened for a listener behind a number, until now; it gets the rest by itself.

        Args:
            after: The last that was heard.
            listener: Whose `since` is set.

        Returns:
            None where that cannot be known any more.
        """
        first, last = await self._services.state.events_span()
        if not first <= after <= last:
            return None
        found: list[Told] = []
        while after < last:
            page = await self._services.state.events_after(after, _PAGE)
            wanted = [
                each
                for each in page
                if each.number <= last
                and {*listener.topics} & {*_topics_of(each.upload_id, each.principal)}
            ]
            found += await self._look_up(wanted)
            after = page[-1].number if page else last
        listener.since = last
        return found

    async def _keep_open(self) -> None:
        now = self._services.clock()
        if self._open_until < now + KEEPS / 2:
            await self._services.state.open_events(now + KEEPS)
            self._open_until = now + KEEPS

    async def _tell_what_happens(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            try:
                await self._keep_open()
                while await self._tell_a_page():
                    pass
            except Exception:  # the root of a task
                logger.exception("what happened could not be told; it is tried again")
            await asyncio.sleep(_GATHER_FOR)

    async def _tell_a_page(self) -> bool:
        """Whether there may be more."""
        page = await self._services.state.events_after(self._last, _PAGE)
        wanted = [each for each in page if self._heard_by(each.upload_id, each.principal)]
        for told, each in zip(await self._look_up(wanted), wanted, strict=True):
            for listener in self._heard_by(each.upload_id, each.principal):
                listener.tell(told)
        if page:
            self._last = page[-1].number
        return len(page) == _PAGE

    async def _look_up(self, happened: list[Happened]) -> list[Told]:
        ids = [each.upload_id for each in happened]
        uploads = await self._services.state.load_many(ids) if ids else {}
        return [
            Told(each.kind, each.number, each.upload_id, each.at, uploads.get(each.upload_id))
            for each in happened
        ]

    def _heard_by(self, upload_id: str, principal: str | None) -> list[Listener]:
        topics = _topics_of(upload_id, principal)
        return [each for topic in topics for each in self._listeners.get(topic, ())]

    # What other processes are told, and tell

    def _say(self, word: str, text: str) -> None:
        for peer in self._services.talk.all():
            peer.tell(word, text)

    def _met(self, peer: Peer) -> None:
        for topic in self._listeners:
            peer.tell(_WATCH, topic)

    def _left(self, peer: Peer) -> None:
        self._remote.pop(peer, None)

    def _watched_by(self, peer: Peer, topic: str) -> None:
        self._remote.setdefault(peer, set()).add(topic)
        self._start_ticking()

    def _unwatched_by(self, peer: Peer, topic: str) -> None:
        topics = self._remote.get(peer, set())
        topics.discard(topic)
        if not topics:
            self._remote.pop(peer, None)

    def _heard_progress(self, peer: Peer, text: str) -> None:
        for each in json.loads(text):
            self._tell_progress(Moving(*each))

    # How far uploads are

    def _start_ticking(self) -> None:
        if self._ticking is None:
            self._live_before = frozenset(self._services.live)
            self._services.observers.append(self._observe)
            self._ticking = asyncio.create_task(self._tick_while_watched())

    def _observe(self, event: Observed) -> None:
        if isinstance(event, BytesReceived):
            self._note_end(event)
        elif isinstance(event, UploadCreated | UploadFinished | UploadBuried | RequestEnded):
            self._look.set()
            if self._remote and not self._is_telling:
                self._is_telling = True
                asyncio.get_running_loop().call_later(_GATHER_FOR, self._let_others_look)

    def _let_others_look(self) -> None:
        self._is_telling = False
        for peer in self._remote:
            if not peer.is_full:
                peer.tell(_LOOK)

    def _note_end(self, event: BytesReceived) -> None:
        upload = event.upload
        if not self._is_watched(upload):
            return
        now = time.monotonic()
        track = self._track(upload, now)
        track.ended += event.count
        track.is_live = False
        track.offset, track.length, track.changed_at = (
            upload.upload_offset,
            upload.upload_length,
            now,
        )

    def _track(self, upload: Upload, now: float) -> _Track:
        track = self._tracks.get(upload.id)
        if track is None:
            track = self._tracks[upload.id] = _Track(
                upload.principal, upload.upload_offset, upload.upload_length, now
            )
            # Its bytes came within the last tick, or a speed is told that never was.
            track.samples.append((now - _TICK, 0))
        return track

    def _is_watched(self, upload: Upload) -> bool:
        topics = _topics_of(upload.id, upload.principal)
        if any(topic in self._listeners for topic in topics):
            return True
        return any(topic in watched for watched in self._remote.values() for topic in topics)

    async def _tick_while_watched(self) -> None:
        try:
            while self._listeners or self._remote:
                await asyncio.sleep(_TICK)
                self._tick()
        finally:
            self._ticking = None
            self._tracks.clear()
            self._services.observers.remove(self._observe)

    def _tick(self) -> None:
        now, at = time.monotonic(), self._services.clock()
        live = self._services.live
        for each in live.values():
            if each.upload.id in self._tracks or not self._is_watched(each.upload):
                continue
            track = self._track(each.upload, now)
            if each.upload.id in self._live_before:
                # It was not watched until now, and nobody knows since when its bytes come.
                track.samples[0] = (now, each.body.came)
        self._live_before = frozenset(live)
        moving = []
        for upload_id, track in list(self._tracks.items()):
            total, offset = track.ended, track.offset
            append = live.get(upload_id)
            if append is None and track.is_live and now - track.changed_at < _FORGET_AFTER:
                continue  # it ends just now, and its end is told of in a moment
            track.is_live = append is not None
            if append is not None:
                total += append.body.came
                offset = _offset(append)
                track.length = append.upload.upload_length
            speed = track.speed(now, total)
            if now - track.changed_at > _FORGET_AFTER:
                speed = 0.0
                if append is None:
                    del self._tracks[upload_id]
            if track.told != (offset, speed):
                track.told = (offset, speed)
                moving.append(Moving(upload_id, track.principal, at, offset, track.length, speed))
        for one in moving:
            self._tell_progress(one)
        self._tell_others(moving)

    def _tell_progress(self, moving: Moving) -> None:
        listeners = self._heard_by(moving.upload_id, moving.principal)
        if listeners:
            told = Told("progress", None, moving.upload_id, moving.at, None, moving.text())
            for listener in listeners:
                listener.tell(told)

    def _tell_others(self, moving: list[Moving]) -> None:
        for peer, topics in self._remote.items():
            if peer.is_full:
                continue  # it is stopped; the next will be newer
            wanted = [
                each for each in moving if topics & {*_topics_of(each.upload_id, each.principal)}
            ]
            for start in range(0, len(wanted), _MOST_IN_MESSAGE):
                peer.tell(_PROGRESS, json.dumps(wanted[start : start + _MOST_IN_MESSAGE]))


def _offset(append: Live) -> int:
    """Bytes that have come, but for those that may still be discarded."""
    if not append.follows:
        return append.upload.upload_offset
    come = append.writer.upload.upload_offset + append.body.came
    length = append.upload.upload_length
    return come if length is None else min(come, length)
